"""A hundred thousand of each object, made and dropped, leave memory and objects where they were."""

from __future__ import annotations

import json

import pytest
from harness import child

# `make(n)` makes and drops n of them; names: aio, loop. Coroutine functions are run on the loop.
OBJECTS = {
    "Future": "def make(n):\n for _ in range(n): loop.create_future()",
    "Future with a result": "def make(n):\n for _ in range(n): loop.create_future().set_result([])",
    "Future awaited": """
        async def make(n):
            for _ in range(n):
                future = loop.create_future()
                loop.call_soon(future.set_result, 1)
                await future
    """,
    "Future with callbacks": """
        def make(n):
            for _ in range(n):
                future = loop.create_future()
                future.add_done_callback(lambda f: f)
                future.add_done_callback(print)
    """,
    "Future in a cycle": """
        def make(n):
            for _ in range(n):
                future = loop.create_future()
                future.add_done_callback(lambda _, f=future: f)
                future.itself = future
    """,
    "Future with a failure": """
        def make(n):
            for _ in range(n):
                future = loop.create_future()
                future.set_exception(ValueError())
                future.exception()
    """,
    "Future failed and awaited": """
        async def make(n):
            for _ in range(n):
                future = loop.create_future()
                loop.call_soon(future.set_exception, ValueError())
                try:
                    await future
                except ValueError:
                    pass
    """,
    "Task": "async def make(n):\n for _ in range(n): await aio.create_task(nothing())",
    "Task with a name and a context": """
        async def make(n):
            import contextvars
            for _ in range(n):
                await aio.create_task(nothing(), name="name %d" % _, context=contextvars.copy_context())
    """,
    "Task cancelled": """
        async def make(n):
            for _ in range(n):
                task = aio.create_task(aio.sleep(100))
                await aio.sleep(0)
                task.cancel("message")
                try:
                    await task
                except aio.CancelledError:
                    pass
    """,
    "Task cancelled before its start": """
        async def make(n):
            for _ in range(n):
                aio.create_task(nothing()).cancel()
                if _ % 1000 == 0:
                    await aio.sleep(0)
    """,
    "Task that fails": """
        async def make(n):
            async def fail(): raise ValueError("x")
            for _ in range(n):
                try:
                    await aio.create_task(fail())
                except ValueError:
                    pass
    """,
    "Task of a subclass": """
        class Mine(aio.Task): pass
        async def make(n):
            for _ in range(n): await Mine(nothing(), loop=loop)
    """,
    "Task with a callback": """
        async def make(n):
            for _ in range(n):
                task = aio.create_task(nothing())
                task.add_done_callback(lambda t: t)
                await task
    """,
    "Task with a weak reference and attributes": """
        import weakref
        async def make(n):
            for _ in range(n):
                task = aio.create_task(nothing())
                task.attribute = weakref.ref(task)
                await task
    """,
    "Handle": """
        def make(n):
            for start in range(0, n, 1000):
                for _ in range(1000): loop.call_soon(int)
                loop.run_until_complete(nothing())
    """,
    "Handle cancelled": """
        def make(n):
            for start in range(0, n, 1000):
                for _ in range(1000): loop.call_soon(int).cancel()
                loop.run_until_complete(nothing())
    """,
    "Handle from a thread": """
        def make(n):
            for start in range(0, n, 1000):
                for _ in range(1000): loop.call_soon_threadsafe(int, _)
                loop.run_until_complete(nothing())
    """,
    "TimerHandle": """
        async def make(n):
            for start in range(0, n, 1000):
                for _ in range(1000): loop.call_later(0, int)
                await aio.sleep(0)
            await aio.sleep(0.001)
    """,
    "TimerHandle cancelled": "def make(n):\n for _ in range(n): loop.call_later(1000 + _, int).cancel()",
    "sleep": """
        async def make(n):
            for start in range(0, n, 1000):
                await aio.gather(*(aio.sleep(0.00001) for _ in range(1000)))
    """,
    "sleep(0)": "async def make(n):\n for _ in range(n): await aio.sleep(0)",
    "Lock": """
        async def make(n):
            for _ in range(n):
                async with aio.Lock(): pass
    """,
    "Lock waited for": """
        async def make(n):
            lock = aio.Lock()
            async def use():
                async with lock: pass
            for start in range(0, n, 1000):
                await aio.gather(*(use() for _ in range(1000)))
    """,
    "Event": """
        async def make(n):
            for _ in range(n):
                event = aio.Event()
                loop.call_soon(event.set)
                await event.wait()
    """,
    "Event whose waiters are cancelled": """
        async def make(n):
            event = aio.Event()
            for start in range(0, n, 1000):
                tasks = [aio.create_task(event.wait()) for _ in range(1000)]
                await aio.sleep(0)
                for task in tasks: task.cancel()
                await aio.wait(tasks)
    """,
    "Condition": """
        async def make(n):
            for _ in range(n):
                condition = aio.Condition()
                async with condition: condition.notify_all()
    """,
    "Semaphore": """
        async def make(n):
            for _ in range(n):
                async with aio.Semaphore(1): pass
                async with aio.BoundedSemaphore(1): pass
    """,
    "Barrier": """
        async def make(n):
            for _ in range(n):
                async with aio.Barrier(1): pass
    """,
    "Queue": """
        async def make(n):
            for _ in range(n):
                queue = aio.Queue()
                queue.put_nowait(1)
                await queue.put([])
                await queue.get()
    """,
    "Queue items passed to a waiter": """
        async def make(n):
            queue = aio.Queue(1)
            async def produce():
                for _ in range(n): await queue.put(object())
            task = aio.create_task(produce())
            for _ in range(n): await queue.get()
            await task
    """,
    "Queue gets cancelled": """
        async def make(n):
            queue = aio.Queue()
            for _ in range(n // 10):
                try:
                    await aio.wait_for(queue.get(), 0)
                except TimeoutError:
                    pass
    """,
    "PriorityQueue and LifoQueue": """
        async def make(n):
            for _ in range(n):
                for kind in (aio.PriorityQueue, aio.LifoQueue):
                    queue = kind()
                    queue.put_nowait(1)
                    queue.put_nowait(2)
    """,
    "TaskGroup": """
        async def make(n):
            for _ in range(n // 2):
                async with aio.TaskGroup() as group:
                    group.create_task(nothing())
                    group.create_task(nothing())
    """,
    "TaskGroup that fails": """
        async def make(n):
            async def fail(): raise ValueError
            for _ in range(n // 5):
                try:
                    async with aio.TaskGroup() as group:
                        group.create_task(fail())
                        group.create_task(aio.sleep(100))
                except* ValueError:
                    pass
    """,
    "timeout": """
        async def make(n):
            for _ in range(n):
                async with aio.timeout(100): pass
    """,
    "timeout that passes": """
        async def make(n):
            for _ in range(n // 10):
                try:
                    async with aio.timeout(0): await aio.sleep(100)
                except TimeoutError:
                    pass
    """,
    "wait_for": "async def make(n):\n for _ in range(n): await aio.wait_for(nothing(), 100)",
    "wait": """
        async def make(n):
            for _ in range(n // 5):
                await aio.wait([aio.create_task(nothing()), aio.create_task(nothing())])
    """,
    "wait that times out": """
        async def make(n):
            future = loop.create_future()
            for _ in range(n // 5): await aio.wait([future], timeout=0)
    """,
    "as_completed": """
        async def make(n):
            for _ in range(n // 10):
                for first in aio.as_completed([nothing(), nothing()]): await first
    """,
    "gather": "async def make(n):\n for _ in range(n // 5): await aio.gather(nothing(), nothing())",
    "gather that fails": """
        async def make(n):
            async def fail(): raise ValueError
            for _ in range(n // 5):
                try:
                    await aio.gather(fail(), nothing())
                except ValueError:
                    pass
    """,
    "gather dropped": """
        async def make(n):
            for start in range(0, n // 10, 100):
                for _ in range(100): aio.gather(nothing(), nothing())
                await aio.sleep(0); await aio.sleep(0)
    """,
    "shield": "async def make(n):\n for _ in range(n): await aio.shield(nothing())",
    "shield of one long future": """
        async def make(n):
            future = loop.create_future()
            for _ in range(n // 5):
                try:
                    await aio.wait_for(aio.shield(future), 0)
                except TimeoutError:
                    pass
    """,
    "StreamReader": """
        async def make(n):
            for _ in range(n):
                reader = aio.StreamReader()
                reader.feed_data(b"line\\nrest")
                await reader.readline()
                reader.feed_eof()
                await reader.read()
    """,
    "StreamReader waited for": """
        async def make(n):
            reader = aio.StreamReader()
            for _ in range(n):
                loop.call_soon(reader.feed_data, b"12345678")
                await reader.readexactly(8)
    """,
    "run_in_executor": """
        async def make(n):
            for start in range(0, n // 5, 100):
                await aio.gather(*(loop.run_in_executor(None, int, "1") for _ in range(100)))
    """,
    "run_coroutine_threadsafe": """
        async def make(n):
            for start in range(0, n // 5, 100):
                futures = [aio.run_coroutine_threadsafe(nothing(), loop) for _ in range(100)]
                await aio.gather(*map(aio.wrap_future, futures))
    """,
    "async generator": """
        async def make(n):
            async def generator(): yield 1
            for _ in range(n):
                async for _ in generator(): pass
    """,
    "async generator dropped": """
        async def make(n):
            async def generator():
                yield 1
                yield 2
            for i in range(n // 5):
                async for _ in generator(): break
                if i % 100 == 0: await aio.sleep(0)
            await aio.sleep(0)
            await aio.sleep(0)
    """,
    "callback that fails": """
        async def make(n):
            loop.set_exception_handler(lambda *_: None)
            def fail(): raise ValueError
            for start in range(0, n, 1000):
                for _ in range(1000): loop.call_soon(fail)
                await aio.sleep(0)
    """,
    "foreign future": """
        import asyncio
        async def make(n):
            for _ in range(n):
                future = asyncio.Future(loop=loop)
                loop.call_soon(future.set_result, 1)
                await future
    """,
    "foreign task": """
        import asyncio
        async def make(n):
            for _ in range(n): await asyncio.Task(nothing(), loop=loop)
    """,
    "repr": """
        async def make(n):
            async def body():
                for _ in range(n // 10): repr(task), repr(loop), repr(timer)
            timer = loop.call_later(100, print)
            task = aio.create_task(body())
            await task
            timer.cancel()
    """,
}

MEASURE = """
    import gc, inspect, json, os, resource, sys
    async def nothing(): pass
    loop = aio.new_event_loop()
    stdlib.set_event_loop(loop)
    {make}
    def run(n):
        if inspect.iscoroutinefunction(make):
            loop.run_until_complete(make(n))
        else:
            make(n)
        loop.run_until_complete(nothing())
        gc.collect()
    def measure():
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return dict(objects=len(gc.get_objects()), blocks=sys.getallocatedblocks(), resident=resident,
                    loop=sys.getrefcount(loop), none=0 if sys.version_info >= (3, 12) else sys.getrefcount(None))
    def grow():
        before = measure()
        run({n})
        after = measure()
        return {{k: after[k] - before[k] for k in before}}
    run({warm})
    grown = grow()
    if grown["resident"] >= {resident}:
        # The allocator takes a large piece now and then. What leaks does it again.
        grown["resident"] = min(grown["resident"], grow()["resident"])
    json.dump(grown, sys.stdout)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_made_and_dropped_leave_nothing(aio, name):
    import textwrap

    # asyncio's own objects show that the test is fair; that needs fewer of them.
    # asyncio's heap keeps cancelled timers for a while: it is measured against a first run of the same size.
    n, warm = (4_000, 4_000) if aio.__name__ == "asyncio" else (100_000, 25_000)
    make = textwrap.indent(textwrap.dedent(OBJECTS[name]), "    ").strip()
    # What the interpreter does not count: one arena of slack; 32 bytes in each round would show 3.2 MB.
    resident = 2**20 + 12 * n
    script = MEASURE.format(make=make, n=n, warm=warm, resident=resident)
    grown = json.loads(child.check(aio, script))
    # A leak of one object, block or reference in each round would show n (or n/10) of them.
    assert grown["objects"] < max(300, n / 100), grown
    assert grown["blocks"] < max(300, n / 100), grown
    assert abs(grown["loop"]) < 50, grown
    assert grown["none"] < max(300, n / 100), grown
    assert grown["resident"] < resident, grown
