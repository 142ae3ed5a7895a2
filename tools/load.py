"""Loads an echo server: CONNECTIONS sockets, each with one message under way at any time.

python tools/load.py PORT CONNECTIONS SECONDS SIZE

A process of its own on bare epoll, which owes nothing to what it measures. Every byte that comes
back is compared. Writes a JSON object per line: progress, and at the end the summary.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable

PROGRESS_S = 0.2
CONNECT_LIMIT_S = 10


class Connection:
    """One socket, the message it sent, and what of it has come back."""

    __slots__ = ("message", "receive", "returned", "send", "sent_at", "sock")

    def __init__(self, sock: socket.socket, number: int, size: int) -> None:
        self.sock = sock
        self.receive, self.send = sock.recv, sock.send
        # In lines of 64 bytes, for servers that answer line by line.
        line = (f"{number:08d}" * 8).encode()[:63] + b"\n"
        self.message = (line * (size // 64 + 1))[:size]
        self.returned = b""
        self.sent_at = 0.0

    def begin(self) -> None:
        self.sent_at = time.perf_counter()
        if self.send(self.message) != len(self.message):
            raise OSError(errno.ENOBUFS, "a whole message did not fit the socket's buffer")

    def turn(self, latencies: array[float]) -> None:
        """Take what is there; once the whole message has come back, send it again."""
        data = self.receive(65536)
        if data != self.message:
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
            self.returned += data
            if not self.message.startswith(self.returned):
                raise ValueError("something else came back than was sent")
            if len(self.returned) < len(self.message):
                return
            self.returned = b""
        latencies.append(time.perf_counter() - self.sent_at)
        self.begin()


class Load:
    """All connections, and what was counted."""

    def __init__(self, port: int, connections: int, size: int) -> None:
        self.epoll = select.epoll()
        self.latencies = array("d")
        self.errors: dict[str, int] = {}
        self.open: dict[int, Connection] = {}
        for number in range(connections):
            try:
                sock = socket.create_connection(("127.0.0.1", port), CONNECT_LIMIT_S)
            except OSError as error:
                self.count_error(error)
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open[sock.fileno()] = Connection(sock, number, size)
            self.epoll.register(sock, select.EPOLLIN)

    def count_error(self, error: Exception) -> None:
        name = type(error).__name__
        self.errors[name] = self.errors.get(name, 0) + 1

    def run(self, seconds: float) -> float:
        """Keep every connection busy for that long; return how long it was."""
        started = time.perf_counter()
        for connection in list(self.open.values()):
            self.attempt(connection, connection.begin)
        deadline, report_at = started + seconds, started + PROGRESS_S
        connections, latencies = self.open, self.latencies
        while (now := time.perf_counter()) < deadline and connections:
            if now >= report_at:
                self.report(now - started)
                report_at += PROGRESS_S
            for descriptor, _ in self.epoll.poll(PROGRESS_S):
                connection = connections[descriptor]
                try:
                    connection.turn(latencies)
                except (OSError, ValueError) as error:
                    self.drop(connection, error)
        return time.perf_counter() - started

    def attempt(self, connection: Connection, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.drop(connection, error)

    def drop(self, connection: Connection, error: Exception) -> None:
        """A connection that fails is counted, and used no more."""
        self.count_error(error)
        del self.open[connection.sock.fileno()]
        connection.sock.close()

    def report(self, elapsed: float) -> None:
        say(elapsed=elapsed, messages=len(self.latencies), errors=sum(self.errors.values()))

    def summary(self, connections: int, elapsed: float) -> None:
        """The last line; latencies in seconds."""
        ordered = sorted(self.latencies)
        say(
            done=True,
            asked_connections=connections,
            connections=len(self.open),
            messages=len(ordered),
            errors=sum(self.errors.values()),
            kinds=self.errors,
            elapsed=elapsed,
            p50=percentile(ordered, 0.50),
            p99=percentile(ordered, 0.99),
        )

    def close(self) -> None:
        for connection in self.open.values():
            connection.sock.close()


def percentile(ordered: list[float], part: float) -> float | None:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else None


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    port, connections, seconds, size = (
        int(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
    load = Load(port, connections, size)
    say(opened=len(load.open))
    elapsed = load.run(seconds)
    load.summary(connections, elapsed)
    load.close()


if __name__ == "__main__":
    main()
