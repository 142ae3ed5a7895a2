"""The event loop as a program sees it: the native loop, and the sequences that need no speed."""

from __future__ import annotations

import asyncio
import asyncio.base_events
import warnings
from typing import Any

from . import _report
from ._executor import ExecutorMethods
from ._ioxide import _set_facade
from ._process_pool import ProcessPoolMethods
from ._processes import ProcessMethods
from ._resolver import ResolverMethods
from ._signals import SignalMethods
from .connect import ConnectMethods
from .endpoints import EndpointMethods
from .listen import ListenMethods
from .sendfile import SendfileMethods

# anyio and others find a program's root task by this very function among a task's callbacks.
_stop_when_done: Any = asyncio.base_events._run_until_complete_cb  # type: ignore[attr-defined]


class EventLoop(
    ExecutorMethods,
    ProcessMethods,
    ProcessPoolMethods,
    ResolverMethods,
    SignalMethods,
    ConnectMethods,
    ListenMethods,
    EndpointMethods,
    SendfileMethods,
    asyncio.AbstractEventLoop,
):
    """An event loop, as asyncio's documentation describes it.

    `EventLoop(clock="virtual")` has a clock of its own, which starts at zero and jumps to the next
    timer whenever there is nothing else to do: for tests.

    `backend` is "epoll" or "io_uring", by default what IOXIDE_BACKEND in the environment says, or
    else "epoll"; ValueError for anything else. Where a backend is not to be had, another takes its
    place: `loop.backend` is the one in use. There is none but epoll yet.

    Not thread-safe, but for `call_soon_threadsafe`.
    """

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # Running and closing

    def run_until_complete(self, future: Any) -> Any:
        """Run until the awaitable is done, and return its result or raise its exception.

        Raises RuntimeError if this or another loop runs in this thread, if the loop is closed, or
        if it is stopped before the awaitable is done.
        """
        self._check_closed()
        self._refuse_if_running()
        new_task = not asyncio.isfuture(future)
        future = _ensure_future(future, self)
        if new_task:
            # An exception is raised here; nobody need be told again that it was not retrieved.
            future._log_destroy_pending = False
        future.add_done_callback(_stop_when_done)
        try:
            self.run_forever()
        except BaseException:
            if new_task and future.done() and not future.cancelled():
                # The coroutine raised what leaves the loop: it is reported by leaving.
                future.exception()
            raise
        finally:
            future.remove_done_callback(_stop_when_done)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def close(self) -> None:
        """Close the loop: what was scheduled is dropped. Closing twice is harmless.

        Raises RuntimeError if the loop runs.
        """
        if not self.is_running():
            self._restore_signals()
            self._kill_processes()
        self._close()
        self._abandon_executor()

    # Errors

    def get_exception_handler(self) -> Any:
        """Return the exception handler, or None for the default one."""
        return self.__dict__.get("_exception_handler")

    def set_exception_handler(self, handler: Any) -> None:
        """Set the callable (loop, context) that is told of errors, or None for the default one.

        TypeError for what is neither.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self.__dict__["_exception_handler"] = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error to the logger "asyncio"."""
        _report.log_context(self, context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell the exception handler; the keys of context are asyncio's."""
        _report.call_handler(self, self.get_exception_handler(), context)

    # Asynchronous generators

    def _warn_of_late_asyncgen(self, generator: Any) -> None:
        warnings.warn(
            f"asynchronous generator {generator!r} was scheduled after "
            "loop.shutdown_asyncgens() call",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        self._forget_asyncgen(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that were begun on this loop.

        What they raise is told to the exception handler. Beginning another is warned of from now on.
        """
        closing = self._shut_down_asyncgens()
        if not closing:
            return
        results = await asyncio.gather(*[g.aclose() for g in closing], return_exceptions=True)
        for result, generator in zip(results, closing, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )


def _ensure_future(awaitable: Any, loop: EventLoop) -> Any:
    return asyncio.ensure_future(awaitable, loop=loop)


EventLoop.__module__ = "ioxide"
_set_facade(EventLoop)
__all__ = ["EventLoop"]
