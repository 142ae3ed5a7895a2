"""websockets over TLS: a hundred workers take jobs from one server; python ws_workers.py CERTS

Each job is a message of random size, in fragments or whole, compressed or not; the worker answers
with its digest. Some workers leave without a word in the middle, and their jobs go to others.
"""

import hashlib
import random
import ssl
import sys
from pathlib import Path

import websockets
from report import let_go, report

import ioxide as asyncio

WORKERS = 100
JOBS = 600
#: Every such worker takes two jobs and leaves without doing the second.
LEAVES = 10


def job(number: int) -> bytes:
    noise = random.Random(number)
    return noise.randbytes(noise.choice([0, 1, 125, 126, 65_535, 65_536, 150_000]))


class Office:
    """The server: what is to do, and what was answered."""

    def __init__(self) -> None:
        self.to_do: asyncio.Queue[int] = asyncio.Queue()
        self.answers: dict[int, str] = {}
        self.lost = 0
        self.codes: list[int | None] = []
        for number in range(JOBS):
            self.to_do.put_nowait(number)

    async def serve(self, worker: websockets.ServerConnection) -> None:
        assert worker.transport.get_extra_info("cipher")
        try:
            while True:
                number = await self.to_do.get()
                try:
                    await self.give(worker, number)
                except websockets.ConnectionClosed:
                    self.lost += 1
                    self.to_do.put_nowait(number)
                    return
                finally:
                    self.to_do.task_done()
        except asyncio.QueueShutDown:
            await worker.close(1001)
        finally:
            self.codes.append(worker.close_code)

    async def give(self, worker: websockets.ServerConnection, number: int) -> None:
        data = job(number)
        await worker.send(str(number))
        await worker.send(pieces(data) if number % 3 == 0 else data)
        answer = await worker.recv()
        assert number not in self.answers
        self.answers[number] = answer


async def pieces(data: bytes):
    """The data as fragments of one message, with turns of the loop in between."""
    for start in range(0, len(data), 7001):
        yield data[start : start + 7001]
        await asyncio.sleep(0)
    yield b""


async def work(number: int, port: int, tls: ssl.SSLContext) -> int:
    """Take jobs until the server closes; return how many."""
    compression = "deflate" if number % 2 else None
    done = 0
    async with websockets.connect(
        f"wss://localhost:{port}", ssl=tls, compression=compression, open_timeout=60
    ) as server:
        try:
            while True:
                await server.recv()
                data = await server.recv()
                if number % LEAVES == 0 and done == 1:
                    server.transport.abort()
                    return done
                await server.send(hashlib.sha256(data).hexdigest())
                done += 1
                if done % 5 == 0:
                    await (await server.ping())
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1001, closed
    return done


async def main(certificates: Path) -> None:
    office = Office()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificates / "server.pem")
    trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
    async with websockets.serve(office.serve, "localhost", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work(n, port, trusting)) for n in range(WORKERS)]
            await office.to_do.join()
            office.to_do.shutdown()
    await let_go()
    report(
        wrong=[
            n for n in range(JOBS) if office.answers.get(n) != hashlib.sha256(job(n)).hexdigest()
        ],
        done=sum(task.result() for task in workers),
        lost=office.lost,
        left=len([n for n in range(WORKERS) if n % LEAVES == 0]),
        gone=len(office.codes),
    )


asyncio.run(main(Path(sys.argv[1])))
