"""A loop whose peer answers at once may ask on before it sleeps. Whoever else wakes it is heard all the same."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading

import pytest

# Answers at once: it never sleeps.
ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
peer.setblocking(False)
while True:
    try:
        data = peer.recv(100)
    except BlockingIOError:
        continue
    if not data:
        break
    peer.send(data)
"""


@pytest.fixture
def quick():
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        command = [sys.executable, "-S", "-c", ECHO, str(far.fileno())]
        with subprocess.Popen(command, pass_fds=[far.fileno()]):
            yield near
            near.shutdown(socket.SHUT_WR)


async def exchange(near, count):
    """Makes the loop expect quick answers."""
    loop = asyncio.get_running_loop()
    for number in range(count):
        await loop.sock_sendall(near, b"%d" % number)
        assert await loop.sock_recv(near, 100) == b"%d" % number


def test_other_threads_are_heard(loop, quick):
    async def main():
        for _ in range(20):
            await exchange(quick, 20)
            told = loop.create_future()
            thread = threading.Thread(
                target=loop.call_soon_threadsafe, args=(told.set_result, None)
            )
            thread.start()
            await told
            thread.join()

    loop.run_until_complete(main())


def test_signals_are_heard(loop, quick):
    main_thread = threading.get_ident()

    async def main():
        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        try:
            for _ in range(20):
                await exchange(quick, 20)
                heard.clear()
                kill = threading.Thread(
                    target=signal.pthread_kill, args=(main_thread, signal.SIGUSR1)
                )
                kill.start()
                await heard.wait()
                kill.join()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())


def test_timers_are_kept(loop, quick):
    async def main():
        for _ in range(20):
            await exchange(quick, 20)
            for delay in (1e-6, 1e-5, 1e-4):
                begun = loop.time()
                await asyncio.sleep(delay)
                assert loop.time() - begun >= delay

    loop.run_until_complete(main())
