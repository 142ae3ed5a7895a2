"""Child processes on the loop: the transport, and the loop's methods that make it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
import subprocess
import warnings
from collections.abc import Awaitable
from types import MappingProxyType
from typing import Any

from . import subprocess as _streams
from ._ioxide import BaseLoop, _read_pipe_transport, _start, _write_pipe_transport, sleep
from ._pipe_ends import ReadPipeProtocol, StreamEnd, WritePipeProtocol
from ._popen import Popen
from .endpoints import EndpointMethods
from .subprocess import PLAIN_OPTIONS, SubprocessStreamProtocol

logger = logging.getLogger("asyncio")

_PIPE = subprocess.PIPE
_NO_PIPES = (False, False, False)


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process, its pipes, and the protocol that is told about them.

    The protocol's `connection_made` comes first, whatever has happened by then, and
    `connection_lost` last: when the process has exited and all pipes are closed.
    """

    #: Until there is something to close.
    _closed = True
    _returncode: int | None = None
    _popen: Popen | None = None
    _pending_calls: list[tuple[Any, ...]] | None = None
    #: The ends of pipes by the child's numbers, None for one that is not connected yet.
    _pipes: Any = MappingProxyType({})
    #: How many of the child's output streams are open, with our own protocol.
    _outputs = 0

    def __init__(
        self,
        loop: Any,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        options: dict[str, Any],
    ) -> None:
        # All that the base class's constructor does.
        self._extra: dict[str, Any] = {}
        self._loop: Any = loop
        self._protocol: Any = protocol
        self._args = args
        self._exit_waiters: list[Any] | None = []
        plain = not options or options.keys() <= PLAIN_OPTIONS
        pipes = _NO_PIPES
        if stdin is not None or stdout is not None or stderr is not None:
            ends: dict[int, Any] = {}
            self._pipes = ends
            for fd, where in ((0, stdin), (1, stdout), (2, stderr)):
                if where == _PIPE:
                    ends[fd] = None
                if where is not None and where is not _PIPE:
                    plain = False
            pipes = (stdin is not None, stdout is not None, stderr is not None)
        #: Our own protocol need not be told of what its streams know.
        self._is_direct = type(protocol) is SubprocessStreamProtocol and (
            not self._pipes or _connects_itself(loop)
        )
        if not self._is_direct:
            self._pending_calls = []
        if plain:
            if subprocess._active:  # type: ignore[attr-defined]
                subprocess._cleanup()  # type: ignore[attr-defined]
            self._child: Any = _start(args, shell, pipes, options.get("cwd"), options.get("env"))
        else:
            self._popen = Popen(args, shell, stdin, stdout, stderr, **options)
            self._child = self._popen._child
        self._closed = False
        self._pid: int = self._child.pid
        self._child.watch(loop, self)
        if loop.get_debug():
            program = args if isinstance(args, (bytes, str)) else args[0]
            logger.debug("process %r created: pid %s", program, self._pid)

    @property
    def _proc(self) -> Any:
        """The process as a Popen; None after the end."""
        return None if self._protocol is None else self._as_popen()

    def _as_popen(self) -> Popen:
        # Made for those who look: most programs never do.
        if self._popen is None:
            self._popen = Popen.of(self._child, self._args, self._returncode)
        return self._popen

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the process as a `subprocess.Popen` for the name "subprocess"."""
        return self._as_popen() if name == "subprocess" else super().get_extra_info(name, default)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._closed:
            info.append("closed")
        info.append(f"pid={self._pid}")
        if self._returncode is not None:
            info.append(f"returncode={self._returncode}")
        else:
            info.append("running")
        for name, fd in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            if self._pipes.get(fd) is not None:
                info.append(f"{name}={self._pipes[fd].pipe}")
        return f"<{' '.join(info)}>"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the pipes, and kill the process if it still runs."""
        if self._closed:
            return
        self._closed = True
        # Without its loop a pipe closes when it is dropped.
        if self._pipes and self._loop is not None and not self._loop.is_closed():
            for end in self._pipes.values():
                if end is not None:
                    end.pipe.close()
        if self._returncode is not None or self._protocol is None:
            return
        if self._child.poll() is not None:
            return
        if self._loop.get_debug():
            logger.warning("Close running child process: kill %r", self)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # another user's by now
            self._child.send_signal(signal.SIGKILL)
        if self._loop.is_closed() and subprocess._active is not None:  # type: ignore[attr-defined]
            # Whoever starts the next child reaps this one.
            subprocess._active.append(self._as_popen())  # type: ignore[attr-defined]

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        end = self._pipes.get(fd)
        return None if end is None else end.pipe

    def send_signal(self, signal: int) -> None:
        """Send the signal, unless the process has exited; ProcessLookupError after the end."""
        if self._protocol is None:
            raise ProcessLookupError()
        if self._returncode is None:
            with contextlib.suppress(ProcessLookupError):  # as a Popen has it
                self._child.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _open_streams(self) -> None:
        """Connect the pipes to the streams of our own protocol."""
        protocol = self._protocol
        if (popen := self._popen) is None:
            pipes, may_grow = self._child.pipes, True
        else:
            # Unless the program has said how large they are to be.
            pipes, may_grow = _pipes_of(popen), popen.pipesize < 0
        try:
            for fd in self._pipes:
                end = StreamEnd(self, fd)
                end.pipe = protocol.open_stream(fd, pipes[fd], end.connection_lost, may_grow)
                self._pipes[fd] = end
                self._outputs += fd > 0
        except BaseException:
            _close_all(pipes)
            raise

    async def _connect_pipes(self) -> None:
        """Give the pipes their transports."""
        pipes = self._child.pipes if self._popen is None else _pipes_of(self._popen)
        try:
            for fd in self._pipes:
                await self._connect_pipe(fd, pipes[fd])
        except BaseException:
            _close_all(pipes)
            raise

    async def _connect_pipe(self, fd: int, pipe: Any) -> None:
        loop = self._loop
        kind: Any = ReadPipeProtocol if fd else WritePipeProtocol
        if not _connects_itself(loop):
            # A subclass, or a program that wraps transports, has a word in it.
            connect = loop.connect_read_pipe if fd else loop.connect_write_pipe
            _, self._pipes[fd] = await connect(lambda: kind(self, fd), pipe)
            return
        # Its connection_made comes in the next turn, as the process's own will, and before that.
        make = _read_pipe_transport if fd else _write_pipe_transport
        end = kind(self, fd)
        end.pipe = make(loop, pipe, end, None, contextvars.copy_context())
        self._pipes[fd] = end

    def _begin(self) -> None:
        """Begin to tell the protocol; what has happened so far is told of afterwards."""
        pending, self._pending_calls = self._pending_calls, None
        self._loop.call_soon(self._protocol.connection_made, self)
        for call in pending or ():
            self._loop.call_soon(*call)

    def _call(self, callback: Any, *args: Any) -> None:
        if self._pending_calls is not None:
            self._pending_calls.append((callback, *args))
        else:
            self._loop.call_soon(callback, *args)

    def _pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._finish_if_over()

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _stream_lost(self, fd: int) -> None:
        """A pipe of our own protocol is closed; its stream has been told."""
        if fd:
            self._outputs -= 1
        else:
            self._protocol.stdin.close()
            self._protocol._connection_lost = True
        if self._returncode is not None:
            self._finish_streams()

    def _finish_streams(self) -> None:
        """The process has exited: without output to come, nothing else is of use, either."""
        if not self._outputs:
            self.close()
        for end in self._pipes.values():
            if end is None or not end.disconnected:
                return
        self._forget()

    def _forget(self) -> None:
        """Everything is over, for our own protocol as well."""
        self._protocol._connection_lost = True
        self._protocol._transport = None
        self._loop = self._protocol = None

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        if self._popen is not None:
            self._popen.returncode = returncode
        if self._is_direct:
            self._protocol._process_exited = True
        else:
            self._call(self._protocol.process_exited)
        # Those who wait for the process need not wait for its pipes, which a grandchild may hold.
        waiters, self._exit_waiters = self._exit_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(returncode)
        if not self._is_direct:
            self._finish_if_over()
        elif self._pipes:
            self._finish_streams()
        else:
            self._closed = True
            self._forget()

    def _wait(self) -> Awaitable[int]:
        """Wait until the process has exited, and return its return code."""
        if self._returncode is not None:
            return _at_once(self._returncode)
        waiters = self._exit_waiters
        assert waiters is not None
        if waiters and waiters[-1].done():
            # Cancelled: who asks again and again must not be kept again and again.
            waiters[:] = [waiter for waiter in waiters if not waiter.done()]
        waiter: asyncio.Future[int] = self._loop.create_future()
        waiters.append(waiter)
        return waiter

    def _finish_if_over(self) -> None:
        if self._returncode is None:
            return
        for end in self._pipes.values():
            if end is None or not end.disconnected:
                return
        self._call(self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._loop = self._protocol = None


class ProcessMethods(BaseLoop):
    """What `ioxide.EventLoop` has for child processes."""

    async def subprocess_shell(
        self,
        protocol_factory: Any,
        cmd: Any,
        *,
        stdin: Any = _PIPE,
        stdout: Any = _PIPE,
        stderr: Any = _PIPE,
        universal_newlines: Any = False,
        shell: Any = True,
        bufsize: int = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run a line of the shell; kwargs are those of `subprocess.Popen`."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        _refuse_text(universal_newlines, bufsize, encoding, errors, text)
        if not shell:
            raise ValueError("shell must be True")
        return await self._start_process(
            # Without parameters: they may be secret.
            "run shell command",
            protocol_factory(),
            cmd,
            True,
            (stdin, stdout, stderr),
            kwargs,
        )

    async def subprocess_exec(
        self,
        protocol_factory: Any,
        program: Any,
        *args: Any,
        stdin: Any = _PIPE,
        stdout: Any = _PIPE,
        stderr: Any = _PIPE,
        universal_newlines: Any = False,
        shell: Any = False,
        bufsize: int = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run a program; kwargs are those of `subprocess.Popen`."""
        _refuse_text(universal_newlines, bufsize, encoding, errors, text)
        if shell:
            raise ValueError("shell must be False")
        return await self._start_process(
            "execute program",
            protocol_factory(),
            (program, *args),
            False,
            (stdin, stdout, stderr),
            kwargs,
        )

    async def _start_process(
        self,
        what: str,
        protocol: Any,
        args: Any,
        shell: bool,
        stdio: tuple[Any, Any, Any],
        options: dict[str, Any],
    ) -> Any:
        debug = self.get_debug()
        if debug:
            what = f"{what} {args if shell else args[0]!r}"
            logger.debug(_describe(what, *stdio))
        transport = SubprocessTransport(self, protocol, args, shell, *stdio, options)
        try:
            if transport._is_direct:
                protocol._transport = transport
                if transport._pipes:
                    transport._open_streams()
            else:
                await transport._connect_pipes()
                transport._begin()
            # The protocol has been told by the time the program goes on.
            await sleep(0)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        if debug:
            logger.info("%s: %r", what, transport)
        return transport, protocol


_streams._own_exec = ProcessMethods.subprocess_exec


def _connects_itself(loop: Any) -> bool:
    """Whether the loop connects pipes by the methods that we know."""
    return (
        getattr(loop.connect_read_pipe, "__func__", None) is EndpointMethods.connect_read_pipe
        and getattr(loop.connect_write_pipe, "__func__", None) is EndpointMethods.connect_write_pipe
    )


async def _at_once(code: int) -> int:
    return code


def _close_all(pipes: Any) -> None:
    for pipe in pipes:
        if pipe is not None:
            pipe.close()


def _pipes_of(process: Popen) -> tuple[Any, Any, Any]:
    return process.stdin, process.stdout, process.stderr


def _describe(what: str, stdin: Any, stdout: Any, stderr: Any) -> str:
    info = [what]
    if stdin is not None:
        info.append(f"stdin={_pipe_name(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        info.append(f"stdout=stderr={_pipe_name(stdout)}")
    else:
        if stdout is not None:
            info.append(f"stdout={_pipe_name(stdout)}")
        if stderr is not None:
            info.append(f"stderr={_pipe_name(stderr)}")
    return " ".join(info)


def _pipe_name(where: Any) -> str:
    return {_PIPE: "<pipe>", subprocess.STDOUT: "<stdout>"}.get(where, repr(where))


def _refuse_text(newlines: Any, bufsize: int, encoding: Any, errors: Any, text: Any) -> None:
    if newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")
