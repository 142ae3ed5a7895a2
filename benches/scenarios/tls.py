"""Encrypted connections: handshakes, and messages to and fro; both ends are in this process."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from . import scenario

CERTIFICATES = Path(__file__).resolve().parents[2] / "tests" / "tls" / "certificates"


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATES / "localhost.pem")
    return server, ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@scenario("tls", 500)
async def tls_handshakes(n: int) -> int:
    server, client = contexts()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server)
    address = listening.sockets[0].getsockname()
    for _ in range(n):
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *address, ssl=client, server_hostname="localhost"
        )
        transport.abort()
    listening.close()
    await listening.wait_closed()
    return n


async def echo(n: int, size: int) -> int:
    server, client = contexts()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server)
    reader, writer = await asyncio.open_connection(
        *listening.sockets[0].getsockname(), ssl=client, server_hostname="localhost"
    )
    message = bytes(size)
    for _ in range(n):
        writer.write(message)
        await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    listening.close()
    await listening.wait_closed()
    return n


@scenario("tls", 1000)
async def tls_lines(n: int) -> int:
    """Each message is sixteen lines of 64 bytes, which are answered one by one."""
    server, client = contexts()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    reader, writer = await asyncio.open_connection(
        *listening.sockets[0].getsockname(), ssl=client, server_hostname="localhost"
    )
    message = (b"x" * 63 + b"\n") * 16
    for _ in range(n):
        writer.write(message)
        await reader.readexactly(len(message))
    writer.close()
    await writer.wait_closed()
    listening.close()
    await listening.wait_closed()
    return n


@scenario("tls", 5000)
async def tls_echo_1k(n: int) -> int:
    return await echo(n, 1024)


@scenario("tls", 500)
async def tls_echo_64k(n: int) -> int:
    return await echo(n, 65536)
