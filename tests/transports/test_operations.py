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
            loop.call_soon(task.cancel)
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


@pytest.mark.parametrize("first", ["send", "receive", "either"])
def test_message_after_message_is_received_whether_it_is_there_or_still_to_come(first):
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        buffer = bytearray(100)
        with near, far:
            for number in range(100):
                message = b"%d" % number
                early = first == "send" or (first == "either" and number % 7 == 0)
                if early:
                    far.send(message)
                into = number % 2
                receive = loop.sock_recv_into(near, buffer) if into else loop.sock_recv(near, 100)
                task = loop.create_task(receive)
                if not early:
                    await asyncio.sleep(0)
                    far.send(message)
                received = await task
                assert (bytes(buffer[:received]) if into else received) == message

    run(main())


def test_a_new_socket_under_the_number_of_an_old_one_is_waited_for():
    async def main():
        loop = asyncio.get_running_loop()
        numbers = set()
        for _ in range(3):
            near, far = sockets()
            with near, far:
                numbers.add(near.fileno())
                for _ in range(3):
                    receive = loop.create_task(loop.sock_recv(near, 100))
                    await asyncio.sleep(0)
                    await loop.sock_sendall(far, b"x")
                    assert await receive == b"x"
        assert len(numbers) == 1

    run(main())


def test_one_socket_is_received_from_and_sent_to_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        with near, far:
            for _ in range(3):
                data = bytes(1_000_000)
                send = loop.create_task(loop.sock_sendall(near, data))
                receive = loop.create_task(loop.sock_recv(near, 100))
                await asyncio.sleep(0)
                await loop.sock_sendall(far, b"x")
                assert await receive == b"x"
                assert not send.done()
                left = len(data)
                while left:
                    left -= len(await loop.sock_recv(far, left))
                await send

    run(main())


def test_a_transport_takes_over_a_socket_that_operations_have_used():
    async def main():
        loop = asyncio.get_running_loop()
        near, far = sockets()
        with far:
            for _ in range(3):
                receive = loop.create_task(loop.sock_recv(near, 100))
                await asyncio.sleep(0)
                far.send(b"x")
                await receive
            reader, writer = await asyncio.open_connection(sock=near)
            for _ in range(3):
                line = loop.create_task(reader.readline())
                await asyncio.sleep(0)
                far.send(b"line\n")
                assert await line == b"line\n"
            writer.close()

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
