"""Making, running, nesting and closing loops."""

from __future__ import annotations

import asyncio as stdlib
import contextlib
import threading

import pytest

import ioxide


def test_loop_is_an_abstract_event_loop(aio, loop):
    assert isinstance(loop, stdlib.AbstractEventLoop)
    assert not loop.is_running() and not loop.is_closed()


def test_run_until_complete_returns_the_result(aio, loop):
    assert loop.run_until_complete(aio.sleep(0, "done")) == "done"


def test_run_until_complete_takes_a_future_or_any_awaitable(aio, loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1

    class Awaitable:
        def __await__(self):
            yield from aio.sleep(0).__await__()
            return 2

    assert loop.run_until_complete(Awaitable()) == 2


def test_run_until_complete_stopped_early_says_so(aio, loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)


@pytest.mark.since(3, 14)  # 3.13's clean-up after the refusal breaks the loop that is running
def test_running_loop_cannot_be_run_again_nor_closed(aio, loop):
    async def main():
        assert loop.is_running()
        for call in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
                call()
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())


def test_another_loop_cannot_run_inside_a_running_one(aio, loop):
    other = aio.new_event_loop()

    async def main():
        with pytest.raises(
            RuntimeError, match=r"^Cannot run the event loop while another loop is running$"
        ):
            other.run_forever()

    loop.run_until_complete(main())
    other.close()


def test_asyncio_sees_the_running_loop(aio, loop):
    seen = []

    def look():
        seen.append(stdlib.get_running_loop())
        seen.append(aio.get_running_loop())
        loop.stop()

    loop.call_soon(look)
    loop.run_forever()
    assert seen == [loop, loop]
    assert stdlib._get_running_loop() is None
    with pytest.raises(RuntimeError, match=r"^no running event loop$"):
        aio.get_running_loop()


def test_close_twice_is_harmless_and_everything_after_is_refused(aio):
    loop = aio.new_event_loop()
    loop.close()
    loop.close()
    assert loop.is_closed()
    coroutine = aio.sleep(0)
    for call in (
        loop.run_forever,
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.create_task(coroutine),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.run_until_complete(coroutine),
    ):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            call()
    coroutine.close()


def test_close_drops_what_was_ready_and_what_was_timed(aio):
    import weakref

    class Argument:
        pass

    loop = aio.new_event_loop()
    soon, later = Argument(), Argument()
    dead = [weakref.ref(soon), weakref.ref(later)]
    loop.call_soon(lambda _: pytest.fail("it ran"), soon)
    loop.call_later(0, lambda _: pytest.fail("it ran"), later)
    del soon, later
    loop.close()
    del loop
    import gc

    gc.collect()
    assert [d() for d in dead] == [None, None]


def test_loop_dropped_open_warns(aio):
    import gc

    loop = aio.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_loops_of_many_threads_do_not_mix(aio):
    results = {}

    def work(number):
        async def main():
            log = []
            for i in range(20):
                await aio.sleep(0.0005)
                assert aio.get_running_loop() is mine
                log.append((number, i))
            return log

        mine = aio.new_event_loop()
        try:
            results[number] = mine.run_until_complete(main())
        finally:
            mine.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {n: [(n, i) for i in range(20)] for n in range(6)}


def test_loop_made_in_one_thread_runs_in_another(aio):
    loop = aio.new_event_loop()
    results = []

    def work(value):
        async def main():
            task = loop.create_task(aio.sleep(0.001, value))
            assert aio.current_task() is not None
            assert task in aio.all_tasks()
            return await task

        results.append(loop.run_until_complete(main()))

    for i in range(3):
        thread = threading.Thread(target=work, args=(i,))
        thread.start()
        thread.join()
    work("here")
    loop.close()
    assert results == [0, 1, 2, "here"]


def test_run_coroutine_threadsafe_gives_result_exception_and_cancellation(aio, loop):
    import concurrent.futures

    outcome = {}

    async def fail():
        raise ValueError("inside")

    async def forever(cancelled):
        try:
            await loop.create_future()
        except aio.CancelledError:
            cancelled.set()
            raise

    def other_thread():
        outcome["result"] = aio.run_coroutine_threadsafe(aio.sleep(0, "value"), loop).result(50)
        outcome["exception"] = repr(aio.run_coroutine_threadsafe(fail(), loop).exception(50))
        cancelled = threading.Event()
        future = aio.run_coroutine_threadsafe(forever(cancelled), loop)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
        future.cancel()
        outcome["cancelled"] = cancelled.wait(50)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other_thread)
    thread.start()
    loop.run_forever()
    thread.join()
    assert outcome == {"result": "value", "exception": "ValueError('inside')", "cancelled": True}


def test_runner_keeps_one_loop_and_one_context(aio):
    import contextvars

    variable = contextvars.ContextVar("variable")

    async def put():
        variable.set("kept")
        return aio.get_running_loop()

    async def get():
        return variable.get(), aio.get_running_loop()

    with aio.Runner() as runner:
        first = runner.run(put())
        assert runner.run(get()) == ("kept", first)
        assert runner.get_loop() is first
    assert first.is_closed()


def test_run_cancels_what_is_left_and_closes_async_generators(aio):
    log = []

    async def left():
        try:
            await aio.sleep(3600)
        except aio.CancelledError:
            log.append("cancelled")
            await aio.sleep(0)
            log.append("cleaned")
            raise

    async def generator():
        try:
            yield 1
        finally:
            await aio.sleep(0)
            log.append("generator closed")

    kept = []

    async def main():
        kept.append(aio.create_task(left()))
        g = generator()
        kept.append(g)
        await g.__anext__()
        await aio.sleep(0)

    aio.run(main())
    assert log == ["cancelled", "cleaned", "generator closed"]
    assert kept[0].cancelled()


def test_run_with_a_loop_factory(aio):
    made = []

    def factory():
        made.append(aio.new_event_loop())
        return made[-1]

    async def main():
        return aio.get_running_loop()

    with aio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) is made[0]
    assert len(made) == 1 and made[0].is_closed()


def test_current_loop_can_be_set_and_got(aio):
    loop = aio.new_event_loop()
    aio.set_event_loop(loop)
    try:
        assert aio.get_event_loop() is loop
        assert stdlib.get_event_loop() is loop
    finally:
        aio.set_event_loop(None)
        loop.close()


def test_attributes_can_be_set_on_a_loop(loop):
    loop.my_attribute = 1
    original = loop.call_soon
    calls = []

    def wrapped(callback, *args, context=None):
        calls.append(callback)
        return original(callback, *args, context=context)

    loop.call_soon = wrapped
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.my_attribute == 1 and calls == [loop.stop]


@pytest.mark.parametrize("named", ["by argument", "by environment"])
@pytest.mark.parametrize("name", ["epoll", "io_uring"])
def test_a_known_backend_may_be_asked_for_and_the_one_in_use_is_told(monkeypatch, name, named):
    if named == "by environment":
        monkeypatch.setenv("IOXIDE_BACKEND", name)
        made = ioxide.new_event_loop()
    else:
        monkeypatch.setenv("IOXIDE_BACKEND", "overruled")
        made = ioxide.new_event_loop(backend=name)
    with contextlib.closing(made):
        assert made.backend == "epoll"


def test_an_unknown_backend_is_refused(monkeypatch):
    with pytest.raises(
        ValueError, match=r"^backend must be 'epoll' or 'io_uring', not \"kqueue\"$"
    ):
        ioxide.new_event_loop(backend="kqueue")
    monkeypatch.setenv("IOXIDE_BACKEND", "uring")
    with pytest.raises(ValueError, match=r"^IOXIDE_BACKEND must be 'epoll' or 'io_uring'"):
        ioxide.new_event_loop()
    monkeypatch.setenv("IOXIDE_BACKEND", "")
    ioxide.new_event_loop().close()
