"""The server of the soak: on TCP with streams, the asyncio package's streams and both kinds of protocol, on a Unix
socket, with TLS.

A process of its own. It prints where it listens, and answers each line on its standard input with
what it has seen so far.
"""

from __future__ import annotations

import asyncio as package
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ioxide as asyncio

from .plan import HEADER, KINDS, WHOLE, Stream, Wrong


class Book:
    """What the server has seen."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.open = 0

    def note(self, session: Session, error: BaseException | None) -> None:
        self.open -= 1
        if isinstance(error, Wrong):
            self.wrong.append(str(error))
        elif session.kind in WHOLE and not session.is_whole:
            self.wrong.append(f"{session}: the server lost it: {error!r}")
        else:
            self.counts["whole" if session.is_whole else "cut"] += 1

    def answer(self) -> dict[str, Any]:
        """What is to be told of it."""
        return {"counts": self.counts, "open": self.open, "wrong": self.wrong[:20]}


class Session:
    """One connection as its server sees it: takes what arrives, and says what is to be sent."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.head = b""
        self.kind = "unknown"
        self.up = self.down = Stream(0, "up", 0)
        self.is_whole = False
        self.cut: int | None = None
        book.open += 1

    def __str__(self) -> str:
        return f"{self.up} ({self.kind})"

    def feed(self, data: bytes) -> None:
        """Take what has arrived, and compare it."""
        if self.kind == "unknown":
            self.head += data
            if len(self.head) < HEADER.size:
                return
            data, head = self.head[HEADER.size :], self.head[: HEADER.size]
            number, kind, up, down, cut = HEADER.unpack(head)
            self.kind = KINDS[kind]
            self.up, self.down = Stream(number, "up", up), Stream(number, "down", down)
            self.cut = cut if self.kind.startswith("server") else None
        self.up.check(data)

    @property
    def is_cut(self) -> bool:
        """Whether it is time for the server to break off."""
        return self.cut is not None and self.up.at >= self.cut

    def due(self) -> bytes:
        """What is to be sent now: as large a part of the whole as has arrived of the other half."""
        if self.kind == "early" or not self.up.left:
            return self.down.take(self.down.left)
        return self.down.take(self.down.size * self.up.at // self.up.size - self.down.at)

    def ended(self) -> None:
        """The client has ended its half."""
        if self.kind in WHOLE:
            self.up.check_end()

    def sent(self) -> None:
        """Everything was said."""
        self.is_whole = not self.up.left and not self.down.left and self.kind in WHOLE


class Streams:
    """The server as a coroutine."""

    def __init__(self, book: Book, *, half: bool = True) -> None:
        self.book = book
        self.half = half

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, error = Session(self.book), None
        try:
            await self.talk(session, reader, writer)
        except (OSError, asyncio.CancelledError, Wrong) as broken:
            error = broken
        finally:
            self.book.note(session, error)
            # Its traceback holds this frame. Of a cycle of garbage the package's `closed` future may be finalised
            # before the protocol that marks its exception as retrieved.
            del error
            writer.close()

    async def talk(self, session: Session, reader, writer) -> None:
        early = False
        # Without halves, the end is where the client's bytes end.
        while self.half or session.kind == "unknown" or session.up.left:
            if not (data := await reader.read(65536)):
                break
            session.feed(data)
            if session.is_cut:
                self.break_off(session, writer)
            if data := session.due():
                writer.write(data)
            if session.kind == "early" and not early and self.half:
                early = True
                writer.write_eof()
            await writer.drain()
        session.ended()
        if data := session.due():
            writer.write(data)
            await writer.drain()
        session.sent()
        writer.close()
        await writer.wait_closed()

    @staticmethod
    def break_off(session: Session, writer) -> None:
        if session.kind == "server is cancelled":
            asyncio.current_task().cancel()
        else:
            writer.transport.abort()


class Talker(asyncio.Protocol):
    """The server as a protocol, which honours that it should pause."""

    def __init__(self, book: Book) -> None:
        self.session = Session(book)
        self.book = book
        self.paused = False
        self.half_closed = False
        self.over = False
        self.error: BaseException | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(20_000)

    def data_received(self, data: bytes) -> None:
        try:
            self.session.feed(data)
        except Wrong as wrong:
            self.fail(wrong)
            return
        if self.session.is_cut:
            if self.session.kind == "server aborts":
                self.transport.abort()
            else:
                self.transport.close()
            return
        self.send()

    def eof_received(self) -> bool:
        try:
            self.session.ended()
        except Wrong as wrong:
            self.fail(wrong)
        self.over = True
        self.send()
        return True

    def fail(self, wrong: Wrong) -> None:
        self.error = wrong
        self.transport.abort()

    def send(self) -> None:
        """Send what is due; end when it was the last."""
        if self.paused or self.transport.is_closing():
            return
        if data := self.session.due():
            self.transport.write(data)
        if self.session.kind == "early" and not self.half_closed:
            self.half_closed = True
            self.transport.write_eof()
        if self.over:
            self.session.sent()
            self.transport.close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.book.note(self.session, self.error or exc)


class BufferedTalker(Talker, asyncio.BufferedProtocol):
    """The same with a buffer of its own, of an odd size."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.buffer = bytearray(10_007)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.buffer[:count]))


@contextlib.asynccontextmanager
async def serve(
    book: Book, folder: Path, tls: ssl.SSLContext
) -> AsyncIterator[dict[str, int | str]]:
    """Every kind of server, and where each listens."""
    loop, path = asyncio.get_running_loop(), str(folder / "socket")
    host, backlog = "0.0.0.0", 4096
    halves, no_halves = Streams(book), Streams(book, half=False)
    servers = {
        "streams": await asyncio.start_server(halves, host, 0, backlog=backlog),
        "package": await package.start_server(halves, host, 0, backlog=backlog),
        "tls": await asyncio.start_server(no_halves, host, 0, backlog=backlog, ssl=tls),
        "protocol": await loop.create_server(lambda: Talker(book), host, 0, backlog=backlog),
        "buffered": await loop.create_server(
            lambda: BufferedTalker(book), host, 0, backlog=backlog
        ),
    }
    where = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    servers["unix"] = await asyncio.start_unix_server(halves, path, backlog=backlog)
    try:
        yield where | {"unix": path}
    finally:
        for server in servers.values():
            server.close()
