"""aiohttp: a site of 500 pages and a scraper that finds them by their links.

40 requests at once, a second of patience. Some pages are moved, never answered, or broken off
in the middle; the scraper knows each for what it is, and every byte of the others.
"""

import hashlib
import random

import ioxide as asyncio

asyncio.install()

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402
from report import let_go, report  # noqa: E402

PAGES = 500
AT_ONCE = 40
#: Pages without links onwards are of all kinds; the others come in one of the first three.
KINDS = ("plain", "chunked", "gzip", "moved", "silent", "broken")


def kind(number: int) -> str:
    whole = 2 * number + 1 < PAGES
    return KINDS[number % (3 if whole else len(KINDS))]


def content(number: int) -> bytes:
    """The page: a line of links, then noise."""
    links = [str(n) for n in (2 * number + 1, 2 * number + 2) if n < PAGES]
    noise = random.Random(number)
    return " ".join(links).encode() + b"\n" + noise.randbytes(noise.randrange(60_000))


class Site:
    """The server, and what it saw."""

    def __init__(self) -> None:
        self.given_up = 0
        #: How long whoever asks for a page will wait for it.
        self.patience: dict[int, asyncio.Timeout] = {}

    async def page(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        return await getattr(self, kind(number))(request, number)

    async def plain(self, request: web.Request, number: int) -> web.StreamResponse:
        await asyncio.sleep(0.002)
        return web.Response(body=content(number))

    async def chunked(self, request: web.Request, number: int) -> web.StreamResponse:
        response, body = web.StreamResponse(), content(number)
        await response.prepare(request)
        for start in range(0, len(body), 4999):
            await response.write(body[start : start + 4999])
        await response.write_eof()
        return response

    async def gzip(self, request: web.Request, number: int) -> web.StreamResponse:
        response = web.Response(body=content(number))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async def moved(self, request: web.Request, number: int) -> web.StreamResponse:
        raise web.HTTPFound(f"/elsewhere/{number}")

    async def silent(self, request: web.Request, number: int) -> web.StreamResponse:
        try:
            self.patience[number].reschedule(asyncio.get_running_loop().time() + 0.05)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        raise AssertionError("the client waited for an hour")

    async def broken(self, request: web.Request, number: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(content(number))
        request.transport.abort()
        return response

    async def elsewhere(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=content(int(request.match_info["number"])))


class Scraper:
    """Follows links, and notes how each page ended."""

    def __init__(
        self, site: Site, session: aiohttp.ClientSession, group: asyncio.TaskGroup
    ) -> None:
        self.site, self.session, self.group = site, session, group
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.outcomes: dict[int, str] = {}
        self.under_way = 0
        self.most = 0

    async def visit(self, number: int) -> None:
        assert number not in self.outcomes
        async with self.gate:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                # A page that comes is waited for, however slow the machine is.
                async with asyncio.timeout(None) as self.site.patience[number]:
                    links = await self.fetch(number)
            except TimeoutError:
                self.outcomes[number], links = "silent", []
            except aiohttp.ClientPayloadError:
                self.outcomes[number], links = "broken", []
            finally:
                self.under_way -= 1
        for link in links:
            self.group.create_task(self.visit(link))

    async def fetch(self, number: int) -> list[int]:
        async with self.session.get(f"/page/{number}") as response:
            response.raise_for_status()
            body = await response.read()
        if hashlib.sha256(body).digest() != hashlib.sha256(content(number)).digest():
            self.outcomes[number] = "different"
        elif response.history:
            self.outcomes[number] = "moved"
        elif "gzip" in response.headers.get("Content-Encoding", ""):
            self.outcomes[number] = "gzip"
        else:
            self.outcomes[number] = "plain" if "Content-Length" in response.headers else "chunked"
        return [int(link) for link in body.split(b"\n", 1)[0].split()]


async def main() -> None:
    site = Site()
    application = web.Application()
    application.add_routes(
        [web.get("/page/{number}", site.page), web.get("/elsewhere/{number}", site.elsewhere)]
    )
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with (
        aiohttp.ClientSession(f"http://{host}:{port}") as session,
        asyncio.TaskGroup() as group,
    ):
        scraper = Scraper(site, session, group)
        group.create_task(scraper.visit(0))
    await runner.cleanup()
    await let_go()
    report(
        wrong=[n for n in range(PAGES) if scraper.outcomes.get(n) != kind(n)],
        pages=len(scraper.outcomes),
        most=scraper.most,
        given_up=site.given_up,
        silent=sum(kind(n) == "silent" for n in range(PAGES)),
    )


asyncio.run(main())
