"""RayExecutor is an executor like any other: with Ray if it is installed, and with a stand-in.

Ray is large and takes seconds to start, so that it is not among the requirements. The stand-in has
what the executor uses of it, and does it as Ray does; the same tests hold for both.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import sys
import threading
import types

import pytest

import ioxide
from ioxide.executors import RayExecutor


class TaskError(Exception):
    """The base of what Ray raises for a task."""


class StandIn(types.ModuleType):
    """As much of Ray as the executor uses, on threads."""

    def __init__(self):
        super().__init__("ray")
        self.started = 0
        self.options = []
        self.cancelled = []

    def is_initialized(self):
        return self.started > 0

    def init(self, **options):
        self.started += 1

    def remote(self, function):
        return RemoteFunction(self, function, {})

    def cancel(self, reference):
        self.cancelled.append(reference)
        reference.cancelled.set()


class RemoteFunction:
    def __init__(self, ray, function, options):
        self.ray, self.function, self.given = ray, function, options

    def options(self, **options):
        return RemoteFunction(self.ray, self.function, options)

    def remote(self, *args, **kwargs):
        self.ray.options.append(self.given)
        return Reference(self.function, args, kwargs)


class Reference:
    """As Ray's: its futures are made when they are asked for, and cancelling one changes nothing."""

    def __init__(self, function, args, kwargs):
        self.cancelled, self.done = threading.Event(), threading.Event()
        self.outcome = self.error = None
        threading.Thread(target=self.run, args=(function, args, kwargs), daemon=True).start()

    def run(self, function, args, kwargs):
        try:
            self.outcome = function(*args, **kwargs)
        except Exception as error:
            kind = type(error)
            # Ray raises a subclass of the function's exception, with the traceback in its text.
            both = type(f"RayTaskError({kind.__name__})", (TaskError, kind), {})
            self.error = both(f"ray::_call()\n{kind.__name__}: {error}")
        self.done.set()

    def future(self):
        future = concurrent.futures.Future()

        def pass_on():
            self.done.wait()
            if self.error is not None:
                future.set_exception(self.error)
            else:
                future.set_result(self.outcome)

        threading.Thread(target=pass_on, daemon=True).start()
        return future


@pytest.fixture(scope="module")
def real_ray():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.fixture(params=["stand-in", "ray"])
def ray(request, monkeypatch):
    if request.param == "ray":
        if importlib.util.find_spec("ray") is None:
            pytest.skip("ray is not installed")
        return request.getfixturevalue("real_ray")
    module = StandIn()
    monkeypatch.setitem(sys.modules, "ray", module)
    return module


def run(main):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 60))


def test_results_come_back_to_the_loop(ray):
    async def main():
        loop = asyncio.get_running_loop()
        with RayExecutor() as executor:
            assert isinstance(executor, concurrent.futures.Executor)
            jobs = [loop.run_in_executor(executor, divmod, n, 7) for n in range(20)]
            assert await asyncio.gather(*jobs) == [divmod(n, 7) for n in range(20)]
            loop.set_default_executor(executor)
            assert await loop.run_in_executor(None, abs, -3) == 3

    run(main())


def test_an_exception_is_one_of_the_functions_class(ray):
    async def main():
        loop = asyncio.get_running_loop()
        with RayExecutor() as executor, pytest.raises(ValueError, match="invalid literal"):
            await loop.run_in_executor(executor, int, "bad luck")

    run(main())


def test_it_is_an_executor_without_a_loop_as_well(ray):
    with RayExecutor(num_cpus=1) as executor:
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        assert executor.submit(sorted, [2, 1], reverse=True).result(60) == [2, 1]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_options_are_those_of_a_task(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "ray", module)
    with RayExecutor(num_cpus=2, max_retries=1) as executor:
        assert executor.submit(int).result(50) == 0
    assert module.options == [{"num_cpus": 2, "max_retries": 1}]


def test_ray_is_started_once_and_only_if_nobody_has(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "ray", module)
    for _ in range(2):
        RayExecutor().shutdown()
    assert module.started == 1


def test_cancelled_future_cancels_the_task(ray, monkeypatch):
    cancelled = []
    cancel = ray.cancel
    monkeypatch.setattr(ray, "cancel", lambda ref: (cancelled.append(ref), cancel(ref)))
    if isinstance(ray, StandIn):
        gate = threading.Event()
        wait, release = gate.wait, gate.set
    else:
        import time

        wait, release = time.sleep, int

    async def main():
        loop = asyncio.get_running_loop()
        executor = RayExecutor()
        job = loop.run_in_executor(executor, wait, 30)
        other = loop.run_in_executor(executor, abs, -1)
        assert await other == 1
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        while not cancelled:  # the future is told by a callback of its own
            await asyncio.sleep(0)
        release()
        executor.shutdown()

    run(main())


def test_shutdown_cancels_what_is_pending_if_told_so(monkeypatch):
    module, gate = StandIn(), threading.Event()
    monkeypatch.setitem(sys.modules, "ray", module)
    executor = RayExecutor()
    futures = [executor.submit(gate.wait, 30) for _ in range(3)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert len(module.cancelled) == 3
    gate.set()


def test_without_ray_the_import_fails_when_the_executor_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError):
        RayExecutor()
