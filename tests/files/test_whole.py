"""Whole operations: one hop each, with the outcome of the builtin's."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import child

import ioxide
from ioxide import files

pytestmark = pytest.mark.usefixtures("way", "descriptors")

SIZES = [0, 1, 4095, 4096, 65536, 65537, 1_000_003]


def run(coroutine):
    with ioxide.Runner() as runner:
        return runner.run(coroutine)


async def twice(make):
    """The outcome of an operation that was done before: what was learned the first time is used."""
    await make()
    return await make()


@pytest.mark.parametrize("size", SIZES)
def test_reads_all_bytes(folder, size):
    path = folder / "file"
    path.write_bytes(os.urandom(size))
    assert run(twice(lambda: files.read_bytes(path))) == path.read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [None, 0, 10, 100_000])
def test_writes_all_bytes_and_nothing_behind_them(folder, size, before):
    path, data = folder / "file", os.urandom(size)

    async def main():
        await files.write_bytes(folder / "other", b"")
        if before is not None:
            path.write_bytes(bytes(before))
        return await files.write_bytes(path, data)

    assert run(main()) == size
    assert path.read_bytes() == data


def test_appends(folder):
    path = folder / "file"

    async def main():
        counts = [await files.append(path, b"one"), await files.append(path, bytearray(b"two"))]
        return [*counts, await files.append(path, "dréi\n")]

    assert run(main()) == [3, 3, 5]
    assert path.read_bytes() == b"onetwo" + "dréi\n".encode()


def test_any_contiguous_buffer_is_data(folder):
    path = folder / "file"
    for data in (b"abc", bytearray(b"abcd"), memoryview(b"abcdef")[1:4]):
        run(files.write_bytes(path, data))
        assert path.read_bytes() == bytes(data)


@pytest.mark.parametrize("kind", [str, os.fsencode, Path], ids=["str", "bytes", "path"])
def test_paths_of_all_kinds(folder, kind):
    path = kind(str(folder / "nämé"))

    async def main():
        await files.write_bytes(path, b"x")
        return await twice(lambda: files.read_bytes(path))

    assert run(main()) == b"x"


def test_relative_paths_follow_the_current_folder(folder, monkeypatch):
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)

    async def main():
        read = []
        for name in ("one", "two", "one"):
            monkeypatch.chdir(folder / name)
            read.append(await twice(lambda: files.read_bytes("file")))
        return read

    assert run(main()) == [b"one", b"two", b"one"]


def test_symbolic_links_are_followed(folder):
    (folder / "file").write_bytes(b"content")
    (folder / "link").symlink_to("file")
    assert run(twice(lambda: files.read_bytes(folder / "link"))) == b"content"
    run(twice(lambda: files.write_bytes(folder / "link", b"new")))
    assert (folder / "file").read_bytes() == b"new"
    assert (folder / "link").is_symlink()


def test_what_changes_is_read_as_it_is(folder):
    path = folder / "file"

    async def main():
        for content in (b"a" * 10, b"b" * 5000, b"", b"c" * 100_000, b"d"):
            path.write_bytes(content)
            assert await files.read_bytes(path) == content
            path.unlink()
            with pytest.raises(FileNotFoundError):
                await files.read_bytes(path)

    run(main())


@pytest.mark.parametrize("name", ["cmdline", "stat"])
def test_files_that_the_kernel_makes_up(name):
    path = Path("/proc/self") / name
    # What changes comes after the name of the program.
    assert run(twice(lambda: files.read_bytes(path)))[:12] == path.read_bytes()[:12]


def test_a_fifo_is_waited_for(folder):
    path = folder / "fifo"
    os.mkfifo(path)
    (folder / "file").write_bytes(b"x")

    async def main():
        # Now the folder is known, so that the FIFO is met without a thread.
        await twice(lambda: files.read_bytes(folder / "file"))
        reading = asyncio.ensure_future(files.read_bytes(path))
        await asyncio.sleep(0.01)
        assert not reading.done()
        written = await files.write_bytes(path, b"through")
        return written, await reading

    assert run(main()) == (7, b"through")


def test_new_files_have_the_permissions_of_the_builtins(folder):
    before = os.umask(0o027)
    try:
        run(files.write_bytes(folder / "ours", b""))
        (folder / "theirs").write_bytes(b"")
    finally:
        os.umask(before)
    assert (folder / "ours").stat().st_mode == (folder / "theirs").stat().st_mode


@pytest.mark.parametrize("size", [0, 1, 1_000_003])
@pytest.mark.parametrize("before", [None, 10, 2_000_000])
def test_copies(folder, size, before):
    source, target = folder / "source", folder / "target"
    source.write_bytes(os.urandom(size))
    if before is not None:
        target.write_bytes(bytes(before))
    assert run(files.copy(source, target)) == size
    assert target.read_bytes() == source.read_bytes()


def test_copies_between_file_systems(folder, tmp_path):
    source, target = folder / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    assert run(files.copy(source, target)) == 300_000
    assert target.read_bytes() == source.read_bytes()


def test_copies_what_the_kernel_makes_up(folder):
    assert run(files.copy("/proc/self/cmdline", folder / "file")) > 0
    assert (folder / "file").read_bytes() == Path("/proc/self/cmdline").read_bytes()


def test_a_file_is_not_copied_onto_itself(folder):
    source, link = folder / "source", folder / "link"
    source.write_bytes(b"content")
    link.symlink_to("source")
    with pytest.raises(shutil.SameFileError) as caught:
        run(files.copy(source, link))
    with pytest.raises(shutil.SameFileError) as expected:
        shutil.copyfile(str(source), str(link))
    assert str(caught.value) == str(expected.value)
    assert source.read_bytes() == b"content"


@pytest.mark.parametrize("encoding", [None, "utf-8", "latin-1", "utf-16", "utf-8-sig", "utf-7"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_text_is_what_the_builtins_make_of_it(folder, encoding, newline):
    ours, theirs = folder / "ours", folder / "theirs"
    text = "eins\nzwéi\r\ndrei\rvier"
    options = {"encoding": encoding, "newline": newline}
    assert run(files.write_text(ours, text, **options)) == len(text)
    with open(theirs, "w", **options) as file:
        file.write(text)
    assert ours.read_bytes() == theirs.read_bytes()
    run(files.append(ours, text, **options))
    with open(theirs, "a", **options) as file:
        file.write(text)
    assert ours.read_bytes() == theirs.read_bytes()
    with open(theirs, **options) as file:
        assert run(twice(lambda: files.read_text(ours, **options))) == file.read()


def outcome(call):
    try:
        return call()
    except Exception as error:
        told = type(error), getattr(error, "errno", None), getattr(error, "strerror", None)
        return *told, getattr(error, "filename", None), str(error)


ERRORS = {
    "missing": ("missing", "r"),
    "missing folder": ("missing/file", "w"),
    "a folder, read": (".", "r"),
    "a folder, written": (".", "w"),
    "a file as a folder": ("file/x", "r"),
    "null": ("a\0b", "r"),
    "a loop of links": ("loop", "r"),
    "too long": ("x" * 300, "w"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_the_builtins(folder, monkeypatch, case):
    monkeypatch.chdir(folder)
    Path("file").write_bytes(b"x")
    Path("loop").symlink_to("loop")
    path, mode = ERRORS[case]

    def builtin():
        with open(path, mode + "b") as file:
            return file.read() if mode == "r" else file.write(b"x")

    async def operation():
        await files.read_bytes("file")
        return await (files.read_bytes(path) if mode == "r" else files.write_bytes(path, b"x"))

    expected = outcome(builtin)
    assert isinstance(expected, tuple)
    assert outcome(lambda: run(operation())) == expected


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_told():
    def builtin():
        with open("/dev/full", "wb", 0) as file:
            file.write(b"x")

    assert outcome(lambda: run(files.write_bytes("/dev/full", b"x"))) == outcome(builtin)
    assert outcome(lambda: run(files.append("/dev/full", b"x"))) == outcome(builtin)


@pytest.mark.parametrize("limit", [10_000, 600_000])
def test_a_write_that_fails_half_way_leaves_what_was_written(folder, limit):
    code = f"""if True:
        import resource, signal, sys
        import ioxide
        from ioxide import files
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        path = {str(folder / "file")!r}
        async def main():
            await files.write_bytes(path, b"old" * 2000)
            await files.write_bytes(path, b"old" * 2000)
            try:
                await files.write_bytes(path, b"n" * {2 * limit})
            except OSError as error:
                print(error.errno, error.filename)
            print(len(await files.read_bytes(path)))
        ioxide.run(main())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"27 None\n{limit}\n", "")
    assert (folder / "file").read_bytes() == b"n" * limit


def test_what_is_forbidden_is_told(folder):
    path = folder / "file"
    path.write_bytes(b"")
    path.chmod(0)
    code = f"""if True:
        import os
        import ioxide
        from ioxide import files
        path = {str(path)!r}
        async def main():
            await files.read_bytes("/proc/self/stat")
            if os.geteuid() == 0:
                os.setuid(65534)
            for call in (files.read_bytes(path), files.write_bytes(path, b"x")):
                try:
                    await call
                except PermissionError as error:
                    print(error.errno, error.strerror, error.filename)
        ioxide.run(main())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"13 Permission denied {path}\n" * 2, "")


@pytest.mark.parametrize(
    "call",
    [
        lambda: files.read_bytes(5),
        lambda: files.write_bytes("file", "text"),
        lambda: files.write_bytes(None, b""),
        lambda: files.write_text("file", b"bytes"),
        lambda: files.append("file", 5),
        lambda: files.copy("file", 5),
    ],
)
def test_wrong_types_are_refused_and_nothing_is_touched(folder, monkeypatch, call):
    monkeypatch.chdir(folder)
    Path("file").write_bytes(b"kept")
    with pytest.raises(TypeError):
        run(_await(call()))
    assert Path("file").read_bytes() == b"kept"


async def _await(awaitable):
    return await awaitable


def test_text_that_cannot_be_encoded_leaves_the_file_alone(folder):
    path = folder / "file"
    path.write_text("kept")
    with pytest.raises(UnicodeEncodeError):
        run(files.write_text(path, "é", "ascii"))
    with pytest.raises(LookupError):
        run(files.write_text(path, "é", "no such encoding"))
    with pytest.raises(ValueError, match="illegal newline value: 'x'"):
        run(files.write_text(path, "e", newline="x"))
    assert path.read_text() == "kept"


# In a process of its own: a hook stays for ever, and what it is told of is done in another way.
AUDITED = """
    from ioxide import _ioxide, files

    path = {path!r}
    seen = []

    def hook(event, arguments):
        if event == "open" and arguments[0] == path:
            seen.append(arguments[1])

    _ioxide._read_cached({at_once})
    sys.addaudithook(hook)
    with aio.Runner() as runner:
        runner.run(files.write_bytes(path, b"x"))
        runner.run(files.read_bytes(path))
    print(*seen)
"""


def test_audit_hooks_are_asked(tmp_path, way):
    script = AUDITED.format(path=str(tmp_path / "file"), at_once=way == "at once")
    assert child.check(ioxide, script) == "wb rb\n"


def test_operations_can_be_tasks_and_be_gathered(folder):
    async def main():
        paths = [folder / str(n) for n in range(100)]
        await asyncio.gather(*(files.write_bytes(p, p.name.encode()) for p in paths))
        tasks = [ioxide.create_task(files.read_bytes(p)) for p in paths]
        return await asyncio.gather(*tasks)

    assert run(main()) == [str(n).encode() for n in range(100)]


def test_many_files_in_memory_leave_the_loop_to_others(folder, way):
    if way == "threads":
        pytest.skip("who waits for a thread leaves the loop anyway")
    (folder / "file").write_bytes(b"x")

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = ioxide.create_task(count())
        for _ in range(320):
            await files.read_bytes(folder / "file")
        counting.cancel()
        return turns

    assert run(main()) >= 15


def test_on_a_loop_of_asyncio_its_executor_does_it(folder):
    path = folder / "file"
    threads = set()

    def note():
        threads.add(threading.current_thread().name)

    async def main():
        asyncio.get_running_loop()
        await files.write_bytes(path, b"content")
        await files.copy(path, folder / "copy")
        async with files.open(folder / "copy", "a") as file:
            await file.write("!")
        await files.os.wrap(note)()
        return await twice(lambda: files.read_bytes(folder / "copy"))

    assert asyncio.run(main()) == b"content!"
    assert all(name.startswith("asyncio_") for name in threads)


def test_without_a_loop_there_is_an_error():
    operation = files.read_bytes("file")
    with pytest.raises(RuntimeError, match="no running event loop"):
        operation.send(None)


def test_an_executor_that_was_shut_down_is_told(folder):
    (folder / "file").write_bytes(b"x")

    async def main():
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            await files.copy(folder / "file", folder / "other")

    run(main())
