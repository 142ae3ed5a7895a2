"""open_connection(): what it gives, and whom it asks."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref

import pytest

import ioxide

MODULES = {"asyncio": (asyncio, asyncio.SelectorEventLoop), "ioxide": (ioxide, ioxide.EventLoop)}

#: `aio.open_connection` and the class of loop that goes with it.
both = pytest.mark.parametrize("aio, loop_class", MODULES.values(), ids=MODULES)


def run(main, new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(sock):
    return sock.getsockname()[1]


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@both
def test_reader_and_writer_belong_to_the_connection(aio, loop_class, server):
    async def main():
        port = port_of(server)
        reader, writer = await aio.open_connection("127.0.0.1", port)
        peer, address = server.accept()
        assert (type(reader), type(writer)) == (aio.StreamReader, aio.StreamWriter)
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        assert writer.get_extra_info("sockname") == address
        protocol = writer.transport.get_protocol()
        assert type(protocol) is aio.StreamReaderProtocol
        assert protocol._stream_reader_wr() is reader
        assert reader._transport is writer.transport
        with peer:
            writer.write(b"question")
            assert peer.recv(100) == b"question"
            peer.sendall(b"answer")
            assert await reader.readexactly(6) == b"answer"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    run(main(), loop_class)


@both
def test_limit_holds_the_peer_back_and_is_refused_if_it_is_none(aio, loop_class, server):
    async def main():
        reader, writer = await aio.open_connection("127.0.0.1", port_of(server), limit=16)
        with server.accept()[0] as peer:
            peer.sendall(b"x" * 40)
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil(b"\n")
        writer.close()
        before = open_descriptors()
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            await aio.open_connection("127.0.0.1", port_of(server), limit=0)
        assert open_descriptors() <= before

    run(main(), loop_class)


@both
def test_refusal_has_the_same_words(aio, loop_class, server):
    async def main():
        port = port_of(server)
        server.close()
        with pytest.raises(ConnectionRefusedError) as caught:
            await aio.open_connection("127.0.0.1", port)
        assert str(caught.value).endswith(f"Connect call failed ('127.0.0.1', {port})")

    run(main(), loop_class)


@both
def test_wrong_arguments_are_refused_in_the_same_words(aio, loop_class):
    async def main():
        with pytest.raises(ValueError, match="host and port was not specified"):
            await aio.open_connection()
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            await aio.open_connection("127.0.0.1", 1, colour="red")

    run(main(), loop_class)


@both
def test_cancelled_when_the_connection_stands_closes_it(aio, loop_class, server):
    async def main():
        before = open_descriptors()
        attempt = asyncio.ensure_future(aio.open_connection("127.0.0.1", port_of(server)))
        # As soon as the connection is there, before the task has gone on.
        while open_descriptors() == before:
            await asyncio.sleep(0)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        with server.accept()[0] as peer:
            for _ in range(5):
                await asyncio.sleep(0)
            assert peer.recv(1) == b""
        gc.collect()
        assert open_descriptors() == before

    run(main(), loop_class)


@both
def test_connection_that_nobody_keeps_is_closed_with_a_warning(aio, loop_class, server):
    async def main():
        reader, writer = await aio.open_connection("127.0.0.1", port_of(server))
        gone = weakref.ref(reader)
        with server.accept()[0] as peer:
            with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
                del reader, writer
                gc.collect()
            assert gone() is None
            for _ in range(5):
                await asyncio.sleep(0)
            assert peer.recv(1) == b""

    run(main(), loop_class)


class Asked(Exception):
    pass


async def asked(*args, **kwargs):
    raise Asked


@both
@pytest.mark.parametrize("name", ["create_connection", "sock_connect"])
def test_method_that_was_replaced_on_the_loop_is_asked(aio, loop_class, name, server):
    async def main():
        setattr(asyncio.get_running_loop(), name, asked)
        with pytest.raises(Asked):
            await aio.open_connection("127.0.0.1", port_of(server))

    run(main(), loop_class)


@both
@pytest.mark.parametrize("name", ["create_connection", "sock_connect"])
def test_method_that_was_replaced_on_the_class_is_asked(aio, loop_class, name, server, monkeypatch):
    async def main():
        with pytest.raises(Asked):
            await aio.open_connection("127.0.0.1", port_of(server))

    monkeypatch.setattr(loop_class, name, asked)
    run(main(), loop_class)


def refuse(*args, **kwargs):
    raise Asked


#: Where programs put something in the place of what connects, by the name under which the tests know it.
PLACES = {
    "the loop's class": (ioxide.EventLoop, "create_connection", asked),
    "a base of it": (
        next(base for base in ioxide.EventLoop.__mro__ if "sock_connect" in vars(base)),
        "sock_connect",
        asked,
    ),
    "the class of sockets": (socket, "socket", refuse),
    "its method": (socket.socket, "connect", refuse),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_is_replaced_between_two_connections_is_asked_until_it_is_put_back(
    place, server, monkeypatch
):
    async def connect():
        _, writer = await ioxide.open_connection("127.0.0.1", port_of(server))
        writer.close()
        await writer.wait_closed()

    async def main():
        for _ in range(3):
            await connect()
            monkeypatch.setattr(*place)
            with pytest.raises(Asked):
                await connect()
            monkeypatch.undo()
        await connect()

    run(main(), ioxide.EventLoop)


@both
@pytest.mark.parametrize("name", ["create_connection", "sock_connect"])
def test_method_of_a_subclass_is_asked(aio, loop_class, name, server):
    async def main():
        with pytest.raises(Asked):
            await aio.open_connection("127.0.0.1", port_of(server))

    run(main(), type("Loop", (loop_class,), {name: asked}))


@both
def test_subclass_that_replaces_nothing_connects(aio, loop_class, server):
    async def main():
        _, writer = await aio.open_connection("127.0.0.1", port_of(server))
        writer.close()
        await writer.wait_closed()

    run(main(), type("Loop", (loop_class,), {}))


def test_loop_of_another_engine_is_asked(server):
    async def main():
        reader, writer = await ioxide.open_connection("127.0.0.1", port_of(server))
        with server.accept()[0] as peer:
            peer.sendall(b"answer")
        assert await reader.read() == b"answer"
        writer.close()
        await writer.wait_closed()

    run(main(), asyncio.SelectorEventLoop)


def test_debug_mode_remembers_where_the_reader_was_made(server):
    async def main():
        asyncio.get_running_loop().set_debug(True)
        reader, writer = await ioxide.open_connection("127.0.0.1", port_of(server))
        assert "open_connection" in [frame.name for frame in reader._source_traceback]
        assert writer.transport.get_protocol()._source_traceback == reader._source_traceback
        writer.close()
        await writer.wait_closed()

    run(main(), ioxide.EventLoop)


def test_limit_that_is_none_is_told_when_a_client_comes():
    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        server = await ioxide.start_server(lambda *_: None, "127.0.0.1", 0, limit=-1)
        _, port = server.sockets[0].getsockname()
        with socket.create_connection(("127.0.0.1", port)) as peer:
            while not told:
                await asyncio.sleep(0)
            peer.settimeout(50)
            assert peer.recv(1) == b""
        assert told[0]["message"] == "Error on transport creation for incoming connection"
        assert str(told[0]["exception"]) == "Limit cannot be <= 0"
        server.close()
        await server.wait_closed()

    run(main(), ioxide.EventLoop)


def test_server_of_another_engines_loop_serves_with_these_streams():
    async def handler(reader, writer):
        assert type(reader) is ioxide.StreamReader
        writer.write((await reader.readexactly(5)).upper())
        writer.close()

    async def main():
        server = await ioxide.start_server(handler, "127.0.0.1", 0)
        reader, writer = await ioxide.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main(), asyncio.SelectorEventLoop)


def test_objects_of_a_connection_know_nothing_of_the_one_before(server):
    """Their memory is that of the last connection's."""

    async def connect(mark):
        reader, writer = await ioxide.open_connection("127.0.0.1", port_of(server))
        objects = [reader, writer, writer.transport, writer.transport.get_protocol()]
        told = []
        for thing in objects:
            assert not vars(thing)
            assert not weakref.getweakrefcount(thing) or thing is reader
            thing.mark = mark
        references = [weakref.ref(thing, told.append) for thing in objects]
        numbers = {id(thing) for thing in objects}
        peer, _ = server.accept()
        with peer:
            peer.sendall(mark)
            assert await reader.readexactly(len(mark)) == mark
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        del objects, thing, reader, writer
        await asyncio.sleep(0)
        gc.collect()
        assert sorted(map(id, told)) == sorted(map(id, references))
        return numbers

    async def main():
        first = await connect(b"first")
        second = await connect(b"second")
        assert first & second

    run(main(), ioxide.EventLoop)
