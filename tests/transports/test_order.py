"""The order of a protocol's calls is asyncio's, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import warnings

import pytest

from .peers import LOOPS, both, pair, run, turns


def scripts():
    """What is done with a connection: (name, what the protocol does, what the peer does)."""

    async def says(peer, text=b"abc"):
        with contextlib.suppress(BrokenPipeError):
            await asyncio.get_running_loop().sock_sendall(peer, text)

    async def ends(peer):
        await says(peer)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)

    async def leaves(peer):
        await says(peer)
        peer.close()

    async def waits(peer):
        await turns()

    def fails(protocol):
        raise ZeroDivisionError

    close = lambda protocol: protocol.transport.close()  # noqa: E731
    abort = lambda protocol: protocol.transport.abort()  # noqa: E731
    pause = lambda protocol: protocol.transport.pause_reading()  # noqa: E731

    yield "peer says and waits", {}, says
    yield "peer ends", {}, ends
    yield "peer ends, kept open", {"eof": lambda p: True}, ends
    yield "peer ends, kept open, then closed", {"eof": lambda p: [p.transport.close()]}, ends
    yield "peer leaves", {}, leaves
    yield "closed when made", {"made": close}, ends
    yield "aborted when made", {"made": abort}, ends
    yield "paused when made", {"made": pause}, says
    yield "paused when made, peer leaves", {"made": pause}, leaves
    yield "closed by data", {"data": close}, ends
    yield "aborted by data", {"data": abort}, ends
    yield "paused by data", {"data": pause}, ends
    yield "closed twice", {"data": lambda p: (close(p), close(p), abort(p))}, says
    yield "aborted in eof", {"eof": abort}, ends
    yield "data fails", {"data": fails}, ends
    yield "eof fails", {"eof": fails}, ends
    yield "made fails", {"made": fails}, ends
    yield "lost fails", {"lost": fails}, leaves
    yield "writes in lost", {"lost": lambda p: p.transport.write(b"x")}, leaves
    yield "writes after close", {"data": lambda p: (close(p), p.transport.write(b"x"))}, ends
    yield "half-closed", {"made": lambda p: p.transport.write_eof()}, ends
    yield "nothing", {}, waits


SCRIPTS = {name: (on, peer) for name, on, peer in scripts()}


async def history(on, peer_does):
    """Everything that can be seen of one connection."""
    errors = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(shown(context)))
    async with pair(**on) as (protocol, peer):
        await peer_does(peer)
        await turns()
        transport = protocol.transport
        log = [*protocol.log, f"closing={transport.is_closing()}", *errors]
        try:
            log.append(f"sent={bytes(peer.recv(100))!r}")
        except OSError as error:
            log.append(f"sent={type(error).__name__}")
    return [*log, *protocol.log]


def shown(context):
    keys = sorted(context.keys() - {"handle", "source_traceback"})
    exception = type(context.get("exception")).__name__
    if context["message"].startswith("Exception in callback"):
        # The callback is named after the insides of the loop.
        return ["Exception in callback", exception]
    return [context["message"], keys, exception]


@pytest.mark.parametrize("name", SCRIPTS)
def test_calls_come_as_in_asyncio(name):
    on, peer = SCRIPTS[name]
    histories = [run(history(on, peer), new_loop) for new_loop in LOOPS.values()]
    assert histories[1] == histories[0]


@both
def test_a_reset_is_told_as_such(new_loop):
    async def main():
        made = asyncio.get_running_loop().create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()

        class Client(asyncio.Protocol):
            def connection_lost(self, exc):
                made.set_result(exc)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        await loop.create_connection(Client, *server.sockets[0].getsockname())
        error = await made
        server.close()
        return error

    error = run(main(), new_loop)
    assert isinstance(error, ConnectionResetError)
    assert error.errno and error.strerror


@both
def test_a_transport_that_is_forgotten_says_so_and_closes_its_socket(new_loop):
    async def main():
        near, far = socket.socketpair()
        far.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=near)
        transport.pause_reading()
        with far, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol, near
            await turns()
            gc.collect()
            assert any("unclosed transport" in str(warning.message) for warning in caught)
            assert far.recv(1) == b""

    run(main(), new_loop)


def test_attributes_of_a_transport_can_be_replaced():
    async def main():
        async with pair() as (protocol, _):
            written = []
            protocol.transport.write = written.append
            protocol.transport.write(b"abc")
            assert written == [b"abc"]
            assert isinstance(protocol.transport, asyncio.Transport)

    run(main())


def test_bytes_and_ends_are_seen_after_as_many_turns_as_with_asyncio():
    def turns_until_seen(new_loop):
        async def main():
            seen = []

            class Peer(asyncio.Protocol):
                def data_received(self, data):
                    seen.append(turn)

                def connection_lost(self, exc):
                    seen.append(turn)

            loop, turn = asyncio.get_running_loop(), 0
            (here, _), (there, _) = [
                await loop.create_connection(Peer, sock=end) for end in socket.socketpair()
            ]
            for _ in range(300):
                # Long enough that a busy loop is at its laziest.
                await asyncio.sleep(0)
            for act in (lambda: here.write(b"one"), lambda: there.write(b"two"), here.close):
                turn = 0
                act()
                while turn < 20:
                    turn += 1
                    await asyncio.sleep(0)
            return seen

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    ours, theirs = (turns_until_seen(LOOPS[name]) for name in ("ioxide", "asyncio"))
    assert len(ours) == len(theirs) == 4
    assert all(0 <= mine - its <= 1 for mine, its in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.parametrize("how", ["streams", "sockets"])
def test_coroutines_hear_after_as_many_turns_as_with_asyncio(how):
    """Two conversations, of which the second is begun one turn later, so that they take turns."""

    def turns_until_heard(new_loop):
        async def main():
            loop, turn, heard = asyncio.get_running_loop(), 0, []

            async def talk(near, far):
                if how == "streams":
                    reader, writer = await asyncio.open_connection(sock=near)
                    peer, answer = await asyncio.open_connection(sock=far)
                    ends.extend((writer, answer))
                    steps = [
                        (lambda: writer.write(b"a"), lambda: peer.read(9)),
                        (lambda: answer.write(b"b"), lambda: reader.read(9)),
                    ]
                else:
                    near.setblocking(False)
                    far.setblocking(False)
                    ends.extend((near, far))
                    steps = [
                        (lambda: near.send(b"a"), lambda: loop.sock_recv(far, 9)),
                        (lambda: far.send(b"b"), lambda: loop.sock_recv(near, 9)),
                    ]
                for act, hear in steps * 20:
                    waiting = loop.create_task(hear())
                    await asyncio.sleep(0)
                    begun = turn
                    act()
                    await waiting
                    heard.append(turn - begun)

            ends = []
            tasks = []
            for _ in range(2):
                tasks.append(loop.create_task(talk(*socket.socketpair())))
                await asyncio.sleep(0)
            while not all(task.done() for task in tasks):
                turn += 1
                await asyncio.sleep(0)
            for end in ends:
                end.close()
            return heard

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    ours, theirs = (sum(turns_until_heard(LOOPS[name])) for name in ("ioxide", "asyncio"))
    assert ours <= theirs
