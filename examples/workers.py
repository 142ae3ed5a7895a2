"""Several processes on one port: python examples/workers.py [PORT] [PROCESSES]

Each process has a loop and a listening socket of its own, and the kernel deals the connections out
(`reuse_port`). The first process only watches: it replaces a worker that dies, and ends all of them
on SIGTERM or SIGINT.
"""

import os
import signal
import socket
import sys

import ioxide as asyncio

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
PROCESSES = int(sys.argv[2]) if len(sys.argv) > 2 else 4


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"process %d\n" % os.getpid())
    writer.close()


async def work(port: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with await asyncio.start_server(serve, "127.0.0.1", port, reuse_port=True):
        print(f"process {os.getpid()} serves", flush=True)
        await stopping.wait()


async def keep_one(command: list[str], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        worker = await asyncio.create_subprocess_exec(*command)
        ended = asyncio.create_task(worker.wait())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            worker.terminate()
        stop.cancel()
        print(f"process {worker.pid} ended with {await ended}", flush=True)


async def watch() -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with socket.socket() as taken:  # keeps the number while a worker is replaced; never listens
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", PORT))
        port = taken.getsockname()[1]
        print(f"{PROCESSES} processes on port {port}", flush=True)
        command = [sys.executable, __file__, str(port), "0"]
        await asyncio.gather(*[keep_one(command, stopping) for _ in range(PROCESSES)])


asyncio.run(watch() if PROCESSES else work(PORT))
