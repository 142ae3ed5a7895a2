"""Runner and run: the life of a loop, Ctrl-C, and wrong use."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import threading

import pytest

import ioxide


async def one():
    return 1


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def default_sigint():
    """SIGINT as a program has it at start, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_run_returns_the_result_and_closes_the_loop():
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())
        return 7

    assert ioxide.run(main()) == 7
    assert loops[0].is_closed() and type(loops[0]) is ioxide.EventLoop


def test_debug_is_passed_on():
    async def debug():
        return asyncio.get_running_loop().get_debug()

    assert ioxide.run(debug(), debug=True) is True
    assert ioxide.run(debug(), debug=False) is False


def test_runner_keeps_its_loop_and_its_context():
    variable = contextvars.ContextVar("variable", default=0)

    async def step():
        variable.set(variable.get() + 1)
        return variable.get(), asyncio.get_running_loop()

    with ioxide.Runner() as runner:
        first, loop = runner.run(step())
        second, same = runner.run(step())
        assert (first, second) == (1, 2) and loop is same is runner.get_loop()
        other = contextvars.copy_context()
        assert runner.run(step(), context=other)[0] == 1
    assert variable.get() == 0


def test_loop_factory_is_used_and_not_made_current():
    asyncio.set_event_loop(None)
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        runner.run(one())
        policy_loop = asyncio.events._get_event_loop_policy if sys.version_info >= (3, 14) else None
        if policy_loop is not None:
            with pytest.raises(RuntimeError):
                policy_loop().get_event_loop()


def test_the_runners_loop_is_current_while_it_is_open():
    with ioxide.Runner() as runner:
        assert ioxide.get_event_loop() is runner.get_loop()


def test_what_still_runs_is_cancelled_and_awaited():
    seen = []

    async def background():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0)
            seen.append("tidied up")

    async def main():
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return task

    assert ioxide.run(main()).cancelled()
    assert seen == ["tidied up"]


def test_an_error_while_winding_up_reaches_the_exception_handler():
    reports = []

    async def fails_when_cancelled():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise ValueError("while winding up") from None

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        asyncio.create_task(fails_when_cancelled())  # noqa: RUF006
        await asyncio.sleep(0)

    ioxide.run(main())
    assert [str(r["exception"]) for r in reports] == ["while winding up"]
    assert "shutdown" in reports[0]["message"]


def test_asynchronous_generators_are_closed():
    seen = []

    async def numbers():
        try:
            yield 1
        finally:
            seen.append("closed")

    async def main():
        generator = numbers()
        await generator.__anext__()
        return generator

    ioxide.run(main())
    assert seen == ["closed"]


def test_a_closed_runner_refuses():
    runner = ioxide.Runner()
    runner.run(one())
    runner.close()
    runner.close()
    coroutine = one()
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.run(coroutine)
    coroutine.close()
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.get_loop()


def test_a_runner_without_a_loop_closes():
    ioxide.Runner().close()


def test_run_within_a_running_loop_is_refused():
    async def main():
        coroutine = one()
        try:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                ioxide.run(coroutine)
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                ioxide.Runner().run(coroutine)
        finally:
            coroutine.close()

    ioxide.run(main())


@pytest.mark.parametrize("wrong", [1, "x", len, one])
def test_what_cannot_be_run_is_refused(wrong):
    expected = TypeError if sys.version_info >= (3, 14) else ValueError
    with pytest.raises(expected):
        ioxide.run(wrong)
    assert ioxide.run(one()) == 1


@pytest.mark.skipif(sys.version_info < (3, 14), reason="a ValueError until 3.13")
def test_any_awaitable_can_be_run():
    class Seven:
        def __await__(self):
            yield
            return 7

    assert ioxide.run(Seven()) == 7


def test_interrupt_cancels_and_is_raised_when_all_is_tidied_up(default_sigint):
    seen = []

    async def main():
        asyncio.get_running_loop().call_soon(interrupt)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("tidied up")
            raise

    with pytest.raises(KeyboardInterrupt):
        ioxide.run(main())
    assert seen == ["tidied up"]


def test_interrupt_from_outside_wakes_a_sleeping_loop(default_sigint):
    async def main():
        threading.Timer(0.05, interrupt).start()
        await asyncio.sleep(100)

    with pytest.raises(KeyboardInterrupt):
        ioxide.run(main())


def test_second_interrupt_is_raised_at_once(default_sigint):
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(interrupt)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            loop.call_soon(interrupt)
            await asyncio.sleep(100)

    with pytest.raises(KeyboardInterrupt):
        ioxide.run(main())


def test_a_task_that_swallows_the_interrupt_returns_its_result(default_sigint):
    async def main():
        asyncio.get_running_loop().call_soon(interrupt)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "went on"

    assert ioxide.run(main()) == "went on"


def test_a_cancelled_task_is_no_interrupt(default_sigint):
    async def main():
        asyncio.current_task().cancel()
        await asyncio.sleep(100)

    with pytest.raises(asyncio.CancelledError):
        ioxide.run(main())


def test_a_handler_of_the_program_is_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:

        async def main():
            interrupt()
            await asyncio.sleep(0)
            return "not cancelled"

        assert ioxide.run(main()) == "not cancelled"
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["mine"]


def test_run_works_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(ioxide.run(one())))
    thread.start()
    thread.join()
    assert results == [1]
