"""What is forgotten is said: coroutines never awaited, errors never retrieved, tasks destroyed while pending."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from harness import child
from harness.implementation import Reports, spin


def test_coroutine_never_awaited_warns_once(aio, loop):
    async def forgotten():
        pass

    async def main():
        with pytest.warns(
            RuntimeWarning, match="coroutine '.*forgotten' was never awaited"
        ) as caught:
            forgotten()
            gc.collect()
        assert len(caught) == 1

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["sleep", "wait", "wait_for", "open_connection", "to_thread"])
def test_coroutine_functions_of_the_module_warn_too(aio, loop, name):
    arguments = {
        "sleep": (1,),
        "wait": ([],),
        "wait_for": (None, 1),
        "open_connection": ("h", 1),
        "to_thread": (print,),
    }

    async def main():
        with pytest.warns(RuntimeWarning, match=f"coroutine '.*{name}' was never awaited"):
            getattr(aio, name)(*arguments[name])
            gc.collect()

    loop.run_until_complete(main())


def test_coroutine_of_a_task_never_run_is_closed_with_the_loop(aio):
    out = child.run(
        aio,
        """
        async def body():
            pass
        loop = aio.new_event_loop()
        loop.create_task(body())
        loop.close()
    """,
    )
    assert out.returncode == 0
    assert out.stderr.count("Task was destroyed but it is pending!") == 1
    assert out.stderr.count("coroutine 'body' was never awaited") == 1


def test_pending_task_destroyed_is_reported_once(aio, loop):
    reports = Reports(loop)

    async def main():
        async def forever():
            await loop.create_future()

        task = loop.create_task(forever())
        await spin(aio)
        del task
        gc.collect()

    loop.run_until_complete(main())
    assert reports.messages() == ["Task was destroyed but it is pending!"]
    assert set(reports[0]) == {"message", "task"}
    assert isinstance(reports[0]["task"], aio.Task)


def test_future_whose_exception_nobody_retrieved_is_reported_once(aio, loop):
    reports = Reports(loop)
    future = loop.create_future()
    future.set_exception(ValueError("lost"))
    loop.run_until_complete(spin(aio))
    assert reports == []
    del future
    gc.collect()
    assert reports.messages() == ["Future exception was never retrieved"]
    assert set(reports[0]) == {"message", "exception", "future"}
    assert str(reports[0]["exception"]) == "lost"


@pytest.mark.parametrize("look", ["result", "exception", "await", "gather", "wrapped"])
def test_exception_looked_at_in_any_way_is_not_reported(aio, loop, look):
    reports = Reports(loop)

    async def main():
        future = loop.create_future()
        future.set_exception(ValueError())
        if look == "result":
            with pytest.raises(ValueError):
                future.result()
        elif look == "exception":
            future.exception()
        elif look == "await":
            with pytest.raises(ValueError):
                await future
        elif look == "gather":
            await aio.gather(future, return_exceptions=True)
        else:
            with pytest.raises(ValueError):
                await aio.shield(future)

    loop.run_until_complete(main())
    gc.collect()
    assert reports == []


def test_wait_does_not_count_as_looking(aio, loop):
    reports = Reports(loop)

    async def main():
        future = loop.create_future()
        future.set_exception(ValueError())
        await aio.wait([future])

    loop.run_until_complete(main())
    gc.collect()
    assert reports.messages() == ["Future exception was never retrieved"]


def test_what_fails_after_its_shields_were_cancelled_is_reported_once(aio, loop):
    """By the future when it dies; releases of 3.14 that report at once have a function for it."""
    reports = Reports(loop)
    at_once = hasattr(asyncio.tasks, "_log_on_exception")

    async def main():
        inner = loop.create_future()
        for _ in range(2):
            outer = aio.shield(inner)
            outer.cancel()
            await spin(aio)
        inner.set_exception(ValueError("lost"))
        await spin(aio)
        assert len(reports) == at_once

    loop.run_until_complete(main())
    gc.collect()
    message = (
        "ValueError exception in shielded future"
        if at_once
        else "Future exception was never retrieved"
    )
    assert reports.messages() == [message]


def test_lost_errors_at_exit_are_written(aio):
    done = child.run(
        aio,
        """
        async def fail():
            raise ValueError("lost at the end")
        async def main():
            aio.create_task(fail())
            await aio.sleep(0.001)
        aio.run(main())
    """,
    )
    assert done.returncode == 0
    assert done.stderr.count("Task exception was never retrieved") == 1
    assert done.stderr.count("ValueError: lost at the end") == 1


def test_error_of_a_task_cancelled_at_the_end_of_run_is_reported(aio, caplog):
    async def stubborn():
        try:
            await aio.sleep(10)
        finally:
            raise ValueError("in the cleanup")

    kept = []

    async def main():
        kept.append(aio.create_task(stubborn()))
        await aio.sleep(0)

    aio.run(main())
    assert [r.getMessage().split("\n")[0] for r in caplog.records] == [
        "unhandled exception during asyncio.run() shutdown"
    ]


def test_traceback_of_an_error_through_many_tasks_names_each(aio):
    import traceback

    async def deepest():
        raise ValueError("deep")

    async def middle():
        await aio.create_task(deepest())

    async def main():
        try:
            await aio.gather(middle())
        except ValueError as error:
            return [f.name for f in traceback.extract_tb(error.__traceback__)]

    assert aio.run(main()) == ["main", "middle", "deepest"]


def test_no_warning_in_an_ordinary_program(aio):
    async def main():
        async with aio.TaskGroup() as group:
            for i in range(10):
                group.create_task(aio.sleep(i / 10_000))
        await aio.wait_for(aio.sleep(0), 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aio.run(main(), debug=True)
        gc.collect()
