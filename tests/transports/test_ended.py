"""Connections whose peer has ended its side, and that the program keeps open, or closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

import pytest

from .peers import Recorder, both, idle_children, run, turns
from .test_descriptors import watched


@contextlib.asynccontextmanager
async def ended():
    """Transport and protocol of a connection that the peer will say nothing more on, and the peer."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport, protocol = await loop.create_connection(
            lambda: Recorder(eof=lambda protocol: True), *server.getsockname()
        )
        peer, _ = server.accept()
    with peer:
        peer.shutdown(socket.SHUT_WR)
        while protocol.log[-1] != "eof":
            await asyncio.sleep(0)
        yield transport, protocol, peer
        if not protocol.over.done():
            transport.abort()
            await protocol.over


def test_end_that_the_kernel_goes_on_to_report_is_watched_no_more():
    async def main():
        before = watched()
        async with ended() as (transport, protocol, _):
            await turns()
            assert watched() == before
            assert not transport.is_closing()
            assert protocol.log == ["made", "eof"]

    run(main())


def test_connection_that_is_closed_at_its_end_is_watched_no_more():
    async def main():
        before = watched()
        async with ended() as (transport, protocol, peer):
            transport.close()
            await protocol.over
            assert watched() == before
            assert peer.recv(1) == b""

    run(main())


@both
def test_what_does_not_fit_is_sent_after_the_end(new_loop):
    async def main():
        async with ended() as (transport, protocol, peer):
            data = os.urandom(8_000_000)
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            transport.close()
            peer.setblocking(False)
            received = bytearray()
            while not protocol.over.done():
                with contextlib.suppress(BlockingIOError):
                    received += peer.recv(1 << 20)
                await asyncio.sleep(0)
            peer.setblocking(True)
            while rest := peer.recv(1 << 20):
                received += rest
            assert received == data

    run(main(), new_loop)


def test_pausing_and_resuming_after_the_end_tells_of_no_second_one():
    async def main():
        async with ended() as (transport, protocol, _):
            transport.pause_reading()
            await turns()
            transport.resume_reading()
            await turns()
            assert protocol.log == ["made", "eof"]

    run(main())


@both
def test_reset_after_the_end_is_noticed_by_who_writes(new_loop):
    async def main():
        async with ended() as (transport, protocol, peer):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await turns()
            assert protocol.log == ["made", "eof"]
            transport.write(b"x")
            assert isinstance(await protocol.over, ConnectionError)

    run(main(), new_loop)


def test_descriptor_of_the_programs_own_after_the_end_is_not_watched():
    kept = []

    async def main():
        before = watched()
        async with ended() as (transport, protocol, _):
            kept.append(os.dup(transport.get_extra_info("socket").fileno()))
            transport.close()
            await protocol.over
            assert watched() == before

    run(main())
    for number in kept:
        os.close(number)


# Threads of the libraries under test may be there; the child does nothing that needs them.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_descriptor_of_a_forked_child_after_the_end_is_not_watched():
    async def main():
        before = watched()
        with idle_children() as fork:
            async with ended() as (transport, protocol, _):
                fork()
                transport.close()
                await protocol.over
                assert watched() == before

    run(main())


def test_number_of_an_ended_connection_may_be_reused():
    async def main():
        loop = asyncio.get_running_loop()
        async with ended() as (transport, protocol, _):
            number = transport._sock_fd
            near, far = socket.socketpair()
            transport.close()
            await protocol.over
            with near, far:
                reused = socket.socket(fileno=os.dup2(near.fileno(), number))
                reused.setblocking(False)
                heard = loop.create_future()
                loop.add_reader(reused, lambda: heard.set_result(reused.recv(1)))
                await turns()
                far.send(b"x")
                assert await heard == b"x"
                loop.remove_reader(reused)
                reused.close()

    run(main())
