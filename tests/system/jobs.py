"""What the tests have done in other processes: functions must be found by name there."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import time
from pathlib import Path

import ioxide

variable = contextvars.ContextVar("variable", default="the default")
calls = 0


class Unfit(Exception):
    """Cannot be put together from its arguments, as pickle tries to."""

    def __init__(self, one, two):
        super().__init__("unfit")


def count():
    """How often this process was here."""
    global calls
    calls += 1
    return os.getpid(), calls


def say(*args, **kwargs):
    return args, kwargs


def fail(message):
    raise ValueError(message)


def fail_unfit():
    raise Unfit(1, 2)


def give_lambda():
    return lambda: None


def context():
    return variable.get()


def die(code):
    os._exit(code)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    sys.exit(3)


def announce_and_sleep(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return os.getpid()


def big(size):
    return b"x" * size


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return "goes on"


def nested():
    return ioxide.run(ioxide.to_process(say, 1))


def loop_class():
    async def main():
        return type(asyncio.get_running_loop()).__module__

    return asyncio.run(main())


def standard_input():
    return sys.stdin.read()
