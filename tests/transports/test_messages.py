"""Messages are received right into their objects, which become others when nobody has them any more."""

from __future__ import annotations

import asyncio
import collections
import gc
import random
import socket
import struct
import tracemalloc

import pytest

import ioxide

from . import peers

SIZE = 0


@pytest.fixture(autouse=True, params=[1_000, 10_000, 100_000])
def _size(request, monkeypatch):
    """What is guessed to come again, and what the kernel is asked for."""
    monkeypatch.setitem(globals(), "SIZE", request.param)


class Receiver(asyncio.Protocol):
    """Gives what arrives to a queue, as it is."""

    def __init__(self):
        self.arrived = asyncio.Queue()

    def data_received(self, data):
        self.arrived.put_nowait(data)

    def eof_received(self):
        self.arrived.put_nowait("end")

    def connection_lost(self, exc):
        self.arrived.put_nowait(exc)


async def by_stream(ours, peer):
    reader, writer = await ioxide.open_connection(sock=ours)

    async def exchange(message):
        read = asyncio.get_running_loop().create_task(reader.read(1_000_000))
        await asyncio.sleep(0)
        peer.sendall(message)
        return await read

    return exchange, writer.close


async def by_protocol(ours, peer):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Receiver, sock=ours)

    async def exchange(message):
        peer.sendall(message)
        return await protocol.arrived.get()

    return exchange, transport.close


async def by_socket(ours, peer):
    loop = asyncio.get_running_loop()
    ours.setblocking(False)

    async def exchange(message):
        peer.sendall(message)
        return await loop.sock_recv(ours, 200_000)

    return exchange, ours.close


@pytest.fixture(params=[by_stream, by_protocol, by_socket])
def messages(request):
    """Runs a test with a function that sends a message, and gives back what of it arrived in one piece."""

    async def main(test):
        ours, peer = socket.socketpair()
        # So that a message is there as a whole before it is read.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        with peer:
            exchange, close = await request.param(ours, peer)
            # What comes first makes the habit.
            for _ in range(3):
                assert len(await exchange(bytes(SIZE))) == SIZE
            await test(exchange)
            close()

    def run(test):
        with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
            runner.run(asyncio.wait_for(main(test), 50))

    return run


async def are_new(exchange, count):
    """Of each of so many messages, whether its object was made for it."""
    new = []
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(count):
            message = await exchange(bytes(SIZE))
            new.append(tracemalloc.get_object_traceback(message) is not None)
            del message
    finally:
        tracemalloc.stop()
    return new


def test_what_the_program_has_let_go_of_comes_again(messages):
    async def test(exchange):
        seen = [await exchange(bytes(SIZE)) for _ in range(5)]
        seen.clear()
        assert not any(await are_new(exchange, 20))

    messages(test)


def test_what_the_program_has_does_not_come_again(messages):
    async def test(exchange):
        seen = []

        async def keep(message):
            seen.append(await exchange(message))
            return seen[-1]

        assert sum(await are_new(keep, 20)) >= 16

    messages(test)


def test_what_the_program_keeps_never_changes(messages):
    async def test(exchange):
        source = random.Random(1)
        sent = [source.randbytes(SIZE) for _ in range(8)]
        kept = [await exchange(message) for message in sent]
        assert kept == sent
        # A view and a key keep it as well.
        view, key = memoryview(kept[0])[:10], {kept[1]: True}
        kept.clear()
        for _ in range(20):
            await exchange(bytes(SIZE))
        assert bytes(view) == sent[0][:10]
        assert key[sent[1]]

    messages(test)


def test_one_that_is_kept_for_long_is_not_in_the_way_of_others(messages):
    async def test(exchange):
        kept = [await exchange(bytes(SIZE)) for _ in range(3)]
        seen = {id(await exchange(bytes(SIZE))) for _ in range(40)}
        assert len(seen) <= 6
        assert seen.isdisjoint(id(message) for message in kept)

    messages(test)


def test_a_message_in_the_place_of_another_is_as_a_new_one(messages):
    async def test(exchange):
        source = random.Random(2)
        for size in [SIZE, SIZE - 1, SIZE // 2 + 1, SIZE, 2 * SIZE // 5, 4, SIZE + 1, SIZE, 1] * 3:
            message = bytes(source.choices(b"123456789", k=size))
            received = await exchange(message)
            assert len(received) == size
            assert hash(received) == hash(message)
            assert received == message
            # What reads on until it finds a zero finds it where the message ends.
            assert float(received) == float(message)
            assert received + b"more" == message + b"more"

    messages(test)


def test_a_message_of_any_length_comes_in_one_piece(messages):
    """Whatever was guessed: some fill their room to the last byte, or not quite, or need more than that."""

    async def test(exchange):
        source = random.Random(4)
        for room in [512, 640, 1024, 1280, 10_240, 12_288, 81_920]:
            for size in [room - 1, room, room + 1, 2 * room, 3]:
                assert len(await exchange(bytes(SIZE))) == SIZE
                message = source.randbytes(size)
                assert await exchange(message) == message

    messages(test)


#: Where many are needed, short ones would take long.
longer = pytest.mark.parametrize("_size", [10_000, 100_000], indirect=True)


@longer
def test_memory_beside_what_the_program_has_is_limited(messages):
    async def test(exchange):
        gc.collect()
        tracemalloc.start()
        kept = [await exchange(bytes(SIZE)) for _ in range(5_000_000 // SIZE)]
        assert sum(map(len, kept)) >= 4_000_000
        kept.clear()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 2_300_000

    try:
        messages(test)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("_size", [10_000, 30_000, 100_000], indirect=True)
def test_what_is_kept_takes_at_most_twice_its_memory(messages):
    async def test(exchange):
        gc.collect()
        tracemalloc.start()
        kept = []
        # Short ones come where the long ones are expected.
        for size in [SIZE // 3, SIZE, SIZE // 10] * (5_000_000 // SIZE):
            message = await exchange(bytes(size))
            if size < SIZE:
                kept.append(message)
            del message
        held = tracemalloc.get_traced_memory()[0]
        needed = sum(map(len, kept)) + 100 * len(kept)
        assert held < 2 * needed + 2_300_000

    try:
        messages(test)
    finally:
        tracemalloc.stop()


@longer
def test_objects_come_again_beside_many_that_are_kept_for_ever(messages):
    async def test(exchange):
        kept = [await exchange(bytes(SIZE)) for _ in range(3_000_000 // SIZE)]
        for _ in range(len(kept) * 3):
            await exchange(bytes(SIZE))
        assert not any(await are_new(exchange, 20))

    messages(test)


@longer
def test_what_nobody_has_of_another_size_makes_place(messages):
    async def test(exchange):
        # Nearly a third of the memory for a size that does not come again; the rest, and more, is taken up by another.
        seen = [await exchange(bytes(SIZE // 2)) for _ in range(1_300_000 // SIZE)]
        seen.clear()
        last = collections.deque(maxlen=1_500_000 // SIZE)
        for _ in range(last.maxlen * 3):
            last.append(await exchange(bytes(SIZE)))

        async def in_turn(message):
            last.append(await exchange(message))
            return last[-1]

        assert sum(await are_new(in_turn, 40)) <= 4

    messages(test)


def test_after_a_crowd_few_take_turns(messages):
    """What is not needed any more would only be far from the processor."""

    async def test(exchange):
        kept = [await exchange(bytes(SIZE)) for _ in range(150)]
        kept.clear()
        for _ in range(700):
            await exchange(bytes(SIZE))
        assert len({id(await exchange(bytes(SIZE))) for _ in range(50)}) <= 12

    messages(test)


def test_a_closed_loop_keeps_none_of_them(messages):
    loops = []

    async def test(exchange):
        loops.append(asyncio.get_running_loop())
        gc.collect()
        tracemalloc.start()
        for _ in range(3):
            # Many at once, so that there are new ones.
            kept = [await exchange(bytes(SIZE)) for _ in range(max(3, 300_000 // SIZE))]
            del kept

    try:
        messages(test)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@peers.both
@pytest.mark.parametrize("room", [1024, 1280, 10_240, 12_288])
@pytest.mark.parametrize("end", ["end", ConnectionResetError])
def test_what_follows_a_message_that_fills_its_room_is_told(new_loop, room, end):
    """Nothing is read in vain: neither the end nor a failure, which the kernel tells once only."""

    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            transport, protocol = await loop.create_connection(Receiver, *listener.getsockname())
            peer, _ = listener.accept()
        with peer:
            for _ in range(3):
                peer.sendall(bytes(room - 1))
                assert len(await protocol.arrived.get()) == room - 1
            peer.sendall(bytes(room))
            if end != "end":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert len(await protocol.arrived.get()) == room
            told = await protocol.arrived.get()
            assert told == end or isinstance(told, end)
        transport.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 50))
