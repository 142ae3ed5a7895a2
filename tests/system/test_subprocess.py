"""Children are started as told, watched without SIGCHLD, and never mistaken for another process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
import termios
import threading
import time
import weakref
from pathlib import Path

import pytest
from harness.children import children

import ioxide

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
SHOW = "import os, sys; sys.stdout.write({})"


def run(main):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


def output_of(*command, shell=False, **options):
    """What a child prints."""

    async def main():
        create = ioxide.create_subprocess_shell if shell else ioxide.create_subprocess_exec
        process = await create(*command, stdout=PIPE, **options)
        out, err = await process.communicate()
        assert process.returncode == 0 and not err
        return out

    return run(main())


def shown(expression, **options):
    """What an expression is in a child."""
    return output_of(sys.executable, "-c", SHOW.format(expression), **options).decode()


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def test_bytes_go_in_and_come_out():
    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.returncode is None
        data = os.urandom(1 << 20)
        out, err = await process.communicate(data)
        assert (out, err, process.returncode) == (data, None, 0)

    run(main())


INPUTS = [None, b"", b"x" * 1000, b"x" * (1 << 20)]


@pytest.mark.parametrize(
    ("pipes", "data"),
    [
        *[(pipes, data) for pipes in ("i", "io", "ie", "ioe") for data in INPUTS],
        *[(pipes, None) for pipes in ("", "o", "e", "oe")],
    ],
    ids=lambda value: value if isinstance(value, str) else str(value and len(value)),
)
def test_communicate_gives_what_popen_gives(pipes, data):
    """Whatever is connected: also if more comes out, at both ends, than pipes and streams hold."""
    program = (
        "import sys; read = sys.stdin.buffer.read() if 'i' in sys.argv[1] else b'';"
        "[f.buffer.write(bytes(300_000)) for _ in 'abc' for f in (sys.stdout, sys.stderr)];"
        "sys.stdout.buffer.write(read); sys.exit(3)"
    )
    ends = {
        "stdin": PIPE if "i" in pipes else DEVNULL,
        "stdout": PIPE if "o" in pipes else DEVNULL,
        "stderr": PIPE if "e" in pipes else DEVNULL,
    }
    command = [sys.executable, "-c", program, pipes]

    async def main():
        process = await ioxide.create_subprocess_exec(*command, **ends)
        return *await process.communicate(data), process.returncode

    theirs = subprocess.Popen(command, **ends)
    assert run(main()) == (*theirs.communicate(data), theirs.returncode)


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_a_child_need_not_read_its_input(size):
    async def main():
        process = await ioxide.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        await process.wait()
        assert await process.communicate(b"x" * size) == (b"", None)
        assert process.stdin.is_closing()

    run(main())


def size_of(pipe):
    return fcntl.fcntl(pipe.get_extra_info("pipe").fileno(), fcntl.F_GETPIPE_SZ)


@pytest.mark.parametrize("options", [{}, {"pipesize": 8192}], ids=["usual", "chosen"])
def test_pipes_that_are_found_full_become_larger(options):
    script = "head -c 1000000 /dev/zero; cat"

    async def main():
        process = await ioxide.create_subprocess_exec(
            "sh", "-c", script, stdin=PIPE, stdout=PIPE, **options
        )
        stdin, stdout = (process._transport.get_pipe_transport(fd) for fd in (0, 1))
        before = size_of(stdin), size_of(stdout)
        stdout.pause_reading()
        waiting = bytearray(4)
        while int.from_bytes(waiting, sys.byteorder) < before[1]:
            await asyncio.sleep(0.001)
            fcntl.ioctl(stdout.get_extra_info("pipe").fileno(), termios.FIONREAD, waiting)
        process.stdin.write(bytes(300_000))
        stdout.resume_reading()
        await process.stdout.readexactly(1_000_000)
        after = size_of(stdin), size_of(stdout)
        assert len((await process.communicate())[0]) == 300_000
        return before, after

    before, after = run(main())
    assert after == (before if options else (262144, 262144))


def test_methods_that_a_program_replaces_are_asked():
    asked = []

    class Loop(ioxide.EventLoop):
        async def connect_read_pipe(self, protocol_factory, pipe):
            asked.append("pipe")
            return await super().connect_read_pipe(protocol_factory, pipe)

        async def subprocess_exec(self, *args, **options):
            asked.append("exec")
            return await super().subprocess_exec(*args, **options)

    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await process.communicate(b"bytes") == (b"bytes", b"")
        return process.returncode

    with ioxide.Runner(loop_factory=Loop) as runner:
        assert runner.run(main()) == 0
    assert asked == ["exec", "pipe", "pipe"]


def test_streams_of_a_child_are_streams():
    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        process.stdin.write(b"one\n")
        await process.stdin.drain()
        assert await process.stdout.readline() == b"one\n"
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0

    run(main())


@pytest.mark.parametrize(
    "command, code", [("exit 3", 3), ("kill -9 $$", -9), ("true", 0), ("exit 255", 255)]
)
def test_return_code_is_that_of_subprocess(command, code):
    async def main():
        process = await ioxide.create_subprocess_shell(command)
        assert await process.wait() == process.returncode == code

    run(main())


def test_missing_program_is_named_and_nothing_is_left_behind():
    async def main():
        await ioxide.sleep(0)
        before = descriptors()
        for program in ("no-such-program", "/no/such/program", Path("/no/such/path")):
            with pytest.raises(FileNotFoundError) as caught:
                await ioxide.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            assert caught.value.filename == program
        with pytest.raises(PermissionError) as caught:
            await ioxide.create_subprocess_exec("/etc/passwd")
        assert caught.value.filename == "/etc/passwd"
        with pytest.raises(NotADirectoryError) as caught:
            await ioxide.create_subprocess_exec("true", cwd="/etc/passwd")
        assert caught.value.filename == "/etc/passwd"
        gc.collect()
        assert descriptors() == before

    run(main())


def test_environment_and_directory(tmp_path):
    assert shown("os.environ['X'] + os.getcwd()", env={"X": "1"}, cwd=tmp_path) == f"1{tmp_path}"
    assert shown("os.environ['X']", env={b"X": b"bytes", **os.environb}) == "bytes"
    with pytest.raises(ValueError, match="illegal environment variable name"):
        shown("1", env={"A=B": "1"})


def test_own_environment_is_inherited(monkeypatch):
    monkeypatch.setenv("IOXIDE_TEST_CHILD", "yes")
    assert shown("os.environ['IOXIDE_TEST_CHILD']") == "yes"


def test_descriptors_are_inherited_only_if_passed():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        expression = f"str(os.path.exists('/proc/self/fd/{writer}'))"
        assert shown(expression) == "False"
        assert shown(expression, close_fds=False) == "True"
        assert shown(expression, pass_fds=(writer,)) == "True"
    finally:
        os.close(reader)
        os.close(writer)


def test_session_and_group():
    assert shown("str(os.getsid(0) == os.getpid())", start_new_session=True) == "True"
    assert shown("str(os.getpgid(0) == os.getpid())", process_group=0) == "True"
    assert shown("str(os.getpgid(0))") == str(os.getpgid(0))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_identity():
    options = {"user": 65534, "group": 65534, "extra_groups": [65533], "cwd": "/"}
    command = ("id -u; id -g; id -G",)
    assert output_of(*command, shell=True, **options).split() == [
        b"65534",
        b"65534",
        b"65534",
        b"65533",
    ]


def test_umask_and_signals():
    assert output_of("umask", shell=True, umask=0o027).strip() == b"0027"
    expression = "__import__('signal').getsignal(13).name"
    # Python ignores SIGPIPE, whatever it inherits.
    assert shown(expression) == "SIG_IGN"


def test_preexec_function_runs_in_the_child():
    parent = os.getpid()
    assert shown("os.environ['HOOK']", preexec_fn=lambda: os.putenv("HOOK", "ran")) == "ran"
    assert shown("os.getcwd()", preexec_fn=lambda: os.chdir("/")) == "/"
    assert os.getpid() == parent


def test_failing_preexec_function_is_reported():
    def fail():
        raise ValueError("no")

    async def main():
        with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
            await ioxide.create_subprocess_exec("true", preexec_fn=fail)

    run(main())


def test_executable_replaces_the_program():
    assert output_of("name", "-c", "echo $0", executable="/bin/sh").strip() == b"name"
    assert output_of("echo $BASH_VERSION", shell=True, executable="/bin/bash").strip()
    assert output_of(Path("/bin/echo"), Path("/x"), b"y") == b"/x y\n"


def test_standard_descriptors(tmp_path):
    path = tmp_path / "out"
    with path.open("wb") as file:

        async def main():
            process = await ioxide.create_subprocess_shell(
                "cat; echo out; echo err >&2", stdin=DEVNULL, stdout=file, stderr=STDOUT
            )
            assert process.stdin is process.stdout is process.stderr is None
            assert await process.wait() == 0

        run(main())
    assert path.read_bytes() == b"out\nerr\n"
    assert output_of("echo a; echo b >&2", shell=True, stderr=STDOUT) == b"a\nb\n"
    assert output_of("echo a >&2; echo b", shell=True, stderr=DEVNULL) == b"b\n"


@pytest.mark.parametrize(
    "options",
    [
        {"universal_newlines": True},
        {"text": True},
        {"encoding": "utf-8"},
        {"errors": "strict"},
        {"bufsize": 1},
        {"shell": True},
        pytest.param(
            {"stdout": STDOUT},
            marks=pytest.mark.skipif(
                sys.version_info < (3, 13), reason="subprocess refuses it since 3.13"
            ),
        ),
    ],
)
def test_wrong_arguments_are_refused(options):
    async def main():
        with pytest.raises(ValueError):
            await ioxide.create_subprocess_exec("true", **options)
        with pytest.raises(TypeError):
            await ioxide.create_subprocess_exec("true", nonsense=1)

    run(main())


def test_wait_returns_on_exit_though_a_grandchild_holds_the_pipe():
    async def main():
        process = await ioxide.create_subprocess_shell("sleep 60 & echo $!", stdout=PIPE)
        assert await process.wait() == 0
        os.kill(int(await process.stdout.readline()), signal.SIGKILL)
        assert await process.stdout.read() == b""

    run(main())


def test_signals_reach_the_child_and_only_the_child():
    async def main():
        process = await ioxide.create_subprocess_exec("sleep", "60")
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        # The number is free by now, and may be another's.
        for send in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError):
                send()

        process = await ioxide.create_subprocess_exec("sleep", "60")
        process.send_signal(signal.SIGUSR1)
        assert await process.wait() == -signal.SIGUSR1

    run(main())


def test_cancelling_a_wait_leaves_the_child_and_other_waiters_alone():
    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE)
        first = asyncio.ensure_future(process.wait())
        second = asyncio.ensure_future(process.wait())
        await ioxide.sleep(0)
        first.cancel()
        process.stdin.close()
        assert await second == 0
        assert first.cancelled()

    run(main())


def test_waits_that_were_given_up_are_not_kept():
    async def main():
        process = await ioxide.create_subprocess_exec("sleep", "60")
        for _ in range(50):
            waiting = ioxide.create_task(process.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        kept = len(process._transport._exit_waiters)
        process.kill()
        return kept, await process.wait(), await process.wait()

    kept, *codes = run(main())
    assert kept <= 2 and codes == [-signal.SIGKILL] * 2


def test_cancelling_the_start_kills_the_child():
    async def main():
        task = asyncio.ensure_future(ioxide.create_subprocess_exec("sleep", "60"))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert "sleep" not in children().values()


def test_protocol_hears_of_everything_in_order():
    calls = []

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            calls.append(("made", transport.get_pid() > 0))

        def pipe_data_received(self, fd, data):
            calls.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            calls.append(("pipe lost", fd, exc))

        def process_exited(self):
            calls.append("exited")

        def connection_lost(self, exc):
            calls.append(("lost", exc))
            over.set()

    async def main():
        nonlocal over
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            Protocol, "/bin/sh", "-c", "echo out; echo err >&2; exit 7", stdin=None
        )
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_protocol() is protocol
        assert transport.get_pipe_transport(0) is None
        assert transport.get_extra_info("subprocess").pid == transport.get_pid()
        await over.wait()
        assert transport.get_returncode() == 7
        transport.close()

    over = None
    run(main())
    assert calls[0] == ("made", True)
    assert calls[-1] == ("lost", None)
    assert sorted(map(str, calls[1:-1])) == sorted(
        map(
            str,
            [
                (1, b"out\n"),
                (2, b"err\n"),
                ("pipe lost", 1, None),
                ("pipe lost", 2, None),
                "exited",
            ],
        )
    )


def test_closing_the_transport_kills_the_child():
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "60", stdin=None, stdout=None, stderr=None
        )
        transport.close()
        assert transport.is_closing()
        while transport.get_returncode() is None:
            await ioxide.sleep(0.001)
        assert transport.get_returncode() == -signal.SIGKILL

    run(main())


def test_own_handler_of_sigchld_works():
    came = []
    before = signal.signal(signal.SIGCHLD, lambda *_: came.append(1))
    try:
        assert output_of("echo", "x") == b"x\n"
    finally:
        assert signal.signal(signal.SIGCHLD, before) != before
    assert came


def test_children_of_subprocess_are_left_alone():
    elsewhere = subprocess.Popen(["true"])
    try:

        async def main():
            process = await ioxide.create_subprocess_exec("sleep", "0.02")
            assert await process.wait() == 0

        run(main())
    finally:
        assert elsewhere.wait() == 0


def test_lost_status_is_reported_as_255(caplog):
    async def main():
        process = await ioxide.create_subprocess_exec("sleep", "60")
        process.kill()
        os.waitpid(process.pid, 0)  # noqa: ASYNC222 - what a careless library does
        assert await process.wait() == 255

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main())
    assert "already read" in caplog.text


def test_ignored_sigchld_does_not_hang():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:

        async def main():
            process = await ioxide.create_subprocess_exec("true")
            assert await process.wait() == 255

        run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_popen_of_the_transport_agrees_with_the_loop():
    async def main():
        process = await ioxide.create_subprocess_exec("sleep", "60")
        popen = process._transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        with pytest.raises(subprocess.TimeoutExpired):
            popen.wait(0.001)
        popen.kill()
        assert popen.wait(50) == -signal.SIGKILL == await process.wait()
        popen.kill()  # too late, and nobody else's signal

    run(main())


def test_loops_of_other_threads_have_children_too():
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(output_of("echo", "x"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert results == [b"x\n"] * 4


@pytest.mark.slow
def test_two_hundred_children_at_once():
    async def child(number):
        process = await ioxide.create_subprocess_exec("echo", str(number), stdout=PIPE)
        out, _ = await process.communicate()
        return int(out), process.returncode

    others = children()

    async def main():
        before = len(descriptors())
        results = await asyncio.gather(*[child(i) for i in range(200)])
        assert results == [(i, 0) for i in range(200)]
        await ioxide.sleep(0)
        assert len(descriptors()) <= before

    run(main())
    assert children() == others


def test_children_killed_at_random_are_all_accounted_for():
    async def child(number):
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        if number % 3 == 0:
            process.kill()
        elif number % 3 == 1:
            os.kill(process.pid, signal.SIGTERM)
        out, _ = await process.communicate(b"x" * 100_000)
        return out, process.returncode

    async def main():
        results = await asyncio.gather(*[child(i) for i in range(30)])
        expected = [-signal.SIGKILL, -signal.SIGTERM, 0] * 10
        assert [code for _, code in results] == expected
        assert all(out == b"x" * 100_000 for out, code in results if code == 0)

    run(main())


def test_pipeline_of_three_children_streams_through():
    async def main():
        first_out, second_in = os.pipe()
        source = await ioxide.create_subprocess_exec(
            "head", "-c", "20000000", "/dev/zero", stdout=second_in
        )
        os.close(second_in)
        middle = await ioxide.create_subprocess_exec("cat", stdin=first_out, stdout=PIPE)
        os.close(first_out)
        last = await ioxide.create_subprocess_exec("wc", "-c", stdin=PIPE, stdout=PIPE)

        async def pump():
            while data := await middle.stdout.read(1 << 16):
                last.stdin.write(data)
                await last.stdin.drain()
            last.stdin.close()

        await pump()
        assert int(await last.stdout.read()) == 20_000_000
        assert [await p.wait() for p in (source, middle, last)] == [0, 0, 0]

    run(main())


def test_child_that_outlives_its_loop_is_warned_about_and_reaped_later():
    async def main():
        await ioxide.create_subprocess_exec("sleep", "60")

    with pytest.warns(ResourceWarning):
        run(main())
        gc.collect()
    # Killed with its transport; the next child to be started sweeps up.
    deadline = time.monotonic() + 50
    while "sleep" in children().values() and time.monotonic() < deadline:
        output_of("true")
    assert "sleep" not in children().values()


@pytest.mark.parametrize("pipes", [{}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}])
@pytest.mark.parametrize("own", [True, False], ids=["streams", "protocol"])
def test_start_that_is_cancelled_at_any_point_leaves_nothing(own, pipes):
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        others, before = children(), len(descriptors())
        ends = {"stdin": None, "stdout": None, "stderr": None, **pipes}
        for turns in range(5):
            start = (
                ioxide.create_subprocess_exec("sleep", "60", **ends)
                if own
                else loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "60", **ends)
            )
            task = asyncio.ensure_future(start)
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                started = task.result()
                transport = started._transport if own else started[0]
                transport.close()
                await transport._wait()
                # A transport is over when it has told its protocol so.
                while transport._protocol is not None:
                    await asyncio.sleep(0)
            else:
                with pytest.raises(asyncio.CancelledError):
                    await task
            # Whoever has the transport has the process's descriptor.
            del start, task
            started = transport = None
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        assert (children(), len(descriptors())) == (others, before)

    run(main())


def test_start_that_is_closed_while_it_waits_kills_the_child():
    async def main():
        start = ioxide.create_subprocess_exec("sleep", "60")
        assert start.send(None) is None
        assert "sleep" in children().values()
        start.close()
        while "sleep" in children().values():
            await asyncio.sleep(0.001)

    run(main())


def test_loop_of_another_kind_starts_a_process_its_own_way():
    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        return await process.communicate(b"bytes"), process.returncode

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(main()) == ((b"bytes", None), 0)


def test_protocol_of_streams_can_be_derived_from():
    calls = []

    class Protocol(ioxide.subprocess.SubprocessStreamProtocol):
        def pipe_data_received(self, fd, data):
            calls.append((fd, data))
            super().pipe_data_received(fd, data)

        def process_exited(self):
            calls.append("exited")
            super().process_exited()

    class Process(ioxide.subprocess.Process):
        name = "mine"

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: Protocol(limit=100, loop=loop), "cat", stderr=None
        )
        assert isinstance(protocol, asyncio.SubprocessProtocol)
        process = Process(transport, protocol, loop)
        process.attribute = process.name
        assert repr(process) == f"<Process {process.pid}>"
        assert await process.communicate(b"bytes") == (b"bytes", None)
        assert process.returncode == 0

    run(main())
    assert sorted(map(str, calls)) == ["(1, b'bytes')", "exited"]


def test_pipes_are_files_for_those_who_look():
    async def main():
        process = await ioxide.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        popen = process._transport.get_extra_info("subprocess")
        stdin, stdout = process.stdin.get_extra_info("pipe"), popen.stdout
        assert (stdin.mode, stdout.mode, popen.stderr) == ("wb", "rb", None)
        assert popen.stdin is stdin and not stdin.closed
        assert await process.communicate(b"bytes") == (b"bytes", None)
        await asyncio.sleep(0)
        assert stdin.closed and stdout.closed

        process = await ioxide.create_subprocess_exec("true", stdout=PIPE)
        pipe = process._transport.get_pipe_transport(1)
        await process.communicate()
        await asyncio.sleep(0)
        assert pipe.get_extra_info("pipe").closed
        assert pipe.get_extra_info("pipe") is process._transport.get_extra_info("subprocess").stdout

    run(main())


def test_what_a_process_leaves_is_collected_at_once():
    async def main():
        for pipes in ({}, {"stdin": PIPE, "stdout": PIPE}):
            process = await ioxide.create_subprocess_exec("true", **pipes)
            await process.communicate()
            await asyncio.sleep(0)
            left = [weakref.ref(process), weakref.ref(process._transport)]
            gc.disable()
            try:
                del process
                assert [reference() for reference in left] == [None, None]
            finally:
                gc.enable()

    run(main())
