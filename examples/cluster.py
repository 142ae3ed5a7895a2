"""A server that computes on a Dask cluster, and loses nothing when a worker is killed half-way.

With `install()` Dask's scheduler, its client and this server share one loop.
"""

import os
import signal
import time

import ioxide as asyncio

asyncio.install()

from distributed import Client, LocalCluster  # noqa: E402

QUESTIONS = [20_000 + 100 * number for number in range(60)]


def primes_below(limit: int) -> tuple[int, int]:
    """How many there are, and the process that counted them: slow on purpose."""
    count = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))
    return count, os.getpid()


async def ask(address: tuple[str, int], limit: int) -> tuple[int, int, int]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"%d\n" % limit)
    count, pid = map(int, (await reader.read()).split())
    writer.close()
    return limit, count, pid


async def main() -> None:
    loop = asyncio.get_running_loop()
    workers = {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": None}
    cluster = LocalCluster(asynchronous=True, **workers)
    async with cluster, Client(cluster, asynchronous=True) as client:
        executor = client.get_executor(pure=False)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            limit = int(await reader.readline())
            writer.write(b"%d %d\n" % await loop.run_in_executor(executor, primes_below, limit))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address, began, counts = server.sockets[0].getsockname(), time.perf_counter(), {}
        answers = [asyncio.ensure_future(ask(address, limit)) for limit in QUESTIONS]
        for done, answer in enumerate(asyncio.as_completed(answers), 1):
            limit, counts[limit], pid = await answer
            print(f"{done}/{len(QUESTIONS)}: {counts[limit]} primes below {limit}", flush=True)
            if done == len(QUESTIONS) // 3:
                print(f"killing worker {pid}", flush=True)
                os.kill(pid, signal.SIGKILL)
        server.close()
        wrong = [n for n in QUESTIONS[::10] if counts[n] != primes_below(n)[0]]
        print(f"{len(counts)} answers, {len(wrong)} wrong, {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
