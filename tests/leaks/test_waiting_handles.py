"""Handles that wait are kept from the garbage collector, and must be no garbage for ever because of it."""

from __future__ import annotations

import gc
import weakref

import pytest

import ioxide


class Canary:
    def call(self, *args):
        pass


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture
def loop():
    loop = ioxide.new_event_loop()
    yield loop
    loop.close()


def test_handle_is_seen_by_the_collector_once_it_has_run(loop):
    soon, later = loop.call_soon(int), loop.call_later(0, int)
    assert not gc.is_tracked(soon) and not gc.is_tracked(later)
    turn(loop)
    turn(loop)
    assert gc.is_tracked(soon) and gc.is_tracked(later)


def test_timer_is_seen_by_the_collector_once_it_is_called_off(loop):
    timer = loop.call_later(1000, int)
    timer.cancel()
    assert gc.is_tracked(timer)


@pytest.mark.parametrize("end", ["run", "cancel", "close"])
def test_cycle_through_a_handle_is_collected(end):
    loop = ioxide.new_event_loop()
    thing = Canary()
    thing.soon = loop.call_soon(thing.call, thing)
    thing.later = loop.call_later(0 if end == "run" else 1000, thing.call, thing)
    thing.loop = loop
    canary = weakref.ref(thing)
    if end == "cancel":
        thing.soon.cancel()
        thing.later.cancel()
    if end != "close":
        turn(loop)
        turn(loop)
    loop.close()
    del thing, loop
    gc.collect()
    assert canary() is None


def test_handles_die_with_a_loop_that_was_forgotten():
    loop = ioxide.new_event_loop()
    thing = Canary()
    thing.loop = loop
    loop.call_soon(thing.call, 1, thing)
    loop.call_later(1000, thing.call)
    future = loop.create_future()
    future.add_done_callback(thing.call)
    future.set_result(None)
    canary = weakref.ref(thing)
    del thing, loop, future
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert canary() is None


def test_a_collection_beside_waiting_handles_leaves_them_alone(loop):
    ran = []
    kept = [loop.call_soon(ran.append, [number]) for number in range(100)]
    for number in range(100, 200):
        loop.call_soon(ran.append, [number])
        loop.call_later(0, ran.append, [number + 100])
    gc.collect()
    turn(loop)
    turn(loop)
    assert ran == [[number] for number in range(300)]
    del kept
