"""What must not crash: abuse of base classes, deep chains, forks, exits, cycles, collectors.

Each in a child process."""

from __future__ import annotations

import sys

import pytest
from harness import child

# Environments in which a mistake with memory shows: (interpreter's flags, variables, statement at the start).
SETTINGS = {
    "plain": ((), {}, ""),
    "debug allocator": ((), {"PYTHONMALLOC": "debug"}, ""),
    "dev mode": (
        ("-X", "dev"),
        {},
        "stdlib.get_running_loop; import warnings; warnings.simplefilter('ignore')",
    ),
    "collector always on": ((), {}, "import gc; gc.set_threshold(1)"),
}

STRESS = """
    {start}
    import gc, weakref
    class Slotted(aio.Task):
        __slots__ = ("extra",)
        def __del__(self):
            self.extra = 1
    class Cycle(aio.Future):
        pass
    async def nothing(): return [1]
    async def fail(): raise ValueError("x")
    async def waits(future): return await future
    async def main():
        loop = aio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        for _ in range({rounds}):
            await stdlib.gather(*(nothing() for _ in range(20)))
            await aio.gather(*(aio.sleep(0) for _ in range(20)))
            tasks = [Slotted(nothing(), loop=loop) for _ in range(5)]
            tasks += [stdlib.Task(nothing(), loop=loop) for _ in range(5)]
            await aio.wait(tasks)
            refs = [weakref.ref(t) for t in tasks]
            del tasks
            cycle = Cycle(loop=loop)
            cycle.itself = cycle
            cycle.add_done_callback(lambda _, c=cycle: c)
            del cycle
            future = loop.create_future()
            waiting = [aio.create_task(waits(future)) for _ in range(3)] + [stdlib.Task(waits(future), loop=loop)]
            await aio.sleep(0)
            waiting[0].cancel()
            waiting[-1].cancel()
            await aio.sleep(0)
            waiting[0].awaited = waiting
            loop.call_soon(future.cancel)
            await aio.wait(waiting)
            aio.create_task(fail())
            dropped = aio.create_task(waits(loop.create_future()))
            await aio.sleep(0)
            del dropped
            shielded = aio.shield(nothing())
            await shielded
            try:
                await aio.wait_for(aio.Event().wait(), 0)
            except TimeoutError:
                pass
            async with aio.TaskGroup() as group:
                group.create_task(nothing())
                stdlib.Task(nothing(), loop=loop)
            queue = aio.Queue(1)
            getter = aio.create_task(queue.get())
            await aio.sleep(0)
            queue.put_nowait(1)
            getter.cancel()
            await aio.wait([getter])
        gc.collect()
        await aio.sleep(0)
        return "survived"
    print(aio.run(main()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_stress_of_everything(aio, setting):
    flags, env, start = SETTINGS[setting]
    rounds = 5 if setting == "collector always on" else 200
    out = child.check(
        aio, STRESS.format(start=start, rounds=rounds), flags=flags, env=env, quiet=False
    )
    assert out == "survived\n"


UNBOUND = """
    {start}
    import inspect
    values = {{
        "add_done_callback": (id,), "remove_done_callback": (id,), "set_result": (1,), "set_exception": (ValueError(),),
        "set_name": ("name",), "__setattr__": ("attribute", 1), "__delattr__": ("attribute",),
        "__getattribute__": ("done",), "__eq__": (1,), "__init_subclass__": None, "__class_getitem__": None,
        "__format__": ("",), "__reduce_ex__": (2,), "__del__": (), "__new__": None, "__class__": None,
        "__lt__": (1,), "__le__": (1,), "__gt__": (1,), "__ge__": (1,), "__ne__": (1,), "__subclasshook__": None,
        "_make_cancelled_error": (), "__getstate__": (),
    }}
    def abuse(base, instance, state):
        # Of a task that was never initialised these crash CPython itself.
        crashing = {{"get_context", "get_coro", "_log_destroy_pending"}} if state == "never initialised" else set()
        for name in dir(base):
            member = getattr(base, name)
            if name == "__init__" or name in crashing or values.get(name, ()) is None or not callable(member):
                continue
            try:
                result = member(instance, *values.get(name, ()))
                if hasattr(result, "close"):
                    result.close()
            except (Exception, stdlib.CancelledError):
                pass
        for name, descriptor in [(n, d) for c in base.__mro__ for n, d in vars(c).items() if hasattr(d, "__get__")]:
            if name in ("__class__", "__dict__") or name in crashing or callable(descriptor):
                continue
            for action in (lambda: descriptor.__get__(instance, type(instance)),
                           lambda: descriptor.__set__(instance, None),
                           lambda: descriptor.__set__(instance, 1)):
                try:
                    action()
                except Exception:
                    pass
        for show in (str, repr):
            try:
                show(instance)
            except Exception:
                pass
    async def body(future):
        return await future
    async def main():
        loop = aio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        made = []
        for base in (stdlib.Future, stdlib.Task):
            for state in ("new", "waiting", "cancelled", "done", "never initialised"):
                kinds = [aio.Task] if base is stdlib.Task else [aio.Task, aio.Future]
                for kind in kinds:
                    future = loop.create_future()
                    if state == "never initialised":
                        thing = kind.__new__(kind)
                    else:
                        thing = kind(loop=loop) if kind is aio.Future else kind(body(future), loop=loop)
                    if state in ("waiting", "cancelled", "done"):
                        await aio.sleep(0)
                    if state == "cancelled":
                        thing.cancel()
                    if state == "done":
                        future.set_result(1)
                        await aio.sleep(0)
                        await aio.sleep(0)
                    abuse(base, thing, state)
                    made.append((thing, future))
                    await aio.sleep(0)
        for thing, future in made:
            if not future.done():
                future.set_result(1)
        await aio.sleep(0.01)
        return "survived"
    print(aio.run(main()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_unbound_calls_of_the_base_classes_do_not_crash(aio, setting):
    flags, env, start = SETTINGS[setting]
    out = child.check(aio, UNBOUND.format(start=start), flags=flags, env=env, quiet=False)
    assert out.endswith("survived\n")


@pytest.mark.parametrize("setting", SETTINGS)
def test_second_init_of_the_base_on_a_living_task_does_not_crash(aio, setting):
    flags, env, start = SETTINGS[setting]
    out = child.check(
        aio,
        f"""
        {start}
        async def body(future):
            try:
                return await future
            except BaseException as error:
                return error
        async def other():
            return 1
        async def main():
            loop = aio.get_running_loop()
            loop.set_exception_handler(lambda *_: None)
            for base in (stdlib.Task, aio.Task):
                for when in ("before", "during", "after"):
                    future = loop.create_future()
                    task = aio.Task(body(future), loop=loop)
                    waiter = aio.create_task(body(task))
                    if when != "before":
                        await aio.sleep(0)
                        await aio.sleep(0)
                    if when == "after":
                        future.set_result(1)
                        await aio.sleep(0)
                        await aio.sleep(0)
                    try:
                        base.__init__(task, other(), loop=loop)
                    except Exception:
                        pass
                    await aio.sleep(0)
                    if not future.done():
                        future.set_result(1)
                    await aio.sleep(0)
                    await aio.sleep(0)
                    waiter.cancel()
                    await aio.sleep(0)
            for base in (stdlib.Future, aio.Future):
                future = aio.Future(loop=loop)
                waiter = aio.create_task(body(future))
                await aio.sleep(0)
                try:
                    base.__init__(future, loop=loop)
                except RuntimeError:
                    pass  # refused since 3.15
                future.cancel()
                await aio.sleep(0)
                waiter.cancel()
                await aio.sleep(0)
            print("survived", flush=True)
        # No `run`: what is left of these tasks may never end, and `run` would wait for it.
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    """,
        flags=flags,
        env=env,
        quiet=False,
    )
    assert out == "survived\n"


@pytest.mark.slow
@pytest.mark.parametrize("length", [100_000])
def test_deep_chain_of_waiters_dropped_at_once(aio, length):
    out = child.check(
        aio,
        f"""
        import gc
        async def link(previous):
            await previous
        async def main():
            loop = aio.get_running_loop()
            loop.set_exception_handler(lambda *_: None)
            last = loop.create_future()
            for i in range({length}):
                last = aio.create_task(link(last))
                if i % 1000 == 0:
                    await aio.sleep(0)
            await aio.sleep(0)
            del last
            gc.collect()
            print("dropped", flush=True)
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    """,
        quiet=False,
    )
    assert out == "dropped\n"


@pytest.mark.slow
def test_deep_chain_of_futures_held_by_callbacks_dropped_at_once(aio):
    child.check(
        aio,
        """
        import functools, gc
        loop = aio.new_event_loop()
        last = loop.create_future()
        for _ in range(100_000):
            following = loop.create_future()
            following.add_done_callback(functools.partial(print, last))
            last = following
        del last, following
        gc.collect()
        loop.close()
    """,
    )


def test_circle_of_tasks_cancelled_is_a_recursion_error_and_no_crash(aio):
    out = child.run(
        aio,
        """
        async def waits(other):
            await other()
        async def main():
            tasks = []
            tasks.append(aio.create_task(waits(lambda: tasks[1])))
            tasks.append(aio.create_task(waits(lambda: tasks[0])))
            await aio.sleep(0)
            await aio.sleep(0)
            try:
                tasks[0].cancel()
            except RecursionError:
                print("RecursionError", flush=True)
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
    """,
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout == "RecursionError\n"


def test_very_deep_cancellation_is_survived(aio):
    done = child.run(
        aio,
        """
        async def link(previous):
            await previous
        async def main():
            loop = aio.get_running_loop()
            last = first = loop.create_future()
            for _ in range(50_000):
                last = aio.create_task(link(last))
            await aio.sleep(0)
            try:
                print(last.cancel(), flush=True)
            except RecursionError:
                print("RecursionError", flush=True)
            first.cancel()
            await aio.wait([last])
        aio.run(main())
    """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("True\n", "RecursionError\n")


def test_exit_with_pending_tasks_says_so_and_ends(aio):
    done = child.run(
        aio,
        """
        async def forever():
            await aio.get_running_loop().create_future()
        async def main():
            kept.extend(aio.create_task(forever()) for _ in range(3))
            kept.extend(aio.create_task(aio.sleep(1000)) for _ in range(3))
            kept.append(aio.create_task(aio.Queue().get()))
            await aio.sleep(0)
        kept = []
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
    """,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise SystemExit(3)"])
def test_exit_inside_a_task_and_inside_a_callback(aio, how):
    for where in ("main", "callback"):
        done = child.run(
            aio,
            f"""
            def leave(): {how}
            async def main():
                other = aio.create_task(aio.sleep(1000))
                await aio.sleep(0)
                if {where!r} == "main":
                    leave()
                aio.get_running_loop().call_soon(leave)
                await aio.sleep(100)
            aio.run(main())
        """,
        )
        assert done.returncode == 3, (where, done.stderr)


def test_threads_at_exit_do_not_hang(aio):
    done = child.run(
        aio,
        """
        import time
        async def main():
            aio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
            await aio.sleep(0.01)
        loop = aio.new_event_loop()
        loop.run_until_complete(main())
        print("end", flush=True)
    """,
    )
    assert done.returncode == 0 and done.stdout == "end\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_inside_a_running_loop_leaves_both_sides_usable(aio):
    out = child.check(
        aio,
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        async def pair():
            async with aio.TaskGroup() as group:
                group.create_task(aio.sleep(0.001))
                group.create_task(aio.to_thread(int))
            return len(aio.all_tasks())
        async def main():
            loop = aio.get_running_loop()
            pending = [aio.create_task(aio.sleep(50)) for _ in range(5)]
            await aio.sleep(0)
            pid = os.fork()
            if pid == 0:
                # asyncio says that no loop runs in the child: it makes its own.
                try:
                    assert stdlib._get_running_loop() is None
                    assert aio.run(pair()) == 1
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(7)
            status = await loop.run_in_executor(None, os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status[1]) == 7, status
            assert len(aio.all_tasks()) == 6
            for task in pending:
                task.cancel()
            await aio.wait(pending)
            return "parent goes on"
        print(aio.run(main()))
    """,
    )
    assert out == "parent goes on\n"


def test_fork_does_not_share_readiness_with_the_parent(aio):
    out = child.check(
        aio,
        """
        import os, socket, warnings
        warnings.simplefilter("ignore")
        async def main():
            loop = aio.get_running_loop()
            left, right = socket.socketpair()
            left.setblocking(False)
            heard = []
            loop.add_reader(left, lambda: heard.append(left.recv(10)))
            pid = os.fork()
            if pid == 0:
                async def child():
                    l, r = socket.socketpair()
                    l.setblocking(False)
                    got = []
                    aio.get_running_loop().add_reader(l, lambda: got.append(l.recv(10)))
                    r.send(b"child's")
                    await aio.sleep(0.01)
                    aio.get_running_loop().remove_reader(l)
                    return got
                os._exit(7 if aio.run(child()) == [b"child's"] else 1)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7
            right.send(b"parent's")
            await aio.sleep(0.01)
            loop.remove_reader(left)
            return heard
        print(aio.run(main()))
    """,
    )
    assert out == '[b"parent\'s"]\n'


def test_multiprocessing_by_fork_from_a_program_with_a_loop(aio):
    child.check(
        aio,
        """
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        async def main(): return await aio.to_thread(int, "5")
        def work(): assert aio.run(main()) == 5
        if __name__ == "__main__":
            assert aio.run(main()) == 5
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join(50)
            assert process.exitcode == 0, process.exitcode
    """,
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="awaited_by came with 3.14")
def test_awaited_by_is_kept_on_every_wait(aio, loop):
    import asyncio

    async def inner():
        await aio.sleep(0.01)

    async def outer(task):
        await task

    async def main():
        task = aio.create_task(inner(), name="inner")
        waiting = [aio.create_task(outer(task), name=f"outer {i}") for i in range(2)]
        await aio.sleep(0)
        await aio.sleep(0)
        graph = asyncio.capture_call_graph(task)
        assert sorted(g.future.get_name() for g in graph.awaited_by) == ["outer 0", "outer 1"]
        waiting[0].cancel()
        await aio.sleep(0)
        await aio.sleep(0)
        graph = asyncio.capture_call_graph(task)
        names = [g.future.get_name() for g in graph.awaited_by]
        await aio.wait(waiting)
        return names

    assert loop.run_until_complete(main()) in ([], ["outer 1"])


@pytest.mark.skipif(sys.version_info < (3, 14), reason="`asyncio ps` came with 3.14")
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_asyncio_ps_lists_native_tasks(aio, command):
    import subprocess

    script = child.source(
        aio,
        """
        async def the_inner():
            await aio.sleep(100)
        async def the_outer():
            await aio.create_task(the_inner(), name="inner task")
        async def main():
            task = aio.create_task(the_outer(), name="outer task")
            foreign = stdlib.Task(the_outer(), loop=aio.get_running_loop(), name="foreign task")
            await aio.sleep(0.01)
            print("ready", flush=True)
            await task
        aio.run(main())
    """,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=child.environment()
    )
    try:
        assert process.stdout.readline() == "ready\n"
        listed = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(process.pid)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        if "permission" in listed.stderr.lower():
            pytest.skip("reading another process is not allowed here")
        assert listed.returncode == 0, listed.stderr
        for name in ("inner task", "outer task", "foreign task", "the_inner", "the_outer"):
            assert name in listed.stdout, listed.stdout
    finally:
        process.kill()
        process.communicate()
