"""Files that `open()` made, for reading only or for writing only: a hop per block, not per line.

Nobody else uses the builtin's object below, so that it may be ahead of what the program has read. The
block that was read ahead is served without a thread; whatever else is asked for first puts the
builtin's object back to where the program believes it to be, and is then its affair.

Writing needs no thread as long as the builtin's buffer surely has room.
"""

from __future__ import annotations

import io
from typing import Any

from ._objects import AsyncBase, AsyncBufferedIOBase, AsyncBufferedReader, AsyncTextIOWrapper

#: How much is read ahead at first, and at most when a file is read on and on.
_FIRST, _MOST = 8192, 131072
#: How much is read to complete the last line of a block.
_LONG_LINE = 1 << 20


class _Reading(AsyncBase):
    """Reading ahead. The state below belongs to the thread while the strand is busy."""

    #: The block, of which `_at` characters or bytes are consumed. It begins where `_mark` says.
    _ahead: Any
    _at: int
    _mark: int
    _nothing: Any
    #: What ends a line; None for any of the three ways, undone.
    _line_end: Any

    def _begin(self, nothing: Any, line_end: Any, most: int) -> None:
        self._ahead = self._nothing = nothing
        self._at = self._mark = 0
        self._line_end = line_end
        self._size = min(_FIRST, most)
        self._most = most

    async def read(self, size: int | None = -1, /) -> Any:
        """Read at most that many characters or bytes, up to the end with -1 or None."""
        if type(size) is int and size > 0 and not self._strand.busy:
            end = self._at + size
            if end <= len(self._ahead):
                data = self._ahead[self._at : end]
                self._at = end
                return data
        return await self._call(self._read, size)

    async def readline(self, size: int | None = -1, /) -> Any:
        """Read up to the end of the line, of which at most that many characters or bytes."""
        if size == -1 and not self._strand.busy:
            end = self._end_of_line()
            if end:
                line = self._ahead[self._at : end]
                self._at = end
                return line
        return await self._call(self._readline, size)

    async def __anext__(self) -> Any:
        if not self._strand.busy:
            end = self._end_of_line()
            if end:
                line = self._ahead[self._at : end]
                self._at = end
                return line
        line = await self._call(self._readline, -1)
        if not line:
            raise StopAsyncIteration
        return line

    def detach(self) -> Any:
        """Give up the file below and return it, without waiting."""
        self._put_back()
        return self._file.detach()

    def _end_of_line(self) -> int:
        """Return the end of the line at `_at`, 0 if it is not in the block or cannot be told."""
        ahead, line_end = self._ahead, self._line_end
        if line_end is not None:
            found: int = ahead.find(line_end, self._at) + 1
            return found + len(line_end) - 1 if found else 0
        feed, carriage = ahead.find("\n", self._at), ahead.find("\r", self._at)
        if carriage < 0 or 0 <= feed < carriage:
            return int(feed + 1)
        if carriage + 1 == len(ahead):
            # The rest of the line's end may come.
            return 0
        return int(carriage + 1 + (ahead[carriage + 1] == "\n"))

    # What follows runs on a thread.

    def _operate(self, name: str, *args: Any) -> Any:
        self._put_back()
        return getattr(self._file, name)(*args)

    def _put_back(self) -> None:
        """Have the file below stand where the program believes it to be."""
        at, is_ahead = self._at, self._at < len(self._ahead)
        self._ahead, self._at = self._nothing, 0
        if is_ahead:
            self._size = min(_FIRST, self._most)
            self._go_to(self._mark, at)

    def _go_to(self, mark: int, at: int) -> None:
        raise NotImplementedError

    def _fill(self, *, lines: bool) -> bool:
        """Read a block behind what is consumed; false if it is better not to."""
        if not self._most or self._file.closed:
            return False
        try:
            mark = self._file.tell()
        except OSError:
            return False
        try:
            block = self._file.read(self._size)
            if lines and block and not block.endswith(self._line_end or "\n"):
                block += self._file.readline(_LONG_LINE)
        except UnicodeError:
            # The program is told when it comes to that point.
            self._file.seek(mark)
            return False
        self._ahead, self._at, self._mark = block, 0, mark
        self._size = min(self._size * 2, self._most)
        return True

    def _read(self, size: Any) -> Any:
        if size is None:
            size = -1
        if type(size) is not int:
            return self._operate("read", size)
        rest = self._ahead[self._at :]
        if 0 <= size <= len(rest):
            self._at += size
            return rest[:size] if size else self._file.read(0)
        if not rest:
            self._ahead, self._at = self._nothing, 0
            if size < 0 or size >= self._size or not self._fill(lines=False):
                return self._file.read(size)
            self._at = min(size, len(self._ahead))
            return self._ahead[: self._at]
        try:
            more = self._file.read(size if size < 0 else size - len(rest))
        except UnicodeError:
            return self._operate("read", size)
        self._ahead, self._at = self._nothing, 0
        return rest + more

    def _readline(self, size: Any) -> Any:
        if type(size) is not int or size >= 0:
            return self._operate("readline", size)
        end = self._end_of_line()
        if not end:
            self._put_back()
            if not self._fill(lines=True):
                return self._file.readline()
            end = self._end_of_line()
            if not end:
                # The last line, if it has no end, or a very long one.
                return self._operate("readline")
        line = self._ahead[self._at : end]
        self._at = end
        return line


class ReadingBytes(_Reading, AsyncBufferedReader):
    """A binary file that was opened for reading."""

    def __init__(self, file: Any, executor: object, most: int) -> None:
        super().__init__(file, None, executor)
        self._begin(b"", b"\n", most)

    async def tell(self) -> int:
        """Return the position."""
        if self._at < len(self._ahead) and not self._strand.busy:
            return self._mark + self._at
        position: int = await self._call(self._operate, "tell")
        return position

    def _go_to(self, mark: int, at: int) -> None:
        self._file.seek(mark + at)

    @property
    def raw(self) -> Any:
        """The file below the buffer. Whoever asks for it may move it: nothing is read ahead any more."""
        self._put_back()
        self._most = 0
        return self._file.raw


class ReadingText(_Reading, AsyncTextIOWrapper):
    """A text file that was opened for reading."""

    def __init__(self, file: Any, executor: object, most: int, newline: str | None) -> None:
        super().__init__(file, None, executor)
        self._begin("", "\n" if newline is None else newline or None, most)

    def _go_to(self, mark: int, at: int) -> None:
        self._file.seek(mark)
        if at:
            self._file.read(at)

    @property
    def buffer(self) -> Any:
        """The file below the decoder. Whoever asks for it may move it: nothing is read ahead any more."""
        self._put_back()
        self._most = 0
        return self._file.buffer


class _Writing(AsyncBase):
    """Writing into the builtin's buffer. `_room` is what that takes, at least, before it is written."""

    _room: int

    def _begin(self, capacity: int) -> None:
        self._room = self._capacity = capacity

    # What follows runs on a thread.

    def _write(self, data: Any) -> Any:
        result = self._file.write(data)
        self._file.flush()
        self._room = self._capacity
        return result

    def _operate(self, name: str, *args: Any) -> Any:
        result = getattr(self._file, name)(*args)
        if name == "flush":
            self._room = self._capacity
        elif name == "writelines":
            self._room = 0
        return result


class WritingBytes(_Writing, AsyncBufferedIOBase):
    """A binary file that was opened for writing."""

    def __init__(self, file: Any, executor: object, capacity: int) -> None:
        super().__init__(file, None, executor)
        self._begin(capacity)

    async def write(self, data: Any, /) -> int:
        """Write the bytes, to the buffer at first; return how many they are."""
        if type(data) is bytes and not self._strand.busy:
            left = self._room - len(data)
            if left >= 0:
                self._room = left
                written: int = self._file.write(data)
                return written
        result: int = await self._call(self._write, data)
        return result


class WritingText(_Writing, AsyncTextIOWrapper):
    """A text file that was opened for writing."""

    def __init__(self, file: Any, executor: object, capacity: int) -> None:
        super().__init__(file, None, executor)
        # No encoding makes more of a character than this, with a line's end and marks of the byte order.
        self._begin(capacity // 16)

    async def write(self, text: str, /) -> int:
        """Write the text, to the buffer at first; return its length."""
        if type(text) is str and not self._strand.busy:
            left = self._room - len(text)
            if left >= 0:
                self._room = left
                written: int = self._file.write(text)
                return written
        result: int = await self._call(self._write, text)
        return result


def capacity_of(buffered: io.BufferedWriter, buffering: int) -> int:
    """Return how many bytes the buffer has room for, at least."""
    if buffering > 1:
        return buffering
    size: int = getattr(buffered.raw, "_blksize", 0)
    return size if size > 1 else io.DEFAULT_BUFFER_SIZE
