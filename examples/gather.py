"""Three jobs of 2, 1 and 3 seconds at the same time: the longest decides, not the sum."""

import time

import ioxide as asyncio


async def job(name: str, seconds: float) -> str:
    print(f"{name} starts")
    await asyncio.sleep(seconds)
    print(f"{name} ends after {seconds} s")
    return f"result of {name}"


async def main() -> None:
    started = time.perf_counter()
    # Results come in the order of the arguments, whichever job ends first.
    results = await asyncio.gather(job("A", 2), job("B", 1), job("C", 3))
    print(results)
    print(f"{time.perf_counter() - started:.1f} s in all")


asyncio.run(main())
