"""The loop's executors: running blocking functions elsewhere, and shutting down what ran them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from ._ioxide import BaseLoop, BaseThreadPool, _join_workers

_T = TypeVar("_T")

#: Seconds that the loop stands still, at most, for threads which have nothing left to do.
_MOMENT = 0.05


class ThreadPool(BaseThreadPool, concurrent.futures.Executor):
    """The executor a loop has unless a program sets another; any program may make one.

    It differs from `concurrent.futures.ThreadPoolExecutor` in speed, and in that it begins anew in
    a forked child. `max_workers` defaults to the number of processors and 4, 32 at most.
    """

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "asyncio") -> None:
        most = min(32, processors() + 4) if max_workers is None else max_workers
        super().__init__(most, thread_name_prefix)
        _join_at_exit()

    def submit(
        self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[_T]:
        """Call fn(*args, **kwargs) on a thread; RuntimeError after shutdown()."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._submit(_run, future, fn, args, kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. What is queued is run, or cancelled with `cancel_futures`."""
        for future, *_ in self._shut_down(cancel_futures):
            future.cancel()
            future.set_running_or_notify_cancel()
        if wait:
            self._join(None)

    def _end_at_once(self) -> bool:
        """Shut down without waiting for work; whether the threads have ended."""
        self.shutdown(wait=False)
        return self._is_idle() and self._join(_MOMENT)


def _run(future: concurrent.futures.Future[Any], fn: Any, args: Any, kwargs: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
        # The traceback of the error has this frame, which must not have the error.
        del future
    else:
        future.set_result(result)


def processors() -> int:
    """How many processors this process may use, or was told with PYTHON_CPU_COUNT to count."""
    count = getattr(os, "process_cpu_count", None)  # of Python 3.13
    return (count() if count else len(os.sched_getaffinity(0))) or 1


_joined_at_exit = False


def _join_at_exit() -> None:
    global _joined_at_exit
    if not _joined_at_exit:
        # Before the interpreter goes, as concurrent.futures has it; atexit itself is too late.
        threading._register_atexit(_join_workers)  # type: ignore[attr-defined]
        _joined_at_exit = True


def _thread_begins(name: str) -> None:
    """Make a native thread what a thread of `threading` would be."""
    threading.current_thread().name = name
    if trace := threading.gettrace():
        sys.settrace(trace)
    if profile := threading.getprofile():
        sys.setprofile(profile)


def _thread_sweeps(_name: str) -> None:
    """Run a few bytecodes: a free-threaded interpreter frees between them what others have dropped of this thread's.

    Native jobs run none. What the last job has made stays until the next one, as in any pool of threads.
    """


def _thread_ends(_name: str) -> None:
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        threading._active.pop(threading.get_ident(), None)  # type: ignore[attr-defined]


async def to_thread(func: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Call func(*args, **kwargs) in a thread, in a copy of the current context; return its result.

    The thread is one of the loop's default executor: RuntimeError once that was shut down. If this
    is cancelled a call that has begun goes on, and its outcome is dropped.
    """
    loop: Any = asyncio.get_running_loop()
    if isinstance(loop, BaseLoop):
        result: _T = await loop._to_thread(func, args, kwargs)
        return result
    context = contextvars.copy_context()
    result = await loop.run_in_executor(None, functools.partial(context.run, func, *args, **kwargs))
    return result


class ExecutorMethods(BaseLoop):
    """What `ioxide.EventLoop` has for executors, beside `run_in_executor`."""

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Run what run_in_executor(None, ...) is given in any `concurrent.futures.Executor`.

        TypeError for anything else. Without this it is a pool of threads of ioxide's own.
        """
        if not isinstance(executor, concurrent.futures.Executor):
            raise TypeError("executor must be ThreadPoolExecutor instance, or another Executor")
        self._default_executor: Any = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Refuse new work for the default executor, and wait until its threads have ended.

        After `timeout` seconds a RuntimeWarning is given and the threads are left to themselves;
        None waits for as long as it takes.
        """
        self._executor_shutdown_called = True
        await self._end_processes()
        executor = self._default_executor
        if executor is None or (type(executor) is ThreadPool and executor._end_at_once()):
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

    def _abandon_executor(self: Any) -> None:
        """At the end of the loop: take no more work, without waiting for what runs."""
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _shut_down(loop: Any, executor: Any, ended: Any) -> None:
    """Wait for the executor in a thread of its own, and tell the loop."""
    error = None
    try:
        executor.shutdown(wait=True)
    except Exception as raised:
        error = raised
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, ended, error)


def _settle(ended: Any, error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
