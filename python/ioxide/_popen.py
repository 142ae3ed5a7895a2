"""Popen as asyncio's transports show it, with our way of starting, reaping and signalling."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from typing import Any

from ._ioxide import _spawn

_SHELL = "/bin/sh"


class Popen(subprocess.Popen[bytes]):
    """A child process that is started without copying the parent, and known by a descriptor.

    What arguments mean and which are refused is `subprocess.Popen`'s affair: only the starting is
    done here. Waiting and signals never mistake another process for the child, and whoever waits
    first, the others get the same return code.
    """

    _child: Any = None

    # What the base class's constructor sets, for children that are started without it.
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    returncode: Any = None
    encoding: Any = None
    errors: Any = None
    text_mode: Any = None
    pipesize = -1
    _input: Any = None
    _communication_started = False
    _closed_child_pipe_fds = False
    _sigint_wait_secs = 0.25

    def __init__(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, **options: Any
    ) -> None:
        super().__init__(
            args,
            bufsize=0,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            **options,
        )

    @classmethod
    def of(cls, child: Any, args: Any, returncode: int | None, pipes: Any) -> Popen:
        """Return a child that was started without a Popen as one; `pipes` are our ends, as files."""
        self = cls.__new__(cls)
        self.args = args
        self.stdin, self.stdout, self.stderr = pipes
        self._child = child
        self.pid = child.pid
        self.returncode = returncode
        self._child_created = True
        return self

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        _startupinfo: Any,
        _creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        gid: int | None,
        gids: list[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int,
    ) -> None:
        self._start(
            args,
            executable,
            shell,
            cwd,
            env,
            (p2cread, c2pwrite, errwrite),
            close_fds,
            [int(fd) for fd in pass_fds],
            restore_signals,
            start_new_session,
            process_group,
            gid,
            gids,
            uid,
            umask,
            preexec_fn,
        )
        self._close_pipe_fds(  # type: ignore[attr-defined]
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        )

    def _start(
        self,
        args: Any,
        executable: Any,
        shell: bool,
        cwd: Any,
        env: Any,
        stdio: Any,
        close_fds: bool = True,
        pass_fds: Any = (),
        restore_signals: bool = True,
        start_new_session: bool = False,
        process_group: int = -1,
        gid: int | None = None,
        gids: list[int] | None = None,
        uid: int | None = None,
        umask: int = -1,
        preexec_fn: Any = None,
    ) -> None:
        argv, program = _command(args, executable, shell)
        sys.audit("subprocess.Popen", program, argv, cwd, env)
        self._child = child = _spawn(
            _candidates(program, env),
            argv,
            None if env is None else _environment(env),
            cwd,
            stdio,
            close_fds,
            pass_fds,
            restore_signals,
            start_new_session,
            process_group,
            gid,
            gids,
            uid,
            umask,
            preexec_fn,
            (program, cwd),
        )
        self.pid = child.pid
        self._child_created = True

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None:
            self.returncode = self._child.poll()
        code: int | None = self.returncode
        return code

    def _wait(self, timeout: float | None) -> int:
        ended = select.poll()
        ended.register(self._child, select.POLLIN)
        while self._internal_poll() is None:
            if not ended.poll(None if timeout is None else max(timeout, 0) * 1000):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
        code: int = self.returncode
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal; one that comes too late is dropped."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(sig)


def _command(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """Return the arguments and the program of what Popen was given."""
    if isinstance(args, tuple):
        argv = list(args)
    elif isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    else:
        argv = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if shell:
        argv = [executable or _SHELL, "-c", *argv]
    return argv, executable if executable is not None else argv[0]


def _candidates(program: Any, env: Any) -> list[bytes]:
    """Return the paths under which the program may be found."""
    encoded = os.fsencode(program)
    if b"/" in encoded:
        return [encoded]
    return [os.path.join(os.fsencode(folder), encoded) for folder in os.get_exec_path(env)]


def _environment(env: Any) -> list[bytes]:
    entries = []
    for key, value in env.items():
        name = os.fsencode(key)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        entries.append(name + b"=" + os.fsencode(value))
    return entries
