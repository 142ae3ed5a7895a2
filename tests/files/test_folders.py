"""`files.os`, `files.tempfile` and the standard streams: what `os`, `tempfile` and `sys` have, on threads."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tempfile
import threading

import pytest

import ioxide
from ioxide import files


def run(coroutine):
    with ioxide.Runner() as runner:
        return runner.run(coroutine)


@pytest.fixture
def tree(tmp_path):
    for name in ("a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/one", "a/b/two", "a/b/c/three"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_functions_have_the_results_of_os(tree, monkeypatch):
    monkeypatch.chdir(tree)
    cases = [
        ("stat", ("a/one",)),
        ("stat", ("a",)),
        ("listdir", ("a",)),
        ("access", ("a/one", os.R_OK)),
        ("access", ("missing", os.R_OK)),
        ("getcwd", ()),
        ("statvfs", (".",)),
    ]
    paths = [
        (name, ("a/one",))
        for name in files.ospath.__all__
        if name not in ("samefile", "sameopenfile")
    ]

    async def main():
        for name, arguments in cases:
            ours = await getattr(files.os, name)(*arguments)
            theirs = getattr(os, name)(*arguments)
            if name == "statvfs":
                # How much is free may change in between.
                ours, theirs = ours.f_bsize, theirs.f_bsize
            assert ours == theirs, name
        for name, arguments in paths:
            ours = await getattr(files.os.path, name)(*arguments)
            assert ours == getattr(os.path, name)(*arguments), name
        assert await files.os.path.samefile("a/one", "a/../a/one")
        with open("a/one") as f:
            assert await files.os.path.sameopenfile(f.fileno(), f.fileno())

    run(main())


def test_functions_change_what_os_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        o = files.os
        await o.mkdir("one", 0o700)
        await o.makedirs("x/y/z", exist_ok=True)
        await o.makedirs("x/y/z", exist_ok=True)
        await files.write_bytes("one/file", b"content")
        await o.link("one/file", "one/hard")
        await o.symlink("file", "one/soft")
        assert await o.readlink("one/soft") == "file"
        await o.rename("one/hard", "one/other")
        await o.replace("one/other", "one/third")
        await o.remove("one/third")
        await o.renames("one/file", "new/folder/file")
        await o.truncate("new/folder/file", 3)
        with open("new/folder/file", "rb+") as f:
            await o.fsync(f.fileno())
        assert await files.read_bytes("new/folder/file") == b"con"
        await o.unlink("one/soft")
        await o.rmdir("one")
        await o.removedirs("x/y/z")
        await o.remove("new/folder/file")

    run(main())
    assert sorted(os.listdir()) == ["new"] and os.listdir("new/folder") == []


def test_sendfile(tmp_path):
    (tmp_path / "one").write_bytes(b"0123456789")

    async def main():
        with open(tmp_path / "one", "rb") as source, open(tmp_path / "two", "wb") as target:
            return await files.os.sendfile(target.fileno(), source.fileno(), 2, 5)

    assert run(main()) == 5
    assert (tmp_path / "two").read_bytes() == b"23456"


@pytest.mark.parametrize("call", ["stat", "remove", "listdir", "rmdir", "readlink", "scandir"])
def test_errors_are_those_of_os(tmp_path, call):
    path = str(tmp_path / "missing")

    async def main():
        await getattr(files.os, call)(path)

    with pytest.raises(FileNotFoundError) as expected:
        getattr(os, call)(path)
    with pytest.raises(FileNotFoundError) as caught:
        run(main())
    assert str(caught.value) == str(expected.value)


def test_every_function_of_aiofiles_is_there():
    aiofiles_os = pytest.importorskip("aiofiles.os")
    from aiofiles import ospath

    assert {name for name in aiofiles_os.__all__ if not hasattr(files.os, name)} == set()
    assert {name for name in ospath.__all__ if not hasattr(files.os.path, name)} == set()
    assert {
        name for name in pytest.importorskip("aiofiles").__all__ if not hasattr(files, name)
    } == set()


def test_scandir_can_be_iterated_and_awaited(tree):
    for n in range(1200):
        (tree / "a" / f"{n:04}").touch()

    async def main():
        names = {entry.name async for entry in files.os.scandir(tree / "a")}
        with await files.os.scandir(tree / "a") as entries:
            assert {entry.name for entry in entries} == names
        async with files.os.scandir(str(tree / "a")) as entries:
            async for entry in entries:
                assert entry.path == str(tree / "a" / entry.name)
                break
        return names

    assert run(main()) == set(os.listdir(tree / "a"))


@pytest.mark.parametrize("topdown", [True, False])
def test_walk_goes_as_os_walk_does(tree, topdown):
    async def main():
        return [step async for step in files.os.walk(tree, topdown)]

    assert run(main()) == list(os.walk(tree, topdown))


def test_walk_leaves_out_what_is_taken_from_its_list(tree):
    async def main():
        seen = []
        async for path, folders, _ in files.os.walk(tree):
            folders[:] = [name for name in folders if name != "b"]
            seen.append(os.path.relpath(path, tree))
        return sorted(seen)

    assert run(main()) == [".", "a", "a/d"]


def test_wrap_runs_any_function_on_a_thread():
    @files.os.wrap
    def where(*args, **kwargs):
        return threading.current_thread() is threading.main_thread(), args, kwargs

    async def main():
        return await where(1, key=2, loop=asyncio.get_running_loop(), executor=None)

    assert run(main()) == (False, (1,), {"key": 2})
    assert where.__name__ == "where"


def test_temporary_files_are_gone_when_they_are_closed(tmp_path):
    async def main():
        async with files.tempfile.TemporaryFile("w+", dir=tmp_path) as f:
            await f.write("text")
            await f.seek(0)
            assert await f.read() == "text"
        async with files.tempfile.NamedTemporaryFile("wb+", suffix=".x", dir=tmp_path) as f:
            assert f.name.endswith(".x") and os.path.exists(f.name) and f.delete
            await f.write(b"bytes\nmore")
            await f.seek(0)
            assert await f.readlines() == [b"bytes\n", b"more"]
        f = await files.tempfile.NamedTemporaryFile(delete=False, dir=tmp_path)
        await f.close()
        assert os.path.exists(f.name)
        os.unlink(f.name)

    run(main())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="since 3.12")
def test_a_named_file_may_outlive_its_closing(tmp_path):
    async def main():
        async with files.tempfile.NamedTemporaryFile(dir=tmp_path, delete_on_close=False) as f:
            await f.close()
            assert os.path.exists(f.name)
        assert not os.path.exists(f.name)

    run(main())


def test_spooled_files_roll_over(tmp_path):
    async def main():
        async with files.tempfile.SpooledTemporaryFile(max_size=10, dir=tmp_path) as f:
            await f.write(b"12345")
            assert not f._file._rolled
            await f.writelines([b"67890", b"abc"])
            assert f._file._rolled
            await f.seek(0)
            assert await f.read() == b"1234567890abc"
            assert isinstance(await f.fileno(), int)
            assert not f.closed
            return f.mode

    with tempfile.SpooledTemporaryFile(max_size=1) as theirs:
        theirs.write(b"rolled over")
        assert run(main()) == theirs.mode


def test_temporary_folders_are_removed(tmp_path):
    async def main():
        async with files.tempfile.TemporaryDirectory(prefix="x", dir=tmp_path) as name:
            assert os.path.isdir(name) and os.path.basename(name).startswith("x")
            await files.write_bytes(os.path.join(name, "file"), b"")
        assert not os.path.exists(name)
        folder = await files.tempfile.TemporaryDirectory(dir=tmp_path)
        assert os.path.isdir(folder.name)
        await folder.cleanup()

    run(main())
    assert os.listdir(tmp_path) == []


def test_a_cancelled_temporary_folder_is_removed(tmp_path, monkeypatch):
    made, release = threading.Event(), threading.Event()
    make = tempfile.mkdtemp

    def slow(*args, **kwargs):
        path = make(*args, **kwargs)
        made.set()
        release.wait()
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", slow)

    async def main():
        async def use():
            async with files.tempfile.TemporaryDirectory(dir=tmp_path):
                pass

        task = ioxide.create_task(use())
        while not made.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()

    run(main())
    assert os.listdir(tmp_path) == []


STREAMS = """
import ioxide
from ioxide import files as aiofiles

async def main():
    line = await aiofiles.stdin.readline()
    rest = await aiofiles.stdin_bytes.read()
    await aiofiles.stdout.write(f"text {line}")
    await aiofiles.stdout.flush()
    await aiofiles.stdout_bytes.write(b"bytes " + rest)
    await aiofiles.stdout_bytes.flush()
    await aiofiles.stderr.write("error\\n")
    await aiofiles.stderr_bytes.write(b"error bytes\\n")
    await aiofiles.stderr_bytes.flush()

ioxide.run(main())
"""


@pytest.mark.slow
def test_standard_streams():
    done = subprocess.run(
        [sys.executable, "-c", STREAMS], input="line\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "text line\nbytes "
    assert sorted(done.stderr.splitlines()) == ["error", "error bytes"]


def test_a_stream_that_was_replaced_is_used(monkeypatch):
    class Kept(io.StringIO):
        pass

    kept = Kept()
    monkeypatch.setattr(sys, "stdout", kept)
    run(_write(files.stdout, "replaced"))
    assert kept.getvalue() == "replaced"


async def _write(stream, text):
    await stream.write(text)
