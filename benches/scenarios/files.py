"""Small files, one at a time and 16 under way, and a large one: `ioxide.files` beside `to_thread`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from . import scenario

FILES = 200
SMALL = os.urandom(4096)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, data: bytes) -> int:
    with open(path, "wb") as file:
        return file.write(data)


def functions() -> tuple[Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]]:
    """To read and to write: asyncio has nothing for files but its threads."""
    if type(asyncio.get_running_loop()).__module__.startswith("ioxide"):
        from ioxide import files

        return files.read_bytes, files.write_bytes
    return (
        lambda path: asyncio.to_thread(read, path),
        lambda path, data: asyncio.to_thread(write, path, data),
    )


async def small(n: int, tasks: int, use: Callable[..., Awaitable[Any]]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(number)) for number in range(FILES)]
        for path in paths:
            write(path, SMALL)

        async def some(first: int) -> None:
            for index in range(first, n, tasks):
                await use(paths[index % FILES])

        await asyncio.gather(*(some(first) for first in range(tasks)))
    return n


@scenario("files", 10_000)
async def read_4k_sequence(n: int) -> int:
    return await small(n, 1, functions()[0])


@scenario("files", 10_000)
async def read_4k_16_in_flight(n: int) -> int:
    return await small(n, 16, functions()[0])


@scenario("files", 10_000)
async def write_4k_16_in_flight(n: int) -> int:
    write_bytes = functions()[1]
    return await small(n, 16, lambda path: write_bytes(path, SMALL))


@scenario("files", 4)
async def write_and_read_64m(n: int) -> int:
    """One operation is one write and one read."""
    read_bytes, write_bytes = functions()
    data = os.urandom(1 << 20) * 64
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large")
        for _ in range(n):
            await write_bytes(path, data)
            assert await read_bytes(path) == data
    return n
