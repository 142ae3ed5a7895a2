"""Executors for `loop.run_in_executor` beyond the processes of one machine."""

from __future__ import annotations

import concurrent.futures
import importlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["RayExecutor"]

_T = TypeVar("_T")


class RayExecutor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` whose functions run as tasks of Ray.

    The options are those of a Ray task (`num_cpus`, `num_gpus`, `resources`, `max_retries`, ...), see
    `ray.remote`. Ray is imported when the executor is made, ImportError if it is not installed, and
    started on this machine unless the program has started it or joined a cluster: `ray.init(...)`
    before is how it says which.

    Functions and arguments are sent by Ray's own pickling. An argument that is a `ray.ObjectRef` is
    replaced by what it refers to. Exceptions of a function arrive as Ray raises them: a subclass of
    the function's own exception class, with the remote traceback in its text. Cancelling a future
    cancels the task; if it runs already, Ray interrupts it.

    Thread-safe. What is still running at `shutdown(wait=False)` is run to its end.
    """

    def __init__(self, **options: Any) -> None:
        # By name, so that neither the package nor its types need it.
        self._ray: Any = importlib.import_module("ray")
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False)
        task = self._ray.remote(_call)
        self._task: Any = task.options(**options) if options else task
        self._lock = threading.Lock()
        self._futures: set[concurrent.futures.Future[Any]] = set()
        self._is_shut_down = False

    def submit(
        self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[_T]:
        """Run fn(*args, **kwargs) as a task; RuntimeError after shutdown()."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            reference = self._task.remote(fn, *args, **kwargs)
            self._futures.add(future)
        future.add_done_callback(lambda _: self._cancelled(future, reference))
        # The callback keeps the reference, without which Ray would give the result up.
        reference.future().add_done_callback(lambda theirs: self._settle(future, theirs))
        return future

    def _still_ours(self, future: concurrent.futures.Future[Any]) -> bool:
        """Let go of a future, once; whether it waits for its outcome, and was not cancelled."""
        with self._lock:
            if future not in self._futures:
                return False
            self._futures.remove(future)
            # Who waits for the future hears of its cancellation only by this.
            return future.set_running_or_notify_cancel()

    def _settle(
        self, future: concurrent.futures.Future[Any], theirs: concurrent.futures.Future[Any]
    ) -> None:
        """Pass on what has come of a task; a future that is pending until then can be cancelled."""
        if not self._still_ours(future):
            return
        error = theirs.exception()
        if error is None:
            future.set_result(theirs.result())
        else:
            future.set_exception(error)

    def _cancelled(self, future: concurrent.futures.Future[Any], reference: Any) -> None:
        if future.cancelled():
            self._still_ours(future)
            self._ray.cancel(reference)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and wait for what was taken, or cancel it. Ray itself goes on."""
        with self._lock:
            self._is_shut_down = True
            futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            concurrent.futures.wait(futures)


def _call(fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    return fn(*args, **kwargs)
