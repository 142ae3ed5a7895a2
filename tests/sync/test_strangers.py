"""Locks and queues keep their word when Python code reaches into them."""

from __future__ import annotations

import asyncio
import collections
import gc
import heapq
import warnings
import weakref
from typing import Any

import pytest

import ioxide


class Thing:
    """Something that can be weakly referenced."""


def run(coroutine: Any) -> Any:
    return ioxide.run(coroutine)


async def turns(count: int) -> None:
    for _ in range(count):
        await ioxide.sleep(0)


# -- the store of a queue ------------------------------------------------------------------------------


def test_store_of_a_plain_queue_is_a_deque_that_takes_effect() -> None:
    queue = ioxide.Queue()
    for item in range(3):
        queue.put_nowait(item)
    store = queue._queue
    assert type(store) is collections.deque and list(store) == [0, 1, 2]
    store.appendleft("first")
    store.remove(1)
    assert queue._queue is store
    assert [queue.get_nowait() for _ in range(queue.qsize())] == ["first", 0, 2]
    assert queue.empty() and not store


def test_store_that_is_replaced_is_used_from_then_on() -> None:
    queue = ioxide.Queue()
    queue._queue = collections.deque("ab")
    assert queue.qsize() == 2 and queue.get_nowait() == "a"


def test_priority_queue_orders_as_heapq_does() -> None:
    queue, model = ioxide.PriorityQueue(), []
    for item in [5, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]:
        queue.put_nowait(item)
        heapq.heappush(model, item)
        assert queue._queue == model
    taken = [queue.get_nowait() for _ in range(queue.qsize())]
    assert taken == [heapq.heappop(model) for _ in range(len(model))]


def test_priority_queue_passes_on_what_a_comparison_raises() -> None:
    queue = ioxide.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError):
        queue.put_nowait("one")


@pytest.mark.parametrize(
    ("maxsize", "room"), [(1.3, 2), (2, 2), (True, 1), (10**30, 5), (float("inf"), 5), (-1, 5)]
)
def test_queue_is_full_when_there_are_as_many_items_as_its_size(maxsize: Any, room: int) -> None:
    queue = ioxide.Queue(maxsize)
    assert queue.maxsize == maxsize
    for item in range(room):
        assert not queue.full()
        queue.put_nowait(item)
    assert queue.full() == (room < 5)


# -- what subclasses override --------------------------------------------------------------------------


def test_queue_calls_the_methods_that_a_subclass_overrides() -> None:
    calls: list[str] = []

    class Noting(ioxide.Queue):
        def _init(self, maxsize: Any) -> None:
            calls.append("init")
            self._queue = []

        def _put(self, item: Any) -> None:
            calls.append("put")
            self._queue.append(item)

        def _get(self) -> Any:
            calls.append("get")
            return self._queue.pop()

        def qsize(self) -> int:
            calls.append("qsize")
            return len(self._queue)

    async def main() -> list[Any]:
        queue = Noting(2)
        await queue.put(1)
        await queue.put(2)
        return [await queue.get(), await queue.get()]

    assert run(main()) == [2, 1]
    assert calls == ["init", "qsize", "qsize", "put", "qsize", "qsize", "put", "get", "get"]


def test_queue_calls_the_methods_that_an_instance_has() -> None:
    async def main() -> Any:
        queue = ioxide.Queue()
        queue.get_nowait = lambda: "mine"
        queue.put_nowait(1)
        return await queue.get()

    assert run(main()) == "mine"


def test_lock_enters_and_leaves_by_the_methods_of_a_subclass() -> None:
    calls: list[str] = []

    class Noting(ioxide.Lock):
        async def acquire(self) -> Any:
            calls.append("acquire")
            return await super().acquire()

        def release(self) -> None:
            calls.append("release")
            super().release()

    async def hold(lock: Any) -> None:
        async with lock as nothing:
            assert nothing is None
            await ioxide.sleep(0)

    async def main() -> None:
        lock = Noting()
        await ioxide.gather(hold(lock), hold(lock))
        condition = ioxide.Condition(Noting())
        async with condition:
            with pytest.raises(asyncio.TimeoutError):
                await ioxide.wait_for(condition.wait(), 0.001)
            assert condition.locked()

    run(main())
    assert calls == ["acquire", "acquire", "release", "release"] + ["acquire", "release"] * 2


def test_condition_works_with_a_lock_of_the_standard_library() -> None:
    log: list[str] = []

    async def wait(condition: Any) -> None:
        async with condition:
            log.append("waits")
            assert await condition.wait() is True
            log.append("woken")

    async def main() -> None:
        condition = ioxide.Condition(asyncio.Lock())
        task = ioxide.create_task(wait(condition))
        cancelled = ioxide.create_task(wait(condition))
        await turns(2)
        cancelled.cancel()
        async with condition:
            condition.notify()
            await turns(2)
            log.append("lets go")
        await task
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not condition.locked() and not condition._waiters

    run(main())
    assert log == ["waits", "waits", "lets go", "woken"]


def test_condition_refuses_what_is_no_lock() -> None:
    with pytest.raises(AttributeError):
        ioxide.Condition(object())


# -- strangers in the wait lists -----------------------------------------------------------------------


def test_futures_in_wait_lists_are_woken_in_their_turn() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(5)]
        event, lock, condition = ioxide.Event(), ioxide.Lock(), ioxide.Condition()
        queue = ioxide.Queue()
        event._waiters.append(futures[0])
        event.set()
        await lock.acquire()
        lock._waiters.append(futures[1])
        lock.release()
        async with condition:
            condition._waiters.append(futures[2])
            condition.notify_all()
        queue._getters.append(futures[3])
        queue.put_nowait(1)
        assert [future.result() for future in futures[:4]] == [True, True, False, None]
        assert len(event._waiters) == len(lock._waiters) == 1 and not queue._getters
        lock._waiters.popleft()
        assert not lock.locked() and await lock.acquire()
        queue._putters.append(futures[4])
        queue._wakeup_next(queue._putters)
        assert futures[4].done()

    run(main())


def test_waiter_that_changes_its_list_does_no_harm() -> None:
    class Meddler:
        def __init__(self, waiters: Any) -> None:
            self.waiters = waiters
            self.result: Any = None

        def done(self) -> bool:
            self.waiters.clear()
            return False

        def cancelled(self) -> bool:
            self.waiters.clear()
            return True

        def set_result(self, result: Any) -> None:
            self.waiters.append(self)
            self.result = result

    async def main() -> None:
        event = ioxide.Event()
        meddler = Meddler(event._waiters)
        event._waiters.append(meddler)
        event.set()
        assert meddler.result is True
        lock = ioxide.Lock()
        lock._waiters.append(Meddler(lock._waiters))
        assert await lock.acquire() and not lock._waiters

    run(main())


def test_waiter_whose_method_raises_is_heard_of() -> None:
    class Broken:
        def done(self) -> bool:
            raise ValueError("done")

        cancelled = done

    lock = ioxide.Lock()
    lock._waiters.append(Broken())
    with pytest.raises(ValueError, match="done"):
        run(lock.acquire())
    event = ioxide.Event()
    event._waiters.append(Broken())
    with pytest.raises(ValueError, match="done"):
        event.set()


def test_wait_list_is_like_a_deque() -> None:
    waiters = ioxide.Event()._waiters
    assert not waiters and len(waiters) == 0 and list(waiters) == []
    first, second = object(), object()
    waiters.append(first)
    waiters.append(second)
    assert waiters[0] is first and waiters[-1] is second and list(waiters) == [first, second]
    assert first in waiters
    waiters.remove(first)
    assert waiters.popleft() is second
    for wrong, error in [(lambda: waiters[0], IndexError), (waiters.popleft, IndexError)]:
        with pytest.raises(error):
            wrong()
    with pytest.raises(ValueError, match="not in deque"):
        waiters.remove(first)


# -- awaitables that are used again --------------------------------------------------------------------


def test_awaitable_is_lazy_and_used_once() -> None:
    async def main() -> None:
        queue, lock = ioxide.Queue(), ioxide.Lock()
        put, acquire = queue.put(1), lock.acquire()
        assert queue.empty() and not lock.locked()
        await put
        assert await acquire is True
        for over in [put, acquire]:
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await over
        assert queue.qsize() == 1
        # What is held on to is never given out again.
        assert queue.put(2) is not put and queue.put(3) is not put

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run(main())


def test_awaitable_that_is_never_awaited_is_told_of_each_time() -> None:
    async def main() -> None:
        queue = ioxide.Queue()
        await queue.put(1)
        for _ in range(3):
            with pytest.warns(RuntimeWarning, match=r"coroutine 'Queue\.put' was never awaited"):
                queue.put(2)
        assert queue.qsize() == 1

    run(main())


def test_nothing_lives_longer_for_having_been_waited_for() -> None:
    async def main() -> None:
        queue = ioxide.Queue()
        thing = Thing()
        alive = [weakref.ref(thing), weakref.ref(queue)]
        await queue.put(thing)
        del thing
        assert isinstance(await queue.get(), Thing)
        assert alive[0]() is None
        lock, semaphore = ioxide.Lock(), ioxide.Semaphore()
        alive += [weakref.ref(lock), weakref.ref(semaphore)]
        assert await lock.acquire() and await semaphore.acquire()
        del queue, lock, semaphore
        assert [reference() for reference in alive] == [None] * 4

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_values_of_any_kind_come_out_as_they_are() -> None:
    async def main() -> None:
        queue = ioxide.Queue()
        values = [None, (), (1, 2), StopIteration(3), ValueError("x"), StopIteration, [1], True]
        for value in values:
            await queue.put(value)
        for value in values:
            assert (await queue.get()) is value

    run(main())


def test_stop_iteration_that_is_caught_can_be_kept() -> None:
    queue = ioxide.Queue()
    caught = []
    for item in range(3):
        queue.put_nowait(item)
        try:
            next(queue.get())
        except StopIteration as stop:
            caught.append(stop)
    assert [stop.value for stop in caught] == [0, 1, 2]
    assert len({id(stop) for stop in caught}) == 3
    assert all(isinstance(repr(stop), str) and stop.args == () for stop in caught)


def test_waiters_that_are_abandoned_are_collected() -> None:
    async def main() -> list[Any]:
        queue, event, lock = ioxide.Queue(), ioxide.Event(), ioxide.Lock()
        condition = ioxide.Condition(lock)
        await lock.acquire()

        async def wait() -> None:
            async with condition:
                await condition.wait()

        tasks = [ioxide.create_task(w) for w in (queue.get(), event.wait(), lock.acquire(), wait())]
        await turns(3)
        for task in tasks:
            task._log_destroy_pending = False
        return [weakref.ref(thing) for thing in [queue, event, lock, condition, *tasks]]

    loop = ioxide.new_event_loop()
    alive = loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert [reference() for reference in alive] == [None] * 8


# -- waiting by hand and under strangers ---------------------------------------------------------------


def test_waiter_that_is_woken_before_its_task_parks_goes_on() -> None:
    class Meanwhile:
        """Drives an awaitable, and does something before the task sees what it waits for."""

        def __init__(self, awaitable: Any, action: Any) -> None:
            self.awaitable, self.action = awaitable, action

        def __await__(self) -> Any:
            step = self.awaitable.__await__()
            try:
                yielded = next(step)
                self.action()
                yield yielded
                next(step)
            except StopIteration as stop:
                return stop.value

    async def main() -> None:
        queue, event = ioxide.Queue(), ioxide.Event()
        assert await Meanwhile(queue.get(), lambda: queue.put_nowait("item")) == "item"
        assert await Meanwhile(event.wait(), event.set) is True
        assert not event._waiters and not queue._getters

    run(asyncio.wait_for(main(), 50))


def test_everything_waits_under_the_standard_loop_too() -> None:
    async def main() -> list[Any]:
        queue, lock, barrier = ioxide.Queue(1), ioxide.Lock(), ioxide.Barrier(2)
        order: list[Any] = []

        async def produce() -> None:
            for item in range(4):
                await queue.put(item)

        async def consume() -> None:
            for _ in range(4):
                async with lock:
                    order.append(await queue.get())
                    queue.task_done()

        await asyncio.gather(produce(), consume())
        await queue.join()
        order += sorted(await asyncio.gather(barrier.wait(), barrier.wait()))
        getter = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        getter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getter
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 0, 1]


def test_primitive_stays_with_the_loop_on_which_it_first_waited() -> None:
    queue = ioxide.Queue()

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await ioxide.wait_for(queue.get(), 0)
        task = ioxide.create_task(queue.get())
        await ioxide.sleep(0)
        task.cancel()

    run(give_up())
    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        run(queue.get())
    queue.put_nowait(1)
    assert run(queue.get()) == 1


def test_closing_a_waiter_takes_it_out_of_the_list() -> None:
    async def main() -> None:
        for awaitable, waiters in [
            ((event := ioxide.Event()).wait(), event._waiters),
            ((queue := ioxide.Queue()).get(), queue._getters),
            ((semaphore := ioxide.Semaphore(0)).acquire(), semaphore._waiters),
        ]:
            awaitable.send(None)
            assert len(waiters) == 1
            awaitable.close()
            assert len(waiters) == 0

    run(main())


def test_wrong_arguments_are_refused() -> None:
    for make in [
        lambda: ioxide.Semaphore(-1),
        lambda: ioxide.BoundedSemaphore(-1),
        lambda: ioxide.Barrier(0),
    ]:
        with pytest.raises(ValueError):
            make()
    for make in [
        lambda: ioxide.Lock(1),
        lambda: ioxide.Event(loop=None),
        lambda: ioxide.Barrier(),
        lambda: ioxide.Semaphore("x"),
        lambda: ioxide.Queue("x"),
        lambda: ioxide.Queue(1, 2),
    ]:
        with pytest.raises(TypeError):
            make()
    with pytest.raises(RuntimeError, match=r"Lock is not acquired\."):
        ioxide.Lock().release()
    with pytest.raises(ValueError, match="released too many times"):
        ioxide.BoundedSemaphore().release()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        ioxide.Queue().task_done()


@pytest.mark.parametrize(
    ("name", "method", "arguments"),
    [
        ("Lock", "acquire", ()),
        ("Event", "wait", ()),
        ("Condition", "acquire", ()),
        ("Condition", "wait", ()),
        ("Semaphore", "acquire", ()),
        ("Barrier", "wait", ()),
        ("Queue", "put", (1,)),
        ("LifoQueue", "put", (1,)),
        ("PriorityQueue", "put", (1,)),
    ],
)
def test_object_whose_init_never_ran_does_no_harm(name: str, method: str, arguments: Any) -> None:
    """What works on it and what it refuses with an ordinary exception may differ by class."""

    async def main() -> None:
        bare = getattr(ioxide, name).__new__(getattr(ioxide, name))
        for use in [repr, lambda bare: getattr(bare, method)(*arguments)]:
            try:
                used = use(bare)
            except (AttributeError, RuntimeError):
                continue
            if not isinstance(used, str):
                task = ioxide.ensure_future(used)
                await turns(2)
                task.cancel()
                await ioxide.wait([task])
                error = None if task.cancelled() else task.exception()
                assert error is None or isinstance(error, AttributeError | RuntimeError)

    run(main())


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_semaphore_takes_a_float_as_asyncios_does(kind):
    async def main():
        for module in (asyncio, ioxide):
            semaphore = getattr(module, kind)(2.0)
            assert semaphore._value == 2
            assert await semaphore.acquire() and await semaphore.acquire()
            assert semaphore.locked()
            semaphore.release()
            assert not getattr(module, kind)(float("inf")).locked()
            for negative in (-1.0, -0.5):
                with pytest.raises(ValueError, match="initial value"):
                    getattr(module, kind)(negative)

    asyncio.run(main())
