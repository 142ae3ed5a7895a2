"""Blocking functions run on threads, and nothing that can happen to them is lost or hangs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from house.programs import python as run_python

import ioxide


def run(main):
    """Run the coroutine on ioxide's loop without installing anything."""
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


def test_function_runs_on_a_thread_named_as_asyncios():
    async def main():
        loop = asyncio.get_running_loop()
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name == "asyncio_0"
        assert isinstance(loop._default_executor, concurrent.futures.Executor)

    run(main())


def test_the_default_executor_counts_the_processors_that_the_process_may_use():
    async def workers():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        return loop._default_executor._max_workers

    every = os.sched_getaffinity(0)
    # As Python 3.13 says it with PYTHON_CPU_COUNT and the like in use.
    count = getattr(os, "process_cpu_count", lambda: len(every))
    assert run(workers()) == min(32, count() + 4)
    os.sched_setaffinity(0, {min(every)})
    try:
        assert run(workers()) == min(32, (count() if hasattr(os, "process_cpu_count") else 1) + 4)
    finally:
        os.sched_setaffinity(0, every)


def test_threads_are_forgotten_by_threading_when_they_end():
    run(asyncio.to_thread(threading.current_thread))
    assert not [t for t in threading.enumerate() if t.name.startswith("asyncio_")]


def test_thread_locals_last_from_job_to_job():
    local = threading.local()

    def count():
        local.calls = getattr(local, "calls", 0) + 1
        return local.calls

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(type(await first_executor(loop))(1))
        assert [await loop.run_in_executor(None, count) for _ in range(3)] == [1, 2, 3]

    run(main())


def test_to_thread_carries_the_context_and_run_in_executor_does_not():
    variable = contextvars.ContextVar("variable", default="outside")

    async def main():
        variable.set("inside")
        loop = asyncio.get_running_loop()
        assert await ioxide.to_thread(variable.get) == "inside"
        assert await loop.run_in_executor(None, variable.get) == "outside"
        await ioxide.to_thread(variable.set, "in the thread")
        assert variable.get() == "inside"

    run(main())


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_exception_arrives_with_its_traceback(error):
    def fail():
        raise error

    async def main():
        with pytest.raises(type(error)) as caught:
            await asyncio.get_running_loop().run_in_executor(None, fail)
        assert caught.value is error
        assert caught.traceback[-1].name == "fail"

    run(main())


def test_stop_iteration_cannot_be_mistaken_for_a_result():
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await ioxide.to_thread(next, iter(()))

    run(main())


def test_job_whose_future_is_cancelled_while_queued_never_runs():
    release, ran = threading.Event(), []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(type(await first_executor(loop))(1))
        holder = loop.run_in_executor(None, release.wait)
        queued = loop.run_in_executor(None, ran.append, "cancelled")
        last = loop.run_in_executor(None, ran.append, "last")
        queued.cancel()
        release.set()
        await asyncio.gather(holder, last)
        assert ran == ["last"]
        with pytest.raises(asyncio.CancelledError):
            await queued

    run(main())


async def first_executor(loop):
    await loop.run_in_executor(None, int)
    return loop._default_executor


def test_outcome_of_a_job_that_was_cancelled_while_running_is_dropped():
    started, release = threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait()
        raise ValueError("nobody hears this")

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        job = loop.run_in_executor(None, work)
        await ioxide.to_thread(started.wait)
        job.cancel()
        release.set()
        await loop.shutdown_default_executor()
        await asyncio.sleep(0)
        assert job.cancelled()
        assert reports == []

    run(main())


def test_shutdown_waits_for_queued_jobs_and_refuses_new_ones():
    ran = []

    async def main():
        loop = asyncio.get_running_loop()
        pool = type(await first_executor(loop))(1)
        loop.set_default_executor(pool)
        gate = threading.Event()
        jobs = [loop.run_in_executor(None, gate.wait)]
        jobs += [loop.run_in_executor(None, ran.append, i) for i in range(5)]
        loop.call_soon(gate.set)
        await loop.shutdown_default_executor()
        assert ran == [0, 1, 2, 3, 4]
        await asyncio.gather(*jobs)
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)
        with pytest.raises(RuntimeError, match="after shutdown"):
            loop.run_in_executor(pool, int)

    run(main())


def test_shutdown_gives_up_after_its_timeout_and_warns():
    release = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(None, release.wait)
        with pytest.warns(RuntimeWarning, match="within 0.01 seconds"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        assert await job is True

    run(main())


def test_queued_futures_are_cancelled_when_the_executor_is_told_so():
    started, release = threading.Event(), threading.Event()

    def hold():
        started.set()
        return release.wait()

    async def main():
        loop = asyncio.get_running_loop()
        pool = type(await first_executor(loop))(1)
        running = loop.run_in_executor(pool, hold)
        started.wait()
        queued, plain = loop.run_in_executor(pool, int), pool.submit(int)
        pool.shutdown(wait=False, cancel_futures=True)
        release.set()
        assert await running is True
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert plain.cancelled()

    run(main())


class InlineExecutor(concurrent.futures.Executor):
    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


EXECUTORS = [
    InlineExecutor,
    concurrent.futures.ThreadPoolExecutor,
    concurrent.futures.ProcessPoolExecutor,
    *filter(None, [getattr(concurrent.futures, "InterpreterPoolExecutor", None)]),
]


@pytest.mark.parametrize("make", EXECUTORS)
def test_any_executor_can_be_the_default_one(make):
    async def main():
        loop = asyncio.get_running_loop()
        executor = make()
        loop.set_default_executor(executor)
        assert loop._default_executor is executor
        assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)
        assert await loop.run_in_executor(executor, abs, -3) == 3
        if make in EXECUTORS[:2]:  # a context cannot be sent elsewhere
            assert await ioxide.to_thread(abs, -4) == 4
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    run(main())


def test_what_is_no_executor_is_refused():
    loop = ioxide.new_event_loop()
    try:
        with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
            loop.set_default_executor(object())
        assert loop._default_executor is None
    finally:
        loop.close()


def test_broken_executor_breaks_only_its_caller():
    class Broken(InlineExecutor):
        def submit(self, fn, /, *args, **kwargs):
            raise OSError("no")

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match="no"):
            loop.run_in_executor(Broken(), int)
        assert await loop.run_in_executor(None, int) == 0

    run(main())


def test_jobs_finishing_after_their_loop_was_closed_do_no_harm():
    release = threading.Event()
    loop = ioxide.new_event_loop()
    job = loop.run_in_executor(None, release.wait)
    executor = loop._default_executor
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        release.set()
        executor.shutdown()
    assert not job.done()


def test_the_pool_is_an_executor_on_its_own():
    async def main():
        return await first_executor(asyncio.get_running_loop())

    with type(run(main()))(2) as pool:
        assert list(pool.map(divmod, [7, 9], [2, 4])) == [(3, 1), (2, 1)]
        assert isinstance(pool.submit(divmod, 1, 0).exception(), ZeroDivisionError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)


def test_exit_runs_what_is_queued_and_does_not_hang(tmp_path):
    program = """
import time, ioxide
loop = ioxide.new_event_loop()
for i in range(100):
    loop.run_in_executor(None, time.sleep, 0.0001)
loop.run_in_executor(None, print, "done")
"""
    status, out, err = run_python("-W", "ignore", "-c", program, cwd=tmp_path)
    assert (status, out, err) == (0, "done\n", "")


def test_forked_child_begins_with_threads_of_its_own(tmp_path):
    program = """
import os, time, asyncio, ioxide, warnings
warnings.simplefilter("ignore")
loop = ioxide.new_event_loop()
busy = [loop.run_in_executor(None, time.sleep, 0.05) for _ in range(40)]
if (pid := os.fork()) == 0:
    again = ioxide.new_event_loop()
    again.set_default_executor(loop._default_executor)
    assert again.run_until_complete(again.run_in_executor(None, abs, -3)) == 3
    again.run_until_complete(again.shutdown_default_executor())
    again.close()
    raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
loop.run_until_complete(asyncio.gather(*busy))
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    assert run_python("-W", "ignore", "-c", program, cwd=tmp_path) == (0, "", "")


def test_child_forked_before_a_job_has_begun_goes_on(tmp_path):
    program = """
import os, asyncio, ioxide, warnings
warnings.simplefilter("ignore")
async def main():
    loop = asyncio.get_running_loop()
    for _ in range(10):
        for _ in range(50):
            await ioxide.to_thread(int)
        job = loop.run_in_executor(None, abs, -3)
        if (pid := os.fork()) == 0:
            later = loop.create_future()
            loop.call_later(0.001, later.set_result, None)
            await later
            os._exit(await loop.run_in_executor(None, abs, -7))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert await job == 3
ioxide.run(main())
"""
    assert run_python("-W", "ignore", "-c", program, cwd=tmp_path) == (0, "", "")


STUCK = """
import time, ioxide
async def main():
    print("begun", flush=True)
    await ioxide.to_thread(time.sleep, 60)
ioxide.run(main())
"""


@pytest.mark.slow
def test_control_c_ends_a_program_whose_thread_does_not_end():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout.readline() == b"begun\n"
        # As with asyncio: one cancels, one leaves the wait for the executor, then come two joins.
        for _ in range(100):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
        assert process.returncode is not None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_thread_of_the_pool_cannot_wait_for_itself():
    async def main():
        loop = asyncio.get_running_loop()
        pool = await first_executor(loop)
        with pytest.raises(RuntimeError, match="cannot join current thread"):
            await loop.run_in_executor(None, pool.shutdown)

    run(main())
