"""Child processes with streams: create_subprocess_exec, create_subprocess_shell and Process."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from typing import Any

from ._ioxide import (
    BaseProcess,
    BaseProcessStreams,
    StreamReader,
    StreamWriter,
    create_subprocess_exec,
)

__all__ = ("create_subprocess_exec", "create_subprocess_shell")

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

logger = logging.getLogger("asyncio")

#: How many bytes a stream holds before the pipe is left alone for a while.
_LIMIT = 65536


class SubprocessStreamProtocol(BaseProcessStreams, asyncio.SubprocessProtocol):
    """Feeds a child's output into streams.

    On our own pipes neither bytes nor ends come through here: each pipe has a stream's protocol.
    """

    _paused = False
    _stdin_closed_or_none: Any = None

    def __repr__(self) -> str:
        info = [type(self).__name__]
        for name in ("stdin", "stdout", "stderr"):
            stream = getattr(self, name)
            if stream is not None:
                info.append(f"{name}={stream!r}")
        return f"<{' '.join(info)}>"

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._open_pipes: set[int] = set()
        self._drain_waiters: set[Any] = set()
        for fd in (0, 1, 2):
            pipe = transport.get_pipe_transport(fd)
            if pipe is not None:
                self._open(fd, pipe)

    def _open(self, fd: int, pipe: Any) -> None:
        if fd == 0:
            self.stdin = StreamWriter(pipe, protocol=self, reader=None, loop=self._loop)
            return
        reader = StreamReader(limit=self._limit, loop=self._loop)
        reader.set_transport(pipe)
        self._open_pipes.add(fd)
        if fd == 1:
            self.stdout = reader
        else:
            self.stderr = reader

    def _output(self, fd: int) -> Any:
        return {1: self.stdout, 2: self.stderr}.get(fd)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        reader = self._output(fd)
        if reader is not None:
            reader.feed_data(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._stdin_lost(exc)
            return
        reader = self._output(fd)
        if reader is not None:
            if exc is None:
                reader.feed_eof()
            else:
                reader.set_exception(exc)
        self._open_pipes.discard(fd)
        self._close_if_over()

    @property
    def _stdin_closed(self) -> Any:
        if self._stdin_closed_or_none is None:
            self._stdin_closed_or_none = self._loop.create_future()
        return self._stdin_closed_or_none

    def _stdin_lost(self, exc: Exception | None) -> None:
        if self.stdin is not None:
            self.stdin.close()
        self.connection_lost(exc)
        if self._stdin_closed.done():
            return
        if exc is None:
            self._stdin_closed.set_result(None)
        else:
            self._stdin_closed.set_exception(exc)
            # Nobody is obliged to wait for it.
            self._stdin_closed._log_traceback = False

    def process_exited(self) -> None:
        self._process_exited = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._process_exited and not self._open_pipes:
            self._transport.close()
            self._transport = None

    # What a StreamWriter asks of its protocol.

    def _get_close_waiter(self, stream: Any) -> Any:
        return self._stdin_closed if stream is self.stdin else None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._release_drains(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection_lost = True
        self._release_drains(exc)

    def _release_drains(self, exc: Exception | None) -> None:
        for waiter in self._drain_waiters:
            if not waiter.done():
                if exc is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(exc)

    async def _drain_helper(self) -> None:
        if self._connection_lost:
            raise ConnectionResetError("Connection lost")
        if not self._paused:
            return
        waiter = self._loop.create_future()
        self._drain_waiters.add(waiter)
        try:
            await waiter
        finally:
            self._drain_waiters.discard(waiter)


class Process(BaseProcess):
    """A child process, as create_subprocess_exec and create_subprocess_shell return it.

    Not thread-safe: other threads use it by `loop.call_soon_threadsafe()`.
    """

    async def communicate(self, input: Any = None) -> tuple[bytes | None, bytes | None]:
        """Write the input, read all output, wait for the end; return stdout and stderr.

        Each is None unless it is a pipe. That the process does not read its input is no error.
        There is no limit in time: `asyncio.wait_for()` sets one, and leaves the process running.
        """
        stdout = stderr = None
        if self._write_input(input) and (self.stdout is None or self.stderr is None):
            # There is one stream to wait for, at most: that needs no tasks.
            if self.stdout is not None:
                stdout = await self._read(1, self.stdout)
            elif self.stderr is not None:
                stderr = await self._read(2, self.stderr)
        else:
            _, stdout, stderr = await asyncio.gather(
                self._drain_input(), self._read(1, self.stdout), self._read(2, self.stderr)
            )
        await self.wait()
        return stdout, stderr

    def _write_input(self, input: Any) -> bool:
        """Write the input; whether there is nothing to wait for any more, and it is closed."""
        stdin = self.stdin
        if stdin is None:
            return True
        try:
            if input is not None:
                stdin.write(input)
                if self._loop.get_debug():
                    logger.debug("%r communicate: feed stdin (%s bytes)", self, len(input))
        except (BrokenPipeError, ConnectionResetError) as error:
            self._input_refused(error)
        if type(stdin) is not StreamWriter or stdin.transport.get_write_buffer_size() > 0:
            return False
        self._close_input()
        return True

    async def _drain_input(self) -> None:
        if self.stdin is None:
            return
        try:
            await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            self._input_refused(error)
        self._close_input()

    def _input_refused(self, error: Exception) -> None:
        # A program need not read all of its input.
        if self._loop.get_debug():
            logger.debug("%r communicate: stdin got %r", self, error)

    def _close_input(self) -> None:
        if self._loop.get_debug():
            logger.debug("%r communicate: close stdin", self)
        self.stdin.close()

    async def _read(self, fd: int, stream: Any) -> bytes | None:
        if stream is None:
            return None
        debug = self._loop.get_debug()
        if debug:
            name = "stdout" if fd == 1 else "stderr"
            logger.debug("%r communicate: read %s", self, name)
        output: bytes = await stream.read()
        if debug:
            logger.debug("%r communicate: close %s", self, name)
        self._transport.get_pipe_transport(fd).close()
        return output


async def create_subprocess_shell(
    cmd: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    **kwds: Any,
) -> Process:
    """Run a line of the shell; the keywords are those of `subprocess.Popen`.

    Return a Process, whose streams are there for what is PIPE; None, the default, is the parent's.
    `limit` is that of the readers, in bytes. OSError if the shell cannot be started.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_shell(
        lambda: SubprocessStreamProtocol(limit, loop),
        cmd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)


async def _exec_by_loop(
    loop: Any, limit: int, args: tuple[Any, ...], stdio: tuple[Any, Any, Any], kwds: Any
) -> Process:
    """Run a program by the loop's own method, which a program may have replaced, or with any option."""
    stdin, stdout, stderr = stdio
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit, loop),
        *args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)
