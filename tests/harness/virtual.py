"""A loop whose clock jumps to the next deadline when nothing is ready, so that delays cost no time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the clock where the real one would sleep."""

    now = 0.0

    def select(self, timeout=None):
        # No timeout means that only another thread or the kernel can end the wait: really wait.
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class _OrderedTimer(asyncio.TimerHandle):
    """A timer which comes after those made before it for the same instant: asyncio's heap leaves that open."""

    _made = itertools.count()

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._place = next(self._made)

    def __lt__(self, other) -> bool:
        return (self._when, self._place) < (other._when, other._place)


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop with a virtual clock that starts at zero."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector())
        # asyncio fires what is due *before* now + resolution: below any delay of a test, but not zero.
        self._clock_resolution = 2.0**-30

    def time(self) -> float:
        return self._selector.now

    def call_at(self, when, callback, *args, context=None):
        self._check_closed()
        timer = _OrderedTimer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer


def new_virtual_loop(name: str):
    """A loop with a virtual clock: asyncio's, or that of the module `name`."""
    if name == "asyncio":
        return VirtualLoop()
    import ioxide

    return ioxide.EventLoop(clock="virtual")
