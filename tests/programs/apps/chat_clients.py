"""websockets and httpx: 200 people in one room of the chat site; python chat_clients.py URL

Everybody hears everything in the same order, also while half of them leave without a word.
"""

import asyncio
import hashlib
import json
import random
import sys

import httpx
import websockets
from report import let_go, report

import ioxide

PEOPLE = 200
SPEAKERS = 200
LEAVING = 100


class Person:
    """A client that writes down what it hears."""

    def __init__(self, number: int) -> None:
        self.name = f"person-{number}"
        self.heard: list[dict[str, str]] = []

    async def join(self, url: str) -> None:
        self.socket = await websockets.connect(
            f"{url}/rooms/lobby/{self.name}", max_queue=None, open_timeout=60
        )
        welcome = json.loads(await self.socket.recv())
        assert welcome["event"] == "welcome" and welcome["name"] == self.name

    async def listen(self, count: int) -> None:
        """Hear as many messages more."""
        for _ in range(count):
            self.heard.append(json.loads(await self.socket.recv()))


async def upload(client: httpx.AsyncClient) -> bool:
    """Send 8 MB in pieces of all sizes, whose digest the site makes."""
    noise, sha = random.Random(1), hashlib.sha256()

    async def pieces():
        left = 8_000_000
        while left:
            piece = noise.randbytes(min(left, noise.randrange(1, 200_000)))
            left -= len(piece)
            sha.update(piece)
            yield piece

    answer = (await client.post("/digest", content=pieces())).raise_for_status().json()
    return answer["size"] == 8_000_000 and answer["sha256"] == sha.hexdigest()


async def main(url: str) -> None:
    people = [Person(number) for number in range(PEOPLE)]
    await asyncio.gather(*(p.join(url.replace("http", "ws")) for p in people))

    async def speak(person: Person) -> None:
        await person.socket.send(f"{person.name} says héllo")

    await asyncio.gather(
        *(p.listen(SPEAKERS) for p in people), *(speak(p) for p in people[:SPEAKERS])
    )
    said = people[0].heard[:]
    spoken = sorted(f"{p.name} says héllo" for p in people[:SPEAKERS])

    staying, leaving = people[LEAVING:], people[:LEAVING]
    for person in leaving:
        person.socket.transport.abort()
    await asyncio.gather(*(p.listen(LEAVING) for p in staying))
    left = sorted(m["name"] for m in staying[0].heard[SPEAKERS:])

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        history = (await client.get("/rooms/lobby")).json()
        missing = (await client.get("/rooms/nowhere")).status_code
        uploaded = await upload(client)
        engine = (await client.get("/engine")).json()
    await asyncio.gather(*(p.socket.close() for p in staying))
    await let_go()
    report(
        all_spoken=sorted(m["text"] for m in said) == spoken,
        same_order=all(p.heard[:SPEAKERS] == said for p in people),
        all_left=left == sorted(p.name for p in leaving),
        history_is_what_was_heard=all(p.heard == history for p in staying),
        missing=missing,
        uploaded=uploaded,
        site=engine,
        closed=sorted({p.socket.close_code for p in people}),
    )


with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
    runner.run(main(sys.argv[1]))
