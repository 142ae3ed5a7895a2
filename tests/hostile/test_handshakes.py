"""Peers that do not speak TLS, or stop in the middle of saying so; servers and clients of that kind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import ssl

import pytest

#: asyncio's own patience with a handshake.
PATIENCE_S = 60


class Visitor(asyncio.Protocol):
    """Echoes; only who has shaken hands gets as far as this."""

    def __init__(self, through: list[Visitor]) -> None:
        self.through = through

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.through.append(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(serving, **options):
    """A TLS server, its address, and who has got through."""
    through: list[Visitor] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Visitor(through), "127.0.0.1", 0, ssl=serving, **options
    )
    return server, server.sockets[0].getsockname(), through


async def echo_works(address, trusting) -> bool:
    reader, writer = await asyncio.open_connection(
        *address, ssl=trusting, server_hostname="localhost"
    )
    writer.write(b"echo")
    answer = await reader.readexactly(4)
    writer.close()
    await writer.wait_closed()
    return answer == b"echo"


def client_hello() -> bytes:
    """What a client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def is_closed(sock) -> bool:
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_garbage_is_refused_at_once_and_the_others_are_served(run, connect, serving, trusting):
    noise = random.Random(1)
    garbage = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x80\x2e\x01\x00\x02" + bytes(50),
        *(noise.randbytes(noise.randrange(200, 2000)) for _ in range(30)),
        # A record whose handshake message is cut or bent somewhere.
        *(
            bytes(b ^ (noise.random() < 0.05) * noise.randrange(256) for b in client_hello())
            for _ in range(30)
        ),
    ]

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        server, address, through = await serve(serving)
        before = descriptors()
        peers = [connect(address) for _ in garbage]
        for peer, data in zip(peers, garbage, strict=True):
            peer.send(data)
        assert await echo_works(address, trusting)
        assert is_closed(peers[0]) and is_closed(peers[1])
        await asyncio.sleep(PATIENCE_S + 1)
        assert all(map(is_closed, peers))
        assert len(through) == 1
        assert complaints == []
        assert descriptors() == before + len(peers), "only the peers' own are open"
        assert await echo_works(address, trusting)
        server.close()

    run(main)


@pytest.mark.parametrize("said", ["nothing", "half a hello", "hello"])
def test_a_handshake_that_stops_ends_after_its_time(run, connect, serving, trusting, said):
    hello = client_hello()
    begin = {"nothing": b"", "half a hello": hello[: len(hello) // 2], "hello": hello}[said]

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        server, address, through = await serve(serving)
        before = descriptors()
        peers = [connect(address) for _ in range(40)]
        for peer in peers:
            peer.send(begin)
        assert await echo_works(address, trusting)
        await asyncio.sleep(PATIENCE_S - 1)
        assert not any(map(is_closed, peers))
        await asyncio.sleep(2)
        assert all(map(is_closed, peers))
        assert len(through) == 1
        assert descriptors() == before + len(peers), "only the peers' own are open"
        assert await echo_works(address, trusting)
        server.close()

    run(main)


def test_a_hello_that_comes_a_byte_a_second_is_not_waited_for(run, connect, serving, trusting):
    async def main():
        server, address, through = await serve(serving, ssl_handshake_timeout=20)
        peer = connect(address)
        sent = 0
        with contextlib.suppress(ConnectionError):
            for byte in client_hello():
                sent += peer.send(bytes([byte]))
                await asyncio.sleep(1)
        assert 19 <= sent <= 22
        assert through == []
        assert await echo_works(address, trusting)
        server.close()

    run(main)


def test_a_peer_that_goes_during_its_handshake_harms_nobody(run, connect, serving, trusting):
    hello = client_hello()

    async def main():
        server, address, through = await serve(serving)
        before = descriptors()
        for size in range(0, len(hello), 20):
            peer = connect(address)
            peer.send(hello[:size])
            await asyncio.sleep(0)
            peer.close()
        assert await echo_works(address, trusting)
        await asyncio.sleep(1)
        assert len(through) == 1
        assert descriptors() == before
        server.close()

    run(main)


@pytest.mark.parametrize(
    "answer, expected",
    [
        (b"", ConnectionAbortedError),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", ssl.SSLError),
        (b"\x16\x03\x03\x40\x00", ConnectionAbortedError),
    ],
    ids=["silence", "garbage", "the head of a record"],
)
def test_a_client_gives_up_a_server_that_does_not_shake_hands(run, trusting, answer, expected):
    async def main():
        async def strange(reader, writer):
            writer.write(answer)
            await asyncio.sleep(3600)
            writer.close()

        server = await asyncio.start_server(strange, "127.0.0.1", 0)
        before = descriptors()
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(expected):
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=trusting, server_hostname="localhost"
            )
        waited = loop.time() - started
        assert waited < 1 if expected is ssl.SSLError else PATIENCE_S <= waited < PATIENCE_S + 1
        await asyncio.sleep(4000)
        assert descriptors() == before
        server.close()

    run(main)


def test_a_gigabyte_over_tls_for_a_peer_that_does_not_read_waits_in_drain(run, serving, trusting):
    chunk = bytes(64 * 1024)

    async def main():
        written, sizes = 0, []

        async def give(reader, writer):
            nonlocal written
            try:
                for _ in range(2**30 // len(chunk)):
                    writer.write(chunk)
                    written += len(chunk)
                    sizes.append(writer.transport.get_write_buffer_size())
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(give, "127.0.0.1", 0, ssl=serving)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=trusting, server_hostname="localhost"
        )
        await asyncio.sleep(1)
        waiting = written
        await asyncio.sleep(60)
        assert written == waiting < 24 * 2**20
        assert max(sizes) <= 4 * len(chunk) + 512 * 1024
        # What the reader has not been asked for waits in the kernel, but for what it holds itself.
        assert len(reader._buffer) < 1024 * 1024
        writer.transport.abort()
        await asyncio.sleep(1)
        server.close()

    run(main)
