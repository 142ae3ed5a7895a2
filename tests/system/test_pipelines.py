"""Children among much data, among many others, and among processes that are made in other ways."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import random
import signal
import subprocess
import threading
import zlib

import pytest
from harness.children import children
from house.programs import python

import ioxide

PIPE = subprocess.PIPE
MIB = 1 << 20


def run(main, seconds=60):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, seconds))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_gigabyte_through_three_children_arrives_whole_and_in_constant_memory():
    chunks = 1024
    block = bytearray(random.Random(1).randbytes(MIB))

    async def feed(process):
        checksum = 0
        for number in range(chunks):
            block[:8] = number.to_bytes(8, "big")  # no chunk can stand in for another
            checksum = zlib.crc32(block, checksum)
            process.stdin.write(bytes(block))
            await process.stdin.drain()
        process.stdin.close()
        return checksum

    async def pump(source, target):
        while data := await source.stdout.read(MIB):
            target.stdin.write(data)
            await target.stdin.drain()
        target.stdin.close()

    async def drain(process):
        count = checksum = 0
        while data := await process.stdout.read(MIB):
            count, checksum = count + len(data), zlib.crc32(data, checksum)
        return count, checksum

    async def main():
        first, second, third = [
            await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, limit=MIB)
            for _ in range(3)
        ]
        sent, _, _, (count, received) = await asyncio.gather(
            feed(first), pump(first, second), pump(second, third), drain(third)
        )
        assert (count, received) == (chunks * MIB, sent)
        assert [await process.wait() for process in (first, second, third)] == [0, 0, 0]

    before = resident()
    run(main())
    assert resident() - before < 64 * MIB


@pytest.mark.slow
def test_children_killed_at_random_moments_are_all_accounted_for():
    chance = random.Random(2)

    async def child():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        talking = asyncio.ensure_future(process.communicate(b"x" * 300_000))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        number = chance.choice([signal.SIGKILL, signal.SIGTERM, 0])
        with contextlib.suppress(ProcessLookupError):  # who has ended is sent nothing
            process.send_signal(number)
        out, _ = await talking
        # Who is quick has ended by itself before the signal came.
        assert process.returncode in {0, -number}
        assert process.returncode != 0 or out == b"x" * 300_000
        return process.returncode

    async def main():
        codes = await asyncio.gather(*[child() for _ in range(100)])
        assert {0, -signal.SIGKILL, -signal.SIGTERM} == set(codes)

    gc.collect()
    before, others = len(os.listdir("/proc/self/fd")), children()
    run(main())
    gc.collect()  # an error that was caught holds the frames it went through
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() == others  # not even a zombie


def test_sigchld_is_left_as_it_was():
    async def main():
        process = await ioxide.create_subprocess_exec("true")
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        await process.wait()

    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    run(main())
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_options_of_popen_that_change_little_are_taken(tmp_path):
    async def main():
        process = await ioxide.create_subprocess_exec(
            "sh", "-c", "kill -PIPE $$; echo survived", stdout=PIPE, restore_signals=False
        )
        assert (await process.communicate())[0] == b"survived\n"
        process = await ioxide.create_subprocess_exec(
            "sh", "-c", "kill -PIPE $$", stdout=PIPE, pipesize=MIB
        )
        pipe = process._transport.get_pipe_transport(1).get_extra_info("pipe")
        assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == MIB
        assert await process.wait() == -signal.SIGPIPE

    run(main())


def test_child_of_a_thread_that_ended_lives_on_with_its_loop():
    # The parent-death of a thread is not that of the process: a child belongs to the process.
    started = []

    async def begin():
        started.append(await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))

    async def finish():
        return await started[0].communicate(b"still here")

    loop = ioxide.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(begin()))
    thread.start()
    thread.join()
    try:
        assert loop.run_until_complete(asyncio.wait_for(finish(), 50)) == (b"still here", None)
    finally:
        loop.close()


MULTIPROCESSING = """
import asyncio, multiprocessing, sys, ioxide

async def child():
    process = await ioxide.create_subprocess_exec("true")
    return await process.wait()

def in_child(connection):
    connection.send(ioxide.run(child()))

async def main(context):
    assert await child() == 0
    ours, theirs = context.Pipe()
    processes = [context.Process(target=in_child, args=(theirs,)) for _ in range(3)]
    for process in processes:
        process.start()
    # Children of both kinds end side by side; each is reaped by whom it belongs to.
    codes = await asyncio.gather(*[child() for _ in range(10)])
    assert codes == [0] * 10, codes
    for process in processes:
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
        assert ours.recv() == 0
    assert await child() == 0

if __name__ == "__main__":
    ioxide.run(main(multiprocessing.get_context(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_with_a_loop_in_parent_and_child(tmp_path, method):
    (tmp_path / "program.py").write_text(MULTIPROCESSING)
    assert python("-W", "ignore", "program.py", method, cwd=tmp_path) == (0, "", "")


def test_fork_with_children_of_a_loop_in_parent_and_child(tmp_path):
    program = """
import asyncio, os, ioxide
async def spawn(code):
    process = await ioxide.create_subprocess_exec("sh", "-c", f"exit {code}")
    return await process.wait()
async def main():
    ours = await ioxide.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    if (pid := os.fork()) == 0:
        # Not the child's child: it cannot be waited for, and must not be touched.
        try:
            asyncio._set_running_loop(None)
            code = ioxide.run(spawn(7))
        finally:
            os._exit(code if code == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await ours.communicate(b"untouched") == (b"untouched", None)
    assert await spawn(3) == 3
ioxide.run(main())
"""
    assert python("-W", "ignore", "-c", program, cwd=tmp_path) == (0, "", "")


def test_exit_status_of_a_program_with_children_left_is_its_own(tmp_path):
    program = """
import asyncio, ioxide, sys
async def main():
    process = await ioxide.create_subprocess_exec("sleep", "60")
    print(process.pid)
    sys.exit(5)
ioxide.run(main())
"""
    ended = python("-W", "ignore", "-c", program, cwd=tmp_path)
    assert (ended.status, ended.err) == (5, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.out), 0)
