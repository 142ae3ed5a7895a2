"""Native and foreign parts together: asyncio's tasks on our loop, our tasks on asyncio's loop, each awaiting the other.

Every test is run for each pairing of a loop and the class of the task.
"""

from __future__ import annotations

import asyncio as stdlib

import pytest
from harness.implementation import Reports, load, spin

PAIRS = [("asyncio", "asyncio"), ("ioxide", "asyncio"), ("asyncio", "ioxide"), ("ioxide", "ioxide")]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[1]} on {pair[0]}'s loop")
def mixed(request):
    """A loop of one implementation and the module of the other."""
    loop_of, names_of = request.param
    names = load(names_of)
    loop = stdlib.SelectorEventLoop() if loop_of == "asyncio" else load(loop_of).new_event_loop()
    stdlib.set_event_loop(loop)
    yield loop, names
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    stdlib.set_event_loop(None)


async def add(a, b):
    await stdlib.sleep(0)
    return a + b


def test_task_runs(mixed):
    loop, names = mixed

    async def main():
        task = names.Task(add(1, 2), loop=loop, name="named")
        assert task in stdlib.all_tasks() and task.get_loop() is loop
        assert await task == 3

    loop.run_until_complete(main())


@pytest.mark.parametrize("inner", ["asyncio", "ioxide"])
def test_each_kind_of_task_awaits_each_kind(mixed, inner):
    loop, names = mixed
    other = load(inner)

    async def outer():
        assert stdlib.current_task().get_name() == "outer"
        assert await other.Task(add(1, 2), loop=loop) == 3
        future = other.Future(loop=loop)
        loop.call_soon(future.set_result, "from a future")
        assert await future == "from a future"
        failing = other.Future(loop=loop)
        loop.call_later(0.001, failing.set_exception, ValueError("through"))
        with pytest.raises(ValueError, match="through"):
            await failing
        assert stdlib.current_task().get_name() == "outer"
        return "done"

    async def main():
        return await names.Task(outer(), loop=loop, name="outer")

    assert loop.run_until_complete(main()) == "done"


@pytest.mark.parametrize("inner", ["asyncio", "ioxide"])
def test_cancellation_goes_through(mixed, inner):
    loop, names = mixed
    other = load(inner)
    log = []

    async def innermost():
        try:
            await other.sleep(100)
        except stdlib.CancelledError as error:
            log.append(error.args)
            raise

    async def outer():
        await other.Task(innermost(), loop=loop)

    async def main():
        task = names.Task(outer(), loop=loop)
        await spin(stdlib)
        assert task.cancel("message")
        with pytest.raises(stdlib.CancelledError):
            await task
        assert task.cancelled() and task.cancelling() == 1

    loop.run_until_complete(main())
    assert log == [("message",)]


@pytest.mark.parametrize("tools", ["asyncio", "ioxide"])
def test_everything_that_waits(mixed, tools):
    loop, names = mixed
    tools = load(tools)

    def task(coroutine):
        return names.Task(coroutine, loop=loop)

    async def main():
        assert await tools.gather(task(add(1, 1)), add(2, 2), names.ensure_future(add(3, 3))) == [
            2,
            4,
            6,
        ]
        done, pending = await tools.wait({task(add(1, 1)), task(add(5, 5))})
        assert sorted(t.result() for t in done) == [2, 10] and not pending
        assert await tools.wait_for(task(add(1, 1)), 5) == 2
        with pytest.raises(TimeoutError):
            await tools.wait_for(task(tools.sleep(100)), 0.001)
        assert await tools.shield(task(add(1, 1))) == 2
        assert sorted([await t for t in tools.as_completed([task(add(1, 1)), add(2, 2)])]) == [2, 4]
        with pytest.raises(TimeoutError):
            async with tools.timeout(0.001):
                await names.sleep(100)
        async with tools.TaskGroup() as group:
            made = [group.create_task(add(i, i)) for i in range(3)]
        assert [t.result() for t in made] == [0, 2, 4]
        queue, lock, event = tools.Queue(1), tools.Lock(), tools.Event()

        async def produce():
            for i in range(5):
                await queue.put(i)
            async with lock:
                event.set()

        producer = task(produce())
        assert [await queue.get() for _ in range(5)] == list(range(5))
        await event.wait()
        await producer

    loop.run_until_complete(names.Task(main(), loop=loop))


def test_failing_group_cancels_the_other_kind(mixed):
    loop, names = mixed

    async def fail():
        raise ValueError("first")

    async def main():
        with pytest.raises(ExceptionGroup):
            async with stdlib.TaskGroup() as group:
                waiting = group.create_task(names.sleep(100))
                group.create_task(fail())
        assert waiting.cancelled()

    loop.run_until_complete(names.Task(main(), loop=loop))


def test_wrap_future_and_threads(mixed):
    import concurrent.futures

    loop, names = mixed

    async def main():
        future = concurrent.futures.Future()
        wrapped = names.wrap_future(future, loop=loop)
        loop.call_soon(future.set_result, 5)
        assert await wrapped == 5
        assert await names.to_thread(int, "3") == 3
        chained = names.wrap_future(concurrent.futures.Future(), loop=loop)
        chained.cancel()
        with pytest.raises(stdlib.CancelledError):
            await chained

    loop.run_until_complete(main())


def test_foreign_awaitable_that_follows_the_protocol(mixed):
    loop, names = mixed

    class Minimal:
        """A future of somebody else, with the least that asyncio asks for."""

        _asyncio_future_blocking = False

        def __init__(self):
            self.callbacks = []
            self.value = None

        def get_loop(self):
            return loop

        def add_done_callback(self, callback, *, context=None):
            self.callbacks.append((callback, context))

        def done(self):
            return self.value is not None

        def result(self):
            return self.value

        def cancel(self, msg=None):
            return False

        def settle(self, value):
            self.value = value
            for callback, context in self.callbacks:
                loop.call_soon(callback, self, context=context)

        def __await__(self):
            if not self.done():
                self._asyncio_future_blocking = True
                yield self
            return self.value

    async def main():
        future = Minimal()
        loop.call_later(0.001, future.settle, "settled")
        assert await names.Task(wait(future), loop=loop) == "settled"

    async def wait(future):
        return await future

    loop.run_until_complete(main())


def test_task_that_is_never_awaited_and_fails_is_reported_once(mixed):
    loop, names = mixed
    reports = Reports(loop)

    async def fail():
        raise ValueError

    async def main():
        names.Task(fail(), loop=loop)
        await spin(stdlib)

    loop.run_until_complete(main())
    assert reports.messages() == ["Task exception was never retrieved"]


@pytest.mark.skipif("sys.version_info < (3, 12)", reason="eager tasks came with 3.12")
def test_eager_tasks_of_each_kind(mixed):
    loop, names = mixed

    async def quick():
        return stdlib.current_task()

    async def main():
        me = stdlib.current_task()
        task = names.Task(quick(), loop=loop, eager_start=True)
        assert task.done() and task.result() is task
        assert stdlib.current_task() is me
        waiting = names.Task(add(1, 2), loop=loop, eager_start=True)
        assert not waiting.done() and await waiting == 3
        assert stdlib.current_task() is me

    loop.run_until_complete(main())


def test_anothers_task_factory(mixed):
    loop, names = mixed

    async def main():
        loop.set_task_factory(lambda loop, coro, **kwargs: names.Task(coro, loop=loop, **kwargs))
        try:
            async with stdlib.TaskGroup() as group:
                made = group.create_task(add(1, 1))
            assert type(made) is names.Task and made.result() == 2
            assert await stdlib.gather(add(1, 2), add(3, 4)) == [3, 7]
        finally:
            loop.set_task_factory(None)

    loop.run_until_complete(main())


def test_many_of_both_kinds_switching(mixed):
    loop, names = mixed
    order = []

    async def player(number):
        for i in range(20):
            order.append((i, number))
            await (names if number % 2 else stdlib).sleep(0)

    async def main():
        kinds = [stdlib.Task, names.Task]
        await stdlib.gather(*(kinds[n % 2](player(n), loop=loop) for n in range(10)))

    loop.run_until_complete(main())
    assert order == [(i, n) for i in range(20) for n in range(10)]
