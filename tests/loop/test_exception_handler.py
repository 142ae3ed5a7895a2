"""The loop's exception handler: who is told what, and what is written when nobody listens."""

from __future__ import annotations

import logging

import pytest
from harness.implementation import Reports, spin


def test_handler_is_given_loop_and_context(aio, loop):
    told = []
    loop.set_exception_handler(lambda *args: told.append(args))

    def boom():
        raise ValueError("boom")

    handle = loop.call_soon(boom)
    loop.run_until_complete(spin(aio))
    [(which, context)] = told
    assert which is loop
    assert context["handle"] is handle
    assert str(context["exception"]) == "boom"
    assert context["message"].startswith("Exception in callback ") and "boom" in context["message"]


def test_handler_can_be_read_replaced_and_removed(loop):
    def handler(_loop, _context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="A callable object or None is expected, got "):
        loop.set_exception_handler(1)


def test_without_handler_it_is_logged_once_with_its_traceback(aio, loop, caplog):
    def boom():
        raise ValueError("boom")

    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.call_soon(boom)
        loop.run_until_complete(spin(aio))
    [record] = caplog.records
    assert record.name == "asyncio"
    assert record.exc_info[0] is ValueError
    assert "handle: <Handle" in record.getMessage()


def test_call_exception_handler_passes_any_context_on(loop):
    reports = Reports(loop)
    context = {"message": "by hand", "own": 1}
    loop.call_exception_handler(context)
    assert reports == [context]


def test_default_handler_sorts_the_context(loop, caplog):
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.default_exception_handler({"message": "the message", "b": 2, "a": 1})
        loop.default_exception_handler({})
    first, second = (r.getMessage() for r in caplog.records)
    assert first == "the message\na: 1\nb: 2"
    assert second == "Unhandled exception in event loop"


def test_default_handler_set_on_the_loop_is_used(aio, loop):
    told = []
    loop.default_exception_handler = told.append
    loop.call_exception_handler({"message": "by hand"})
    assert told == [{"message": "by hand"}]


def test_handler_that_raises_is_itself_reported_once(aio, loop, caplog):
    def broken(_loop, _context):
        raise LookupError("in the handler")

    def boom():
        raise ValueError("boom")

    loop.set_exception_handler(broken)
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.call_soon(boom)
        loop.run_until_complete(spin(aio))
    [record] = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()
    assert record.exc_info[0] is LookupError


@pytest.mark.since(3, 12)
def test_handler_runs_in_the_context_of_what_failed(aio, loop):
    import contextvars

    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []
    loop.set_exception_handler(lambda _l, _c: seen.append(variable.get()))

    def boom():
        raise ValueError

    async def lost():
        variable.set("the task's")
        raise ValueError

    context = contextvars.copy_context()
    context.run(variable.set, "the callback's")
    loop.call_soon(boom, context=context)
    loop.run_until_complete(spin(aio))
    task = loop.create_task(lost())
    loop.run_until_complete(spin(aio))
    del task
    assert seen == ["the callback's", "the task's"]
