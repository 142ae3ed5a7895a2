"""asyncio's exceptions, and the one that Pythons before 3.13 lack."""

from __future__ import annotations

import asyncio
from asyncio.exceptions import (
    BrokenBarrierError,
    CancelledError,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    SendfileNotAvailableError,
    TimeoutError,
)

__all__ = (
    "BrokenBarrierError",
    "CancelledError",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "QueueShutDown",
    "SendfileNotAvailableError",
    "TimeoutError",
)

if hasattr(asyncio, "QueueShutDown"):
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):
        """Raised when putting on to or getting from a queue that has been shut down."""
