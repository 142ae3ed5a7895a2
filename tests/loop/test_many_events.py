"""Many descriptors that are ready at once are passed on in groups, as if the kernel had told of one after the other."""

from __future__ import annotations

import asyncio
import socket

import pytest
from harness.implementation import run_turns

import ioxide

# More than are passed on in one turn.
MANY = 40


@pytest.fixture
def pairs():
    pairs = [socket.socketpair() for _ in range(MANY)]
    for left, right in pairs:
        left.setblocking(False)
        right.setblocking(False)
    yield pairs
    for left, right in pairs:
        left.close()
        right.close()


def let_all_be_readable(pairs):
    for _, right in pairs:
        right.send(b"x")


def test_what_events_wake_goes_on_before_the_last_of_them(aio, loop, pairs):
    log = []

    def readable(number, sock):
        loop.remove_reader(sock)
        log.append(("readable", number))
        loop.call_soon(log.append, ("after", number))

    for number, (left, _) in enumerate(pairs):
        loop.add_reader(left, readable, number, left)
    let_all_be_readable(pairs)
    run_turns(loop)
    assert [number for what, number in log if what == "readable"] == list(range(MANY))
    assert [number for what, number in log if what == "after"] == list(range(MANY))
    if aio is not asyncio:
        assert log.index(("after", 0)) < log.index(("readable", MANY - 1))


def test_a_busy_loop_passes_on_as_many_events_as_it_has_other_work(loop, pairs):
    """A loop with much to do in each turn must not keep events waiting for many turns."""
    turns = []
    seen = []

    def busy(first):
        if first:
            turns.append(None)
        if len(seen) < MANY:
            loop.call_soon(busy, first)

    def readable(sock):
        loop.remove_reader(sock)
        seen.append(len(turns))

    for left, _ in pairs:
        loop.add_reader(left, readable, left)
    let_all_be_readable(pairs)
    for number in range(MANY):
        loop.call_soon(busy, number == 0)
    run_turns(loop)
    assert len(seen) == MANY
    assert max(seen) - min(seen) <= 1


def test_callback_is_not_called_for_what_was_collected_before_it_came(loop, pairs):
    """The first event's callback takes what the last event told of, and lets another watch."""
    last, peer = pairs[-1]
    spurious = []

    def first(sock):
        sock.recv(1)
        loop.remove_reader(sock)
        assert last.recv(1) == b"x"
        loop.remove_reader(last)
        loop.add_reader(last, spurious.append, "called")

    def other(sock):
        sock.recv(1)

    loop.add_reader(pairs[0][0], first, pairs[0][0])
    for left, _ in pairs[1:]:
        loop.add_reader(left, other, left)
    # Writable as well, later: the descriptor stays registered when its reader goes.
    last.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(BlockingIOError):
        while True:
            last.send(bytes(65536))
    loop.add_writer(last, lambda: None)
    let_all_be_readable(pairs)
    run_turns(loop)
    assert not spurious
    peer.send(b"y")
    run_turns(loop)
    assert spurious
    loop.remove_writer(last)


@pytest.mark.parametrize("size, least, most", [(1_000, 1, MANY // 4), (60_000, MANY, MANY)])
def test_streams_that_get_much_are_passed_on_fewer_at_a_time(aio, loop, pairs, size, least, most):
    """What has arrived is read before more of it than the processor's cache holds is taken from the kernel."""
    turns = []
    seen = []
    last = loop.create_future()

    async def read(left):
        reader, writer = await ioxide.open_connection(sock=left)
        # What comes first is what the next events are taken to bring.
        await reader.readexactly(size)
        await reader.readexactly(size)
        seen.append(len(turns))
        if len(seen) == MANY:
            loop.stop()
        await last
        writer.close()

    def count():
        turns.append(None)
        loop.call_soon(count)

    tasks = [loop.create_task(read(left)) for left, _ in pairs]
    run_turns(loop)
    for _ in range(2):
        for _, right in pairs:
            right.sendall(bytes(size))
        if not turns:
            run_turns(loop, 3 * MANY)
            count()
    loop.run_forever()
    assert len(seen) == MANY
    last.set_result(None)
    loop.run_until_complete(asyncio.wait(tasks))
    if aio is not asyncio:
        assert least <= len(set(seen)) <= most


def test_stopping_among_many_events_loses_none(loop, pairs):
    log = []

    def readable(number, sock):
        loop.remove_reader(sock)
        log.append(number)
        loop.stop()

    for number, (left, _) in enumerate(pairs):
        loop.add_reader(left, readable, number, left)
    let_all_be_readable(pairs)
    runs = 0
    while len(log) < MANY:
        loop.run_forever()
        runs += 1
        assert runs <= MANY
    assert sorted(log) == list(range(MANY))


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_loses_no_event(aio, loop, pairs, exception):
    """Operations are told once: what is not passed on would be lost for good."""

    async def receive(left):
        return await loop.sock_recv(left, 1)

    def leave():
        raise exception

    tasks = [loop.create_task(receive(left)) for left, _ in pairs]
    run_turns(loop)
    let_all_be_readable(pairs)
    tasks[0].add_done_callback(lambda _: leave())
    with pytest.raises(exception):
        loop.run_forever()
    if aio is not asyncio:
        assert not all(task.done() for task in tasks)

    async def all_results():
        return await aio.gather(*tasks)

    results = loop.run_until_complete(all_results())
    assert results == [b"x"] * MANY


def test_closing_a_descriptor_drops_what_was_collected_for_it(loop, pairs):
    """Its number is another's by the time its event would be passed on."""
    victim, _ = pairs[-1]
    made = []
    log = []

    def first(sock):
        loop.remove_reader(sock)
        number = victim.fileno()
        loop.remove_reader(victim)
        victim.close()
        fresh, far = socket.socketpair()
        made.extend([fresh, far])
        reused = fresh if fresh.fileno() == number else far
        reused.setblocking(False)
        assert reused.fileno() == number
        loop.add_reader(reused, log.append, "wrong")

    def other(sock):
        loop.remove_reader(sock)

    loop.add_reader(pairs[0][0], first, pairs[0][0])
    for left, _ in pairs[1:]:
        loop.add_reader(left, other, left)
    let_all_be_readable(pairs)
    run_turns(loop)
    assert not log
    for sock in made:
        sock.close()
