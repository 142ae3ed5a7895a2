"""Servers that echo, with a protocol and with streams; the load comes from another process."""

from __future__ import annotations

import asyncio

from . import scenario


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@scenario("tcp", 100, kind="server")
async def echo_protocol() -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    return await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)


@scenario("tcp", 100, kind="server")
async def echo_streams() -> asyncio.AbstractServer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)


@scenario("tcp", 100, kind="server")
async def echo_lines() -> asyncio.AbstractServer:
    """Each message is sixteen lines of 64 bytes, which are answered one by one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
