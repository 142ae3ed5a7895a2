"""Peers that say nothing, or next to nothing."""

from __future__ import annotations

import asyncio

SILENT = 100
PATIENCE_S = 30


class LineServer:
    """Answers one line, for which it waits half a minute."""

    def __init__(self) -> None:
        self.given_up: list[tuple[float, bytes]] = []

    async def __call__(self, reader, writer) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readline()
            writer.write(b"you said: " + line)
        except TimeoutError:
            now = asyncio.get_running_loop().time()
            self.given_up.append((now, bytes(reader._buffer)))
        finally:
            writer.close()


async def ask(address) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"hello\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_silent_peers_are_given_up_and_the_others_are_served(run, connect):
    async def main():
        handler = LineServer()
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        started = asyncio.get_running_loop().time()
        silent = [connect(address) for _ in range(SILENT)]
        assert await ask(address) == b"you said: hello\n"
        assert handler.given_up == []
        await asyncio.sleep(PATIENCE_S + 1)
        assert len(handler.given_up) == SILENT
        assert all(PATIENCE_S <= when - started <= PATIENCE_S + 1 for when, _ in handler.given_up)
        assert [sock.recv(1) for sock in silent] == [b""] * SILENT
        server.close()

    run(main)


def test_a_byte_a_second_is_kept_until_patience_ends(run, connect):
    async def main():
        handler = LineServer()
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        slow = connect(address)
        try:
            for _ in range(PATIENCE_S + 10):
                slow.send(b"x")
                await asyncio.sleep(1)
                assert await ask(address) == b"you said: hello\n"
        except ConnectionError:
            pass  # once the server has closed
        ((_, kept),) = handler.given_up
        assert PATIENCE_S - 1 <= len(kept) <= PATIENCE_S + 1
        assert kept == b"x" * len(kept)
        server.close()

    run(main)


def test_a_line_that_comes_a_byte_a_second_comes_whole(run, connect):
    async def main():
        lines = []

        async def handler(reader, writer):
            async for line in reader:
                lines.append(line)
            writer.close()

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        slow = connect(server.sockets[0].getsockname())
        for byte in b"one line\nand two\n":
            slow.send(bytes([byte]))
            await asyncio.sleep(1)
        assert lines == [b"one line\n", b"and two\n"]
        server.close()

    run(main)
