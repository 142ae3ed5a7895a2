"""Types of the façade. What asyncio's own stubs describe is taken from there."""

import asyncio
import sys
from asyncio import (
    ALL_COMPLETED as ALL_COMPLETED,
    FIRST_COMPLETED as FIRST_COMPLETED,
    FIRST_EXCEPTION as FIRST_EXCEPTION,
    AbstractEventLoop as AbstractEventLoop,
    AbstractServer as AbstractServer,
    Barrier as Barrier,
    BaseEventLoop as BaseEventLoop,
    BaseProtocol as BaseProtocol,
    BaseTransport as BaseTransport,
    BoundedSemaphore as BoundedSemaphore,
    BrokenBarrierError as BrokenBarrierError,
    BufferedProtocol as BufferedProtocol,
    CancelledError as CancelledError,
    Condition as Condition,
    DatagramProtocol as DatagramProtocol,
    DatagramTransport as DatagramTransport,
    Event as Event,
    Handle as Handle,
    IncompleteReadError as IncompleteReadError,
    InvalidStateError as InvalidStateError,
    LimitOverrunError as LimitOverrunError,
    Lock as Lock,
    Protocol as Protocol,
    QueueEmpty as QueueEmpty,
    QueueFull as QueueFull,
    ReadTransport as ReadTransport,
    Semaphore as Semaphore,
    SendfileNotAvailableError as SendfileNotAvailableError,
    StreamReader as StreamReader,
    StreamReaderProtocol as StreamReaderProtocol,
    StreamWriter as StreamWriter,
    SubprocessProtocol as SubprocessProtocol,
    SubprocessTransport as SubprocessTransport,
    Timeout as Timeout,
    TimeoutError as TimeoutError,
    TimerHandle as TimerHandle,
    Transport as Transport,
    WriteTransport as WriteTransport,
    _enter_task as _enter_task,
    _get_running_loop as _get_running_loop,
    _leave_task as _leave_task,
    _register_task as _register_task,
    _set_running_loop as _set_running_loop,
    _unregister_task as _unregister_task,
    all_tasks as all_tasks,
    as_completed as as_completed,
    create_subprocess_exec as create_subprocess_exec,
    create_subprocess_shell as create_subprocess_shell,
    create_task as create_task,
    current_task as current_task,
    ensure_future as ensure_future,
    gather as gather,
    get_event_loop_policy as get_event_loop_policy,
    get_running_loop as get_running_loop,
    iscoroutine as iscoroutine,
    iscoroutinefunction as iscoroutinefunction,
    isfuture as isfuture,
    run_coroutine_threadsafe as run_coroutine_threadsafe,
    set_event_loop as set_event_loop,
    set_event_loop_policy as set_event_loop_policy,
    shield as shield,
    sleep as sleep,
    subprocess as subprocess,
    timeout as timeout,
    timeout_at as timeout_at,
    to_thread as to_thread,
    wait as wait,
    wait_for as wait_for,
    wrap_future as wrap_future,
)
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Protocol as _TypingProtocol, TypeVar

from _typeshed import SupportsRichComparison

from . import files as files
from ._install import install as install, uninstall as uninstall
from ._policy import get_event_loop as get_event_loop, new_event_loop as new_event_loop
from ._process_pool import to_process as to_process
from ._streams import (
    open_connection as open_connection,
    open_unix_connection as open_unix_connection,
    start_server as start_server,
    start_unix_server as start_unix_server,
)
from .exceptions import QueueShutDown as QueueShutDown
from .graph import (
    FrameCallGraphEntry as FrameCallGraphEntry,
    FutureCallGraph as FutureCallGraph,
    capture_call_graph as capture_call_graph,
    format_call_graph as format_call_graph,
    print_call_graph as print_call_graph,
)
from .runners import Runner as Runner, run as run

if sys.version_info < (3, 14):
    from asyncio import (
        AbstractChildWatcher as AbstractChildWatcher,
        AbstractEventLoopPolicy as AbstractEventLoopPolicy,
        DefaultEventLoopPolicy as DefaultEventLoopPolicy,
        FastChildWatcher as FastChildWatcher,
        MultiLoopChildWatcher as MultiLoopChildWatcher,
        PidfdChildWatcher as PidfdChildWatcher,
        SafeChildWatcher as SafeChildWatcher,
        ThreadedChildWatcher as ThreadedChildWatcher,
        get_child_watcher as get_child_watcher,
        set_child_watcher as set_child_watcher,
    )

__version__: str
__all__: list[str]

# For a type checker it is asyncio's own loop: it has the same methods with the same signatures.
class EventLoop(asyncio.SelectorEventLoop):
    def __init__(self, *, clock: str = "monotonic", backend: str | None = None) -> None: ...
    @property
    def backend(self) -> str: ...

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
    def get_context(self) -> Context: ...

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
