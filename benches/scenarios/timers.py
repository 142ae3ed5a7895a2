"""call_later that fires, call_later that is cancelled, and many sleepers."""

from __future__ import annotations

import asyncio

from . import scenario


@scenario("timers", 50_000)
async def call_later_fire(n: int) -> int:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for number in range(n):
        # A spread of deadlines in no particular order.
        loop.call_later((number * 7919 % 1000) * 1e-5, fire)
    await done
    return n


@scenario("timers", 200_000)
async def call_later_cancel(n: int) -> int:
    loop = asyncio.get_running_loop()
    for number in range(n):
        loop.call_later(60, nothing).cancel()
        if number % 1000 == 0:
            await asyncio.sleep(0)
    return n


def nothing() -> None:
    pass


@scenario("timers", 20_000)
async def sleepers(n: int) -> int:
    await asyncio.gather(*(asyncio.sleep((i % 100) * 1e-4) for i in range(n)))
    return n
