"""Encrypted connections: the sequences around the native transport."""

from __future__ import annotations

from typing import Any

from ._ioxide import _socket_transport, _tls_transport


def transport(
    loop: Any,
    sock: Any,
    protocol: Any,
    sslcontext: Any,
    waiter: Any,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    context: Any = None,
) -> Any:
    """Make the transport of an encrypted connection on a connected socket."""
    tls = _tls_transport(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
        False,
        context,
    )
    try:
        _socket_transport(loop, sock, tls, None, None, context)
    except BaseException:
        tls.abort()
        raise
    return tls


def default_context(server_side: bool, server_hostname: str | None) -> Any:
    """Return the context of a client that asks for no other (`ssl=True`)."""
    import ssl

    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


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
    tls = _tls_transport(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
        True,
        None,
    )
    # Nothing may reach the new transport before it knows the one below.
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
    return tls


def _hand_over(protocol: Any, tls: Any) -> None:
    """Move what a stream has read ahead: the client's greeting may be in it."""
    reader = getattr(protocol, "_stream_reader", None)
    if reader is not None and reader._buffer:
        tls.data_received(bytes(reader._buffer))
        reader._buffer.clear()
