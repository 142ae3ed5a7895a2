"""What is written in one turn is encrypted together, and looks as if it were sent at once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import ssl
import struct

import pytest

from .peers import Recorder, client_context, run, server_context, turns

APPLICATION_DATA = 23


class Client:
    """The other end, by hand: sees the records, and receives only when it is asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    async def shake_hands(self) -> None:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.object.do_handshake()
                break
            self.send()
            await turns(2)
            self.receive()
        self.send()
        await turns()
        # The tickets.
        self.receive()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.read()

    def send(self) -> None:
        self.sock.send(self.outgoing.read())

    def say(self, data: bytes) -> None:
        self.object.write(data)
        self.send()

    def receive(self) -> list[int]:
        """Take what has arrived; return the kinds of the records."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := self.sock.recv(1 << 20):
                data += more
        self.incoming.write(data)
        kinds = []
        while data:
            kind, _, length = struct.unpack_from("!BHH", data)
            kinds.append(kind)
            data = data[5 + length :]
        return kinds

    def take(self) -> tuple[bytes, int]:
        """Take what has arrived; return the bytes, and the number of records."""
        count = len(self.receive())
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while more := self.object.read(1 << 20):
                data += more
        return data, count


@contextlib.asynccontextmanager
async def served(**callbacks):
    """A client by hand, and the protocol that serves it, which writes several times a turn as a habit."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    protocol = Recorder(**callbacks)
    with theirs:
        client = Client(theirs)
        made = loop.create_task(
            loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context())
        )
        await client.shake_hands()
        await made
        protocol.transport.write(b"a")
        protocol.transport.write(b"b")
        await turns(2)
        assert client.take()[0] == b"ab"
        try:
            yield client, protocol
        finally:
            protocol.transport.abort()
            await protocol.over


def test_the_writes_of_a_turn_share_a_record():
    async def main():
        async with served() as (client, protocol):
            for _ in range(3):
                for part in range(16):
                    protocol.transport.write(bytes([part]) * 64)
                assert client.receive() == []
                await turns(2)
                expected = b"".join(bytes([part]) * 64 for part in range(16))
                assert client.take() == (expected, 1)

    run(main())


def test_a_single_write_goes_out_at_once():
    async def main():
        async with served() as (client, protocol):
            # One turn with one write: the habit is gone.
            protocol.transport.write(b"held")
            await turns(2)
            assert client.take() == (b"held", 1)
            protocol.transport.write(b"now")
            assert client.take() == (b"now", 1)

    run(main())


def test_a_head_shares_the_record_of_its_body():
    async def main():
        async with served() as (client, protocol):
            protocol.transport.write(b"head")
            protocol.transport.write(bytes(10_000))
            protocol.transport.writelines([b"tail", bytearray(b"end")])
            await turns(2)
            assert client.take() == (b"head" + bytes(10_000) + b"tailend", 1)
            # What does not fit keeps its place.
            protocol.transport.write(b"1")
            protocol.transport.write(b"2" * 16384)
            protocol.transport.write(b"3")
            await turns(2)
            assert client.take() == (b"1" + b"2" * 16384 + b"3", 3)

    run(main())


def test_much_does_not_wait():
    async def main():
        async with served() as (client, protocol):
            for _ in range(5):
                protocol.transport.write(bytes(15_000))
            data, _ = client.take()
            assert data == bytes(75_000)

    run(main())


def test_what_waits_looks_sent():
    async def main():
        async with served() as (client, protocol):
            protocol.transport.set_write_buffer_limits(high=100)
            protocol.transport.write(b"x" * 50)
            protocol.transport.write(b"y" * 50)
            assert protocol.transport.get_write_buffer_size() == 0
            assert client.take() == (b"x" * 50 + b"y" * 50, 1)
            # Waiting for the turn to end is no reason to pause.
            protocol.transport.write(b"z" * 101)
            protocol.transport.write(b"z")
            protocol.transport.set_write_buffer_limits(high=0)
            protocol.transport.write(b"z")
            assert protocol.transport.get_write_buffer_size() == 0
            assert client.take()[0] == b"z" * 103
            assert "pause" not in protocol.log

    run(main())


@pytest.mark.parametrize("paused", [False, True])
def test_close_sends_what_waits(paused):
    async def main():
        async with served() as (client, protocol):
            if paused:
                protocol.transport.pause_reading()
            protocol.transport.write(b"last ")
            protocol.transport.write(b"words")
            protocol.transport.close()
            await turns(2)
            client.receive()
            assert client.object.read() == b"last words"
            # Then the goodbye.
            assert client.object.read() == b""

    run(main())


def test_abort_sends_what_waits():
    async def main():
        async with served() as (client, protocol):
            protocol.transport.write(b"last ")
            protocol.transport.write(b"words")
            protocol.transport.abort()
            assert client.take()[0] == b"last words"

    run(main())


def test_closing_the_transport_below_sends_what_waits():
    async def main():
        async with served() as (client, protocol):
            protocol.transport.write(b"last ")
            protocol.transport.write(b"words")
            protocol.transport._transport.close()
            assert client.take()[0] == b"last words"
            await protocol.over

    run(main())


def test_a_callback_that_fails_does_not_take_back_what_was_written():
    def answer_and_fail(recorder):
        recorder.transport.write(b"first ")
        recorder.transport.write(b"second")
        raise ZeroDivisionError

    async def main():
        reports = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
        async with served(data=answer_and_fail) as (client, protocol):
            client.say(b"hello")
            assert isinstance(await protocol.over, ZeroDivisionError)
            assert client.take()[0] == b"first second"
            assert [type(report) for report in reports] == [ZeroDivisionError]

    run(main())


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("end", ["eof", "goodbye", "garbage"])
def test_what_was_written_before_the_peer_ends_is_sent(paused, end):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        signal, trigger = socket.socketpair()
        with signal, trigger:
            async with served() as (client, protocol):
                if paused:
                    protocol.transport.pause_reading()

                def write():
                    loop.remove_reader(signal)
                    protocol.transport.write(b"last ")
                    protocol.transport.write(b"words")

                # Both are found at once, and this first: the turn in which it writes goes on to the end.
                loop.add_reader(signal, write)
                await turns(1)
                trigger.send(b"now")
                if end == "eof":
                    client.sock.shutdown(socket.SHUT_WR)
                elif end == "goodbye":
                    with contextlib.suppress(ssl.SSLWantReadError):
                        client.object.unwrap()
                    client.send()
                else:
                    client.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
                await turns(3)
                client.receive()
                assert client.object.read() == b"last words"

    run(main())


def test_the_program_is_told_to_pause_in_its_context():
    variable = contextvars.ContextVar("variable", default=None)
    seen = []

    class Noting(Recorder):
        def connection_made(self, transport):
            variable.set("mine")
            super().connection_made(transport)

        def pause_writing(self):
            seen.append(variable.get())

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        protocol = Noting()
        with theirs:
            client = Client(theirs)
            made = loop.create_task(
                loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context())
            )
            await client.shake_hands()
            await made
            protocol.transport.set_write_buffer_limits(high=50_000)
            while not seen:
                for _ in range(4):
                    protocol.transport.write(bytes(10_000))
                await turns(1)
            protocol.transport.abort()
            await protocol.over
        assert seen == ["mine"]

    run(main())
