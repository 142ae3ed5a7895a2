"""Wrong use raises what asyncio raises, word for word, and the loop is usable after it.

Each case is a function of the module under test which does something wrong. What asyncio raises is not written down
here: the case is run on asyncio first.
"""

from __future__ import annotations

import asyncio as stdlib
import inspect
import re
import sys

import pytest

CASES = {}
SINCE = {}
# More is allowed here than asyncio allows, and the message says so.
OWN_WORDS = {"executor_of_another_kind"}


def case(function=None, *, since=(3, 11)):
    """Adds a case; `since` is the version from which asyncio raises what the newest does."""
    if function is None:
        return lambda f: case(f, since=since)
    CASES[function.__name__] = function
    SINCE[function.__name__] = since
    return function


async def nothing():
    pass


def closed_loop(aio):
    loop = aio.new_event_loop()
    loop.close()
    return loop


class OtherLoop:
    """A loop beside the running one, closed in the end."""

    def __init__(self, aio):
        self.loop = aio.new_event_loop()

    def __enter__(self):
        return self.loop

    def __exit__(self, *_):
        self.loop.close()


# Awaiting what cannot be awaited ----------------------------------------------------------------
@case
async def awaiting_a_coroutine_twice(aio):
    coroutine = nothing()
    await coroutine
    await coroutine


@case
async def task_of_a_finished_coroutine(aio):
    coroutine = nothing()
    await coroutine
    await aio.create_task(coroutine)


@case
async def task_of_a_running_coroutine(aio):
    async def body():
        await aio.create_task(coroutine)

    coroutine = body()
    await coroutine


@case
async def awaiting_a_number(aio):
    await 1


@case
async def awaiting_a_coroutine_function(aio):
    await nothing


@case
async def awaiting_oneself(aio):
    await aio.current_task()


@case
async def yielding_a_number(aio):
    class Odd:
        def __await__(self):
            yield 1

    await Odd()


@case
async def yielding_a_future_without_await(aio):
    class Odd:
        def __await__(self):
            yield stdlib.get_running_loop().create_future()

    await Odd()


@case
async def yielding_a_generator(aio):
    class Odd:
        def __await__(self):
            yield (x for x in ())

    await Odd()


@case
async def await_method_that_gives_no_iterator(aio):
    class Odd:
        def __await__(self):
            return 1

    await Odd()


@case
async def await_method_that_gives_a_coroutine(aio):
    class Odd:
        def __await__(self):
            return coroutine

    coroutine = nothing()
    try:
        await Odd()
    finally:
        coroutine.close()


@case(since=(3, 12))
async def ensure_future_of_an_awaitable_without_iterator(aio):
    class Odd:
        def __await__(self):
            return 1

    await aio.ensure_future(Odd())


# No loop, or a closed one -----------------------------------------------------------------------
@case
def running_loop_outside(aio):
    aio.get_running_loop()


@case
def create_task_outside(aio):
    coroutine = nothing()
    try:
        aio.create_task(coroutine)
    finally:
        coroutine.close()


@case
def current_task_outside(aio):
    aio.current_task()


@case
def all_tasks_outside(aio):
    aio.all_tasks()


@case
def timeout_outside_a_task(aio):
    nothing_of = aio.timeout(1).__aenter__()
    nothing_of.send(None)


@case
def task_group_outside_a_task(aio):
    coroutine = aio.TaskGroup().__aenter__()
    coroutine.send(None)


@case
def sleep_outside(aio):
    aio.sleep(1).send(None)


@case
def run_of_a_number(aio):
    aio.run(1)


@case
def run_of_a_function(aio):
    aio.run(nothing)


@case
async def run_inside_a_loop(aio):
    coroutine = nothing()
    try:
        aio.run(coroutine)
    finally:
        coroutine.close()


@case
def runner_closed(aio):
    runner = aio.Runner()
    runner.get_loop()
    runner.close()
    coroutine = nothing()
    try:
        runner.run(coroutine)
    finally:
        coroutine.close()


@case
async def runner_inside_a_loop(aio):
    coroutine = nothing()
    try:
        aio.Runner().run(coroutine)
    finally:
        coroutine.close()


for _name, _use in {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "run_until_complete": lambda loop: loop.run_until_complete(nothing_closed()),
    "create_task": lambda loop: loop.create_task(nothing_closed()),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_signal_handler": lambda loop: loop.add_signal_handler(2, print),
}.items():

    def _on_closed(aio, use=_use):
        use(closed_loop(aio))

    _on_closed.__name__ = f"closed_loop_{_name}"
    case(_on_closed)


def nothing_closed():
    coroutine = nothing()
    coroutine.close()
    return coroutine


@case
async def closing_the_running_loop(aio):
    aio.get_running_loop().close()


@case
async def running_another_loop_inside(aio):
    with OtherLoop(aio) as other:
        other.run_forever()


@case
async def running_the_running_loop(aio):
    loop = aio.get_running_loop()
    loop.run_until_complete(loop.create_future())


# Another loop's objects -------------------------------------------------------------------------
@case
async def awaiting_another_loops_future(aio):
    with OtherLoop(aio) as other:
        await other.create_future()


@case
async def gather_of_another_loops_future(aio):
    with OtherLoop(aio) as other:
        future = other.create_future()
        mine = aio.get_running_loop().create_future()
        await aio.gather(mine, future)


@case
async def shield_of_another_loops_future(aio):
    with OtherLoop(aio) as other:
        await aio.shield(other.create_future())


@case
async def ensure_future_for_another_loop(aio):
    with OtherLoop(aio) as other:
        aio.ensure_future(aio.get_running_loop().create_future(), loop=other)


@case
def run_until_complete_of_another_loops_future(aio):
    with OtherLoop(aio) as other, OtherLoop(aio) as mine:
        mine.run_until_complete(other.create_future())


def _bound_elsewhere(name, use):
    """A case in which an object of the locks or queues is used on a second loop after a first one."""

    def check(aio):
        async def wait(thing):
            await use(thing, aio)

        thing = None

        async def first():
            nonlocal thing
            thing = make(aio)
            with_timeout = stdlib.ensure_future(wait(thing))
            await stdlib.sleep(0)
            with_timeout.cancel()
            await stdlib.wait([with_timeout])

        make = _MAKERS[name]
        with OtherLoop(aio) as loop:
            loop.run_until_complete(first())
        with OtherLoop(aio) as loop:
            loop.run_until_complete(wait(thing))

    check.__name__ = f"{name}_on_a_second_loop"
    case(check)


def _held_lock(aio):
    lock = aio.Lock()
    lock._locked = True
    return lock


_MAKERS = {
    "event": lambda aio: aio.Event(),
    "queue": lambda aio: aio.Queue(),
    "semaphore": lambda aio: aio.Semaphore(0),
    "barrier": lambda aio: aio.Barrier(2),
}
_bound_elsewhere("event", lambda thing, aio: thing.wait())
_bound_elsewhere("queue", lambda thing, aio: thing.get())
_bound_elsewhere("semaphore", lambda thing, aio: thing.acquire())


# Wrong types ------------------------------------------------------------------------------------
@case
async def create_task_of_a_number(aio):
    aio.create_task(1)


@case
async def create_task_of_a_future(aio):
    aio.create_task(aio.get_running_loop().create_future())


@case
async def create_task_of_an_async_generator(aio):
    async def generator():
        yield 1

    aio.create_task(generator())


@case
async def ensure_future_of_a_number(aio):
    aio.ensure_future(1)


@case
async def gather_of_a_number(aio):
    await aio.gather(1)


@case
async def gather_unknown_keyword(aio):
    await aio.gather(nothing_closed(), loop=1)


@case
async def wait_of_nothing(aio):
    await aio.wait([])


@case
async def wait_of_a_coroutine(aio):
    coroutine = nothing()
    try:
        await aio.wait([coroutine])
    finally:
        coroutine.close()


@case
async def wait_of_a_future_itself(aio):
    await aio.wait(aio.get_running_loop().create_future())


@case
async def wait_with_an_unknown_condition(aio):
    await aio.wait([aio.get_running_loop().create_future()], return_when="SOMETIME")


@case(since=(3, 13))
async def as_completed_of_a_future_itself(aio):
    aio.as_completed(aio.get_running_loop().create_future())


@case(since=(3, 14))
async def wait_for_a_number(aio):
    await aio.wait_for(1, 1)


@case
async def shield_of_a_number(aio):
    aio.shield(1)


@case
async def sleep_with_a_string(aio):
    await aio.sleep("1")


@case(since=(3, 13))
async def sleep_not_a_number(aio):
    await aio.sleep(float("nan"))


@case
async def timeout_of_a_string(aio):
    async with aio.timeout("1"):
        pass


@case
async def call_later_without_a_delay(aio):
    aio.get_running_loop().call_later(None, print)


@case
async def call_at_without_a_time(aio):
    aio.get_running_loop().call_at(None, print)


@case
async def task_factory_not_callable(aio):
    aio.get_running_loop().set_task_factory(1)


@case
async def exception_handler_not_callable(aio):
    aio.get_running_loop().set_exception_handler(1)


@case
async def executor_of_another_kind(aio):
    aio.get_running_loop().set_default_executor(1)


@case
async def signal_number_of_another_kind(aio):
    aio.get_running_loop().add_signal_handler("SIGINT", print)


@case
async def signal_out_of_range(aio):
    aio.get_running_loop().add_signal_handler(4444, print)


@case
async def signal_that_cannot_be_caught(aio):
    aio.get_running_loop().add_signal_handler(9, print)


@case
async def signal_handler_that_is_a_coroutine_function(aio):
    aio.get_running_loop().add_signal_handler(10, nothing)


@case
async def reader_of_no_descriptor(aio):
    aio.get_running_loop().add_reader("x", print)


@case
async def reader_of_a_negative_descriptor(aio):
    aio.get_running_loop().add_reader(-1, print)


@case
async def run_coroutine_threadsafe_of_a_number(aio):
    aio.run_coroutine_threadsafe(1, aio.get_running_loop())


@case
async def wrap_future_of_a_number(aio):
    aio.wrap_future(1)


@case
def set_event_loop_of_a_number(aio):
    aio.set_event_loop(1)


@case
async def task_without_arguments(aio):
    aio.Task()


@case(since=(3, 13))
async def task_with_an_unknown_keyword(aio):
    aio.Task(nothing_closed(), unknown=1)


@case
async def future_with_a_positional_argument(aio):
    aio.Future(1)


# Future and Task --------------------------------------------------------------------------------
@case
async def result_of_a_pending_future(aio):
    aio.get_running_loop().create_future().result()


@case
async def exception_of_a_pending_future(aio):
    aio.get_running_loop().create_future().exception()


@case
async def result_set_twice(aio):
    future = aio.get_running_loop().create_future()
    future.set_result(1)
    future.set_result(2)


@case
async def exception_set_after_the_result(aio):
    future = aio.get_running_loop().create_future()
    future.set_result(1)
    future.set_exception(ValueError())


@case
async def exception_that_is_none(aio):
    aio.get_running_loop().create_future().set_exception(1)


@case
async def exception_class_that_is_none(aio):
    aio.get_running_loop().create_future().set_exception(int)


@case(since=(3, 12))
async def exception_that_is_stop_iteration(aio):
    future = aio.get_running_loop().create_future()
    future.set_exception(StopIteration(1))
    future.result()


@case
async def result_of_a_cancelled_future(aio):
    future = aio.get_running_loop().create_future()
    future.cancel("the message")
    future.result()


@case
async def result_set_on_a_task(aio):
    task = aio.current_task()
    task.set_result(1)


@case
async def exception_set_on_a_task(aio):
    task = aio.current_task()
    task.set_exception(ValueError())


@case
def loop_of_a_future_never_initialised(aio):
    future = aio.Future.__new__(aio.Future)
    future.get_loop()


@case
def result_of_a_future_never_initialised(aio):
    aio.Future.__new__(aio.Future).result()


@case
async def coroutine_that_raises_stop_iteration(aio):
    async def raises():
        raise StopIteration(1)

    await aio.create_task(raises())


# Locks, queues, groups --------------------------------------------------------------------------
@case
async def release_of_a_free_lock(aio):
    aio.Lock().release()


@case
async def lock_as_an_ordinary_context_manager(aio):
    with aio.Lock():
        pass


@case
async def semaphore_below_zero(aio):
    aio.Semaphore(-1)


@case
async def bounded_semaphore_released_too_often(aio):
    aio.BoundedSemaphore(1).release()


@case
async def condition_notified_without_its_lock(aio):
    aio.Condition().notify()


@case
async def condition_waited_for_without_its_lock(aio):
    await aio.Condition().wait()


@case(since=(3, 14))
async def barrier_of_none(aio):
    aio.Barrier(0)


@case
async def broken_barrier(aio):
    barrier = aio.Barrier(2)
    await barrier.abort()
    await barrier.wait()


@case
async def get_from_an_empty_queue(aio):
    aio.Queue().get_nowait()


@case
async def put_into_a_full_queue(aio):
    queue = aio.Queue(1)
    queue.put_nowait(1)
    queue.put_nowait(2)


@case
async def task_done_too_often(aio):
    aio.Queue().task_done()


@case(since=(3, 13))
async def get_after_shutdown(aio):
    queue = aio.Queue()
    queue.shutdown()
    await queue.get()


@case(since=(3, 13))
async def put_after_shutdown(aio):
    queue = aio.Queue()
    queue.shutdown()
    await queue.put(1)


@case
async def task_group_entered_twice(aio):
    group = aio.TaskGroup()
    async with group:
        pass
    async with group:
        pass


@case(since=(3, 13))
async def task_in_a_group_not_entered(aio):
    coroutine = nothing()
    try:
        aio.TaskGroup().create_task(coroutine)
    finally:
        coroutine.close()


@case(since=(3, 13))
async def task_in_a_finished_group(aio):
    async with aio.TaskGroup() as group:
        pass
    coroutine = nothing()
    try:
        group.create_task(coroutine)
    finally:
        coroutine.close()


@case
async def task_in_a_failed_group(aio):
    async def fail():
        raise ValueError("inside")

    async with aio.TaskGroup() as group:
        group.create_task(fail())


@case
async def timeout_entered_twice(aio):
    scope = aio.timeout(1)
    async with scope:
        pass
    async with scope:
        pass


@case
async def timeout_rescheduled_before_its_start(aio):
    aio.timeout(1).reschedule(2)


@case
async def timeout_rescheduled_after_its_end(aio):
    async with aio.timeout(1) as scope:
        pass
    scope.reschedule(2)


@case
async def timeout_that_passed(aio):
    async with aio.timeout(0):
        await aio.sleep(1)


@case
async def wait_for_that_passed(aio):
    await aio.wait_for(aio.get_running_loop().create_future(), 0.001)


@case
async def as_completed_that_passed(aio):
    for first in aio.as_completed([aio.get_running_loop().create_future()], timeout=0.001):
        await first


@case
async def executor_after_its_shutdown(aio):
    loop = aio.get_running_loop()
    await loop.shutdown_default_executor()
    await loop.run_in_executor(None, print)


# ------------------------------------------------------------------------------------------------
def plain(message: str) -> str:
    """The message without what differs between any two runs, and between two implementations by right."""
    message = re.sub(r"0x[0-9a-f]+", "0x", message)
    message = re.sub(r"Task-\d+", "Task-N", message)
    message = re.sub(r"cb=\[.*?\]", "cb=[]", message)
    message = (
        message.replace("ioxide._ioxide.", "asyncio.")
        .replace("_asyncio.", "asyncio.")
        .replace("ioxide.", "asyncio.")
        .replace("asyncio.locks.", "asyncio.")
    )
    return re.sub(
        r"<(?:asyncio\.\S*|_Unix\S*|\S*Loop)( (?:object at|running).*?)?>", "<loop>", message
    )


def outcome(aio, name):
    """What the case raised, and whether the loop was usable after it."""
    function = CASES[name]
    loop = aio.new_event_loop()
    said = []
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    try:
        if inspect.iscoroutinefunction(function):
            loop.run_until_complete(function(aio))
        else:
            function(aio)
        raised = None
    except BaseException as error:
        raised = error
    try:
        if name != "executor_after_its_shutdown":
            assert loop.run_until_complete(loop.run_in_executor(None, int, "7")) == 7
            loop.run_until_complete(loop.shutdown_default_executor())
        assert loop.run_until_complete(aio.sleep(0, "usable")) == "usable"
    finally:
        loop.close()
        aio.set_event_loop(None)
    return raised


def described(error):
    if isinstance(error, BaseExceptionGroup):
        return type(error).__name__, error.message, [described(e) for e in error.exceptions]
    return type(error), plain(str(error))


@pytest.mark.parametrize("name", CASES)
def test_asyncio_refuses(name):
    if sys.version_info < SINCE[name]:
        pytest.skip("asyncio does this since {}.{}".format(*SINCE[name]))
    assert outcome(stdlib, name) is not None


@pytest.mark.parametrize("name", CASES)
def test_ioxide_raises_what_asyncio_raises(name):
    from harness.implementation import load

    ioxide = load("ioxide")
    raised = outcome(ioxide, name)
    if sys.version_info >= SINCE[name]:
        assert raised is not None
        expected = outcome(stdlib, name)
        if name in OWN_WORDS:
            assert type(raised) is type(expected)
        else:
            assert described(raised) == described(expected)
