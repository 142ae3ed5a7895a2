"""Which implementations a behaviour is tested on, and how a coroutine is run on each."""

from __future__ import annotations

import importlib
import importlib.util
import os

import pytest

IMPLEMENTATIONS = os.environ.get("IOXIDE_TEST_IMPL", "asyncio,ioxide").split(",")


def load(name: str):
    """The module `name`, which stands for `asyncio` in the test."""
    if name not in IMPLEMENTATIONS or importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not built, or not asked for")
    return importlib.import_module(name)


def run(aio, coroutine, *, debug: bool = False):
    """`asyncio.run` of the implementation; a loop left open would warn, which is an error."""
    return aio.run(coroutine, debug=debug)


async def spin(aio, turns: int = 5) -> None:
    """Lets everything that is ready happen."""
    for _ in range(turns):
        await aio.sleep(0)


async def settle(aio, turns: int = 15) -> None:
    """Lets happen what the kernel has and what follows. Counts turns: on a busy machine time alone brings none."""
    for _ in range(turns):
        await aio.sleep(0.001)


def run_turns(loop, turns: int = 15) -> None:
    """Runs the loop as `settle` does."""

    def turn(left: int) -> None:
        if left:
            loop.call_later(0.001, turn, left - 1)
        else:
            loop.stop()

    loop.call_soon(turn, turns)
    loop.run_forever()


class Reports(list):
    """What a loop's exception handler was told, in order."""

    def __init__(self, loop) -> None:
        super().__init__()
        loop.set_exception_handler(lambda _loop, context: self.append(context))

    def messages(self) -> list[str]:
        return [context["message"] for context in self]

    def exceptions(self) -> list:
        return [context.get("exception") for context in self]
