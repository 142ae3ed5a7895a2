"""The whole of asyncio, in Rust.

Four ways in, none of which needs a change to a program that uses asyncio:

* `import ioxide as asyncio`
* `python -m ioxide program.py`, which runs the program as `python program.py` would
* `ioxide.install()`, after which every library finds ioxide under asyncio's names
* `ioxide.new_event_loop` wherever a loop factory is asked for
"""

from __future__ import annotations

import asyncio as _asyncio
import importlib as _importlib

# What is shared with asyncio: exceptions, abstract classes, constants and tests of identity are its
# own objects, so that either side recognises the other's.
from asyncio import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AbstractEventLoop,
    AbstractServer,
    BaseEventLoop,
    BaseProtocol,
    BaseTransport,
    BrokenBarrierError,
    BufferedProtocol,
    CancelledError,
    DatagramProtocol,
    DatagramTransport,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    Protocol,
    QueueEmpty,
    QueueFull,
    ReadTransport,
    SendfileNotAvailableError,
    SubprocessProtocol,
    SubprocessTransport,
    TimeoutError,
    Transport,
    WriteTransport,
    _get_running_loop,
    _set_running_loop,
    get_running_loop,
    iscoroutine,
    iscoroutinefunction,
    isfuture,
    set_event_loop,
)
from typing import Any as _Any

from . import _install
from ._executor import to_thread
from ._install import install, uninstall
from ._ioxide import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Future,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    Semaphore,
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    Task,
    TaskGroup,
    Timeout,
    TimerHandle,
    __version__ as __version__,
    _enter_task,
    _leave_task,
    _register_task,
    _unregister_task,
    all_tasks,
    as_completed,
    create_eager_task_factory,
    create_task,
    current_task,
    ensure_future,
    future_add_to_awaited_by,
    future_discard_from_awaited_by,
    gather,
    run_coroutine_threadsafe,
    shield,
    sleep,
    timeout,
    timeout_at,
    wait,
    wait_for,
    wrap_future,
)
from ._policy import get_event_loop, new_event_loop
from ._process_pool import to_process
from ._streams import open_connection, open_unix_connection, start_server, start_unix_server
from .event_loop import EventLoop
from .exceptions import QueueShutDown
from .graph import (
    FrameCallGraphEntry,
    FutureCallGraph,
    capture_call_graph,
    format_call_graph,
    print_call_graph,
)
from .runners import Runner, run
from .server import Server
from .subprocess import create_subprocess_exec, create_subprocess_shell

#: The one loop there is; the name is from the days when there was another for processes.
SelectorEventLoop = EventLoop

#: A task factory whose tasks begin at once, inside of who creates them.
eager_task_factory = create_eager_task_factory(Task)

#: Every public name of asyncio through 3.15, whichever Python runs, and ioxide's own.
__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AbstractEventLoop",
    "AbstractServer",
    "Barrier",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "Condition",
    "DatagramProtocol",
    "DatagramTransport",
    "Event",
    "EventLoop",
    "FrameCallGraphEntry",
    "Future",
    "FutureCallGraph",
    "Handle",
    "IncompleteReadError",
    "InvalidStateError",
    "LifoQueue",
    "LimitOverrunError",
    "Lock",
    "PriorityQueue",
    "Protocol",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReadTransport",
    "Runner",
    "SelectorEventLoop",
    "Semaphore",
    "SendfileNotAvailableError",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubprocessProtocol",
    "SubprocessTransport",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimeoutError",
    "TimerHandle",
    "Transport",
    "WriteTransport",
    "_enter_task",
    "_get_running_loop",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "all_tasks",
    "as_completed",
    "capture_call_graph",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "format_call_graph",
    "future_add_to_awaited_by",
    "future_discard_from_awaited_by",
    "gather",
    "get_event_loop",
    "get_event_loop_policy",
    "get_running_loop",
    "install",
    "iscoroutine",
    "iscoroutinefunction",
    "isfuture",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "print_call_graph",
    "run",
    "run_coroutine_threadsafe",
    "set_event_loop",
    "set_event_loop_policy",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_process",
    "to_thread",
    "uninstall",
    "wait",
    "wait_for",
    "wrap_future",
]

# The running Python's asyncio may have names that a newer one dropped, such as child watchers.
for _name in _asyncio.__all__:
    if _name not in globals():
        globals()[_name] = getattr(_asyncio, _name)
__all__ = sorted({*__all__, *_asyncio.__all__})

_install.learn({name: globals()[name] for name in __all__ if name in globals()})


def __getattr__(name: str) -> _Any:
    """Find `files`, asyncio's submodules, and what asyncio itself hands out with a warning."""
    if name == "files":
        # Programs that use no files need not import it.
        return _importlib.import_module("ioxide.files")
    from ._mirror import submodule

    try:
        return submodule(name)
    except AttributeError:
        if name.startswith("__") or not hasattr(_asyncio, name):
            raise
    return getattr(_asyncio, name)
