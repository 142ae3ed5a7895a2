"""Jobs in the default executor: one at a time, and 64 under way."""

from __future__ import annotations

import asyncio

from . import scenario


def job() -> int:
    return 1


@scenario("executor", 10_000)
async def to_thread_sequence(n: int) -> int:
    for _ in range(n):
        await asyncio.to_thread(job)
    return n


@scenario("executor", 20_000)
async def executor_64_in_flight(n: int) -> int:
    loop = asyncio.get_running_loop()

    async def worker() -> None:
        for _ in range(n // 64):
            await loop.run_in_executor(None, job)

    await asyncio.gather(*(worker() for _ in range(64)))
    return n // 64 * 64
