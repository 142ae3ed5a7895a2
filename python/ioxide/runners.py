"""The only file that owns a loop from its making to its closing: Runner and run."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import contextvars
import enum
import functools
import inspect
import sys
import threading
from asyncio import constants
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ._policy import new_event_loop_to_run

__all__ = ("Runner", "run")

_T = TypeVar("_T")

# The functions in C: those of `signal` make an enum of what they are given, which costs a run of a small
# coroutine a third of its time. Their handlers are the same objects.
_SIGINT = int(_signal.SIGINT)
_default_sigint = _signal.default_int_handler

#: Seconds that close() waits for the threads of the default executor.
_EXECUTOR_PATIENCE = getattr(constants, "THREAD_JOIN_TIMEOUT", 300)


class _State(enum.Enum):
    CREATED = "created"
    INITIALIZED = "initialized"
    CLOSED = "closed"


class Runner:
    """Runs coroutines one after the other in a loop of its own.

        with ioxide.Runner() as runner:
            runner.run(main())

    The loop is made when it is first needed and closed with the runner: what is still running by
    then is cancelled and awaited, asynchronous generators are closed, and the threads of the
    default executor are joined (for 5 minutes at most).

    `debug` sets the loop's debug mode, unless it is None. `loop_factory` makes the loop; without
    one the loop is ioxide's and becomes the thread's current loop while the runner is open.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._state = _State.CREATED
        self._debug = debug
        self._loop_factory = loop_factory
        self._loop: Any = None
        self._context: contextvars.Context | None = None
        self._interrupt_count = 0
        self._set_event_loop = False

    def __enter__(self) -> Runner:
        self._lazy_init()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.close()

    def close(self) -> None:
        """Wind up what still runs, and close the loop. A second call does nothing."""
        if self._state is not _State.INITIALIZED:
            return
        loop = self._loop
        try:
            _cancel_all_tasks(loop)
            loop.run_until_complete(_wind_up(loop))
        finally:
            if self._set_event_loop:
                asyncio.set_event_loop(None)
            loop.close()
            self._loop = None
            self._state = _State.CLOSED

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the runner's loop, which is made if need be."""
        self._lazy_init()
        loop: asyncio.AbstractEventLoop = self._loop
        return loop

    def run(self, coro: Awaitable[_T], *, context: contextvars.Context | None = None) -> _T:
        """Run a coroutine (from 3.14 on any awaitable) to its end and return its result.

        Ctrl-C cancels it, and KeyboardInterrupt is raised once it has ended; a second Ctrl-C
        raises at once. That holds in the main thread, if SIGINT has its default handler.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Runner.run() cannot be called from a running event loop")
        self._lazy_init()
        task = self._loop.create_task(
            _as_coroutine(coro), context=self._context if context is None else context
        )
        restore_sigint = self._take_sigint(task)
        try:
            result: _T = self._loop.run_until_complete(task)
            return result
        except asyncio.CancelledError:
            uncancel = getattr(task, "uncancel", None)
            if self._interrupt_count > 0 and uncancel is not None and uncancel() == 0:
                raise KeyboardInterrupt() from None
            raise
        finally:
            restore_sigint()

    def _lazy_init(self) -> None:
        if self._state is _State.CLOSED:
            raise RuntimeError("Runner is closed")
        if self._state is _State.INITIALIZED:
            return
        if self._loop_factory is not None:
            self._loop = self._loop_factory()
        else:
            self._loop = new_event_loop_to_run()
            if not self._set_event_loop:
                # Once only: until 3.13 the policy hands each loop to the child watcher.
                asyncio.set_event_loop(self._loop)
                self._set_event_loop = True
        if self._debug is not None:
            self._loop.set_debug(self._debug)
        self._context = contextvars.copy_context()
        self._state = _State.INITIALIZED

    def _take_sigint(self, task: Any) -> Callable[[], None]:
        """Let Ctrl-C cancel the task; the function returned gives the signal back."""
        self._interrupt_count = 0
        handler = functools.partial(self._on_sigint, main_task=task)
        if (
            threading.current_thread() is not threading.main_thread()
            or _signal.getsignal(_SIGINT) is not _default_sigint
        ):
            return lambda: None
        try:
            _signal.signal(_SIGINT, handler)
        except ValueError:  # an embedded interpreter whose main thread gets no signals
            return lambda: None

        def restore() -> None:
            if _signal.getsignal(_SIGINT) is handler:
                _signal.signal(_SIGINT, _default_sigint)

        return restore

    def _on_sigint(self, signum: int, frame: object, main_task: Any) -> None:
        self._interrupt_count += 1
        if self._interrupt_count == 1 and not main_task.done():
            main_task.cancel()
            # The loop may be asleep, and a signal alone does not wake it.
            self._loop.call_soon_threadsafe(lambda: None)
            return
        raise KeyboardInterrupt()


def run(
    main: Awaitable[_T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine in a new loop, close the loop, and return the coroutine's result.

    This is the main entry point of a program. It cannot be called while a loop runs in the same
    thread. The arguments are those of Runner, which does the work.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def _as_coroutine(awaitable: Any) -> Any:
    if asyncio.iscoroutine(awaitable):
        return awaitable
    if sys.version_info < (3, 14):
        raise ValueError(f"a coroutine was expected, got {awaitable!r}")
    if not inspect.isawaitable(awaitable):
        raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")

    async def wrapper() -> Any:
        return await awaitable

    return wrapper()


async def _wind_up(loop: Any) -> None:
    await loop.shutdown_asyncgens()
    try:
        ending = loop.shutdown_default_executor(_EXECUTOR_PATIENCE)
    except TypeError:  # a foreign loop which follows 3.11, without a timeout
        ending = loop.shutdown_default_executor()
    await ending


def _cancel_all_tasks(loop: Any) -> None:
    to_cancel = asyncio.all_tasks(loop)
    if not to_cancel:
        return
    for task in to_cancel:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*to_cancel, return_exceptions=True))
    for task in to_cancel:
        if task.cancelled() or task.exception() is None:
            continue
        loop.call_exception_handler(
            {
                "message": "unhandled exception during asyncio.run() shutdown",
                "exception": task.exception(),
                "task": task,
            }
        )
