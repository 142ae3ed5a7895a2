"""Temporary files and directories: `tempfile`, on threads.

Each function takes what `tempfile`'s takes, `loop` and `executor` as `ioxide.files.open` does, and
returns what can be awaited or entered with `async with`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from .._ioxide import _file_call
from ._base import Opening
from ._objects import AsyncBase, _AsyncIOBase, _operation
from .threadpool import wrap

__all__ = [
    "NamedTemporaryFile",
    "SpooledTemporaryFile",
    "TemporaryDirectory",
    "TemporaryFile",
]


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    loop: object = None,
    executor: object = None,
    *,
    errors: str | None = None,
) -> Opening[Any]:
    """Open a file without a name, which is gone when it is closed."""
    options = _options(mode, buffering, encoding, newline, suffix, prefix, dir, errors)
    return _opening(executor, tempfile.TemporaryFile, options)


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    delete: bool = True,
    delete_on_close: bool = True,
    loop: object = None,
    executor: object = None,
    *,
    errors: str | None = None,
) -> Opening[Any]:
    """Open a file that is deleted when it is closed.

    With `delete_on_close=False` it is deleted at the end of `async with` only, which needs Python 3.12.
    """
    options = _options(mode, buffering, encoding, newline, suffix, prefix, dir, errors)
    options["delete"] = delete
    if sys.version_info >= (3, 12):
        options["delete_on_close"] = delete_on_close
    elif not delete_on_close:
        raise TypeError("delete_on_close=False needs Python 3.12")
    return _opening(executor, tempfile.NamedTemporaryFile, options)


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    loop: object = None,
    executor: object = None,
    *,
    errors: str | None = None,
) -> Opening[AsyncSpooledTemporaryFile]:
    """Open a file that is kept in memory until it is larger than `max_size`."""
    options = _options(mode, buffering, encoding, newline, suffix, prefix, dir, errors)
    options["max_size"] = max_size
    return _opening(executor, tempfile.SpooledTemporaryFile, options)


def TemporaryDirectory(
    suffix: Any = None,
    prefix: Any = None,
    dir: Any = None,
    loop: object = None,
    executor: object = None,
) -> _OpeningDirectory:
    """Make a directory that is removed with all that is in it; `async with` gives its name."""
    return _OpeningDirectory(_made(executor, _make_directory, suffix, prefix, dir))


class AsyncSpooledTemporaryFile(_AsyncIOBase):
    """What `SpooledTemporaryFile` gives."""

    fileno = _operation("fileno")
    rollover = _operation("rollover")

    @property
    def encoding(self) -> Any:
        return self._file.encoding

    @property
    def newlines(self) -> Any:
        return self._file.newlines


class AsyncTemporaryDirectory(AsyncBase):
    """What `await TemporaryDirectory()` gives: `name` is its path."""

    def cleanup(self) -> Any:
        """Remove the directory and all that is in it."""
        return self._call_always(self._operate, "cleanup")

    def close(self) -> Any:
        """Remove the directory and all that is in it."""
        return self.cleanup()


class _OpeningDirectory(Opening[AsyncTemporaryDirectory]):
    async def __aenter__(self) -> Any:
        return (await self).name


def _options(
    mode: str,
    buffering: int,
    encoding: str | None,
    newline: str | None,
    suffix: Any,
    prefix: Any,
    dir: Any,
    errors: str | None,
) -> dict[str, Any]:
    return {
        "mode": mode,
        "buffering": buffering,
        "encoding": encoding,
        "newline": newline,
        "suffix": suffix,
        "prefix": prefix,
        "dir": dir,
        "errors": errors,
    }


def _opening(executor: object, make: Any, options: dict[str, Any]) -> Opening[Any]:
    return Opening(_made(executor, _open, make, options))


def _made(executor: object, make: Callable[..., AsyncBase], *args: Any) -> Callable[[], Any]:
    """Return what has `make` called on a thread; what nobody waits for any more is closed."""
    return lambda: _file_call(make, (executor, *args), None, None, executor, _close_unused)


def _open(executor: object, make: Any, options: dict[str, Any]) -> AsyncBase:
    file = make(**options)
    if isinstance(file, tempfile.SpooledTemporaryFile):
        return AsyncSpooledTemporaryFile(file, None, executor)
    if isinstance(file, io.IOBase):
        opened: AsyncBase = wrap(file, executor=executor)
        return opened
    # A file of a class that depends on the mode, in a wrapper that deletes it: the wrapper has its methods.
    opened = wrap(file.file, executor=executor)
    opened._file = file
    vars(opened)["delete"] = options["delete"]
    return opened


def _make_directory(executor: object, *options: Any) -> AsyncTemporaryDirectory:
    return AsyncTemporaryDirectory(tempfile.TemporaryDirectory(*options), None, executor)


def _close_unused(opened: AsyncBase) -> None:
    opened._file.__exit__(None, None, None)
