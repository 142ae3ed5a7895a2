"""Wait for one slow answer; and a loop asked for at module level, as programs used to do."""

import ioxide as asyncio


async def fetch() -> str:
    print("asking ...")
    await asyncio.sleep(2)  # the time a server might take
    print("... answered")
    return "the data"


async def both() -> list[str]:
    return await asyncio.gather(fetch(), fetch())


loop = asyncio.get_event_loop()
print(loop.run_until_complete(fetch()))
print(loop.run_until_complete(both()))
loop.close()
