"""Reader, writer and protocol each work with a stranger in the place of the others."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import ioxide


class Transport(asyncio.Transport):
    """A transport that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.closing = True
        self.calls.append("close")

    def is_closing(self) -> bool:
        return self.closing


def connected(callback: Any = None, protocol_class: Any = ioxide.StreamReaderProtocol) -> Any:
    """A reader, a protocol and a transport of ours to which it is connected."""
    reader, transport = ioxide.StreamReader(), Transport()
    protocol = protocol_class(reader, callback)
    protocol.connection_made(transport)
    return reader, protocol, transport


def writing(protocol_class: Any = ioxide.StreamReaderProtocol) -> Any:
    reader, protocol, transport = connected(None, protocol_class)
    loop = ioxide.get_running_loop()
    return ioxide.StreamWriter(transport, protocol, reader, loop), protocol, transport


def run(main: Any) -> Any:
    return ioxide.run(main())


class Reports(list):
    """What the loop's exception handler is told."""

    def __init__(self) -> None:
        loop = ioxide.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.append(context))


def test_a_read_that_takes_a_whole_chunk_gets_that_very_object():
    async def main():
        reader = ioxide.StreamReader()
        for use in (reader.read(10), reader.readline(), reader.readexactly(8)):
            chunk = b"%d bytes\n" % 8 if use.__name__ == "readline" else b"12345678"
            reader.feed_data(chunk)
            assert await use is chunk

    run(main)


def test_the_buffer_is_live_for_who_asks_for_it():
    async def main():
        reader = ioxide.StreamReader()
        reader.feed_data(b"secret")
        buffer = reader._buffer
        assert buffer == b"secret"
        buffer.clear()
        reader.feed_data(b"public")
        assert buffer == b"public" and await reader.read(3) == b"pub" and buffer == b"lic"
        reader._buffer = b"new"
        reader.feed_eof()
        assert await reader.read() == b"new"

    run(main)


def test_a_subclass_can_parse_what_it_is_fed_and_wait_as_the_base_does():
    class Numbers(ioxide.StreamReader):
        numbers: list[int]

        def feed_data(self, data: bytes) -> None:
            self.numbers = [*getattr(self, "numbers", []), *map(int, data.split())]
            super().feed_data(data)

        async def number(self) -> int:
            while not getattr(self, "numbers", None):
                await self._wait_for_data("number")
            return self.numbers.pop(0)

    async def main():
        reader = Numbers()
        protocol = ioxide.StreamReaderProtocol(reader)
        first = ioxide.create_task(reader.number())
        await ioxide.sleep(0)
        with pytest.raises(RuntimeError, match=r"^number\(\) called while another coroutine"):
            await Numbers.number(reader)
        protocol.data_received(b"4 5")
        assert (await first, await reader.number()) == (4, 5)

    run(main)


def test_a_broken_connection_reaches_a_read_that_was_woken_for_too_little():
    async def main():
        reader = ioxide.StreamReader()
        task = ioxide.create_task(reader.readexactly(10))
        await ioxide.sleep(0)
        reader.feed_data(b"half")
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await task

    run(main)


def test_several_wait_in_drain_until_writing_resumes():
    async def main():
        writer, protocol, _ = writing()
        protocol.pause_writing()
        tasks = [ioxide.create_task(writer.drain()) for _ in range(3)]
        tasks.append(ioxide.create_task(protocol._drain_helper()))
        await ioxide.sleep(0)
        tasks[1].cancel()
        await ioxide.sleep(0)
        assert len(protocol._drain_waiters) == 3 and not tasks[0].done()
        protocol.resume_writing()
        results = await ioxide.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [
            type(None),
            ioxide.CancelledError,
            type(None),
            type(None),
        ]
        assert protocol._drain_waiters == []
        writer.close()

    run(main)


@pytest.mark.parametrize("error", [None, BrokenPipeError("pipe")])
def test_a_lost_connection_ends_drain(error):
    async def main():
        writer, protocol, transport = writing()
        protocol.pause_writing()
        waiting = ioxide.create_task(writer.drain())
        await ioxide.sleep(0)
        transport.close()
        protocol.connection_lost(error)
        if error is None:
            assert await waiting is None
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await writer.drain()
            assert await writer.wait_closed() is None
        else:
            for broken in (waiting, writer.drain(), writer.wait_closed()):
                with pytest.raises(BrokenPipeError):
                    await broken

    run(main)


def test_drain_of_a_closing_transport_gives_way_once():
    async def main():
        writer, protocol, _ = writing()
        await ioxide.wait_for(writer.drain(), 1)
        writer.close()
        ioxide.get_running_loop().call_soon(protocol.connection_lost, None)
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    run(main)


def test_a_protocol_of_a_third_party_is_asked_for_what_to_wait():
    log = []

    class Own(ioxide.StreamReaderProtocol):
        async def _drain_helper(self):
            await ioxide.sleep(0)
            await super()._drain_helper()
            log.append("drained")

        def _get_close_waiter(self, stream):
            async def closed():
                await ioxide.sleep(0)
                log.append(stream)

            return closed()

    async def main():
        writer, _, transport = writing(Own)
        await writer.drain()
        await writer.wait_closed()
        assert log == ["drained", writer]
        transport.close()

    run(main)


def test_a_client_coroutine_runs_in_a_task_and_its_error_is_reported():
    async def main():
        reports, given = Reports(), []

        async def client(reader, writer):
            given.append((reader, writer))
            raise ZeroDivisionError("client")

        reader, protocol, transport = connected(client)
        assert isinstance(protocol._task, ioxide.Task) and given == []
        await ioxide.sleep(0)
        assert given[0][0] is reader and given[0][1].transport is transport
        await ioxide.sleep(0)
        [report] = reports
        assert report["message"] == "Unhandled exception in client_connected_cb"
        assert isinstance(report["exception"], ZeroDivisionError)
        assert report["transport"] is transport and transport.calls == ["close"]

    run(main)


def test_a_cancelled_client_closes_its_transport_silently():
    async def main():
        reports = Reports()

        async def client(reader, writer):
            await reader.read()

        _, protocol, transport = connected(client)
        await ioxide.sleep(0)
        protocol._task.cancel()
        await ioxide.sleep(0.001)
        assert transport.calls == ["close"] and reports == []

    run(main)


def test_a_callback_that_raises_is_reported_and_its_transport_closed():
    async def main():
        reports = Reports()
        _, _, transport = connected(lambda reader, writer: 1 / 0)
        [report] = reports
        assert isinstance(report["exception"], ZeroDivisionError) and transport.closing

    run(main)


def test_the_protocol_feeds_a_reader_of_asyncio_and_the_other_way_round():
    async def main():
        loop = ioxide.get_running_loop()
        theirs = asyncio.streams.StreamReader(loop=loop)
        ioxide.StreamReaderProtocol(theirs, loop=loop).data_received(b"ours to theirs")
        assert await theirs.read(100) == b"ours to theirs"
        ours = ioxide.StreamReader()
        asyncio.streams.StreamReaderProtocol(ours, loop=loop).data_received(b"theirs to ours")
        assert await ours.read(100) == b"theirs to ours"

    run(main)


def test_methods_replaced_on_the_objects_take_effect_on_our_own_transport():
    seen = []

    async def main():
        async def echo(reader, writer):
            writer.write(await reader.read(100))
            writer.close()

        server = await ioxide.start_server(echo, "127.0.0.1", 0)
        reader, writer = await ioxide.open_connection(*server.sockets[0].getsockname())
        write, feed = writer.transport.write, reader.feed_data
        writer.transport.write = lambda data: (seen.append("write"), write(data))
        reader.feed_data = lambda data: (seen.append("feed"), feed(data))
        writer.write(b"hello")
        assert await reader.read() == b"hello" and seen == ["write", "feed"]
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main)


def test_a_subclass_of_the_protocol_is_called_by_our_own_transport():
    seen = []

    class Loud(ioxide.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data.upper())

    async def main():
        async def hello(reader, writer):
            writer.write(b"hello")
            writer.close()

        server = await ioxide.start_server(hello, "127.0.0.1", 0)
        reader = ioxide.StreamReader()
        address = server.sockets[0].getsockname()
        loop = ioxide.get_running_loop()
        transport, _ = await loop.create_connection(lambda: Loud(reader), *address)
        assert await reader.read() == b"HELLO" and seen == [b"hello"]
        transport.close()
        server.close()
        await server.wait_closed()

    run(main)


def test_a_forgotten_writer_closes_its_transport_and_says_so():
    async def main():
        writer, _, transport = writing()
        with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
            del writer
            gc.collect()
        assert transport.calls == ["close"]

    run(main)


def test_reads_that_are_never_awaited_say_which():
    async def main():
        reader = ioxide.StreamReader()
        with pytest.warns(RuntimeWarning, match=r"'StreamReader.readline' was never awaited"):
            reader.readline()

    run(main)


def test_wrong_arguments_are_refused_as_asyncio_refuses_them():
    async def main():
        reader = ioxide.StreamReader(limit=float("inf"))
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            ioxide.StreamReader(limit=0)
        with pytest.raises(TypeError):
            await reader.readuntil("text")
        with pytest.raises(TypeError):
            await reader.read(None)
        with pytest.raises(TypeError):
            reader.feed_data("text")
        reader.feed_eof()
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            reader.feed_data(b"late")
        assert await reader.read(2**80) == b""

    run(main)
