"""Tasks that have not begun are kept from the garbage collector, and must be no garbage for ever because of it."""

from __future__ import annotations

import contextvars
import gc
import weakref

import pytest
from harness.implementation import Reports

import ioxide


class Canary:
    pass


async def hold(_thing):
    await ioxide.sleep(0)


def test_task_is_seen_by_the_collector_from_its_first_step_on():
    async def main():
        task = ioxide.create_task(hold(None))
        assert not gc.is_tracked(task)
        await ioxide.sleep(0)
        assert gc.is_tracked(task) and gc.is_tracked(task.get_context())
        await task

    ioxide.run(main())


def test_cycle_through_a_task_and_its_own_context_is_collected():
    variable = contextvars.ContextVar("variable")
    canary = None

    async def knows_itself():
        nonlocal canary
        thing = Canary()
        thing.task = ioxide.current_task()
        canary = weakref.ref(thing)
        variable.set(thing)

    async def main():
        await ioxide.gather(knows_itself(), knows_itself())

    ioxide.run(main())
    gc.collect()
    assert canary() is None


def test_tasks_that_never_began_die_with_a_closed_loop():
    loop = ioxide.new_event_loop()
    reports = Reports(loop)
    thing = Canary()
    thing.task = loop.create_task(hold(thing))
    thing.task.add_done_callback(thing.__class__.__init__)
    canary = weakref.ref(thing)
    loop.close()
    del thing
    with pytest.warns(RuntimeWarning, match="never awaited"):
        gc.collect()
    assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"]
    # The warning had the coroutine and the report has the task: from 3.15 on that is seen.
    reports.clear()
    gc.collect()
    assert canary() is None


def test_tasks_that_never_began_die_with_a_loop_that_was_forgotten():
    loop = ioxide.new_event_loop()
    reports = Reports(loop)
    thing = Canary()
    thing.loop = loop
    loop.create_task(hold(thing))
    canary = weakref.ref(thing)
    del thing, loop
    with (
        pytest.warns(RuntimeWarning, match="never awaited"),
        pytest.warns(ResourceWarning, match="unclosed event loop"),
    ):
        gc.collect()
    reports.clear()
    gc.collect()
    assert canary() is None
