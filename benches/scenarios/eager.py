"""Tasks that start at once, and may end before anybody waits."""

from __future__ import annotations

import asyncio

from . import Skip, scenario


async def one() -> int:
    return 1


@scenario("eager", 200_000)
async def eager_gather(n: int) -> int:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        raise Skip("asyncio has eager tasks since Python 3.12")
    asyncio.get_running_loop().set_task_factory(factory)
    for _ in range(n // 1000):
        await asyncio.gather(*(one() for _ in range(1000)))
    return n
