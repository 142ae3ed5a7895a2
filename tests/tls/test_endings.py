"""How encrypted connections end: politely, rudely, by a limit, or before they begin."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from pathlib import Path

import pytest
from harness import child

import ioxide

from .peers import (
    Recorder,
    client_context,
    connected,
    plain_peer,
    run,
    server_context,
    turns,
)

ROOT = Path(__file__).parents[2]


def run_virtual(main):
    """Run with a clock that jumps to the next deadline when nothing else happens."""
    return run(main, lambda: ioxide.EventLoop(clock="virtual"))


def test_both_ends_say_goodbye():
    async def main():
        async with connected() as (ours, theirs):
            ours.transport.write(b"last words")
            ours.transport.close()
            ours.transport.close()
            assert ours.transport.is_closing()
            assert await ours.over is None
            assert await theirs.over is None
            assert theirs.received == b"last words"
            assert ours.log[0] == "made" and ours.log[-1] == "lost:None"
            assert theirs.log[-2:] == ["eof", "lost:None"]

    run(main())


def test_a_connection_that_ends_without_a_goodbye_is_an_end_of_file():
    async def main():
        async with connected() as (ours, theirs):
            theirs.transport._transport.close()
            assert await ours.over is None
            assert ours.log == ["made", "eof", "lost:None"]

    run(main())


def test_a_program_that_has_paused_can_close_after_the_other_end_has_gone():
    async def main():
        async with connected() as (ours, theirs):
            ours.transport.pause_reading()
            theirs.transport._transport.close()
            await turns()
            assert not ours.over.done()
            ours.transport.close()
            assert await ours.over is None

    run(main())


def test_a_reset_reaches_connection_lost():
    async def main():
        async with connected() as (ours, theirs):
            sock = theirs.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.transport.abort()
            assert isinstance(await ours.over, ConnectionResetError)
            assert ours.log == ["made", "lost:ConnectionResetError"]

    run(main())


def test_abort_tells_connection_lost_once():
    async def main():
        async with connected() as (ours, _):
            ours.transport.abort()
            ours.transport.abort()
            assert await ours.over is None
            assert ours.log == ["made", "lost:None"]
            assert ours.transport.is_closing()
            # In vain, and no error.
            ours.transport.write(b"late")

    run(main())


GARBAGE = {
    "HTTP": [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "a proxy": [b"CONNECT localhost:443 HTTP/1.1\r\n\r\n"],
    "SSH": [b"SSH", b"-2.0-OpenSSH_9.9\r\n"],
    "zeros": [bytes(3), bytes(100)],
    "an alert": [b"\x15\x03\x03\x00\x02\x02\x28"],
    "an alert of another version": [b"\x15\x03\x07\x00\x02\x02\x28"],
    "a record too large": [b"\x16\x03\x01", b"\xff\xff" + bytes(100)],
    "a message of no kind": [b"\x16\x03\x01\x00\x04\xff\x00\x00\x00"],
    "data": [b"\x17\x03\x03\x00\x01\x00"],
}


def failure_by_hand(server_side, garbage):
    """What the handshake raises, without a loop."""
    context = server_context() if server_side else client_context()
    incoming = ssl.MemoryBIO()
    name = None if server_side else "localhost"
    by_hand = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side, name)
    for piece in [b"", *garbage]:
        incoming.write(piece)
        try:
            by_hand.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as failure:
            return failure
    return None


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_instead_of_a_handshake_is_an_error(garbage, server_side):
    fails_as_by_hand(server_side, garbage)


def test_an_alert_of_another_version_in_the_middle_of_a_handshake_is_an_error():
    """OpenSSL tells of it once, and answers nothing."""
    context, outgoing = client_context(), ssl.MemoryBIO()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    greeting = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        greeting.do_handshake()
    alert = b"\x15\x03\x07\x00\x02\x02\x28"
    fails_as_by_hand(True, [outgoing.read(), alert])


def fails_as_by_hand(server_side, garbage):
    expected = failure_by_hand(server_side, garbage)
    assert expected is not None

    async def main():
        async with plain_peer(server_side=server_side) as (task, sock):
            for piece in garbage:
                await turns()
                sock.send(piece)
            with pytest.raises(ssl.SSLError) as caught:
                await task
        # The message names the line of the function that found it, too.
        assert (type(caught.value), str(caught.value)) == (type(expected), str(expected))
        assert caught.value.reason == expected.reason

    run(main())


def test_a_handshake_that_stops_half_way_and_ends():
    async def main():
        async with plain_peer(server_side=True) as (task, sock):
            outgoing = ssl.MemoryBIO()
            greeting = client_context().wrap_bio(
                ssl.MemoryBIO(), outgoing, server_hostname="localhost"
            )
            with pytest.raises(ssl.SSLWantReadError):
                greeting.do_handshake()
            sock.send(outgoing.read()[:100])
            await turns()
            sock.close()
            with pytest.raises(ConnectionResetError):
                await task

    run(main())


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_a_handshake_that_takes_too_long(server_side):
    async def main():
        began = asyncio.get_running_loop().time()
        async with plain_peer(server_side=server_side, ssl_handshake_timeout=7) as (task, _):
            with pytest.raises(ConnectionAbortedError) as caught:
                await task
        assert asyncio.get_running_loop().time() - began == pytest.approx(7, abs=0.1)
        assert str(caught.value) == (
            "SSL handshake is taking longer than 7 seconds: aborting the connection"
        )

    run_virtual(main())


def test_others_are_served_while_one_says_nothing():
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=5
        )
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as silent, socket.create_connection(address) as odd:
            odd.send(b"\x16\x03\x01")
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            silent.setblocking(False)
            await asyncio.sleep(6)
            # Both have been given up.
            for sock in (silent, odd):
                assert sock.recv(1) == b""
        server.close()
        await server.wait_closed()

    run_virtual(main())


def test_a_goodbye_that_is_not_answered():
    async def main():
        loop = asyncio.get_running_loop()
        # The peer shakes hands and is then silent.
        async with connected(ssl_shutdown_timeout=9) as (ours, theirs):
            theirs.transport._transport.pause_reading()
            began = loop.time()
            ours.transport.close()
            error = await ours.over
            assert isinstance(error, TimeoutError)
            assert str(error) == "SSL shutdown timed out"
            assert loop.time() - began == pytest.approx(9, abs=0.1)

    run_virtual(main())


def test_a_record_that_was_tampered_with(engine):
    async def main():
        async with connected() as (ours, theirs):
            reports = []
            asyncio.get_running_loop().set_exception_handler(lambda _, c: reports.append(c))
            theirs.transport.write(b"good")
            await turns()
            # An application record of 32 bytes that nobody has encrypted.
            theirs.transport._transport.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            error = await ours.over
            assert isinstance(error, ssl.SSLError)
            # The latter since OpenSSL 3.2, which tells of the layer that found it.
            assert error.reason in {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"}
            assert error.library == "SSL"
            assert ours.received == b"good"
            assert reports == []

    run(main())


def test_bytes_before_a_broken_record_are_delivered():
    async def main():
        async with connected() as (ours, theirs):
            below = theirs.transport._transport
            # Both in one write: the second would go out at the end of the turn otherwise.
            sent = []
            below.write = sent.append
            theirs.transport.write(b"good")
            del below.write
            below.write(b"".join(sent) + b"\x17\x03\x03\x00\x20" + bytes(32))
            assert isinstance(await ours.over, ssl.SSLError)
            assert ours.received == b"good"

    run(main())


@pytest.mark.parametrize("name", ["made", "data", "eof", "lost"])
def test_what_a_callback_raises_is_told_and_ends_the_connection(name):
    def fail(_):
        raise ZeroDivisionError

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with connected(theirs=lambda: Recorder(**{name: fail})) as (ours, theirs):
            ours.transport.write(b"hello")
            await turns()
            ours.transport.close()
            await theirs.over
            await turns()
            assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
            assert theirs.log[0] == "made"
            assert theirs.log[-1].startswith("lost:")

    run(main())


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_what_must_leave_the_loop_leaves_it(engine, error):
    done = child.run(
        ioxide,
        f"""
        from ioxide import _ioxide
        from tests.tls.peers import Recorder, connected
        _ioxide._set_native_tls({engine == "native"})

        def leave(_):
            raise {error}("now")

        async def main():
            async with connected(theirs=lambda: Recorder(data=leave)) as (ours, _):
                ours.transport.write(b"hello")
                await stdlib.sleep(10)

        try:
            aio.run(main())
        except {error} as error:
            print(error)
        """,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.stdout == "now\n", done.stderr


def test_a_program_may_end_the_connection_in_any_callback():
    async def main():
        for name in ("made", "data", "eof"):
            for end in ("close", "abort"):
                leave = {name: lambda recorder, end=end: getattr(recorder.transport, end)()}
                async with connected(theirs=lambda leave=leave: Recorder(**leave)) as ends:
                    ours, theirs = ends
                    ours.transport.write(b"hello")
                    await turns()
                    ours.transport.close()
                    await ours.over
                    await theirs.over
                    assert theirs.log.count("made") == 1
                    assert theirs.log[-1].startswith("lost:")

    run(main())


def test_cancelling_a_handshake_closes_the_connection():
    async def main():
        async with plain_peer() as (task, sock):
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await turns()
            assert sock.recv(4096)[:1] == b"\x16"
            assert sock.recv(1) == b""

    run(main())


def test_a_transport_that_nobody_closes_warns():
    async def main():
        async with connected() as (ours, _):
            transport = ours.transport
            with pytest.warns(ResourceWarning, match="unclosed transport <SSLTransport"):
                transport.__del__()

    run(main())
