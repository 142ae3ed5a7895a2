"""No signal is lost, handlers run on the loop, and nothing of them is left when it closes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time

import pytest
from house.programs import python

import ioxide


@pytest.fixture
def loop():
    loop = ioxide.new_event_loop()
    yield loop
    loop.close()


def send(number=signal.SIGUSR1):
    os.kill(os.getpid(), number)


def run_until(loop, condition):
    async def main():
        while not condition():
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 50))


def test_signal_before_the_first_turn_is_told_of(loop):
    came = []
    loop.add_signal_handler(signal.SIGUSR1, came.append, 1)
    send()
    run_until(loop, lambda: came)
    assert came == [1]


def test_sleeping_loop_is_woken(loop):
    loop.add_signal_handler(signal.SIGALRM, loop.stop)
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    loop.run_forever()


def test_handler_runs_on_the_loop_in_the_context_of_its_registration(loop):
    async def main():
        came = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, lambda: came.set_result(asyncio.get_running_loop()))
        send()
        assert await came is loop

    loop.run_until_complete(main())


def test_burst_is_told_of_completely_and_in_order(loop):
    came = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, came.append, number)
    expected = [signal.SIGUSR1, signal.SIGUSR2] * 5_000
    for number in expected:
        # To this very thread, which takes it at once: sent to the process, it could be given to
        # another thread that has not ended yet, and be merged there with the next.
        signal.raise_signal(number)
    run_until(loop, lambda: len(came) >= len(expected))
    assert came == expected


def test_signal_during_a_long_callback_is_told_of_after_it(loop):
    came = []

    def long():
        send()
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:  # busy, with every chance for Python to see the signal
            pass
        assert came == [], "a handler is a callback among others, and never interrupts one"
        loop.call_soon(came.append, "next callback")

    loop.add_signal_handler(signal.SIGUSR1, came.append, "signal")
    loop.call_soon(long)
    run_until(loop, lambda: len(came) == 2)
    assert set(came) == {"signal", "next callback"}


def test_signal_from_another_process_wakes_an_idle_loop(loop):
    async def main():
        came = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, came.set_result, True)
        process = await ioxide.create_subprocess_shell(f"kill -USR1 {os.getpid()}")
        assert await came
        assert await process.wait() == 0

    loop.run_until_complete(asyncio.wait_for(main(), 50))


def test_burst_from_another_thread_while_the_loop_works_is_told_of(loop):
    # The kernel merges equal signals that are pending: what counts is that the last one is heard.
    came = 0

    def count():
        nonlocal came
        came += 1

    async def main():
        thread.start()
        while thread.is_alive() or came == 0:
            await asyncio.sleep(0)
        heard = came
        assert 0 < heard <= 10_000
        send()
        while came == heard:
            await asyncio.sleep(0)

    loop.add_signal_handler(signal.SIGUSR1, count)
    thread = threading.Thread(target=lambda: [send() for _ in range(10_000)])
    loop.run_until_complete(asyncio.wait_for(main(), 50))
    thread.join()


def test_overflowing_pipe_loses_no_kind_of_signal(loop):
    came = set()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, came.add, number)
    while loop._signals.missed != {signal.SIGUSR1}:
        send()
    send(signal.SIGUSR2)
    run_until(loop, lambda: len(came) == 2)


def test_second_registration_replaces_the_first(loop):
    came = []
    loop.add_signal_handler(signal.SIGUSR1, came.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, came.append, "second")
    send()
    run_until(loop, lambda: came)
    assert came == ["second"]


def test_removed_handler_leaves_the_default_behind(loop):
    loop.add_signal_handler(signal.SIGINT, print)
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert loop.remove_signal_handler(signal.SIGINT) is False
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_closing_restores_what_was_there():
    def earlier(number, frame):
        raise AssertionError

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    before = signal.signal(signal.SIGUSR1, earlier)
    signal.set_wakeup_fd(ours.fileno())
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        loop = ioxide.new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.close()
        assert signal.getsignal(signal.SIGUSR1) is earlier
        assert signal.set_wakeup_fd(-1) == ours.fileno()
        assert len(os.listdir("/proc/self/fd")) == descriptors
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        ours.close()
        theirs.close()


def test_closing_leaves_a_later_handler_alone():
    loop = ioxide.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    loop.close()
    assert signal.signal(signal.SIGUSR1, signal.SIG_DFL) == signal.SIG_IGN


def test_handler_that_fails_is_reported_and_the_loop_goes_on(loop):
    reports, came = [], []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    loop.add_signal_handler(signal.SIGUSR2, came.append, 1)
    send()
    send(signal.SIGUSR2)
    run_until(loop, lambda: came)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


async def coroutine():
    pass


@pytest.mark.parametrize(
    "number, callback, error",
    [
        (10_000, print, ValueError),
        (0, print, ValueError),
        ("SIGTERM", print, TypeError),
        (signal.SIGKILL, print, RuntimeError),
        (signal.SIGTERM, coroutine, TypeError),
    ],
)
def test_wrong_use_is_refused_and_leaves_nothing_behind(loop, number, callback, error):
    with pytest.raises(error):
        loop.add_signal_handler(number, callback)
    assert loop._signal_handlers == {}
    assert signal.set_wakeup_fd(-1) == -1


def test_other_threads_are_refused(loop):
    errors = []

    def register():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=register)
    thread.start()
    thread.join()
    assert len(errors) == 1 and "main thread" in errors[0]


def test_closed_loop_is_refused():
    loop = ioxide.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


INTERRUPTED = """
import ioxide, os, signal, sys, threading, time
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
async def main():
    threading.Timer(0.02, interrupt).start()
    try:
        await ioxide.sleep(60)
    finally:
        print("cleaned up")
try:
    ioxide.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""

INTERRUPTED_TWICE = """
import ioxide, os, signal, sys, threading, time
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
async def main():
    threading.Timer(0.02, interrupt).start()
    try:
        await ioxide.sleep(60)
    except ioxide.CancelledError:
        threading.Timer(0.02, interrupt).start()
        time.sleep(60)
try:
    ioxide.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "program, printed",
    [(INTERRUPTED, "cleaned up\ninterrupted\n"), (INTERRUPTED_TWICE, "interrupted\n")],
)
def test_control_c_ends_a_program(tmp_path, program, printed):
    assert python("-c", program, cwd=tmp_path) == (0, printed, "")


def test_fork_leaves_signals_of_the_parent_to_the_parent(tmp_path):
    program = """
import ioxide, os, signal
loop = ioxide.new_event_loop()
came = []
loop.add_signal_handler(signal.SIGUSR1, came.append, 1)
loop.add_signal_handler(signal.SIGUSR2, loop.stop)
if (pid := os.fork()) == 0:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.set_wakeup_fd(-1) == -1 and not loop._signal_handlers
    loop.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
os.kill(os.getpid(), signal.SIGUSR2)
loop.run_forever()
assert came == []
loop.close()
"""
    assert python("-W", "error", "-c", program, cwd=tmp_path) == (0, "", "")


def test_idle_loop_with_handlers_costs_nothing(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    before = time.process_time()
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert time.process_time() - before < 0.05
