"""Files that `open()` made, for reading only or for writing only: a hop per block, not per line.

What of them is asked for line by line is native (`BaseFileReader`, `BaseFileWriter`); this is the rest.
"""

from __future__ import annotations

import codecs
import io
from typing import Any

from .._ioxide import BaseFileReader, BaseFileWriter
from ._objects import AsyncBufferedIOBase, AsyncBufferedReader, AsyncTextIOWrapper

#: Encodings that make no more bytes of a text than UTF-8 does, …
_AS_UTF8 = frozenset({"utf-8", "ascii", "iso8859-1"})
#: … with these ways to treat what they cannot encode.
_SHORT_ERRORS = frozenset({"strict", "ignore", "replace", "surrogateescape", "surrogatepass"})
#: No other encoding makes more of a character, with a line's end and marks of the byte order.
_MOST_PER_CHARACTER = 16


class ReadingBytes(BaseFileReader, AsyncBufferedReader):
    """A binary file that was opened for reading."""

    def __init__(self, file: Any, executor: object, most: int) -> None:
        super().__init__(file, executor, most, None, False)

    async def tell(self) -> int:
        """Return the position."""
        position = self._position()
        if position is not None:
            return position
        told: int = await self._call(self._operate, "tell")
        return told

    def detach(self) -> Any:
        """Give up the file below and return it, without waiting."""
        self._put_back()
        return self._file.detach()

    @property
    def raw(self) -> Any:
        """The file below the buffer. Whoever asks for it may move it: nothing is read ahead any more."""
        self._stop()
        return self._file.raw


class ReadingText(BaseFileReader, AsyncTextIOWrapper):
    """A text file that was opened for reading."""

    def __init__(self, file: Any, executor: object, most: int, newline: str | None) -> None:
        super().__init__(file, executor, most, newline, True)

    def detach(self) -> Any:
        """Give up the file below and return it, without waiting."""
        self._put_back()
        return self._file.detach()

    @property
    def buffer(self) -> Any:
        """The file below the decoder. Whoever asks for it may move it: nothing is read ahead any more."""
        self._stop()
        return self._file.buffer


class WritingBytes(BaseFileWriter, AsyncBufferedIOBase):
    """A binary file that was opened for writing."""

    def __init__(self, file: Any, executor: object, capacity: int) -> None:
        super().__init__(file, executor, capacity, 0, 0)


class WritingText(BaseFileWriter, AsyncTextIOWrapper):
    """A text file that was opened for writing."""

    def __init__(self, file: Any, executor: object, capacity: int, newline: str | None) -> None:
        name = codecs.lookup(file.encoding).name
        if name in _AS_UTF8 and file.errors in _SHORT_ERRORS:
            per_byte, per_character = 2 if newline == "\r\n" else 1, 0
        else:
            per_byte, per_character = 0, _MOST_PER_CHARACTER
        super().__init__(file, executor, capacity, per_byte, per_character)


def capacity_of(buffered: io.BufferedWriter, buffering: int) -> int:
    """Return how many bytes the buffer has room for, at least."""
    if buffering > 1:
        return buffering
    # Its size differs between versions of Python; what is there can be seen by what it takes.
    size: int = buffered.__sizeof__() - io.BufferedWriter.__basicsize__
    return max(size, 0)
