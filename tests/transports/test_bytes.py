"""Bytes arrive whole, in order and once, however they are written, taken and held back."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from harness.examples import examples
from hypothesis import given, strategies as st

import ioxide

from .peers import both, pair, run, turns


@pytest.mark.slow
@examples(40)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["write", "bytearray", "memoryview", "lines", "turn", "size"]),
            st.sampled_from([0, 1, 100, 4096, 4097, 70_000, 300_000]),
        ),
        max_size=25,
    ),
    takes=st.lists(st.sampled_from([1, 1000, 65_536, 1_000_000]), min_size=1, max_size=5),
    high=st.sampled_from([None, 0, 1, 50_000]),
)
def test_all_that_is_written_arrives(writes, takes, high):
    run(write_and_take(writes, takes, high))


async def write_and_take(writes, takes, high):
    loop = asyncio.get_running_loop()
    source = random.Random(repr(writes))
    async with pair() as (protocol, peer):
        transport = protocol.transport
        transport.set_write_buffer_limits(high)
        expected = bytearray()
        for kind, size in writes:
            data = source.randbytes(size)
            match kind:
                case "write":
                    transport.write(data)
                case "bytearray":
                    mutable = bytearray(data)
                    transport.write(mutable)
                    mutable[:] = bytes(size)
                case "memoryview":
                    transport.write(memoryview(data))
                case "lines":
                    transport.writelines([data, b"", bytearray(data)])
                    expected += data
                case "turn":
                    await asyncio.sleep(0)
                    continue
                case "size":
                    assert transport.get_write_buffer_size() <= len(expected)
                    continue
            expected += data
        transport.close()
        received = bytearray()
        index = 0
        while chunk := await loop.sock_recv(peer, takes[index % len(takes)]):
            received += chunk
            index += 1
        assert received == expected
        await turns()
        pauses = [name for name in protocol.log if name in ("pause", "resume")]
        assert pauses == ["pause", "resume"] * (len(pauses) // 2)
        assert protocol.log[-1] == "lost:None"


@both
def test_writes_of_one_turn_are_not_visible_as_buffered(new_loop):
    async def main():
        async with pair() as (protocol, peer):
            transport = protocol.transport
            for text in (b"a", b"b", b"c"):
                transport.write(text)
            assert transport.get_write_buffer_size() == 0
            assert peer.recv(10) == b"abc"
            transport.writelines([b"d", b"e"])
            transport.abort()
            assert peer.recv(10) == b"de"

    run(main(), new_loop)


def test_further_writes_of_a_turn_go_out_together_at_its_end():
    async def main():
        async with pair() as (protocol, peer):
            for text in (b"1", b"2", b"3"):
                protocol.transport.write(text)
            assert peer.recv(10) == b"1"
            await asyncio.sleep(0)
            assert peer.recv(10) == b"23"

    run(main())


def test_who_writes_twice_a_turn_has_both_sent_together_until_it_writes_once():
    async def main():
        async with pair() as (protocol, peer):
            write = protocol.transport.write
            head_came_first = []
            for twice in (False, True, True, True, False, False, True):
                await asyncio.sleep(0)
                write(b"head")
                head_came_first.append(is_there(peer))
                if twice:
                    write(b"body")
                await asyncio.sleep(0)
                assert peer.recv(100) == (b"headbody" if twice else b"head")
            # The second and the last are the first of their kind; the fifth ends the habit.
            assert head_came_first == [True, True, False, False, False, True, True]

    run(main())


def is_there(peer):
    """Whether bytes have come, which stay where they are."""
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@both
def test_what_was_written_before_the_protocol_failed_arrives(new_loop):
    def fail(protocol):
        protocol.transport.write(b"sorry, ")
        protocol.transport.write(b"I have to go")
        raise ValueError("of no interest")

    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: reported.append(told))
        async with pair(data=fail) as (protocol, peer):
            for _ in range(2):
                # The second time is the one of a connection with a habit of writing twice.
                protocol.transport.write(b"a")
                protocol.transport.write(b"b")
                await turns(1)
            peer.send(b"x")
            await protocol.over
            assert peer.recv(100) == b"ababsorry, I have to go"
            assert [type(told["exception"]) for told in reported] == [ValueError]

    run(main(), new_loop)


@both
def test_the_writer_is_paused_above_the_high_mark_and_goes_on_at_the_low_one(new_loop):
    async def main():
        async with pair() as (protocol, peer):
            transport = protocol.transport
            transport.set_write_buffer_limits(high=1000, low=100)
            assert transport.get_write_buffer_limits() == (100, 1000)
            while "pause" not in protocol.log:
                transport.write(bytes(500))
            assert transport.get_write_buffer_size() > 1000
            loop = asyncio.get_running_loop()
            while "resume" not in protocol.log:
                await loop.sock_recv(peer, 100_000)
            assert transport.get_write_buffer_size() <= 100
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\)"):
                transport.set_write_buffer_limits(1, 2)

    run(main(), new_loop)


@both
def test_half_closed_connections_still_receive(new_loop):
    async def main():
        async with pair(eof=lambda p: True) as (protocol, peer):
            loop = asyncio.get_running_loop()
            protocol.transport.write(b"question")
            protocol.transport.write_eof()
            assert await loop.sock_recv(peer, 100) == b"question"
            assert await loop.sock_recv(peer, 100) == b""
            await loop.sock_sendall(peer, b"answer")
            await turns()
            assert protocol.received == b"answer"
            with pytest.raises(RuntimeError, match="after write_eof"):
                protocol.transport.write(b"more")

    run(main(), new_loop)


@pytest.mark.slow
@both
def test_large_messages_arrive_whole_at_a_buffered_protocol(new_loop):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(7000)
            self.received = bytearray()
            self.over = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            return memoryview(self.buffer)[: random.randint(1, 7000)]

        def buffer_updated(self, count):
            self.received += self.buffer[:count]

        def connection_lost(self, exc):
            self.over.set_result(exc)

    async def main():
        loop = asyncio.get_running_loop()
        data = random.Random(1).randbytes(1_000_000)
        protocols = []

        def make():
            protocols.append(Buffered())
            return protocols[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(data)
        writer.close()
        while not protocols:
            await turns(1)
        await protocols[0].over
        assert protocols[0].received == data
        server.close()

    run(main(), new_loop)


#: Ways to keep a message: each takes it, and gives back how to look at it later.
KEEPERS = {
    "object": lambda data: lambda: data,
    "view": lambda data: memoryview(data).tobytes,
    "iterator": lambda data: keep_iterator(data),
    "traceback": lambda data: keep_in_traceback(data),
}


def keep_iterator(data):
    iterator = iter(data)
    return lambda: bytes(iterator)


def keep_in_traceback(data):
    def fail(message):
        raise ValueError

    try:
        fail(data)
    except ValueError as error:
        kept = error
    return lambda: kept.__traceback__.tb_next.tb_frame.f_locals["message"]


@both
@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_a_message_that_is_kept_does_not_change_with_the_next(new_loop, keep, size):
    """Messages of one length may share their memory one after the other, if nobody can tell."""
    source = random.Random(size)
    messages = [source.randbytes(size) for _ in range(40)]
    kept = {}

    class Keeper(asyncio.Protocol):
        def __init__(self):
            self.count = 0
            self.arrived = asyncio.Event()

        def data_received(self, data):
            assert hash(data) == hash(messages[self.count])
            if self.count % 3 == 0:
                kept[self.count] = keep(data)
            self.count += 1
            self.arrived.set()

    async def main():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Keeper, sock=ours)
        with theirs:
            for message in messages:
                protocol.arrived.clear()
                theirs.sendall(message)
                await protocol.arrived.wait()
            transport.close()
        assert {count: look() for count, look in kept.items()} == {
            count: messages[count] for count in range(0, 40, 3)
        }

    run(main(), new_loop)


async def read_from_stream(ours):
    ioxides = isinstance(asyncio.get_running_loop(), ioxide.EventLoop)
    library = ioxide if ioxides else asyncio
    reader, writer = await library.open_connection(sock=ours)
    return lambda: reader.read(100_000), writer.close


async def read_from_socket(ours):
    loop = asyncio.get_running_loop()
    ours.setblocking(False)
    return lambda: loop.sock_recv(ours, 100_000), ours.close


@both
@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
@pytest.mark.parametrize("begin", [read_from_stream, read_from_socket])
def test_what_a_coroutine_keeps_does_not_change_with_the_next(new_loop, keep, begin):
    """Many readers take turns, whose messages differ in length; some of what they read is kept, some is on its way."""
    source = random.Random(7)
    kept = []

    async def take(ours, theirs):
        read, close = await begin(ours)
        for count in range(40):
            message = source.randbytes(source.choice([479, 480, 1000, 1001, 2048, 2049]))
            theirs.sendall(message)
            data = await read()
            assert data == message
            assert hash(data) == hash(message)
            if count % 3 == 0:
                kept.append((keep(data), message))
        close()

    async def main():
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            for _ in range(10):
                ours, theirs = socket.socketpair()
                ends.append(theirs)
                group.create_task(take(ours, theirs))

    ends = []
    run(main(), new_loop)
    for end in ends:
        end.close()
    assert len(kept) == 10 * 14
    assert all(look() == message for look, message in kept)


def test_what_was_written_is_not_overwritten_while_it_waits():
    """An echo that holds its messages back: each goes out as it came in."""
    messages = [random.Random(number).randbytes(1000) for number in range(400)]

    async def main():
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reader, writer = await ioxide.open_connection(sock=ours)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        with theirs:
            for message in messages:
                await loop.sock_sendall(theirs, message)
                writer.write(await reader.readexactly(1000))
            received = b""
            while len(received) < 400_000:
                received += await loop.sock_recv(theirs, 100_000)
            assert received == b"".join(messages)
        writer.close()

    run(main())


@both
def test_datagrams_that_are_kept_do_not_change_with_the_next(new_loop):
    source = random.Random(3)
    messages = [source.randbytes(1000) for _ in range(60)]
    kept = {}

    class Keeper(asyncio.DatagramProtocol):
        def __init__(self):
            self.count = 0
            self.arrived = asyncio.Event()

        def datagram_received(self, data, addr):
            assert hash(data) == hash(messages[self.count])
            if self.count % 3 == 0:
                kept[self.count] = data
            self.count += 1
            self.arrived.set()

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            Keeper, local_addr=("127.0.0.1", 0)
        )
        with socket.socket(type=socket.SOCK_DGRAM) as theirs:
            theirs.connect(transport.get_extra_info("sockname"))
            # Some at once, and then one after the other.
            for number, message in enumerate(messages, 1):
                theirs.send(message)
                while number > 20 and protocol.count < number:
                    protocol.arrived.clear()
                    await protocol.arrived.wait()
            transport.close()
        assert kept == {count: messages[count] for count in range(0, 60, 3)}

    run(main(), new_loop)
