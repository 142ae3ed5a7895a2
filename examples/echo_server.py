"""A TCP server that sends back what it gets: python examples/echo_server.py [PORT] [--quiet]"""

import sys

import ioxide as asyncio

QUIET = "--quiet" in sys.argv
PORT = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 8888)


def say(*words: object) -> None:
    if not QUIET:
        print(*words, flush=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = writer.get_extra_info("peername")[:2]
    try:
        while data := await reader.read(65536):
            say(f"{host}:{port} says {data.decode()!r}")
            writer.write(data)
            await writer.drain()
    except ConnectionError as error:
        say(f"{host}:{port} broke off: {error}")
    finally:
        say(f"{host}:{port} is gone")
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", PORT, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        say("stopped")
