"""Signal handlers that run on the loop: the only file that owns a signal's disposition.

The interpreter writes the number of each signal into a pipe, which wakes the loop. So no signal is
lost between the registration and the first turn, and every single one of a burst is told of, as
long as the pipe holds them (64 KiB: one byte each). Should it ever be full, the interpreter's own
handler remembers which signals came, and each of those is told of once.
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import inspect
import logging
import os
import signal
import sys
import termios
import warnings
import weakref
from collections.abc import Callable
from typing import Any, TypeVarTuple

from ._ioxide import BaseLoop, Handle

logger = logging.getLogger("asyncio")

_Ts = TypeVarTuple("_Ts")

_PIPE_BYTES = 65536

_loops: weakref.WeakSet[SignalMethods] = weakref.WeakSet()


class _Signals:
    """The handlers of one loop, and what was there before them."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.earlier: dict[int, Any] = {}
        self.earlier_fd = -1
        self.missed: set[int] = set()
        self.closed = False
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if fcntl.fcntl(self.writer, fcntl.F_GETPIPE_SZ) < _PIPE_BYTES:  # a user with many pipes
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._capacity = fcntl.fcntl(self.writer, fcntl.F_GETPIPE_SZ)

    def note(self, number: int, _frame: object) -> None:
        """Stand in as the interpreter's handler: remember what the pipe may have had no room for."""
        if self.closed:
            return  # a forked child, or somebody who has put this back after the loop was closed
        filled = array.array("i", [0])
        fcntl.ioctl(self.reader, termios.FIONREAD, filled)
        if filled[0] >= self._capacity:
            self.missed.add(number)

    def take(self) -> list[int]:
        """Return the signals that have come since the last time, in their order."""
        numbers: list[int] = []
        while True:
            try:
                data = os.read(self.reader, _PIPE_BYTES)
            except BlockingIOError:
                break
            numbers.extend(data)
            if len(data) < _PIPE_BYTES:
                break
        missed, self.missed = self.missed.difference(numbers), set()
        return numbers + sorted(missed)

    def close(self) -> None:
        self.closed = True
        os.close(self.reader)
        os.close(self.writer)


class SignalMethods(BaseLoop):
    """What `ioxide.EventLoop` has for signals."""

    _signals: _Signals | None = None

    @property
    def _signal_handlers(self) -> dict[int, Any]:
        return self._signals.handlers if self._signals is not None else {}

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call callback(*args) on the loop whenever the signal comes.

        ValueError for what is no signal, TypeError for a coroutine; RuntimeError in any thread but
        the main one, and for signals that cannot be caught. What handled the signal before does so again after close().
        """
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        signals = self._open_signals()
        before = signals.handlers.get(sig)
        signals.handlers[sig] = Handle(callback, args, self, None)
        try:
            earlier = signal.signal(sig, signals.note)
            # System calls that the signal interrupts are begun again.
            signal.siginterrupt(sig, False)
        except (OSError, ValueError) as error:
            del signals.handlers[sig]
            self._close_signals_if_unused()
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise RuntimeError(f"sig {sig} cannot be caught") from error
        if before is None:
            signals.earlier[sig] = earlier
        else:
            before.cancel()

    def remove_signal_handler(self, sig: int) -> bool:
        """Give the signal its default disposition; False if the loop did not handle it.

        ValueError for what is no signal.
        """
        _check_signal(sig)
        signals = self._signals
        if signals is None or signals.handlers.pop(sig, None) is None:
            return False
        signals.earlier.pop(sig, None)
        default: Any = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise
        finally:
            self._close_signals_if_unused()
        return True

    def _handle_signal(self, sig: int) -> None:
        """Make the handler of the signal ready to run."""
        handle = self._signal_handlers.get(sig)
        if handle is not None:
            self._add_callback_signalsafe(handle)

    def _read_signals(self) -> None:
        if self._signals is not None:
            for number in self._signals.take():
                self._handle_signal(number)

    def _open_signals(self) -> _Signals:
        if self._signals is not None:
            return self._signals
        signals = _Signals()
        try:
            # Refuses any thread but the main one.
            signals.earlier_fd = signal.set_wakeup_fd(signals.writer, warn_on_full_buffer=False)
        except (ValueError, OSError) as error:
            signals.close()
            raise RuntimeError(str(error)) from None
        self._add_reader(signals.reader, self._read_signals)
        self._signals = signals
        _loops.add(self)
        return signals

    def _close_signals_if_unused(self) -> None:
        signals = self._signals
        if signals is None or signals.handlers:
            return
        self._signals = None
        _loops.discard(self)
        self.remove_reader(signals.reader)
        try:
            _give_back_wakeup_fd(signals)
        finally:
            signals.close()

    def _restore_signals(self) -> None:
        """At the end of the loop: whoever handled the signals before does so again."""
        signals = self._signals
        if signals is None:
            return
        if sys.is_finalizing():
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            signals.handlers.clear()
            return
        for number, earlier in signals.earlier.items():
            # A handler that somebody else has put there in the meantime stays.
            if signal.getsignal(number) == signals.note:
                # None: it was not Python's, and cannot be put back from here.
                signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
        signals.handlers.clear()
        self._close_signals_if_unused()

    def _leave_signals_to_parent(self) -> None:
        """In a forked child: the pipe, and what comes through it, are the parent's."""
        signals, self._signals = self._signals, None
        if signals is None:
            return
        _give_back_wakeup_fd(signals, instead=-1)
        self.remove_reader(signals.reader)
        signals.close()


def _give_back_wakeup_fd(signals: _Signals, instead: int | None = None) -> None:
    try:
        current = signal.set_wakeup_fd(signals.earlier_fd if instead is None else instead)
        if current not in (signals.writer, -1):
            # Somebody has taken it over: it stays theirs.
            signal.set_wakeup_fd(current)
    except (ValueError, OSError) as error:
        logger.info("set_wakeup_fd(-1) failed: %s", error)


def _check_signal(sig: Any) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _in_forked_child() -> None:
    for loop in list(_loops):
        loop._leave_signals_to_parent()
    _loops.clear()


os.register_at_fork(after_in_child=_in_forked_child)
