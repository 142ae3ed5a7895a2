"""Makes the standard library's all_tasks() see native tasks, before 3.14.

Later interpreters keep a list of all tasks, which native tasks are on.
"""

from __future__ import annotations

import asyncio.tasks
import itertools
from collections.abc import Iterator
from typing import Any

from ._ioxide import _native_tasks


class _Chained:
    """asyncio's weak set of tasks, followed by the native ones when iterated over."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(list(self._tasks), _native_tasks())

    def __len__(self) -> int:
        return len(self._tasks) + len(_native_tasks())

    def __contains__(self, task: object) -> bool:
        return any(task is other for other in self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)


def chain() -> None:
    """Put the chain in place of the set; called when the first native task is made."""
    for name in ("_scheduled_tasks", "_all_tasks"):
        tasks = getattr(asyncio.tasks, name, None)
        if tasks is not None and not isinstance(tasks, _Chained):
            setattr(asyncio.tasks, name, _Chained(tasks))
            return
