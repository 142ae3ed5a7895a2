"""Signal handlers: none is lost, none stays behind."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from harness import child
from harness.implementation import run_turns

SIGNAL = signal.SIGUSR1


@pytest.fixture(autouse=True)
def _dispositions_are_restored():
    before = signal.getsignal(SIGNAL)
    yield
    assert signal.getsignal(SIGNAL) == before, "a handler stayed"
    fd = signal.set_wakeup_fd(-1)
    assert fd == -1, "a wake-up descriptor stayed"


def test_handler_runs_with_its_arguments(loop):
    log = []
    loop.add_signal_handler(SIGNAL, lambda *args: (log.append(args), loop.stop()), 1, "two")
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    loop.run_forever()
    assert log == [(1, "two")]
    assert loop.remove_signal_handler(SIGNAL) is True
    assert loop.remove_signal_handler(SIGNAL) is False


def test_signal_between_add_and_the_first_turn_is_not_lost(loop):
    log = []
    loop.add_signal_handler(SIGNAL, lambda: (log.append(1), loop.stop()))
    os.kill(os.getpid(), SIGNAL)
    loop.run_forever()
    assert log == [1]
    loop.remove_signal_handler(SIGNAL)


def test_signal_between_two_runs_is_not_lost(loop):
    log = []
    loop.add_signal_handler(SIGNAL, lambda: (log.append(1), loop.stop()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    os.kill(os.getpid(), SIGNAL)
    loop.run_forever()
    assert log == [1]
    loop.remove_signal_handler(SIGNAL)


def test_signal_wakes_a_sleeping_loop(loop):
    log = []
    loop.add_signal_handler(SIGNAL, lambda: (log.append("signal"), loop.stop()))
    timer = threading.Timer(0.03, os.kill, (os.getpid(), SIGNAL))
    timer.start()
    loop.call_later(15, lambda: (log.append("slept on"), loop.stop()))
    loop.run_forever()
    timer.join()
    assert log == ["signal"]
    loop.remove_signal_handler(SIGNAL)


@pytest.mark.slow
def test_burst_of_signals_runs_the_handler_and_never_more_often_than_sent(aio, loop):
    # asyncio's socket pair holds some 270 of them; beyond that each signal is a complaint on stderr.
    sent = 200 if aio.__name__ == "asyncio" else 10_000
    log = []
    loop.add_signal_handler(SIGNAL, log.append, 1)

    def burst():
        for _ in range(sent):
            os.kill(os.getpid(), SIGNAL)

    loop.call_soon(burst)
    run_turns(loop, 50)
    assert 1 <= len(log) <= sent
    # The loop still hears the next one.
    log.clear()
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    run_turns(loop)
    assert log == [1]
    loop.remove_signal_handler(SIGNAL)


def test_signals_sent_one_by_one_are_all_heard(loop):
    log = []
    loop.add_signal_handler(SIGNAL, lambda: again())

    def again():
        log.append(1)
        if len(log) < 200:
            os.kill(os.getpid(), SIGNAL)
        else:
            loop.stop()

    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    loop.run_forever()
    assert len(log) == 200
    loop.remove_signal_handler(SIGNAL)


def test_several_signals_each_reach_their_own_handler(loop):
    log = []
    signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGWINCH]
    for s in signals:
        loop.add_signal_handler(s, log.append, s)
    for s in signals:
        loop.call_soon(os.kill, os.getpid(), s)
    run_turns(loop)
    assert sorted(log) == sorted(signals)
    for s in signals:
        loop.remove_signal_handler(s)


def test_second_handler_replaces_the_first(loop):
    log = []
    loop.add_signal_handler(SIGNAL, log.append, "first")
    loop.add_signal_handler(SIGNAL, log.append, "second")
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    run_turns(loop)
    assert log == ["second"]
    assert loop.remove_signal_handler(SIGNAL)


def test_handler_may_remove_itself(loop):
    log = []

    def once():
        log.append(loop.remove_signal_handler(SIGNAL))
        loop.stop()

    loop.add_signal_handler(SIGNAL, once)
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    loop.run_forever()
    assert log == [True]


def test_close_removes_every_handler(aio):
    loop = aio.new_event_loop()
    loop.add_signal_handler(SIGNAL, print)
    loop.close()
    assert signal.getsignal(SIGNAL) == signal.SIG_DFL


def test_removed_interrupt_handler_gives_back_pythons_own(loop):
    loop.add_signal_handler(signal.SIGINT, print)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_run_in_the_context_of_their_registration(loop):
    import contextvars

    variable = contextvars.ContextVar("variable", default="nothing")
    log = []

    def register():
        variable.set("registered")
        loop.add_signal_handler(SIGNAL, lambda: (log.append(variable.get()), loop.stop()))

    contextvars.copy_context().run(register)
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    loop.run_forever()
    assert log == ["registered"]
    loop.remove_signal_handler(SIGNAL)


def test_python_level_handler_of_the_program_still_runs_while_the_loop_sleeps(loop):
    log = []
    previous = signal.signal(
        SIGNAL, lambda *_: (log.append(1), loop.call_soon_threadsafe(loop.stop))
    )
    try:
        timer = threading.Timer(0.03, os.kill, (os.getpid(), SIGNAL))
        timer.start()
        loop.call_later(15, lambda: (log.append("slept on"), loop.stop()))
        loop.run_forever()
        timer.join()
        assert log == [1]
    finally:
        signal.signal(SIGNAL, previous)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        ("SIGUSR1", TypeError),
        (None, TypeError),
        (0, ValueError),
        (100_000, ValueError),
        (-1, ValueError),
    ],
)
def test_wrong_signal_numbers_are_refused(loop, number, error):
    with pytest.raises(error):
        loop.add_signal_handler(number, print)
    with pytest.raises(error):
        loop.remove_signal_handler(number)


def test_uncatchable_signal_is_refused(loop):
    with pytest.raises((RuntimeError, OSError)):
        loop.add_signal_handler(signal.SIGKILL, print)


def test_coroutine_as_handler_is_refused(aio, loop):
    async def handler():
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(SIGNAL, handler)


def test_handler_outside_the_main_thread_is_refused(aio):
    caught = []

    def work():
        loop = aio.new_event_loop()
        try:
            loop.add_signal_handler(SIGNAL, print)
        except BaseException as error:
            caught.append(type(error))
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == [RuntimeError]


CTRL_C = """
    import os, signal, time
    async def main():
        aio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        try:
            await aio.sleep(100)
        except aio.CancelledError:
            print("cancelled", flush=True)
            raise
        finally:
            print("cleaned", flush=True)
    try:
        aio.run(main())
    except KeyboardInterrupt:
        print("KeyboardInterrupt", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_cancels_the_main_task_and_raises_keyboard_interrupt(aio):
    assert child.check(aio, CTRL_C).split("\n")[:3] == [
        "cancelled",
        "cleaned",
        "KeyboardInterrupt True",
    ]


def test_ctrl_c_from_outside_ends_a_program_with_the_signals_status(aio):
    import subprocess
    import sys

    script = child.source(
        aio,
        """
        async def main():
            print("started", flush=True)
            await aio.sleep(100)
        aio.run(main())
    """,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child.environment(),
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_second_ctrl_c_interrupts_at_once(aio):
    out = child.check(
        aio,
        """
        import os, signal, time
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await aio.sleep(100)
            except aio.CancelledError:
                print("cancelled", flush=True)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
                print("not interrupted")
        try:
            aio.run(main())
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
    """,
    )
    assert out.split() == ["cancelled", "KeyboardInterrupt"]


def test_second_ctrl_c_while_the_cleanup_awaits_ends_the_program(aio):
    import subprocess
    import sys

    script = child.source(
        aio,
        """
        async def main():
            print("started", flush=True)
            try:
                await aio.sleep(100)
            except aio.CancelledError:
                print("cancelled", flush=True)
                await aio.sleep(100)
        aio.run(main())
    """,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child.environment(),
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cancelled\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == -signal.SIGINT, errors


def test_ctrl_c_interrupts_a_busy_loop_of_callbacks(aio):
    out = child.check(
        aio,
        """
        import os, signal, threading
        async def main():
            loop = aio.get_running_loop()
            def again():
                loop.call_soon(again)
            again()
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await aio.sleep(100)
        try:
            aio.run(main())
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
    """,
    )
    assert out == "KeyboardInterrupt\n"


def test_ctrl_c_without_runner_leaves_run_forever(aio):
    out = child.check(
        aio,
        """
        import os, signal, threading
        loop = aio.new_event_loop()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("KeyboardInterrupt", loop.is_running())
        print(loop.run_until_complete(aio.sleep(0, "usable")))
        loop.close()
    """,
    )
    assert out == "KeyboardInterrupt False\nusable\n"
