"""Contexts, and both ends of encrypted connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import ioxide
from tests.transports.peers import Recorder, run, turns

CERTIFICATES = Path(__file__).parent / "certificates"
CA = str(CERTIFICATES / "ca.pem")


def server_context(name: str = "localhost", **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem", **options)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CA)


@contextlib.asynccontextmanager
async def connected(
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    *,
    ours: Callable[[], Any] = Recorder,
    theirs: Callable[[], Any] = Recorder,
    server_hostname: str = "localhost",
    **options: Any,
) -> AsyncIterator[tuple[Any, Any]]:
    """The protocols of a client and of a server that are connected; aborted in the end."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()

    def factory() -> Any:
        protocol = theirs()
        accepted.set_result(protocol)
        return protocol

    listening = await loop.create_server(factory, "127.0.0.1", 0, ssl=server or server_context())
    protocols = []
    try:
        _, protocol = await loop.create_connection(
            ours,
            *listening.sockets[0].getsockname(),
            ssl=client or client_context(),
            server_hostname=server_hostname,
            **options,
        )
        protocols = [protocol, await accepted]
        while protocols[1].transport is None:
            await turns(1)
        yield protocols[0], protocols[1]
    finally:
        for protocol in protocols:
            if not protocol.over.done():
                protocol.transport.abort()
            await protocol.over
        listening.close()
        await listening.wait_closed()


@contextlib.asynccontextmanager
async def plain_peer(
    *, server_side: bool = False, protocol: Callable[[], Any] = Recorder, **options: Any
) -> AsyncIterator[tuple[asyncio.Task[Any], socket.socket]]:
    """A connection whose other end is a plain socket; the task is the one that shakes hands."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    if server_side:
        made = loop.connect_accepted_socket(protocol, ours, ssl=server_context(), **options)
    else:
        made = loop.create_connection(
            protocol, sock=ours, ssl=client_context(), server_hostname="localhost", **options
        )
    task = loop.create_task(made)
    with theirs:
        yield task, theirs
    with contextlib.suppress(Exception, asyncio.CancelledError):
        transport, _ = await task
        transport.abort()


__all__ = [
    "CA",
    "CERTIFICATES",
    "Recorder",
    "client_context",
    "connected",
    "ioxide",
    "plain_peer",
    "run",
    "server_context",
    "turns",
]
