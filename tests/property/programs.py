"""Random programs as plain data: generation, shrinking and printing. Nothing here runs them.

A program is `{"eager": bool, "main": block}`; a block is a list of operations; an operation is a tuple whose first
item names it and whose other items are numbers, strings and blocks. `interpreter.py` gives each its meaning.
"""

from __future__ import annotations

import pprint
import random
import sys

DEPTH_MAX = 4
OBJECTS = 3
DELAY_MAX = 8


class Generator:
    """Makes one program from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = self.random.choice([15, 40, 80])

    def program(self) -> dict:
        return {
            # Before 3.14 a TaskGroup forgot a task that ended eagerly: the order of its end differed.
            "eager": sys.version_info >= (3, 14) and self.random.random() < 0.2,
            "main": [
                self.survived(self.operation(0))
                for _ in range(self.random.randint(5, 14))
                if self.budget > 0
            ],
        }

    def survived(self, operation: tuple) -> tuple:
        """Mostly guarded, so that a program is not over at its first failure."""
        return ("catch", [operation], "all") if self.random.random() < 0.7 else operation

    def block(self, depth: int, least: int = 1, most: int = 5) -> list:
        return [
            self.operation(depth)
            for _ in range(self.random.randint(least, most))
            if self.budget > 0
        ]

    def blocks(self, depth: int) -> list:
        return [self.block(depth, 1, 4) for _ in range(self.random.randint(0, 4))]

    def index(self) -> int:
        return self.random.randrange(OBJECTS)

    def delay(self) -> int:
        return self.random.choice([0, 0, 0, *range(1, DELAY_MAX)])

    def any_task(self) -> int:
        return self.random.randrange(12)

    def operation(self, depth: int) -> tuple:
        self.budget -= 1
        names, weights = zip(*(_DEEP if depth < DEPTH_MAX else _FLAT).items(), strict=True)
        name = self.random.choices(names, weights)[0]
        return (name, *getattr(self, name, lambda _depth: ())(depth))

    def callback(self) -> tuple:
        name = self.random.choice(
            [
                "log",
                "set_event",
                "cancel",
                "set_future",
                "cancel_future",
                "put_nowait",
                "get_nowait",
                "fail",
                "release",
                "notify_later",
            ]
        )
        return (name, self.any_task())

    # Each method gives the operands of the operation of its name.
    def sleep(self, _):
        return (self.delay(),)

    def log(self, _):
        return (self.random.randrange(100),)

    def spawn(self, depth):
        return (self.block(depth + 1), self.random.random() < 0.3)

    def cancel(self, _):
        return (self.any_task(), self.random.choice([None, "why", "because"]))

    def join_task(self, _):
        return (self.any_task(),)

    def shield(self, _):
        return (self.any_task(),)

    def shield_block(self, depth):
        return (self.block(depth + 1),)

    def catch(self, depth):
        return (self.block(depth + 1), self.random.choice(["cancelled", "error", "all"]))

    def cleanup(self, depth):
        return (self.block(depth + 1), self.block(depth + 1, 1, 2))

    def fail(self, _):
        return (self.random.choice(["value", "lookup", "cancelled", "base"]),)

    def timeout(self, depth):
        return (self.random.choice([None, 0, *range(1, DELAY_MAX)]), self.block(depth + 1))

    def reschedule(self, depth):
        return (self.delay(), self.delay(), self.block(depth + 1))

    def wait_for(self, depth):
        return (self.random.choice([None, 0, *range(1, DELAY_MAX)]), self.block(depth + 1))

    def wait_for_task(self, _):
        return (self.random.choice([None, 0, *range(1, DELAY_MAX)]), self.any_task())

    def gather(self, depth):
        return (self.blocks(depth + 1), self.random.random() < 0.4)

    def gather_tasks(self, _):
        return ([self.any_task() for _ in range(3)], self.random.random() < 0.4)

    def wait(self, depth):
        return (
            self.blocks(depth + 1) or [[("sleep", 0)]],
            self.random.choice(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]),
            self.random.choice([None, 0, *range(1, DELAY_MAX)]),
        )

    def as_completed(self, depth):
        return (self.blocks(depth + 1), self.random.choice([None, *range(1, DELAY_MAX)]))

    def group(self, depth):
        return (self.blocks(depth + 1), self.block(depth + 1, 0, 3))

    def lock(self, depth):
        return (self.index(), self.block(depth + 1, 0, 3))

    def semaphore(self, depth):
        return (self.index(), self.block(depth + 1, 0, 3))

    def release_semaphore(self, _):
        return (self.index(),)

    def condition_wait(self, _):
        return (self.index(),)

    def condition_wait_for(self, _):
        return (self.index(), self.random.randrange(3))

    def condition_notify(self, _):
        return (self.index(), self.random.choice([1, 1, 2, None]))

    def wait_event(self, _):
        return (self.index(),)

    def set_event(self, _):
        return (self.index(),)

    def clear_event(self, _):
        return (self.index(),)

    def barrier(self, depth):
        return (self.index(), self.block(depth + 1, 0, 2))

    def barrier_reset(self, _):
        return (self.index(),)

    def barrier_abort(self, _):
        return (self.index(),)

    def put(self, _):
        return (self.index(), self.random.randrange(10))

    def get(self, _):
        return (self.index(),)

    def put_nowait(self, _):
        return (self.index(), self.random.randrange(10))

    def get_nowait(self, _):
        return (self.index(),)

    def task_done(self, _):
        return (self.index(),)

    def join_queue(self, _):
        return (self.index(),)

    def shutdown_queue(self, _):
        return (self.index(), self.random.random() < 0.4)

    def await_future(self, _):
        return (self.index(),)

    def set_future(self, _):
        return (self.index(),)

    def fail_future(self, _):
        return (self.index(),)

    def cancel_future(self, _):
        return (self.index(),)

    def new_future(self, _):
        return (self.index(),)

    def call_soon(self, _):
        return (self.callback(),)

    def call_later(self, _):
        return (self.delay(), self.callback())

    def cancel_handle(self, _):
        return (self.random.randrange(6),)

    def on_done(self, _):
        return (self.any_task(), self.random.randrange(100))

    def generator(self, depth):
        return (self.block(depth + 1), self.random.randrange(3))

    def set_variable(self, _):
        return (self.random.randrange(100),)


_FLAT = {
    "sleep": 14,
    "log": 3,
    "cancel": 6,
    "uncancel": 1,
    "join_task": 6,
    "shield": 4,
    "fail": 2,
    "wait_for_task": 3,
    "gather_tasks": 2,
    "release_semaphore": 1,
    "condition_wait": 2,
    "condition_wait_for": 1,
    "condition_notify": 3,
    "wait_event": 3,
    "set_event": 4,
    "clear_event": 1,
    "barrier_reset": 1,
    "barrier_abort": 1,
    "put": 4,
    "get": 4,
    "put_nowait": 2,
    "get_nowait": 2,
    "task_done": 2,
    "join_queue": 1,
    "await_future": 3,
    "set_future": 3,
    "fail_future": 1,
    "cancel_future": 1,
    "new_future": 1,
    "call_soon": 4,
    "call_later": 4,
    "cancel_handle": 2,
    "on_done": 3,
    "set_variable": 1,
    "state": 2,
}
_DEEP = _FLAT | {
    "spawn": 22,
    "shield_block": 4,
    "catch": 8,
    "cleanup": 5,
    "timeout": 7,
    "reschedule": 2,
    "wait_for": 5,
    "gather": 5,
    "wait": 4,
    "as_completed": 3,
    "group": 5,
    "lock": 6,
    "semaphore": 4,
    "barrier": 2,
    "generator": 2,
}
if sys.version_info >= (3, 13):
    _FLAT["shutdown_queue"] = _DEEP["shutdown_queue"] = 1
# What an older asyncio does otherwise than the newest, which is the reference, is not compared there.
_CHANGED = {
    (3, 12): ("wait_for", "wait_for_task", "semaphore", "release_semaphore", "gather_tasks"),
    (3, 13): ("uncancel", "condition_wait", "condition_wait_for", "group"),
}
for _version, _names in _CHANGED.items():
    for _name in _names if sys.version_info < _version else ():
        _FLAT.pop(_name, None)
        _DEEP.pop(_name, None)


def generate(seed: int) -> dict:
    """The program of this seed, on this version of Python."""
    return Generator(seed).program()


def shrink(program: dict, still_fails) -> dict:
    """The smallest program found by leaving out operations, one after the other, while `still_fails`."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(program):
            if still_fails(candidate):
                program, smaller = candidate, True
                break
    return program


def _smaller(program: dict):
    if program["eager"]:
        yield program | {"eager": False}
    for block in _smaller_blocks(program["main"]):
        yield program | {"main": block}


def _smaller_blocks(block: list):
    for i in range(len(block)):
        yield block[:i] + block[i + 1 :]
    for i, operation in enumerate(block):
        for j, operand in enumerate(operation):
            for smaller in _smaller_operands(operand):
                yield [*block[:i], (*operation[:j], smaller, *operation[j + 1 :]), *block[i + 1 :]]


def _smaller_operands(operand):
    if not isinstance(operand, list) or not operand:
        return
    if isinstance(operand[0], tuple):
        yield from _smaller_blocks(operand)
    elif isinstance(operand[0], list):
        for i in range(len(operand)):
            yield operand[:i] + operand[i + 1 :]
            for smaller in _smaller_blocks(operand[i]):
                yield [*operand[:i], smaller, *operand[i + 1 :]]


def show(program: dict) -> str:
    """The program as one can read it, and paste it into a test."""
    return pprint.pformat(program, width=100, compact=True)
