"""Several ways to one end: in order, or each some time after the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Attempt = Callable[[], Awaitable[Any]]


async def in_order(attempts: Iterable[Attempt]) -> Any:
    """Return the result of the first attempt that raises no OSError, None if all do."""
    for attempt in attempts:
        try:
            return await attempt()
        except OSError:
            continue
    return None


async def staggered(loop: Any, attempts: Iterable[Attempt], delay: float) -> Any:
    """As `in_order`, but the next attempt begins when the last has failed, or after `delay` seconds.

    The first to succeed wins; the others are cancelled, and have ended when this returns.
    """
    running: set[Any] = set()
    try:
        for attempt in attempts:
            newest = loop.create_task(_swallow(attempt))
            running.add(newest)
            winner = await _next_winner(running, newest, delay)
            if winner is not None:
                return winner
        while running:
            winner = await _next_winner(running, None, None)
            if winner is not None:
                return winner
        return None
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            # An attempt that succeeded while it was called off has a socket that nobody wants.
            if late is not None and not isinstance(late, BaseException):
                late.close()


async def _swallow(attempt: Attempt) -> Any:
    try:
        return await attempt()
    except OSError:
        return None


async def _next_winner(running: set[Any], newest: Any, delay: float | None) -> Any:
    """Wait until an attempt succeeds, the newest one fails, or the delay is over."""
    loop = asyncio.get_running_loop()
    deadline = None if delay is None else loop.time() + delay
    while running:
        timeout = None if deadline is None else max(0.0, deadline - loop.time())
        done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        running -= done
        for task in done:
            if (result := task.result()) is not None:
                return result
        if not done or newest in done:
            return None
    return None
