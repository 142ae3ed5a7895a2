"""call_soon, one after the other, many at once, and from another thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from . import scenario


def nothing(*_: Any) -> None:
    pass


@scenario("callbacks", 200_000)
async def call_soon_chain(n: int) -> int:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return n


@scenario("callbacks", 500_000)
async def call_soon_batch(n: int) -> int:
    loop = asyncio.get_running_loop()
    for _ in range(n // 1000):
        done = loop.create_future()
        for _ in range(1000):
            loop.call_soon(nothing)
        loop.call_soon(done.set_result, None)
        await done
    return n


@scenario("callbacks", 100_000)
async def call_soon_threadsafe(n: int) -> int:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def other_thread() -> None:
        for _ in range(n - 1):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=other_thread)
    thread.start()
    await done
    thread.join()
    return n
