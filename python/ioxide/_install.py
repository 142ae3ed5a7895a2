"""The only file that writes into the asyncio package, and only when a program asks for it."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from . import _ioxide, _policy
from .event_loop import EventLoop

logger = logging.getLogger("ioxide")

# Bindings that stay asyncio's own, because asyncio's own loop is written against them.
_KEPT = {
    ("asyncio.base_events", "Server"),
    ("asyncio.unix_events", "_UnixSelectorEventLoop"),
}

# These ask the policy, and go on doing so: what a program sets there is obeyed.
_POLICY_BOUND = {"get_event_loop", "new_event_loop"}

# Private, but loops and libraries that nest loops call them.
_PRIVATE = ("_swap_current_task", "_register_eager_task", "_unregister_eager_task")

_lock = threading.Lock()
_installed = False
_lenient = False
_pairs: list[tuple[object, object]] = []
_stdlib_loop_factory: Any = _policy.DefaultPolicy._loop_factory
_stdlib_get_event_loop: Any = _policy.BaseDefaultPolicy.get_event_loop


def learn(ours: dict[str, Any]) -> None:
    """Note for each name of asyncio what ioxide has under it. To be called before any install()."""
    for name, new in ours.items():
        old = getattr(asyncio, name, None)
        if old is not None and old is not new and name not in _POLICY_BOUND:
            _pairs.append((old, new))
    for name in _PRIVATE:
        old, new = getattr(asyncio.tasks, name, None), getattr(_ioxide, name, None)
        if old is not None and new is not None:
            _pairs.append((old, new))
    _pairs.append((asyncio.new_event_loop, _policy.new_event_loop_of_policy))


def substitute(value: object) -> object:
    """Return ioxide's object for one of asyncio's, or the value itself."""
    return next((new for old, new in _pairs if old is value), value)


def install() -> None:
    """Make the names in the asyncio package and its submodules ioxide's.

    Every library that looks names up in asyncio gets ioxide from then on, and loops that asyncio
    makes are ioxide's. Names that a module copied earlier (`from asyncio import Queue`) stay what
    they were: call this first. Calling it twice is harmless; `uninstall()` takes it back.

    With IOXIDE_DISABLE=1 in the environment nothing happens, apart from a line in the log.
    """
    _apply(lenient=False)


def install_lenient() -> None:
    """What `python -m ioxide` does: install(), and get_event_loop() never finds nothing."""
    _apply(lenient=True)


def state() -> tuple[bool, bool]:
    """Return whether ioxide is installed, and whether leniently."""
    return _installed, _lenient


def uninstall() -> None:
    """Give asyncio its own names back. Loops and tasks that exist go on as they are."""
    global _installed, _lenient
    with _lock:
        if not _installed:
            return
        _rebind((new, old) for old, new in _pairs)
        _policy.DefaultPolicy._loop_factory = _stdlib_loop_factory
        _policy.BaseDefaultPolicy.get_event_loop = _stdlib_get_event_loop
        _installed = _lenient = False


def _apply(*, lenient: bool) -> None:
    global _installed, _lenient
    if os.environ.get("IOXIDE_DISABLE", "0") not in ("", "0"):
        logger.warning("IOXIDE_DISABLE is set: asyncio stays as it is")
        return
    with _lock:
        _rebind(_pairs)
        _policy.DefaultPolicy._loop_factory = EventLoop
        _lenient = _lenient or lenient
        if lenient:
            _policy.BaseDefaultPolicy.get_event_loop = _policy.current_or_new
        _installed = True


def _rebind(pairs: Iterable[tuple[object, object]]) -> None:
    """Replace objects wherever a module of asyncio binds them, under whichever name."""
    table = {id(old): (old, new) for old, new in pairs}
    for module in _asyncio_modules():
        for name, value in list(vars(module).items()):
            found = table.get(id(value))
            if found is not None and (module.__name__, name) not in _KEPT:
                setattr(module, name, found[1])


def _asyncio_modules() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if module is not None and (name == "asyncio" or name.startswith("asyncio.")):
            yield module
