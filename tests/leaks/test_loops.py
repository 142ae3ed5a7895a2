"""A loop made and closed a thousand times leaves descriptors, threads, signals and memory where they were."""

from __future__ import annotations

import json

import pytest
from harness import child

USES = {
    "nothing": "",
    "run": "loop.run_until_complete(aio.sleep(0))",
    "timers and callbacks left": "loop.call_later(100, print); loop.call_soon(print)",
    "executor": "loop.run_until_complete(loop.run_in_executor(None, int)); "
    "loop.run_until_complete(loop.shutdown_default_executor())",
    "executor not shut down": "loop.run_until_complete(loop.run_in_executor(None, int))",
    "signal handler": "loop.add_signal_handler(10, print)",
    "reader": "loop.add_reader(r, print); loop.call_soon(loop.stop); loop.run_forever(); loop.remove_reader(r)",
    "reader left": "loop.add_reader(r, print); loop.call_soon(loop.stop); loop.run_forever()",
    "server and client": "loop.run_until_complete(talk())",
    "async generator": "loop.run_until_complete(generate()); loop.run_until_complete(loop.shutdown_asyncgens())",
    "failing main": "fails(loop)",
    "loop in a cycle": "loop.itself = loop; loop.call_later(100, print, loop)",
    "exception handler": "loop.set_exception_handler(lambda *_: loop)",
}

# Bytes, as the interpreter does not count them.
RESIDENT = 2_000_000

SCRIPT = """
    import gc, json, os, signal, sys, threading, time
    r, w = os.pipe()
    async def talk():
        async def echo(reader, writer):
            writer.write(await reader.readexactly(4))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        server = await aio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ping")
        assert await reader.read() == b"ping"
        writer.close()
        await writer.wait_closed()
        server.close()
    async def generate():
        async def generator():
            yield 1
            yield 2
        iterator = generator()
        await iterator.__anext__()
    async def fail():
        raise ValueError
    def fails(loop):
        try:
            loop.run_until_complete(fail())
        except ValueError:
            pass
    def once():
        loop = aio.new_event_loop()
        {use}
        loop.close()
    def counted():
        return threading.active_count(), len(os.listdir("/proc/self/task"))
    def measure():
        gc.collect()
        # A thread that nobody joins ends soon after its loop. A moment at which none is left exists
        # before the first loop only: a count taken later may have one too many, and be met too early.
        for _ in range(2000):
            if counted() == alone:
                break
            time.sleep(0.005)
        threads, tasks = counted()
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return dict(descriptors=len(os.listdir("/proc/self/fd")), threads=threads, tasks=tasks,
                    objects=len(gc.get_objects()), blocks=sys.getallocatedblocks(), resident=resident)
    alone = counted()
    for _ in range(20):
        once()
    def grow():
        before = measure()
        for _ in range({n}):
            once()
        after = measure()
        return {{k: after[k] - before[k] for k in before}}
    grown = grow()
    if grown["resident"] >= {resident}:
        # The allocator takes a large piece now and then. What leaks does it again.
        grown["resident"] = min(grown["resident"], grow()["resident"])
    json.dump(grown, sys.stdout)
    assert signal.getsignal(10) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
"""


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_loop_made_and_closed_leaves_nothing(aio, use):
    n = 200 if aio.__name__ == "asyncio" else 1_000
    grown = json.loads(child.check(aio, SCRIPT.format(use=USES[use], n=n, resident=RESIDENT)))
    assert grown["descriptors"] == 0, grown
    assert grown["threads"] == 0 and grown["tasks"] == 0, grown
    assert grown["objects"] < n / 4 and grown["blocks"] < n, grown
    assert grown["resident"] < RESIDENT, grown


@pytest.mark.slow
def test_run_a_thousand_times_leaves_nothing(aio):
    n = 200 if aio.__name__ == "asyncio" else 1_000
    script = SCRIPT.replace("loop = aio.new_event_loop()", "").replace("loop.close()", "")
    grown = json.loads(
        child.check(aio, script.format(use="aio.run(talk())", n=n, resident=RESIDENT))
    )
    assert grown["descriptors"] == 0 and grown["threads"] == 0, grown
    assert grown["objects"] < n / 4 and grown["blocks"] < n, grown
    assert grown["resident"] < RESIDENT, grown


@pytest.mark.slow
def test_connections_made_and_closed_leave_nothing(aio):
    n = 500 if aio.__name__ == "asyncio" else 3_000
    out = child.check(
        aio,
        f"""
        import gc, json, os, sys
        async def echo(reader, writer):
            data = await reader.read(100)
            writer.write(data)
            writer.close()
        async def main():
            server = await aio.start_server(echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            async def talk(n):
                for i in range(n):
                    reader, writer = await aio.open_connection(*address)
                    writer.write(b"ping")
                    assert await reader.read() == b"ping"
                    writer.close()
                    await writer.wait_closed()
            async def settle():
                for _ in range(20):
                    await aio.sleep(0.001)
            def measure():
                gc.collect()
                return dict(fds=len(os.listdir("/proc/self/fd")), objects=len(gc.get_objects()),
                            blocks=sys.getallocatedblocks())
            await talk(200)
            await settle()
            before = measure()
            await talk({n})
            await settle()
            after = measure()
            server.close()
            return {{k: after[k] - before[k] for k in before}}
        json.dump(aio.run(main()), sys.stdout)
    """,
    )
    grown = json.loads(out)
    assert grown["fds"] <= 0 and grown["objects"] < n / 10 and grown["blocks"] < n / 4, grown
