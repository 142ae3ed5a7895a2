"""Two tasks that are started first and awaited afterwards: both run meanwhile."""

import ioxide as asyncio


async def work(name: str, seconds: float) -> None:
    print(f"task {name} starts")
    await asyncio.sleep(seconds)
    print(f"task {name} has worked for {seconds} s")


async def main() -> None:
    long = asyncio.create_task(work("long", 2), name="long")
    short = asyncio.create_task(work("short", 1), name="short")
    print(f"both are under way: {sorted(t.get_name() for t in asyncio.all_tasks())[1:]}")
    await long
    await short  # ended a second ago


asyncio.run(main())
