"""Switching between tasks, making them, and the ways of waiting for several."""

from __future__ import annotations

import asyncio

from . import scenario


async def one() -> int:
    return 1


async def switches(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@scenario("tasks", 300_000)
async def switch_1000_tasks(n: int) -> int:
    await asyncio.gather(*(switches(n // 1000) for _ in range(1000)))
    return n


@scenario("tasks", 100_000)
async def create_and_await(n: int) -> int:
    for _ in range(n):
        await asyncio.create_task(one())
    return n


@scenario("tasks", 100_000)
async def gather_all(n: int) -> int:
    await asyncio.gather(*(one() for _ in range(n)))
    return n


@scenario("tasks", 100_000)
async def task_group_100(n: int) -> int:
    for _ in range(n // 100):
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(one())
    return n


@scenario("tasks", 100_000)
async def future_ping_pong(n: int) -> int:
    loop = asyncio.get_running_loop()
    ball = {side: loop.create_future() for side in ("left", "right")}

    async def player(mine: str, other: str, serves: bool) -> None:
        for _ in range(n // 2):
            if serves:
                ball[other].set_result(None)
            await ball[mine]
            ball[mine] = loop.create_future()
            if not serves:
                ball[other].set_result(None)

    await asyncio.gather(player("left", "right", False), player("right", "left", True))
    return n
