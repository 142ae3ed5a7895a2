"""Protocols that write down what happens to them, and the loops to compare."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import ioxide

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "ioxide": ioxide.new_event_loop}

#: For what ioxide must do exactly as asyncio does.
both = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)


def run(main: Coroutine[Any, Any, Any], new_loop: Any = ioxide.new_event_loop) -> Any:
    """Run the coroutine to its end, ten seconds at most."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


class Recorder(asyncio.Protocol):
    """Notes each call; `on` maps the name of a call to what is done in it."""

    def __init__(self, **on: Callable[[Any], Any]) -> None:
        self.log: list[str] = []
        self.on = on
        self.received = bytearray()
        self.over: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def _note(self, name: str, detail: str = "") -> Any:
        self.log.append(f"{name}{detail}")
        return self.on[name](self) if name in self.on else None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._note("data", f":{bytes(data).decode()}" if len(data) < 20 else f":{len(data)}")

    def eof_received(self) -> Any:
        return self._note("eof")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.over.set_result(exc)
        self._note("lost", f":{type(exc).__name__ if exc else None}")


@contextlib.asynccontextmanager
async def pair(**on: Callable[[Any], Any]) -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """A protocol on one end of a connection, and the plain non-blocking socket of the other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, protocol = await loop.create_connection(lambda: Recorder(**on), sock=ours)
    try:
        with theirs:
            yield protocol, theirs
    finally:
        protocol.transport.abort()
        await protocol.over


async def turns(count: int = 5) -> None:
    """Let what is ready happen."""
    for _ in range(count):
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def idle_children() -> Iterator[Callable[[], None]]:
    """A function that forks a child which has copies of all descriptors, until the block ends.

    Other threads may be there: the child does nothing that needs them.
    """
    children = []
    until, over = os.pipe()

    def fork() -> None:
        if (child := os.fork()) == 0:
            os.close(over)
            os.read(until, 1)
            os._exit(0)
        children.append(child)

    try:
        yield fork
    finally:
        os.close(over)
        os.close(until)
        for child in children:
            os.waitpid(child, 0)
