"""Cancelling: nothing stays open, nothing is half-reported, and the file can be used on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading

import pytest

import ioxide
from ioxide import files
from ioxide._executor import ThreadPool

pytestmark = pytest.mark.usefixtures("descriptors")


def run(coroutine):
    with ioxide.Runner() as runner:
        return runner.run(coroutine)


async def begun(coroutine):
    """A task that has come to its first wait."""
    task = ioxide.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _await(awaitable):
    return await awaitable


@pytest.fixture(params=["ours", "any other"])
def one_thread(request):
    kind = ThreadPool if request.param == "ours" else concurrent.futures.ThreadPoolExecutor
    pool = kind(1)
    yield pool
    pool.shutdown()


async def occupied(executor):
    """The executor's one thread waits until the event that is returned is set."""
    started, release = threading.Event(), threading.Event()

    def wait():
        started.set()
        release.wait()

    future = asyncio.get_running_loop().run_in_executor(executor, wait)
    while not started.is_set():
        await asyncio.sleep(0.001)
    return release, future


def test_an_open_under_way_is_closed_again(tmp_path, one_thread):
    path = tmp_path / "file"
    started, release = threading.Event(), threading.Event()

    def opener(name, flags):
        started.set()
        release.wait()
        return os.open(name, flags)

    async def main():
        task = await begun(_await(files.open(path, "w", opener=opener, executor=one_thread)))
        while not started.is_set():
            await asyncio.sleep(0.001)
        await cancelled(task)
        release.set()
        await asyncio.get_running_loop().run_in_executor(one_thread, int)

    run(main())
    assert path.exists()


def test_an_open_that_is_done_but_not_received_is_closed_again(tmp_path, one_thread):
    async def main():
        task = await begun(_await(files.open(tmp_path / "file", "w", executor=one_thread)))
        # The thread is done before the loop hears of it; the loop then hears of both at once.
        one_thread.submit(int).result()
        await cancelled(task)
        await asyncio.sleep(0.01)
        one_thread.submit(int).result()

    run(main())


def test_what_has_not_begun_is_not_done(tmp_path, one_thread):
    path = tmp_path / "file"

    async def main():
        asyncio.get_running_loop().set_default_executor(one_thread)
        release, occupation = await occupied(None)
        task = await begun(_await(files.copy("/proc/self/stat", path)))
        await cancelled(task)
        release.set()
        await occupation

    run(main())
    assert not path.exists()


def test_a_file_can_be_used_on_after_a_read_was_cancelled(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main():
        async with files.open(path, "rb+") as f:
            task = await begun(_await(f.read(4)))
            await cancelled(task)
            # The read was given to a thread: it took place, or it did not. The next one is in order.
            place = await f.tell()
            assert place in (0, 4)
            assert await f.read() == b"0123456789"[place:]

    run(main())


def test_the_next_operation_waits_for_a_cancelled_one_under_way(tmp_path):
    started, release, order = threading.Event(), threading.Event(), []

    class Slow:
        def write(self, data):
            if not order:
                started.set()
                release.wait()
            order.append(data)
            return len(data)

    async def main():
        f = files.threadpool.AsyncBufferedIOBase(Slow())
        first = await begun(_await(f.write(b"first")))
        while not started.is_set():
            await asyncio.sleep(0.001)
        skipped = await begun(_await(f.write(b"skipped")))
        last = await begun(_await(f.write(b"last")))
        await cancelled(first)
        await cancelled(skipped)
        assert not last.done() and order == []
        release.set()
        assert await last == 4

    run(main())
    assert order == [b"first", b"last"]


def test_closing_is_done_also_for_who_was_cancelled(tmp_path, one_thread):
    async def main():
        f = await files.open(tmp_path / "file", "wb", executor=one_thread)
        await f.write(b"in the buffer")
        release, occupation = await occupied(one_thread)
        task = await begun(_await(f.close()))
        await cancelled(task)
        assert not f.closed
        release.set()
        await occupation
        one_thread.submit(int).result()
        assert f.closed

    run(main())
    assert (tmp_path / "file").read_bytes() == b"in the buffer"


def test_a_timeout_closes_the_file_on_its_way_out(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    async def main():
        # For reading and writing at once a FIFO opens; then there is nothing to read.
        async with files.open(tmp_path / "fifo", "rb+", 0) as f:
            for attempt in range(11):
                with pytest.raises(TimeoutError):
                    async with ioxide.timeout(0.01 * 2**attempt):
                        await f.read(1)
                # The thread still reads: the file's next operations come after that.
                fd = f.fileno()
                os.write(fd, b"xy")
                if (following := await f.read(1)) == b"y":
                    return
                # On a busy machine it had not begun to.
                assert following + await f.read(1) == b"xy"
            pytest.fail("a thread does not begin in ten seconds")

    run(main())


def test_a_hundred_cancelled_at_random_leave_nothing(tmp_path):
    import random

    chance = random.Random(7)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)

    async def use():
        async with files.open(path, chance.choice(["rb", "r", "rb+"])) as f:
            while await f.read(1000):
                pass
        await files.read_bytes(path)

    async def main():
        tasks = []
        for _ in range(200):
            tasks.append(ioxide.create_task(use()))
            if chance.random() < 0.7:
                chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled() or task.exception() is None

    run(main())


def test_an_executor_that_drops_its_jobs_cancels_who_waits(tmp_path, one_thread):
    async def main():
        release, occupation = await occupied(one_thread)
        task = await begun(_await(files.open(tmp_path / "file", "w", executor=one_thread)))
        one_thread.shutdown(wait=False, cancel_futures=True)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await occupation

    run(main())
    assert not (tmp_path / "file").exists()


def test_an_operation_that_nobody_awaits_is_told():
    with pytest.warns(RuntimeWarning, match=r"coroutine 'files\.read_bytes' was never awaited"):
        files.read_bytes("file")
