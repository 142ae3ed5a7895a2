"""The server object: listening sockets, and the end of them."""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from ._ioxide import BaseServer, Listener


class Server(BaseServer, asyncio.AbstractServer):
    """A server that create_server() or create_unix_server() has made.

    Used with `async with`, it is closed at the end of the block, which waits for its connections.

    Not thread-safe: other threads use it by `loop.call_soon_threadsafe()`.
    """

    def __init__(
        self,
        loop: Any,
        sockets: list[Any],
        protocol_factory: Callable[[], Any],
        ssl_context: Any,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._sockets: list[Any] | None = sockets
        self._protocol_factory = protocol_factory
        self._ssl_context = ssl_context
        self._backlog = backlog
        self._ssl_handshake_timeout = ssl_handshake_timeout
        self._ssl_shutdown_timeout = ssl_shutdown_timeout
        self._context = contextvars.copy_context()
        self._listeners: list[Any] = []
        self._waiters: list[Any] | None = []
        self._serving = False
        self._serving_forever: Any = None
        self._strangers = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> Any:
        """Return the loop that the server runs on."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets, to look at; none once the server is closed."""
        if self._sockets is None:
            return ()
        return tuple(TransportSocket(sock) for sock in self._sockets)

    def close(self) -> None:
        """Stop listening and end serve_forever(). Connections that are open stay so.

        A second call does nothing.
        """
        if self._sockets is None:
            return
        sockets, self._sockets = self._sockets, None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.stop()
        for sock in sockets:
            self._loop._close_listening_socket(sock)
        self._serving = False
        forever = self._serving_forever
        if forever is not None and not forever.done():
            self._serving_forever = None
            forever.cancel()
        self._mark_closed()
        self._wake_if_over()

    def close_clients(self) -> None:
        """Close all connections, after what waits to be written, as `transport.close()` does."""
        for transport in self._clients:
            transport.close()

    def abort_clients(self) -> None:
        """Close all connections at once, as `transport.abort()` does."""
        for transport in self._clients:
            transport.abort()

    async def start_serving(self) -> None:
        """Accept connections from now on. A second call does nothing."""
        self._start_serving()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until this is cancelled, then close the server and its connections.

        Raises RuntimeError if somebody else waits here, or if the server is closed.
        """
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                self.close()
                self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    async def wait_closed(self) -> None:
        """Wait until close() was called and the last connection is gone."""
        if self._waiters is None:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _start_serving(self) -> None:
        if self._serving or self._sockets is None:
            return
        self._serving = True
        tls = None
        if self._ssl_context:
            tls = (self._ssl_context, self._ssl_handshake_timeout, self._ssl_shutdown_timeout)
        for sock in self._sockets:
            sock.listen(self._backlog)
            listener = Listener(
                self._loop,
                sock,
                self,
                self._protocol_factory,
                tls,
                self._backlog,
                self._context,
            )
            listener.start()
            self._listeners.append(listener)

    def _attach(self, transport: Any = None) -> None:
        """Count a connection that is not one of our transports."""
        self._strangers += 1

    def _detach(self, transport: Any = None) -> None:
        """Undo `_attach`."""
        self._strangers -= 1
        self._wake_if_over()

    def _wake_if_over(self) -> None:
        """Tell those who wait, once nobody listens and the last connection is gone."""
        if self._sockets is not None or self._strangers or self._clients:
            return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


Server.__module__ = "ioxide"
__all__ = ["Server"]
