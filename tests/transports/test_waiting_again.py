"""Operations on sockets that wait again and again: the kernel reports each change once, and none is lost."""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

import pytest

import ioxide

from .peers import both, run, turns


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def datagram_pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


PAIRS = {"tcp": tcp_pair, "unix": socket.socketpair, "datagrams": datagram_pair}
each_stream = pytest.mark.parametrize(
    "make_pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"]
)


def sockets(make_pair):
    pair = make_pair()
    for sock in pair:
        sock.setblocking(False)
    return pair


async def exchange(near, far, count=3):
    """Message after message, each of which is waited for: from now on the kernel tells of changes only."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        receive = await begun(loop.sock_recv(near, 100))
        far.send(b"x")
        assert await receive == b"x"


def on_pairs(*kinds):
    """On asyncio and on ioxide, the test is given the loop and a pair of sockets that have exchanged messages."""

    def decorate(test):
        @both
        @pytest.mark.parametrize("kind", kinds)
        def runs(new_loop, kind):
            async def main():
                near, far = sockets(PAIRS[kind])
                with near, far:
                    await exchange(near, far)
                    await test(asyncio.get_running_loop(), near, far)

            run(main(), new_loop)

        runs.__name__ = test.__name__
        return runs

    return decorate


async def begun(operation):
    """The task of an operation that waits already."""
    task = asyncio.get_running_loop().create_task(operation)
    await turns(1)
    return task


@on_pairs("tcp", "unix")
async def test_what_arrives_together_with_the_end_is_followed_by_the_end(loop, near, far):
    receive = await begun(loop.sock_recv(near, 100))
    far.send(b"last")
    far.shutdown(socket.SHUT_WR)
    assert await receive == b"last"
    for _ in range(3):
        assert await loop.sock_recv(near, 100) == b""


@on_pairs("tcp", "unix")
async def test_an_end_that_comes_while_nobody_waits_is_found_later(loop, near, far):
    far.close()
    await turns(3)
    assert await loop.sock_recv(near, 100) == b""
    assert await loop.sock_recv_into(near, bytearray(10)) == 0


@on_pairs("tcp")
async def test_a_reset_behind_a_message_is_found(loop, near, far):
    receive = await begun(loop.sock_recv(near, 100))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with pytest.raises(ConnectionResetError):
        await receive
    assert await loop.sock_recv(near, 100) == b""


@on_pairs("tcp")
async def test_what_stands_behind_urgent_data_is_read_on(loop, near, far):
    for _ in range(3):
        receive = await begun(loop.sock_recv(near, 100))
        far.send(b"before")
        far.send(b"!", socket.MSG_OOB)
        far.send(b"behind")
        assert await receive == b"before"
        assert await loop.sock_recv(near, 100) == b"behind"
    await exchange(near, far)


@on_pairs("unix")
async def test_what_stands_behind_a_message_with_descriptors_is_read_on(loop, near, far):
    receive = await begun(loop.sock_recv(near, 100))
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [far.fileno()]))
    far.sendmsg([b"with"], [rights])
    far.send(b"without")
    assert await receive == b"with"
    assert await loop.sock_recv(near, 100) == b"without"


@on_pairs("datagrams")
async def test_each_of_several_datagrams_is_received(loop, near, far):
    for receive in (loop.sock_recv, loop.sock_recvfrom):
        for _ in range(3):
            first = await begun(receive(near, 100))
            for message in (b"1", b"2", b"3"):
                far.send(message)
            received = [await first, await receive(near, 100), await receive(near, 100)]
            if receive == loop.sock_recvfrom:
                received = [data for data, _ in received]
            assert received == [b"1", b"2", b"3"]


@on_pairs("tcp", "unix")
async def test_what_arrives_while_nobody_waits_is_there_for_the_next(loop, near, far):
    for arrivals in (1, 2, 5):
        await exchange(near, far)
        for _ in range(arrivals):
            far.send(b"abc")
            await turns(2)
        received = b""
        while len(received) < 3 * arrivals:
            received += await loop.sock_recv(near, 4)
        assert received == b"abc" * arrivals


@on_pairs("tcp", "unix")
async def test_a_receive_that_is_cancelled_as_bytes_arrive_leaves_them(loop, near, far):
    for _ in range(3):
        await exchange(near, far)
        receive = await begun(loop.sock_recv(near, 100))
        far.send(b"kept")
        # In the turn in which it is woken, before it goes on.
        loop.call_soon(receive.cancel)
        with pytest.raises(asyncio.CancelledError):
            await receive
        assert await loop.sock_recv(near, 100) == b"kept"


@on_pairs("tcp", "unix")
async def test_a_reader_that_is_added_later_is_told_of_what_was_left(loop, near, far):
    for _ in range(3):
        await exchange(near, far)
        far.send(b"abc")
        assert await loop.sock_recv(near, 1) == b"a"
        told = []
        loop.add_reader(near, told.append, 1)
        while len(told) < 3:
            await turns(1)
        assert loop.remove_reader(near)
        await turns(2)
        count = len(told)
        assert await loop.sock_recv(near, 100) == b"bc"
        far.send(b"d")
        assert await loop.sock_recv(near, 100) == b"d"
        assert len(told) == count


@on_pairs("tcp", "unix")
async def test_a_receive_waits_beside_a_callback_for_writing(loop, near, far):
    receive = await begun(loop.sock_recv(near, 100))
    writable = asyncio.Event()
    loop.add_writer(near, writable.set)
    await writable.wait()
    assert not receive.done()
    loop.remove_writer(near)
    far.send(b"abc")
    assert await receive == b"abc"
    await exchange(near, far)


@both
@each_stream
def test_a_socket_of_an_old_number_is_another(new_loop, make_pair):
    async def main():
        loop = asyncio.get_running_loop()
        numbers = set()
        for _ in range(4):
            near, far = sockets(make_pair)
            numbers.add(near.fileno())
            with near, far:
                # The first message is there already, the others are waited for.
                far.send(b"first")
                assert await loop.sock_recv(near, 100) == b"first"
                await exchange(near, far)
        assert len(numbers) == 1

    run(main(), new_loop)


@on_pairs("tcp")
async def test_a_duplicate_goes_on_where_the_original_was_closed(loop, near, far):
    again = near.dup()
    again.setblocking(False)
    near.close()
    with again:
        # Under the number of the original, which the kernel still knows by the duplicate.
        other, end = sockets(tcp_pair)
        with other, end:
            for _ in range(3):
                await exchange(again, far)
                await exchange(other, end)


@on_pairs("tcp")
async def test_two_duplicates_share_what_arrives(loop, near, far):
    with near.dup() as again:
        again.setblocking(False)
        for _ in range(3):
            await exchange(near, far)
            await exchange(again, far)
            waits = await begun(loop.sock_recv(near, 100))
            far.send(b"abc")
            assert again.recv(2) == b"ab"
            assert await waits == b"c"


@both
def test_several_loops_take_turns_on_one_socket(new_loop):
    near, far = sockets(tcp_pair)
    loops = [new_loop(), new_loop()]
    with near, far:
        for _ in range(3):
            for loop in loops:
                loop.run_until_complete(exchange(near, far))
            # Both were told of this, and one has read it.
            far.send(b"abc")
            assert loops[0].run_until_complete(loops[0].sock_recv(near, 100)) == b"abc"
            loops[1].run_until_complete(turns(1))
    for loop in loops:
        loop.close()


@both
def test_connections_that_come_together_are_accepted_one_by_one(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            for count in (1, 3, 1, 2):
                accept = await begun(loop.sock_accept(listener))
                clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
                accepted = [await accept]
                accepted += [await loop.sock_accept(listener) for _ in range(count - 1)]
                names = {client.getsockname() for client in clients}
                assert {address for _, address in accepted} == names
                for sock in [*clients, *(sock for sock, _ in accepted)]:
                    sock.close()

    run(main(), new_loop)


@on_pairs("tcp", "unix")
async def test_sending_waits_for_room_between_receives(loop, near, far):
    data = random.Random(1).randbytes(3_000_000)
    for _ in range(2):
        await exchange(near, far)
        send = loop.create_task(loop.sock_sendall(near, data))
        receive = await begun(loop.sock_recv(near, 100))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(far, 100_000)
            if len(received) > len(data) // 2 and not receive.done():
                far.send(b"meanwhile")
                assert await receive == b"meanwhile"
        await send
        assert received == data


@both
def test_a_subclass_of_sockets_is_received_from(new_loop):
    class Special(socket.socket):
        pass

    async def main():
        near, far = sockets(tcp_pair)
        with Special(fileno=near.detach()) as special, far:
            special.setblocking(False)
            await exchange(special, far)

    run(main(), new_loop)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_on_its_own():
    near, far = sockets(tcp_pair)
    loop = ioxide.new_event_loop()
    with near, far:
        loop.run_until_complete(exchange(near, far))
        # One more wait, which is under way in both.
        receive = loop.create_task(loop.sock_recv(near, 100))
        loop.run_until_complete(turns(1))
        if (pid := os.fork()) == 0:
            code = 1
            try:
                far.send(b"child")
                assert loop.run_until_complete(receive) == b"child"
                loop.run_until_complete(exchange(near, far))
                code = 7
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        far.send(b"parent")
        assert loop.run_until_complete(receive) == b"parent"
        loop.run_until_complete(exchange(near, far))
    loop.close()


@both
def test_what_a_handler_of_signals_interrupts_is_told_later(new_loop):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    # Both calls keep the interpreter lock: the loop has collected the event when it sees the signal.
    c = ctypes.PyDLL(None)
    main_thread = threading.main_thread().ident
    c.pthread_kill.argtypes = [ctypes.c_ulong, ctypes.c_int]

    running = threading.Event()

    def send_and_interrupt():
        running.wait()
        time.sleep(0.02)  # until the loop sleeps
        descriptor, number = far.fileno(), signal.SIGUSR1
        c.send(descriptor, b"abc", 3, 0)
        c.pthread_kill(main_thread, number)

    near, far = sockets(tcp_pair)
    loop = new_loop()
    handler = signal.signal(signal.SIGUSR1, stop)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1)
    try:
        with near, far:
            loop.run_until_complete(exchange(near, far))
            receive = loop.create_task(loop.sock_recv(near, 100))
            loop.call_soon(running.set)
            thread = threading.Thread(target=send_and_interrupt)
            thread.start()
            try:
                with pytest.raises(Stop):
                    loop.run_until_complete(receive)
            finally:
                thread.join()
            assert loop.run_until_complete(asyncio.wait_for(receive, 50)) == b"abc"
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGUSR1, handler)
        loop.close()


@on_pairs("tcp", "unix", "datagrams")
async def test_messages_come_whole_whatever_the_last_ones_were(loop, near, far):
    rng = random.Random(1)
    kept = []
    for size in [5000, 5000, 5001, 9000, 100, 6000, 60_000, 4096, 1, 20_000, 3000, 4097]:
        for limit in (size + 1, size, 65_536):
            message = rng.randbytes(size)
            receive = await begun(loop.sock_recv(near, limit))
            assert far.send(message) == size
            kept.append((await receive, message))
    if near.type != socket.SOCK_DGRAM:
        far.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(near, 65_536) == b""
    # What the program has stays as it is.
    assert all(received == message for received, message in kept)


async def random_traffic(make_pair, seed):
    """Chunks of all sizes against receives of all sizes, which are cancelled at random."""
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    near, far = sockets(make_pair)
    sent, received = bytearray(), bytearray()
    told = asyncio.Event()

    async def receive(size):
        if rng.random() < 0.5:
            return await loop.sock_recv(near, size)
        buffer = bytearray(size)
        return buffer[: await loop.sock_recv_into(near, buffer)]

    with near, far:
        task = None
        for _ in range(150):
            action = rng.choice(["send", "send", "receive", "receive", "turns", "cancel", "reader"])
            if action == "send":
                chunk = rng.randbytes(rng.choice([1, 3, 10, 1000]))
                sent += chunk[: far.send(chunk)]
            elif action == "turns":
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
            elif task is None and action == "receive":
                task = loop.create_task(receive(rng.choice([1, 4, 100, 70_000])))
            elif task is None and action == "reader":
                told.clear()
                loop.add_reader(near, told.set)
                if len(sent) > len(received):
                    await told.wait()
                loop.remove_reader(near)
            elif task is not None:
                if action == "cancel":
                    rng.choice([loop.call_soon, lambda call: call()])(task.cancel)
                elif len(sent) == len(received):
                    continue
                with contextlib.suppress(asyncio.CancelledError):
                    received += await task
                task = None
        far.close()
        if task is not None:
            received += await task
        while data := await loop.sock_recv(near, 1000):
            received += data
    assert received == sent


@each_stream
def test_random_traffic_with_cancellations_loses_no_byte(make_pair):
    async def main():
        for seed in range(int(os.environ.get("IOXIDE_TRAFFIC", "100"))):
            try:
                async with asyncio.timeout(50):
                    await random_traffic(make_pair, seed)
            except BaseException:
                print("seed", seed)
                raise

    run(main())
