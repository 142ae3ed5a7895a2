"""A server that ends well: python examples/graceful.py [PORT], then kill or Ctrl-C.

The first SIGTERM or SIGINT closes the door, and lets those go who wait for nothing. Who is being
served gets the answer, within GRACE seconds; a second signal ends the waiting.
"""

import signal
import sys

import ioxide as asyncio

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
ANSWER_TAKES = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5
GRACE = 10.0

stopping = asyncio.Event()
clients: set[asyncio.Task[None]] = set()
served: set[asyncio.Task[None]] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    me = asyncio.current_task()
    clients.add(me)
    try:
        while not stopping.is_set() and (line := await reader.readline()):
            served.add(me)
            print("asked", line.decode().strip(), flush=True)
            await asyncio.sleep(ANSWER_TAKES)
            writer.write(line.upper())
            await writer.drain()
            served.discard(me)
    finally:
        clients.discard(me)
        served.discard(me)
        writer.close()


def stop(number: signal.Signals) -> None:
    print(f"{number.name}: {len(served)} of {len(clients)} clients are being served", flush=True)
    # At the second signal nobody is waited for.
    for client in clients if stopping.is_set() else clients - served:
        client.cancel()
    stopping.set()


async def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await stopping.wait()
    server.close()
    late = (await asyncio.wait(clients, timeout=GRACE))[1] if clients else ()
    print(f"ended, {len(late)} clients given up")


asyncio.run(main())
