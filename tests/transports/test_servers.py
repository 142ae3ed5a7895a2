"""Servers: contexts, ends, and what the factory raises."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket

import pytest

from .peers import Recorder, both, run, turns

var = contextvars.ContextVar("var", default="unset")


async def serve(factory):
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()


def test_each_connection_has_its_own_copy_of_the_servers_context():
    async def main():
        seen = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                seen.append(var.get())
                var.set("changed by one connection")

            def data_received(self, data):
                seen.append(var.get())

        var.set("server's")
        server, address = await serve(Protocol)
        var.set("changed afterwards")
        for _ in range(2):
            with socket.create_connection(address) as client:
                client.send(b"x")
                await turns()
        assert seen == ["server's", "changed by one connection"] * 2
        server.close()
        await server.wait_closed()

    run(main())


def test_what_the_factory_raises_is_told_and_the_others_are_served():
    async def main():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, c: errors.append(c))
        first = iter([True])

        def factory():
            if next(first, False):
                raise ZeroDivisionError
            return Recorder(made=lambda p: p.transport.write(b"hello"))

        server, address = await serve(factory)
        with (
            socket.create_connection(address) as refused,
            socket.create_connection(address) as served,
        ):
            await turns()
            assert served.recv(10) == b"hello"
            assert refused.recv(10) == b""
        assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
        server.close()
        await server.wait_closed()

    run(main())


def test_wait_closed_waits_for_the_last_client():
    async def main():
        server, address = await serve(Recorder)
        with socket.create_connection(address):
            await turns()
            waiting = asyncio.ensure_future(server.wait_closed())
            server.close()
            await turns()
            assert not waiting.done()
            assert server.sockets == ()
            server.close_clients()
            await waiting

    run(main())


def test_serve_forever_closes_everything_when_cancelled():
    async def main():
        server, address = await serve(Recorder)
        serving = asyncio.ensure_future(server.serve_forever())
        with socket.create_connection(address) as client:
            await turns()
            assert server.is_serving()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert client.recv(1) == b""
            assert not server.is_serving()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    run(main())


def test_a_unix_server_replaces_a_stale_socket_and_leaves_anothers(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        for _ in range(2):
            server = await loop.create_unix_server(Recorder, path, cleanup_socket=False)
            server.close()
        assert os.path.exists(path)  # noqa: ASYNC240
        server = await loop.create_unix_server(Recorder, path, cleanup_socket=True)
        transport, _ = await loop.create_unix_connection(Recorder, path)
        transport.close()
        await turns()
        os.unlink(path)
        other = await loop.create_unix_server(Recorder, path, cleanup_socket=True)
        server.close()
        assert os.path.exists(path)  # noqa: ASYNC240
        other.close()
        assert not os.path.exists(path)  # noqa: ASYNC240

    run(main())


def test_the_fastest_address_wins():
    async def main():
        loop = asyncio.get_running_loop()
        server, (host, port) = await serve(Recorder)

        async def resolve(*_, **__):
            # Nobody answers at the first, and the second refuses.
            hosts = ["192.0.2.1", "127.0.0.2", host]
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (one, port)) for one in hosts]

        loop.getaddrinfo = resolve
        transport, _ = await loop.create_connection(
            Recorder, "example.invalid", port, happy_eyeballs_delay=0.01
        )
        assert transport.get_extra_info("peername") == (host, port)
        transport.close()
        server.close()
        await server.wait_closed()

    run(main())


@both
def test_servers_may_share_a_port_and_serve_each_its_part(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        served = [0, 0]

        def factory(number):
            def count(protocol):
                served[number] += 1
                protocol.transport.close()

            return lambda: Recorder(made=count)

        one = await loop.create_server(factory(0), "127.0.0.1", 0, reuse_port=True)
        port = one.sockets[0].getsockname()[1]
        other = await loop.create_server(factory(1), "127.0.0.1", port, reuse_port=True)
        with pytest.raises(OSError, match="in use"):
            await loop.create_server(factory(1), "127.0.0.1", port)
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()
        # The kernel divides them by a hash of both addresses: that one gets none has the odds of 2 to the 99th.
        assert all(served) and sum(served) == 100
        one.close()
        other.close()

    run(main(), new_loop)
