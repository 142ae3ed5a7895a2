"""What every test shares: the implementation under test, warnings as errors, and a time limit."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading

import pytest
from harness.implementation import IMPLEMENTATIONS, load

# Ends hangs only: nothing that passes comes near it, however busy the machine is.
LIMIT_S = float(os.environ.get("IOXIDE_TEST_LIMIT_S", "60"))
# A hang inside native code never returns to the interpreter, so the signal cannot end it: this does.
HARD_LIMIT_S = LIMIT_S * 2

_stderr_fd = os.dup(2)


class Overtime(KeyboardInterrupt):
    """Raised in the main thread when a test is over its time; leaves any loop, as Ctrl-C does."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line(
        "markers", "since(major, minor): what asyncio itself only does since this version"
    )
    config.addinivalue_line("markers", "slow: longer than a quarter of a second")
    config.addinivalue_line("markers", "libraries(name, ...): what a program imports")
    # A shell ignores it for what it starts in the background, and children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # Collections, of which each test has several, then look at its own objects only.
    gc.collect()
    gc.freeze()


@pytest.fixture(params=IMPLEMENTATIONS)
def aio(request: pytest.FixtureRequest):
    """The module to use in the place of `asyncio`."""
    if request.param == "asyncio":
        for mark in request.node.iter_markers("since"):
            if sys.version_info < mark.args:
                pytest.skip("asyncio does this since {}.{}".format(*mark.args))
    return load(request.param)


@pytest.fixture
def loop(aio):
    """A loop of the implementation, set as current, closed after the test."""
    loop = aio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _nothing_left():
    """What a test leaves behind is blamed on that test, not on the next one."""
    threads = set(threading.enumerate())
    yield
    assert asyncio._get_running_loop() is None, "a loop was left running"
    gc.collect()
    left = [t for t in set(threading.enumerate()) - threads if t.is_alive() and not t.daemon]
    for thread in left:
        thread.join(50)
    assert not any(t.is_alive() for t in left), f"threads were left: {left}"


def _overtime(_signum, _frame):
    raise Overtime


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item):
    previous = signal.signal(signal.SIGALRM, _overtime)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    faulthandler.dump_traceback_later(HARD_LIMIT_S, exit=True, file=_stderr_fd)
    try:
        return (yield)
    except Overtime:
        asyncio._set_running_loop(None)
        pytest.fail(f"the test took longer than {LIMIT_S:g} s")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
