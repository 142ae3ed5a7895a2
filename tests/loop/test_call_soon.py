"""The order in which ready callbacks run."""

from __future__ import annotations

import contextvars
import functools
import threading

import pytest


def drain(loop, turns=5):
    async def turns_of():
        import asyncio

        for _ in range(turns):
            await asyncio.sleep(0)

    loop.run_until_complete(turns_of())


def test_callbacks_run_in_the_order_of_their_calls(loop):
    log = []
    for i in range(100):
        loop.call_soon(log.append, i)
    drain(loop)
    assert log == list(range(100))


def test_callback_made_by_a_callback_runs_in_the_next_turn(loop):
    log = []

    def first():
        log.append("first")
        loop.call_soon(log.append, "made by first")

    loop.call_soon(first)
    loop.call_soon(log.append, "second")
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert log == ["first", "second", "made by first"]


def test_stop_lets_the_current_turn_end(loop):
    log = []
    loop.call_soon(loop.stop)
    loop.call_soon(log.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(log.append, "next turn"))
    loop.run_forever()
    assert log == ["same turn"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert log == ["same turn", "next turn"]


def test_stop_before_run_forever_runs_one_turn(loop):
    log = []
    loop.stop()
    loop.call_soon(log.append, 1)
    loop.run_forever()
    assert log == [1]


def test_cancelled_handle_does_not_run(loop):
    log = []
    handle = loop.call_soon(log.append, "cancelled")
    loop.call_soon(log.append, "kept")
    handle.cancel()
    assert handle.cancelled()
    drain(loop)
    assert log == ["kept"]


def test_handle_cancelled_by_an_earlier_callback_of_the_same_turn_does_not_run(loop):
    log = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(log.append, "never")
    drain(loop)
    assert log == []


def test_cancel_twice_and_after_the_run_is_harmless(loop):
    handle = loop.call_soon(lambda: None)
    drain(loop)
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()


def test_cancelled_handle_drops_its_arguments(loop):
    import weakref

    class Argument:
        pass

    argument = Argument()
    dead = weakref.ref(argument)
    handle = loop.call_soon(lambda _: None, argument)
    del argument
    handle.cancel()
    assert dead() is None


def test_callback_runs_in_the_given_context(loop):
    variable = contextvars.ContextVar("variable", default="outer")
    context = contextvars.copy_context()
    context.run(variable.set, "inner")
    log = []
    handle = loop.call_soon(lambda: log.append(variable.get()), context=context)
    loop.call_soon(lambda: log.append(variable.get()))
    drain(loop)
    assert log == ["inner", "outer"]
    if hasattr(handle, "get_context"):
        assert handle.get_context() is context


def test_context_is_taken_by_any_string_of_that_name_and_no_other_is(loop):
    variable = contextvars.ContextVar("variable", default=None)
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    log = []

    def look():
        log.append(variable.get())

    loop.call_soon(look, **{"".join(["con", "text"]): context})
    loop.call_later(0, look, **{"".join(["con", "text"]): context})
    for wrong in (
        {"kontext": context},
        {"context": context, "more": 1},
        {"more": 1, "context": context},
    ):
        for schedule in (loop.call_soon, functools.partial(loop.call_later, 0)):
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                schedule(look, **wrong)
    drain(loop)
    assert log == ["given", "given"]


def test_callback_takes_a_copy_of_the_current_context(loop):
    variable = contextvars.ContextVar("variable", default=0)
    log = []
    variable.set(1)
    loop.call_soon(lambda: log.append(variable.get()))
    variable.set(2)
    loop.call_soon(lambda: (log.append(variable.get()), variable.set(99)))
    loop.call_soon(lambda: log.append(variable.get()))
    drain(loop)
    assert log == [1, 2, 2]
    assert variable.get() == 2


def test_threadsafe_call_wakes_a_sleeping_loop(aio, loop):
    log = []

    def other_thread():
        loop.call_soon_threadsafe(log.append, "from outside")
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Timer(0.05, other_thread)
    thread.start()
    loop.run_forever()
    thread.join()
    assert log == ["from outside"]


def test_threadsafe_calls_of_many_threads_all_run_and_keep_each_threads_order(loop):
    threads, each = 8, 2_000
    log = []
    left = [threads]

    def done():
        left[0] -= 1
        if not left[0]:
            loop.stop()

    def call(number):
        for i in range(each):
            loop.call_soon_threadsafe(log.append, (number, i))
        loop.call_soon_threadsafe(done)

    workers = [threading.Thread(target=call, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    loop.run_forever()
    for worker in workers:
        worker.join()
    assert len(log) == threads * each
    for number in range(threads):
        assert [i for n, i in log if n == number] == list(range(each))


def test_threadsafe_call_from_the_loops_own_thread_keeps_its_place(loop):
    log = []

    def first():
        loop.call_soon(log.append, 1)
        loop.call_soon_threadsafe(log.append, 2)
        loop.call_soon(log.append, 3)

    loop.call_soon(first)
    drain(loop)
    assert log == [1, 2, 3]


def test_threadsafe_call_on_a_closed_loop_is_refused(aio):
    loop = aio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.call_soon_threadsafe(print)


def test_callback_that_reschedules_itself_does_not_starve_timers(loop):
    turns = 0
    fired = []

    def again():
        nonlocal turns
        turns += 1
        if not fired and turns < 3_000_000:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)
    start = loop.time()
    loop.call_later(0.02, lambda: fired.append(loop.time() - start))
    loop.run_forever()
    assert fired and fired[0] >= 0.02
    assert turns < 3_000_000


def test_callback_that_reschedules_itself_does_not_starve_readers(loop):
    import socket

    left, right = socket.socketpair()
    left.setblocking(False)
    turns = 0

    def again():
        nonlocal turns
        turns += 1
        if turns == 1_000:
            right.send(b"x")
        if turns < 1_000_000:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.add_reader(left, lambda: (left.recv(1), loop.stop()))
    loop.call_soon(again)
    loop.run_forever()
    loop.remove_reader(left)
    left.close()
    right.close()
    # asyncio polls every turn; a bounded number of turns without a poll is allowed, an unbounded one is not.
    assert turns < 100_000


def test_a_stream_of_threadsafe_calls_does_not_starve_timers(loop):
    stopping = threading.Event()

    def pour():
        # A loop which that keeps from its timers does not hear this, and runs into the limit of tests.
        while not stopping.is_set():
            loop.call_soon_threadsafe(lambda: None)

    thread = threading.Thread(target=pour)
    loop.call_later(0.02, loop.stop)
    thread.start()
    try:
        loop.run_forever()
    finally:
        stopping.set()
        thread.join()
    drain(loop)


def test_handle_repr_names_the_callback(loop):
    def the_callback():
        pass

    handle = loop.call_soon(the_callback)
    assert "the_callback" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)


def test_ready_queue_shows_its_length_to_those_who_look(loop):
    loop.call_soon(lambda: None)
    loop.call_soon(lambda: None)
    assert len(loop._ready) == 2
    drain(loop)
