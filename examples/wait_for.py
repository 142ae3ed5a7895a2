"""Five seconds of work with two seconds of patience; what is given up is cancelled."""

import ioxide as asyncio


async def slow() -> None:
    print("this would take 5 s")
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        print("cancelled: there is time to tidy up")
        raise


async def main() -> None:
    try:
        await asyncio.wait_for(slow(), timeout=2)
    except asyncio.TimeoutError:
        print("given up after 2 s")


asyncio.run(main())
