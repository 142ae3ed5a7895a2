"""Work and connections spread over processes: Dask, Ray, a shared port, uvicorn's workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from house.programs import clean_environment

from .running import APPS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def started(*command, cwd=None):
    """A program whose output can be read; with its children it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.libraries("distributed")
def test_dask_cluster_loses_nothing_when_a_worker_is_killed():
    with started(EXAMPLES / "cluster.py") as program:
        out, _ = program.communicate(timeout=60)
    assert program.returncode == 0, out
    assert "killing worker" in out
    assert [int(n) for n in re.findall(r"^(\d+)/60: \d+ primes", out, re.M)] == [*range(1, 61)]
    assert "60 answers, 0 wrong" in out


@pytest.mark.libraries("distributed")
def test_dasks_scheduler_and_executor_are_on_our_loop(tmp_path):
    program = """
import ioxide, asyncio
ioxide.install()
from distributed import Client, LocalCluster

def fail():
    raise ValueError("from a worker")

async def main():
    loop = asyncio.get_running_loop()
    options = dict(processes=False, n_workers=1, dashboard_address=None)
    async with LocalCluster(asynchronous=True, **options) as cluster:
        async with Client(cluster, asynchronous=True) as client:
            for at in (cluster, cluster.scheduler, client):
                assert at.loop.asyncio_loop is loop and type(loop) is ioxide.EventLoop
            executor = client.get_executor(pure=False)
            jobs = [loop.run_in_executor(executor, divmod, n, 7) for n in range(50)]
            assert await asyncio.gather(*jobs) == [divmod(n, 7) for n in range(50)]
            try:
                await loop.run_in_executor(executor, fail)
            except ValueError as error:
                print(error)

if __name__ == "__main__":
    asyncio.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    with started("-W", "ignore", "program.py", cwd=tmp_path) as running:
        out, _ = running.communicate(timeout=60)
    assert (running.returncode, out.splitlines()[-1]) == (0, "from a worker"), out


def answer(port):
    with socket.create_connection(("127.0.0.1", port), timeout=50) as client:
        client.sendall(b"who?\n")
        return client.makefile().read().strip()


def answers_of_two(port):
    """Who answers, as soon as more than one process has."""
    deadline = time.monotonic() + 50
    seen = set()
    while len(seen) < 2 and time.monotonic() < deadline:
        seen.add(answer(port))
    return seen


def test_processes_share_a_port_and_a_dead_one_is_replaced():
    with started(EXAMPLES / "workers.py", 0, 2) as program:
        port = int(re.search(r"port (\d+)", program.stdout.readline())[1])
        first = {program.stdout.readline() for _ in range(2)}
        pids = [int(re.fullmatch(r"process (\d+) serves\n", line)[1]) for line in first]
        assert answers_of_two(port) == {f"process {pid}" for pid in pids}
        os.kill(pids[0], signal.SIGKILL)
        assert program.stdout.readline() == f"process {pids[0]} ended with -9\n"
        new = re.fullmatch(r"process (\d+) serves\n", program.stdout.readline())[1]
        assert answers_of_two(port) == {f"process {pids[1]}", f"process {new}"}
        program.send_signal(signal.SIGTERM)
        out, _ = program.communicate(timeout=50)
        assert sorted(out.splitlines()) == sorted(
            f"process {pid} ended with 0" for pid in (pids[1], new)
        )
        assert program.returncode == 0


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.libraries("uvicorn")
def test_uvicorn_has_several_workers_on_our_loop():
    port = free_port()
    options = ("--workers", 2, "--loop", "ioxide:new_event_loop", "--port", port)
    with started("-m", "uvicorn", "who:application", *options, cwd=APPS) as server:
        for line in server.stdout:
            if "Application startup complete" in line or "Started server process" in line:
                break
        seen = set()
        deadline = time.monotonic() + 50
        while len({pid for pid, _ in seen}) < 2 and time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError):
                seen.add(asked(port))
        assert len({pid for pid, _ in seen}) == 2
        assert {loop for _, loop in seen} == {"ioxide.EventLoop"}
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=50)
        assert "Traceback" not in out
        assert server.returncode in (0, -signal.SIGTERM)


def asked(port):
    with socket.create_connection(("127.0.0.1", port), timeout=50) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body = client.makefile().read().split("\n\n", 1)[1]
        pid, loop = body.split()
        return int(pid), loop


def test_loop_is_usable_in_each_of_many_processes_at_once():
    # What a server with pre-forked workers does: the socket is the parent's, the loops are not.
    program = """
import os, signal, socket, ioxide
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
async def serve(reader, writer):
    await reader.readline()
    writer.write(b"process %d" % os.getpid())
    writer.close()
async def main():
    server = await ioxide.start_server(serve, sock=listener)
    await server.serve_forever()
pids = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        ioxide.run(main())
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
"""
    with started("-c", program) as running:
        port = int(running.stdout.readline())
        assert len(answers_of_two(port)) == 2


def test_results_of_several_executors_come_back_to_one_loop():
    """What docs/scaling.md says of executors: any of them, side by side."""
    import concurrent.futures

    import ioxide

    async def main():
        loop = asyncio.get_running_loop()
        with (
            concurrent.futures.ThreadPoolExecutor(2) as threads,
            concurrent.futures.ProcessPoolExecutor(2) as processes,
        ):
            jobs = [loop.run_in_executor(pool, pow, 2, 10) for pool in (threads, processes, None)]
            jobs.append(asyncio.ensure_future(ioxide.to_process(pow, 2, 10)))
            return await asyncio.gather(*jobs)

    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        assert runner.run(main()) == [1024] * 4
