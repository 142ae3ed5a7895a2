"""Debug mode: what it notices and what it says."""

from __future__ import annotations

import gc
import logging
import re
import threading
import time

import pytest
from harness import child


def test_debug_is_off_by_default_and_can_be_set(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True


@pytest.mark.parametrize(
    ("flags", "env"),
    [(("-X", "dev"), {}), ((), {"PYTHONASYNCIODEBUG": "1"})],
    ids=["-X dev", "PYTHONASYNCIODEBUG"],
)
def test_debug_is_switched_on_from_outside(aio, flags, env):
    out = child.check(
        aio,
        """
        loop = aio.new_event_loop()
        print(loop.get_debug())
        loop.close()
    """,
        flags=flags,
        env=env,
    )
    assert out == "True\n"


def test_slow_callback_and_slow_task_step_are_named(aio, loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    def slow_callback():
        time.sleep(0.02)

    async def slow_step():
        slow_callback()

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(slow_callback)
        loop.run_until_complete(slow_step())
    said = [r.getMessage() for r in caplog.records]
    took = {
        what: [float(s) for m in said if what in m for s in re.findall(r"took ([\d.]+) seconds", m)]
        for what in ("slow_callback() at", "slow_step() done")
    }
    # How much longer is the affair of the machine.
    assert all(len(seconds) == 1 and seconds[0] >= 0.02 for seconds in took.values()), said


def test_quick_callbacks_are_not_named(aio, loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(aio.sleep(0.001))
    assert caplog.records == []


def test_call_soon_from_the_wrong_thread_is_refused(aio, loop):
    loop.set_debug(True)
    caught = []

    def other():
        for call in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
        ):
            try:
                call()
            except RuntimeError as error:
                caught.append(str(error))

    async def main():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    loop.run_until_complete(main())
    assert (
        caught
        == ["Non-thread-safe operation invoked on an event loop other than the current one"] * 3
    )


def test_coroutine_function_as_callback_is_refused(aio, loop):
    async def callback():
        pass

    loop.set_debug(True)
    for call in (lambda: loop.call_soon(callback), lambda: loop.call_later(1, callback)):
        with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
            call()
    with pytest.raises(TypeError, match=r"a callable object was expected by call_soon\(\), got 1"):
        loop.call_soon(1)


def test_never_retrieved_exception_says_where_the_future_was_made(aio, loop):
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    loop.set_debug(True)
    loop.create_future().set_exception(ValueError("lost"))
    gc.collect()
    assert [c["message"] for c in contexts] == ["Future exception was never retrieved"]
    lines = "".join(contexts[0]["source_traceback"].format())
    assert "test_never_retrieved_exception_says_where" in lines


def test_default_handler_writes_the_place_of_creation(aio, loop, caplog):
    async def main():
        def boom():
            raise ValueError("boom")

        aio.get_running_loop().call_soon(boom)
        await aio.sleep(0)

    loop.set_debug(True)
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.run_until_complete(main())
    [record] = caplog.records
    assert "Exception in callback" in record.getMessage()
    assert "created at (most recent call last)" in record.getMessage()
    assert record.exc_info[0] is ValueError


def test_coroutine_origins_are_tracked_while_a_debug_loop_runs(aio, loop):
    import sys

    async def main():
        return sys.get_coroutine_origin_tracking_depth()

    loop.set_debug(True)
    assert loop.run_until_complete(main()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_unclosed_and_pending_task_is_reported_with_its_origin(aio):
    done = child.run(
        aio,
        """
        import gc
        async def forever():
            await loop.create_future()
        loop = aio.new_event_loop()
        loop.set_debug(True)
        task = loop.create_task(forever())
        loop.run_until_complete(aio.sleep(0))
        del task
        loop.close()
        del loop
        gc.collect()
    """,
    )
    assert done.returncode == 0
    assert "Task was destroyed but it is pending!" in done.stderr
    assert "source_traceback: Object created at" in done.stderr
