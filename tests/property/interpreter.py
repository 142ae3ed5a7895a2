"""Runs a random program on an implementation and gives the complete, ordered log of what happened."""

from __future__ import annotations

import contextvars
import functools
import gc

from harness.virtual import new_virtual_loop

TICK_S = 1 / 64
ROUNDS_MAX = 30
ROUND_TICKS = 100
EVENTS_MAX = 5_000

_variable = contextvars.ContextVar("variable", default=-1)


class Base(BaseException):
    """An exception that is no Exception."""


_ERRORS = {"value": ValueError, "lookup": LookupError, "base": Base}


def described(error: BaseException):
    """The part of an exception that does not name addresses or modules."""
    if isinstance(error, BaseExceptionGroup):
        return (type(error).__name__, [described(e) for e in error.exceptions])
    return (
        type(error).__name__,
        *(a for a in error.args if isinstance(a, (int, str)) and "0x" not in str(a)),
    )


class OrderedSet(dict):
    """Stands in for the set in asyncio's TaskGroup, which cancels in an order that depends on addresses."""

    def add(self, item) -> None:
        self[item] = None

    def discard(self, item) -> None:
        self.pop(item, None)


class Interpreter:
    """The objects of one run, and a method for each operation."""

    def __init__(self, aio, loop) -> None:
        self.aio, self.loop = aio, loop
        self.log: list = []
        self.reports: list = []
        self.tasks: list = []
        self.handles: list = []
        self.labels = 0

    def make_objects(self) -> None:
        aio = self.aio
        self.events = [aio.Event() for _ in range(3)]
        self.locks = [aio.Lock() for _ in range(3)]
        self.semaphores = [aio.Semaphore(1), aio.Semaphore(2), aio.BoundedSemaphore(1)]
        self.conditions = [aio.Condition(), aio.Condition(self.locks[0]), aio.Condition()]
        self.barriers = [aio.Barrier(1), aio.Barrier(2), aio.Barrier(3)]
        self.queues = [aio.Queue(), aio.LifoQueue(1), aio.PriorityQueue(2)]
        self.futures = [self.loop.create_future() for _ in range(3)]

    def note(self, *what) -> None:
        self.log.append((round(self.loop.time() / TICK_S, 3), *what))
        if len(self.log) > EVENTS_MAX:
            raise AssertionError("the program does not end")

    def report(self, _loop, context) -> None:
        error = context.get("exception")
        self.reports.append(
            (
                context["message"].split(" at 0x")[0].split(" Interpreter")[0][:40],
                error and described(error),
            )
        )

    def task(self, number: int):
        return self.tasks[number % len(self.tasks)][1] if self.tasks else None

    def younger(self, label: int, number: int):
        """A task that a body of this label may wait for, so that they never wait in circles."""
        allowed = [task for other, task in self.tasks if other > label]
        return allowed[number % len(allowed)] if allowed else None

    def register(self, label: int, task) -> None:
        """Makes the task known to those operations which choose one, and to the rounds which cancel what is left."""
        if not any(task is other for _, other in self.tasks):
            self.tasks.append((label, task))

    def label(self) -> int:
        self.labels += 1
        return self.labels

    def spawn_block(self, block, *, create=None):
        """A task of a block."""
        label = self.label()
        task = (create or self.aio.create_task)(self.body(label, block))
        self.register(label, task)
        task.add_done_callback(functools.partial(self.ended, label))
        return task

    def ended(self, label, task) -> None:
        if task.cancelled():
            self.note(label, "done", "cancelled")
        elif (error := task.exception()) is not None:
            self.note(label, "done", described(error))
        else:
            self.note(label, "done", task.result())

    async def body(self, label, block):
        # Tasks which gather made, and eager ones, are met here first.
        self.register(label, self.aio.current_task())
        self.note(label, "start")
        try:
            await self.run(label, block)
        except BaseException as error:
            self.note(label, "left by", described(error))
            raise
        return label

    async def run(self, label, block) -> None:
        for operation in block:
            name, *operands = operation
            self.note(label, name)
            result = await getattr(self, "do_" + name)(label, *operands)
            if result is not None:
                self.note(label, name, "gave", result)

    async def guarded(self, awaitable):
        """Awaits what may fail in ordinary ways, so that programs are not all over at the first failure."""
        try:
            return await awaitable
        except (
            ArithmeticError,
            LookupError,
            ValueError,
            RuntimeError,
            self.aio.TimeoutError,
        ) as error:
            return described(error)

    # Time and tasks -----------------------------------------------------------------------------
    async def do_sleep(self, _label, ticks):
        return await self.aio.sleep(ticks * TICK_S)

    async def do_log(self, _label, number):
        return number

    async def do_spawn(self, label, block, named):
        self.spawn_block(
            block,
            create=functools.partial(self.aio.create_task, name=f"named {label}")
            if named
            else None,
        )

    async def do_cancel(self, _label, number, message):
        task = self.task(number)
        return task and (task.cancel(message), task.cancelling())

    async def do_uncancel(self, _label):
        return self.aio.current_task().uncancel()

    async def do_join_task(self, label, number):
        task = self.younger(label, number)
        return task and await self.guarded(task)

    async def do_shield(self, label, number):
        task = self.younger(label, number)
        return task and await self.guarded(self.aio.shield(task))

    async def do_shield_block(self, _label, block):
        return await self.guarded(self.aio.shield(self.spawn_block(block)))

    async def do_catch(self, label, block, kind):
        kinds = {"cancelled": self.aio.CancelledError, "error": Exception, "all": BaseException}
        try:
            await self.run(label, block)
        except kinds[kind] as error:
            return described(error)

    async def do_cleanup(self, label, block, cleanup):
        try:
            await self.run(label, block)
        finally:
            self.note(label, "cleans up")
            await self.run(label, cleanup)

    async def do_fail(self, label, kind):
        if kind == "cancelled":
            raise self.aio.CancelledError(label)
        raise _ERRORS[kind](label)

    # Deadlines ----------------------------------------------------------------------------------
    async def do_timeout(self, label, ticks, block):
        try:
            async with self.aio.timeout(None if ticks is None else ticks * TICK_S) as scope:
                await self.run(label, block)
        except TimeoutError as error:
            return (described(error), scope.expired())
        return scope.expired()

    async def do_reschedule(self, label, first, second, block):
        try:
            async with self.aio.timeout(first * TICK_S) as scope:
                scope.reschedule(self.loop.time() + second * TICK_S)
                await self.run(label, block)
        except TimeoutError:
            return scope.when()

    async def do_wait_for(self, _label, ticks, block):
        timeout = None if ticks is None else ticks * TICK_S
        return await self.guarded(self.aio.wait_for(self.body(self.label(), block), timeout))

    async def do_wait_for_task(self, label, ticks, number):
        timeout = None if ticks is None else ticks * TICK_S
        task = self.younger(label, number)
        return task and await self.guarded(self.aio.wait_for(task, timeout))

    # Several at once ----------------------------------------------------------------------------
    async def collected(self, gathering):
        results = await self.guarded(gathering)
        return [described(r) if isinstance(r, BaseException) else r for r in results]

    async def do_gather(self, _label, blocks, return_exceptions):
        bodies = [self.body(self.label(), block) for block in blocks]
        return await self.collected(self.aio.gather(*bodies, return_exceptions=return_exceptions))

    async def do_gather_tasks(self, label, numbers, return_exceptions):
        tasks = [task for number in numbers if (task := self.younger(label, number))]
        if tasks:
            return await self.collected(
                self.aio.gather(*tasks, return_exceptions=return_exceptions)
            )

    async def do_wait(self, _label, blocks, return_when, ticks):
        tasks = [self.spawn_block(block) for block in blocks]
        timeout = None if ticks is None else ticks * TICK_S
        done, pending = await self.aio.wait(
            tasks, return_when=getattr(self.aio, return_when), timeout=timeout
        )
        return sorted(map(tasks.index, done)), sorted(map(tasks.index, pending))

    async def do_as_completed(self, label, blocks, ticks):
        timeout = None if ticks is None else ticks * TICK_S
        if self.loop.get_task_factory():
            # Of those which eager tasks have done already, the order of a set decides.
            blocks = blocks[:1]
        for next_one in self.aio.as_completed(
            [self.spawn_block(block) for block in blocks], timeout=timeout
        ):
            self.note(label, "completed", await self.guarded(next_one))

    async def do_group(self, label, blocks, block):
        try:
            group = self.aio.TaskGroup()
            if type(group).__module__ == "asyncio.taskgroups":
                group._tasks = OrderedSet()
            async with group:
                for other in blocks:
                    self.spawn_block(other, create=group.create_task)
                await self.run(label, block)
        except* (ValueError, LookupError) as errors:
            self.note(label, "group failed", described(errors))

    # Locks and the like -------------------------------------------------------------------------
    async def do_lock(self, label, i, block):
        async with self.locks[i]:
            self.note(label, "holds lock", i)
            await self.run(label, block)

    async def do_semaphore(self, label, i, block):
        async with self.semaphores[i]:
            self.note(label, "holds semaphore", i, self.semaphores[i].locked())
            await self.run(label, block)

    async def do_release_semaphore(self, _label, i):
        return await self.guarded(self.called(self.semaphores[i].release))

    async def called(self, function, *args):
        return function(*args)

    async def do_condition_wait(self, _label, i):
        async with self.conditions[i]:
            return await self.conditions[i].wait()

    async def do_condition_wait_for(self, _label, i, least):
        async with self.conditions[i]:
            return await self.conditions[i].wait_for(
                lambda: sum(e.is_set() for e in self.events) >= least
            )

    async def do_condition_notify(self, _label, i, n):
        async with self.conditions[i]:
            self.conditions[i].notify_all() if n is None else self.conditions[i].notify(n)

    async def do_wait_event(self, _label, i):
        return await self.events[i].wait()

    async def do_set_event(self, _label, i):
        self.events[i % 3].set()

    async def do_clear_event(self, _label, i):
        self.events[i].clear()

    async def do_barrier(self, label, i, block):
        try:
            async with self.barriers[i] as place:
                self.note(label, "passed barrier", place)
                await self.run(label, block)
        except self.aio.BrokenBarrierError as error:
            return described(error)

    async def do_barrier_reset(self, _label, i):
        await self.barriers[i].reset()

    async def do_barrier_abort(self, _label, i):
        await self.barriers[i].abort()

    # Queues -------------------------------------------------------------------------------------
    async def queued(self, call, *args):
        try:
            result = call(*args)
            return await result if hasattr(result, "__await__") else result
        except Exception as error:
            return described(error)

    async def do_put(self, _label, i, item):
        return await self.queued(self.queues[i].put, item)

    async def do_get(self, _label, i):
        return await self.queued(self.queues[i].get)

    async def do_put_nowait(self, _label, i, item):
        return await self.queued(self.queues[i].put_nowait, item)

    async def do_get_nowait(self, _label, i):
        return await self.queued(self.queues[i].get_nowait)

    async def do_task_done(self, _label, i):
        return await self.queued(self.queues[i].task_done)

    async def do_join_queue(self, _label, i):
        return await self.queued(self.queues[i].join)

    async def do_shutdown_queue(self, _label, i, now):
        return await self.queued(self.queues[i].shutdown, now)

    # Futures and callbacks ----------------------------------------------------------------------
    async def do_await_future(self, _label, i):
        return await self.guarded(self.futures[i])

    async def do_set_future(self, label, i):
        if not self.futures[i % 3].done():
            self.futures[i % 3].set_result(label)

    async def do_fail_future(self, label, i):
        if not self.futures[i].done():
            self.futures[i].set_exception(ValueError(label))

    async def do_cancel_future(self, label, i):
        return self.futures[i].cancel(f"by {label}")

    async def do_new_future(self, _label, i):
        self.futures[i] = self.loop.create_future()

    async def do_call_soon(self, label, callback):
        self.handles.append(self.loop.call_soon(self.call_back, label, *callback))

    async def do_call_later(self, label, ticks, callback):
        self.handles.append(self.loop.call_later(ticks * TICK_S, self.call_back, label, *callback))

    async def do_cancel_handle(self, _label, number):
        if self.handles:
            self.handles[number % len(self.handles)].cancel()

    def call_back(self, label, name, number) -> None:
        self.note(label, "callback", name, _variable.get())
        if name == "set_event":
            self.events[number % 3].set()
        elif name == "cancel" and self.tasks:
            self.task(number).cancel(f"callback of {label}")
        elif name == "set_future" and not self.futures[number % 3].done():
            self.futures[number % 3].set_result(label)
        elif name == "cancel_future":
            self.futures[number % 3].cancel()
        elif name == "put_nowait":
            self.queues[0].put_nowait(number)
        elif name == "get_nowait":
            self.queues[number % 3].get_nowait()
        elif name == "fail":
            raise ValueError(number)
        elif name == "release":
            self.semaphores[number % 3].release()
        elif name == "notify_later":
            self.loop.call_soon(self.call_back, label, "log", number)

    async def do_on_done(self, label, number, mark):
        task = self.task(number)
        if task is not None:
            task.add_done_callback(lambda t: self.note(label, "saw done", mark, t.cancelled()))

    async def do_generator(self, label, block, stop_after):
        async def generator():
            try:
                for operation in block:
                    await self.run(label, [operation])
                    yield operation[0]
            finally:
                self.note(label, "generator closes")
                await self.aio.sleep(0)

        iterator = generator()
        try:
            async for name in iterator:
                self.note(label, "generated", name)
                if stop_after == 0:
                    break
                stop_after -= 1
        finally:
            await iterator.aclose()

    async def do_set_variable(self, _label, number):
        _variable.set(number)

    async def do_state(self, _label):
        return (
            [t.done() for _, t in self.tasks],
            [e.is_set() for e in self.events],
            [lock.locked() for lock in self.locks],
            [q.qsize() for q in self.queues],
            [b.n_waiting for b in self.barriers],
            _variable.get(),
            self.aio.current_task().cancelling(),
            len(self.aio.all_tasks()),
        )

    # The run ------------------------------------------------------------------------------------
    async def main(self, program):
        self.make_objects()
        self.loop.set_exception_handler(self.report)
        if program["eager"]:
            self.loop.set_task_factory(self.aio.eager_task_factory)
        root = self.spawn_block(program["main"])
        for number in range(ROUNDS_MAX):
            await self.aio.sleep(ROUND_TICKS * TICK_S)
            waiting = [(label, task) for label, task in self.tasks if not task.done()]
            if not waiting and len(self.aio.all_tasks()) == 1:
                break
            self.note("round", number, [label for label, _ in waiting])
            for _, task in waiting:
                task.cancel(f"round {number}")
        else:
            self.note("never ended")
        del root


def execute(aio, loop_of: str, program: dict) -> list:
    """The log of a run with the names of `aio` on a loop of the module `loop_of`."""
    loop = new_virtual_loop(loop_of)
    interpreter = Interpreter(aio, loop)
    # Only this run's objects are looked at, and only at its end: what dies when must not depend on the collector.
    gc.freeze()
    gc.disable()
    try:
        loop.run_until_complete(interpreter.main(program))
        loop.run_until_complete(loop.shutdown_asyncgens())
        log = interpreter.log
        interpreter.tasks.clear()
        interpreter.futures.clear()
        gc.collect()
    finally:
        gc.enable()
        loop.close()
    # When an object dies is the interpreter's business; that it is reported, and how often, is not.
    return [*log, ("reports", sorted(interpreter.reports, key=repr))]
