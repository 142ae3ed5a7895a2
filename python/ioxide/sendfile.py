"""Sending files: by the kernel alone where it can, by reading and writing where it cannot."""

from __future__ import annotations

import asyncio
import socket
from asyncio.constants import _SendfileMode
from collections.abc import Awaitable, Callable
from typing import Any

from ._ioxide import BaseLoop
from .connect import refuse_tls_socket

#: How many bytes are read at once where the kernel cannot send a file, for a socket …
_SOCKET_BLOCK = 256 * 1024
#: … and for a transport.
_TRANSPORT_BLOCK = 16 * 1024


class SendfileMethods(BaseLoop):
    """What `ioxide.EventLoop` has for sending files."""

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file, or `count` bytes of it, over a transport; return how many bytes were sent.

        The file, opened in binary mode, is sent from the byte `offset` on, and its position is
        behind what was sent afterwards, also when this is cancelled or fails. Nothing is read from
        the transport meanwhile.

        Where the kernel cannot, as with TLS, it is read and written, unless `fallback` is False:
        then RuntimeError or SendfileNotAvailableError is raised. ConnectionError and other OSErrors
        say that the connection was lost, RuntimeError that the transport is closing or knows no
        files. ValueError and TypeError are for an offset that is negative, a count that is not
        positive, for what is no integer, and for a file that was opened as text.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _SendfileMode.UNSUPPORTED)
        if mode is _SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _SendfileMode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not "
                f"supported for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)

    async def _sendfile_native(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        resume = transport.is_reading()
        transport.pause_reading()
        await transport._make_empty_waiter()
        try:
            sock = transport._sock
            if sock is None:
                raise ConnectionError("Connection is closed by peer")
            check_parameters(sock, file, offset, count)
            sent: int = await self._sock_sendfile_native(sock, file, offset, count)
            return sent
        except ConnectionError as error:
            transport._force_close(error)
            raise
        finally:
            transport._reset_empty_waiter()
            if resume:
                transport.resume_reading()

    async def _sendfile_fallback(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        protocol = _Detour(self, transport)

        async def send(block: memoryview) -> None:
            transport.write(bytes(block))
            await protocol.drain()

        try:
            return await self._send_blocks(file, offset, count, _TRANSPORT_BLOCK, send)
        finally:
            protocol.restore()

    async def sock_sendfile(
        self,
        sock: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file, or `count` bytes of it, over a socket; return how many bytes were sent.

        As `sendfile` otherwise. ValueError for a socket of another kind than SOCK_STREAM, and in
        debug mode for one that blocks.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        refuse_tls_socket(sock)
        check_parameters(sock, file, offset, count)
        try:
            sent: int = await self._sock_sendfile_native(sock, file, offset, count)
            return sent
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    async def _sock_sendfile_fallback(
        self, sock: Any, file: Any, offset: int, count: int | None
    ) -> int:
        def send(block: memoryview) -> Any:
            return self.sock_sendall(sock, block)

        return await self._send_blocks(file, offset, count, _SOCKET_BLOCK, send)

    async def _send_blocks(
        self,
        file: Any,
        offset: int,
        count: int | None,
        most: int,
        send: Callable[[memoryview], Awaitable[None]],
    ) -> int:
        """Read a file on a thread, and have each block sent; return how many bytes that were."""
        if hasattr(file, "seek"):
            file.seek(offset)
        size = min(count, most) if count else most
        view = memoryview(bytearray(size))
        sent = 0
        try:
            while not count or sent < count:
                block = view[: min(count - sent, size)] if count else view
                read = await self.run_in_executor(None, file.readinto, block)
                if not read:
                    break
                await send(block[:read])
                sent += read
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)


def check_parameters(sock: Any, file: Any, offset: Any, count: Any) -> None:
    """Raise ValueError or TypeError for what cannot be sent."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


class _Detour(asyncio.Protocol):
    """Stands in for a transport's protocol while a file is sent over it."""

    def __init__(self, loop: Any, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._resume_writing = getattr(transport, "_protocol_paused", False)
        self._writable = loop.create_future() if self._resume_writing else None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._writable is not None:
            await self._writable

    def restore(self) -> None:
        """Put the protocol back, in the state in which it would be."""
        self._transport.set_protocol(self._protocol)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._writable is not None:
            # Nobody waits for it any more.
            self._writable.cancel()
        if self._resume_writing:
            self._protocol.resume_writing()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def connection_made(self, transport: Any) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writable is not None and not self._writable.done():
            # To the one who sends this is an error however the connection ended.
            error = exc or ConnectionError("Connection is closed by peer")
            self._writable.set_exception(error)
        self._protocol.connection_lost(exc)


__all__ = ["SendfileMethods"]
