"""anyio: a relay between its TLS clients and its own TCP server; python relay_anyio.py CERTS

Clients send streams of lines through TLS; the relay passes them on by TCP and their answers back.
Groups are cancelled, time runs out, and work goes to threads and to a process on the way.
"""

import contextlib
import hashlib
import random
import ssl
import sys
from pathlib import Path

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSStream
from report import let_go, report

import ioxide

CLIENTS = 60
LINES = 40
#: These clients stop in the middle of a line, and are cancelled with what they wait for.
CANCELLED = 6
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


def lines(client: int) -> list[bytes]:
    noise = random.Random(client)
    return [noise.randbytes(noise.randrange(4000)).hex().encode() for _ in range(LINES)]


async def answer(stream: SocketStream) -> None:
    """The server behind the relay: the digest of each line, made in a thread."""
    async with stream:
        buffered = BufferedByteReceiveStream(stream)
        try:
            while True:
                line = await buffered.receive_until(b"\n", 20_000)
                digest = await anyio.to_thread.run_sync(hashlib.sha256, line)
                await stream.send(digest.hexdigest().encode() + b"\n")
        except anyio.IncompleteRead:
            return


class Relay:
    """Passes bytes both ways, and ends both ways when one has ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.opened = 0
        self.closed = 0
        self.passed = 0

    async def __call__(self, client: TLSStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self.port) as server,
            anyio.create_task_group() as both,
        ):
            self.opened += 1
            both.start_soon(self.copy, client, server)
            await self.copy(server, client)
            both.cancel_scope.cancel()
        self.closed += 1

    async def copy(self, source, target) -> None:
        with contextlib.suppress(*GONE):
            async for data in source:
                await target.send(data)
                self.passed += len(data)
        with contextlib.suppress(*GONE):
            # Only TCP can end one half of a connection.
            if isinstance(target, SocketStream):
                await target.send_eof()


async def ask(client: int, port: int, tls: ssl.SSLContext, answers: dict[int, bool]) -> None:
    """Send all lines while the answers come, and compare them."""
    async with await anyio.connect_tcp(
        "127.0.0.1",
        port,
        tls_hostname="localhost",
        ssl_context=tls,
        tls_standard_compatible=False,
    ) as stream:
        if client < CANCELLED:
            await stream.send(b"half a line")
            await stream.receive()
        data = lines(client)

        async def send() -> None:
            for line in data:
                await stream.send(line + b"\n")

        buffered = BufferedByteReceiveStream(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            answers[client] = [await buffered.receive_until(b"\n", 100) for _ in data] == [
                hashlib.sha256(line).hexdigest().encode() for line in data
            ]


async def main(certificates: Path) -> None:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificates / "server.pem")
    trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
    answers: dict[int, bool] = {}
    async with anyio.create_task_group() as servers:
        behind = await anyio.create_tcp_listener(local_host="127.0.0.1")
        servers.start_soon(behind.serve, answer)
        relay = Relay(behind.extra(anyio.abc.SocketAttribute.local_port))
        front = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = front.extra(anyio.abc.SocketAttribute.local_port)
        listener = anyio.streams.tls.TLSListener(front, serving, standard_compatible=False)
        servers.start_soon(listener.serve, relay)
        with anyio.move_on_after(60) as limit:
            async with anyio.create_task_group() as group:
                for client in range(CANCELLED, CLIENTS):
                    group.start_soon(ask, client, port, trusting, answers)
        with anyio.CancelScope() as given_up:
            async with anyio.create_task_group() as group:
                for client in range(CANCELLED):
                    group.start_soon(ask, client, port, trusting, answers)
                while relay.opened < CLIENTS:
                    await anyio.sleep(0.01)
                given_up.cancel()
        while relay.closed < CLIENTS:
            await anyio.sleep(0.01)
        said = await anyio.run_process([sys.executable, "-c", "print(6 * 7)"])
        servers.cancel_scope.cancel()
    await behind.aclose()
    await front.aclose()
    await let_go()
    report(
        right=sum(answers.values()),
        answered=len(answers),
        in_time=not limit.cancelled_caught,
        given_up=given_up.cancelled_caught,
        closed=relay.closed,
        said=said.stdout.decode().strip(),
    )


anyio.run(main, Path(sys.argv[1]), backend_options={"loop_factory": ioxide.new_event_loop})
