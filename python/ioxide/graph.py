"""The only file that reads who awaits whom: the call graph of tasks and futures."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, TextIO

__all__ = (
    "FrameCallGraphEntry",
    "FutureCallGraph",
    "capture_call_graph",
    "format_call_graph",
    "print_call_graph",
)

# Real subclasses, so that asyncio's own tasks and ioxide's are both instances.
_Future: Any = asyncio.Future
_Task: Any = asyncio.Task

#: What is native has no frames of its own: the coroutines by which asyncio shows it, outermost first.
_NATIVE_STACKS = {
    "TaskGroup.__aexit__": ("__aexit__", "_aexit"),
    "_AsCompletedIterator._wait_for_one": ("_wait_for_one", "get"),
    "_AsCompletedIterator.__anext__": ("__anext__", "_wait_for_one", "get"),
    "wait": ("wait", "_wait"),
}

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_RESUMABLE = _ASYNC | inspect.CO_GENERATOR


@dataclasses.dataclass(frozen=True, slots=True)
class FrameCallGraphEntry:
    """One frame of a call stack."""

    frame: FrameType


@dataclasses.dataclass(frozen=True, slots=True)
class FutureCallGraph:
    """A future, the stack of calls in which it waits, and the graphs of those who await it."""

    future: Any
    call_stack: tuple[FrameCallGraphEntry, ...]
    awaited_by: tuple[FutureCallGraph, ...]


def capture_call_graph(
    future: Any = None, /, *, depth: int = 1, limit: int | None = None
) -> FutureCallGraph | None:
    """Capture the graph of a future or task, or of the current task if none is given.

    Without a current task there is nothing to capture and None is returned; outside of a running
    loop a future must be given (RuntimeError).

    `depth` is the number of frames to leave out at the top of the current task's stack: with 1 it
    begins with the caller. `limit` keeps that many entries of each stack: the outermost ones if
    positive, the innermost if negative; with 0 no stack is captured.
    """
    running = asyncio._get_running_loop()
    current = None if running is None else asyncio.current_task(running)
    if future is None:
        if running is None:
            raise RuntimeError(
                "capture_call_graph() is called outside of a running "
                "event loop and no *future* to introspect was provided"
            )
        if current is None:
            return None
        future = current
    _check(future)
    if future is not current:
        return _graph_of(future, limit)
    stack = [] if limit == 0 else list(_running_stack(sys._getframe(depth)))
    if limit is not None:
        stack = stack[-limit:] if limit > 0 else stack[:-limit]
    return FutureCallGraph(future, _entries(stack), _awaiters(future, limit))


def format_call_graph(future: Any = None, /, *, depth: int = 1, limit: int | None = None) -> str:
    """Return the graph as indented lines. The arguments are those of capture_call_graph()."""
    graph = capture_call_graph(future, depth=depth + 1, limit=limit)
    return "" if graph is None else "\n".join(_lines(graph))


def print_call_graph(
    future: Any = None,
    /,
    *,
    file: TextIO | None = None,
    depth: int = 1,
    limit: int | None = None,
) -> None:
    """Print the graph. The arguments are those of capture_call_graph() and of print()."""
    print(format_call_graph(future, depth=depth, limit=limit), file=file)


def _check(future: Any) -> None:
    if not isinstance(future, _Future):
        raise TypeError(f"{future!r} object does not appear to be compatible with asyncio.Future")


def _graph_of(future: Any, limit: int | None) -> FutureCallGraph:
    """The graph of a future which is not running now."""
    _check(future)
    stack = [] if limit == 0 else list(_waiting_stack(future))
    if limit is not None:
        stack = stack[:limit] if limit > 0 else stack[limit:]
    stack.reverse()
    return FutureCallGraph(future, _entries(stack), _awaiters(future, limit))


def _awaiters(future: Any, limit: int | None) -> tuple[FutureCallGraph, ...]:
    awaited_by = getattr(future, "_asyncio_awaited_by", None) or ()
    return tuple(_graph_of(parent, limit) for parent in awaited_by)


def _entries(frames: list[FrameType]) -> tuple[FrameCallGraphEntry, ...]:
    return tuple(FrameCallGraphEntry(frame) for frame in frames)


def _waiting_stack(future: Any) -> Iterator[Any]:
    """The frames of a suspended task, outermost first."""
    get_coro = getattr(future, "get_coro", None)
    awaitable = None if get_coro is None else get_coro()
    while awaitable is not None:
        for prefix in ("cr", "ag"):
            if hasattr(awaitable, f"{prefix}_await"):
                frame = getattr(awaitable, f"{prefix}_frame", None)
                awaited = getattr(awaitable, f"{prefix}_await")
                if frame is not None:
                    yield frame
                elif type(awaitable).__module__ == "ioxide" and awaitable.cr_suspended:
                    yield from _native_stack(awaitable.__qualname__, awaited)
                awaitable = awaited
                break
        else:
            return


def _native_stack(name: str, awaited: Any) -> Iterator[_NativeFrame]:
    """What stands for the frames of a native awaitable."""
    names: tuple[str, ...] = _NATIVE_STACKS.get(name, (name,))
    if name == "wait_for" and awaited is None:
        # It waits for the end of what had no time at all.
        names = (name, "_cancel_and_wait")
    for name in names:
        yield _NativeFrame(_native_code(name))


@functools.cache
def _native_code(name: str) -> CodeType:
    """The code of a coroutine of this name, for those who look at its name and kind."""

    async def template() -> None:
        """Never run."""

    return template.__code__.replace(
        co_name=name.rpartition(".")[2], co_qualname=name, co_filename="<ioxide>", co_firstlineno=1
    )


class _NativeFrame:
    """Stands for the frame of a coroutine where there is none."""

    f_back = None
    f_lineno = 1

    def __init__(self, code: CodeType) -> None:
        self.f_code = code
        self.f_generator = self
        self.cr_code = code
        self.f_locals: dict[str, Any] = {}
        self.f_globals: dict[str, Any] = {}


def _running_stack(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the current task, innermost first, down to the one its loop called."""
    while frame is not None:
        yield frame
        below = frame.f_back
        if (
            frame.f_code.co_flags & _ASYNC
            and below is not None
            and not below.f_code.co_flags & _RESUMABLE
        ):
            return
        frame = below


def _lines(graph: FutureCallGraph, indent: str = "") -> Iterator[str]:
    future = graph.future
    if isinstance(future, _Task):
        yield f"{indent}* Task(name={future.get_name()!r}, id={id(future):#x})"
    else:
        yield f"{indent}* Future(id={id(future):#x})"
    if graph.call_stack:
        yield f"{indent}  + Call stack:"
        for entry in graph.call_stack:
            yield f"{indent}  |   {_describe(entry.frame)}"
    if graph.awaited_by:
        yield f"{indent}  + Awaited by:"
        for parent in graph.awaited_by:
            yield from _lines(parent, indent + "    ")


def _describe(frame: FrameType) -> str:
    code = frame.f_code
    return f"File {code.co_filename!r}, line {frame.f_lineno}, in {_kind(code)}{code.co_qualname}()"


def _kind(code: CodeType) -> str:
    if code.co_flags & inspect.CO_COROUTINE:
        return "async "
    if code.co_flags & inspect.CO_ASYNC_GENERATOR:
        return "async generator "
    if code.co_flags & inspect.CO_GENERATOR:
        return "generator "
    return ""
