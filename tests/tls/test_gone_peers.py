"""An encrypted connection whose peer has gone while the program did not read: nothing is lost or left."""

from __future__ import annotations

import asyncio
import random

import pytest

from .peers import client_context, run, server_context, turns


class Pausing(asyncio.BufferedProtocol):
    """Takes a little at a time, and pauses each time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.ended_after: int | None = None
        self.buffer = bytearray(1000)
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.pause_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.received += self.buffer[:count]
        self.transport.pause_reading()

    def eof_received(self) -> None:
        self.ended_after = len(self.received)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def visited(data: bytes, *, clean: bool) -> Pausing:
    """A server's protocol whose client has said something and gone."""
    protocol = Pausing()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol, "127.0.0.1", 0, ssl=server_context()
    )
    _, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    writer.write(data)
    await writer.drain()
    if clean:
        writer.close()
    else:
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        writer.transport.abort()
    while protocol.transport is None:
        await turns(1)
    await turns(20)
    server.close()
    protocol.client = writer
    return protocol


@pytest.mark.parametrize("clean", [True, False])
def test_closing_it_ends_it(clean):
    async def main():
        protocol = await visited(b"hello", clean=clean)
        assert not protocol.lost.done()
        protocol.transport.close()
        await asyncio.wait_for(protocol.lost, 50)
        await protocol.client.wait_closed()

    run(main())


@pytest.mark.parametrize("clean", [True, False])
def test_what_it_said_is_still_read_piece_by_piece(clean):
    data = random.Random(1).randbytes(50_000)

    async def main():
        protocol = await visited(data, clean=clean)
        while not protocol.lost.done():
            protocol.transport.resume_reading()
            await asyncio.sleep(0)
        await protocol.client.wait_closed()
        assert protocol.received == data
        assert protocol.ended_after == len(data)

    run(main())
