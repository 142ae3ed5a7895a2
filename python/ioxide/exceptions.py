"""asyncio's exceptions, and the one that Pythons before 3.13 lack."""

from __future__ import annotations

import sys
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

if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown
else:

    class QueueShutDown(Exception):
        """Raised when putting on to or getting from a queue that has been shut down."""
