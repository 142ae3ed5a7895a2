"""Flow control in both directions: who does not read holds the writer back."""

from __future__ import annotations

import asyncio

import pytest

from .peers import Recorder, client_context, connected, run, server_context, turns


def test_nothing_is_delivered_while_reading_is_paused():
    async def main():
        async with connected() as (ours, theirs):
            ours.transport.pause_reading()
            assert not ours.transport.is_reading()
            theirs.transport.write(b"hello")
            await turns()
            assert ours.received == b""
            ours.transport.resume_reading()
            assert ours.transport.is_reading()
            await turns()
            assert ours.received == b"hello"

    run(main())


def test_a_pause_in_connection_made_holds():
    async def main():
        paused = {"made": lambda recorder: recorder.transport.pause_reading()}
        async with connected(theirs=lambda: Recorder(**paused)) as (ours, theirs):
            ours.transport.write(b"hello")
            await turns()
            assert theirs.received == b""
            theirs.transport.resume_reading()
            await turns()
            assert theirs.received == b"hello"

    run(main())


def test_a_pause_between_two_deliveries_holds():
    async def main():
        paused = {"data": lambda recorder: recorder.transport.pause_reading()}
        async with connected(ours=lambda: Recorder(**paused)) as (ours, theirs):
            data = bytes(600_000)
            theirs.transport.write(data)
            while len(ours.received) < len(data):
                count = len(ours.received)
                await turns()
                assert not ours.transport.is_reading()
                if len(ours.received) == count:
                    ours.transport.resume_reading()
            assert ours.received == data

    run(main())


def test_who_does_not_read_stops_the_writer():
    async def main():
        async with connected() as (ours, theirs):
            theirs.transport.pause_reading()
            written = 0
            while "pause" not in ours.log:
                ours.transport.write(bytes(100_000))
                written += 100_000
                assert written < 50_000_000
                await turns(1)
            low, high = ours.transport.get_write_buffer_limits()
            assert (low, high) == (128 * 1024, 512 * 1024)
            assert ours.transport.get_write_buffer_size() > high
            # What arrived at the one who does not read is bounded too.
            assert theirs.transport.get_read_buffer_size() <= 600_000
            theirs.transport.resume_reading()
            while len(theirs.received) < written:
                await turns(1)
            assert ours.log.count("pause") == ours.log.count("resume") == 1
            assert ours.transport.get_write_buffer_size() == 0

    run(main())


def test_limits_are_set_and_checked():
    async def main():
        async with connected() as (ours, _):
            transport = ours.transport
            for kind in ("write", "read"):
                set_limits = getattr(transport, f"set_{kind}_buffer_limits")
                get_limits = getattr(transport, f"get_{kind}_buffer_limits")
                set_limits(high=1000)
                assert get_limits() == (250, 1000)
                set_limits(low=1000)
                assert get_limits() == (1000, 4000)
                with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\)"):
                    set_limits(high=1, low=2)
                set_limits()
                assert get_limits()[0] * 4 == get_limits()[1] >= 256 * 1024

    run(main())


def test_drain_waits_for_the_reader():
    async def main():
        accepted = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            accepted.set_result((reader, writer))

        async with await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=server_context()
        ) as server:
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(),
                ssl=client_context(),
                server_hostname="localhost",
            )
            reader, other = await accepted
            size = 30_000_000
            writer.write(bytes(size))
            draining = asyncio.ensure_future(writer.drain())
            await turns(30)
            assert not draining.done(), "the writer was not held back"
            while size:
                size -= len(await reader.read(1 << 20))
            await draining
            for end in (writer, other):
                end.close()
                await end.wait_closed()

    run(main())


def test_callbacks_run_in_the_context_of_the_connection():
    import contextvars

    variable = contextvars.ContextVar("variable")
    seen = []

    class Noting(Recorder):
        def _note(self, name, detail=""):
            if name == "made":
                variable.set(self)
            seen.append(variable.get(None) is self)
            return super()._note(name, detail)

    async def main():
        async with connected(theirs=Noting) as (ours, theirs):
            ours.transport.write(b"hello")
            await turns()
            theirs.transport.pause_reading()
            ours.transport.write(b"again")
            await turns()
            theirs.transport.resume_reading()
            await turns()
            assert theirs.received == b"helloagain"
            ours.transport.close()
            await theirs.over
        assert len(seen) == 5
        assert all(seen)

    run(main())
