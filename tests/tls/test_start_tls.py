"""Connections that are encrypted after they began, and twice."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

import ioxide

from .peers import Recorder, client_context, run, server_context, turns


@contextlib.asynccontextmanager
async def streams(serve, *, given_away=False):
    """A server of streams, and a client's reader and writer, whose transport is perhaps given to others."""
    failed = asyncio.get_running_loop().create_future()

    async def guarded(reader, writer):
        try:
            await serve(reader, writer)
            failed.set_result(None)
        except BaseException as error:
            failed.set_exception(error)
        finally:
            writer.close()

    async with await ioxide.start_server(guarded, "127.0.0.1", 0) as server:
        reader, writer = await ioxide.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        await failed
        if not given_away:
            writer.close()
            await writer.wait_closed()


def test_streams_are_upgraded_in_both_directions():
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()

    async def main():
        async with streams(serve) as (reader, writer):
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"OK\n"
            await writer.start_tls(client_context(), server_hostname="localhost")
            assert writer.get_extra_info("ssl_object").version()
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"

    run(main())


def test_a_greeting_that_was_read_ahead_is_not_lost():
    async def serve(reader, writer):
        await reader.readline()
        # Until the client's greeting is in the reader.
        while not reader._buffer:
            await asyncio.sleep(0.001)
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()

    async def main():
        async with streams(serve) as (reader, writer):
            writer.write(b"STARTTLS\n")
            await writer.start_tls(client_context(), server_hostname="localhost")
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"

    run(main())


def test_tls_in_tls():
    data = os.urandom(500_000)

    async def serve(reader, writer):
        await writer.start_tls(server_context())
        await writer.start_tls(server_context())
        writer.write(await reader.readexactly(len(data)))
        await writer.drain()

    async def main():
        async with streams(serve) as (reader, writer):
            await writer.start_tls(client_context(), server_hostname="localhost")
            outer = writer.transport
            await writer.start_tls(client_context(), server_hostname="localhost")
            assert writer.transport is not outer
            assert writer.transport._transport is outer
            writer.write(data)
            assert await reader.readexactly(len(data)) == data

    run(main())


class Stranger(asyncio.Transport):
    """A transport of nobody's kind, around one of ours."""

    _start_tls_compatible = True

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def get_extra_info(self, name, default=None):
        return self.inner.get_extra_info(name, default)


for _name in (
    *("write", "close", "abort", "is_closing", "pause_reading", "resume_reading"),
    *("set_protocol", "get_protocol"),
):
    setattr(
        Stranger,
        _name,
        lambda self, *args, _name=_name: getattr(self.inner, _name)(*args),
    )


class OnlyAProtocol(asyncio.Protocol):
    """Hides from the transport below that the protocol is one of ours."""

    def __init__(self, inner):
        self.inner = inner

    def data_received(self, data):
        self.inner.data_received(data)

    def eof_received(self):
        return self.inner.eof_received()

    def connection_lost(self, exc):
        self.inner.connection_lost(exc)


def test_a_transport_of_a_stranger_is_encrypted():
    async def serve(reader, writer):
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()

    async def main():
        async with streams(serve, given_away=True) as (_, writer):
            below = Stranger(writer.transport)
            below.set_protocol = lambda inner: below.inner.set_protocol(OnlyAProtocol(inner))
            loop = asyncio.get_running_loop()
            protocol = Recorder()
            transport = await loop.start_tls(
                below, protocol, client_context(), server_hostname="localhost"
            )
            transport.write(b"hello\n")
            while not protocol.received:
                await turns(1)
            assert protocol.received == b"hello\n"
            transport.close()
            await protocol.over

    run(main())


def test_a_protocol_of_a_stranger_takes_over_our_transport():
    async def serve(reader, writer):
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()

    async def main():
        async with streams(serve, given_away=True) as (_, writer):
            protocol = Recorder()
            transport = await asyncio.get_running_loop().start_tls(
                writer.transport, protocol, client_context(), server_hostname="localhost"
            )
            assert protocol.log == []
            transport.write(b"hello\n")
            while not protocol.received:
                await turns(1)
            transport.close()
            await protocol.over
            assert protocol.log[-1] == "lost:None"

    run(main())


def test_what_cannot_be_encrypted_is_refused():
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match=r"is not supported by start_tls\(\)"):
            await loop.start_tls(object(), Recorder(), client_context())
        with pytest.raises(TypeError, match=r"expected to be an instance of ssl\.SSLContext"):
            await loop.start_tls(object(), Recorder(), None)

    run(main())


def test_sendfile_goes_through_the_encryption(tmp_path):
    data = os.urandom(700_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def serve(reader, writer):
        await writer.start_tls(server_context())
        with path.open("rb") as file:
            count = await asyncio.get_running_loop().sendfile(writer.transport, file)
        assert count == len(data)
        with path.open("rb") as file, pytest.raises(RuntimeError, match="fallback is disabled"):
            await asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)
        await writer.drain()

    async def main():
        async with streams(serve) as (reader, writer):
            await writer.start_tls(client_context(), server_hostname="localhost")
            assert await reader.readexactly(len(data)) == data

    run(main())
