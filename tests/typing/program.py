"""Never run: `make lint` lets mypy read it, and what it expects of the types is in the asserts."""

from typing import assert_type

import ioxide as asyncio


async def one() -> int:
    return 1


async def name() -> str:
    return ""


async def main() -> int:
    number, text = await asyncio.gather(one(), name())
    assert_type(number, int)
    assert_type(text, str)
    queue: asyncio.Queue[bytes] = asyncio.Queue(3)
    assert_type(await queue.get(), bytes)
    queue.shutdown(immediate=True)
    async with asyncio.TaskGroup() as group:
        assert_type(await group.create_task(one()), int)
        group.cancel()
    async with asyncio.timeout(1) as limit:
        assert_type(limit.expired(), bool)
    reader, writer = await asyncio.open_connection("host", 1)
    assert_type(await reader.readline(), bytes)
    writer.close()
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    try:
        return await asyncio.wait_for(one(), 3)
    except (asyncio.QueueShutDown, asyncio.exceptions.CancelledError):
        return asyncio.subprocess.PIPE


assert_type(asyncio.run(main(), loop_factory=asyncio.new_event_loop), int)
with asyncio.Runner(debug=True) as runner:
    assert_type(runner.run(name()), str)
graph = asyncio.capture_call_graph()
if graph is not None:
    assert_type(graph.call_stack, tuple[asyncio.FrameCallGraphEntry, ...])
asyncio.install()
asyncio.uninstall()
