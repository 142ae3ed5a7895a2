"""The loop's executors: running blocking functions elsewhere, and shutting down what ran them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import warnings
from collections.abc import Callable
from typing import Any


class ExecutorMethods:
    """What `ioxide.EventLoop` has for blocking functions."""

    _default_executor: Any = None
    _executor_shutdown_called = False

    def run_in_executor(self: Any, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call func(*args) in the executor, or in the default one for None; return a Future.

        The default executor is made at first use. RuntimeError after shutdown_default_executor().
        """
        self._check_closed()
        if executor is None:
            executor = self._default_executor
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            if executor is None:
                executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
                self._default_executor = executor
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Run what run_in_executor(None, ...) is given in any `concurrent.futures.Executor`."""
        if not isinstance(executor, concurrent.futures.Executor):
            raise TypeError("executor must be ThreadPoolExecutor instance, or another Executor")
        self._default_executor = executor

    async def shutdown_default_executor(self: Any, timeout: float | None = None) -> None:
        """Refuse new work for the default executor, and wait until its threads have ended.

        After `timeout` seconds a RuntimeWarning is given and the threads are left to themselves;
        None waits for as long as it takes.
        """
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        ended = self.create_future()
        thread = threading.Thread(target=_shut_down, args=(self, executor, ended))
        thread.start()
        try:
            await asyncio.wait_for(ended, timeout)
        except asyncio.TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _abandon_executor(self) -> None:
        """At the end of the loop: take no more work, without waiting for what runs."""
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _shut_down(loop: Any, executor: Any, ended: Any) -> None:
    """Wait for the executor in a thread of its own, and tell the loop."""
    try:
        executor.shutdown(wait=True)
    except Exception as error:
        _tell(loop, ended, error)
    else:
        _tell(loop, ended, None)


def _tell(loop: Any, ended: Any, error: Exception | None) -> None:
    def settle() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
