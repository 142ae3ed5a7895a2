"""Protocols that offer their own buffers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from array import array

import pytest

from .peers import both, pair, run, turns


class Buffered(asyncio.BufferedProtocol):
    """Offers what `make` makes, and keeps what arrives."""

    def __init__(self, make):
        self.make = make
        self.buffer = None
        self.received = bytearray()
        self.calls = []

    def get_buffer(self, sizehint):
        self.calls.append(sizehint)
        self.buffer = self.make()
        return self.buffer

    def buffer_updated(self, nbytes):
        self.calls.append(nbytes)
        self.received += memoryview(self.buffer)[:nbytes]


@contextlib.asynccontextmanager
async def connected(protocol):
    """The transport of the protocol, and the socket of the other end."""
    async with pair() as (first, theirs):
        protocol.connection_lost = first.connection_lost
        first.transport.set_protocol(protocol)
        yield first.transport, theirs
        first.transport.set_protocol(first)


async def arrive(protocol, count):
    while len(protocol.received) < count:
        await turns(1)


KEPT = bytearray(10)
BUFFERS = {
    "bytearray": lambda: bytearray(10),
    "the same bytearray": lambda: KEPT,
    "memoryview": lambda: memoryview(bytearray(20))[5:15],
    "array": lambda: array("b", bytes(10)),
}


@both
@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_bytes_arrive_in_the_buffer_whatever_it_is(new_loop, make):
    async def main():
        protocol = Buffered(make)
        async with connected(protocol) as (_, theirs):
            theirs.send(b"0123456789abcdef")
            await arrive(protocol, 16)
            theirs.send(b"ghi")
            await arrive(protocol, 19)
        assert protocol.received == b"0123456789abcdefghi"
        assert protocol.calls == [-1, 10, -1, 6, -1, 3]

    run(main(), new_loop)


@both
def test_a_buffer_may_change_its_size_between_calls_and_within(new_loop):
    async def main():
        buffer = bytearray(4)

        class Resizing(Buffered):
            def get_buffer(self, sizehint):
                buffer.extend(bytes(len(self.received) * 1000))
                return buffer

            def buffer_updated(self, nbytes):
                self.received += buffer[:nbytes]
                del buffer[4:]

        protocol = Resizing(None)
        async with connected(protocol) as (_, theirs):
            theirs.send(bytes(range(200)))
            await arrive(protocol, 200)
        assert protocol.received == bytes(range(200))

    run(main(), new_loop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no __buffer__ before")
@both
def test_a_bytearray_of_a_class_that_offers_another_buffer_is_asked(new_loop):
    async def main():
        place = bytearray(10)

        class Elsewhere(bytearray):
            def __buffer__(self, flags):
                return memoryview(place)

        protocol = Buffered(lambda: Elsewhere(10))
        async with connected(protocol) as (_, theirs):
            theirs.send(b"abc")
            await arrive(protocol, 3)
        assert protocol.received == b"abc"
        assert place[:3] == b"abc"

    run(main(), new_loop)


UNFIT = {
    "empty": (bytearray, RuntimeError, "Fatal error: protocol.get_buffer() call failed."),
    "empty view": (
        lambda: memoryview(b""),
        RuntimeError,
        "Fatal error: protocol.get_buffer() call failed.",
    ),
    "number": (lambda: 5, TypeError, "Fatal error: protocol.get_buffer() call failed."),
    "read-only": (lambda: b"bytes", TypeError, "Fatal read error on socket transport"),
    "list": (lambda: [1], TypeError, "Fatal read error on socket transport"),
}


@both
@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_what_is_no_buffer_to_write_to_ends_the_connection(new_loop, unfit):
    make, expected, message = unfit

    async def main():
        problems = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        protocol = Buffered(make)
        async with connected(protocol) as (transport, theirs):
            theirs.send(b"abc")
            while not transport.is_closing():
                await turns(1)
        (problem,) = problems
        assert (type(problem["exception"]), problem["message"]) == (expected, message)
        return str(problem["exception"])

    assert run(main(), new_loop) == run(main(), asyncio.SelectorEventLoop)


@both
def test_what_get_buffer_sets_in_the_context_buffer_updated_sees(new_loop):
    variable = contextvars.ContextVar("variable", default=0)

    async def main():
        seen = []

        class Counting(Buffered):
            def get_buffer(self, sizehint):
                variable.set(variable.get() + 1)
                return super().get_buffer(sizehint)

            def buffer_updated(self, nbytes):
                seen.append(variable.get())
                super().buffer_updated(nbytes)

        protocol = Counting(lambda: bytearray(4))
        async with connected(protocol) as (_, theirs):
            theirs.send(b"0123456789")
            await arrive(protocol, 10)
            assert variable.get() == 0
        return seen

    assert run(main(), new_loop) == [1, 2, 3]


@both
def test_a_protocol_that_is_replaced_within_get_buffer_is_told_no_more(new_loop):
    async def main():
        second = Buffered(lambda: bytearray(10))

        class Leaving(Buffered):
            def get_buffer(self, sizehint):
                second.buffer = super().get_buffer(sizehint)
                transport.set_protocol(second)
                return second.buffer

        first = Leaving(lambda: bytearray(10))
        async with connected(first) as (transport, theirs):
            theirs.send(b"abc")
            await arrive(second, 3)
            theirs.send(b"def")
            await arrive(second, 6)
        assert first.calls == [-1]
        assert second.calls == [3, -1, 3]

    run(main(), new_loop)


@both
def test_a_protocol_that_takes_bytes_follows_one_that_offers_buffers(new_loop):
    async def main():
        class Leaving(Buffered):
            def buffer_updated(self, nbytes):
                super().buffer_updated(nbytes)
                transport.set_protocol(plain)

        class Plain(asyncio.Protocol):
            def __init__(self):
                self.received = bytearray()

            def data_received(self, data):
                self.received += data

        first, plain = Leaving(lambda: bytearray(4)), Plain()
        async with connected(first) as (transport, theirs):
            theirs.send(b"0123456789")
            await arrive(plain, 6)
        assert first.received == b"0123"
        assert plain.received == b"456789"

    run(main(), new_loop)


@both
def test_reading_that_is_paused_within_buffer_updated_stops_there(new_loop):
    async def main():
        class Pausing(Buffered):
            def buffer_updated(self, nbytes):
                super().buffer_updated(nbytes)
                transport.pause_reading()

        protocol = Pausing(lambda: bytearray(4))
        async with connected(protocol) as (transport, theirs):
            theirs.send(b"0123456789")
            for count in (4, 8, 10):
                await arrive(protocol, count)
                await turns(3)
                assert len(protocol.received) == count
                transport.resume_reading()

    run(main(), new_loop)
