"""Executors that a program brings along: errors, cancellation and ends without hangs, with work queued too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import sys
import threading

import pytest
from house.programs import python

import ioxide

from . import jobs

pytestmark = pytest.mark.slow

THREADS = concurrent.futures.ThreadPoolExecutor
PROCESSES = concurrent.futures.ProcessPoolExecutor
INTERPRETERS = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
ALL = [THREADS, PROCESSES, *filter(None, [INTERPRETERS])]


def run(main):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


def failing():
    raise ValueError("in the executor")


def until_exists(path):
    """A job that ends once the file exists; another interpreter has none of the tests' modules."""
    return exec, f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.001)"


@pytest.fixture(params=ALL, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_error_arrives_with_where_it_was_raised(kind):
    async def main():
        with kind(1) as executor, pytest.raises(ValueError, match="in the executor") as caught:
            await asyncio.get_running_loop().run_in_executor(executor, failing)
        if kind is THREADS:
            assert caught.traceback[-1].name == "failing"
        elif kind is PROCESSES:
            assert "in failing" in str(caught.value.__cause__)

    run(main())


def test_cancelled_while_queued_never_runs(kind, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with kind(1) as executor:
            go, trace = tmp_path / "go", tmp_path / "trace"
            first = loop.run_in_executor(executor, *until_exists(go))
            # A process pool hands one job more to its pipe than it runs, and that one is not called back.
            others = [loop.run_in_executor(executor, int) for _ in range(3)]
            last = loop.run_in_executor(executor, os.mkdir, str(trace))
            last.cancel()
            await asyncio.sleep(0)
            go.touch()
            await asyncio.gather(first, *others)
            with pytest.raises(asyncio.CancelledError):
                await last
        assert not trace.exists()

    run(main())


def test_shutdown_with_queued_work_neither_hangs_nor_loses_any(kind):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(kind(2))
        queued = [loop.run_in_executor(None, pow, 2, n) for n in range(50)]
        await loop.shutdown_default_executor()
        assert await asyncio.gather(*queued) == [2**n for n in range(50)]
        with pytest.raises(RuntimeError, match="shutdown"):
            loop.run_in_executor(None, int)

    run(main())


def test_end_of_run_cancels_those_who_wait_and_waits_for_what_runs(kind, tmp_path):
    go, waiting = tmp_path / "go", []

    async def wait(loop):
        try:
            await loop.run_in_executor(None, *until_exists(go))
        except asyncio.CancelledError:
            waiting.append("cancelled")
            go.touch()
            raise

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(kind(1))
        task = asyncio.ensure_future(wait(loop))
        await asyncio.sleep(0)
        assert not task.done()

    run(main())
    assert waiting == ["cancelled"]


def test_cancel_futures_at_shutdown_cancels_those_who_wait(kind, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        executor, go = kind(1), tmp_path / "go"
        running = loop.run_in_executor(executor, *until_exists(go))
        queued = [loop.run_in_executor(executor, int) for _ in range(10)]
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await queued[-1]
        go.touch()
        outcomes = await asyncio.gather(running, *queued, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes[1:]} <= {int, asyncio.CancelledError}
        await asyncio.to_thread(executor.shutdown)

    run(main())


def test_death_of_a_pools_process_is_an_error_and_no_hang():
    async def main():
        loop = asyncio.get_running_loop()

        async def doomed(executor):
            # A pool that has noticed already takes no more.
            await loop.run_in_executor(executor, jobs.die, 3)

        with PROCESSES(2) as executor:
            outcomes = await asyncio.gather(
                *(doomed(executor) for _ in range(4)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {
            concurrent.futures.process.BrokenProcessPool
        }

    run(main())


def test_context_goes_along_to_threads_of_any_executor():
    variable = contextvars.ContextVar("variable", default="default")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(THREADS(2))
        variable.set("carried")
        assert await ioxide.to_thread(variable.get) == "carried"
        inherits = getattr(sys.flags, "thread_inherit_context", False)
        expected = "carried" if inherits else "default"
        assert await loop.run_in_executor(None, variable.get) == expected
        thread = await ioxide.to_thread(threading.current_thread)
        assert thread is not threading.current_thread()

    run(main())


def test_many_jobs_from_several_loops_share_an_executor():
    with THREADS(4) as executor:

        async def main(base):
            loop = asyncio.get_running_loop()
            jobs = [loop.run_in_executor(executor, int, base + n) for n in range(200)]
            return await asyncio.gather(*jobs)

        results = [None] * 3
        threads = [
            threading.Thread(target=lambda i=i: results.__setitem__(i, run(main(i * 1000))))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [[base + n for n in range(200)] for base in (0, 1000, 2000)]


def test_program_ends_though_work_is_queued(tmp_path):
    program = """
import concurrent.futures, sys, time, ioxide
async def main():
    loop = ioxide.get_running_loop()
    for _ in range(100):
        loop.run_in_executor(None, time.sleep, 0.001)
    sys.exit(3)
ioxide.run(main())
"""
    assert python("-W", "ignore", "-c", program, cwd=tmp_path).status == 3


@pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreters in pools since Python 3.14")
def test_interpreters_have_states_of_their_own():
    async def main():
        loop = asyncio.get_running_loop()
        with INTERPRETERS(1) as executor:
            first = await loop.run_in_executor(executor, exec, "import sys; sys.mark = 1")
            assert first is None and not hasattr(sys, "mark")

    run(main())
