"""Operations leave no objects, memory or references behind, however they end."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

import ioxide
from ioxide import files
from ioxide._executor import ThreadPool

pytestmark = pytest.mark.usefixtures("way", "descriptors")


async def used(path):
    async with files.open(path, "r") as f:
        await f.readline()
        await f.seek(0)


async def failed(path):
    for call in (
        files.read_bytes(path / "x"),
        files.write_bytes(path / "x", b""),
        used(path / "x"),
    ):
        with pytest.raises(NotADirectoryError):
            await call


async def cancelled(path):
    async def waiting():
        await files.copy(path, path.with_name("copy"))

    task = ioxide.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


OPERATIONS = {
    "read": files.read_bytes,
    "read text": files.read_text,
    "write": lambda path: files.write_bytes(path, b"content"),
    "append": lambda path: files.append(path, b""),
    "copy": lambda path: files.copy(path, path.with_name("copy")),
    "stat": files.os.stat,
    "open": used,
    "failed": failed,
    "cancelled": cancelled,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_leave_nothing(folder, name):
    path = folder / "file"
    path.write_bytes(b"content")
    n = 300

    async def main():
        loop = asyncio.get_running_loop()
        # One thread: no other, with all that belongs to it, begins in between, and what comes last is done last.
        loop.set_default_executor(ThreadPool(1))

        async def measure():
            for _ in range(n):
                await OPERATIONS[name](path)
            # What was cancelled under way is over, too.
            await asyncio.to_thread(int)
            gc.collect()
            return len(gc.get_objects()), sys.getallocatedblocks(), sys.getrefcount(loop)

        await measure()
        before = await measure()
        after = await measure()
        return [b - a for a, b in zip(before, after, strict=True)]

    with ioxide.Runner() as runner:
        objects, blocks, references = runner.run(main())
    assert objects < n / 3 and blocks < n / 3 and abs(references) < n / 3
