"""Loops with a clock that jumps, a certificate, and peers in the same thread."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from harness.virtual import new_virtual_loop

from tools.soak import keys

LIMIT_S = 100_000


async def to_the_end(main, made: list[socket.socket]) -> None:
    """The test, and then the end of all that it has begun."""
    try:
        await asyncio.wait_for(main(), LIMIT_S)
    finally:
        for sock in made:
            sock.close()
        await asyncio.sleep(1)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(1)


@pytest.fixture(params=["asyncio", "ioxide"])
def run(request, made):
    """Runs a coroutine function where a wait costs no time unless bytes are under way."""

    def run(main) -> None:
        with asyncio.Runner(loop_factory=lambda: new_virtual_loop(request.param)) as runner:
            runner.run(to_the_end(main, made))

    return run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys.make_certificate(folder)
    return folder


@pytest.fixture
def serving(folder) -> ssl.SSLContext:
    return keys.serving(folder)


@pytest.fixture
def trusting(folder) -> ssl.SSLContext:
    return keys.trusting(folder)


@pytest.fixture
def made():
    """The peers' sockets, which are closed at the end of the test."""
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


@pytest.fixture
def connect(made):
    """Makes plain, non-blocking sockets connected to an address."""

    def connect(address) -> socket.socket:
        sock = socket.create_connection(address)
        sock.setblocking(False)
        made.append(sock)
        return sock

    return connect
