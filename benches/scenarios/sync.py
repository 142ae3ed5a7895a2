"""Queues, locks, events and timeouts."""

from __future__ import annotations

import asyncio

from . import scenario


@scenario("sync", 100_000)
async def queue_bounded(n: int) -> int:
    queue: asyncio.Queue[int] = asyncio.Queue(10)

    async def produce() -> None:
        for number in range(n):
            await queue.put(number)

    async def consume() -> None:
        for _ in range(n):
            await queue.get()

    await asyncio.gather(produce(), consume())
    return n


@scenario("sync", 50_000)
async def lock_contended(n: int) -> int:
    lock = asyncio.Lock()

    async def worker() -> None:
        for _ in range(n // 10):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*(worker() for _ in range(10)))
    return n


@scenario("sync", 100_000)
async def event_100_waiters(n: int) -> int:
    for _ in range(n // 100):
        event = asyncio.Event()
        waiters = [asyncio.create_task(event.wait()) for _ in range(100)]
        await asyncio.sleep(0)
        event.set()
        await asyncio.gather(*waiters)
    return n


@scenario("sync", 50_000)
async def wait_for_a_switch(n: int) -> int:
    for _ in range(n):
        await asyncio.wait_for(asyncio.sleep(0), 60)
    return n


@scenario("sync", 100_000)
async def timeout_block(n: int) -> int:
    for _ in range(n):
        async with asyncio.timeout(60):  # noqa: ASYNC100
            pass
    return n
