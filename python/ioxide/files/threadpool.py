"""`open()`, `wrap()` and the standard streams; the name of the module is aiofiles'."""

from __future__ import annotations

import builtins
import functools
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

from .._ioxide import _file_call
from ._base import Opening
from ._buffered import ReadingBytes, ReadingText, WritingBytes, WritingText, capacity_of
from ._objects import (
    AsyncBase,
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AsyncTextIOWrapper,
)

#: The builtin; tests of programs that use aiofiles replace it here.
sync_open = builtins.open

__all__ = [
    "AsyncBufferedIOBase",
    "AsyncBufferedReader",
    "AsyncFileIO",
    "AsyncTextIOWrapper",
    "open",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "wrap",
]

#: How many bytes of a file are read ahead, at most, unless the program says.
_READ_AHEAD = 128 * 1024


def open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: object = None,
    executor: object = None,
) -> Opening[Any]:
    """Open a file as the builtin does: `async with open(path) as file`, or `file = await open(path)`.

    The parameters are the builtin's, and its errors are raised when the result is awaited. `executor`
    is any executor of `concurrent.futures` that runs threads, the loop's default one if None; `loop`
    is not needed. Operations on the file run one at a time, in the order in which they are awaited.

    A regular file that is opened for reading is read ahead by up to 128 KiB (`buffering`, if given), and
    by nothing with `buffering=0`.
    """
    arguments = (file, mode, buffering, encoding, errors, newline, closefd, opener)
    return Opening(
        lambda: _file_call(_open, (executor, *arguments), None, None, executor, _close_unused)
    )


def _open(executor: object, file: Any, mode: str, buffering: int, *options: Any) -> AsyncBase:
    """On a thread: open the file, and find out how it may be read and written."""
    opened: Any = sync_open(file, mode, buffering, *options)
    if not _is_ours(opened):
        return _wrapped(opened, executor)
    most = buffering if buffering > 1 else _READ_AHEAD
    kind = type(opened)
    if kind is io.BufferedReader:
        return ReadingBytes(opened, executor, most)
    if kind is io.BufferedWriter:
        return WritingBytes(opened, executor, capacity_of(opened, buffering))
    if kind is io.TextIOWrapper:
        below = type(opened.buffer)
        if below is io.BufferedReader:
            return ReadingText(opened, executor, most, options[2])
        if below is io.BufferedWriter and not opened.line_buffering:
            capacity = capacity_of(opened.buffer, buffering)
            return WritingText(opened, executor, capacity, options[2])
    return _wrapped(opened, executor)


def _wrapped(opened: object, executor: object) -> AsyncBase:
    wrapped: AsyncBase = wrap(opened, executor=executor)
    return wrapped


def _is_ours(opened: Any) -> bool:
    """Whether it is a regular file, with a position that nobody else moves."""
    if not isinstance(getattr(opened, "name", None), str | bytes):
        # A descriptor of the program's.
        return False
    return stat.S_ISREG(os.fstat(opened.fileno()).st_mode)


def _close_unused(file: AsyncBase) -> None:
    file._file.close()


@functools.singledispatch
def wrap(file: Any, *, loop: object = None, executor: object = None) -> Any:
    """Return an object with the file's methods, each called on a thread; TypeError for what is no file."""
    raise TypeError(f"Unsupported io type: {file}.")


@wrap.register(io.TextIOBase)
def _(file: Any, *, loop: object = None, executor: object = None) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file, loop, executor)


@wrap.register(io.BufferedWriter)
@wrap.register(io.BufferedIOBase)
def _(file: Any, *, loop: object = None, executor: object = None) -> AsyncBufferedIOBase:
    return AsyncBufferedIOBase(file, loop, executor)


@wrap.register(io.BufferedReader)
@wrap.register(io.BufferedRandom)
def _(file: Any, *, loop: object = None, executor: object = None) -> AsyncBufferedReader:
    return AsyncBufferedReader(file, loop, executor)


@wrap.register(io.FileIO)
def _(file: Any, *, loop: object = None, executor: object = None) -> AsyncFileIO:
    return AsyncFileIO(file, loop, executor)


class _StandardText(AsyncTextIOWrapper):
    """A stream of `sys`, whichever object that has when it is used."""

    def __init__(self, name: str) -> None:
        super().__init__(None)
        self._name = name

    @property
    def _file(self) -> Any:
        return getattr(sys, self._name)

    @_file.setter
    def _file(self, file: object) -> None:
        """Whatever `sys` has is used."""


class _StandardBytes(AsyncBufferedIOBase):
    """The bytes of a stream of `sys`."""

    def __init__(self, name: str) -> None:
        super().__init__(None)
        self._name = name

    @property
    def _file(self) -> Any:
        return getattr(sys, self._name).buffer

    @_file.setter
    def _file(self, file: object) -> None:
        """Whatever `sys` has is used."""


stdin = _StandardText("stdin")
stdout = _StandardText("stdout")
stderr = _StandardText("stderr")
stdin_bytes = _StandardBytes("stdin")
stdout_bytes = _StandardBytes("stdout")
stderr_bytes = _StandardBytes("stderr")
