"""Starts PostgreSQL, MariaDB and Redis for the tests: free ports, throw-away data, a sure end.

Each server gets a signal from the kernel when the process of the tests dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

START_LIMIT_S = 60
STOP_LIMIT_S = 10
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin"])


class Missing(Exception):
    """A server that is not installed on this machine."""


class Server(NamedTuple):
    """Where a server of the tests is reached."""

    port: int
    socket: Path


def find(name: str, *patterns: str) -> str:
    """The path of a server's program; `patterns` say where else to look."""
    for pattern in patterns:
        if found := sorted(Path("/").glob(pattern.lstrip("/"))):
            return str(found[-1])
    if found := shutil.which(name, path=SYSTEM_PATH):
        return found
    raise Missing(f"{name} is not installed (tools/install_servers.sh does)")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def folder(owner: str | None = None) -> Iterator[Path]:
    """A folder of the server's own, short enough for the name of a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="ioxide-"))
    try:
        if owner:
            shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_as(user: str | None) -> list[str]:
    """The words before a command that run it as that user."""
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]


@contextlib.contextmanager
def process(
    command: list[str], log: Path, ready: Callable[[], bool], end: signal.Signals
) -> Iterator[None]:
    """The server while it runs; `end` asks it to stop."""
    setpriv, *rest = command if command[0] == "setpriv" else ["setpriv", *command]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [setpriv, f"--pdeathsig={end.name[3:]}", *rest],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{rest[-1]} did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(end)
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def prepare(command: list[str]) -> None:
    """Run what must be done once, before the start."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", timeout=START_LIMIT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")


@contextlib.contextmanager
def postgresql(certificate: bytes) -> Iterator[Server]:
    """PostgreSQL with the user `postgres`, password `secret`: by TCP, TLS, and a Unix socket.

    `certificate` is a key with its certificates, in PEM.
    """
    binaries = Path(find("postgres", "/usr/lib/postgresql/*/bin/postgres")).parent
    user = "postgres" if os.getuid() == 0 else None
    with folder(user) as home:
        data, port = home / "data", free_port()
        for name, content in (("password", b"secret\n"), ("server.pem", certificate)):
            (home / name).write_bytes(content)
            (home / name).chmod(0o600)
            if user:
                shutil.chown(home / name, user)
        prepare(
            [
                *run_as(user),
                str(binaries / "initdb"),
                f"--pgdata={data}",
                "--username=postgres",
                f"--pwfile={home / 'password'}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ]
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": home,
            "fsync": "off",
            "max_connections": 60,
            "shared_buffers": "16MB",
            "ssl": "on",
            "ssl_cert_file": home / "server.pem",
            "ssl_key_file": home / "server.pem",
        }
        command = [*run_as(user), str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        question = [str(binaries / "pg_isready"), "-q", "-h", str(home), "-p", str(port)]

        def ready() -> bool:
            return subprocess.run(question, check=False).returncode == 0

        with process(command, home / "log", ready, signal.SIGINT):
            yield Server(port, home)


@contextlib.contextmanager
def mariadb() -> Iterator[Server]:
    """MariaDB with the user `root` without a password and the database `test`."""
    install, daemon = find("mariadb-install-db"), find("mariadbd", "/usr/sbin/mariadbd")
    user = pwd.getpwuid(os.getuid()).pw_name
    with folder() as home:
        data, port, path = home / "data", free_port(), home / "socket"
        shared = [f"--user={user}", f"--datadir={data}", "--innodb-log-file-size=8M"]
        prepare(
            [
                install,
                "--no-defaults",
                *shared,
                "--auth-root-authentication-method=normal",
                "--skip-name-resolve",
            ]
        )
        command = [
            daemon,
            "--no-defaults",
            *shared,
            "--innodb-flush-log-at-trx-commit=0",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--socket={path}",
            f"--pid-file={home / 'pid'}",
        ]
        with process(command, home / "log", lambda: answers(path), signal.SIGTERM):
            yield Server(port, path)


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """Redis, by TCP and by a Unix socket, which keeps nothing."""
    daemon = find("redis-server")
    with folder() as home:
        port, path = free_port(), home / "socket"
        command = [daemon, "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(home)]
        with process(command, home / "log", lambda: answers(path), signal.SIGTERM):
            yield Server(port, path)


def answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0
