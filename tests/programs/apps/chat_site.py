"""FastAPI: chat rooms over WebSocket, their history and an upload over HTTP; for uvicorn."""

import asyncio
import hashlib
from collections import defaultdict

from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect

app = FastAPI()


class Room:
    """Who is here, and everything that was said."""

    def __init__(self) -> None:
        self.members: dict[str, WebSocket] = {}
        self.history: list[dict[str, str]] = []
        self.order = asyncio.Lock()

    async def say(self, event: str, name: str, text: str = "") -> None:
        """Tell everybody, in the same order."""
        message = {"event": event, "name": name, "text": text}
        async with self.order:
            self.history.append(message)
            await asyncio.gather(
                *(member.send_json(message) for member in self.members.values()),
                return_exceptions=True,
            )


rooms: dict[str, Room] = defaultdict(Room)


@app.websocket("/rooms/{name}/{member}")
async def chat(socket: WebSocket, name: str, member: str) -> None:
    room = rooms[name]
    await socket.accept()
    room.members[member] = socket
    await socket.send_json({"event": "welcome", "name": member, "text": str(len(room.members))})
    try:
        while True:
            await room.say("said", member, await socket.receive_text())
    except WebSocketDisconnect:
        del room.members[member]
        await room.say("left", member)


@app.get("/rooms/{name}")
async def history(name: str) -> list[dict[str, str]]:
    if name not in rooms:
        raise HTTPException(404, "there is no such room")
    return rooms[name].history


@app.post("/digest")
async def digest(request: Request) -> dict[str, object]:
    """The digest of a body that is never held as a whole."""
    sha, size, most = hashlib.sha256(), 0, 0
    async for chunk in request.stream():
        sha.update(chunk)
        size += len(chunk)
        most = max(most, len(chunk))
    return {"sha256": sha.hexdigest(), "size": size, "most": most}


@app.get("/engine")
async def engine() -> dict[str, str]:
    return {
        "loop": type(asyncio.get_running_loop()).__module__.split(".")[0],
        "task": type(asyncio.current_task()).__module__.split(".")[0],
    }
