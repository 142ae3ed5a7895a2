"""The only file that makes a coroutine of any other awaitable, which a task needs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def _wrap_awaitable(awaitable: Awaitable[_T]) -> _T:
    return await awaitable
