"""An ASGI application that says which process and which loop serve."""

import asyncio
import os


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    kind = type(asyncio.get_running_loop())
    body = f"{os.getpid()} {kind.__module__}.{kind.__qualname__}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
