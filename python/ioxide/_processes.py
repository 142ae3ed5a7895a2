"""Child processes on the loop: its methods, and how their pipes reach a protocol of the program's."""

from __future__ import annotations

import contextvars
import logging
import subprocess
from typing import Any

from ._ioxide import BaseLoop, _read_pipe_transport, _start_process, _write_pipe_transport
from ._pipe_ends import ReadPipeProtocol, WritePipeProtocol
from .endpoints import EndpointMethods

logger = logging.getLogger("asyncio")

_PIPE = subprocess.PIPE


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
        """Run a line of the shell; return the transport and the protocol. See subprocess_exec()."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        _refuse_text(universal_newlines, bufsize, encoding, errors, text)
        if not shell:
            raise ValueError("shell must be True")
        return await _start_process(
            self,
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
        """Run a program; return the transport and the protocol, a SubprocessProtocol.

        Each of `stdin`, `stdout` and `stderr` is a pipe by default; None leaves the parent's in
        place. The keywords are those of `subprocess.Popen`, but for what makes text of bytes.

        Raises OSError if the program cannot be started (FileNotFoundError names one that is not
        there), ValueError for `shell`, `bufsize` and the keywords for text, and TypeError for
        arguments that are neither str, bytes nor paths.
        """
        _refuse_text(universal_newlines, bufsize, encoding, errors, text)
        if shell:
            raise ValueError("shell must be False")
        return await _start_process(
            self,
            # Without parameters: they may be secret.
            "execute program",
            protocol_factory(),
            (program, *args),
            False,
            (stdin, stdout, stderr),
            kwargs,
        )


#: The methods by which processes are started and pipes connected, unless a program replaces them.
OWN_EXEC = ProcessMethods.subprocess_exec
OWN_CONNECT_READ = EndpointMethods.connect_read_pipe
OWN_CONNECT_WRITE = EndpointMethods.connect_write_pipe


async def connect_pipes(process: Any, pipes: tuple[Any, Any, Any]) -> None:
    """Give the pipes of a process their transports."""
    try:
        for fd, pipe in enumerate(pipes):
            if pipe is not None:
                process._set_pipe(fd, await _connect_pipe(process, fd, pipe))
    except BaseException:
        for pipe in pipes:
            if pipe is not None:
                pipe.close()
        raise


async def _connect_pipe(process: Any, fd: int, pipe: Any) -> Any:
    loop = process._loop
    kind: Any = ReadPipeProtocol if fd else WritePipeProtocol
    connect = loop.connect_read_pipe if fd else loop.connect_write_pipe
    if getattr(connect, "__func__", None) is not (OWN_CONNECT_READ if fd else OWN_CONNECT_WRITE):
        # A subclass, or a program that wraps transports, has a word in it.
        _, end = await connect(lambda: kind(process, fd), pipe)
        return end.pipe
    # Its connection_made comes in the next turn, as the process's own will, and before that.
    make = _read_pipe_transport if fd else _write_pipe_transport
    return make(loop, pipe, kind(process, fd), None, contextvars.copy_context())


def log_start(what: str, args: Any, stdio: tuple[Any, Any, Any]) -> str:
    """Log that a process is about to be started; return what the log calls it."""
    what = f"{what} {args[0] if isinstance(args, tuple) else args!r}"
    logger.debug(_describe(what, *stdio))
    return what


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
