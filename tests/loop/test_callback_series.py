"""Callbacks that follow each other in the same context: nobody can tell that it is entered once for all of them."""

from __future__ import annotations

import contextvars
import functools
import types
import weakref

import pytest

where = contextvars.ContextVar("where", default="nowhere")


def nothing(*_arguments):
    pass


def run(loop):
    """Runs what is ready, where the variable has another value than in the callbacks made before."""
    loop.call_soon(nothing)
    loop.call_soon(loop.stop)
    contextvars.copy_context().run(run_outside, loop)


def run_outside(loop):
    where.set("outside")
    loop.run_forever()


class Dying:
    """Notes where it dies."""

    def __init__(self, log):
        self.log = log

    def __call__(self, *_arguments):
        pass

    def method(self, *_arguments):
        pass

    def __del__(self):
        self.log.append(where.get())


def call_off_while_running(loop, dying):
    box = []

    def callback(_dying=dying):
        box.pop().cancel()

    box.append(loop.call_soon(callback))


DEATHS = {
    "callback": lambda loop, dying: loop.call_soon(dying),
    "bound method": lambda loop, dying: loop.call_soon(dying.method),
    "function's default": lambda loop, dying: loop.call_soon(lambda _dying=dying: None),
    "partial": lambda loop, dying: loop.call_soon(functools.partial(nothing, dying)),
    "argument": lambda loop, dying: loop.call_soon(nothing, dying),
    "one of several arguments": lambda loop, dying: loop.call_soon(nothing, 1, dying, "two"),
    "within an argument": lambda loop, dying: loop.call_soon(nothing, [dying]),
    "several arguments": lambda loop, dying: loop.call_soon(nothing, dying, dying, dying),
    "callback and argument": lambda loop, dying: loop.call_soon(dying, dying),
    "callback and arguments": lambda loop, dying: loop.call_soon(dying, dying, dying),
    "method of nothing else": lambda loop, dying: loop.call_soon(
        types.MethodType(types.MethodType(Dying.method, dying), 1)
    ),
    "method of itself": lambda loop, dying: loop.call_soon(types.MethodType(dying, dying)),
    "method and its object": lambda loop, dying: loop.call_soon(dying.method, dying),
    "result": lambda loop, dying: loop.call_soon([dying].pop),
    "timer's argument": lambda loop, dying: loop.call_later(-1, nothing, dying),
    "called off while it runs": call_off_while_running,
}


@pytest.mark.parametrize("death", DEATHS)
def test_what_a_handle_held_dies_outside_of_the_callbacks_context(loop, death):
    where.set("callback")
    log = []
    for _ in range(3):
        loop.call_soon(nothing)
    DEATHS[death](loop, Dying(log))
    loop.call_soon(lambda: log.append(where.get()))
    run(loop)
    assert sorted(log) == ["callback", "outside"]


def test_weak_reference_to_a_handle_calls_back_outside_of_the_callbacks_context(loop):
    where.set("callback")
    log = []
    loop.call_soon(nothing)
    kept = weakref.ref(loop.call_soon(nothing), lambda _: log.append(where.get()))
    loop.call_soon(nothing)
    run(loop)
    assert log == ["outside"]
    assert kept() is None


def test_weak_reference_to_a_method_calls_back_outside_of_the_callbacks_context(loop):
    where.set("callback")
    log = []
    several = [Dying([])] * 9
    loop.call_soon(nothing)
    method = several[0].method
    kept = weakref.ref(method, lambda _: log.append(where.get()))
    loop.call_soon(method)
    del method
    loop.call_soon(several[0].method)
    loop.call_soon(nothing)
    run(loop)
    assert log == ["outside"]
    assert kept() is None


def test_what_one_callback_sets_no_other_sees(loop):
    where.set("callback")
    log = []

    def look():
        log.append(where.get())

    def change():
        look()
        where.set("changed")
        look()

    def change_and_undo():
        where.reset(where.set("changed"))
        look()

    tokens = []

    def keep_a_token():
        tokens.append(where.set("kept"))

    for callback in (look, change, look, change, change_and_undo, look, keep_a_token, look, look):
        loop.call_soon(callback)
    run(loop)
    there, changed = "callback", "changed"
    assert log == [there, there, changed, there, there, changed, there, there, there, there]
    # What the token belongs to is not current, nor would it be for later callbacks.
    with pytest.raises(ValueError):
        where.reset(tokens.pop())


def test_handler_of_an_exception_amid_callbacks_hears_of_its_handle_and_the_others_run(loop):
    where.set("callback")
    log = []

    def fail():
        where.set("failed")
        raise LookupError

    def handler(_loop, context):
        log.append((type(context["exception"]), context["handle"] is failing, where.get()))

    loop.set_exception_handler(handler)
    loop.call_soon(log.append, 1)
    failing = loop.call_soon(fail)
    loop.call_soon(log.append, 2)
    loop.call_soon(lambda: log.append(where.get()))
    run(loop)
    assert [entry for entry in log if not isinstance(entry, tuple)] == [1, 2, "callback"]
    [(exception, is_failing, seen)] = [entry for entry in log if isinstance(entry, tuple)]
    assert exception is LookupError
    assert is_failing
    # Since 3.12 asyncio's handler runs in the handle's context.
    assert seen in ("failed", "outside")


@pytest.mark.parametrize("made", ["soon", "later"])
def test_what_leaves_the_loop_amid_callbacks_leaves_the_rest_for_the_next_run(loop, made):
    log = []
    past = iter(range(1000))

    def schedule(*call):
        if made == "soon":
            loop.call_soon(*call)
        else:
            loop.call_at(next(past) / 1000, *call)

    def leave():
        raise KeyboardInterrupt

    for call in (
        (log.append, 1),
        (nothing,),
        (leave,),
        (nothing,),
        (log.append, 2),
        (log.append, 3),
    ):
        schedule(*call)
    schedule(loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert log == [1]
    loop.run_forever()
    assert log == [1, 2, 3]


def test_callback_called_off_by_the_one_before_it_does_not_run(loop):
    log = []
    handles = []
    loop.call_soon(nothing)
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(log.append, "called off"))
    loop.call_soon(log.append, "runs")
    run(loop)
    assert log == ["runs"]


def test_callbacks_of_different_contexts_take_turns(loop):
    log = []

    def look():
        log.append(where.get())

    contexts = [contextvars.copy_context() for _ in range(2)]
    for number, context in enumerate(contexts):
        context.run(where.set, number)
    for _ in range(2):
        loop.call_soon(look)
        for context in contexts:
            loop.call_soon(look, context=context)
            context.run(loop.call_soon, look)
    run(loop)
    here = where.get()
    assert log == [here, 0, 0, 1, 1] * 2
