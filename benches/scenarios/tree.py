"""Trees of gather, six wide, whose leaves do nothing, or sleep, or do a little arithmetic."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from . import scenario

WIDTH, DEPTH = 6, 5
LEAVES = WIDTH**DEPTH


async def grow(leaf: Callable[[int], Awaitable[None]], depth: int, number: int = 0) -> None:
    if depth == 0:
        await leaf(number)
        return
    await asyncio.gather(*(grow(leaf, depth - 1, number * WIDTH + i) for i in range(WIDTH)))


async def bare(number: int) -> None:
    pass


async def mixed(number: int) -> None:
    if number % 2:
        await asyncio.sleep(0.01)
    else:
        math.factorial(200)


@scenario("async_tree", 3)
async def tree_bare(n: int) -> int:
    for _ in range(n):
        await grow(bare, DEPTH)
    return n * LEAVES


@scenario("async_tree", 3)
async def tree_mixed(n: int) -> int:
    for _ in range(n):
        await grow(mixed, DEPTH)
    return n * LEAVES
