"""The list of scenarios. Importing the package fills it.

A scenario is `async def name(n)` and returns how many operations it did. It reaches asyncio only as
attributes of the module when it runs, so that each implementation puts in what it has.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple


class Skip(Exception):
    """This Python or this implementation has no such thing."""


class Scenario(NamedTuple):
    """What to run, how often, and how to measure it."""

    group: str
    function: Callable[..., Any]
    #: Operations; for "server" connections, for "memory" objects.
    n: int
    #: "loop": within a running loop; "plain": called with a function like asyncio.run;
    #: "memory": returns bytes per object; "server": serves a load from another process.
    kind: str


SCENARIOS: dict[str, Scenario] = {}


def scenario(group: str, n: int, kind: str = "loop") -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        SCENARIOS[function.__name__] = Scenario(group, function, n, kind)
        return function

    return register


def load() -> dict[str, Scenario]:
    """Import every module of this package, in the order in which the table shows them."""
    order = (
        "callbacks",
        "timers",
        "tasks",
        "sync",
        "eager",
        "startup",
        "executor",
        "files",
        "tree",
        "tcp",
        "tls",
    )
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in sorted(names, key=lambda n: order.index(n) if n in order else len(order)):
        importlib.import_module(f"{__name__}.{name}")
    return SCENARIOS
