"""A descriptor has one owner: nobody reads or writes what is another's, and none is left over."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

import pytest

from .peers import Recorder, both, idle_children, pair, run, turns


def test_bytes_never_reach_the_next_owner_of_a_number():
    async def main():
        loop = asyncio.get_running_loop()
        async with pair() as (protocol, _):
            number = protocol.transport._sock.fileno()
            protocol.transport._sock.close()
            # The lowest free number is the one that was just closed.
            near, far = socket.socketpair()
            assert near.fileno() == number
            far.setblocking(False)
            protocol.transport.write(b"for the first connection")
            with pytest.raises(BlockingIOError):
                far.recv(100)
            far.send(b"for the second")
            await turns()
            assert protocol.received == b""
            _, second = await loop.create_connection(Recorder, sock=near)
            await turns()
            assert second.received == b"for the second"
            second.transport.close()
            await second.over
            far.close()

    run(main())


@both
def test_no_descriptor_is_left_over(new_loop):
    async def connect(address):
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"x")
        return protocol

    async def main():
        loop = asyncio.get_running_loop()
        before = len(os.listdir("/proc/self/fd"))
        server = await loop.create_server(
            lambda: Recorder(data=lambda p: p.transport.close()), "127.0.0.1", 0
        )
        address = server.sockets[0].getsockname()
        for _ in range(5):
            clients = await asyncio.gather(*(connect(address) for _ in range(20)))
            await asyncio.gather(*(client.over for client in clients))
        server.close()
        await server.wait_closed()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main(), new_loop)


@pytest.mark.slow
def test_a_server_survives_that_descriptors_run_out_and_serves_again():
    async def main():
        loop = asyncio.get_running_loop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        server = await loop.create_server(
            lambda: Recorder(data=lambda p: p.transport.write(p.received)), "127.0.0.1", 0
        )
        clients = [socket.socket() for _ in range(3)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        spare = [os.dup(0) for _ in range(highest)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
        try:
            for client in clients:
                client.connect(server.sockets[0].getsockname())
            await turns()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in spare:
                os.close(fd)
        assert [context["message"] for context in errors] == [
            "socket.accept() out of system resource"
        ]
        for client in clients:
            client.setblocking(False)
            await loop.sock_sendall(client, b"still there?")
            assert await loop.sock_recv(client, 100) == b"still there?"
            client.close()
        server.close()
        await server.wait_closed()

    run(main())


@both
def test_callbacks_on_a_transports_descriptor_are_refused(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        async with pair() as (protocol, _):
            sock = protocol.transport.get_extra_info("socket")
            for add in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match="is used by transport"):
                    add(sock, print)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(protocol.transport._sock, 1)

    run(main(), new_loop)


def watched() -> set[int]:
    """The numbers that the epoll instances of this process were given, and still tell of."""
    found = set()
    for name in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{name}") as lines:
                found |= {int(line.split()[1]) for line in lines if line.startswith("tfd:")}
        except FileNotFoundError:
            continue
    return found


async def closed_connection(before_closing, after_closing=lambda transport: None):
    """Close a connection; return whether the kernel still tells of it, and the peer, which has said more."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        peer, _ = server.accept()
    await turns()
    before_closing(transport)
    transport.close()
    after_closing(transport)
    with peer:
        peer.send(b"more")
        await protocol.over
        await turns()
        return watched()


def test_closed_connection_is_watched_no_more():
    async def main():
        before = watched()
        assert await closed_connection(lambda transport: None) == before

    run(main())


def test_closed_connection_is_watched_no_more_where_the_program_has_another_descriptor():
    kept = []

    def duplicate(transport):
        kept.append(os.dup(transport.get_extra_info("socket").fileno()))

    async def main():
        before = watched()
        assert await closed_connection(duplicate) == before
        assert await closed_connection(lambda transport: None, duplicate) == before

    run(main())
    for number in kept:
        os.close(number)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_closed_connection_is_watched_no_more_where_a_forked_child_has_it():
    async def main():
        before = watched()
        with idle_children() as fork:
            assert await closed_connection(lambda _: fork()) == before

    run(main())


def test_number_of_a_closing_connection_may_be_reused_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            transport, protocol = await loop.create_connection(Recorder, *address)
            peer, _ = server.accept()
        await turns()
        number = transport._sock_fd
        near, far = socket.socketpair()
        transport.close()
        transport._sock.close()
        with near, far, peer:
            reused = socket.socket(fileno=os.dup2(near.fileno(), number))
            reused.setblocking(False)
            heard = loop.create_future()
            loop.add_reader(reused, lambda: heard.set_result(reused.recv(1)))
            far.send(b"x")
            assert await heard == b"x"
            loop.remove_reader(reused)
            await protocol.over
            reused.close()

    run(main())
