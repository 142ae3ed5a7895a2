"""Files as objects whose methods are awaited: the builtin's own, operated on threads.

One operation of an object at a time: each has its turn in the order in which it was awaited. What
of a file is in memory already is read and written without a thread: see `_buffered`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .._ioxide import FileStrand, _file_call

_Self = TypeVar("_Self", bound="AsyncBase")


class AsyncBase:
    """What all of them have. `_file` is the builtin's object."""

    _file: Any

    def __init__(self, file: Any, loop: object = None, executor: object = None) -> None:
        self._file = file
        self._executor = executor
        self._strand = FileStrand()

    def __repr__(self) -> str:
        return f"{super().__repr__()} wrapping {self._file!r}"

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Any:
        line = await self._call(self._file.readline)
        if not line:
            raise StopAsyncIteration
        return line

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._leave(*reason)

    def _call(self, func: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Call the function on a thread when it is this object's turn."""
        operation: Awaitable[Any] = _file_call(func, args, None, self._strand, self._executor)
        return operation

    def _call_always(self, func: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """As `_call`, but done also if whoever awaits it is cancelled."""
        operation: Awaitable[Any] = _file_call(
            func, args, None, self._strand, self._executor, None, True
        )
        return operation

    def _operate(self, name: str, *args: Any) -> Any:
        """On a thread: the method of the builtin's object."""
        return getattr(self._file, name)(*args)

    def _leave(self, *reason: object) -> Awaitable[Any]:
        return self._call_always(self._operate, "__exit__", *reason)

    def close(self) -> Awaitable[None]:
        """Write what is left and close the file. Done even if the caller is cancelled meanwhile."""
        return self._call_always(self._operate, "close")

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    @property
    def name(self) -> Any:
        return self._file.name

    @property
    def mode(self) -> Any:
        return self._file.mode

    def fileno(self) -> Any:
        """Return the descriptor, without waiting."""
        return self._file.fileno()


def _operation(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Awaitable[Any]:
        operation: Awaitable[Any] = self._call(self._operate, name, *args)
        return operation

    method.__name__ = name
    method.__qualname__ = f"AsyncBase.{name}"
    method.__doc__ = f"As `{name}()` of the builtin's file, on a thread."
    return method


class _AsyncIOBase(AsyncBase):
    """What files of every kind have."""

    flush = _operation("flush")
    isatty = _operation("isatty")
    read = _operation("read")
    readline = _operation("readline")
    readlines = _operation("readlines")
    seek = _operation("seek")
    seekable = _operation("seekable")
    tell = _operation("tell")
    truncate = _operation("truncate")
    writable = _operation("writable")
    write = _operation("write")
    writelines = _operation("writelines")


class AsyncFileIO(_AsyncIOBase):
    """`io.FileIO`: bytes without a buffer."""

    readall = _operation("readall")
    readinto = _operation("readinto")

    def readable(self) -> bool:
        """Return whether the file was opened for reading, without waiting."""
        return bool(self._file.readable())


class AsyncBufferedIOBase(_AsyncIOBase):
    """`io.BufferedWriter`, and any other buffered binary file."""

    read1 = _operation("read1")
    readinto = _operation("readinto")

    def readable(self) -> bool:
        """Return whether the file was opened for reading, without waiting."""
        return bool(self._file.readable())

    def detach(self) -> Any:
        """Give up the raw file and return it, without waiting."""
        return self._file.detach()

    @property
    def raw(self) -> Any:
        return self._file.raw


class AsyncBufferedReader(AsyncBufferedIOBase):
    """`io.BufferedReader` and `io.BufferedRandom`."""

    peek = _operation("peek")


class AsyncTextIOWrapper(_AsyncIOBase):
    """`io.TextIOWrapper`, and any other text file."""

    readable = _operation("readable")

    def detach(self) -> Any:
        """Give up the binary file and return it, without waiting."""
        return self._file.detach()

    @property
    def buffer(self) -> Any:
        return self._file.buffer

    @property
    def encoding(self) -> Any:
        return self._file.encoding

    @property
    def errors(self) -> Any:
        return self._file.errors

    @property
    def line_buffering(self) -> Any:
        return self._file.line_buffering

    @property
    def newlines(self) -> Any:
        return self._file.newlines
