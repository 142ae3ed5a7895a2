"""Datagrams: whole, in order, from and to whom it says."""

from __future__ import annotations

import asyncio
import socket

import pytest

from .peers import both, run, turns


class Inbox(asyncio.DatagramProtocol):
    """Keeps what arrives; pauses after each datagram if told so."""

    def __init__(self, pause=False):
        self.got = []
        self.errors = []
        self.pause = pause

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.append((data, addr))
        if self.pause:
            self.transport.pause_reading()

    def error_received(self, exc):
        self.errors.append(exc)


async def endpoint(**options):
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(
        lambda: Inbox(options.pop("pause", False)), **options
    )


@both
def test_they_arrive_with_their_sender_and_in_order(new_loop):
    async def main():
        receiver, inbox = await endpoint(local_addr=("127.0.0.1", 0))
        sender, _ = await endpoint(local_addr=("127.0.0.1", 0))
        texts = [b"%d" % number for number in range(20)] + [bytes(60_000)]
        for text in texts:
            sender.sendto(text, receiver.get_extra_info("sockname"))
        await turns(20)
        address = sender.get_extra_info("sockname")
        assert inbox.got == [(text, address) for text in texts]
        sender.close()
        receiver.close()

    run(main(), new_loop)


@both
def test_none_is_delivered_while_paused_and_none_is_lost(new_loop):
    async def main():
        receiver, inbox = await endpoint(local_addr=("127.0.0.1", 0))
        inbox.pause = True
        sender, _ = await endpoint(remote_addr=receiver.get_extra_info("sockname"))
        for number in range(10):
            sender.sendto(b"%d" % number)
        for count in range(1, 11):
            await turns(3)
            assert len(inbox.got) == count
            receiver.resume_reading()
        assert [data for data, _ in inbox.got] == [b"%d" % number for number in range(10)]
        sender.close()
        receiver.close()

    run(main(), new_loop)


@both
def test_nobody_there_is_told_to_a_connected_endpoint(new_loop):
    async def main():
        gone, _ = await endpoint(local_addr=("127.0.0.1", 0))
        address = gone.get_extra_info("sockname")
        gone.close()
        await turns()
        sender, inbox = await endpoint(remote_addr=address)
        sender.sendto(b"anybody?")
        await turns()
        assert [type(error) for error in inbox.errors] == [ConnectionRefusedError]
        with pytest.raises(ValueError, match="Invalid address"):
            sender.sendto(b"x", ("127.0.0.1", 1))
        with pytest.raises(TypeError, match="bytes-like object"):
            sender.sendto("text")
        sender.close()

    run(main(), new_loop)


@both
def test_a_name_is_looked_up_by_the_socket(new_loop):
    async def main():
        receiver, inbox = await endpoint(local_addr=("127.0.0.1", 0))
        port = receiver.get_extra_info("sockname")[1]
        sender, _ = await endpoint(local_addr=("127.0.0.1", 0))
        sender.sendto(b"hello", ("localhost", port))
        await turns()
        assert [data for data, _ in inbox.got] == [b"hello"]
        sender.close()
        receiver.close()

    run(main(), new_loop)


def test_each_of_many_peers_gets_its_own_answers_at_once_and_later():
    async def main():
        receiver, inbox = await endpoint(local_addr=("127.0.0.1", 0))
        inbox.datagram_received = lambda data, addr: (
            inbox.got.append((data, addr)),
            receiver.sendto(b"at once:" + data, addr),
        )
        # More than are remembered.
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(300)]
        for number, client in enumerate(clients):
            client.setblocking(False)
            client.connect(receiver.get_extra_info("sockname"))
            client.send(b"%d" % number)
            if number % 50 == 0:
                await turns(1)
        while len(inbox.got) < len(clients):
            await turns(1)
        assert inbox.got == [(b"%d" % n, c.getsockname()) for n, c in enumerate(clients)]
        for data, address in inbox.got:
            receiver.sendto(b"later:" + data, address)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"at once:%d" % number
            assert client.recv(100) == b"later:%d" % number
            client.close()
        receiver.close()

    run(main())


@both
def test_a_broadcast_needs_leave_and_reaches_all_who_share_the_port(new_loop):
    async def main():
        first, inbox = await endpoint(local_addr=("0.0.0.0", 0), reuse_port=True)
        port = first.get_extra_info("sockname")[1]
        second, other_inbox = await endpoint(local_addr=("0.0.0.0", port), reuse_port=True)
        everybody = ("127.255.255.255", port)
        quiet, refused = await endpoint(local_addr=("127.0.0.1", 0))
        quiet.sendto(b"not allowed", everybody)
        loud, _ = await endpoint(local_addr=("127.0.0.1", 0), allow_broadcast=True)
        loud.sendto(b"to all", everybody)
        while not (inbox.got and other_inbox.got and refused.errors):
            await turns(1)
        assert [type(error) for error in refused.errors] == [PermissionError]
        heard = [(b"to all", loud.get_extra_info("sockname"))]
        assert inbox.got == other_inbox.got == heard
        for transport in first, second, quiet, loud:
            transport.close()

    run(main(), new_loop)
