"""Thousands of connections at once, which break off in every way, with every byte checked.

python -m tools.soak [--seconds 120] [--connections 10000] [--seed N] [--only NUMBER]

A server and its clients, each a process on ioxide. In waves: when one is over, nothing of it may be
left, in either. The seed decides what each connection does; `--only` repeats a single one. The exit
status is 1 if a byte was wrong or missing, or something was left over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ioxide as asyncio

from .keys import make_certificate, serving, trusting
from .left import Left, grown, measure
from .plan import Plan
from .server import Book, serve
from .waves import Soak

#: Descriptors that are needed for other things than connections.
SPARE = 100
LONGEST_WAVE_S = 20


def raise_limit(wanted: int) -> int:
    """Allow as many connections as are wanted, or as are possible; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted + SPARE if hard == resource.RLIM_INFINITY else min(wanted + SPARE, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))
    return min(wanted, max(soft, possible) - SPARE)


async def server_process(folder: Path) -> None:
    """The server's side: answers each line on the standard input with what it has seen."""
    book = Book()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: book.wrong.append(f"server: {context!r}"))
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    async with serve(book, folder, serving(folder)) as where:
        print(json.dumps(where), flush=True)
        while line := (await asked.readline()).strip():
            answer = book.answer() | {"left": measure() if line == b"measure" else ()}
            print(json.dumps(answer), flush=True)


class Server:
    """The server's process, as the clients' process sees it."""

    def __init__(self, process: asyncio.subprocess.Process, where: dict[str, Any]) -> None:
        self.process, self.where = process, where

    async def ask(self, what: str = "counts") -> dict[str, Any]:
        self.process.stdin.write(what.encode() + b"\n")
        return json.loads(await self.process.stdout.readline())


@contextlib.asynccontextmanager
async def start_server(folder: Path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.soak", "--serve", folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield Server(process, json.loads(await process.stdout.readline()))
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def soak(server: Server, folder: Path, options: argparse.Namespace) -> list[str]:
    """All waves; returns what was wrong."""
    self = Soak(server, trusting(folder), options.seed)
    if options.only is not None:
        print(Plan.make(options.seed, options.only))
        await self.connection(options.only)
        return self.wrong
    first: list[Left] | None = None
    waves = max(3, round(options.seconds / LONGEST_WAVE_S))
    # The first one is as large as the others: its holdings are what is kept for the next time.
    for number in range(waves):
        # Who has begun may end, which takes a part of the time.
        seconds = options.seconds / waves / 2
        left = await self.wave(f"wave {number + 1} of {waves}", options.connections, seconds, first)
        first = first or left
        for side, before, after in zip(("clients", "server"), first, left, strict=True):
            print(f"  left in the {side}: {after}", flush=True)
            self.wrong += [f"left in the {side}: {what}" for what in grown(before, after)]
        if self.wrong:
            break
    print(f"  at most {self.most} at once")
    return self.wrong


async def main(options: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        make_certificate(Path(name))
        async with start_server(Path(name)) as server:
            return await soak(server, Path(name), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    # That somebody wrote to a connection which was broken off is no news here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    arguments.connections = raise_limit(arguments.connections)
    with asyncio.Runner() as runner:
        if arguments.serve:
            runner.run(server_process(arguments.serve))
            sys.exit()
        print(f"seed {arguments.seed}, {arguments.connections} connections", flush=True)
        problems = runner.run(main(arguments))
    for problem in problems[:20]:
        print(f"✗ {problem}"[:2000])
    print("something was wrong; the same again: --seed", arguments.seed) if problems else print(
        "✓ all is well"
    )
    sys.exit(bool(problems))
