"""What `make run` shows: the example programs, one by one, and the echo server under load.

python tools/tour.py [--connections N] [--seconds S]

The exit status is 1 if a program fails, prints something else than it should, or the server loses
a message.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
PROGRAM_LIMIT_S = 30
START_LIMIT_S = 15
MESSAGE_BYTES = 64


class Stop(NamedTuple):
    """One program of the tour."""

    title: str
    file: str
    #: Seconds that its waits add up to; None where there is nothing to add.
    in_a_row: float | None
    #: Words which its output must contain.
    expected: str


STOPS = (
    Stop("three jobs with gather", "gather.py", 6, "['result of A', 'result of B', 'result of C']"),
    Stop("fetch", "fetch.py", 6, "['the data', 'the data']"),
    Stop("tasks, created and then awaited", "tasks.py", 3, "task long has worked for 2 s"),
    Stop("wait_for and its timeout", "wait_for.py", 5, "given up after 2 s"),
    Stop("a simulated web server", "web_server.py", 6, "client 2 has its answer"),
    Stop("an echo server and its client", "echo_client.py", None, "came back: Hello, World!"),
    Stop("three pages with aiohttp", "pages.py", 1.5, "<h1>page three</h1>"),
)


class Screen:
    """Writes for a person at a terminal, and plainly into a pipe or a file."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.colour = self.live and "NO_COLOR" not in os.environ
        self.plain_report_at = 0.0

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def title(self, text: str) -> None:
        print(f"\n{self.paint(text, '1;36')}", flush=True)

    def line(self, text: str, code: str = "") -> None:
        print(f"   {self.paint(text, code) if code else text}", flush=True)

    def verdict(self, good: bool, text: str) -> None:
        mark = self.paint("✓", "1;32") if good else self.paint("✗", "1;31")
        print(f" {mark} {text}", flush=True)

    def progress(self, text: str) -> None:
        """Replace the line at a terminal; elsewhere a line a second is enough."""
        if self.live:
            print(f"\r\033[K   {self.paint(text, '33')}", end="", flush=True)
        elif time.monotonic() >= self.plain_report_at:
            self.plain_report_at = time.monotonic() + 1
            print(f"   {text}", flush=True)

    def end_progress(self) -> None:
        if self.live:
            print("\r\033[K", end="", flush=True)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1"}


def lines_of(command: list[str]) -> Iterator[str | int]:
    """The lines that a process prints as they come, and at the end its exit status."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    watchdog = threading.Timer(PROGRAM_LIMIT_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            yield line.rstrip("\n")
        yield process.wait()
    finally:
        watchdog.cancel()
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def visit(screen: Screen, stop: Stop, arguments: list[str]) -> bool:
    """Run a program, show what it prints and when, and say how long it took."""
    started = time.perf_counter()
    said: list[str] = []
    status = None
    for item in lines_of([sys.executable, str(EXAMPLES / stop.file), *arguments]):
        if isinstance(item, int):
            status = item
            continue
        said.append(item)
        screen.line(f"{screen.paint(f'{time.perf_counter() - started:5.2f} s', '2')}  {item}")
    took = time.perf_counter() - started
    good = status == 0 and any(stop.expected in line for line in said)
    if not good:
        screen.verdict(False, f"failed: exit status {status}, looked for {stop.expected!r}")
    elif stop.in_a_row is None:
        screen.verdict(True, f"{took:.2f} s")
    else:
        gain = f"{stop.in_a_row / took:.1f} times as long"
        screen.verdict(True, f"{took:.2f} s; one after the other {stop.in_a_row:.2f} s, {gain}")
    return good


class Server:
    """The echo server of the examples in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "echo_server.py"), "0", "--quiet"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        watchdog = threading.Timer(START_LIMIT_S, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        greeting = self.process.stdout.readline()
        watchdog.cancel()
        if "listening on" not in greeting:
            end(self.process)
            raise RuntimeError(f"the echo server did not start: {greeting!r}")
        self.port = greeting.rsplit(":", 1)[1].strip()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        finally:
            end(self.process)


def under_load(screen: Screen, server: Server, connections: int, seconds: float) -> bool:
    """Keep that many connections busy, show the count as it grows, and sum up."""
    command = [
        sys.executable,
        str(HERE / "load.py"),
        *map(str, (server.port, connections, seconds, MESSAGE_BYTES)),
    ]
    summary: dict = {}
    for item in lines_of(command):
        if isinstance(item, int) or not item.startswith("{"):
            if item != 0:
                screen.line(str(item))
            continue
        facts = json.loads(item)
        if facts.get("done"):
            summary = facts
        elif "opened" in facts:
            screen.line(f"{facts['opened']:,} connections are open, a message under way on each")
        else:
            part = min(facts["elapsed"] / seconds, 1)
            bar = "█" * round(part * 24)
            rate = facts["messages"] / facts["elapsed"]
            screen.progress(
                f"{bar:░<24} {facts['elapsed']:4.1f} s  {facts['messages']:>9,} messages  "
                f"{rate:>8,.0f}/s  {facts['errors']} errors"
            )
    screen.end_progress()
    return sum_up(screen, summary)


def sum_up(screen: Screen, summary: dict) -> bool:
    if not summary:
        screen.verdict(False, "the load ended without a summary")
        return False
    good = (
        summary["errors"] == 0
        and summary["messages"] > 0
        and summary["connections"] == summary["asked_connections"]
    )
    rows = {
        "connections": f"{summary['connections']:,} of {summary['asked_connections']:,}",
        "messages": f"{summary['messages']:,} of {MESSAGE_BYTES} bytes, each compared",
        "errors": f"{summary['errors']} {summary['kinds'] or ''}".strip(),
        "messages per second": f"{summary['messages'] / summary['elapsed']:,.0f}",
        "latency p50": milliseconds(summary["p50"]),
        "latency p99": milliseconds(summary["p99"]),
    }
    for name, value in rows.items():
        screen.line(f"{name:<20} {screen.paint(value, '1')}")
    screen.verdict(good, "every message came back" if good else "messages were lost")
    return good


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.2f} ms"


def more_descriptors() -> None:
    """A thousand connections come close to the limit that many shells set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description="a tour of ioxide")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    more_descriptors()
    screen = Screen()
    print(
        screen.paint("ioxide", "1"),
        f"on Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    failed: list[str] = []
    with Server() as server:
        for number, stop in enumerate(STOPS, 1):
            screen.title(f"{number}/{len(STOPS) + 1}  {stop.title}  (examples/{stop.file})")
            arguments = [server.port] if stop.file == "echo_client.py" else []
            if not visit(screen, stop, arguments):
                failed.append(stop.file)
        title = f"the echo server with {options.connections:,} connections"
        screen.title(f"{len(STOPS) + 1}/{len(STOPS) + 1}  {title}")
        if not under_load(screen, server, options.connections, options.seconds):
            failed.append("the load")
    print()
    screen.verdict(not failed, "the whole tour" if not failed else "failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
