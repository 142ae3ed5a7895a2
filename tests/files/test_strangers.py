"""aiofiles' documented programs with the import changed; aiofiles itself and anyio on our loop."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
from unittest import mock

import aiofiles as original
import aiofiles.os
import aiofiles.tempfile
import anyio
import pytest

import ioxide
from ioxide import files


def run(coroutine):
    with ioxide.Runner() as runner:
        return runner.run(coroutine)


@pytest.fixture(params=["ours", "aiofiles"])
def aiofiles(request):
    return files if request.param == "ours" else original


def test_reading(aiofiles, tmp_path):
    (tmp_path / "filename").write_text("one\ntwo\n")

    async def main():
        async with aiofiles.open(tmp_path / "filename", mode="r") as f:
            contents = await f.read()
        assert contents == "one\ntwo\n"
        lines = []
        async with aiofiles.open(tmp_path / "filename") as f:
            async for line in f:
                lines.append(line)
        assert lines == ["one\n", "two\n"]
        async with aiofiles.open(tmp_path / "filename", "rb", executor=None) as f:
            assert await f.readlines() == [b"one\n", b"two\n"]
            assert f.readable() and await f.seekable()
            assert isinstance(f.fileno(), int) and not f.closed

    run(main())


def test_the_example_of_a_page_that_is_written(aiofiles, tmp_path):
    async def write(path, pages):
        async with aiofiles.open(path, "w", encoding="utf-8") as f:
            for page in pages:
                await f.write(page)
            await f.flush()
            assert await f.tell() == sum(map(len, pages))

    run(write(tmp_path / "file", ["page"] * 10))
    assert (tmp_path / "file").read_text() == "page" * 10


def test_the_example_of_temporary_files(aiofiles):
    async def main():
        async with aiofiles.tempfile.TemporaryFile("wb") as f:
            await f.write(b"Hello, World!")
        async with aiofiles.tempfile.NamedTemporaryFile("wb+") as f:
            await f.write(b"Line1\n Line2")
            await f.seek(0)
            assert [line async for line in f] == [b"Line1\n", b" Line2"]
        async with aiofiles.tempfile.TemporaryDirectory() as d:
            filename = os.path.join(d, "file.ext")
            async with aiofiles.open(filename, "w") as f:
                await f.write("x")
            assert await aiofiles.os.path.exists(filename)
        assert not os.path.exists(d)
        async with aiofiles.tempfile.SpooledTemporaryFile(max_size=2) as f:
            await f.write(b"abc")
            await f.seek(0)
            assert await f.read() == b"abc"

    run(main())


def test_the_example_of_csv_writers(aiofiles, tmp_path):
    # A library that writes through the method of an asynchronous file.
    async def main():
        async with aiofiles.open(tmp_path / "file.csv", "w", newline="") as f:
            for row in (["a", "b"], ["1", "2"]):
                text = io.StringIO()
                csv.writer(text).writerow(row)
                await f.write(text.getvalue())

    run(main())
    assert (tmp_path / "file.csv").read_bytes() == b"a,b\r\n1,2\r\n"


def test_os_functions(aiofiles, tmp_path):
    async def main():
        path = tmp_path / "file"
        async with aiofiles.open(path, "w") as f:
            await f.write("12345")
        assert (await aiofiles.os.stat(path)).st_size == 5
        await aiofiles.os.rename(path, tmp_path / "other")
        await aiofiles.os.makedirs(tmp_path / "x" / "y", exist_ok=True)
        assert sorted(await aiofiles.os.listdir(tmp_path)) == ["other", "x"]
        entries = await aiofiles.os.scandir(tmp_path)
        assert sorted(entry.name for entry in entries) == ["other", "x"]
        entries.close()
        await aiofiles.os.remove(tmp_path / "other")
        assert not await aiofiles.os.path.isfile(tmp_path / "other")

    run(main())


def test_the_wrapper_of_aiofiles_takes_over_what_it_is_told():
    # The tests of programs that use aiofiles replace the builtin's open so, and register their mocks.
    files.threadpool.wrap.register(mock.MagicMock)(
        lambda *args, **kwargs: files.threadpool.AsyncBufferedIOBase(*args, **kwargs)
    )
    stream = mock.MagicMock()
    stream.read.return_value = b"mocked"

    async def main():
        with mock.patch("ioxide.files.threadpool.sync_open", return_value=stream):
            async with files.open("filename", "rb") as f:
                return await f.read()

    assert run(main()) == b"mocked"


def test_anyio_through_threads(tmp_path):
    async def main():
        path = anyio.Path(tmp_path / "file")
        await path.write_text("one\ntwo\n")
        async with await anyio.open_file(path) as f:
            assert [line async for line in f] == ["one\n", "two\n"]
        async with await anyio.open_file(path, "rb+") as f:
            await f.seek(4)
            await f.write(b"TWO")
        assert await path.read_bytes() == b"one\nTWO\n"
        assert [child.name async for child in path.parent.iterdir()] == ["file"]
        async with anyio.NamedTemporaryFile("w+") as f:
            await f.write("x")
        await path.unlink()
        with anyio.move_on_after(5):
            assert not await path.exists()
        # Ours within anyio's scopes.
        async with anyio.create_task_group() as group:
            for n in range(10):
                group.start_soon(files.write_bytes, tmp_path / str(n), bytes(n))
        async with files.open(tmp_path / "9", "rb") as f:
            assert await f.read() == bytes(9)

    anyio.run(main, backend_options={"loop_factory": ioxide.new_event_loop})


def test_a_scope_of_anyio_cancels(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main():
        async def cancel_when_it_is_read():
            while True:
                # Refused as long as nobody reads.
                with contextlib.suppress(OSError):
                    writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
                    break
                await asyncio.sleep(0.001)
            scope.cancel()

        writers = []
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(cancel_when_it_is_read)
                await files.read_bytes(fifo)
        assert scope.cancelled_caught
        # The thread still waits for bytes.
        await files.write_bytes(fifo, b"x")
        os.close(writers[0])
        await asyncio.sleep(0)

    anyio.run(main, backend_options={"loop_factory": ioxide.new_event_loop})
