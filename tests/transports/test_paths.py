"""Both ways at once, in all pieces, through full buffers, to every end: byte for byte as asyncio.

A plan is a list of steps, of our side and of the peer's. After each the loop comes to rest, on a
clock that jumps, so that what happened because of it can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from typing import Any

import pytest
from harness.examples import examples
from harness.virtual import new_virtual_loop
from hypothesis import given, strategies as st

#: The least that the kernel allows, so that most writes are partial.
SMALL_BUFFER = 4608
SIZES = [1, 100, 4096, 5000, 70_000, 300_000]


class Noter(asyncio.Protocol):
    """Notes what it is told; merges bytes that come together, as their pieces are the kernel's."""

    def __init__(self, keep_open: bool) -> None:
        self.keep_open = keep_open
        self.log: list[Any] = []
        self.received = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.log[-1] != "data":
            self.log.append("data")

    def eof_received(self) -> bool:
        self.log.append("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append(("lost", exc and (type(exc).__name__, exc.errno)))


class BufferedNoter(Noter, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, keep_open: bool) -> None:
        super().__init__(keep_open)
        self.buffer = bytearray(1009)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.buffer[:count]))


class Peer:
    """The other end, a plain socket."""

    def __init__(self, sock: socket.socket, ours: socket.socket) -> None:
        self.sock, self.ours = sock, ours
        self.taken = bytearray()

    def send(self, data: bytes) -> str:
        try:
            return f"sent {self.sock.send(data)}"
        except OSError as error:
            return type(error).__name__

    def take(self, count: int) -> str:
        try:
            data = self.sock.recv(count)
        except OSError as error:
            return type(error).__name__
        self.taken += data
        return f"took {len(data)}"

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """With bytes that were not taken, this resets the connection."""
        self.sock.close()


step = st.one_of(
    st.tuples(st.sampled_from(["send", "take", "write", "lines"]), st.sampled_from(SIZES)),
    st.tuples(st.sampled_from(["pause_reading", "resume_reading"]), st.just(0)),
    st.tuples(st.sampled_from(["take", "write", "send"]), st.sampled_from(SIZES)),
)
end = st.sampled_from(["end", "write_eof", "close peer", "close", "abort", "send", "take"])


@pytest.mark.slow
@examples(250)
@given(
    steps=st.lists(step, max_size=25),
    ends=st.lists(st.tuples(end, st.just(4096)), max_size=4),
    later=st.lists(step, max_size=6),
    keep_open=st.booleans(),
    buffered=st.booleans(),
    high=st.sampled_from([None, 0, 1, 10_000]),
)
def test_all_that_happens_is_what_happens_with_asyncio(
    steps, ends, later, keep_open, buffered, high
):
    plan = [*steps, *ends, *later]
    kind = BufferedNoter if buffered else Noter
    histories = [history(name, plan, kind, keep_open, high) for name in ("asyncio", "ioxide")]
    assert histories[0] == histories[1]


def history(name: str, *arguments: Any) -> list[Any]:
    with asyncio.Runner(loop_factory=lambda: new_virtual_loop(name)) as runner:
        return runner.run(play(*arguments))


async def play(plan: Any, kind: type[Noter], keep_open: bool, high: int | None) -> list[Any]:
    """Carry out the plan; return what was seen at each step."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    noise = random.Random(1)
    sent, written = bytearray(), bytearray()
    protocol = kind(keep_open)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    transport.set_write_buffer_limits(high)
    peer, seen = Peer(theirs, ours), []
    for what, size in plan:
        if "eof" in protocol.log and what in ("pause_reading", "resume_reading"):
            continue  # asyncio reads the end a second time, and says so again
        if what in ("write", "lines") and ("lost", None) in protocol.log:
            continue  # asyncio's has no socket any more, and may not know it yet
        data = noise.randbytes(size)
        answer: Any = None
        try:
            match what:
                case "send":
                    answer = peer.send(data)
                    sent += data[: int(answer[5:])] if answer.startswith("sent") else b""
                case "take":
                    answer = peer.take(size)
                case "end":
                    peer.end()
                case "close peer":
                    peer.close()
                case "write":
                    transport.write(data)
                    written += data
                # Since 3.12 asyncio tries at once although bytes wait, so that more may have gone; pauses
                # a writer before it has tried; and fails once the connection is lost.
                case "lines" if sys.version_info >= (3, 12) or transport.get_write_buffer_size():
                    transport.write(data)
                    written += data
                case "lines":
                    transport.writelines([data[: size // 2], b"", data[size // 2 :]])
                    written += data
                case _:
                    getattr(transport, what)()
        except RuntimeError as error:
            answer = str(error).replace("writelines", "write")  # as of 3.12
        protocol.log.append((what, answer))
        await asyncio.sleep(1)
        seen.append((transport.is_closing(), transport.get_write_buffer_size()))
    assert sent.startswith(protocol.received)
    assert written.startswith(peer.taken)
    if not any(entry[0] == "lost" for entry in protocol.log):
        transport.abort()
        await asyncio.sleep(1)
    peer.close()
    return [*protocol.log, *seen, bytes(protocol.received), bytes(peer.taken)]
