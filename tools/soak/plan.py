"""What each connection of the soak does and says, all of it from the seed and its number."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Iterator

#: A prime, so that every connection's stream starts at a place of its own.
LENGTH = 1_000_003
STEP = 7919
NOISE = {way: random.Random(way).randbytes(LENGTH) * 2 for way in ("up", "down")}

HEADER = struct.Struct(">IBIII")
#: How a connection ends.
KINDS = (
    "whole",  # both say everything, then end their halves
    "half",  # the client says everything, ends its half, and only then listens
    "early",  # the server says everything and ends its half, and only then listens to the rest
    "client aborts",
    "client closes",  # with bytes that it has not read
    "client is cancelled",
    "server aborts",
    "server is cancelled",
)
WHOLE = frozenset({"whole", "half", "early"})


class Wrong(Exception):
    """Other bytes, or fewer, or more than were sent."""


class Stream:
    """The bytes that one end of a connection sends: its own, as far as they go."""

    def __init__(self, number: int, way: str, size: int) -> None:
        self.number, self.way, self.size = number, way, size
        self.at = 0

    @property
    def left(self) -> int:
        return self.size - self.at

    def take(self, count: int) -> bytes:
        """The next bytes to send."""
        count = min(count, self.left, LENGTH)
        start = (self.number * STEP + self.at) % LENGTH
        self.at += count
        return NOISE[self.way][start : start + count]

    def check(self, data: bytes) -> None:
        """Compare what arrived with what was to arrive next."""
        at, expected = self.at, self.take(len(data))
        if data == expected:
            return
        if len(data) > len(expected):
            raise Wrong(f"{self} should have ended after {self.size} bytes")
        first = next(
            n for n, pair in enumerate(zip(data, expected, strict=True)) if len({*pair}) == 2
        )
        raise Wrong(f"{self} differs at {at + first}{whose(data[first:])}")

    def check_end(self) -> None:
        if self.left:
            raise Wrong(f"{self} ended {self.left} bytes early")

    def __str__(self) -> str:
        return f"connection {self.number} {self.way}"


def whose(data: bytes) -> str:
    """Whether these bytes are sent on any connection at all."""
    if len(data) < 8:
        return ""
    if any(data[:64] in noise for noise in NOISE.values()):
        return ": these bytes are another's, or from another place"
    return ": nobody sends these bytes"


@dataclasses.dataclass(frozen=True)
class Plan:
    """One connection: what its client knows, of which the server is told the header."""

    number: int
    kind: str
    #: Bytes that the client sends after the header, and that the server sends.
    up: int
    down: int
    #: After how many bytes, sent by who breaks off, it breaks off.
    cut: int
    #: Which listener, and which of the ways to be a client.
    server: str
    client: str
    #: For the client's pieces, waits and impatience.
    seed: str

    @classmethod
    def make(cls, seed: int, number: int) -> Plan:
        choice = random.Random(f"{seed}/{number}")
        server = choice.choices(
            ("streams", "package", "protocol", "buffered", "unix", "tls"), (3, 1, 3, 2, 2, 1)
        )[0]
        client = "streams" if server == "tls" else choice.choice(("streams", "socket"))
        kind = choice.choices(KINDS, (6, 3, 3, 1, 1, 2, 1, 1))[0]
        up, down = (
            choice.choices((choice.randrange(200), choice.randrange(20_000), 300_000), (5, 4, 1))[0]
            for _ in range(2)
        )
        cut = choice.randrange(max(up, 1))
        return cls(number, kind, up, down, cut, server, client, f"{seed}/{number}/client")

    def header(self) -> bytes:
        return HEADER.pack(self.number, KINDS.index(self.kind), self.up, self.down, self.cut)

    def pieces(self, choice: random.Random) -> Iterator[int]:
        """Sizes of the client's writes, without end."""
        most = max(choice.choice((100, 3000, 70_000)), self.up // 10)
        while True:
            yield choice.randrange(1, most)
