"""Files that are sent by the kernel: how much, from where, and what is left behind when it ends otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import sys

import pytest
from harness.implementation import spin

import ioxide

DATA = bytes(range(256)) * 12_000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        yield file


@pytest.fixture
def sockets():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


async def received(loop, sock, count):
    data = bytearray()
    while len(data) < count and (more := await loop.sock_recv(sock, 50_000)):
        data += more
    return bytes(data)


def send(aio, loop, sockets, file, *args, expected, **keywords):
    """What `sock_sendfile` returns; the other end must receive this."""
    near, far = sockets

    async def main():
        sending = loop.create_task(loop.sock_sendfile(near, file, *args, **keywords))
        assert await received(loop, far, len(expected)) == expected
        return await sending

    return loop.run_until_complete(main())


@pytest.mark.parametrize("fallback", [False, True])
def test_large_file_goes_in_parts_and_whole(aio, loop, sockets, file, fallback):
    sent = send(aio, loop, sockets, file, expected=DATA, fallback=fallback)
    assert sent == file.tell() == len(DATA)


@pytest.mark.parametrize(("offset", "count"), [(1000, None), (1000, 1_000_000), (0, 1), (7, 10**9)])
def test_part_of_a_file_leaves_the_position_behind_it(aio, loop, sockets, file, offset, count):
    end = len(DATA) if count is None else offset + count
    expected = DATA[offset:end]
    sent = send(aio, loop, sockets, file, offset, count, expected=expected, fallback=False)
    assert sent == len(expected)
    assert file.tell() == offset + sent


def test_nothing_to_send_is_no_failure(aio, loop, sockets, file, tmp_path):
    assert send(aio, loop, sockets, file, len(DATA), expected=b"", fallback=False) == 0
    with open(tmp_path / "empty", "w+b") as empty:
        assert send(aio, loop, sockets, empty, expected=b"", fallback=False) == 0


def test_object_without_a_descriptor_is_read(aio, loop, sockets):
    content = io.BytesIO(b"0123456789")
    with pytest.raises(aio.SendfileNotAvailableError, match="not a regular file"):
        send(aio, loop, sockets, content, expected=b"", fallback=False)
    assert send(aio, loop, sockets, content, 3, 4, expected=b"3456") == 4
    assert content.tell() == 7


class Unseekable:
    """A pipe, as an object that cannot seek."""

    def __init__(self, content):
        reader, writer = os.pipe()
        with open(writer, "wb") as file:
            file.write(content)
        pipe = io.FileIO(reader)
        self.close, self.fileno, self.readinto = pipe.close, pipe.fileno, pipe.readinto


def test_pipe_is_read_where_the_kernel_does_not_send_it(aio, loop, sockets):
    if aio is asyncio and sys.version_info >= (3, 13):
        pytest.skip("asyncio wants to move its position")
    pipe = Unseekable(b"0123456789")
    with contextlib.closing(pipe):
        with pytest.raises(aio.SendfileNotAvailableError, match=r"os\.sendfile call failed"):
            send(aio, loop, sockets, pipe, 0, 4, expected=b"", fallback=False)
        assert send(aio, loop, sockets, pipe, 0, 4, expected=b"0123") == 4


def test_error_of_fileno_comes_through(aio, loop, sockets, file):
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        send(aio, loop, sockets, file, expected=b"", fallback=True)


def test_closed_socket_is_not_available(aio, loop, sockets, file):
    near, _far = sockets
    near.close()
    with pytest.raises(aio.SendfileNotAvailableError):
        loop.run_until_complete(loop.sock_sendfile(near, file, fallback=False))


def test_peer_that_goes_away_is_an_error(aio, loop, sockets, file):
    near, far = sockets

    async def main():
        sending = loop.create_task(loop.sock_sendfile(near, file))
        await spin(aio)
        far.close()
        with pytest.raises(ConnectionError):
            await sending

    loop.run_until_complete(main())
    assert 0 < file.tell() < len(DATA)


def test_cancelled_sending_leaves_the_socket_to_others(aio, loop, sockets, file):
    near, far = sockets

    async def main():
        sending = loop.create_task(loop.sock_sendfile(near, file))
        await spin(aio)
        sending.cancel()
        with pytest.raises(aio.CancelledError):
            await sending
        assert not loop.remove_writer(near)
        while await loop.sock_recv(far, 1_000_000) == b"":
            pass
        other = loop.create_task(loop.sock_sendall(near, b"other"))
        data = b""
        while not data.endswith(b"other"):
            data = data[-5:] + await loop.sock_recv(far, 1_000_000)
        await other

    loop.run_until_complete(main())


# Where asyncio is not the same in all versions


def test_position_is_where_the_sending_ended_also_where_it_sent_nothing(sockets, file):
    loop = ioxide.new_event_loop()
    assert send(ioxide, loop, sockets, file, len(DATA) - 3, 3, expected=DATA[-3:]) == 3
    file.seek(5)
    assert send(ioxide, loop, sockets, file, len(DATA), expected=b"") == 0
    assert file.tell() == len(DATA)
    loop.close()


def test_cancelled_sending_leaves_the_position_behind_what_was_sent(sockets, file):
    near, far = sockets

    async def main():
        loop = asyncio.get_running_loop()
        sending = loop.create_task(loop.sock_sendfile(near, file))
        await spin(asyncio)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert await received(loop, far, file.tell()) == DATA[: file.tell()]
        with pytest.raises(BlockingIOError):
            far.recv(1)

    ioxide.run(main())


def test_file_is_sent_without_the_functions_of_os(monkeypatch, sockets, file):
    # Tools that watch for blocking calls put their own in the place of these.
    def refuse(*_):
        raise AssertionError("called from the loop")

    loop = ioxide.new_event_loop()
    with monkeypatch.context() as patch:
        for name in ("sendfile", "fstat", "lseek", "read"):
            patch.setattr(os, name, refuse)
        sent = send(ioxide, loop, sockets, file, 100, 2_000_000, expected=DATA[100:2_000_100])
    assert sent == 2_000_000
    loop.close()


def test_transport_that_is_aborted_wakes_who_sends_over_it(sockets, file):
    near, far = sockets

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        sending = loop.create_task(loop.sendfile(transport, file))
        await spin(asyncio)
        assert file.tell() == 0 and far.recv(1) == DATA[:1], "it is under way"
        transport.abort()
        with pytest.raises(OSError):
            await asyncio.wait_for(sending, 50)

    ioxide.run(main())
