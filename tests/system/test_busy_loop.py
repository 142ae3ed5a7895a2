"""A loop that never sleeps lends the interpreter lock to the threads that work for it."""

from __future__ import annotations

import asyncio
import time

import ioxide
from ioxide import files


def both_ways(path):
    async def main():
        async def spin():
            while True:
                await asyncio.sleep(0)

        spinning = asyncio.ensure_future(spin())
        begun = time.perf_counter()
        for _ in range(100):
            await asyncio.to_thread(path.exists)
            await files.copy("/proc/self/comm", path)
        took = time.perf_counter() - begun
        spinning.cancel()
        return took

    with ioxide.Runner() as runner:
        return runner.run(main())


def test_threads_do_not_wait_for_the_switch_interval(tmp_path):
    # Each of these operations wants the lock two times and more. After the interpreter's interval of 5 ms
    # only, that would take more than two seconds.
    assert min(both_ways(tmp_path / "file") for _ in range(3)) < 1
