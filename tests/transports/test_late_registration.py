"""A connection is made known to the kernel when the loop next asks it, and not at all if it is closed before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket

import pytest

import ioxide

from .peers import Recorder, both, idle_children, run, turns
from .test_descriptors import watched


@contextlib.asynccontextmanager
async def fresh(**on):
    """Transport and protocol of a connection that the program has just heard of, and the peer."""
    # The kernel has just been asked, so that it is not soon asked again.
    await turns(1)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport, protocol = await loop.create_connection(
            lambda: Recorder(**on), *server.getsockname()
        )
        peer, _ = server.accept()
    with peer:
        yield transport, protocol, peer
        if not protocol.over.done():
            transport.abort()
            await protocol.over


def number_of(transport) -> int:
    return transport._sock_fd


def test_connection_that_is_closed_at_once_is_never_registered():
    async def main():
        before = watched()
        async with fresh() as (transport, protocol, peer):
            assert watched() == before
            transport.close()
            assert watched() == before
            await protocol.over
            assert watched() == before
            assert peer.recv(1) == b""

    run(main())


def test_connection_is_registered_when_the_loop_waits():
    async def main():
        async with fresh() as (transport, protocol, peer):
            assert number_of(transport) not in watched()
            await turns(1)
            assert number_of(transport) in watched()
            peer.send(b"x")
            await turns(1)
            assert protocol.received == b"x"

    run(main())


@both
def test_what_has_arrived_is_heard_by_a_program_that_never_lets_the_loop_wait(new_loop):
    async def main():
        async with fresh() as (_, protocol, peer):
            peer.send(b"x")
            for _ in range(3):
                await asyncio.sleep(0)
            assert protocol.received == b"x"

    run(main(), new_loop)


def turns_until_heard(new_loop) -> int:
    """How many turns pass from connecting to a server on the same loop until its greeting is there."""

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Recorder(made=lambda protocol: protocol.transport.write(b"hello")),
            "127.0.0.1",
            0,
        )
        protocol = Recorder()
        address = server.sockets[0].getsockname()
        connecting = asyncio.ensure_future(loop.create_connection(lambda: protocol, *address))
        count = 0
        while not protocol.received:
            await asyncio.sleep(0)
            count += 1
        transport, _ = await connecting
        transport.close()
        await protocol.over
        server.close()
        return count

    return run(main(), new_loop)


def test_answer_of_the_same_loop_comes_no_later_than_with_asyncio():
    assert turns_until_heard(ioxide.new_event_loop) <= turns_until_heard(asyncio.SelectorEventLoop)


def test_next_connection_under_the_same_number_is_heard():
    async def main():
        loop = asyncio.get_running_loop()
        await turns(1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            first, gone = await loop.create_connection(Recorder, *address)
            number = number_of(first)
            first.close()
            await gone.over
            transport, protocol = await loop.create_connection(Recorder, *address)
            assert number_of(transport) == number
            server.accept()[0].close()
            peer, _ = server.accept()
        with peer:
            peer.send(b"x")
            await turns(1)
            assert protocol.received == b"x"
            assert gone.received == b""
            transport.close()
            await protocol.over

    run(main())


def test_programs_own_descriptor_under_the_number_is_registered_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        one, far = socket.socketpair()
        async with fresh() as (transport, protocol, _):
            number = number_of(transport)
            transport.close()
            await protocol.over
            with one, far, socket.socket(fileno=os.dup2(one.fileno(), number)) as near:
                heard = loop.create_future()
                loop.add_reader(near, lambda: heard.done() or heard.set_result(near.recv(1)))
                assert number in watched()
                far.send(b"x")
                assert await heard == b"x"
                loop.remove_reader(near)
                assert number not in watched()

    run(main())


def test_asking_for_the_socket_registers_it():
    async def main():
        async with fresh() as (transport, protocol, _):
            kept = transport.get_extra_info("socket")
            number = number_of(transport)
            assert number in watched()
            duplicate = os.dup(kept.fileno())
            transport.close()
            await protocol.over
            assert number not in watched()
            os.close(duplicate)

    run(main())


def test_paused_connection_is_not_registered_until_it_is_resumed():
    async def main():
        async with fresh() as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"x")
            await turns()
            assert number_of(transport) not in watched()
            transport.resume_reading()
            await turns()
            assert protocol.received == b"x"

    run(main())


def test_both_sides_that_are_wanted_before_the_loop_waits_are_registered():
    async def main():
        async with fresh() as (transport, protocol, peer):
            data = os.urandom(8_000_000)
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            peer.send(b"x")
            peer.setblocking(False)
            received = await asyncio.get_running_loop().sock_recv(peer, len(data))
            while len(received) < len(data):
                received += await asyncio.get_running_loop().sock_recv(peer, len(data))
            assert received == data
            assert protocol.received == b"x"

    run(main())


def test_connection_that_cannot_be_registered_is_reported_and_lost():
    async def main():
        reported = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        async with fresh() as (transport, protocol, _):
            # As when the kernel has no memory left: it refuses regular files.
            with open(__file__) as file:
                os.dup2(file.fileno(), number_of(transport))
            assert isinstance(await protocol.over, PermissionError)
            assert protocol.log == ["made", "lost:PermissionError"]
            assert [context["transport"] for context in reported] == [transport]
            assert [context["exception"] for context in reported] == [protocol.over.result()]

    run(main())


def test_handler_that_leaves_the_loop_when_a_connection_cannot_be_registered():
    lost = []

    def handle(loop, context):
        loop.set_exception_handler(None)
        raise SystemExit(3)

    async def main():
        asyncio.get_running_loop().set_exception_handler(handle)
        async with fresh(lost=lost.append) as (transport, protocol, _):
            with open(__file__) as file:
                os.dup2(file.fileno(), number_of(transport))
            await asyncio.wait([protocol.over])

    with pytest.raises(SystemExit, match="3"):
        run(main())
    assert isinstance(lost[0].over.result(), PermissionError)


@contextlib.contextmanager
def stopped():
    """A loop that was stopped before it could wait, what it has of its connection, and the peer."""

    async def connect(address):
        loop = asyncio.get_running_loop()
        await turns(1)
        made = await loop.create_connection(Recorder, *address)
        loop.stop()
        return made

    loop = ioxide.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = loop.create_task(connect(server.getsockname()))
        loop.run_forever()
        peer, _ = server.accept()
    _, protocol = connecting.result()
    del connecting, _
    assert number_of(protocol.transport) not in watched()
    with peer:
        yield loop, protocol, peer
    loop.close()


async def hear(protocol):
    while not protocol.received:
        await turns(1)
    protocol.transport.close()
    await protocol.over


def test_loop_that_is_closed_before_it_waits_watches_nothing():
    with stopped() as (loop, protocol, peer):
        loop.close()
        with pytest.warns(ResourceWarning):
            protocol.transport = None
            gc.collect()
        assert peer.recv(1) == b""


def test_loop_that_was_stopped_before_it_waited_hears_when_it_runs_again():
    with stopped() as (loop, protocol, peer):
        peer.send(b"x")
        loop.run_until_complete(asyncio.wait_for(hear(protocol), 10))
        assert protocol.received == b"x"


# Threads of the libraries under test may be there; the child does nothing that needs them.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_that_is_forked_before_the_loop_waits_hears_by_itself():
    with stopped() as (loop, protocol, peer):
        if (child := os.fork()) == 0:
            try:
                loop.run_until_complete(asyncio.wait_for(hear(protocol), 10))
            finally:
                os._exit(int.from_bytes(protocol.received, "big"))
        peer.send(bytes([7]))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        before = watched()
        loop.run_until_complete(turns(1))
        assert watched() == before | {number_of(protocol.transport)}
        protocol.transport.close()
        loop.run_until_complete(protocol.over)
        assert watched() == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_connection_of_which_a_child_was_forked_is_watched_no_more_once_it_is_closed():
    async def main():
        before = watched()
        with idle_children() as fork:
            async with fresh() as (transport, protocol, peer):
                fork()
                await turns(1)
                assert number_of(transport) in watched()
                transport.close()
                peer.send(b"x")
                await protocol.over
                assert watched() == before

    run(main())


def test_many_that_are_closed_at_once_beside_one_that_stays():
    async def main():
        loop = asyncio.get_running_loop()
        async with fresh() as (_, protocol, peer):
            with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
                address = server.getsockname()

                async def knock():
                    for _ in range(20):
                        transport, gone = await loop.create_connection(Recorder, *address)
                        transport.close()
                        await gone.over

                before = watched()
                await asyncio.gather(*(knock() for _ in range(4)))
                peer.send(b"x")
                await turns(1)
                assert watched() == before | {number_of(protocol.transport)}
                assert protocol.received == b"x"

    run(main())
