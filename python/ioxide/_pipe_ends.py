"""The parent's ends of a child's pipes: what their transports tell, and to whom it goes."""

from __future__ import annotations

import asyncio
from typing import Any


class WritePipeProtocol(asyncio.BaseProtocol):
    """The end of a child's standard input."""

    def __init__(self, process: Any, fd: int) -> None:
        self.process: Any = process
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: Any) -> None:
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        self.process._pipe_connection_lost(self.fd, exc)
        self.process = None

    def pause_writing(self) -> None:
        self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.process._protocol.resume_writing()


class ReadPipeProtocol(WritePipeProtocol, asyncio.Protocol):
    """The end of a child's standard output or error."""

    def data_received(self, data: bytes) -> None:
        self.process._pipe_data_received(self.fd, data)
