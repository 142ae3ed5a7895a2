"""`open()`: the builtin's modes and errors, aiofiles' interface, and a thread only where one is needed."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import io
import os
import threading

import pytest

import ioxide
from ioxide import files
from ioxide._executor import ThreadPool


def run(coroutine):
    with ioxide.Runner() as runner:
        return runner.run(coroutine)


class Counting(ThreadPool):
    """Counts what is submitted. A subclass is not taken for the native pool: each job passes `submit`."""

    def __init__(self):
        super().__init__(2)
        self.jobs = 0

    def submit(self, fn, /, *args, **kwargs):
        self.jobs += 1
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def pool():
    pool = Counting()
    yield pool
    pool.shutdown()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file")


def test_the_first_example_of_aiofiles(path):
    builtins.open(path, "w").close()

    async def main():
        async with files.open(path, mode="w") as f:
            await f.write("first\nsecond\n")
        async with files.open(path, mode="r") as f:
            contents = await f.read()
        lines = []
        async with files.open(path) as f:
            async for line in f:
                lines.append(line)
        f = await files.open(path)
        try:
            return contents, lines, await f.readline()
        finally:
            await f.close()

    assert run(main()) == ("first\nsecond\n", ["first\n", "second\n"], "first\n")


@pytest.mark.parametrize(
    ("mode", "buffering", "kind"),
    [
        ("r", -1, files.threadpool.AsyncTextIOWrapper),
        ("w", -1, files.threadpool.AsyncTextIOWrapper),
        ("r+", -1, files.threadpool.AsyncTextIOWrapper),
        ("rb", -1, files.threadpool.AsyncBufferedReader),
        ("rb+", -1, files.threadpool.AsyncBufferedReader),
        ("wb", -1, files.threadpool.AsyncBufferedIOBase),
        ("rb", 0, files.threadpool.AsyncFileIO),
    ],
)
def test_what_a_file_says_of_itself(path, mode, buffering, kind):
    builtins.open(path, "w").close()

    async def main():
        async with files.open(path, mode, buffering) as f:
            with builtins.open(path, mode, buffering) as theirs:
                assert isinstance(f, kind)
                assert (f.name, f.mode, f.closed) == (theirs.name, theirs.mode, False)
                assert f.fileno() != theirs.fileno()
                for name in ("encoding", "errors", "line_buffering", "newlines"):
                    assert getattr(f, name, None) == getattr(theirs, name, None)
                readable = f.readable()
                if not isinstance(readable, bool):
                    readable = await readable
                assert readable == theirs.readable()
                assert (await f.writable(), await f.seekable()) == (theirs.writable(), True)
                assert await f.isatty() is False
                assert repr(theirs)[:20] in repr(f)
        assert f.closed
        with pytest.raises(ValueError, match="closed file"):
            await f.flush()

    run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "q"},
        {"mode": "rw"},
        {"mode": "rb", "encoding": "utf-8"},
        {"mode": "r", "buffering": 0},
        {"mode": "r", "newline": "x"},
        {"mode": "r", "encoding": "no such encoding"},
        {"mode": "x"},
        {"mode": "r", "closefd": False},
        {"file": "/no/such/file"},
        {"file": "/"},
        {"file": 1.5},
    ],
)
def test_errors_are_the_builtins(path, arguments):
    builtins.open(path, "w").close()
    arguments = {"file": path, **arguments}

    def outcome(error):
        return type(error), str(error), getattr(error, "filename", None)

    with pytest.raises(Exception) as expected:
        builtins.open(**arguments)
    with pytest.raises(Exception) as caught:
        run(_opened(arguments))
    assert outcome(caught.value) == outcome(expected.value)


async def _opened(arguments):
    await files.open(**arguments)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_told_when_the_buffer_is_written():
    async def main():
        f = await files.open("/dev/full", "wb")
        await f.write(b"x")
        with pytest.raises(OSError, match="No space left") as caught:
            await f.flush()
        with pytest.raises(OSError, match="No space left"):
            await f.close()
        assert f.closed
        return caught.value.errno

    assert run(main()) == 28


def test_an_opener_is_called_on_a_thread(path):
    names = []

    def opener(name, flags):
        names.append((name, threading.current_thread() is threading.main_thread()))
        return os.open(name, flags)

    async def main():
        async with files.open(path, "w", opener=opener) as f:
            await f.write("x")

    run(main())
    assert names == [(path, False)]


def test_descriptors_can_be_opened_and_kept(path):
    async def main():
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        async with files.open(fd, "w", closefd=False) as f:
            await f.write("content")
        os.lseek(fd, 0, os.SEEK_SET)
        async with files.open(fd) as f:
            read = await f.read(3)
            # It is the program's own descriptor: nothing is read ahead of the builtin's buffer.
            assert os.lseek(fd, 0, os.SEEK_CUR) == 7
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        return read

    assert run(main()) == "con"


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_lines_need_a_thread_per_block_only(path, pool, mode):
    lines = [f"line {n}\n" for n in range(20_000)]
    with builtins.open(path, "w") as f:
        f.writelines(lines)

    async def main():
        read = []
        async with files.open(path, mode, executor=pool) as f:
            async for line in f:
                read.append(line if mode == "r" else line.decode())
        return read

    assert run(main()) == lines
    assert pool.jobs <= 12


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_small_writes_need_no_thread_each(path, pool, mode):
    piece = "some text\n" if mode == "w" else b"some text\n"

    async def main():
        async with files.open(path, mode, executor=pool) as f:
            for _ in range(1000):
                await f.write(piece)

    run(main())
    with builtins.open(path, mode.replace("w", "r")) as f:
        assert f.read() == piece * 1000
    assert pool.jobs <= 8


@pytest.mark.parametrize("text", ["plain\n", "é\n", "€€\n", "😀\n\n", "\ud800\n"])
@pytest.mark.parametrize(
    ("encoding", "errors", "newline"),
    [
        ("utf-8", "strict", None),
        ("utf-8", "surrogatepass", "\r\n"),
        ("utf-8", "xmlcharrefreplace", None),
        ("latin-1", "replace", "\r\n"),
        ("ascii", "ignore", None),
        ("ascii", "backslashreplace", "\r\n"),
        ("ascii", "namereplace", None),
        ("utf-16", "replace", "\r\n"),
        ("utf-8-sig", "replace", None),
        ("utf-7", "replace", None),
    ],
)
@pytest.mark.parametrize("buffering", [-1, 64])
def test_only_threads_write_to_the_disk(path, pool, text, encoding, errors, newline, buffering):
    options = {"encoding": encoding, "errors": errors, "newline": newline}

    async def main():
        async with files.open(path, "w", buffering, executor=pool, **options) as f:
            jobs, size = pool.jobs, 0
            for _ in range(400):
                await f.write(text)
                written = os.fstat(f.fileno()).st_size
                assert written == size or pool.jobs > jobs
                jobs, size = pool.jobs, written
        return jobs

    try:
        text.encode(encoding, errors)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            run(main())
        return
    run(main())
    with builtins.open(f"{path}-2", "w", buffering, **options) as theirs:
        theirs.write(text * 400)
    with builtins.open(path, "rb") as ours, builtins.open(f"{path}-2", "rb") as theirs:
        assert ours.read() == theirs.read()


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_what_is_not_awaited_is_not_read(path, mode):
    with builtins.open(path, "w") as f:
        f.write("one\ntwo\nthree\n")

    async def main():
        async with files.open(path, mode) as f:
            lines = [await f.readline()]
            for unused in (f.readline(), f.read(2), f.__anext__()):
                unused.close()
            lines += [line async for line in f]
        return [line if mode == "r" else line.decode() for line in lines]

    assert run(main()) == ["one\n", "two\n", "three\n"]


def test_reading_methods_are_coroutine_functions(path):
    builtins.open(path, "w").close()

    async def main():
        async with files.open(path) as f, files.open(path, "a") as g:
            for method in (f.read, f.readline, g.write):
                assert inspect.iscoroutinefunction(method)
            with pytest.raises(TypeError):
                f.read(1, 2)
            with pytest.raises(TypeError):
                await f.read("1")
            with pytest.raises(TypeError):
                await g.write(b"bytes")

    run(main())


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_line_that_is_cancelled_is_read_by_the_next(path, pool, mode):
    with builtins.open(path, "w") as f:
        f.writelines(f"{n}\n" for n in range(5))

    async def main():
        async with files.open(path, mode, executor=pool) as f:
            # Cancelled before its turn: the other one's operation is under way.
            first, second = ioxide.create_task(f.readline()), ioxide.create_task(f.readline())
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.wait([first, second])
            assert second.cancelled()
            return [int(first.result()), *[int(line) async for line in f]]

    assert run(main()) == [0, 1, 2, 3, 4]


def test_what_is_appended_meanwhile_is_read(path):
    builtins.open(path, "w").close()

    async def main():
        async with files.open(path) as f, files.open(path, "a") as writer:
            read = [await f.readline()]
            for text in ("one\ntw", "o\n"):
                await writer.write(text)
                await writer.flush()
                read += [await f.readline(), await f.readline()]
        return read

    assert run(main()) == ["", "one\n", "tw", "o\n", ""]


def test_the_file_below_stands_where_the_program_believes(path):
    with builtins.open(path, "w") as f:
        f.writelines(f"line {n}\n" for n in range(5000))

    async def main():
        async with files.open(path) as f:
            await f.readline()
            f.buffer.seek(0)
        async with files.open(path, "rb") as f:
            await f.readline()
            raw = f.raw
            assert f._file.tell() == 7
            del raw
        f = await files.open(path)
        await f.readline()
        below = f.detach()
        below.close()

    run(main())


def test_readinto_peek_and_read1(path):
    with builtins.open(path, "wb") as f:
        f.write(b"0123456789" * 5000)

    async def main():
        async with files.open(path, "rb") as f:
            assert await f.read(3) == b"012"
            assert (await f.peek(1))[:4] == b"3456"
            space = bytearray(4)
            assert await f.readinto(space) == 4 and space == b"3456"
            assert (await f.read1(2)) == b"78"
            assert await f.tell() == 9
        async with files.open(path, "rb", 0) as f:
            assert await f.readinto(space) == 4 and space == b"0123"
            assert len(await f.readall()) == 49_996

    run(main())


def test_operations_of_one_file_come_one_after_the_other(path):
    async def main():
        async with files.open(path, "w+b") as f:
            await asyncio.gather(*(f.write(bytes([n]) * 1000) for n in range(100)))
            await f.seek(0)
            parts = await asyncio.gather(*(f.read(1000) for _ in range(101)))
        async with files.open(path, "rb") as f:
            again = await asyncio.gather(*(f.read(1000) for _ in range(101)))
        return parts, again

    parts, again = run(main())
    assert parts == again == [bytes([n]) * 1000 for n in range(100)] + [b""]


def test_wrap_takes_files_that_are_open(path):
    async def main():
        with builtins.open(path, "w+") as f:
            wrapped = files.wrap(f)
            await wrapped.write("text\n")
            await wrapped.seek(0)
            assert [line async for line in wrapped] == ["text\n"]
        memory = files.wrap(io.BytesIO(b"bytes"))
        assert await memory.read() == b"bytes"
        with pytest.raises(TypeError, match="Unsupported io type"):
            files.wrap("text")

    run(main())


@pytest.mark.slow
def test_a_gigabyte_is_read_and_copied_in_constant_memory(path):
    import resource

    # Holes take no disk, and are read as any other bytes; a copy of them does.
    with builtins.open(path, "wb") as f:
        f.truncate(1 << 30)
    with builtins.open(f"{path}-2", "wb") as f:
        f.truncate(1 << 27)

    async def main():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = 0
        async with files.open(path, "rb") as f:
            while piece := await f.read(1 << 20):
                count += len(piece)
        copied = await files.copy(f"{path}-2", f"{path}-3")
        copied += await files.copy(path, "/dev/null")
        return count, copied, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    count, copied, grown_kib = run(main())
    os.unlink(f"{path}-3")
    assert (count, copied) == (1 << 30, (1 << 30) + (1 << 27))
    assert grown_kib < 32 * 1024


def test_a_file_that_nobody_closed_is_told(path):
    async def main():
        f = await files.open(path, "w")
        del f

    with pytest.warns(ResourceWarning, match="unclosed file"):
        run(main())
