"""A chat room for `nc localhost 8889`: python examples/chat_server.py [PORT]

The first line that somebody sends is a name; every other one goes to all the others.
"""

import sys

import ioxide as asyncio

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8889
MOST_WAITING = 100_000  # bytes for somebody who does not listen, before we hang up

people: dict[str, asyncio.StreamWriter] = {}


def tell(others: str, text: str) -> None:
    """Tell everybody but one."""
    for name, writer in people.items():
        if name == others:
            continue
        if writer.transport.get_write_buffer_size() > MOST_WAITING:
            writer.transport.abort()
        else:
            writer.write(text.encode() + b"\n")


async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = ""
    try:
        writer.write(b"your name? ")
        name = (await reader.readline()).decode(errors="replace").strip()
        if not name or name in people:
            writer.write(b"not that one\n")
            return
        writer.write(f"here are: {', '.join(people) or 'only you'}\n".encode())
        people[name] = writer
        tell(name, f"* {name} has come")
        async for line in reader:
            tell(name, f"{name}: {line.decode(errors='replace').rstrip()}")
    except (ConnectionError, ValueError):  # broke off, or a line that never ends
        pass
    finally:
        if people.get(name) is writer:
            del people[name]
            tell(name, f"* {name} has gone")
        writer.close()


async def main() -> None:
    async with await asyncio.start_server(chat, "127.0.0.1", PORT) as server:
        print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
