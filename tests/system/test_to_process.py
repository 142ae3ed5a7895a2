"""Jobs in other processes: results, errors and deaths reach whom they belong to, and nothing is left."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import warnings
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from harness.children import children
from house.programs import clean_environment, python

import ioxide

from . import jobs

pytestmark = pytest.mark.slow


def run(main):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


@pytest.fixture(autouse=True)
def _nothing_left():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()
    before, others = descriptors(), children()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert descriptors() == before
    assert children() == others  # neither alive nor a zombie


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def pid_in(path):
    while not (path.exists() and (text := path.read_text())):
        await asyncio.sleep(0.001)
    return int(text)


def test_arguments_go_and_the_result_comes_back():
    async def main():
        assert await ioxide.to_process(jobs.say, 1, two=2) == ((1,), {"two": 2})
        assert await ioxide.to_process(jobs.say) == ((), {})
        (first, calls), (second, more) = [await ioxide.to_process(jobs.count) for _ in range(2)]
        assert first == second != os.getpid() and (calls, more) == (1, 2)
        assert len(await ioxide.to_process(jobs.big, 20_000_000)) == 20_000_000
        (data,), _ = await ioxide.to_process(jobs.say, b"y" * 20_000_000)
        assert data == b"y" * 20_000_000

    run(main())


def test_context_variables_stay_at_home():
    async def main():
        jobs.variable.set("changed")
        assert await ioxide.to_process(jobs.context) == "the default"

    run(main())


def test_exception_arrives_with_the_traceback_of_its_process():
    async def main():
        with pytest.raises(ValueError, match="no luck") as caught:
            await ioxide.to_process(jobs.fail, "no luck")
        assert "in fail\n    raise ValueError(message)" in str(caught.value.__cause__)
        with pytest.raises(SystemExit) as caught:
            await ioxide.to_process(jobs.leave)
        assert caught.value.code == 3
        # The process has survived all of them.
        assert (await ioxide.to_process(jobs.count))[1] == 1

    run(main())


def test_what_cannot_be_sent_is_refused_with_the_reason():
    async def main():
        with pytest.raises((pickle.PicklingError, AttributeError)):
            await ioxide.to_process(lambda: None)
        loop = asyncio.get_running_loop()
        assert loop._process_pool is None, "a process was started for nothing"
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            await ioxide.to_process(jobs.give_lambda)
        with pytest.raises(RuntimeError, match=r"(?s)cannot be sent.*in fail_unfit.*unfit"):
            await ioxide.to_process(jobs.fail_unfit)

    run(main())


@pytest.mark.parametrize("job, code", [((jobs.die, 7), 7), ((jobs.kill_self,), -9)])
def test_death_of_a_process_is_told_to_its_job_only(tmp_path, job, code):
    async def main():
        loop = asyncio.get_running_loop()
        loop._process_pool = ioxide._process_pool.ProcessPool(2)
        go = tmp_path / "go"
        other = asyncio.ensure_future(ioxide.to_process(jobs.wait_for_file, str(go)))
        with pytest.raises(BrokenProcessPool, match=f"return code {code} "):
            await ioxide.to_process(*job)
        assert isinstance(BrokenProcessPool(), concurrent.futures.BrokenExecutor)
        assert not other.done()
        go.touch()
        assert await other != os.getpid()
        assert await ioxide.to_process(jobs.say, "replaced") == (("replaced",), {})

    run(main())


def test_cancelled_job_is_killed_and_others_are_not(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        loop._process_pool = ioxide._process_pool.ProcessPool(2)
        path, go = tmp_path / "pid", tmp_path / "go"
        other = asyncio.ensure_future(ioxide.to_process(jobs.wait_for_file, str(go)))
        job = asyncio.ensure_future(ioxide.to_process(jobs.announce_and_sleep, str(path)))
        # With both processes busy, one more stands in line; cancelled there, it costs nobody's life.
        queued = asyncio.ensure_future(ioxide.to_process(jobs.count))
        last = asyncio.ensure_future(ioxide.to_process(jobs.count))
        pid = await pid_in(path)
        queued.cancel()
        job.cancel()
        for cancelled in (job, queued):
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        assert (await last)[1] == 1
        while is_alive(pid):
            await asyncio.sleep(0.001)
        go.touch()
        assert await other != pid

    run(main())


def test_timeout_kills_the_job(tmp_path):
    async def main():
        path = tmp_path / "pid"
        job = asyncio.ensure_future(ioxide.to_process(jobs.announce_and_sleep, str(path)))
        pid = await pid_in(path)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.001)
        while is_alive(pid):
            await asyncio.sleep(0.001)

    run(main())


def test_end_of_run_kills_what_still_works(tmp_path):
    path = tmp_path / "pid"

    async def main():
        job = asyncio.ensure_future(ioxide.to_process(jobs.announce_and_sleep, str(path)))
        await pid_in(path)
        assert not job.done()

    run(main())
    assert not is_alive(int(path.read_text()))


def test_closing_the_loop_alone_is_enough(tmp_path):
    path = tmp_path / "pid"
    loop = ioxide.new_event_loop()

    async def main():
        await ioxide.to_process(jobs.count)
        task = asyncio.ensure_future(ioxide.to_process(jobs.announce_and_sleep, str(path)))
        await pid_in(path)
        return task

    before = set(os.listdir("/proc/self/fd"))
    task = loop.run_until_complete(main())
    task._log_destroy_pending = False
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loop.close()
        assert not is_alive(int(path.read_text()))
        task.get_coro().close()
        del task
        gc.collect()
    assert not warned
    # Nothing of the processes is left open, nor of the loop.
    assert set(os.listdir("/proc/self/fd")) <= before


def test_after_shutdown_nothing_is_taken():
    async def main():
        loop = asyncio.get_running_loop()
        pid, _ = await ioxide.to_process(jobs.count)
        await loop.shutdown_default_executor()
        assert not is_alive(pid)
        with pytest.raises(RuntimeError, match="shutdown"):
            await ioxide.to_process(jobs.count)

    run(main())


def test_idle_process_that_dies_is_replaced():
    async def main():
        pid, _ = await ioxide.to_process(jobs.count)
        os.kill(pid, signal.SIGKILL)
        while (worker := asyncio.get_running_loop()._process_pool._idle[0]).is_alive():
            await asyncio.sleep(0.001)
        assert worker._process.pid == pid
        assert (await ioxide.to_process(jobs.count))[1] == 1

    run(main())


def test_more_jobs_than_processes_wait_their_turn():
    async def main():
        loop = asyncio.get_running_loop()
        loop._process_pool = ioxide._process_pool.ProcessPool(3)
        pids = await asyncio.gather(*[ioxide.to_process(jobs.count) for _ in range(60)])
        assert len({pid for pid, _ in pids}) <= 3

    run(main())


def test_interrupts_input_and_loops_of_a_process_are_its_own():
    async def main():
        assert await ioxide.to_process(jobs.interrupted) == "goes on"
        assert await ioxide.to_process(jobs.standard_input) == ""
        assert await ioxide.to_process(jobs.nested) == ((1,), {})
        assert await ioxide.to_process(jobs.loop_class) == "asyncio.unix_events"
        ioxide.install()
        try:
            asyncio.get_running_loop()._process_pool._idle.clear()
            assert await ioxide.to_process(jobs.loop_class) == "ioxide"
        finally:
            ioxide.uninstall()

    run(main())


def test_loop_of_asyncio_is_refused():
    async def main():
        with pytest.raises(RuntimeError, match="a loop of ioxide"):
            await ioxide.to_process(jobs.count)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_forked_child_has_processes_of_its_own(tmp_path):
    program = """
import asyncio, os, ioxide
def job():
    return os.getpid()
async def main():
    first = await ioxide.to_process(job)
    if (pid := os.fork()) == 0:
        asyncio._set_running_loop(None)
        try:
            code = 7 if ioxide.run(ioxide.to_process(job)) != first else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await ioxide.to_process(job) == first
if __name__ == "__main__":
    ioxide.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    assert python("-W", "ignore", "program.py", cwd=tmp_path) == (0, "", "")


PROGRAM = """
import asyncio, os, sys, ioxide
class Point:
    def __init__(self, x): self.x = x
def double(point):
    async def inner():
        return type(asyncio.get_running_loop()).__module__
    return Point(point.x * 2), asyncio.run(inner())
async def main():
    point, module = await ioxide.to_process(double, Point(21))
    print(type(point) is Point, point.x, module)
if __name__ == "__main__":
    asyncio.run(main()) if sys.argv[1] == "asyncio" else ioxide.run(main())
"""


@pytest.mark.parametrize("launch", [(), ("-m", "ioxide")])
@pytest.mark.parametrize("start", [("program.py",), ("-m", "program"), ("-m", "package")])
def test_functions_of_the_main_program_are_found(tmp_path, launch, start):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text("from program import *\n" + PROGRAM)
    if start[1:] == ("package",):
        # As with multiprocessing, a package's __main__ is not imported again.
        text = (tmp_path / "package" / "__main__.py").read_text()
        text = text.replace("class Point:", "class _Unused:").replace("def double", "def _unused")
        (tmp_path / "package" / "__main__.py").write_text(text)
    argument = "asyncio" if launch else "ioxide"
    ended = python(*launch, *start, argument, cwd=tmp_path)
    module = "ioxide" if launch else "asyncio.unix_events"
    assert ended == (0, f"True 42 {module}\n", "")


def test_script_without_a_guard_is_told_so(tmp_path):
    (tmp_path / "program.py").write_text(
        "import ioxide\nioxide.run(ioxide.to_process(abs, -1))\n",
    )
    ended = python("program.py", cwd=tmp_path)
    assert ended.status == 1
    assert "if __name__ == '__main__'" in ended.err and "BrokenProcessPool" in ended.err


def test_processes_end_when_their_owner_is_killed(tmp_path):
    program = """
import sys, ioxide
from system import jobs
async def main():
    await ioxide.to_process(jobs.announce_and_sleep, sys.argv[1])
ioxide.run(main())
"""
    path = tmp_path / "pid"
    environment = clean_environment()
    path_of_tests = [str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path_of_tests))
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], env=environment, start_new_session=True
    )
    pid = asyncio.run(asyncio.wait_for(pid_in(path), 50))
    owner.kill()
    owner.wait()
    for _ in range(1000):
        if not is_alive(pid):
            break
        asyncio.run(asyncio.sleep(0.01))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        pytest.fail("a process outlived its owner")


SPAWNING = """
import asyncio, multiprocessing, sys
def child(queue):
    async def main():
        return type(asyncio.get_running_loop()).__module__
    queue.put(asyncio.run(main()))
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_use_what_their_parent_uses(tmp_path, method):
    (tmp_path / "program.py").write_text(SPAWNING)
    command = ("-W", "ignore", "-m", "ioxide", "program.py", method)
    assert python(*command, cwd=tmp_path) == (0, "ioxide\n", "")
    without = python(*command, cwd=tmp_path, IOXIDE_DISABLE="1")
    assert without.out == "asyncio.unix_events\n"
