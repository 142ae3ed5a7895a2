"""Peers that send without end, or never read what they asked for: a gigabyte stays where it was."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

import pytest

GIGABYTE = 2**30
#: More than what the kernel and one connection's buffers hold, far less than what is sent.
MOST_BYTES = 24 * 2**20
CHUNK = bytes(64 * 1024)


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def echo_works(address) -> bool:
    """Whether another client is served, who says so with a second connection."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"echo\n")
    answer = await reader.readline()
    writer.close()
    return answer == b"echo\n"


async def echo_or(other, reader, writer) -> None:
    """Echo what begins with `echo`; anybody else is for `other`."""
    try:
        if (line := await reader.readline()) == b"echo\n":
            writer.write(line)
            await writer.drain()
        else:
            await other(reader, writer)
    except ConnectionError:
        pass
    finally:
        writer.close()


def send_all_that_fits(sock: socket.socket, most: int = GIGABYTE) -> int:
    """Send until the kernel takes no more; return how much it took."""
    sent = 0
    try:
        while sent < most:
            sent += sock.send(CHUNK)
    except BlockingIOError:
        pass
    return sent


async def flood(sock: socket.socket) -> int:
    """Send whenever there is room, until there has been none for a while."""
    sent, idle = 0, 0
    while sent < GIGABYTE and idle < 20:
        more = send_all_that_fits(sock, GIGABYTE - sent)
        sent += more
        idle = 0 if more else idle + 1
        await asyncio.sleep(0.001)
    return sent


def test_a_gigabyte_for_a_peer_that_does_not_read_waits_in_drain(run, connect):
    async def main():
        written, largest = 0, 0
        ended: asyncio.Future = asyncio.get_running_loop().create_future()

        async def give(reader, writer):
            nonlocal written, largest
            try:
                for _ in range(GIGABYTE // len(CHUNK)):
                    writer.write(CHUNK)
                    written += len(CHUNK)
                    largest = max(largest, writer.transport.get_write_buffer_size())
                    await writer.drain()
            except ConnectionError as error:
                ended.set_result(error)

        server = await asyncio.start_server(lambda r, w: echo_or(give, r, w), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        before = resident_bytes()
        greedy = connect(address)
        greedy.send(b"give me all\n")
        await asyncio.sleep(1)
        assert await echo_works(address)
        waiting = written
        await asyncio.sleep(60)
        assert written == waiting <= MOST_BYTES, "drain() has let a writer go on"
        assert largest <= 64 * 1024 + len(CHUNK)
        assert resident_bytes() - before < MOST_BYTES
        greedy.close()
        assert isinstance(await ended, ConnectionError)
        server.close()

    run(main)


def test_a_protocol_is_told_to_pause_for_a_peer_that_does_not_read(run, connect):
    class Giver(asyncio.Protocol):
        def __init__(self):
            self.paused, self.written = False, 0
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport
            asyncio.get_running_loop().call_soon(self.give)

        def give(self):
            while not self.paused and self.written < GIGABYTE:
                self.transport.write(CHUNK)
                self.written += len(CHUNK)

        def pause_writing(self):
            self.paused = True

        def resume_writing(self):
            self.paused = False
            self.give()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        givers = []

        def factory():
            givers.append(Giver())
            return givers[-1]

        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        greedy = [connect(server.sockets[0].getsockname()) for _ in range(20)]
        before = resident_bytes()
        await asyncio.sleep(10)
        assert len(givers) == 20
        for giver in givers:
            assert giver.paused and giver.written < MOST_BYTES
            assert giver.transport.get_write_buffer_size() <= 64 * 1024 + len(CHUNK)
        assert resident_bytes() - before < MOST_BYTES
        for sock in greedy:
            sock.close()
        lost = [await giver.lost for giver in givers]
        assert all(isinstance(error, ConnectionError) for error in lost)
        server.close()

    run(main)


def test_a_gigabyte_that_nobody_reads_stays_with_its_sender(run, connect):
    async def main():
        readers = []

        async def ignore(reader, writer):
            readers.append(reader)
            await asyncio.sleep(3600)

        server = await asyncio.start_server(lambda r, w: echo_or(ignore, r, w), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        before = resident_bytes()
        flooding = connect(address)
        flooding.send(b"take all\n")
        sent = await flood(flooding)
        assert await echo_works(address)
        assert sent < MOST_BYTES
        assert len(readers[0]._buffer) <= 64 * 1024 * 2 + 256 * 1024
        assert resident_bytes() - before < MOST_BYTES
        flooding.close()
        await asyncio.sleep(4000)
        server.close()

    run(main)


@pytest.mark.slow
def test_a_gigabyte_passes_a_reader_without_staying(connect):
    """On the real clock, since here bytes are under way all the time."""
    import ioxide

    async def main():
        total = 0

        async def take(reader, writer):
            nonlocal total
            while data := await reader.read(2**18):
                total += len(data)
            writer.write(b"%d\n" % total)
            writer.close()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        chunk = bytes(2**20)
        before = resident_bytes()
        for _ in range(GIGABYTE // len(chunk)):
            writer.write(chunk)
            await writer.drain()
        most = resident_bytes() - before
        writer.write_eof()
        assert int(await reader.readline()) == GIGABYTE
        assert most < MOST_BYTES
        writer.close()
        server.close()

    with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
        runner.run(main())


def test_a_line_without_an_end_is_refused_at_the_limit(run, connect):
    async def main():
        refused = []

        async def handler(reader, writer):
            try:
                await reader.readline()
            except ValueError as error:
                refused.append(str(error))
            writer.close()

        server = await asyncio.start_server(handler, "127.0.0.1", 0, limit=1000)
        endless = connect(server.sockets[0].getsockname())
        endless.send(b"x" * 1001)
        await asyncio.sleep(1)
        assert len(refused) == 1 and "limit" in refused[0]
        server.close()

    run(main)


def test_a_peer_that_only_half_closes_gets_its_answer_and_holds_nothing(run, connect):
    async def main():
        served = 0

        async def handler(reader, writer):
            nonlocal served
            assert await reader.read() == b"question"
            writer.write(b"answer")
            writer.close()
            await writer.wait_closed()
            served += 1

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        before = len(os.listdir("/proc/self/fd"))
        peers = [connect(server.sockets[0].getsockname()) for _ in range(50)]
        for peer in peers:
            peer.send(b"question")
            peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(1)
        assert served == 50
        assert len(os.listdir("/proc/self/fd")) == before + 50, "only the peers' own are open"
        assert all(peer.recv(10) == b"answer" for peer in peers)
        server.close()

    run(main)


def test_peers_that_reset_before_they_are_accepted_harm_nobody(run, connect):
    async def main():
        async def other(reader, writer):
            await reader.read()

        server = await asyncio.start_server(lambda r, w: echo_or(other, r, w), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(50):
            sock = connect(address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        assert await echo_works(address)
        server.close()

    run(main)
