"""Every byte arrives, in order, however the network cuts what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import ssl
import tracemalloc

import pytest

from .peers import (
    Recorder,
    client_context,
    connected,
    plain_peer,
    run,
    server_context,
    turns,
)

MEGABYTE = 1 << 20


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Buffered(asyncio.BufferedProtocol):
    """A protocol with a buffer of its own, smaller than what arrives."""

    def __init__(self, size: int = 5000) -> None:
        self.buffer = bytearray(size)
        self.received = bytearray()
        self.over = asyncio.get_running_loop().create_future()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        assert isinstance(hint, int)
        return self.buffer

    def buffer_updated(self, count):
        self.received += self.buffer[:count]

    def connection_lost(self, exc):
        self.over.set_result(exc)


@pytest.mark.parametrize("protocol", [Recorder, Buffered])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_megabytes_in_both_directions_at_once(protocol, version):
    client = client_context()
    client.maximum_version = version
    there, back = stream(1, 3 * MEGABYTE), stream(2, 3 * MEGABYTE)

    async def main():
        async with connected(client=client, ours=protocol, theirs=protocol) as (ours, theirs):
            cut = random.Random(3)
            for end, data in ((ours, there), (theirs, back)):
                view = memoryview(data)
                while view:
                    count = cut.choice([1, 100, 5000, 70_000, 300_000])
                    end.transport.write(view[:count])
                    view = view[count:]
            while len(ours.received) < len(back) or len(theirs.received) < len(there):
                await asyncio.sleep(0.001)
            assert ours.received == back
            assert theirs.received == there

    run(main())


@contextlib.asynccontextmanager
async def relay(address, cut):
    """A server that carries bytes to the address and back, in pieces of the sizes that `cut` gives."""

    async def carry(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                while data:
                    count = cut()
                    writer.write(data[:count])
                    await writer.drain()
                    data = data[count:]
                    # Each piece on its own.
                    await asyncio.sleep(0)
        writer.close()

    async def accept(reader, writer):
        other_reader, other_writer = await asyncio.open_connection(*address)
        await asyncio.gather(carry(reader, other_writer), carry(other_reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


@pytest.mark.parametrize(
    ("size", "cut"),
    [
        (2000, lambda: 1),
        (30_000, lambda: 7),
        (200_000, lambda: 1000),
        (400_000, lambda: random.choice([1, 5, 16_401, 50_000])),
    ],
    ids=["bytes", "sevens", "thousands", "any"],
)
def test_records_are_put_together_again(size, cut):
    data = stream(4, size)

    async def echo(reader, writer):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        async with server, relay(server.sockets[0].getsockname(), cut) as address:
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(data)
            assert await reader.readexactly(size) == data
            writer.close()
            await writer.wait_closed()

    run(main())


def test_writelines_and_all_kinds_of_bytes():
    async def main():
        async with connected() as (ours, theirs):
            transport = ours.transport
            transport.write(b"")
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b"", b"d" * 20_000])
            transport.writelines([])
            transport.write(bytearray(b"e"))
            transport.write(memoryview(b"f"))
            while len(theirs.received) < 20_005:
                await turns(1)
            assert theirs.received == b"abc" + b"d" * 20_000 + b"ef"

    run(main())


def test_what_is_not_bytes_is_refused():
    async def main():
        async with connected() as (ours, _):
            with pytest.raises(TypeError, match="expecting a bytes-like instance, got str"):
                ours.transport.write("text")
            with pytest.raises(NotImplementedError):
                ours.transport.write_eof()
            assert not ours.transport.can_write_eof()

    run(main())


def test_a_bytearray_may_change_after_it_was_written():
    async def main():
        async with connected() as (ours, theirs):
            data = bytearray(b"x" * 10_000)
            ours.transport.write(data)
            data[:] = b"y" * 10_000
            while len(theirs.received) < 10_000:
                await turns(1)
            assert theirs.received == b"x" * 10_000

    run(main())


class Keeper(Recorder):
    """Keeps some of the messages as they are, and where in the stream they belong."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.kept = []

    def data_received(self, data):
        if self.count % 3 == 0:
            self.kept.append((len(self.received), data))
        self.count += 1
        super().data_received(data)


@pytest.mark.parametrize("size", [100, 600, 5000, 60_000])
def test_messages_that_are_kept_do_not_change_with_the_next(size):
    """Messages of about one length may share their memory one after the other, if nobody can tell."""
    data = stream(5, 40 * size)

    async def main():
        async with connected(theirs=Keeper) as (ours, theirs):
            for start in range(0, len(data), size):
                ours.transport.write(data[start : start + size])
                while len(theirs.received) < start + size:
                    await asyncio.sleep(0)
            assert theirs.received == data
            assert len(theirs.kept) >= 40 / 3
            for start, message in theirs.kept:
                assert message == data[start : start + len(message)]
                assert hash(message) == hash(data[start : start + len(message)])

    run(main())


@pytest.mark.parametrize("size", [100, 600, 5000, 60_000])
def test_what_a_coroutine_keeps_does_not_change_with_the_next(size):
    """Several readers take turns; some of what they read is kept, some is on its way."""
    data = stream(6, 40 * size)
    kept = []

    async def echo(reader, writer):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
        writer.close()

    async def talk(address):
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_context(), server_hostname="localhost"
        )
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            at = start
            while at < start + size:
                part = await reader.read(65536)
                if start % (3 * size) == 0:
                    kept.append((at, part))
                at += len(part)
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            address = server.sockets[0].getsockname()
            await asyncio.gather(*(talk(address) for _ in range(4)))

    run(main())
    assert len(kept) >= 4 * 14
    for start, message in kept:
        assert message == data[start : start + len(message)]
        assert hash(message) == hash(data[start : start + len(message)])


def test_a_message_that_is_kept_takes_no_more_memory_than_it_needs():
    """A short record comes with the beginning of a long one, for which room was made."""

    class Parts(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.parts = asyncio.Queue()

        def data_received(self, data):
            self.parts.put_nowait(data)

    async def main():
        loop = asyncio.get_running_loop()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        async with plain_peer(server_side=True, protocol=Parts) as (task, theirs):
            shaking = True
            while shaking:
                try:
                    client.do_handshake()
                    shaking = False
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(theirs, outgoing.read())
                    incoming.write(await loop.sock_recv(theirs, 65536))
            await loop.sock_sendall(theirs, outgoing.read())
            _, protocol = await task
            kept = []
            tracemalloc.start()
            try:
                for _ in range(30):
                    client.write(b"s" * 600)
                    client.write(b"l" * 16_000)
                    sealed = outgoing.read()
                    await loop.sock_sendall(theirs, sealed[:-100])
                    kept.append(await protocol.parts.get())
                    await loop.sock_sendall(theirs, sealed[-100:])
                    assert await protocol.parts.get() == b"l" * 16_000
                memory, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert kept == [b"s" * 600] * 30
        assert memory < 10 * 16_000

    run(main())


@contextlib.asynccontextmanager
async def s_client(port: int, version: str):
    """`openssl s_client`, connected; and a function that sends a line and waits for an answer."""
    client = await asyncio.create_subprocess_exec(
        *["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )

    async def say(line: bytes, answer: bytes) -> None:
        # One line at a time: a command is one only at the beginning of what it reads.
        client.stdin.write(line)
        await client.stdout.readuntil(answer)

    try:
        yield client, say
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
        await client.communicate()


async def echo_lines(reader, writer):
    with contextlib.suppress(OSError):
        while line := await reader.readline():
            writer.write(b"echo " + line)
    writer.close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_keys_are_updated_in_the_middle_of_a_connection():
    async def main():
        async with await asyncio.start_server(
            echo_lines, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            port = server.sockets[0].getsockname()[1]
            async with s_client(port, "-tls1_3") as (_, say):
                await say(b"one\n", b"echo one\n")
                # K asks for new keys on both sides, k on its own side.
                await say(b"K\n", b"KEYUPDATE\n")
                await say(b"two\n", b"echo two\n")
                await say(b"k\n", b"KEYUPDATE\n")
                await say(b"three\n", b"echo three\n")

    run(main())


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_a_renegotiation_that_a_client_wants_is_refused_and_others_are_served():
    async def main():
        async with await asyncio.start_server(
            echo_lines, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            address = server.sockets[0].getsockname()
            async with s_client(address[1], "-tls1_2") as (client, say):
                await say(b"one\n", b"echo one\n")
                await say(b"R\n", b"RENEGOTIATING\n")
                assert b"no renegotiation" in await client.stdout.read()
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"two\n")
            assert await reader.readline() == b"echo two\n"
            writer.close()
            await writer.wait_closed()

    run(main())
