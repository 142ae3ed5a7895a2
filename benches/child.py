"""Measures one scenario on one implementation in this process, and prints the result as JSON.

python benches/child.py IMPLEMENTATION SCENARIO
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import scenarios

LOAD = Path(__file__).resolve().parent.parent / "tools" / "load.py"
LOAD_SECONDS = 1.5
MESSAGE_BYTES = 1024


def runner_of(implementation: str) -> Callable[[Any], Any]:
    """Something like asyncio.run, on the implementation."""
    if implementation == "asyncio":
        return asyncio.run
    module = importlib.import_module(implementation)
    if implementation == "ioxide":
        module.install()
        return asyncio.run

    def run(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
            return runner.run(coroutine)

    return run


@contextlib.contextmanager
def measured(result: dict[str, float]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    result["cpu"] = time.process_time() - cpu
    result["wall"] = time.perf_counter() - wall


def measure(run: Callable[[Any], Any], chosen: scenarios.Scenario) -> dict[str, float]:
    """Seconds of CPU and wall and the operations done, or bytes."""
    result: dict[str, float] = {}
    if chosen.kind == "plain":
        chosen.function(run, max(1, chosen.n // 10))
        with measured(result):
            result["operations"] = chosen.function(run, chosen.n)
    elif chosen.kind == "memory":
        result["bytes"] = run(chosen.function(chosen.n))
    elif chosen.kind == "server":
        run(serve(chosen, result))
    else:

        async def warm_then_measure() -> None:
            await chosen.function(max(1000, chosen.n // 10) if chosen.n > 1000 else 1)
            with measured(result):
                result["operations"] = await chosen.function(chosen.n)

        run(warm_then_measure())
    return result


async def serve(chosen: scenarios.Scenario, result: dict[str, float]) -> None:
    """Serve the load generator; what counts is the CPU time of this process."""
    server = await chosen.function()
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, str(LOAD), str(port), str(chosen.n)]
    command += [str(LOAD_SECONDS), str(MESSAGE_BYTES)]
    loop = asyncio.get_running_loop()

    def load() -> dict[str, Any]:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return facts

    with measured(result):
        summary = await loop.run_in_executor(None, load)
    if summary["errors"] or summary["connections"] != chosen.n:
        raise RuntimeError(f"the load met errors: {summary}")
    result["operations"] = summary["messages"]
    # Starting the load generator is not the server's time.
    result["wall"] = summary["elapsed"]
    server.close()
    await server.wait_closed()


def main() -> None:
    implementation, name = sys.argv[1:3]
    chosen = scenarios.load()[name]
    try:
        result = measure(runner_of(implementation), chosen)
    except scenarios.Skip as reason:
        result = {"skipped": str(reason)}  # type: ignore[dict-item]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
