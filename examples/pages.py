"""Three pages with aiohttp, from a server in this same loop that takes half a second for each.

aiohttp imports asyncio for itself, so `install()` comes first: then that is ioxide too.
"""

import time

import ioxide as asyncio

asyncio.install()

from aiohttp import ClientSession, web  # noqa: E402


async def page(request: web.Request) -> web.Response:
    await asyncio.sleep(0.5)
    return web.Response(text=f"<h1>page {request.match_info['name']}</h1>")


async def fetch(session: ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()


async def main() -> None:
    application = web.Application()
    application.add_routes([web.get("/{name}", page)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    started = time.perf_counter()
    async with ClientSession() as session:
        urls = [f"http://{host}:{port}/{name}" for name in ("one", "two", "three")]
        for text in await asyncio.gather(*(fetch(session, url) for url in urls)):
            print(text)
    print(f"{time.perf_counter() - started:.1f} s for three pages")
    await runner.cleanup()


asyncio.run(main())
