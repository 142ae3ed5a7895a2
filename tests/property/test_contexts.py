"""Random programs that set variables, keep tokens and pass contexts around see the same values as on asyncio.

Tasks share a context until one of them changes something: what is checked here is that nobody can tell.
`IOXIDE_PROGRAMS=20000` runs more of them, `IOXIDE_SEED=7` others.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import gc
import os
import random
import sys
import weakref

import pytest
from harness.implementation import load
from harness.virtual import new_virtual_loop

PROGRAMS = int(os.environ.get("IOXIDE_PROGRAMS", "900"))
FIRST_SEED = int(os.environ.get("IOXIDE_SEED", "0"))
PER_TEST = 150
TASKS_MAX = 25

VARIABLES = [contextvars.ContextVar(f"variable_{number}", default=-1) for number in range(3)]

# What is compared with asyncio on its own loop: (whose names, whose loop).
COMPARED = {
    "ioxide": ("ioxide", "ioxide"),
    "asyncio's names on ioxide's loop": ("asyncio", "ioxide"),
    "ioxide's names on asyncio's loop": ("ioxide", "asyncio"),
}


def values():
    return tuple(variable.get() for variable in VARIABLES)


class Run:
    """One program. Its choices are made as it runs: a difference in the order of events is a failure too."""

    def __init__(self, aio, loop, seed: int) -> None:
        self.aio, self.loop = aio, loop
        self.random = random.Random(seed)
        self.log: list = []
        self.tasks: list = []
        self.kept: list = [contextvars.copy_context()]
        self.weak: list = []
        self.tokens: list = []
        self.labels = 0
        self.operations = [name for name in dir(self) if name.startswith("do_")]

    def note(self, *what) -> None:
        self.log.append((*what, values()))

    def number(self) -> int:
        return self.random.randrange(1000)

    def variable(self):
        return self.random.choice(VARIABLES)

    def context(self):
        return self.random.choice(self.kept)

    def attempt(self, function, *args):
        """The result of what may be refused."""
        try:
            return function(*args)
        except (ValueError, RuntimeError) as error:
            return type(error).__name__

    def made(self, **options):
        """A new task, by one of the ways to make one."""
        self.labels += 1
        label, own = self.labels, self.random.random() < 0.2
        coroutine = self.body(label)
        if own:
            task = self.aio.Task(coroutine, loop=self.loop, **options)
        else:
            task = self.aio.create_task(coroutine, **options)
        self.tasks.append(task)
        return task

    async def body(self, label: int) -> int:
        for _ in range(self.random.randint(1, 7)):
            name = self.random.choice(self.operations)
            result = getattr(self, name)(label)
            if hasattr(result, "__await__"):
                result = await result
            self.note(label, name, result)
        return label

    # Variables ----------------------------------------------------------------------------------
    def do_set(self, _label):
        self.tokens.append((variable := self.variable(), variable.set(self.number())))

    def do_set_for_good(self, _label):
        self.variable().set(self.number())

    def do_set_the_same(self, _label):
        variable = self.variable()
        variable.set(variable.get())

    async def do_set_over_a_wait(self, _label):
        variable = self.variable()
        token = variable.set(self.number())
        await self.aio.sleep(0)
        return self.attempt(variable.reset, token)

    def do_set_and_reset(self, _label):
        variable = self.variable()
        variable.reset(variable.set(self.number()))

    def do_reset_any(self, _label):
        if self.tokens:
            variable, token = self.tokens.pop(self.random.randrange(len(self.tokens)))
            return self.attempt(variable.reset, token)

    def do_precision(self, _label):
        if self.random.random() < 0.3:
            decimal.getcontext().prec = 10 + self.random.randrange(50)
            return decimal.getcontext().prec

    # Contexts -----------------------------------------------------------------------------------
    def do_copy(self, _label):
        self.kept.append(contextvars.copy_context())

    if sys.version_info >= (3, 12):

        def do_keep_own(self, _label):
            self.kept.append(self.aio.current_task().get_context())

        def do_ask_own(self, _label):
            context = self.aio.current_task().get_context()
            return self.attempt(context.run, values), dict(context.items()) == dict(
                contextvars.copy_context().items()
            )

        def do_watch_own(self, _label):
            task = self.aio.current_task()
            self.weak.append((task, weakref.ref(task.get_context())))

        def do_ask_other(self, _label):
            task = self.random.choice(self.tasks)
            return self.attempt(task.get_context().run, values)

        def do_keep_other(self, _label):
            self.kept.append(self.random.choice(self.tasks).get_context())

        def do_set_in_other(self, _label):
            task = self.random.choice(self.tasks)
            return bool(self.attempt(task.get_context().run, self.variable().set, self.number()))

        def do_compare(self, _label):
            return (
                [ref() is not None and ref() is task.get_context() for task, ref in self.weak],
                [self.kept.index(context) for context in self.kept],
            )

    def do_set_in_kept(self, _label):
        outcome = self.attempt(self.context().run, self.variable().set, self.number())
        return outcome if isinstance(outcome, str) else None

    def do_ask_kept(self, _label):
        return self.attempt(self.context().run, values)

    def do_forget(self, _label):
        if len(self.kept) > 1:
            self.kept.pop(self.random.randrange(len(self.kept)))

    # Tasks and callbacks ------------------------------------------------------------------------
    def do_spawn(self, _label):
        if self.labels < TASKS_MAX:
            self.made()

    def do_spawn_within(self, _label):
        if self.labels < TASKS_MAX:
            self.made(context=self.context())

    def do_spawn_from(self, _label):
        """The task copies the context in which it is made."""
        if self.labels < TASKS_MAX:
            return isinstance(self.attempt(self.context().run, self.made), str)

    if sys.version_info >= (3, 12):

        def do_spawn_eagerly(self, _label):
            if self.labels < TASKS_MAX:
                self.labels += 1
                coroutine = self.body(self.labels)
                task = self.aio.Task(coroutine, loop=self.loop, eager_start=True)
                self.tasks.append(task)

        async def do_wait_for(self, _label):
            if self.labels < TASKS_MAX:
                self.labels += 1
                return await self.aio.wait_for(self.body(self.labels), 100)

    async def do_spawn_and_wait(self, _label):
        if self.labels < TASKS_MAX:
            return await self.made()

    async def do_gather(self, _label):
        if self.labels < TASKS_MAX - 3:
            return await self.aio.gather(*[self.made() for _ in range(3)])

    def call_back(self, label, change, *_) -> None:
        self.note("callback", label)
        if change:
            self.variable().set(self.number())

    def do_call_soon(self, label):
        self.loop.call_soon(self.call_back, label, self.random.random() < 0.3)

    def do_call_soon_within(self, label):
        change = self.random.random() < 0.3
        self.loop.call_soon(self.call_back, label, change, context=self.context())

    def do_call_when_done(self, label):
        task = self.random.choice(self.tasks)
        given = {"context": self.context()} if self.random.random() < 0.3 else {}
        change = self.random.random() < 0.3
        task.add_done_callback(lambda _: self.call_back(label, change), **given)

    # Waiting ------------------------------------------------------------------------------------
    def do_sleep(self, _label):
        return self.aio.sleep(self.random.choice([0, 0, 0, 1]))

    async def do_sleep_often(self, _label):
        for _ in range(3):
            await self.aio.sleep(0)

    async def do_await_future(self, _label):
        future = self.loop.create_future()
        self.loop.call_soon(future.set_result, None)
        await future

    async def do_await_python_future(self, _label):
        """Its wake-up comes through a handle, which runs in the task's context."""
        future = asyncio.futures._PyFuture(loop=self.loop)
        self.loop.call_soon(future.set_result, None)
        await future

    async def do_generate(self, _label):
        async def generator():
            token = VARIABLES[0].set(self.number())
            try:
                yield values()
                await self.aio.sleep(0)
                yield values()
            finally:
                VARIABLES[0].reset(token)

        return [seen async for seen in generator()]

    async def main(self) -> None:
        self.note("begins")
        for _ in range(3):
            if self.random.random() < 0.5:
                self.variable().set(self.number())
            for _ in range(self.random.randint(1, 3)):
                self.made()
            await self.aio.sleep(self.random.choice([0, 0.5]))
        # Nobody waits for its own end here: the circle of tasks that wait for tasks is a tree.
        while pending := [task for task in self.tasks if not task.done()]:
            await self.aio.wait(pending)
        self.note("ends")
        if sys.version_info >= (3, 12):
            for task in self.tasks:
                self.log.append(sorted((v.name, str(x)) for v, x in task.get_context().items()))


def execute(aio, loop_of: str, seed: int) -> list:
    loop = new_virtual_loop(loop_of)
    gc.disable()
    try:
        run = Run(aio, loop, seed)
        contextvars.Context().run(loop.run_until_complete, run.main())
        return run.log
    finally:
        gc.enable()
        loop.close()


@pytest.mark.parametrize("compared", COMPARED)
@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + PROGRAMS, PER_TEST))
def test_random_programs_see_the_variables_that_asyncio_shows(compared, first):
    names, loop_of = COMPARED[compared]
    load(loop_of)
    aio = load(names)
    for seed in range(first, first + PER_TEST):
        expected = execute(asyncio, "asyncio", seed)
        assert execute(aio, loop_of, seed) == expected, f"seed {seed}"
