"""redis-py: publishers and subscribers, work queues, locks; python rooms_redis.py PORT SOCKET"""

import asyncio
import sys

import redis.asyncio as redis
from report import let_go, report

import ioxide

ROOMS = 5
SUBSCRIBERS = 50
MESSAGES = 200
WORKERS = 8
JOBS = 500


async def subscriber(client: redis.Redis, number: int, ready: asyncio.Barrier) -> list[bytes]:
    """Hear a room until the word is `over`."""
    heard = []
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"room:{number % ROOMS}")
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                await ready.wait()
            elif message["data"] == b"over":
                return heard
            else:
                heard.append(message["data"])
    raise AssertionError("the subscription ended")


async def publishers(client: redis.Redis, ready: asyncio.Barrier) -> int:
    """Say numbered messages in each room, in order; return how many ears they reached."""
    await ready.wait()

    async def publisher(room: int) -> int:
        ears = 0
        for number in range(MESSAGES):
            ears += await client.publish(f"room:{room}", f"{room}/{number}")
        await client.publish(f"room:{room}", "over")
        return ears

    return sum(await asyncio.gather(*(publisher(room) for room in range(ROOMS))))


async def worker(client: redis.Redis) -> int:
    """Take jobs from a list until there are none for a while."""
    done = 0
    while (job := await client.blpop(["jobs"], timeout=30)) is not None:
        if job[1] == b"stop":
            return done
        async with client.lock("ledger", timeout=60, sleep=0.001):
            # Not atomic on the server: only the lock makes it right.
            total = int(await client.get("ledger:total") or 0)
            await client.set("ledger:total", total + int(job[1]))
        done += 1
    raise AssertionError("no job came for half a minute")


async def give_up(client: redis.Redis) -> bool:
    """Cancel a client that waits for an answer: its connection must not hand it to the next one."""
    waiting = asyncio.create_task(client.blpop(["nothing"], timeout=30))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    answers = await asyncio.gather(*(client.echo(f"answer {n}") for n in range(50)))
    return answers == [f"answer {n}".encode() for n in range(50)]


async def main(port: int, path: str) -> None:
    async with (
        redis.Redis(port=port, max_connections=200) as tcp,
        redis.Redis(unix_socket_path=path) as unix,
    ):
        ready = asyncio.Barrier(SUBSCRIBERS + 1)
        async with asyncio.TaskGroup() as group:
            heard = [group.create_task(subscriber(tcp, n, ready)) for n in range(SUBSCRIBERS)]
            ears = group.create_task(publishers(unix, ready))
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(worker(tcp)) for _ in range(WORKERS)]
            async with unix.pipeline(transaction=True) as pipe:
                for number in range(JOBS):
                    pipe.rpush("jobs", number)
                pipe.rpush("jobs", *["stop"] * WORKERS)
                await pipe.execute()
        facts = {
            "ears": ears.result(),
            "heard": sum(
                task.result() == [f"{n % ROOMS}/{m}".encode() for m in range(MESSAGES)]
                for n, task in enumerate(heard)
            ),
            "done": sum(task.result() for task in workers),
            "total": int(await unix.get("ledger:total")),
            "gave_up": await give_up(tcp),
            "big": await unix.set("big", bytes(5_000_000)) and len(await tcp.get("big")),
        }
    await let_go()
    report(**facts)


with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
    runner.run(main(int(sys.argv[1]), sys.argv[2]))
