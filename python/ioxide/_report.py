"""What the log says about errors, slow callbacks and handles."""

from __future__ import annotations

import asyncio.format_helpers
import contextlib
import logging
import traceback
from typing import Any

logger = logging.getLogger("asyncio")

# Where the error came from, spelled out at length in the log.
_TRACEBACKS = {
    "source_traceback": "Object created at (most recent call last):\n",
    "handle_traceback": "Handle created at (most recent call last):\n",
}
_LEAVING = (SystemExit, KeyboardInterrupt)


def call_handler(loop: Any, handler: Any, context: dict[str, Any]) -> None:
    """Tell the handler of an error; whatever it raises is logged, but for what leaves the loop."""
    if handler is None:
        _call_default(loop, context, "Exception in default exception handler")
        return
    try:
        run = getattr(_context_of(context), "run", None)
        if run is None:
            handler(loop, context)
        else:
            run(handler, loop, context)
    except _LEAVING:
        raise
    except BaseException as error:
        _call_default(
            loop,
            {
                "message": "Unhandled error in exception handler",
                "exception": error,
                "context": context,
            },
            "Exception in default exception handler while handling an unexpected error "
            "in custom exception handler",
        )


def _call_default(loop: Any, context: dict[str, Any], failure: str) -> None:
    try:
        loop.default_exception_handler(context)
    except _LEAVING:
        raise
    except BaseException:
        # A subclass's default handler, or a log handler, may raise.
        logger.error(failure, exc_info=True)


def _context_of(context: dict[str, Any]) -> Any:
    """The contextvars.Context of what the error is about, so that the handler sees its variables."""
    for key in ("task", "future", "handle"):
        thing = context.get(key)
        if thing is not None:
            get = getattr(thing, "get_context", None)
            return get() if get is not None else None
    return None


def log_context(loop: Any, context: dict[str, Any]) -> None:
    """Log an error with everything that its context says."""
    message = context.get("message") or "Unhandled exception in event loop"
    exception = context.get("exception")
    lines = [message]
    for key in sorted(context):
        if key not in ("message", "exception"):
            lines.append(f"{key}: {_show(key, context[key])}")
    exc_info: Any = False
    if exception is not None:
        exc_info = (type(exception), exception, exception.__traceback__)
    logger.error("\n".join(lines), exc_info=exc_info)


def _show(key: str, value: Any) -> str:
    heading = _TRACEBACKS.get(key)
    if heading is None:
        return repr(value)
    return heading + "".join(traceback.format_list(value)).rstrip()


def slow_callback(thing: Any, duration: float) -> None:
    """Warn that something held the loop up for `duration` seconds."""
    logger.warning("Executing %s took %.3f seconds", repr(thing), duration)


def handle_repr(handle: Any) -> str:
    """The text of a Handle or TimerHandle."""
    parts = [type(handle).__name__]
    if handle._cancelled:
        parts.append("cancelled")
    if hasattr(handle, "_when"):
        parts.append(f"when={handle._when}")
    if handle._callback is not None:
        parts.append(_callback_source(handle))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        parts.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(parts)}>"


def _callback_source(handle: Any) -> str:
    describe: Any = asyncio.format_helpers._format_callback_source
    text: str
    with contextlib.suppress(TypeError):
        # From 3.13 on arguments are shown in debug mode only.
        text = describe(handle._callback, handle._args, debug=handle._loop.get_debug())
        return text
    text = describe(handle._callback, handle._args)
    return text
