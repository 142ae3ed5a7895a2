"""Tasks as a program sees them: names, contexts, cancellation counts, factories."""

from __future__ import annotations

import contextvars
import gc
import sys
import weakref

import pytest
from harness.implementation import Reports, spin


def test_names(aio):
    async def main():
        task = aio.create_task(aio.sleep(0), name="mine")
        other = aio.create_task(aio.sleep(0))
        assert task.get_name() == "mine"
        assert other.get_name().startswith("Task-")
        other.set_name(5)
        assert other.get_name() == "5"
        await aio.gather(task, other)

    aio.run(main())


def test_task_runs_in_a_copy_of_the_current_context(aio):
    variable = contextvars.ContextVar("variable")

    async def child_task():
        seen = variable.get()
        variable.set("child's")
        await aio.sleep(0)
        return seen, variable.get()

    async def main():
        variable.set("parent's")
        task = aio.create_task(child_task())
        variable.set("later")
        assert await task == ("parent's", "child's")
        assert variable.get() == "later"

    aio.run(main())


def test_idle_loop_keeps_no_value_that_only_a_callback_has_set(aio):
    variable = contextvars.ContextVar("variable")

    class Value:
        pass

    async def main():
        # A task that waits shares the context of the callback.
        waiting = aio.create_task(aio.sleep(3600))
        value = Value()
        seen = weakref.ref(value)
        handle = aio.get_running_loop().call_soon(variable.set, value)
        del value
        await aio.sleep(0.001)
        del handle
        await aio.sleep(0.001)
        gc.collect()
        assert seen() is None
        waiting.cancel()

    aio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Task.get_context() came with 3.12")
def test_context_of_a_parked_task_is_its_own(aio):
    variable = contextvars.ContextVar("variable", default=0)

    async def work():
        seen = [variable.get()]
        for _ in range(2):
            await aio.sleep(0)
            seen.append(variable.get())
        return seen

    async def main():
        one, other = aio.create_task(work()), aio.create_task(work())
        await aio.sleep(0)
        context = one.get_context()
        assert context is one.get_context() is not other.get_context()
        context.run(variable.set, 1)
        assert await aio.gather(one, other) == [[0, 1, 1], [0, 0, 0]]
        assert one.get_context() is context

    aio.run(main())


def test_task_runs_in_a_given_context(aio):
    variable = contextvars.ContextVar("variable", default=0)

    async def increment():
        variable.set(variable.get() + 1)
        await aio.sleep(0)
        variable.set(variable.get() + 1)

    async def main():
        context = contextvars.copy_context()
        for _ in range(3):
            await aio.create_task(increment(), context=context)
        assert context[variable] == 6 and variable.get() == 0

    aio.run(main())


def test_two_tasks_share_one_context_without_entering_it_twice(aio):
    async def tick():
        for _ in range(10):
            await aio.sleep(0)

    async def main():
        context = contextvars.copy_context()
        first = aio.create_task(tick(), context=context)
        second = aio.create_task(tick(), context=context)
        await aio.gather(first, second)

    aio.run(main())


def test_callbacks_of_a_future_run_in_their_own_context_and_tasks_made_there_too(aio):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def late():
        seen.append(variable.get())

    async def main():
        future = aio.get_running_loop().create_future()
        made = []
        context = contextvars.copy_context()
        context.run(variable.set, "callback's")
        future.add_done_callback(lambda _: made.append(aio.ensure_future(late())), context=context)
        future.set_result(None)
        await spin(aio)
        await aio.gather(*made)

    aio.run(main())
    assert seen == ["callback's"]


def test_cancel_is_counted_and_can_be_taken_back(aio):
    async def stubborn():
        task = aio.current_task()
        try:
            await aio.sleep(10)
        except aio.CancelledError:
            assert task.cancelling() == 2
            assert task.uncancel() == 1
            assert task.uncancel() == 0
            assert task.uncancel() == 0
        await aio.sleep(0)
        return "survived"

    async def main():
        task = aio.create_task(stubborn())
        await aio.sleep(0)
        assert task.cancel() and task.cancel()
        assert await task == "survived"
        assert not task.cancelled() and not task.cancel()

    aio.run(main())


@pytest.mark.since(3, 13)
def test_uncancel_to_zero_withdraws_a_cancellation_not_yet_delivered(aio):
    async def main():
        task = aio.current_task()
        task.cancel()
        task.uncancel()
        await aio.sleep(0)
        return "not cancelled"

    assert aio.run(main()) == "not cancelled"


def test_cancel_before_the_first_step_never_enters_the_coroutine(aio):
    entered = []

    async def body():
        entered.append(1)

    async def main():
        task = aio.create_task(body())
        task.cancel("early")
        with pytest.raises(aio.CancelledError, match="early"):
            await task
        assert task.cancelled() and not entered

    aio.run(main())


def test_cancel_reaches_the_innermost_wait_with_its_message(aio):
    async def inner(future):
        try:
            await future
        except aio.CancelledError as error:
            return error.args

    async def main():
        future = aio.get_running_loop().create_future()
        task = aio.create_task(inner(future))
        await aio.sleep(0)
        task.cancel("the reason")
        assert await task == ("the reason",)
        assert future.cancelled()

    aio.run(main())


@pytest.mark.parametrize("old_style", [True, False])
def test_task_factory_of_both_signatures_is_used(aio, loop, old_style):
    made = []

    if old_style:

        def factory(loop, coroutine, context=None):
            made.append("old")
            return aio.Task(coroutine, loop=loop, context=context)
    else:

        def factory(loop, coroutine, **kwargs):
            made.append(sorted(k for k, v in kwargs.items() if v is not None))
            return aio.Task(coroutine, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory

    async def main():
        assert await aio.create_task(aio.sleep(0, 1)) == 1
        async with aio.TaskGroup() as group:
            group.create_task(aio.sleep(0))
        await aio.gather(aio.sleep(0), aio.sleep(0))

    loop.run_until_complete(main())
    assert len(made) == 5
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_task_factory_may_return_a_foreign_future(aio, loop):
    class Wrapped(aio.Future):
        def set_name(self, name):
            self.name = name

    def factory(loop, coroutine, **kwargs):
        coroutine.close()
        future = Wrapped(loop=loop)
        future.set_result("foreign")
        return future

    async def main():
        loop.set_task_factory(factory)
        try:
            return await aio.create_task(aio.sleep(0))
        finally:
            loop.set_task_factory(None)

    assert loop.run_until_complete(main()) == "foreign"


@pytest.mark.since(3, 12)
def test_eager_factory_runs_to_the_first_wait_at_once(aio, loop):
    log = []

    async def quick():
        log.append("quick")
        return aio.current_task()

    async def slow():
        log.append("slow starts")
        await aio.sleep(0)
        log.append("slow ends")

    async def main():
        me = aio.current_task()
        loop.set_task_factory(aio.eager_task_factory)
        task = aio.create_task(quick())
        assert task.done() and task.result() is task
        assert aio.current_task() is me
        waiting = aio.create_task(slow())
        assert not waiting.done()
        log.append("created")
        await waiting

    loop.run_until_complete(main())
    loop.set_task_factory(None)
    assert log == ["quick", "slow starts", "created", "slow ends"]


@pytest.mark.since(3, 12)
def test_eager_tasks_nest_and_fail_without_disturbing_the_parent(aio, loop):
    async def fail(depth):
        if depth:
            child = aio.create_task(fail(depth - 1))
            assert child.done()
            await child
        raise ValueError(depth)

    async def main():
        loop.set_task_factory(aio.eager_task_factory)
        me = aio.current_task()
        task = aio.create_task(fail(20))
        assert task.done() and aio.current_task() is me
        with pytest.raises(ValueError):
            await task

    loop.run_until_complete(main())
    loop.set_task_factory(None)


@pytest.mark.since(3, 12)
def test_eager_start_keyword(aio):
    async def main():
        loop = aio.get_running_loop()
        assert aio.Task(aio.sleep(0, 1), loop=loop, eager_start=True).done() is False

        async def nothing():
            return 5

        assert aio.Task(nothing(), loop=loop, eager_start=True).result() == 5
        await spin(aio)

    aio.run(main())


def test_stack_of_a_waiting_task(aio):
    async def inner():
        await aio.sleep(1)

    async def main():
        task = aio.create_task(inner())
        await aio.sleep(0)
        assert [f.f_code.co_name for f in task.get_stack()] == ["inner"]
        import io

        out = io.StringIO()
        task.print_stack(file=out)
        assert "in inner" in out.getvalue() and "Stack for" in out.getvalue()
        task.cancel()

    aio.run(main())


def test_done_callbacks_run_in_order_one_turn_later_and_can_be_removed(aio):
    async def main():
        log = []
        future = aio.get_running_loop().create_future()

        def removed(_):
            log.append("removed")

        future.add_done_callback(lambda _: log.append(1))
        future.add_done_callback(removed)
        future.add_done_callback(removed)
        future.add_done_callback(lambda _: log.append(2))
        assert future.remove_done_callback(removed) == 2
        future.set_result(None)
        assert log == []
        await aio.sleep(0)
        assert log == [1, 2]
        future.add_done_callback(lambda _: log.append("late"))
        assert log == [1, 2]
        await aio.sleep(0)
        assert log == [1, 2, "late"]

    aio.run(main())


def test_never_retrieved_exception_is_reported_once_when_the_task_dies(aio, loop):
    reports = Reports(loop)

    async def fail():
        raise ValueError("lost")

    async def main():
        task = aio.create_task(fail())
        await spin(aio)
        assert task.done()

    loop.run_until_complete(main())
    assert reports.messages() == ["Task exception was never retrieved"]
    assert isinstance(reports[0]["future"], aio.Task)


def test_retrieved_exception_is_not_reported(aio, loop):
    reports = Reports(loop)

    async def fail():
        raise ValueError

    async def main():
        task = aio.create_task(fail())
        await spin(aio)
        task.exception()

    loop.run_until_complete(main())
    assert reports == []


def test_task_that_awaits_itself_fails(aio):
    async def main():
        task = None

        async def narcissus():
            await task

        task = aio.create_task(narcissus())
        with pytest.raises(RuntimeError, match=r"^Task cannot await on itself: <Task "):
            await task

    aio.run(main())


def test_stop_iteration_cannot_be_a_futures_exception(aio, loop):
    future = loop.create_future()
    with pytest.raises(
        (TypeError, RuntimeError), match="StopIteration interacts badly with generators"
    ):
        future.set_exception(StopIteration())
        future.result()


def test_long_chain_of_awaits_propagates_a_result(aio):
    async def link(previous):
        return await previous + 1

    async def main():
        start = aio.get_running_loop().create_future()
        last = start
        for _ in range(2000):
            last = aio.create_task(link(last))
        await aio.sleep(0)
        start.set_result(0)
        return await last

    assert aio.run(main()) == 2000
