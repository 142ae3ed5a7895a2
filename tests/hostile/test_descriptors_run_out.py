"""A process that has no descriptors left says so, goes on, and serves again when it has some."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket

import pytest

import ioxide

# Older versions of asyncio complain once for each place in the backlog, and start servers that do
# not listen.
pytestmark = pytest.mark.parametrize("run", ["ioxide"], indirect=True)

PEERS = 30
FREE = 5


@contextlib.contextmanager
def descriptors_left(count: int):
    """So many more can be opened, and then none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    # The gaps are filled, so that those which are free are the last ones.
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] < highest:
        fillers.append(os.dup(fillers[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *fillers) + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


class Greeter(asyncio.Protocol):
    """Greets, and counts who is here."""

    def __init__(self, here: set[Greeter]) -> None:
        self.here = here

    def connection_made(self, transport) -> None:
        self.here.add(self)
        transport.write(b"hello")

    def connection_lost(self, exc) -> None:
        self.here.discard(self)


def is_greeted(sock: socket.socket) -> bool:
    try:
        return sock.recv(10) == b"hello"
    except BlockingIOError:
        return False


def test_a_server_accepts_again_when_there_are_descriptors_again(run, made):
    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        here: set[Greeter] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Greeter(here), "127.0.0.1", 0
        )
        peers = [socket.socket() for _ in range(PEERS)]
        made.extend(peers)
        for peer in peers:
            peer.setblocking(False)
        with descriptors_left(FREE):
            for peer in peers:
                peer.connect_ex(server.sockets[0].getsockname())
            await asyncio.sleep(0.5)
            assert len(here) == FREE
            greeted = list(filter(is_greeted, peers))
            assert len(greeted) == FREE, "who was accepted is served meanwhile"
            (complaint,) = complaints
            assert complaint["exception"].errno == errno.EMFILE
            assert complaint["message"] == "socket.accept() out of system resource"
            await asyncio.sleep(10)
            assert len(here) == FREE
            assert 5 <= len(complaints) <= 12, "it tries again about once a second"
            for peer in greeted[:3]:
                peer.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(2)
            assert len(here) == FREE, "others have come in their place"
        await asyncio.sleep(2)
        assert len(here) == PEERS - 3
        assert sum(map(is_greeted, peers)) == PEERS - FREE
        server.close()

    run(main)


def test_connecting_says_that_there_are_no_descriptors(run):
    async def main():
        async def handler(reader, writer):
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with descriptors_left(0):
            with pytest.raises(OSError) as raised:
                await asyncio.open_connection(*address)
            assert raised.value.errno == errno.EMFILE
            with pytest.raises(OSError):
                await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b"hello"
        writer.close()
        server.close()

    run(main)


@pytest.mark.parametrize("free", [0, 1])
def test_a_loop_that_cannot_be_opened_says_so_and_leaves_nothing(free, run):
    before = os.listdir("/proc/self/fd")
    with descriptors_left(free), pytest.raises(OSError) as raised:
        ioxide.new_event_loop()
    assert raised.value.errno == errno.EMFILE
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("free", [0, 1])
def test_a_run_opens_descriptors_when_it_first_waits_and_says_if_there_are_none(free, run):
    steps = []

    async def never_waits():
        await ioxide.sleep(0)
        return "done"

    async def waits():
        steps.append("begun")
        try:
            await ioxide.sleep(0.001)
        finally:
            steps.append("ended")

    before = os.listdir("/proc/self/fd")
    with descriptors_left(free):
        assert ioxide.run(never_waits()) == "done"
        with pytest.raises(OSError) as raised:
            ioxide.run(waits())
    assert raised.value.errno == errno.EMFILE
    assert steps == ["begun", "ended"]
    assert os.listdir("/proc/self/fd") == before
    ioxide.run(waits())
    assert os.listdir("/proc/self/fd") == before
