"""Names are looked up by threads of the loop's own, addresses without any."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

import ioxide


def run(main):
    with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 50))


@pytest.mark.parametrize(
    "host, port, options",
    [
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", "80", {"type": socket.SOCK_STREAM}),
        ("::1", 80, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}),
        (None, 0, {"flags": socket.AI_PASSIVE, "type": socket.SOCK_STREAM}),
        ("127.1", 80, {"family": socket.AF_INET}),
        ("localhost", 80, {"type": socket.SOCK_STREAM}),
        (b"localhost", "http", {"type": socket.SOCK_STREAM}),
    ],
)
def test_result_is_that_of_socket(host, port, options):
    async def main():
        return await asyncio.get_running_loop().getaddrinfo(host, port, **options)

    assert run(main()) == socket.getaddrinfo(host, port, **options)


@pytest.mark.parametrize("host, family", [("127.0.0.1", socket.AF_INET6), ("1.2.3.4.5", 0)])
def test_error_is_that_of_socket(host, family):
    async def main():
        await asyncio.get_running_loop().getaddrinfo(host, 80, family=family)

    with pytest.raises(socket.gaierror) as expected:
        socket.getaddrinfo(host, 80, family)
    with pytest.raises(socket.gaierror) as caught:
        run(main())
    assert caught.value.errno == expected.value.errno


def test_replaced_function_is_called_even_for_addresses(monkeypatch):
    calls = []

    def replaced(*args):
        calls.append((threading.current_thread().name, *args))
        return ["found"]

    monkeypatch.setattr(socket, "getaddrinfo", replaced)
    monkeypatch.setattr(socket, "getnameinfo", replaced)

    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.getaddrinfo("127.0.0.1", 80, type=1) == ["found"]
        assert await loop.getnameinfo(("127.0.0.1", 80), 3) == ["found"]
        assert loop._default_executor is None

    run(main())
    assert [call[1:] for call in calls] == [
        ("127.0.0.1", 80, 0, 1, 0, 0),
        (("127.0.0.1", 80), 3),
    ]
    assert all(call[0].startswith("ioxide_lookup") for call in calls)


def test_address_needs_no_thread(monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(type(loop), "run_in_executor", None)
        await loop.getaddrinfo("127.0.0.1", 80)
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await loop.getnameinfo(("127.0.0.1", 80), numeric) == ("127.0.0.1", "80")

    run(main())


def test_lookups_go_on_while_the_executor_is_shut_down():
    async def main():
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)

    run(main())
