"""Crowds of clients at once, wave after wave, and what was wrong with them."""

from __future__ import annotations

import itertools
import random
import ssl
import time
from collections import Counter
from typing import Any, Protocol

import ioxide as asyncio

from .client import Client
from .left import Left, grown, measure
from .plan import Plan

PROGRESS_S = 2
#: Longer than the end of a TLS connection may take whose peer has gone.
SETTLING_S = 35


class Server(Protocol):
    """What the clients know of the server."""

    #: The address of each of its listeners.
    where: dict[str, Any]

    async def ask(self, what: str = "counts") -> dict[str, Any]:
        """What it has seen, and with `measure` also what it holds."""


class Soak:
    """The clients' side."""

    def __init__(self, server: Server, tls: ssl.SSLContext, seed: int) -> None:
        self.server, self.tls, self.seed = server, tls, seed
        self.numbers = itertools.count()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.open = self.most = 0
        self.bytes = 0
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.wrong.append(f"client: {context!r}"))

    async def connection(self, number: int) -> None:
        client = Client(Plan.make(self.seed, number), self.server.where, self.tls)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            self.counts[await client.run()] += 1
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error} ({client.plan})")
        finally:
            self.open -= 1
            self.bytes += client.up.at + client.down.at

    async def slot(self, until: float, start_s: float) -> None:
        """One connection after the other until it is time."""
        await asyncio.sleep(random.random() * start_s)
        while time.monotonic() < until and not self.wrong:
            await self.connection(next(self.numbers))

    async def wave(
        self, name: str, connections: int, seconds: float, first: list[Left] | None = None
    ) -> list[Left]:
        """So many connections at once, for so long; return what is left afterwards on both sides.

        `first` is what was left of the first wave: connections that still end are given time.
        """
        until = time.monotonic() + seconds
        slots = [
            asyncio.create_task(self.slot(until, min(2, seconds / 3))) for _ in range(connections)
        ]
        waiting = set(slots)
        while waiting and not self.wrong:
            waiting = (await asyncio.wait(waiting, timeout=PROGRESS_S))[1]
            print(f"  {name}: {self}", flush=True)
        await asyncio.gather(*slots)
        del slots
        for waited in range(SETTLING_S):
            left = [measure(), await self.settled()]
            more = [grown(*pair) for pair in zip(first or left, left, strict=True)]
            if not any(more):
                break
            print(f"  {name}: not all has ended after {waited} s: {more}", flush=True)
            await asyncio.sleep(1)
        return left

    async def settled(self) -> Left:
        """What the server holds once it has seen the end of every connection."""
        for _ in range(500):
            answer = await self.server.ask()
            if not answer["open"]:
                break
            await asyncio.sleep(0.02)
        else:
            self.wrong.append(f"server: {answer['open']} connections do not end")
        answer = await self.server.ask("measure")
        self.wrong += [f"server: {what}" for what in answer["wrong"]]
        if answer["counts"].get("whole") != self.counts["whole"]:
            self.wrong.append(f"whole: {self.counts['whole']} here, {answer['counts']} there")
        return Left(*answer["left"])

    def __str__(self) -> str:
        return (
            f"{self.open:6} open, {self.counts['whole']} whole, {self.counts['cut']} broken off, "
            f"{self.bytes / 1e6:.0f} MB, {len(self.wrong)} wrong"
        )
