"""`import ioxide as asyncio`: every name is there, and what is shared is the same object."""

from __future__ import annotations

import asyncio
import importlib

import pytest

import ioxide

SHARED = """
AbstractEventLoop AbstractServer BaseEventLoop BaseProtocol BaseTransport BrokenBarrierError
BufferedProtocol CancelledError DatagramProtocol DatagramTransport IncompleteReadError
InvalidStateError LimitOverrunError Protocol QueueEmpty QueueFull ReadTransport
SendfileNotAvailableError SubprocessProtocol SubprocessTransport TimeoutError Transport
WriteTransport ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION iscoroutine isfuture get_running_loop
""".split()

NEW_IN_3_15_OR_BEFORE = """
EventLoop QueueShutDown FrameCallGraphEntry FutureCallGraph capture_call_graph format_call_graph
print_call_graph create_eager_task_factory eager_task_factory future_add_to_awaited_by
future_discard_from_awaited_by TaskGroup Timeout timeout timeout_at Runner Barrier
""".split()


def test_all_is_sorted_and_covers_the_running_asyncio():
    assert ioxide.__all__ == sorted(ioxide.__all__)
    assert set(asyncio.__all__) <= set(ioxide.__all__)


def test_every_name_in_all_exists():
    assert [name for name in ioxide.__all__ if not hasattr(ioxide, name)] == []


@pytest.mark.parametrize("name", NEW_IN_3_15_OR_BEFORE)
def test_names_of_newer_pythons_exist_on_every_version(name):
    assert name in ioxide.__all__ and hasattr(ioxide, name)


@pytest.mark.parametrize("name", SHARED)
def test_shared_objects_are_asyncios_own(name):
    assert getattr(ioxide, name) is getattr(asyncio, name)


@pytest.mark.parametrize("name", ["Task", "Future"])
def test_tasks_and_futures_are_real_subclasses(name):
    assert issubclass(getattr(ioxide, name), getattr(asyncio, name))


def test_submodules_show_ioxides_names_and_asyncios_rest():
    assert ioxide.queues.Queue is ioxide.Queue
    assert ioxide.tasks.Task is ioxide.Task
    assert ioxide.exceptions.CancelledError is asyncio.CancelledError
    assert ioxide.subprocess.PIPE == asyncio.subprocess.PIPE
    assert ioxide.coroutines.iscoroutine is asyncio.iscoroutine
    assert ioxide.runners.run is ioxide.run


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'ioxide' has no attribute 'no_such_name'"):
        _ = ioxide.no_such_name
    assert importlib.util.find_spec("ioxide.no_such_name") is None


def test_queue_shut_down_is_one_exception():
    assert ioxide.QueueShutDown is ioxide.exceptions.QueueShutDown
    assert getattr(asyncio, "QueueShutDown", ioxide.QueueShutDown) is ioxide.QueueShutDown
