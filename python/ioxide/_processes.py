"""Child processes on the loop: the transport, and the loop's methods that make it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
import subprocess
import warnings
from typing import Any

from ._ioxide import BaseLoop, _read_pipe_transport, _start, _write_pipe_transport, sleep
from ._popen import Popen
from .endpoints import EndpointMethods
from .subprocess import SubprocessStreamProtocol

logger = logging.getLogger("asyncio")

_PIPE = subprocess.PIPE
#: Options whose values need no checks but those that starting makes.
_PLAIN_OPTIONS = frozenset({"cwd", "env"})
_OWN_METHODS = (EndpointMethods.connect_read_pipe, EndpointMethods.connect_write_pipe)


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process, its pipes, and the protocol that is told about them.

    The protocol's `connection_made` comes first, whatever has happened by then, and
    `connection_lost` last: when the process has exited and all pipes are closed.
    """

    #: Until there is something to close.
    _closed = True

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
        super().__init__()
        self._loop: Any = loop
        self._protocol: Any = protocol
        #: Our own protocol need not be told of data, and hears of all else at once.
        self._is_direct = type(protocol) is SubprocessStreamProtocol
        self._returncode: int | None = None
        self._exit_waiters: list[Any] | None = []
        self._pending_calls: list[tuple[Any, ...]] | None = []
        self._pipes: dict[int, Any] = {}
        if stdin is not None or stdout is not None or stderr is not None:
            for fd, where in enumerate((stdin, stdout, stderr)):
                if where == _PIPE:
                    self._pipes[fd] = None
        self._args = args
        self._popen: Popen | None = None
        plain = (not options or options.keys() <= _PLAIN_OPTIONS) and (
            (stdin is None or (stdin == _PIPE and type(stdin) is int))
            and (stdout is None or (stdout == _PIPE and type(stdout) is int))
            and (stderr is None or (stderr == _PIPE and type(stderr) is int))
        )
        if plain:
            if subprocess._active:  # type: ignore[attr-defined]
                subprocess._cleanup()  # type: ignore[attr-defined]
            pipes = (stdin is not None, stdout is not None, stderr is not None)
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
        for end in self._pipes.values():
            # Without its loop a pipe closes when it is dropped.
            if end is not None and self._loop is not None and not self._loop.is_closed():
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

    async def _connect_pipes(self) -> None:
        """Give the pipes their transports."""
        pipes = self._child.pipes if self._popen is None else _pipes_of(self._popen)
        try:
            for fd in self._pipes:
                await self._connect_pipe(fd, pipes[fd])
        except BaseException:
            for pipe in pipes:
                if pipe is not None:
                    pipe.close()
            raise

    async def _connect_pipe(self, fd: int, pipe: Any) -> None:
        loop = self._loop
        kind: Any = ReadPipeProtocol if fd else WritePipeProtocol
        connect = loop.connect_read_pipe if fd else loop.connect_write_pipe
        if getattr(connect, "__func__", None) not in _OWN_METHODS:
            # A subclass, or a program that wraps transports, has a word in it.
            _, self._pipes[fd] = await connect(lambda: kind(self, fd), pipe)
            return
        make = _read_pipe_transport if fd else _write_pipe_transport
        # Its connection_made comes in the next turn, as the process's own will, and before that.
        stream = self._protocol.stream_of(fd) if self._is_direct else None
        if stream is None:
            end = kind(self, fd)
            end.pipe = make(loop, pipe, end, None, contextvars.copy_context())
        else:
            end = StreamEnd(self, fd)
            stream._connection_lost_cb = end.connection_lost
            end.pipe = make(loop, pipe, stream, None, None)
        self._pipes[fd] = end

    def _begin(self) -> None:
        """Begin to tell the protocol; what has happened so far is told of afterwards."""
        if self._is_direct:
            self._protocol.begin(self, self._pipes)
            return
        pending, self._pending_calls = self._pending_calls, None
        self._loop.call_soon(self._protocol.connection_made, self)
        for call in pending or ():
            self._loop.call_soon(*call)

    def _call(self, callback: Any, *args: Any) -> None:
        if self._is_direct:
            callback(*args)
        elif self._pending_calls is not None:
            self._pending_calls.append((callback, *args))
        else:
            self._loop.call_soon(callback, *args)

    def _pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._finish_if_over()

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        if self._popen is not None:
            self._popen.returncode = returncode
        if not self._pipes and self._is_direct:
            # The end of the process is the end of everything, and nobody else need be told.
            self._closed = True
            self._protocol.process_gone()
            self._loop = self._protocol = None
        else:
            self._call(self._protocol.process_exited)
        # Those who wait for the process need not wait for its pipes, which a grandchild may hold.
        waiters, self._exit_waiters = self._exit_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(returncode)
        if self._protocol is not None:
            self._finish_if_over()

    async def _wait(self) -> int:
        """Wait until the process has exited, and return its return code."""
        if self._returncode is None:
            assert self._exit_waiters is not None
            waiter = self._loop.create_future()
            self._exit_waiters.append(waiter)
            try:
                await waiter
            finally:
                if self._exit_waiters is not None:
                    self._exit_waiters.remove(waiter)
        assert self._returncode is not None
        return self._returncode

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


class StreamEnd:
    """The end of a pipe whose bytes go from the transport into a stream, or the other way, at once."""

    __slots__ = ("disconnected", "fd", "pipe", "process")

    def __init__(self, process: SubprocessTransport, fd: int) -> None:
        self.process: SubprocessTransport | None = process
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def connection_lost(self, exc: BaseException | None) -> None:
        process, self.process = self.process, None
        self.disconnected = True
        if process is not None:
            process._pipe_connection_lost(self.fd, exc)


class WritePipeProtocol(asyncio.BaseProtocol):
    """The end of a child's standard input."""

    def __init__(self, process: SubprocessTransport, fd: int) -> None:
        self.process: Any = process
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: Any) -> None:
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        self.process._pipe_connection_lost(self.fd, exc)
        self.process = None

    def pause_writing(self) -> None:
        self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.process._protocol.resume_writing()


class ReadPipeProtocol(WritePipeProtocol, asyncio.Protocol):
    """The end of a child's standard output or error."""

    def data_received(self, data: bytes) -> None:
        self.process._pipe_data_received(self.fd, data)


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
            if transport._pipes:
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
