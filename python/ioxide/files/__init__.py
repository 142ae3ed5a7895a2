"""Files without blocking the loop, which asyncio lacks.

* whole operations, each one hop to a thread: `read_bytes`, `read_text`, `write_bytes`,
  `write_text`, `append`, `copy`;
* `open()`, as the builtin, for `async with` or `await`, giving objects with the interface of
  aiofiles;
* `ioxide.files.os`, `ioxide.files.tempfile`, and `stdin`, `stdout`, `stderr`.

A program written for aiofiles works with `from ioxide import files as aiofiles`.

Errors are those of the builtins: the same classes, `errno`s and file names. An operation that is
cancelled before it begins is not done; one that is under way is finished by its thread, and its
result disposed of. Everything here is for the thread that runs the loop, as asyncio's own objects
are. On a loop that is not ioxide's, the operations run in that loop's executor.
"""

from __future__ import annotations

from .._ioxide import copy, read_bytes, write_bytes
from . import os, ospath, tempfile, threadpool
from ._whole import append, read_text, write_text
from .threadpool import (
    open,
    stderr,
    stderr_bytes,
    stdin,
    stdin_bytes,
    stdout,
    stdout_bytes,
    wrap,
)

__all__ = [
    "append",
    "copy",
    "open",
    "os",
    "ospath",
    "read_bytes",
    "read_text",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
    "threadpool",
    "wrap",
    "write_bytes",
    "write_text",
]
