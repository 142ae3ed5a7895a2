"""A web server that is only pretended: three clients, each a second to read and one to answer."""

import time

import ioxide as asyncio


async def serve(client: int) -> None:
    print(f"client {client} is here")
    await asyncio.sleep(1)  # its request comes over the wire
    print(f"client {client} has asked")
    await asyncio.sleep(1)  # the answer is made and sent
    print(f"client {client} has its answer")


async def main() -> None:
    started = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for number in range(3):
            clients.create_task(serve(number))
    print(f"{time.perf_counter() - started:.2f} s for all three")


if __name__ == "__main__":
    asyncio.run(main())
