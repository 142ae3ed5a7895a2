"""Follows the links of a site: python examples/scraper.py URL [MOST_PAGES]

Ten requests at a time, ten seconds for each; what fails is counted and does not stop the rest.
"""

import re
import sys
from urllib.parse import urldefrag, urljoin

import ioxide as asyncio

asyncio.install()  # so that aiohttp uses ioxide too

import aiohttp  # noqa: E402

AT_ONCE = 10
PATIENCE_S = 10
LINK = re.compile(rb'href="([^"]+)"')


class Scraper:
    def __init__(self, start: str, most: int) -> None:
        self.start, self.most = start, most
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.seen: set[str] = set()

    async def run(self) -> None:
        async with aiohttp.ClientSession() as self.session, asyncio.TaskGroup() as self.group:
            self.follow(self.start)

    def follow(self, url: str) -> None:
        """Visit a page of this site, unless that has been done."""
        if url.startswith(self.start) and url not in self.seen and len(self.seen) < self.most:
            self.seen.add(url)
            self.group.create_task(self.visit(url))

    async def visit(self, url: str) -> None:
        try:
            async with self.gate, asyncio.timeout(PATIENCE_S), self.session.get(url) as response:
                response.raise_for_status()
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            print(f"{url}  failed: {error or type(error).__name__}")
            return
        print(f"{url}  {len(body)} bytes")
        for link in LINK.findall(body):
            self.follow(urldefrag(urljoin(url, link.decode(errors="replace"))).url)


if len(sys.argv) < 2:
    sys.exit(__doc__)
scraper = Scraper(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
asyncio.run(scraper.run())
print(f"{len(scraper.seen)} pages")
