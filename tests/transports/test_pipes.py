"""Pipes of every kind that asyncio takes: anonymous ones, FIFOs, sockets, terminals; and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tty

import pytest

from .peers import Recorder, both, run


def anonymous(_):
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)


def fifo(folder):
    path = folder / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return os.fdopen(reader, "rb", 0), os.fdopen(os.open(path, os.O_WRONLY), "wb", 0)


def sockets(_):
    return socket.socketpair()


def terminal(_):
    """What is written to the terminal by its programs is read by the one that shows it."""
    shown, program = os.openpty()
    tty.setraw(program)
    return os.fdopen(shown, "rb", 0), os.fdopen(program, "wb", 0)


every_kind = pytest.mark.parametrize("kind", [anonymous, fifo, sockets, terminal])


async def ends(kind, folder):
    """A protocol at each end."""
    loop = asyncio.get_running_loop()
    read_end, write_end = kind(folder)
    _, reader = await loop.connect_read_pipe(Recorder, read_end)
    _, writer = await loop.connect_write_pipe(Recorder, write_end)
    return reader, writer, read_end, write_end


def is_closed(end):
    return end.fileno() == -1 if isinstance(end, socket.socket) else end.closed


async def arrived(reader, count):
    while len(reader.received) < count:
        await asyncio.sleep(0)


@both
@every_kind
def test_bytes_pass_in_order_and_each_end_is_closed_once(new_loop, kind, tmp_path):
    async def main():
        reader, writer, read_end, write_end = await ends(kind, tmp_path)
        assert reader.transport.get_extra_info("pipe") is read_end
        assert writer.transport.get_extra_info("pipe") is write_end
        writer.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
        await arrived(reader, 13)
        assert reader.received == b"one two three"
        reader.transport.close()
        writer.transport.close()
        assert await reader.over is None
        assert await writer.over is None
        assert reader.log.count("lost:None") == writer.log.count("lost:None") == 1
        assert is_closed(read_end) and is_closed(write_end)

    run(main(), new_loop)


@both
@pytest.mark.parametrize("kind", [anonymous, fifo, sockets])
def test_the_end_comes_after_everything_that_was_written(new_loop, kind, tmp_path):
    async def main():
        reader, writer, *_ = await ends(kind, tmp_path)
        data = os.urandom(1_000_000)
        writer.transport.write(data)
        assert writer.transport.get_write_buffer_size() > 0
        writer.transport.write_eof()
        assert writer.transport.is_closing()
        assert await reader.over is None
        assert await writer.over is None
        assert reader.received == data
        assert reader.log[-2:] == ["eof", "lost:None"]

    run(main(), new_loop)


@both
@pytest.mark.parametrize("kind", [anonymous, fifo, sockets])
def test_a_writer_hears_that_its_reader_has_gone(new_loop, kind, tmp_path):
    async def main():
        reader, writer, *_ = await ends(kind, tmp_path)
        reader.transport.close()
        # asyncio says nothing of an idle one, a broken pipe of one that has something to write.
        assert await writer.over is None
        assert writer.transport.is_closing()

        second = tmp_path / "second"
        second.mkdir()
        reader, writer, *_ = await ends(kind, second)
        reader.transport.pause_reading()
        writer.transport.write(bytes(1_000_000))
        reader.transport.close()
        assert isinstance(await writer.over, BrokenPipeError)

    run(main(), new_loop)


@both
@pytest.mark.parametrize("kind", [anonymous, fifo, sockets])
def test_a_slow_reader_holds_its_writer_back(new_loop, kind, tmp_path):
    async def main():
        reader, writer, *_ = await ends(kind, tmp_path)
        writer.transport.set_write_buffer_limits(high=10_000)
        reader.transport.pause_reading()
        writer.transport.write(bytes(2_000_000))
        assert writer.log == ["made", "pause"]
        reader.transport.resume_reading()
        await arrived(reader, 2_000_000)
        assert writer.log == ["made", "pause", "resume"]
        writer.transport.abort()
        reader.transport.close()
        await asyncio.gather(writer.over, reader.over)

    run(main(), new_loop)


@both
def test_a_terminal_that_is_hung_up_ends_its_reader(new_loop, tmp_path):
    async def main():
        reader, writer, *_ = await ends(terminal, tmp_path)
        writer.transport.write(b"last words")
        await arrived(reader, 10)
        writer.transport.close()
        await writer.over
        # The kernel says EIO where a pipe would say that it is at its end.
        assert (await reader.over).errno == errno.EIO
        assert reader.received == b"last words"

    run(main(), new_loop)


@both
@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
def test_regular_files_are_refused_and_left_open(new_loop, name, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await getattr(loop, name)(Recorder, file)
            assert not file.closed
            file.write(b"still ours")

    run(main(), new_loop)
