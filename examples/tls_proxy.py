"""TLS outside, plain TCP inside: python examples/tls_proxy.py CERT KEY PORT HOST:PORT

Accepts TLS at PORT with the certificate CERT and its KEY, both files in PEM, and passes all on to
HOST:PORT. Memory stays bounded when one side is slower than the other: drain() waits for it.
"""

import contextlib
import ssl
import sys

import ioxide as asyncio

if len(sys.argv) != 5:
    sys.exit(__doc__)
CERT, KEY, PORT, TARGET = sys.argv[1:]
HOST, _, TARGET_PORT = TARGET.rpartition(":")


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, until it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():  # TLS cannot end one half
        writer.write_eof()


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        inner_reader, inner_writer = await asyncio.open_connection(HOST, TARGET_PORT)
        with contextlib.closing(inner_writer):
            there = asyncio.create_task(copy(reader, inner_writer))
            try:
                await copy(inner_reader, writer)  # once the inside has said all, it is over
            finally:
                there.cancel()
                await asyncio.wait([there])


async def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERT, KEY)
    async with await asyncio.start_server(proxy, "127.0.0.1", int(PORT), ssl=context) as server:
        print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
        await server.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
