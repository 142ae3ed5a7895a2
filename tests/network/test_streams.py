"""StreamReader, StreamWriter, start_server and open_connection."""

from __future__ import annotations

import asyncio as stdlib
import contextvars
import socket

import pytest
from harness.implementation import Reports, settle


def fed(aio, *chunks, eof=True, limit=2**16):
    """A reader with these chunks in it."""
    reader = aio.StreamReader(limit=limit)
    for chunk in chunks:
        reader.feed_data(chunk)
    if eof:
        reader.feed_eof()
    return reader


def reading(aio, use, *chunks, **kwargs):
    async def main():
        return await use(fed(aio, *chunks, **kwargs))

    return aio.run(main())


def test_read_everything(aio):
    assert reading(aio, lambda r: r.read(), b"ab", b"cd") == b"abcd"
    assert reading(aio, lambda r: r.read(-1)) == b""
    assert reading(aio, lambda r: r.read(0), b"ab") == b""
    assert reading(aio, lambda r: r.read(3), b"ab", b"cd") == b"abc"


def test_readexactly_and_what_is_missing(aio):
    assert reading(aio, lambda r: r.readexactly(3), b"a", b"b", b"cd") == b"abc"
    assert reading(aio, lambda r: r.readexactly(0), b"a") == b""
    with pytest.raises(aio.IncompleteReadError) as caught:
        reading(aio, lambda r: r.readexactly(5), b"abc")
    assert (caught.value.partial, caught.value.expected) == (b"abc", 5)
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        reading(aio, lambda r: r.readexactly(-1), b"abc")


def test_readline_with_and_without_its_end(aio):
    async def lines(reader):
        return [await reader.readline() for _ in range(4)]

    assert reading(aio, lines, b"one\ntw", b"o\n\nrest") == [b"one\n", b"two\n", b"\n", b"rest"]


def test_readline_over_the_limit_raises_and_drops_the_line(aio):
    async def use(reader):
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline()
        return await reader.read()

    assert reading(aio, use, b"x" * 20 + b"\nrest", limit=10) == b"rest"


def test_readuntil_finds_separators_across_every_chunk_boundary(aio):
    data = b"aa\r\r\nbb\r\n\r\ncc"

    async def parts(reader):
        got = [await reader.readuntil(b"\r\n"), await reader.readuntil(b"\r\n\r\n")]
        with pytest.raises(aio.IncompleteReadError) as caught:
            await reader.readuntil(b"\r\n")
        return [*got, caught.value.partial]

    for size in range(1, len(data) + 1):
        chunks = [data[i : i + size] for i in range(0, len(data), size)]
        assert reading(aio, parts, *chunks) == [b"aa\r\r\n", b"bb\r\n\r\n", b"cc"], size


@pytest.mark.since(3, 13)
def test_readuntil_takes_several_separators(aio):
    async def parts(reader):
        return [await reader.readuntil((b"\n", b"\r\n", b";")) for _ in range(3)]

    assert reading(aio, parts, b"a;b\r\nc\n") == [b"a;", b"b\r\n", b"c\n"]


def test_readuntil_over_the_limit_keeps_the_data(aio):
    async def use(reader):
        with pytest.raises(aio.LimitOverrunError) as caught:
            await reader.readuntil(b"|")
        return caught.value.consumed, await reader.read()

    assert reading(aio, use, b"x" * 20 + b"|", limit=10) == (20, b"x" * 20 + b"|")


def test_empty_separator_is_refused(aio):
    with pytest.raises(ValueError, match="Separator"):
        reading(aio, lambda r: r.readuntil(b""), b"abc")


def test_iteration_gives_lines(aio):
    async def use(reader):
        return [line async for line in reader]

    assert reading(aio, use, b"1\n2\n", b"3") == [b"1\n", b"2\n", b"3"]


def test_waiting_reader_is_woken_by_each_kind_of_news(aio):
    async def main():
        reader = aio.StreamReader()
        task = aio.create_task(reader.readexactly(4))
        await aio.sleep(0)
        for byte in b"wxyz":
            assert not task.done()
            reader.feed_data(bytes([byte]))
            await aio.sleep(0)
            await aio.sleep(0)
        assert task.result() == b"wxyz"
        task = aio.create_task(reader.read(10))
        await aio.sleep(0)
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await task
        assert str(reader.exception()) == "gone"
        with pytest.raises(ConnectionResetError):
            await reader.read(1)

    aio.run(main())


def test_two_readers_at_once_are_refused(aio):
    async def main():
        reader = aio.StreamReader()
        task = aio.create_task(reader.read(1))
        await aio.sleep(0)
        with pytest.raises(
            RuntimeError,
            match=r"read\(\) called while another coroutine is already waiting for incoming data",
        ):
            await reader.read(1)
        reader.feed_data(b"x")
        assert await task == b"x"

    aio.run(main())


def test_cancelled_read_loses_nothing(aio):
    async def main():
        reader = aio.StreamReader()
        for method in (lambda: reader.read(3), lambda: reader.readexactly(3), reader.readline):
            task = aio.create_task(method())
            await aio.sleep(0)
            task.cancel()
            with pytest.raises(aio.CancelledError):
                await task
        reader.feed_data(b"abc")
        assert await reader.readexactly(3) == b"abc"

    aio.run(main())


def test_state_of_a_reader(aio):
    async def main():
        reader = aio.StreamReader()
        assert not reader.at_eof()
        reader.feed_data(b"x")
        reader.feed_eof()
        assert not reader.at_eof()
        await reader.read()
        assert reader.at_eof()
        assert bytes(reader._buffer) == b""
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            aio.StreamReader(limit=0)

    aio.run(main())


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_echo_of_many_clients(aio):
    async def client(address, number):
        reader, writer = await aio.open_connection(*address)
        for i in range(20):
            message = f"{number}:{i}\n".encode()
            writer.write(message)
            await writer.drain()
            assert await reader.readline() == message
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await aio.start_server(echo, "127.0.0.1", 0, backlog=256)
        address = server.sockets[0].getsockname()
        await aio.gather(*(client(address, n) for n in range(100)))
        server.close()
        await server.wait_closed()

    aio.run(main())


def test_large_transfer_both_ways_at_once(aio):
    payload = bytes(range(256)) * 20_000

    async def main():
        server = await aio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())

        async def send():
            for i in range(0, len(payload), 100_000):
                writer.write(payload[i : i + 100_000])
                await writer.drain()
            writer.write_eof()

        _, got = await aio.gather(send(), reader.read())
        assert got == payload
        writer.close()
        await writer.wait_closed()
        server.close()

    aio.run(main())


def test_drain_holds_the_writer_back_until_the_peer_reads(aio):
    async def main():
        release, served = aio.Event(), aio.Event()

        async def slow(reader, writer):
            await release.wait()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            served.set()

        server = await aio.start_server(slow, "127.0.0.1", 0, limit=1024)
        _, writer = await aio.open_connection(*server.sockets[0].getsockname())
        sent = 0

        async def send():
            nonlocal sent
            while sent < 32 * 2**20:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()

        sending = aio.create_task(send())
        await settle(aio)
        # What the kernel's buffers hold, and one high-water mark: not everything there is.
        held = sent
        await settle(aio)
        assert sent == held < 32 * 2**20
        assert writer.transport.get_write_buffer_size() > 0
        release.set()
        await sending
        writer.close()
        await writer.wait_closed()
        await served.wait()
        server.close()

    aio.run(main())


def test_reader_over_its_limit_pauses_the_transport_and_resumes_it(aio):
    async def main():
        got = aio.get_running_loop().create_future()

        async def handler(reader, writer):
            await settle(aio, 30)
            assert len(reader._buffer) < 2_000_000
            got.set_result(await reader.read())
            writer.close()

        server = await aio.start_server(handler, "127.0.0.1", 0, limit=1000)
        _, writer = await aio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"z" * 10_000_000)
        writer.write_eof()
        assert len(await got) == 10_000_000
        writer.close()
        server.close()

    aio.run(main())


def test_half_close_with_streams(aio):
    async def answer(reader, writer):
        question = await reader.read()
        writer.write(question[::-1])
        await writer.drain()
        writer.close()

    async def main():
        server = await aio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        assert writer.can_write_eof()
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read() == b"cba" and reader.at_eof()
        writer.close()
        await writer.wait_closed()
        server.close()

    aio.run(main())


def test_drain_after_the_connection_is_lost_raises(aio):
    async def main():
        server = await aio.start_server(lambda r, w: w.transport.abort(), "127.0.0.1", 0)
        _, writer = await aio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 1000)
                await writer.drain()
                await aio.sleep(0.001)
        writer.close()
        server.close()

    aio.run(main())


def test_writer_properties_and_close(aio):
    async def main():
        server = await aio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        assert isinstance(reader, aio.StreamReader) and isinstance(writer, aio.StreamWriter)
        assert isinstance(writer.transport, stdlib.Transport)
        assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
        writer.writelines([b"a", b"b"])
        assert await reader.readexactly(2) == b"ab"
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await writer.wait_closed()
        server.close()

    aio.run(main())


def test_handler_sees_the_context_of_start_server(aio):
    variable = contextvars.ContextVar("variable", default="nothing")

    async def main():
        variable.set("set before the server")
        seen = aio.get_running_loop().create_future()

        async def handler(reader, writer):
            seen.set_result(variable.get())
            variable.set("changed by one handler")
            writer.close()

        server = await aio.start_server(handler, "127.0.0.1", 0)
        _, writer = await aio.open_connection(*server.sockets[0].getsockname())
        assert await seen == "set before the server"
        assert variable.get() == "set before the server"
        writer.close()
        server.close()

    aio.run(main())


def test_plain_function_as_handler(aio):
    async def main():
        server = await aio.start_server(lambda r, w: (w.write(b"plain"), w.close()), "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"plain"
        writer.close()
        server.close()

    aio.run(main())


@pytest.mark.since(3, 12)
def test_failing_handler_is_reported_once_and_its_connection_closed(aio):
    async def main():
        reports = Reports(aio.get_running_loop())

        async def handler(reader, writer):
            raise ValueError("in the handler")

        server = await aio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        await settle(aio)
        assert [str(e) for e in reports.exceptions()] == ["in the handler"]
        assert reports.messages() == ["Unhandled exception in client_connected_cb"]
        writer.close()
        server.close()

    aio.run(main())


def test_reset_reaches_the_waiting_reader(aio):
    import struct

    async def main():
        outcome = aio.get_running_loop().create_future()

        async def handler(reader, writer):
            try:
                outcome.set_result(await reader.read())
            except OSError as error:
                outcome.set_result(type(error))
            writer.close()

        server = await aio.start_server(handler, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as raw:
            await settle(aio)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert await outcome is ConnectionResetError
        server.close()

    aio.run(main())


@pytest.mark.since(3, 13)
def test_writer_dropped_unclosed_warns(aio):
    import gc

    async def main():
        async def handler(reader, writer):
            kept.append(writer)

        kept = []
        server = await aio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        while not kept:
            await aio.sleep(0.001)
        await settle(aio)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del reader, writer
            gc.collect()
        await settle(aio)
        kept.pop().close()
        server.close()

    aio.run(main())
