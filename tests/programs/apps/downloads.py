"""httpx against uvicorn in one loop, over TLS; python downloads.py CERTS

Big downloads beside small ones through a pool of 20 connections, an answer that is too slow, one
that breaks off, and a client that gives up in the middle.
"""

import hashlib
import random
import ssl
import sys
from pathlib import Path

import ioxide as asyncio

asyncio.install()

import httpx  # noqa: E402
import uvicorn  # noqa: E402
from report import let_go, report  # noqa: E402

SMALL = 400
BIG = 8
BIG_SIZE = 4_000_000
CONNECTIONS = 20


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


class Site:
    """An ASGI application: /NUMBER/SIZE is noise; /slow, /broken and /endless are what they say."""

    def __init__(self) -> None:
        self.peers: set[tuple[str, int]] = set()
        self.hung_up = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        assert scope["type"] == "http" and scope["scheme"] == "https"
        self.peers.add(tuple(scope["client"]))
        kind, _, size = scope["path"][1:].partition("/")
        if kind == "slow":
            await receive()
            await receive()  # until the client hangs up
            self.hung_up.set()
            return
        headers = [(b"content-length", (size or "1000000000").encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if kind == "broken":
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ConnectionAbortedError("the page of this program that breaks off")
        if kind == "endless":
            while (await_sent := await self.more(receive, send)) is None:
                pass
            assert await_sent == "http.disconnect"
            self.hung_up.set()
            return
        body = content(int(kind), int(size))
        for start in range(0, len(body), 60_000):
            piece = body[start : start + 60_000]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def more(receive, send) -> str | None:
        """Send another piece; say why there should be no more."""
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        try:
            async with asyncio.timeout(0.001):
                while (message := await receive())["type"] == "http.request":
                    pass
                return message["type"]
        except TimeoutError:
            return None


async def small(client: httpx.AsyncClient, number: int) -> bool:
    size = number * 37
    return (await client.get(f"/{number}/{size}")).content == content(number, size)


async def big(client: httpx.AsyncClient, number: int) -> bool:
    sha = hashlib.sha256()
    async with client.stream("GET", f"/{number}/{BIG_SIZE}") as response:
        async for piece in response.aiter_bytes():
            sha.update(piece)
    return sha.digest() == hashlib.sha256(content(number, BIG_SIZE)).digest()


async def failure(waiting) -> str:
    try:
        await waiting
    except httpx.HTTPError as error:
        return type(error).__name__
    return "none"


async def main(certificates: Path) -> None:
    site = Site()
    config = uvicorn.Config(
        site,
        port=0,
        log_level="critical",
        lifespan="off",
        timeout_keep_alive=3600,
        ssl_certfile=str(certificates / "server.pem"),
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(
        base_url=f"https://localhost:{port}",
        verify=ssl.create_default_context(cafile=certificates / "ca.pem"),
        # None is closed for having been idle, on neither side.
        limits=httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=None),
        timeout=60,
    ) as client:
        good = await asyncio.gather(
            *(big(client, n) for n in range(BIG)), *(small(client, n) for n in range(SMALL))
        )
        connections = len(site.peers)
        failures = [
            await failure(client.get("/slow", timeout=httpx.Timeout(60, read=0.1))),
            await failure(client.get("/broken")),
        ]
        await site.hung_up.wait()
        site.hung_up.clear()
        async with client.stream("GET", "/endless") as response:
            async for _ in response.aiter_bytes():
                if response.num_bytes_downloaded > 3_000_000:
                    break
        await site.hung_up.wait()
        good.append(await small(client, 3))
    server.should_exit = True
    await serving
    await let_go()
    report(good=len(good), bad=good.count(False), connections=connections, failures=failures)


asyncio.run(main(Path(sys.argv[1])))
