"""Types of the façade. What asyncio's own stubs describe is taken from there."""

import asyncio
import sys
from asyncio import (
    ALL_COMPLETED as ALL_COMPLETED,
)
from asyncio import (
    FIRST_COMPLETED as FIRST_COMPLETED,
)
from asyncio import (
    FIRST_EXCEPTION as FIRST_EXCEPTION,
)
from asyncio import (
    AbstractEventLoop as AbstractEventLoop,
)
from asyncio import (
    AbstractServer as AbstractServer,
)
from asyncio import (
    Barrier as Barrier,
)
from asyncio import (
    BaseEventLoop as BaseEventLoop,
)
from asyncio import (
    BaseProtocol as BaseProtocol,
)
from asyncio import (
    BaseTransport as BaseTransport,
)
from asyncio import (
    BoundedSemaphore as BoundedSemaphore,
)
from asyncio import (
    BrokenBarrierError as BrokenBarrierError,
)
from asyncio import (
    BufferedProtocol as BufferedProtocol,
)
from asyncio import (
    CancelledError as CancelledError,
)
from asyncio import (
    Condition as Condition,
)
from asyncio import (
    DatagramProtocol as DatagramProtocol,
)
from asyncio import (
    DatagramTransport as DatagramTransport,
)
from asyncio import (
    Event as Event,
)
from asyncio import (
    Handle as Handle,
)
from asyncio import (
    IncompleteReadError as IncompleteReadError,
)
from asyncio import (
    InvalidStateError as InvalidStateError,
)
from asyncio import (
    LimitOverrunError as LimitOverrunError,
)
from asyncio import (
    Lock as Lock,
)
from asyncio import (
    Protocol as Protocol,
)
from asyncio import (
    QueueEmpty as QueueEmpty,
)
from asyncio import (
    QueueFull as QueueFull,
)
from asyncio import (
    ReadTransport as ReadTransport,
)
from asyncio import (
    Semaphore as Semaphore,
)
from asyncio import (
    SendfileNotAvailableError as SendfileNotAvailableError,
)
from asyncio import (
    StreamReader as StreamReader,
)
from asyncio import (
    StreamReaderProtocol as StreamReaderProtocol,
)
from asyncio import (
    StreamWriter as StreamWriter,
)
from asyncio import (
    SubprocessProtocol as SubprocessProtocol,
)
from asyncio import (
    SubprocessTransport as SubprocessTransport,
)
from asyncio import (
    Timeout as Timeout,
)
from asyncio import (
    TimeoutError as TimeoutError,
)
from asyncio import (
    TimerHandle as TimerHandle,
)
from asyncio import (
    Transport as Transport,
)
from asyncio import (
    WriteTransport as WriteTransport,
)
from asyncio import (
    _enter_task as _enter_task,
)
from asyncio import (
    _get_running_loop as _get_running_loop,
)
from asyncio import (
    _leave_task as _leave_task,
)
from asyncio import (
    _register_task as _register_task,
)
from asyncio import (
    _set_running_loop as _set_running_loop,
)
from asyncio import (
    _unregister_task as _unregister_task,
)
from asyncio import (
    all_tasks as all_tasks,
)
from asyncio import (
    as_completed as as_completed,
)
from asyncio import (
    create_subprocess_exec as create_subprocess_exec,
)
from asyncio import (
    create_subprocess_shell as create_subprocess_shell,
)
from asyncio import (
    create_task as create_task,
)
from asyncio import (
    current_task as current_task,
)
from asyncio import (
    ensure_future as ensure_future,
)
from asyncio import (
    gather as gather,
)
from asyncio import get_event_loop_policy as get_event_loop_policy
from asyncio import (
    get_running_loop as get_running_loop,
)
from asyncio import (
    iscoroutine as iscoroutine,
)
from asyncio import (
    iscoroutinefunction as iscoroutinefunction,
)
from asyncio import (
    isfuture as isfuture,
)
from asyncio import (
    run_coroutine_threadsafe as run_coroutine_threadsafe,
)
from asyncio import (
    set_event_loop as set_event_loop,
)
from asyncio import set_event_loop_policy as set_event_loop_policy
from asyncio import (
    shield as shield,
)
from asyncio import (
    sleep as sleep,
)
from asyncio import subprocess as subprocess
from asyncio import (
    timeout as timeout,
)
from asyncio import (
    timeout_at as timeout_at,
)
from asyncio import (
    to_thread as to_thread,
)
from asyncio import (
    wait as wait,
)
from asyncio import (
    wait_for as wait_for,
)
from asyncio import (
    wrap_future as wrap_future,
)
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar
from typing import Protocol as _TypingProtocol

from _typeshed import SupportsRichComparison

from ._install import install as install
from ._install import uninstall as uninstall
from ._ioxide import EventLoop as EventLoop
from ._policy import get_event_loop as get_event_loop
from ._policy import new_event_loop as new_event_loop
from ._streams import open_connection as open_connection
from ._streams import open_unix_connection as open_unix_connection
from ._streams import start_server as start_server
from ._streams import start_unix_server as start_unix_server
from .exceptions import QueueShutDown as QueueShutDown
from .graph import FrameCallGraphEntry as FrameCallGraphEntry
from .graph import FutureCallGraph as FutureCallGraph
from .graph import capture_call_graph as capture_call_graph
from .graph import format_call_graph as format_call_graph
from .graph import print_call_graph as print_call_graph
from .runners import Runner as Runner
from .runners import run as run

if sys.version_info < (3, 14):
    from asyncio import AbstractChildWatcher as AbstractChildWatcher
    from asyncio import AbstractEventLoopPolicy as AbstractEventLoopPolicy
    from asyncio import DefaultEventLoopPolicy as DefaultEventLoopPolicy
    from asyncio import FastChildWatcher as FastChildWatcher
    from asyncio import MultiLoopChildWatcher as MultiLoopChildWatcher
    from asyncio import PidfdChildWatcher as PidfdChildWatcher
    from asyncio import SafeChildWatcher as SafeChildWatcher
    from asyncio import ThreadedChildWatcher as ThreadedChildWatcher
    from asyncio import get_child_watcher as get_child_watcher
    from asyncio import set_child_watcher as set_child_watcher

__version__: str
__all__: list[str]

SelectorEventLoop = EventLoop

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Comparable = TypeVar("_Comparable", bound=SupportsRichComparison)
_TaskT = TypeVar("_TaskT", bound=asyncio.Task[Any], covariant=True)
_Coro = Coroutine[Any, Any, _T] | Generator[Any, None, _T]

# Real subclasses of asyncio's.

class Future(asyncio.Future[_T]): ...

class Task(asyncio.Task[_T_co]):
    def __init__(
        self,
        coro: _Coro[_T_co],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = ...,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None: ...

# What newer Pythons added is there on every version. These take the place of asyncio's classes, so
# for a type checker they are asyncio's.

class TaskGroup(asyncio.TaskGroup):
    def cancel(self) -> None: ...

class Queue(asyncio.Queue[_T]):
    def shutdown(self, immediate: bool = False) -> None: ...

class LifoQueue(Queue[_T]): ...
class PriorityQueue(Queue[_Comparable]): ...

class Server(asyncio.Server):
    def close_clients(self) -> None: ...
    def abort_clients(self) -> None: ...

class _TaskFactory(_TypingProtocol[_TaskT]):
    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: _Coro[Any],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = True,
    ) -> _TaskT: ...

def create_eager_task_factory(
    custom_task_constructor: Callable[..., _TaskT],
) -> _TaskFactory[_TaskT]: ...
def eager_task_factory(
    loop: asyncio.AbstractEventLoop,
    coro: _Coro[_T],
    *,
    name: str | None = None,
    context: Context | None = None,
    eager_start: bool = True,
) -> Task[_T]: ...
def future_add_to_awaited_by(fut: asyncio.Future[Any], waiter: asyncio.Future[Any], /) -> None: ...
def future_discard_from_awaited_by(
    fut: asyncio.Future[Any], waiter: asyncio.Future[Any], /
) -> None: ...
