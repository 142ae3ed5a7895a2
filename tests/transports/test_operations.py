"""Single operations on sockets: what is cancelled has taken nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from .peers import run, turns


def sockets():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def test_a_cancelled_receive_takes_no_byte():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        with near, far:
            task = loop.create_task(loop.sock_recv(near, 100))
            await turns(1)
            far.send(b"abc")
            # The socket is ready in this very turn; the task is cancelled before it goes on.
            loop.call_soon(loop.call_soon, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await loop.sock_recv(near, 100) == b"abc"

    run(main())


def test_a_cancelled_accept_takes_no_connection():
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = loop.create_task(loop.sock_accept(listener))
            await turns(1)
            with socket.create_connection(listener.getsockname()):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                connection, address = await loop.sock_accept(listener)
                connection.close()
                assert address[0] == "127.0.0.1"

    run(main())


def test_all_of_a_large_message_is_sent_to_a_slow_reader():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        with near, far:
            data = bytes(range(256)) * 8000
            task = loop.create_task(loop.sock_sendall(near, bytearray(data)))
            received = bytearray()
            while len(received) < len(data):
                received += await loop.sock_recv(far, 50_000)
            await task
            assert received == data

    run(main())


def test_an_operation_on_a_closed_socket_fails_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        near.close()
        far.close()
        for operation in (loop.sock_recv(near, 1), loop.sock_sendall(near, b"x")):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await operation

    run(main())


def test_a_file_cannot_be_sent_on_over_a_transport_that_is_aborted(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = tmp_path / "large"
        path.write_bytes(bytes(5_000_000))
        near, far = socket.socketpair()
        with far, path.open("rb") as file:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            task = loop.create_task(loop.sendfile(transport, file))
            await turns()
            transport.abort()
            with pytest.raises((OSError, asyncio.SendfileNotAvailableError)):
                await task

    run(main())
