"""Servers: starting, serving, closing and waiting."""

from __future__ import annotations

import asyncio as stdlib
import contextlib
import os
import socket

import pytest
from harness.implementation import Reports, settle


class Held(stdlib.Protocol):
    """A connection that stays until it is told to go."""

    def __init__(self, held):
        self.held = held
        self.lost = stdlib.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.held.append(self)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def server_and_client(aio):
    loop = aio.get_running_loop()
    held = []
    server = await loop.create_server(lambda: Held(held), "127.0.0.1", 0)
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
    while not held:
        await aio.sleep(0.001)
    return server, held[0], reader, writer


def test_server_is_an_abstract_server_with_its_sockets(aio):
    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(stdlib.Protocol, "127.0.0.1", 0)
        assert isinstance(server, stdlib.AbstractServer)
        assert server.is_serving() and server.get_loop() is loop
        assert len(server.sockets) == 1 and server.sockets[0].getsockname()[0] == "127.0.0.1"
        server.close()
        server.close()
        await server.wait_closed()
        assert server.sockets == () and not server.is_serving()

    aio.run(main())


def test_server_started_later(aio):
    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(stdlib.Protocol, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        server.close()

    aio.run(main())


def test_server_as_context_manager_closes(aio):
    async def main():
        async with await aio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
            assert server.is_serving()
        assert not server.is_serving()

    aio.run(main())


def test_serve_forever_ends_by_cancellation_and_closes(aio):
    async def main():
        server = await aio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        task = aio.create_task(server.serve_forever())
        await aio.sleep(0)
        with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
            await server.serve_forever()
        task.cancel()
        with pytest.raises(aio.CancelledError):
            await task
        assert not server.is_serving()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    aio.run(main())


def test_close_refuses_new_connections_and_keeps_the_old_ones(aio):
    async def main():
        server, held, reader, writer = await server_and_client(aio)
        address = server.sockets[0].getsockname()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await aio.open_connection(*address)
        held.transport.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()
        await held.lost

    aio.run(main())


@pytest.mark.since(3, 12)
def test_wait_closed_waits_for_the_last_connection(aio):
    async def main():
        server, held, _, writer = await server_and_client(aio)
        server.close()
        waiting = aio.create_task(server.wait_closed())
        await settle(aio)
        assert not waiting.done()
        held.transport.close()
        await waiting
        writer.close()

    aio.run(main())


@pytest.mark.since(3, 13)
def test_close_clients_closes_each_connection_after_its_data(aio):
    async def main():
        server, held, reader, writer = await server_and_client(aio)
        held.transport.write(b"last words")
        server.close()
        server.close_clients()
        assert await reader.read() == b"last words"
        await server.wait_closed()
        assert await held.lost is None
        writer.close()

    aio.run(main())


@pytest.mark.since(3, 13)
def test_abort_clients_drops_each_connection_at_once(aio):
    async def main():
        server, held, reader, writer = await server_and_client(aio)
        held.transport.write(b"x" * 20_000_000)
        server.close()
        server.abort_clients()
        await server.wait_closed()
        assert await held.lost is None
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < 20_000_000
        writer.close()

    aio.run(main())


def test_address_in_use_is_told_with_errno_and_leaves_no_descriptor(aio):
    import errno

    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(stdlib.Protocol, "127.0.0.1", 0)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError) as caught:
            await loop.create_server(stdlib.Protocol, *server.sockets[0].getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        assert "address already in use" in str(caught.value).lower()
        assert len(os.listdir("/proc/self/fd")) == before
        server.close()

    aio.run(main())


def test_several_hosts_and_all_interfaces(aio):
    async def main():
        loop = aio.get_running_loop()
        server = await loop.create_server(stdlib.Protocol, ["127.0.0.1", "127.0.0.2"], 0)
        assert sorted(s.getsockname()[0] for s in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        server.close()
        server = await loop.create_server(stdlib.Protocol, None, 0)
        assert server.sockets
        server.close()

    aio.run(main())


def test_given_socket_is_served(aio):
    async def main():
        loop = aio.get_running_loop()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        held = []
        server = await loop.create_server(lambda: Held(held), sock=listener)
        _, writer = await aio.open_connection(*listener.getsockname())
        while not held:
            await aio.sleep(0.001)
        writer.close()
        await held[0].lost
        server.close()
        assert listener.fileno() == -1

    aio.run(main())


def test_wrong_arguments_are_refused(aio):
    async def main():
        loop = aio.get_running_loop()
        with pytest.raises(ValueError, match="Neither host/port nor sock were specified"):
            await loop.create_server(stdlib.Protocol)
        with (
            socket.socket() as s,
            pytest.raises(
                ValueError, match="host/port and sock can not be specified at the same time"
            ),
        ):
            await loop.create_server(stdlib.Protocol, "127.0.0.1", 0, sock=s)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s,
            pytest.raises(ValueError, match="A Stream Socket was expected, got "),
        ):
            await loop.create_server(stdlib.Protocol, sock=s)
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
            await loop.create_server(stdlib.Protocol, "127.0.0.1", 0, ssl=True)
        with pytest.raises(
            ValueError, match="host and port was not specified and no sock specified"
        ):
            await loop.create_connection(stdlib.Protocol)
        with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
            await loop.create_connection(stdlib.Protocol, "127.0.0.1", 1, server_hostname="x")

    aio.run(main())


@pytest.mark.filterwarnings("ignore:unclosed")  # asyncio leaves that connection to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failing_protocol_factory_is_reported_and_the_server_goes_on(aio):
    async def main():
        # asyncio says it in debug mode only.
        aio.get_running_loop().set_debug(True)
        reports = Reports(aio.get_running_loop())
        held = []

        def factory():
            if not reports:
                raise ValueError("no protocol")
            return Held(held)

        server = await aio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, writer = await aio.open_connection(*address)
        while not reports:
            await aio.sleep(0.001)
        writer.close()
        assert [str(e) for e in reports.exceptions()] == ["no protocol"]
        _, writer = await aio.open_connection(*address)
        while not held:
            await aio.sleep(0.001)
        writer.close()
        await held[0].lost
        server.close()

    aio.run(main())


def test_running_out_of_descriptors_is_reported_and_accepting_resumes(aio):
    import resource

    async def main():
        loop = aio.get_running_loop()
        reports = Reports(loop)
        held = []
        server = await loop.create_server(lambda: Held(held), "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_now = max(map(int, os.listdir("/proc/self/fd")))
        fillers = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 2, hard))
        try:
            try:
                while True:
                    fillers.append(os.dup(0))
            except OSError:
                pass
            client.connect_ex(server.sockets[0].getsockname())
            while not reports:
                await aio.sleep(0.005)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        assert "socket.accept() out of system resource" in reports[0]["message"]
        while not held:
            await aio.sleep(0.02)
        client.close()
        await held[0].lost
        server.close()

    aio.run(main())
