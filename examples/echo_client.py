"""Says something to the echo server and prints what comes back: echo_client.py [PORT] [WORDS]"""

import sys

import ioxide as asyncio

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
WORDS = sys.argv[2] if len(sys.argv) > 2 else "Hello, World!"


async def main() -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    print(f"sent: {WORDS}")
    writer.write(WORDS.encode())
    writer.write_eof()
    print(f"came back: {(await reader.read()).decode()}")
    writer.close()
    await writer.wait_closed()
    print("closed")


asyncio.run(main())
