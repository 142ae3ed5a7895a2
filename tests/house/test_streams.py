"""open_connection and start_server as the package has them, with `loop=` as before Python 3.10."""

from __future__ import annotations

import asyncio
import warnings

import pytest

import ioxide


async def upper(reader, writer):
    writer.write((await reader.read()).upper())
    writer.close()


async def exchange(connect, words=b"words"):
    reader, writer = await connect
    writer.write(words)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_server_and_client_exchange_bytes_without_a_warning():
    async def main():
        server = await ioxide.start_server(upper, "127.0.0.1", 0)
        async with server:
            return await exchange(ioxide.open_connection(*server.sockets[0].getsockname()[:2]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ioxide.run(main()) == b"WORDS"


def test_the_loop_argument_works_with_a_warning():
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.warns(DeprecationWarning, match="loop argument") as seen:
            server = await ioxide.start_server(upper, "127.0.0.1", 0, loop=loop)
        assert seen[0].filename == __file__
        async with server:
            address = server.sockets[0].getsockname()[:2]
            with pytest.warns(DeprecationWarning, match="loop argument"):
                return await exchange(ioxide.open_connection(*address, loop=loop))

    assert ioxide.run(main()) == b"WORDS"


def test_another_loop_is_refused():
    other = ioxide.new_event_loop()

    async def main():
        with pytest.warns(DeprecationWarning), pytest.raises(RuntimeError, match="not the running"):
            await ioxide.open_connection("127.0.0.1", 1, loop=other)

    ioxide.run(main())
    other.close()


def test_the_limit_reaches_the_reader():
    async def main():
        server = await ioxide.start_server(upper, "127.0.0.1", 0)
        async with server:
            reader, writer = await ioxide.open_connection(
                *server.sockets[0].getsockname()[:2], limit=4
            )
            writer.write(b"longer than four\n")
            writer.write_eof()
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            writer.close()

    ioxide.run(main())
