"""Connecting to an address that is a number, which needs neither a resolver nor a socket object."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import textwrap

import pytest

import ioxide

from .peers import Recorder, both, run, turns


def listening(backlog: int = 100) -> tuple[socket.socket, int]:
    sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    return sock, sock.getsockname()[1]


def refusing_port() -> int:
    sock, port = listening()
    sock.close()
    return port


@both
def test_what_is_known_of_a_connection(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server, port = listening()
        with server:
            transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
            accepted, peer = server.accept()
            with accepted:
                assert protocol.log == ["made"]
                assert transport.get_extra_info("peername") == ("127.0.0.1", port)
                assert transport.get_extra_info("sockname") == peer
                sock = transport.get_extra_info("socket")
                assert (sock.family, sock.type, sock.proto) == (
                    socket.AF_INET,
                    socket.SOCK_STREAM,
                    socket.IPPROTO_TCP,
                )
                assert sock.gettimeout() == 0
                assert not os.get_blocking(sock.fileno())
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                transport.close()
                await protocol.over

    run(main(), new_loop)


@both
def test_peer_of_an_unspecified_address_is_the_one_that_the_kernel_chose(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server, port = listening()
        with server:
            transport, protocol = await loop.create_connection(Recorder, "0.0.0.0", port)
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            transport.close()
            await protocol.over

    run(main(), new_loop)


@both
def test_refused_connection_says_so_in_the_same_words(new_loop):
    async def main():
        port = refusing_port()
        loop = asyncio.get_running_loop()
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(Recorder, "127.0.0.1", port)
        assert str(caught.value).endswith(f"Connect call failed ('127.0.0.1', {port})")
        with pytest.raises(ExceptionGroup) as group:
            await loop.create_connection(Recorder, "127.0.0.1", port, all_errors=True)
        assert [type(error) for error in group.value.exceptions] == [ConnectionRefusedError]

    if sys.version_info < (3, 12) and new_loop is asyncio.SelectorEventLoop:
        pytest.skip("asyncio does this since 3.12")
    run(main(), new_loop)


@both
def test_trying_again_and_again_lets_the_server_start(new_loop):
    async def main():
        port = refusing_port()
        loop = asyncio.get_running_loop()

        async def serve_late():
            await turns(5)
            return await loop.create_server(Recorder, "127.0.0.1", port)

        starting = asyncio.create_task(serve_late())
        while True:
            try:
                transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
                break
            except ConnectionRefusedError:
                continue
        transport.close()
        await protocol.over
        server = await starting
        server.close()

    run(main(), new_loop)


@both
def test_no_descriptor_is_left_over_when_the_protocol_cannot_be_made(new_loop):
    def fail():
        raise LookupError

    async def main():
        loop = asyncio.get_running_loop()
        server, port = listening()
        before = len(os.listdir("/proc/self/fd"))
        with server:
            for _ in range(3):
                with pytest.raises(LookupError):
                    await loop.create_connection(fail, "127.0.0.1", port)
            assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def crowded() -> tuple[socket.socket, int, socket.socket]:
    """A listener that takes no more connections, and the one that it has: the next gets no answer."""
    server, port = listening(0)
    return server, port, socket.create_connection(("127.0.0.1", port))


@both
def test_attempt_that_is_cancelled_leaves_no_descriptor(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server, port, waiting = crowded()
        before = len(os.listdir("/proc/self/fd"))
        attempt = asyncio.ensure_future(loop.create_connection(Recorder, "127.0.0.1", port))
        await turns(3)
        assert not attempt.done()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert len(os.listdir("/proc/self/fd")) == before
        for sock in [server, waiting]:
            sock.close()

    run(main(), new_loop)


@both
def test_cancelled_after_the_connection_stands_closes_it(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server, port = listening()
        with server:
            made = []

            def factory():
                made.append(Recorder())
                attempt.cancel()
                return made[0]

            attempt = asyncio.ensure_future(loop.create_connection(factory, "127.0.0.1", port))
            with pytest.raises(asyncio.CancelledError):
                await attempt
            await turns(3)
            assert made[0].log in ([], ["made", "lost:None"])
            gc.collect()

    run(main(), new_loop)


@pytest.mark.slow
@both
def test_attempt_that_takes_its_time_is_waited_for(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server, port, waiting = crowded()
        gone, gone_port, gone_waiting = crowded()
        attempt = asyncio.ensure_future(loop.create_connection(Recorder, "127.0.0.1", port))
        refused = asyncio.ensure_future(loop.create_connection(Recorder, "127.0.0.1", gone_port))
        await turns(3)
        # The kernel asks both again in a second.
        server.accept()[0].close()
        gone.close()
        transport, protocol = await attempt
        assert transport.get_extra_info("peername") == ("127.0.0.1", port)
        with pytest.raises(ConnectionError, match="Connect call failed"):
            await refused
        transport.write(b"hello")
        accepted, _ = server.accept()
        assert accepted.recv(5) == b"hello"
        accepted.sendall(b"world")
        while protocol.received != b"world":
            await asyncio.sleep(0)
        transport.close()
        await protocol.over
        for sock in [server, accepted, waiting, gone_waiting]:
            sock.close()

    run(main(), new_loop)


class Refused(Exception):
    pass


def test_class_in_the_place_of_socket_is_used(monkeypatch):
    class Guarded(socket.socket):
        def __new__(cls, *args, **kwargs):
            raise Refused

    async def main():
        with pytest.raises(Refused):
            await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", port)

    server, port = listening()
    with server, asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
        runner.get_loop()
        monkeypatch.setattr(socket, "socket", Guarded)
        runner.run(main())
        monkeypatch.undo()


def test_method_in_the_place_of_connect_is_used(monkeypatch):
    def connect(self, address):
        raise Refused

    async def main():
        monkeypatch.setattr(socket.socket, "connect", connect)
        with pytest.raises(Refused):
            await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", port)
        monkeypatch.undo()

    server, port = listening()
    with server:
        run(main())


@both
def test_loop_that_connects_in_its_own_way_does(new_loop):
    async def main():
        loop = asyncio.get_running_loop()

        async def sock_connect(sock, address):
            raise Refused

        loop.sock_connect = sock_connect
        with pytest.raises(Refused):
            await loop.create_connection(Recorder, "127.0.0.1", port)

    server, port = listening()
    with server:
        run(main(), new_loop)


def test_audit_hooks_see_the_socket_and_may_refuse():
    program = """
        import asyncio, socket, sys, ioxide

        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        seen = []

        def hook(event, args):
            if event == "socket.connect":
                seen.append(args)
                if len(seen) > 1:
                    raise PermissionError("no")

        async def main():
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            sock, address = seen[0]
            assert type(sock) is socket.socket and address == ("127.0.0.1", port), seen
            assert sock.fileno() == writer.get_extra_info("socket").fileno()
            writer.close()
            await writer.wait_closed()
            try:
                await asyncio.open_connection("127.0.0.1", port)
            except PermissionError:
                print("refused")

        sys.addaudithook(hook)
        ioxide.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
