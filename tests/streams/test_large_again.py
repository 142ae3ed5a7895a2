"""Large bytes objects that become the next ones when nobody has them any more."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import tracemalloc

import pytest

import ioxide

SIZE = 100_000


class Receiver(asyncio.Protocol):
    """Gives what arrives to a queue, as it is."""

    def __init__(self):
        self.arrived = asyncio.Queue()

    def data_received(self, data):
        self.arrived.put_nowait(data)


@pytest.fixture(params=["stream", "protocol"])
def messages(request):
    """Runs a test with a function that sends a message, and gives back what of it arrived in one piece."""

    async def main(test):
        ours, peer = socket.socketpair()
        # So that a message is there as a whole before it is read.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * SIZE)
        with peer:
            if request.param == "stream":
                reader, writer = await asyncio.open_connection(sock=ours)
                transport = writer.transport

                async def exchange(message):
                    read = asyncio.get_running_loop().create_task(reader.read(len(message)))
                    await asyncio.sleep(0)
                    peer.sendall(message)
                    return await read
            else:
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_connection(Receiver, sock=ours)

                async def exchange(message):
                    peer.sendall(message)
                    return await protocol.arrived.get()

            # What comes first makes the habit.
            for _ in range(3):
                assert len(await exchange(bytes(SIZE))) == SIZE
            await test(exchange)
            transport.close()

    def run(test):
        with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
            runner.run(asyncio.wait_for(main(test), 20))

    return run


def test_what_the_program_has_let_go_of_comes_again(messages):
    async def test(exchange):
        seen = {id(await exchange(bytes(SIZE))) for _ in range(20)}
        assert len(seen) <= 4

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
        for _ in range(8):
            await exchange(bytes(SIZE))
        assert bytes(view) == sent[0][:10]
        assert key[sent[1]]

    messages(test)


def test_a_message_in_the_place_of_another_is_as_a_new_one(messages):
    async def test(exchange):
        source = random.Random(2)
        for size in [SIZE, SIZE - 1, SIZE // 2 + 1, SIZE, 40_000, SIZE + 1] * 3:
            message = source.randbytes(size)
            received = await exchange(message)
            assert len(received) == size
            assert hash(received) == hash(message)
            assert received == message
            assert int(received[:0] + b"0" + received[-1:].hex().encode(), 16) == message[-1]
            assert received + b"more" == message + b"more"

    messages(test)


def test_a_closed_loop_keeps_none_of_them(messages):
    loops = []

    async def test(exchange):
        loops.append(asyncio.get_running_loop())
        gc.collect()
        tracemalloc.start()
        for _ in range(3):
            # Two at once, so that there are new ones.
            _ = await exchange(bytes(SIZE // 3)), await exchange(bytes(SIZE // 3))

    try:
        messages(test)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < SIZE // 3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [[1], [10, 1], [1, 100_000, 1], [70_000] * 20, [1] * 3000])
def test_what_is_read_until_the_end_is_all_of_it(sizes):
    async def main():
        source = random.Random(3)
        reader = ioxide.StreamReader(limit=1 << 20)
        read = asyncio.get_running_loop().create_task(reader.read())
        pieces = [source.randbytes(size) for size in sizes]
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()
        whole = await read
        assert whole == b"".join(pieces)
        assert hash(whole) == hash(b"".join(pieces))

    with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
        runner.run(main())
