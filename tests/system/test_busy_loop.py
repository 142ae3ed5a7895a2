"""A loop that never sleeps lends the interpreter lock to the threads that work for it."""

from __future__ import annotations

import asyncio
import sys

import pytest

import ioxide
from ioxide import files

# Within this time whoever is not lent the lock does not get it: the interpreter asks for it no sooner.
NEVER_S = 1000


@pytest.fixture(autouse=True)
def _no_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(NEVER_S)
    yield
    sys.setswitchinterval(interval)


async def in_thread(path):
    # The thread wants the lock twice: to begin with the job, and when the system call is done.
    assert not await asyncio.to_thread(path.exists)


async def on_file(path):
    await files.copy("/proc/self/comm", path)


@pytest.mark.parametrize("operation", [in_thread, on_file])
def test_threads_do_not_wait_for_the_switch_interval(operation, tmp_path):
    async def main():
        async def spin():
            while True:
                await asyncio.sleep(0)

        spinning = asyncio.ensure_future(spin())
        try:
            # It takes some milliseconds, or for ever.
            async with asyncio.timeout(15):
                for _ in range(10):
                    await operation(tmp_path / "file")
        finally:
            # The loop may sleep, and so gives up the lock, whatever happened.
            spinning.cancel()

    with ioxide.Runner() as runner:
        runner.run(main())
