"""Encrypted connections: CPython's TLS protocol between a transport of ours and the program's."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
from typing import Any

from ._ioxide import _socket_transport

# Its timeouts are any number of seconds, whatever its stub says.
SSLProtocol: Any = asyncio.sslproto.SSLProtocol


def transport(
    loop: Any,
    sock: Any,
    protocol: Any,
    sslcontext: Any,
    waiter: Any,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    server: Any = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    context: Any = None,
) -> Any:
    """Make the transport of an encrypted connection on a connected socket."""
    tls = SSLProtocol(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    _socket_transport(loop, sock, tls, None, server, context)
    return tls._app_transport


def accept(server: Any, sock: Any, peername: Any, context: Any) -> None:
    """Serve a connection that a listener of the server has accepted."""
    server._loop.create_task(_accept(server, sock, context), context=context)


async def _accept(server: Any, sock: Any, context: Any) -> None:
    loop = server._loop
    report: dict[str, Any] = {
        "message": "Error on transport creation for incoming connection",
    }
    try:
        waiter = loop.create_future()
        try:
            report["protocol"] = protocol = server._protocol_factory()
            made = transport(
                loop,
                sock,
                protocol,
                server._ssl_context,
                waiter,
                server_side=True,
                server=server,
                ssl_handshake_timeout=server._ssl_handshake_timeout,
                ssl_shutdown_timeout=server._ssl_shutdown_timeout,
                context=context,
            )
            report["transport"] = made
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            made.close()
            waiter = None
            raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # A peer that breaks the handshake off is no error of the program.
        if loop.get_debug() or not isinstance(error, (OSError, asyncio.CancelledError)):
            loop.call_exception_handler({**report, "exception": error})


async def start(
    loop: Any,
    transport: Any,
    protocol: Any,
    sslcontext: Any,
    *,
    server_side: bool,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> Any:
    """Encrypt a connection that is open; return the transport that the protocol uses from now on."""
    import ssl

    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
        )
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter = loop.create_future()
    tls = SSLProtocol(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
        call_connection_made=False,
    )
    # Nothing may reach the TLS protocol before it has its transport.
    transport.pause_reading()
    if server_side:
        _hand_over(protocol, tls)
    transport.set_protocol(tls)
    made = loop.call_soon(tls.connection_made, transport)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        resumed.cancel()
        waiter = None
        raise
    return tls._app_transport


def _hand_over(protocol: Any, tls: Any) -> None:
    """Give the TLS protocol what a stream has read ahead: the client's greeting may be in it."""
    reader = getattr(protocol, "_stream_reader", None)
    if reader is not None and reader._buffer:
        tls._incoming.write(bytes(reader._buffer))
        reader._buffer.clear()
