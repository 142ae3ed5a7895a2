"""Calling a function on a thread, and turning functions of modules into such calls."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from .._ioxide import _file_call

_T = TypeVar("_T")


def wrap(func: Callable[..., _T]) -> Callable[..., Awaitable[_T]]:
    """Return a function that calls `func` on a thread, when it is awaited.

    It takes what `func` takes, and, as aiofiles has it, `loop`, which is not needed, and
    `executor`, any of `concurrent.futures` but a pool of processes.
    """

    @functools.wraps(func)
    def call(
        *args: Any, loop: object = None, executor: object = None, **kwargs: Any
    ) -> Awaitable[_T]:
        operation: Awaitable[_T] = _file_call(func, args, kwargs, None, executor)
        return operation

    return call


class Opening(Awaitable[_T], AbstractAsyncContextManager[_T, None], Generic[_T]):
    """What `open()` and its like return: `await` it for the object, or enter it with `async with`."""

    __slots__ = ("_make", "_object")

    def __init__(self, make: Callable[[], Awaitable[_T]]) -> None:
        self._make = make
        self._object: _T | None = None

    def __await__(self) -> Generator[Any, Any, _T]:
        if self._object is None:
            self._object = yield from self._make().__await__()
        return self._object

    async def __aenter__(self) -> _T:
        return await self

    async def __aexit__(self, *reason: object) -> None:
        opened: Any = self._object
        self._object = None
        await opened._leave(*reason)
