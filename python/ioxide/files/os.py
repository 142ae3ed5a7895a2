"""Functions of `os` that may wait for a disk, each called on a thread: `await ioxide.files.os.stat(path)`.

Parameters, results and errors are those of `os`. Two differ: `scandir` and `walk` return objects
for `async for`; `scandir`'s can also be awaited, for an ordinary iterator, as in aiofiles.
"""

from __future__ import annotations

import itertools as _itertools
import os as _os
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from typing import Any

from .._ioxide import _file_call
from . import ospath as path
from ._base import wrap

__all__ = [
    "access",
    "fsync",
    "getcwd",
    "link",
    "listdir",
    "makedirs",
    "mkdir",
    "path",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "walk",
    "wrap",
]

access = wrap(_os.access)
fsync = wrap(_os.fsync)
getcwd = wrap(_os.getcwd)
link = wrap(_os.link)
listdir = wrap(_os.listdir)
makedirs = wrap(_os.makedirs)
mkdir = wrap(_os.mkdir)
readlink = wrap(_os.readlink)
remove = wrap(_os.remove)
removedirs = wrap(_os.removedirs)
rename = wrap(_os.rename)
renames = wrap(_os.renames)
replace = wrap(_os.replace)
rmdir = wrap(_os.rmdir)
sendfile = wrap(_os.sendfile)
stat = wrap(_os.stat)
statvfs = wrap(_os.statvfs)
symlink = wrap(_os.symlink)
truncate = wrap(_os.truncate)
unlink = wrap(_os.unlink)

#: How many entries of a directory one call to a thread brings.
_ENTRIES = 512


class scandir(Awaitable["Iterator[_os.DirEntry[Any]]"]):
    """The entries of a directory: `async for entry in scandir(path)`.

    Awaited, it gives `os.scandir(path)` itself. With `async with` the directory is closed at the
    end also if not all entries were asked for; otherwise it is closed when it is collected.
    """

    def __init__(self, path: Any = ".", *, loop: object = None, executor: object = None) -> None:
        self._path = path
        self._executor = executor
        self._entries: Any = None
        self._ahead: list[_os.DirEntry[Any]] = []
        self._is_over = False

    def __await__(self) -> Generator[Any, Any, Any]:
        opened = yield from self._call(_os.scandir, self._path, dispose=_close).__await__()
        return opened

    def __aiter__(self) -> AsyncIterator[_os.DirEntry[Any]]:
        return self

    async def __anext__(self) -> _os.DirEntry[Any]:
        if not self._ahead and not self._is_over:
            if self._entries is None:
                self._entries = await self
            self._ahead = await self._call(_next_entries, self._entries)
            self._ahead.reverse()
            self._is_over = not self._ahead
        if not self._ahead:
            raise StopAsyncIteration
        return self._ahead.pop()

    async def __aenter__(self) -> scandir:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the directory, if it is open."""
        entries, self._entries = self._entries, None
        self._is_over = True
        self._ahead.clear()
        if entries is not None:
            await self._call(entries.close)

    def _call(self, func: Any, *args: Any, dispose: Any = None) -> Any:
        return _file_call(func, args, None, None, self._executor, dispose)


def _close(entries: Any) -> None:
    entries.close()


def _next_entries(entries: Iterator[_os.DirEntry[Any]]) -> list[_os.DirEntry[Any]]:
    return list(_itertools.islice(entries, _ENTRIES))


async def walk(
    top: Any, topdown: bool = True, onerror: Any = None, followlinks: bool = False
) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
    """Yield (path, directories, files) for each directory below `top`, as `os.walk` does.

    With `topdown` the list of directories may be changed, to say which ones are walked.
    """
    steps = _os.walk(top, topdown, onerror, followlinks)
    while (step := await _file_call(next, (steps, None))) is not None:
        yield step
