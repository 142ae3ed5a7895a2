"""What asyncio.run costs for a coroutine that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import scenario


async def nothing() -> None:
    pass


@scenario("start-up", 1000, kind="plain")
def run_nothing(run: Callable[[Any], Any], n: int) -> int:
    for _ in range(n):
        run(nothing())
    return n
