"""add_reader, add_writer and their removal."""

from __future__ import annotations

import os
import socket
import weakref

import pytest
from harness.implementation import run_turns


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


def test_reader_is_called_as_long_as_there_is_something_to_read(loop, pair):
    left, right = pair
    log = []

    def readable():
        log.append(left.recv(1))
        if len(log) == 3:
            loop.stop()

    loop.add_reader(left, readable)
    right.send(b"abc")
    loop.run_forever()
    assert log == [b"a", b"b", b"c"]
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_reader_of_a_quiet_descriptor_is_not_called(loop, pair):
    left, _ = pair
    loop.add_reader(left, lambda: pytest.fail("called"))
    run_turns(loop)
    loop.remove_reader(left)


def test_writer_is_called_once_a_turn_until_it_is_removed(loop, pair):
    left, _ = pair
    log = []

    def writable():
        log.append(1)
        if len(log) == 5:
            loop.remove_writer(left)
            loop.call_later(0.005, loop.stop)

    loop.add_writer(left, writable)
    loop.run_forever()
    assert len(log) == 5


def test_reader_and_writer_of_one_descriptor_are_independent(loop, pair):
    left, right = pair
    log = []
    loop.add_reader(left, lambda: (log.append(left.recv(10)), loop.remove_reader(left)))
    loop.add_writer(left, lambda: (log.append("writable"), loop.remove_writer(left)))
    run_turns(loop)
    assert log == ["writable"]
    right.send(b"late")
    run_turns(loop)
    assert log == ["writable", b"late"]
    assert not loop.remove_writer(left) and not loop.remove_reader(left)


def test_second_reader_replaces_the_first(loop, pair):
    left, right = pair
    right.send(b"x")
    log = []
    loop.add_reader(left, log.append, "first")
    loop.add_reader(left, lambda: (log.append("second"), left.recv(1), loop.stop()))
    loop.run_forever()
    loop.remove_reader(left)
    assert log == ["second"]


def test_reader_takes_a_file_number_or_an_object_with_fileno(loop, pair):
    left, right = pair

    class HasFileno:
        def fileno(self):
            return left.fileno()

    for what in (left, left.fileno(), HasFileno()):
        right.send(b"x")
        log = []
        loop.add_reader(what, lambda out=log: (out.append(left.recv(1)), loop.stop()))
        loop.run_forever()
        assert loop.remove_reader(what) is True
        assert log == [b"x"]


def test_reader_runs_with_its_arguments_and_the_registrations_context(loop, pair):
    import contextvars

    left, right = pair
    variable = contextvars.ContextVar("variable", default="nothing")
    log = []

    def register():
        variable.set("registered")
        loop.add_reader(left, lambda *args: (log.append((args, variable.get())), loop.stop()), 1, 2)

    contextvars.copy_context().run(register)
    right.send(b"x")
    loop.run_forever()
    loop.remove_reader(left)
    assert log == [((1, 2), "registered")]


def test_reader_hears_of_the_end(loop, pair):
    left, right = pair
    log = []
    loop.add_reader(left, lambda: (log.append(left.recv(1)), loop.stop()))
    right.close()
    loop.run_forever()
    loop.remove_reader(left)
    assert log == [b""]


def test_reader_removed_by_another_reader_of_the_same_turn_is_not_called(loop):
    pairs = [socket.socketpair() for _ in range(2)]
    log = []
    for i, (left, right) in enumerate(pairs):
        left.setblocking(False)
        right.send(b"x")
        loop.add_reader(
            left, lambda i=i: (log.append(i), [loop.remove_reader(a) for a, _ in pairs])
        )
    run_turns(loop)
    assert len(log) == 1
    for left, right in pairs:
        left.close()
        right.close()


def test_pipes_can_be_watched(loop):
    r, w = os.pipe()
    os.set_blocking(r, False)
    log = []
    loop.add_reader(r, lambda: (log.append(os.read(r, 10)), loop.stop()))
    os.write(w, b"pipe")
    loop.run_forever()
    loop.remove_reader(r)
    os.close(r)
    os.close(w)
    assert log == [b"pipe"]


def test_descriptor_number_used_again_after_removal_is_watched_anew(loop):
    for i in range(20):
        left, right = socket.socketpair()
        left.setblocking(False)
        log = []
        loop.add_reader(left, lambda s=left, out=log: (out.append(s.recv(1)), loop.stop()))
        right.send(b"%d" % (i % 10))
        loop.run_forever()
        loop.remove_reader(left)
        left.close()
        right.close()
        assert log == [b"%d" % (i % 10)]


def test_descriptor_closed_while_watched_does_not_break_the_loop(loop):
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(left, lambda: None)
    left.close()
    run_turns(loop)
    loop.remove_reader(number)
    again, other = socket.socketpair()
    log = []
    loop.add_reader(again, lambda: (log.append(again.recv(1)), loop.stop()))
    other.send(b"y")
    loop.run_forever()
    loop.remove_reader(again)
    for s in (right, again, other):
        s.close()
    assert log == [b"y"]


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_what_was_closed_first_is_removed_by_the_object(aio, loop, pair, side):
    """As with asyncio's selectors; libraries close a socket and then remove its reader."""
    left, right = pair
    add, remove = getattr(loop, f"add_{side}"), getattr(loop, f"remove_{side}")
    add(left, pytest.fail, "called")
    left.close()
    assert remove(left) is True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        remove(left)
    # Another that was never watched is not known.
    right.close()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        remove(right)
    run_turns(loop)


def test_loop_lets_go_of_a_socket_that_is_watched_no_more(loop, pair):
    _, right = pair
    again = socket.socket(fileno=os.dup(right.fileno()))
    kept = weakref.ref(again)
    loop.add_reader(again, pytest.fail, "called")
    loop.remove_reader(again)
    again.close()
    del again
    assert kept() is None


def test_wrong_descriptors_are_refused_and_the_loop_goes_on(loop):
    for wrong in (-1, "x", None, object()):
        with pytest.raises(ValueError, match="Invalid file "):
            loop.add_reader(wrong, print)
        with pytest.raises(ValueError, match="Invalid file "):
            loop.add_writer(wrong, print)
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    with pytest.raises(OSError):
        loop.add_reader(r, print)
    run_turns(loop)


def test_ordinary_file_is_refused_as_the_kernel_does(loop, tmp_path):
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)


def test_readers_do_not_starve_timers(loop, pair):
    left, right = pair
    right.send(b"x")
    calls = 0

    def readable():
        nonlocal calls
        calls += 1
        if calls == 1_000_000:
            loop.stop()

    loop.add_reader(left, readable)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    loop.remove_reader(left)
    # So many calls take more than twenty milliseconds on any machine.
    assert 0 < calls < 1_000_000


@pytest.mark.parametrize("again", ["call_soon", "call_later"])
def test_chain_of_callbacks_starves_neither_readers_nor_timers(loop, pair, again):
    left, right = pair
    seen = []
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        if steps == 100:
            # The loop does not hear of it.
            left.send(b"x")
            loop.call_later(0.001, seen.append, "timer")
        if len(seen) == 2:
            loop.stop()
        elif again == "call_soon":
            loop.call_soon(step)
        else:
            loop.call_later(0, step)

    def readable():
        seen.append(right.recv(1))
        loop.remove_reader(right)

    loop.add_reader(right, readable)
    loop.call_soon(step)
    loop.run_forever()
    assert set(seen) == {b"x", "timer"}
    assert steps >= 100


def test_sock_methods_move_bytes(aio, loop, pair):
    left, right = pair

    async def main():
        payload = bytes(range(256)) * 4096
        sender = aio.create_task(loop.sock_sendall(left, payload))
        got = bytearray()
        while len(got) < len(payload):
            got += await loop.sock_recv(right, 65536)
        await sender
        assert got == payload
        buffer = bytearray(8)
        await loop.sock_sendall(right, b"1234")
        assert await loop.sock_recv_into(left, buffer) == 4
        assert buffer == b"1234\0\0\0\0"

    loop.run_until_complete(main())


def test_sock_accept_and_connect(aio, loop):
    async def main():
        with socket.socket() as listener:
            listener.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with socket.socket() as client:
                client.setblocking(False)
                accepting = aio.create_task(loop.sock_accept(listener))
                await loop.sock_connect(client, listener.getsockname())
                connection, address = await accepting
                with connection:
                    assert address == client.getsockname()
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(connection, 10) == b"hello"

    loop.run_until_complete(main())


def test_sock_recv_cancelled_leaves_the_bytes(aio, loop, pair):
    left, right = pair

    async def main():
        receiving = aio.create_task(loop.sock_recv(left, 10))
        await aio.sleep(0.001)
        receiving.cancel()
        with pytest.raises(aio.CancelledError):
            await receiving
        right.send(b"kept")
        assert await loop.sock_recv(left, 10) == b"kept"

    loop.run_until_complete(main())


def test_blocking_socket_is_refused_in_debug_mode(aio, loop):
    with socket.socket() as blocking:
        loop.set_debug(True)
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            loop.run_until_complete(loop.sock_recv(blocking, 1))
        loop.set_debug(False)
