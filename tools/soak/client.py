"""The clients of the soak: streams and bare sockets, impatient ones, and ones that break off."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import ioxide as asyncio

from .plan import WHOLE, Plan, Stream, Wrong

#: Longer than any wait for the other end when all is well.
PATIENCE_S = 30
#: The longest wait between two of a client's writes, and before it listens.
THINK_S = 0.4


class Broken(Exception):
    """The client breaks off, as planned."""


class StreamsEnd:
    """A connection by reader and writer."""

    def __init__(self, where: dict[str, Any], tls: ssl.SSLContext) -> None:
        self.where, self.tls = where, tls

    async def open(self, plan: Plan, address: Any) -> None:
        if plan.server == "unix":
            self.reader, self.writer = await asyncio.open_unix_connection(address)
        else:
            options = (
                {"ssl": self.tls, "server_hostname": "localhost"} if plan.server == "tls" else {}
            )
            self.reader, self.writer = await asyncio.open_connection(*address, **options)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        return await self.reader.read(30_000)

    def send_end(self) -> None:
        if self.writer.can_write_eof():
            self.writer.write_eof()

    def abort(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()


class SocketEnd:
    """A connection by the loop's methods for sockets."""

    def __init__(self, where: dict[str, Any], tls: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()

    async def open(self, plan: Plan, address: Any) -> None:
        family = socket.AF_UNIX if plan.server == "unix" else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.setblocking(False)
        while True:
            try:
                return await self.loop.sock_connect(self.socket, address)
            except BlockingIOError:  # a Unix socket whose backlog is full
                await asyncio.sleep(0.01)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        return await self.loop.sock_recv(self.socket, 30_000)

    def send_end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()


class Client:
    """Carries out one plan."""

    def __init__(self, plan: Plan, where: dict[str, Any], tls: ssl.SSLContext) -> None:
        self.plan, self.where = plan, where
        self.choice = random.Random(plan.seed)
        self.up = Stream(plan.number, "up", plan.up)
        self.down = Stream(plan.number, "down", plan.down)
        self.end = (StreamsEnd if plan.client == "streams" else SocketEnd)(where, tls)

    async def run(self) -> str:
        """Returns `whole` or `cut`; raises what should not have happened."""
        address = self.where[self.plan.server]
        if self.plan.server != "unix":
            # Many addresses, since one has not ports enough for all that have just been closed.
            address = (f"127.0.0.{1 + self.plan.number % 200}", address)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.carry_out(address)
        except TimeoutError:
            raise Wrong(f"{self.plan}: nothing happened for {PATIENCE_S} s") from None
        finally:
            self.end.close()

    async def carry_out(self, address: Any) -> str:
        cancelled = self.plan.kind == "client is cancelled"
        talking = asyncio.create_task(self.talk(address))
        if cancelled:
            asyncio.get_running_loop().call_later(self.choice.random() * THINK_S, talking.cancel)
        try:
            await talking
        except asyncio.CancelledError:
            if not cancelled:
                raise
            return "cut"
        except (OSError, Broken):
            if self.plan.kind in WHOLE:
                raise
            if self.plan.kind == "client aborts":
                self.end.abort()
            return "cut"
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        return "whole" if self.plan.kind in WHOLE else "cut"

    async def talk(self, address: Any) -> None:
        await self.end.open(self.plan, address)
        await self.end.send(self.plan.header())
        if self.plan.kind == "half":
            await self.say()
            await self.think()
            await self.listen()
            return
        both = {asyncio.create_task(self.say()), asyncio.create_task(self.listen())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):
                raise error

    async def say(self) -> None:
        """Send everything in pieces, or as far as the plan goes."""
        breaks_off = self.plan.kind in ("client aborts", "client closes")
        for size in self.plan.pieces(self.choice):
            if not self.up.left or (breaks_off and self.up.at >= self.plan.cut):
                break
            await self.end.send(self.up.take(size))
            if self.choice.random() < 0.2:
                await self.think()
        if breaks_off:
            raise Broken
        self.end.send_end()

    async def listen(self) -> None:
        """Receive everything to the end, now and then giving up a read and starting another."""
        while data := await self.patiently(self.end.receive):
            self.down.check(data)
        if self.plan.kind in WHOLE:
            self.down.check_end()

    async def patiently(self, receive: Callable[[], Awaitable[bytes]]) -> bytes:
        while True:
            if self.choice.random() < 0.8:
                return await receive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.choice.random() * 0.01):
                    return await receive()

    async def think(self) -> None:
        await asyncio.sleep(self.choice.random() * THINK_S)
