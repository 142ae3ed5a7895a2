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
        argv, program = _command(args, executable, shell)
        sys.audit("subprocess.Popen", program, argv, cwd, env)
        encoded = os.fsencode(program)
        if os.path.dirname(encoded):
            candidates = [encoded]
        else:
            folders = map(os.fsencode, os.get_exec_path(env))
            candidates = [os.path.join(folder, encoded) for folder in folders]
        self._child = _spawn(
            candidates,
            argv,
            None if env is None else _environment(env),
            cwd,
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
            (program, cwd),
        )
        self.pid = self._child.pid
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        )

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None:
            self.returncode = self._child.poll()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        ended = select.poll()
        ended.register(self._child, select.POLLIN)
        while self._internal_poll() is None:
            if not ended.poll(None if timeout is None else max(timeout, 0) * 1000):
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal; one that comes too late is dropped."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(sig)


def _command(args: Any, executable: Any, shell: bool) -> tuple[list[Any], Any]:
    """Return the arguments and the program of what Popen was given."""
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    argv = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if shell:
        argv = [executable or _SHELL, "-c", *argv]
    return argv, executable if executable is not None else argv[0]


def _environment(env: Any) -> list[bytes]:
    entries = []
    for key, value in env.items():
        name = os.fsencode(key)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        entries.append(name + b"=" + os.fsencode(value))
    return entries
