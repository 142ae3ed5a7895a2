"""The only place that asks asyncio's event loop policy, or makes up for what it refuses."""

from __future__ import annotations

import asyncio.events
import asyncio.unix_events
import threading
from typing import Any

from .event_loop import EventLoop

#: What asyncio makes when nobody set a policy. It has four names in five versions of Python.
DefaultPolicy: Any = asyncio.unix_events._UnixDefaultEventLoopPolicy
BaseDefaultPolicy: Any = DefaultPolicy.__mro__[1]


def _policy() -> Any:
    """The policy in force, made on demand, without the deprecation warning of 3.14."""
    events: Any = asyncio.events
    ask = getattr(events, "_get_event_loop_policy", None) or events.get_event_loop_policy
    return ask()


def new_event_loop(*, backend: str | None = None) -> asyncio.AbstractEventLoop:
    """Make an ioxide event loop. It is not made the current one; see `set_event_loop`.

    This is what a library wants that asks for a loop factory:
    `asyncio.run(main(), loop_factory=ioxide.new_event_loop)`. For `backend` see `EventLoop`.
    """
    return EventLoop(backend=backend)


def new_event_loop_of_policy() -> asyncio.AbstractEventLoop:
    """Make an ioxide event loop, unless somebody set a policy of their own: then ask that."""
    return _made(late=False)


def new_event_loop_to_run() -> asyncio.AbstractEventLoop:
    """As above, for `run()`: what the kernel gives a loop is asked for when the loop first waits.

    Making and closing it takes longer than all the rest of running a coroutine that never waits.
    """
    return _made(late=True)


def _made(late: bool) -> asyncio.AbstractEventLoop:
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    if policy is None or type(policy) is DefaultPolicy:
        return EventLoop(_late=late)
    loop: asyncio.AbstractEventLoop = policy.new_event_loop()
    return loop


# Under install() this is asyncio.new_event_loop, and should say so.
new_event_loop_of_policy.__name__ = new_event_loop_of_policy.__qualname__ = "new_event_loop"


def get_event_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop, or the thread's current one.

    Where the main thread has none, one is made and set: programs that call this at module level
    were right for ten years, and are so here. In other threads RuntimeError is raised.
    """
    running = asyncio._get_running_loop()
    if running is not None:
        return running
    policy = _policy()
    if isinstance(policy, BaseDefaultPolicy):
        return current_or_new(policy)
    loop: asyncio.AbstractEventLoop = policy.get_event_loop()
    return loop


def current_or_new(policy: Any) -> asyncio.AbstractEventLoop:
    """Return what a default policy holds for this thread; in the main thread never nothing."""
    loop: asyncio.AbstractEventLoop | None = policy._local._loop
    if loop is not None:
        return loop
    thread = threading.current_thread()
    if thread is not threading.main_thread():
        raise RuntimeError(f"There is no current event loop in thread {thread.name!r}.")
    loop = EventLoop()
    policy.set_event_loop(loop)
    return loop
