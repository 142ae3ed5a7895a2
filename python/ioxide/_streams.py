"""Opens connections and servers that speak in streams; the streams themselves are native."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import Callable
from typing import Any

from ._ioxide import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    _stream_connection,
    _StreamProtocols,
)
from .connect import _Socket

#: Bytes that a reader takes in before it holds the peer back.
_DEFAULT_LIMIT = 2**16


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> tuple[StreamReader, StreamWriter]:
    """Connect by TCP and return a reader and a writer.

    The options and the exceptions are those of `loop.create_connection`. `limit` is the reader's,
    in bytes: the longest line. `loop` is accepted for programs older than Python 3.10, with a
    warning; RuntimeError if it is not the running one.
    """
    if loop is None and not options and socket.socket is _Socket:
        connection = _stream_connection(host, port, limit)
        if connection is not None:
            return await connection
    running = asyncio.get_running_loop() if loop is None else _running(loop)
    reader = StreamReader(limit=limit, loop=running)
    protocol = StreamReaderProtocol(reader, loop=running)
    transport, _ = await running.create_connection(lambda: protocol, host, port, **options)
    return reader, StreamWriter(transport, protocol, reader, running)


async def open_unix_connection(
    path: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> tuple[StreamReader, StreamWriter]:
    """As open_connection(), to a Unix domain socket and with `loop.create_unix_connection`."""
    running = _running(loop)
    reader = StreamReader(limit=limit, loop=running)
    protocol = StreamReaderProtocol(reader, loop=running)
    transport, _ = await running.create_unix_connection(lambda: protocol, path, **options)
    return reader, StreamWriter(transport, protocol, reader, running)


async def start_server(
    client_connected_cb: Callable[[StreamReader, StreamWriter], Any],
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> asyncio.Server:
    """Listen by TCP; each client gets a call of the function given, or a task if it is a coroutine.

    What a client's call or task raises goes to the loop's exception handler, and the connection is
    closed. The options and the exceptions are those of `loop.create_server`. `limit` is the
    readers', in bytes: the longest line. `loop` is accepted for programs older than Python 3.10,
    with a warning; RuntimeError if it is not the running one.
    """
    running = _running(loop)
    factory = _StreamProtocols(running, client_connected_cb, limit)
    server: asyncio.Server = await running.create_server(factory, host, port, **options)
    return server


async def start_unix_server(
    client_connected_cb: Callable[[StreamReader, StreamWriter], Any],
    path: Any = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> asyncio.Server:
    """As start_server(), on a Unix domain socket and with `loop.create_unix_server`."""
    running = _running(loop)
    factory = _StreamProtocols(running, client_connected_cb, limit)
    server: asyncio.Server = await running.create_unix_server(factory, path, **options)
    return server


def _running(given: asyncio.AbstractEventLoop | None) -> Any:
    running = asyncio.get_running_loop()
    if given is not None:
        warnings.warn(
            "the loop argument is deprecated: the running loop is used",
            DeprecationWarning,
            stacklevel=3,
        )
        if given is not running:
            raise RuntimeError("the loop argument is not the running event loop")
    return running


async def start_tls(
    writer: Any,
    context: Any,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> None:
    """Upgrade the writer's connection; what `StreamWriter.start_tls` does."""
    protocol = writer._protocol
    server_side = protocol._client_connected_cb is not None
    await writer.drain()
    transport = await writer._loop.start_tls(
        writer._transport,
        protocol,
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        ssl_handshake_timeout=handshake_timeout,
        ssl_shutdown_timeout=shutdown_timeout,
    )
    writer._transport = transport
    protocol._replace_transport(transport)
