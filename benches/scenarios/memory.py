"""How many bytes a waiting thing takes: a task, a sleeper, a timer, a future."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from . import scenario

N = 50_000


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def bytes_for_each(n: int, make: Callable[[], Any]) -> float:
    before = resident()
    kept = [make() for _ in range(n)]
    await asyncio.sleep(0.05)
    grown = resident() - before
    for thing in kept:
        thing.cancel()
    await asyncio.sleep(0)
    return grown / n


@scenario("memory", N, kind="memory")
async def idle_task(n: int) -> float:
    never = asyncio.Event()
    return await bytes_for_each(n, lambda: asyncio.create_task(never.wait()))


@scenario("memory", N, kind="memory")
async def sleeping_task(n: int) -> float:
    return await bytes_for_each(n, lambda: asyncio.create_task(asyncio.sleep(1000)))


@scenario("memory", N, kind="memory")
async def timer(n: int) -> float:
    loop = asyncio.get_running_loop()
    return await bytes_for_each(n, lambda: loop.call_later(1000, print))


@scenario("memory", N, kind="memory")
async def future(n: int) -> float:
    loop = asyncio.get_running_loop()
    return await bytes_for_each(n, loop.create_future)
