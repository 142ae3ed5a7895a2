"""TCP transports and protocols: what is called, in which order, and what happens when it goes wrong."""

from __future__ import annotations

import asyncio as stdlib
import contextvars
import socket
import struct

import pytest
from harness.implementation import settle

import ioxide


class Recorder(stdlib.Protocol):
    """Keeps a log of its calls, as values which can be compared."""

    def __init__(self, *, keep_open=False):
        self.log = []
        self.transport = None
        self.keep_open = keep_open
        self.changed = stdlib.Event()

    def note(self, what):
        self.log.append(what)
        self.changed.set()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        if self.log[-1].startswith("data:"):
            self.log[-1] += data.decode()
        else:
            self.log.append("data:" + data.decode())
        self.changed.set()

    def eof_received(self):
        self.note("eof")
        return self.keep_open

    def connection_lost(self, exc):
        self.note(f"lost:{type(exc).__name__ if exc else None}")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    async def until(self, what):
        async with stdlib.timeout(50):
            while what not in self.log:
                self.changed.clear()
                await self.changed.wait()
        return self.log


async def connected(aio, server_side, client_side):
    """A server of one protocol, a connection of the other."""
    loop = aio.get_running_loop()
    server = await loop.create_server(lambda: server_side, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_connection(lambda: client_side, "127.0.0.1", port)
    await server_side.until("made")
    return server, transport


async def ended(aio, server, *sides):
    for side in sides:
        side.transport.close()
        await side.until(next((x for x in side.log if x.startswith("lost")), "lost:None"))
    server.close()
    await server.wait_closed()


def test_calls_of_an_ordinary_connection(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        assert here.log == ["made"]
        transport.write(b"hello")
        await there.until("data:hello")
        there.transport.write(b"bye")
        there.transport.close()
        await here.until("lost:None")
        await there.until("lost:None")
        await ended(aio, server)
        assert there.log == ["made", "data:hello", "lost:None"]
        assert here.log == ["made", "data:bye", "eof", "lost:None"]

    aio.run(main())


def test_connection_is_an_asyncio_transport_with_its_facts(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        assert isinstance(transport, stdlib.Transport)
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("peername") == server.sockets[0].getsockname()
        assert (
            transport.get_extra_info("sockname")
            == there.transport.get_extra_info("peername")
            == sock.getsockname()
        )
        assert transport.get_extra_info("nothing", "default") == "default"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.family == socket.AF_INET and sock.fileno() > 0 and sock.gettimeout() == 0
        assert (
            transport.get_protocol() is here
            and not transport.is_closing()
            and transport.is_reading()
        )
        assert transport.can_write_eof()
        transport.my_attribute = 1
        assert transport.my_attribute == 1
        await ended(aio, server, here, there)
        assert transport.is_closing()

    aio.run(main())


def test_methods_set_on_a_transport_take_effect(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        written = []
        original = transport.write
        transport.write = lambda data: (written.append(bytes(data)), original(data))
        transport.write(b"wrapped")
        await there.until("data:wrapped")
        assert written == [b"wrapped"]
        await ended(aio, server, here, there)

    aio.run(main())


def test_half_close_lets_the_other_side_answer(aio):
    async def main():
        there, here = Recorder(keep_open=True), Recorder()
        server, transport = await connected(aio, there, here)
        transport.write(b"question")
        transport.write_eof()
        transport.write_eof()
        await there.until("eof")
        assert there.log == ["made", "data:question", "eof"]
        there.transport.write(b"answer")
        await here.until("data:answer")
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"more")
        await ended(aio, server, there, here)

    aio.run(main())


def test_writes_of_all_sizes_and_kinds_arrive_in_order(aio):
    pieces = [
        b"a",
        bytearray(b"b" * 70_000),
        memoryview(b"c" * 3),
        b"",
        b"d" * 300_000,
        *(b"e" for _ in range(2000)),
    ]
    whole = b"".join(bytes(p) for p in pieces)

    class Sink(stdlib.Protocol):
        def __init__(self):
            self.got = bytearray()
            self.done = stdlib.get_running_loop().create_future()

        def data_received(self, data):
            self.got += data

        def connection_lost(self, exc):
            self.done.set_result(exc)

    async def main():
        loop = aio.get_running_loop()
        sink = Sink()
        server = await loop.create_server(lambda: sink, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(
            stdlib.Protocol, *server.sockets[0].getsockname()
        )
        for piece in pieces:
            transport.write(piece)
        transport.writelines([b"x", bytearray(b"y"), memoryview(b"z")])
        transport.close()
        assert await sink.done is None
        assert sink.got == whole + b"xyz"
        server.close()

    aio.run(main())


def test_buffer_changed_after_write_does_not_change_what_was_written(aio):
    async def main():
        loop = aio.get_running_loop()
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        first = loop.create_future()
        del first
        data = bytearray(b"before")
        transport.write(b"-")
        transport.write(data)
        data[:] = b"AFTER!"
        await there.until("data:-before")
        await ended(aio, server, here, there)

    aio.run(main())


def test_pause_reading_inside_connection_made_holds_the_data_back(aio):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        there, here = Paused(), Recorder()
        server, transport = await connected(aio, there, here)
        transport.write(b"early")
        await settle(aio)
        assert there.log == ["made"] and not there.transport.is_reading()
        there.transport.resume_reading()
        await there.until("data:early")
        await ended(aio, server, here, there)

    aio.run(main())


def test_eof_after_pause_is_delivered_after_resume(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        transport.write(b"a")
        await there.until("data:a")
        there.transport.pause_reading()
        there.transport.pause_reading()
        transport.write(b"bc")
        transport.write_eof()
        await settle(aio)
        there.note("paused")
        there.transport.resume_reading()
        there.transport.resume_reading()
        await there.until("lost:None")
        assert there.log == ["made", "data:a", "paused", "data:bc", "eof", "lost:None"]
        await ended(aio, server, here)

    aio.run(main())


def test_backpressure_pauses_and_resumes_the_writer_at_the_watermarks(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        there.transport.pause_reading()
        transport.set_write_buffer_limits(high=20_000, low=5_000)
        assert transport.get_write_buffer_limits() == (5_000, 20_000)
        for _ in range(2_000):
            transport.write(b"x" * 10_000)
            if "pause" in here.log:
                break
        assert here.log == ["made", "pause"]
        assert transport.get_write_buffer_size() > 20_000
        there.transport.resume_reading()
        await here.until("resume")
        assert transport.get_write_buffer_size() <= 5_000
        assert here.log == ["made", "pause", "resume"]
        await ended(aio, server, here, there)

    aio.run(main())


def test_watermarks_out_of_order_are_refused(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        await ended(aio, server, here, there)

    aio.run(main())


def test_close_sends_what_is_buffered_and_abort_does_not(aio):
    payload = b"x" * 5_000_000

    class Counter(stdlib.Protocol):
        def __init__(self):
            self.got = 0
            self.lost = stdlib.get_running_loop().create_future()

        def connection_made(self, transport):
            transport.pause_reading()
            stdlib.get_running_loop().call_later(0.02, transport.resume_reading)

        def data_received(self, data):
            self.got += len(data)

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def transfer(ending):
        loop = aio.get_running_loop()
        counter = Counter()
        server = await loop.create_server(lambda: counter, "127.0.0.1", 0)
        transport, mine = await loop.create_connection(Counter, *server.sockets[0].getsockname())
        transport.write(payload)
        getattr(transport, ending)()
        await counter.lost
        await mine.lost
        server.close()
        return counter.got

    async def main():
        assert await transfer("close") == len(payload)
        assert await transfer("abort") < len(payload)

    aio.run(main())


def test_connection_lost_comes_later_than_close_and_only_once(aio):
    async def main():
        there, here = Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        transport.close()
        assert transport.is_closing() and here.log == ["made"]
        transport.close()
        transport.abort()
        await here.until("lost:None")
        await settle(aio)
        assert here.log == ["made", "lost:None"]
        await ended(aio, server, there)

    aio.run(main())


def test_reset_by_peer_is_told_to_connection_lost(aio):
    async def main():
        loop = aio.get_running_loop()
        there = Recorder()
        server = await loop.create_server(lambda: there, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as raw:
            await there.until("made")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await there.until("lost:ConnectionResetError")
        assert there.log == ["made", "lost:ConnectionResetError"]
        server.close()

    aio.run(main())


def test_reset_keeps_its_errno(aio):
    import errno

    async def main():
        loop = aio.get_running_loop()
        lost = loop.create_future()

        class Lost(stdlib.Protocol):
            def connection_made(self, transport):
                made.set_result(None)

            def connection_lost(self, exc):
                lost.set_result(exc)

        made = loop.create_future()
        server = await loop.create_server(Lost, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as raw:
            await made
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        error = await lost
        assert error.errno == errno.ECONNRESET and error.strerror
        server.close()

    aio.run(main())


def test_buffered_protocol_receives_into_its_own_buffer(aio):
    received_into_own_buffer(aio, stdlib.BufferedProtocol)


def test_protocol_that_takes_buffers_only_needs_no_class_to_say_so():
    # As with uvloop; asyncio calls the data_received() that it lacks.
    received_into_own_buffer(ioxide, stdlib.BaseProtocol)


def received_into_own_buffer(aio, base):
    class Buffered(base):
        def __init__(self):
            self.buffer = bytearray(7)
            self.got = bytearray()
            self.lost = stdlib.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            assert isinstance(sizehint, int)
            return self.buffer

        def buffer_updated(self, count):
            assert 0 < count <= 7
            self.got += self.buffer[:count]

        def eof_received(self):
            self.got += b"|eof"

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        loop = aio.get_running_loop()
        there = Buffered()
        server = await loop.create_server(lambda: there, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(
            stdlib.Protocol, *server.sockets[0].getsockname()
        )
        transport.write(b"0123456789" * 100)
        transport.close()
        assert await there.lost is None
        assert there.got == b"0123456789" * 100 + b"|eof"
        server.close()

    aio.run(main())


def test_protocol_can_be_replaced_while_connected(aio):
    async def main():
        there, here, second = Recorder(), Recorder(), Recorder()
        server, transport = await connected(aio, there, here)
        transport.write(b"one")
        await there.until("data:one")
        second.connection_made(there.transport)
        there.transport.set_protocol(second)
        assert there.transport.get_protocol() is second
        transport.write(b"two")
        await second.until("data:two")
        assert there.log == ["made", "data:one"]
        await ended(aio, server, here)
        await second.until("lost:None")

    aio.run(main())


def test_context_of_the_server_and_of_the_connection_reaches_the_protocol(aio):
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    class Protocol(Recorder):
        def connection_made(self, transport):
            seen.append(variable.get())
            super().connection_made(transport)

        def data_received(self, data):
            seen.append(variable.get())
            super().data_received(data)

    async def main():
        variable.set("the program's")
        there, here = Protocol(), Recorder()
        server, transport = await connected(aio, there, here)
        transport.write(b"x")
        await there.until("data:x")
        await ended(aio, server, here, there)

    aio.run(main())
    assert seen == ["the program's"] * 2


def test_connection_over_a_given_socket(aio):
    async def main():
        loop = aio.get_running_loop()
        left, right = socket.socketpair()
        for s in (left, right):
            s.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        await loop.sock_sendall(right, b"hello")
        await protocol.until("data:hello")
        transport.write(b"back")
        assert await loop.sock_recv(right, 10) == b"back"
        right.close()
        await protocol.until("lost:None")
        assert left.fileno() == -1

    aio.run(main())


def test_connection_refused_keeps_errno_and_address(aio):
    import errno

    async def main():
        loop = aio.get_running_loop()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(stdlib.Protocol, "127.0.0.1", port)
        assert caught.value.errno == errno.ECONNREFUSED
        assert str(port) in str(caught.value)

    aio.run(main())


def test_connecting_can_be_cancelled_and_leaves_no_descriptor(aio):
    import os

    async def main():
        loop = aio.get_running_loop()
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            blockers = []
            for _ in range(3):
                blocker = socket.socket()
                blocker.setblocking(False)
                blocker.connect_ex(full.getsockname())
                blockers.append(blocker)
            # The loop of run() opens its own descriptors when it first waits.
            await aio.sleep(0.001)
            before = len(os.listdir("/proc/self/fd"))
            task = aio.create_task(loop.create_connection(stdlib.Protocol, *full.getsockname()))
            await settle(aio)
            task.cancel()
            with pytest.raises(aio.CancelledError):
                await task
            await aio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == before
            for blocker in blockers:
                blocker.close()

    aio.run(main())


def test_a_thousand_connections_are_made_served_and_closed(aio):
    class Echo(stdlib.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, exc):
            served.append(exc)

    class Client(stdlib.Protocol):
        def __init__(self, number):
            self.number, self.got = number, b""
            self.lost = stdlib.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport
            transport.write(b"%06d" % self.number)

        def data_received(self, data):
            self.got += data
            if len(self.got) == 6:
                self.transport.close()

        def connection_lost(self, exc):
            self.lost.set_result((exc, self.got))

    served = []

    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=512)
        address = server.sockets[0].getsockname()
        for batch in range(0, 1000, 100):
            pairs = await aio.gather(
                *(
                    loop.create_connection(lambda n=n: Client(n), *address)
                    for n in range(batch, batch + 100)
                )
            )
            for number, (_, client) in enumerate(pairs, batch):
                assert await client.lost == (None, b"%06d" % number)
        while len(served) < 1000:
            await aio.sleep(0.001)
        assert not any(served)
        server.close()

    aio.run(main())
