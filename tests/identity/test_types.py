"""What asyncio's own functions and types say of native tasks, futures and loops, and the other way round."""

from __future__ import annotations

import asyncio as stdlib
import inspect
import sys

import pytest
from harness import child
from harness.implementation import spin

import ioxide


def test_tasks_and_futures_are_asyncios(aio, loop):
    async def main():
        task, future = aio.create_task(aio.sleep(0)), loop.create_future()
        for t in (stdlib.Task, aio.Task, stdlib.Future, aio.Future):
            assert isinstance(task, t), t
        assert isinstance(future, stdlib.Future) and isinstance(future, aio.Future)
        assert not isinstance(future, stdlib.Task)
        assert stdlib.isfuture(task) and stdlib.isfuture(future) and aio.isfuture(future)
        assert issubclass(aio.Task, stdlib.Task) and issubclass(aio.Future, stdlib.Future)
        await task

    loop.run_until_complete(main())


def test_exceptions_and_constants_are_asyncios_own(aio):
    for name in (
        "CancelledError",
        "InvalidStateError",
        "TimeoutError",
        "IncompleteReadError",
        "LimitOverrunError",
        "QueueEmpty",
        "QueueFull",
        "BrokenBarrierError",
        "SendfileNotAvailableError",
        "AbstractEventLoop",
        "AbstractServer",
        "BaseTransport",
        "Transport",
        "Protocol",
        "BufferedProtocol",
        "FIRST_COMPLETED",
        "FIRST_EXCEPTION",
        "ALL_COMPLETED",
    ):
        assert getattr(aio, name) is getattr(stdlib, name), name


def test_every_public_name_of_asyncio_is_there(aio):
    missing = [name for name in stdlib.__all__ if not hasattr(aio, name)]
    assert missing == []


@pytest.mark.parametrize("who", ["asyncio", "the module"])
def test_current_task_and_all_tasks(aio, loop, who):
    module = stdlib if who == "asyncio" else aio

    async def child_task():
        return module.current_task()

    async def main():
        me = module.current_task()
        assert isinstance(me, aio.Task) and me.get_name()
        task = aio.create_task(child_task())
        assert module.all_tasks() == {me, task}
        assert module.all_tasks(loop) == {me, task}
        assert await task is task
        assert module.current_task() is me
        assert module.all_tasks() == {me}
        loop.call_soon(lambda: seen.append(module.current_task()))
        await spin(aio)

    seen = []
    loop.run_until_complete(main())
    assert seen == [None]
    assert module.all_tasks(loop) == set()
    assert module.current_task(loop) is None


def test_current_task_inside_nested_steps(aio, loop):
    """A loop within a callback of a loop, as nesting libraries do it with _enter_task and _leave_task."""
    log = []

    async def inner():
        log.append(stdlib.current_task() is not None and stdlib.current_task().get_name())

    async def main():
        me = stdlib.current_task()
        other = aio.new_event_loop()
        stdlib.tasks._leave_task(loop, me)
        stdlib._set_running_loop(None)
        try:
            assert stdlib.current_task(loop) is None
            other.run_until_complete(inner())
        finally:
            stdlib._set_running_loop(loop)
            stdlib.tasks._enter_task(loop, me)
            other.close()
        assert stdlib.current_task() is me
        await aio.sleep(0)
        assert stdlib.current_task() is me

    loop.run_until_complete(main())
    assert len(log) == 1 and log[0].startswith("Task-")


def test_leaving_a_task_and_not_entering_again_is_survived(aio):
    out = child.check(
        aio,
        """
        async def main():
            me = stdlib.current_task()
            stdlib.tasks._leave_task(aio.get_running_loop(), me)
            assert stdlib.current_task() is None
            stdlib.tasks._enter_task(aio.get_running_loop(), me)
            assert stdlib.current_task() is me
            other = aio.create_task(aio.sleep(0))
            stdlib.tasks._leave_task(aio.get_running_loop(), me)
            stdlib.tasks._enter_task(aio.get_running_loop(), other)
            assert stdlib.current_task() is other
            stdlib.tasks._leave_task(aio.get_running_loop(), other)
            stdlib.tasks._enter_task(aio.get_running_loop(), me)
            await other
            return "survived"
        print(aio.run(main()))
    """,
    )
    assert out == "survived\n"


def test_all_tasks_from_another_thread(aio, loop):
    import threading

    results = []

    async def main():
        task = aio.create_task(aio.sleep(5))
        await aio.sleep(0)

        def look():
            results.append((len(stdlib.all_tasks(loop)), stdlib.current_task(loop) is not None))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        task.cancel()

    loop.run_until_complete(main())
    assert results == [(2, True)]


def test_a_wakeup_on_its_way_is_seen_from_outside_as_a_done_future(aio, loop):
    async def main():
        event = aio.Event()
        woken, cancelled = aio.create_task(event.wait()), aio.create_task(aio.sleep(1000))
        await aio.sleep(0)
        for task in (woken, cancelled):
            assert not task._fut_waiter.done() and not task._fut_waiter.cancelled()
        event.set()
        cancelled.cancel("enough")
        for task in (woken, cancelled):
            assert isinstance(task._fut_waiter, stdlib.Future) and task._fut_waiter.done()
        assert not woken._fut_waiter.cancelled() and cancelled._fut_waiter.cancelled()
        assert await woken is True
        with pytest.raises(aio.CancelledError, match="enough"):
            await cancelled
        assert woken._fut_waiter is None and cancelled._fut_waiter is None

    loop.run_until_complete(main())


def test_private_attributes_that_libraries_read(aio, loop):
    async def main():
        task = aio.current_task()
        assert task._loop is loop
        assert task._coro is task.get_coro() and task.get_coro().__name__ == "main"
        assert task._state == "PENDING" and task._fut_waiter is None
        assert any(
            getattr(cb, "__module__", "") == "asyncio.base_events"
            and cb.__name__ == "_run_until_complete_cb"
            for cb, _context in task._callbacks
        )
        future = loop.create_future()
        assert future._asyncio_future_blocking is False
        assert future._callbacks is None or future._callbacks == []
        other = aio.create_task(waits(future))
        await aio.sleep(0)
        assert other._fut_waiter is future and len(future._callbacks) == 1
        future.set_result(1)
        assert future._state == "FINISHED" and future._result == 1 and future._exception is None
        await other

    async def waits(future):
        await future

    loop.run_until_complete(main())


def test_repr_says_what_asyncios_says(aio, loop):
    import re

    def plain(text):
        return re.sub(r"0x[0-9a-f]+|Task-\d+|line \d+|:\d+", "", text)

    async def the_coroutine():
        await loop.create_future()

    async def main():
        future = loop.create_future()
        seen = [repr(future)]
        future.add_done_callback(print)
        seen.append(repr(future))
        future.set_result("x" * 10)
        seen.append(repr(future))
        task = aio.create_task(the_coroutine(), name="named")
        seen.append(repr(task))
        await aio.sleep(0)
        seen.append(repr(task))
        task.cancel()
        seen.append(repr(task))
        await aio.wait([task])
        seen.append(repr(task))
        return [plain(s) for s in seen]

    got = loop.run_until_complete(main())
    assert got[0] == "<Future pending>"
    assert (
        got[1] == "<Future pending cb=[<built-in function print>()]>"
        or got[1] == "<Future pending cb=[print()]>"
    )
    assert got[2] == "<Future finished result='xxxxxxxxxx'>"
    assert (
        got[3].startswith("<Task pending name='named' coro=<")
        and "the_coroutine() running at" in got[3]
    )
    assert (
        "wait_for=<Future pending cb=[" in got[4]
        and "task_wakeup" in got[4].replace("Task.", "task_").lower()
    )
    assert (
        got[5].startswith("<Task cancelling name='named'") if sys.version_info >= (3, 11) else True
    )
    assert got[6].startswith("<Task cancelled name='named' coro=<")


def test_attributes_weak_references_and_hashes(aio, loop):
    import weakref

    async def main():
        task, future = aio.create_task(aio.sleep(0)), loop.create_future()
        for thing in (task, future):
            thing.attribute = 1
            assert thing.attribute == 1 and weakref.ref(thing)() is thing
            assert {thing: 1}[thing] == 1 and thing == thing and thing != object()
        await task

    loop.run_until_complete(main())


def test_python_subclasses_with_slots_del_and_overrides(aio, loop):
    log = []

    class Slotted(aio.Task):
        __slots__ = ("extra",)

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = "extra"

        def __del__(self):
            log.append(("del", self.extra, self.done()))

        def cancel(self, *args, **kwargs):
            log.append("cancel")
            return super().cancel(*args, **kwargs)

        def set_name(self, value):
            super().set_name(f"<{value}>")

    class Mine(aio.Future):
        def result(self):
            log.append("result")
            return super().result()

    async def main():
        task = Slotted(aio.sleep(10), loop=loop)
        task.set_name("name")
        assert task.get_name() == "<name>"
        await aio.sleep(0)
        task.cancel()
        await aio.wait([task])
        del task
        future = Mine(loop=loop)
        loop.call_soon(future.set_result, "value")
        assert await future == "value"

    loop.run_until_complete(main())
    assert log == ["cancel", ("del", "extra", True), "result"]


def test_subclass_of_both_kinds_by_multiple_inheritance(aio, loop):
    class Mixin:
        def hello(self):
            return "hello"

    class Both(Mixin, aio.Task):
        pass

    async def main():
        task = Both(aio.sleep(0, 1), loop=loop)
        assert task.hello() == "hello" and await task == 1

    loop.run_until_complete(main())


def test_resurrected_task_is_still_usable(aio, loop):
    saved = []

    class Phoenix(aio.Task):
        def __del__(self):
            saved.append(self)

    async def body():
        return 7

    async def main():
        await Phoenix(body(), loop=loop)

    loop.run_until_complete(main())
    assert saved[0].result() == 7 and saved[0].done()
    saved.clear()


def test_generic_alias_and_signature(aio):
    assert str(aio.Future[int]).endswith("Future[int]")
    assert str(aio.Task[int]).endswith("Task[int]")
    assert next(iter(inspect.signature(aio.create_task).parameters)) == "coro"


# The eager factory is an object here: that is how a loop knows it.
FUNCTIONS = [
    name
    for name in stdlib.__all__
    if inspect.isroutine(getattr(stdlib, name)) and name != "eager_task_factory"
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_what_asyncios_take(aio, name):
    ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (aio, stdlib))
    open_ended = any(p.kind is p.VAR_KEYWORD for p in ours.values())
    for parameter in theirs.values():
        if parameter.name in ours:
            mine = ours[parameter.name]
            assert (mine.kind, mine.default) == (parameter.kind, parameter.default), parameter
        else:
            assert open_ended and parameter.kind in (
                parameter.KEYWORD_ONLY,
                parameter.VAR_KEYWORD,
            ), parameter
    required = [p for p in ours.values() if p.default is p.empty and p.name not in theirs]
    assert all(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in required), required


@pytest.mark.parametrize("installed", [False, True])
def test_identity_holds_with_and_without_install(installed):
    from harness.implementation import load

    ioxide = load("ioxide")
    out = child.check(
        ioxide,
        f"""
        import inspect
        original = stdlib.Task, stdlib.Future, stdlib.new_event_loop
        if {installed}:
            aio.install()
            assert stdlib.Task is aio.Task and stdlib.Future is aio.Future
        async def main():
            task = stdlib.create_task(stdlib.sleep(0.001, "slept"))
            assert type(task) is aio.Task and isinstance(task, original[0])
            assert isinstance(task, stdlib.Task) and isinstance(task, stdlib.Future)
            assert stdlib.current_task() in stdlib.all_tasks()
            async with stdlib.timeout(50):
                async with stdlib.TaskGroup() as group:
                    group.create_task(stdlib.sleep(0))
            return await task
        print(stdlib.run(main()) if {installed} else aio.run(main()))
        if {installed}:
            aio.uninstall()
            assert (stdlib.Task, stdlib.Future, stdlib.new_event_loop) == original
            loop = stdlib.new_event_loop()
            assert not isinstance(loop, aio.EventLoop)
            loop.close()
    """,
    )
    assert out == "slept\n"


def test_transports_are_of_asyncios_abstract_classes(loop):
    from asyncio import transports

    def derives(name, *classes):
        native = getattr(ioxide._ioxide, name)
        assert all(issubclass(native, getattr(transports, c)) for c in classes), native.__mro__

    derives("SocketTransport", "Transport", "ReadTransport", "WriteTransport")
    derives("DatagramTransport", "DatagramTransport")
    derives("ReadPipeTransport", "ReadTransport")
    # Of both kinds, as asyncio's is: what it cannot do raises NotImplementedError.
    derives("WritePipeTransport", "Transport", "WriteTransport")
    with pytest.raises(NotImplementedError):
        ioxide._ioxide.WritePipeTransport.pause_reading(None)


def test_initialiser_that_a_program_puts_into_a_class_is_called(monkeypatch):
    calls = []
    loop = ioxide.new_event_loop()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                ioxide.Future, "__init__", lambda this, *args, **options: calls.append(options)
            )
            assert type(ioxide.Future(loop=loop)) is ioxide.Future
            assert calls == [{"loop": loop}]
        assert ioxide.Future(loop=loop).get_loop() is loop and len(calls) == 1
    finally:
        loop.close()
