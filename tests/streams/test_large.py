"""Large messages: every byte, in order, whatever happens between their arrival and the read."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

import pytest

import ioxide

LARGE = 0


@pytest.fixture(autouse=True, params=[60_000, 6_000])
def _large(request, monkeypatch):
    """What the kernel is asked for, and what is guessed to come again."""
    monkeypatch.setitem(globals(), "LARGE", request.param)


@pytest.fixture
def runner():
    with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
        yield runner


async def connect():
    """A reader and a writer, the socket of the other end, and a habit of large messages."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = await ioxide.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
    await waiting(reader.readexactly(2 * LARGE), lambda: peer.sendall(bytes(2 * LARGE)))
    return reader, writer, peer


async def waiting(read, then):
    """The result of a read that is parked when `then` is called."""
    task = asyncio.get_running_loop().create_task(read)
    await asyncio.sleep(0)
    then()
    return await task


@pytest.mark.parametrize("how", ["read", "readexactly", "readline", "small reads"])
def test_every_byte_comes_in_order_whatever_the_sizes(runner, how):
    async def main():
        source = random.Random(how)
        reader, writer, peer = await connect()
        with peer:
            for size in [LARGE, 10, 3 * LARGE, 1, LARGE, LARGE, 100, 40_000]:
                message = source.randbytes(size).replace(b"\n", b".")[:-1] + b"\n"
                send = asyncio.to_thread(peer.sendall, message)
                sent = asyncio.create_task(send)
                match how:
                    case "read":
                        received = b""
                        while len(received) < size:
                            received += await reader.read(1_000_000)
                    case "readexactly":
                        received = await reader.readexactly(size)
                    case "readline":
                        reader._limit = 1_000_000
                        received = await reader.readline()
                    case _:
                        received = b""
                        while len(received) < size:
                            received += await reader.read(1000)
                await sent
                assert received == message
            writer.close()

    runner.run(asyncio.wait_for(main(), 50))


def test_a_cancelled_read_takes_nothing(runner):
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer, peer = await connect()
        message = random.Random(1).randbytes(LARGE)
        with peer:
            for turns_until_cancelled in range(5):
                read = loop.create_task(reader.read(LARGE))
                await asyncio.sleep(0)
                peer.sendall(message)
                for _ in range(turns_until_cancelled):
                    await asyncio.sleep(0)
                if read.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await read
                    assert await reader.readexactly(LARGE) == message
                else:
                    assert (
                        await read + await reader.readexactly(LARGE - len(read.result())) == message
                    )
            writer.close()

    runner.run(asyncio.wait_for(main(), 50))


def test_the_end_comes_after_the_last_byte(runner):
    async def main():
        reader, writer, peer = await connect()

        def send_and_end():
            peer.sendall(bytes(LARGE))
            peer.shutdown(socket.SHUT_WR)

        with peer:
            assert len(await waiting(reader.read(), send_and_end)) == LARGE
            assert reader.at_eof()
            writer.close()

    runner.run(asyncio.wait_for(main(), 50))


def test_a_reset_ends_the_read(runner):
    async def main():
        reader, writer, peer = await connect()

        def send_and_reset():
            peer.sendall(bytes(LARGE))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

        with pytest.raises(ConnectionResetError):
            await waiting(reader.readexactly(2 * LARGE), send_and_reset)
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()

    runner.run(asyncio.wait_for(main(), 50))


def test_a_read_goes_on_after_a_pause_before_it_could(runner):
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer, peer = await connect()
        with peer:
            read = loop.create_task(reader.read(LARGE))
            await asyncio.sleep(0)
            peer.sendall(bytes(LARGE))
            await asyncio.sleep(0)
            # Somebody pauses the transport, or takes the bytes, before the read goes on.
            writer.transport.pause_reading()
            for _ in range(5):
                await asyncio.sleep(0)
            if not read.done():
                writer.transport.resume_reading()
            assert await read
            writer.close()

    runner.run(asyncio.wait_for(main(), 50))


def test_transport_that_a_program_has_touched_is_read_from_as_well(runner):
    async def main():
        reader, writer, peer = await connect()
        with peer:
            writer.transport.attribute = "its methods need not be its own any more"
            data = await waiting(reader.readexactly(LARGE), lambda: peer.sendall(b"x" * LARGE))
            assert data == b"x" * LARGE
        writer.close()

    runner.run(asyncio.wait_for(main(), 50))


@pytest.mark.parametrize("sizes", [[1], [10, 1], [1, 100_000, 1], [70_000] * 20, [1] * 3000])
def test_what_is_read_until_the_end_is_all_of_it(runner, sizes):
    async def main():
        source = random.Random(3)
        reader = ioxide.StreamReader(limit=1 << 20)
        read = asyncio.get_running_loop().create_task(reader.read())
        pieces = [source.randbytes(size) for size in sizes]
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()
        whole = await read
        assert whole == b"".join(pieces)
        assert hash(whole) == hash(b"".join(pieces))

    runner.run(main())
