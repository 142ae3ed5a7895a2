"""Tells what a task factory understands: asyncio has had two kinds."""

from __future__ import annotations

import inspect
from typing import Any


def takes_name(factory: Any) -> bool:
    """Whether `factory(loop, coro, name=...)` works.

    Factories of the older kind take the loop and the coroutine only; their tasks are named afterwards.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind is p.VAR_KEYWORD or p.name == "name" for p in parameters)
