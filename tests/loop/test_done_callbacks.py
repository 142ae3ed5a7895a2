"""What a future calls when it is done: as handles for those who look, whatever it is inside."""

from __future__ import annotations

import contextvars
import gc

import pytest
from harness.implementation import Reports

variable = contextvars.ContextVar("variable", default="unset")


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_callbacks_of_a_done_future_stand_in_the_ready_queue_as_handles(aio, loop):
    log = []
    future = loop.create_future()
    for name in ("first", "second", "third"):
        future.add_done_callback(lambda _, name=name: log.append(name))
    future.set_result(None)
    ready = list(loop._ready)
    assert [type(handle) for handle in ready] == [aio.Handle] * 3
    assert ready[1] is loop._ready[1]
    ready[1].cancel()
    turn(loop)
    assert log == ["first", "third"]


def test_callbacks_of_a_done_future_keep_their_place_among_others(loop):
    log = []
    futures = [loop.create_future() for _ in range(3)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: log.append(number))
    futures[2].set_result(None)
    loop.call_soon(log.append, "between")
    futures[0].set_result(None)
    assert len(loop._ready) == 3
    futures[1].cancel()
    turn(loop)
    assert log == [2, "between", 0, 1]


@pytest.mark.parametrize("debug", [False, True])
def test_callback_that_raises_is_reported_with_its_handle(loop, debug):
    loop.set_debug(debug)
    reports = Reports(loop)
    error = ZeroDivisionError("the reason")

    def the_callback(_future):
        raise error

    future = loop.create_future()
    future.add_done_callback(the_callback)
    future.set_result(None)
    turn(loop)
    (report,) = reports
    assert report["exception"] is error
    assert "the_callback" in report["message"]
    assert report["handle"]._callback is the_callback and report["handle"]._args == (future,)
    assert ("source_traceback" in report) is debug


def test_report_knows_what_the_callback_has_set(loop):
    reports = Reports(loop)

    def the_callback(_future):
        variable.set("set")
        raise ZeroDivisionError

    future = loop.create_future()
    future.add_done_callback(the_callback)
    future.set_result(None)
    turn(loop)
    assert reports[0]["handle"]._context[variable] == "set"
    assert variable.get() == "unset"


def test_callbacks_do_not_see_what_another_has_set(loop):
    seen = []

    def the_callback(future):
        seen.append(variable.get())
        variable.set(future)

    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        future.add_done_callback(the_callback)
    for future in futures:
        future.set_result(None)
    turn(loop)
    assert seen == ["unset"] * 3


def test_given_context_is_entered_by_its_own_callback_alone(loop):
    context = contextvars.copy_context()
    refused = []

    def the_callback(_future):
        try:
            context.run(int)
        except RuntimeError as error:
            refused.append(str(error))

    for _ in range(2):
        future = loop.create_future()
        future.add_done_callback(the_callback, context=context)
        future.set_result(None)
    turn(loop)
    assert len(refused) == 2 and all("already entered" in message for message in refused)
    assert context.run(lambda: "free again") == "free again"


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_leaves_it_from_a_callback_too(loop, leaving):
    def the_callback(_future):
        raise leaving

    future = loop.create_future()
    future.add_done_callback(the_callback)
    future.set_result(None)
    with pytest.raises(leaving):
        loop.run_forever()
    turn(loop)


def test_attributes_of_a_future_live_beside_whoever_waits_for_it(aio, loop):
    """The interpreter keeps attributes where ours keeps the waiters."""

    async def wait_for(future):
        await future

    def quiet(_future):
        pass

    async def main():
        gate = loop.create_future()
        made = {}
        for kind in ("nobody", "callback", "task", "target", "several"):
            for thing in (loop.create_future(), aio.create_task(wait_for(gate))):
                if kind in ("callback", "several"):
                    thing.add_done_callback(quiet)
                if kind in ("task", "several"):
                    thing.waits = aio.create_task(wait_for(thing))
                if kind == "target":
                    thing.gathered = aio.gather(thing)
                made[kind, type(thing)] = thing
        await aio.sleep(0)
        for key, thing in made.items():
            assert not hasattr(thing, "colour")
            thing.colour = key
            thing.other = [key]
        gc.collect()
        for key, thing in made.items():
            assert (thing.colour, thing.other) == (key, [key])
            del thing.colour
            assert not hasattr(thing, "colour")
            assert thing.remove_done_callback(quiet) == (key[0] in ("callback", "several"))
        gate.set_result(None)
        await aio.sleep(0)
        for thing in made.values():
            if not thing.done():
                thing.set_result(None)
        await aio.sleep(0)
        await aio.sleep(0)
        assert all(thing.waits.done() for thing in made.values() if hasattr(thing, "waits"))

    loop.run_until_complete(main())
