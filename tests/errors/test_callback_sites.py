"""A failure at any place where the loop calls a program's code is told once, and the loop goes on.

Each site is a coroutine function `site(aio, loop, fail)` which has `fail` called at one such place. What it
is told with (the message and the keys of the context, the log, the unraisable hook, or the exception raised) is not
written down here: it is what asyncio does.
"""

from __future__ import annotations

import asyncio as stdlib
import concurrent.futures
import gc
import logging
import os
import signal
import socket
import sys

import pytest
from harness.implementation import Reports, load, settle, spin

SITES = {}
SINCE = {}


class Failure(Exception):
    """What is injected; there is nothing else that raises it."""


class Harsh(BaseException):
    """A failure that is no Exception."""


def site(function=None, *, since=(3, 11)):
    """Adds a site; `since` is the version from which asyncio does what the newest does."""
    if function is None:
        return lambda f: site(f, since=since)
    SITES[function.__name__] = function
    SINCE[function.__name__] = since
    return function


# Callbacks of the loop --------------------------------------------------------------------------
@site
async def call_soon(aio, loop, fail):
    loop.call_soon(fail)


@site
async def call_soon_threadsafe(aio, loop, fail):
    loop.call_soon_threadsafe(fail)


@site
async def call_later(aio, loop, fail):
    loop.call_later(0.001, fail)
    await aio.sleep(0.005)


@site
async def call_at(aio, loop, fail):
    loop.call_at(loop.time(), fail)
    await settle(aio, 2)


@site
async def reader(aio, loop, fail):
    left, right = socket.socketpair()
    loop.add_reader(left, lambda: (loop.remove_reader(left), fail()))
    right.send(b"x")
    await settle(aio, 2)
    left.close()
    right.close()


@site
async def writer(aio, loop, fail):
    left, right = socket.socketpair()
    loop.add_writer(left, lambda: (loop.remove_writer(left), fail()))
    await settle(aio, 2)
    left.close()
    right.close()


@site
async def signal_handler(aio, loop, fail):
    loop.add_signal_handler(signal.SIGUSR1, fail)
    os.kill(os.getpid(), signal.SIGUSR1)
    await settle(aio, 10)
    loop.remove_signal_handler(signal.SIGUSR1)


@site
async def done_callback_of_a_future(aio, loop, fail):
    future = loop.create_future()
    future.add_done_callback(lambda _: fail())
    future.set_result(1)


@site
async def done_callback_of_a_task(aio, loop, fail):
    async def body():
        pass

    aio.create_task(body()).add_done_callback(lambda _: fail())


@site
async def done_callback_added_after_the_end(aio, loop, fail):
    future = loop.create_future()
    future.set_result(1)
    future.add_done_callback(lambda _: fail())


@site
async def one_of_many_done_callbacks(aio, loop, fail):
    future = loop.create_future()
    log = []
    future.add_done_callback(lambda _: log.append("before"))
    future.add_done_callback(lambda _: fail())
    future.add_done_callback(lambda _: log.append("after"))
    future.set_result(1)
    await spin(aio)
    assert log == ["before", "after"]


# Coroutines -------------------------------------------------------------------------------------
@site
async def body_of_a_task(aio, loop, fail):
    async def body():
        fail()

    await aio.create_task(body())


@site
async def body_of_a_task_nobody_waits_for(aio, loop, fail):
    async def body():
        fail()

    aio.create_task(body())


@site
async def await_method(aio, loop, fail):
    class Odd:
        def __await__(self):
            fail()

    await Odd()


@site
async def iterator_of_an_await_method(aio, loop, fail):
    class Odd:
        def __await__(self):
            return self

        def __iter__(self):
            return self

        def __next__(self):
            fail()

    await Odd()


@site
async def throw_of_a_custom_awaitable(aio, loop, fail):
    class Odd:
        def __init__(self):
            self.inner = loop.create_future().__await__()

        def __await__(self):
            return self

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.inner)

        def send(self, value):
            return self.inner.send(value)

        def throw(self, *_):
            fail()

    async def body():
        await Odd()

    task = aio.create_task(body())
    await spin(aio)
    task.cancel()
    await task


@site
async def cleanup_of_a_cancelled_task(aio, loop, fail):
    async def body():
        try:
            await aio.sleep(10)
        finally:
            fail()

    task = aio.create_task(body())
    await spin(aio)
    task.cancel()
    await task


@site
async def add_done_callback_of_a_foreign_future(aio, loop, fail):
    class Foreign:
        _asyncio_future_blocking = False
        _loop = loop

        def get_loop(self):
            return loop

        def add_done_callback(self, *_, **__):
            fail()

        def __await__(self):
            self._asyncio_future_blocking = True
            yield self

    async def body():
        await Foreign()

    # Nothing can wake the task any more: asyncio leaves it pending.
    aio.create_task(body())
    await spin(aio)


@site
async def finalizer_of_a_dropped_async_generator(aio, loop, fail):
    async def generator():
        try:
            yield 1
        finally:
            await aio.sleep(0)
            fail()

    async for _ in generator():
        break
    await spin(aio)


@site
async def close_of_an_async_generator_at_shutdown(aio, loop, fail):
    async def generator():
        try:
            yield 1
        finally:
            fail()

    kept = generator()
    await kept.__anext__()
    await loop.shutdown_asyncgens()


@site
async def predicate_of_a_condition(aio, loop, fail):
    condition = aio.Condition()
    async with condition:
        await condition.wait_for(fail)


@site
async def body_inside_a_timeout(aio, loop, fail):
    async with aio.timeout(1):
        fail()


@site
async def body_inside_a_lock(aio, loop, fail):
    lock = aio.Lock()
    try:
        async with lock:
            fail()
    finally:
        assert not lock.locked()


@site
async def body_of_a_task_group(aio, loop, fail):
    async with aio.TaskGroup():
        fail()


@site
async def task_of_a_task_group(aio, loop, fail):
    async def body():
        fail()

    async with aio.TaskGroup() as group:
        group.create_task(body())


@site
async def comparison_of_a_priority_queues_items(aio, loop, fail):
    class Item:
        def __lt__(self, other):
            fail()

    queue = aio.PriorityQueue()
    queue.put_nowait(Item())
    await queue.put(Item())


# Factories, executors, handlers -----------------------------------------------------------------
@site
async def task_factory(aio, loop, fail):
    def factory(loop, coroutine, **_):
        coroutine.close()
        fail()

    loop.set_task_factory(factory)
    try:
        coroutine = aio.sleep(0)
        aio.create_task(coroutine)
    finally:
        coroutine.close()
        loop.set_task_factory(None)


@site
async def function_in_the_executor(aio, loop, fail):
    await loop.run_in_executor(None, fail)


@site
async def function_in_to_thread(aio, loop, fail):
    await aio.to_thread(fail)


@site
async def submit_of_an_executor(aio, loop, fail):
    class Broken(concurrent.futures.Executor):
        def submit(self, *_, **__):
            fail()

    await loop.run_in_executor(Broken(), print)


@site
async def function_in_a_custom_executor(aio, loop, fail):
    class Inline(concurrent.futures.Executor):
        def submit(self, function, *args):
            future = concurrent.futures.Future()
            try:
                function(*args)
            except BaseException as error:
                future.set_exception(error)
            return future

    await loop.run_in_executor(Inline(), fail)


@site
async def exception_handler(aio, loop, fail):
    def boom():
        raise ValueError("the first failure")

    loop.set_exception_handler(lambda *_: fail())
    loop.call_soon(boom)
    await spin(aio)
    loop.set_exception_handler(None)


@site
async def coroutine_of_another_thread(aio, loop, fail):
    async def body():
        fail()

    future = aio.run_coroutine_threadsafe(body(), loop)
    await spin(aio)
    future.result(0)


# Finalizers -------------------------------------------------------------------------------------
@site
async def del_of_a_callbacks_argument(aio, loop, fail):
    class Odd:
        def __del__(self):
            fail()

    loop.call_soon(lambda _: None, Odd())


@site
async def del_of_a_tasks_result(aio, loop, fail):
    class Odd:
        def __del__(self):
            fail()

    async def body():
        return Odd()

    aio.create_task(body())


@site
async def del_of_a_cancelled_timers_argument(aio, loop, fail):
    class Odd:
        def __del__(self):
            fail()

    loop.call_later(100, print, Odd()).cancel()


@site
async def del_of_a_future_subclass(aio, loop, fail):
    class Odd(aio.Future):
        def __del__(self):
            fail()

    Odd(loop=loop).set_result(1)


# Protocols --------------------------------------------------------------------------------------
async def conversation(aio, loop, protocol, *, act=None, turns=6):
    """Runs `protocol` against a raw peer which sends a few bytes and ends."""
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    peer = socket.socket()
    peer.setblocking(False)
    await loop.sock_connect(peer, server.sockets[0].getsockname())
    await settle(aio, turns)
    if act:
        act(peer)
    else:
        peer.send(b"hello")
        await settle(aio, turns)
        peer.close()
    await settle(aio, turns)
    peer.close()
    await settle(aio, turns)
    server.close()


def failing(method, base=stdlib.Protocol, **others):
    def make(fail):
        def raises(self, *_):
            fail()

        return type("Failing", (base,), {method: raises, **others})()

    return make


@site
async def connection_made(aio, loop, fail):
    await conversation(aio, loop, failing("connection_made")(fail))


@site
async def data_received(aio, loop, fail):
    await conversation(aio, loop, failing("data_received")(fail))


@site
async def eof_received(aio, loop, fail):
    await conversation(aio, loop, failing("eof_received")(fail))


@site
async def connection_lost(aio, loop, fail):
    await conversation(aio, loop, failing("connection_lost")(fail))


@site
async def get_buffer(aio, loop, fail):
    protocol = failing("get_buffer", stdlib.BufferedProtocol)(fail)
    await conversation(aio, loop, protocol)


@site
async def buffer_updated(aio, loop, fail):
    protocol = failing(
        "buffer_updated", stdlib.BufferedProtocol, get_buffer=lambda self, _: bytearray(100)
    )(fail)
    await conversation(aio, loop, protocol)


def writes_too_much(self, transport):
    self.transport = transport
    transport.set_write_buffer_limits(high=1)
    for _ in range(200):
        transport.write(b"x" * 100_000)


@site
async def pause_writing(aio, loop, fail):
    protocol = failing("pause_writing", connection_made=writes_too_much)(fail)
    await conversation(aio, loop, protocol, act=lambda _: protocol.transport.abort())


@site
async def resume_writing(aio, loop, fail):
    def once(self):
        if not self.failed:
            self.failed = True
            fail()

    protocol = type(
        "Failing",
        (stdlib.Protocol,),
        {
            "connection_made": writes_too_much,
            "resume_writing": once,
            "failed": False,
        },
    )()

    def drain(peer):
        def readable():
            peer.recv(1 << 20)
            if protocol.failed:
                loop.remove_reader(peer)
                protocol.transport.abort()

        loop.add_reader(peer, readable)

    await conversation(aio, loop, protocol, act=drain, turns=60)


@site
async def protocol_factory_of_a_connection(aio, loop, fail):
    server = await loop.create_server(stdlib.Protocol, "127.0.0.1", 0)
    try:
        await loop.create_connection(fail, *server.sockets[0].getsockname())
    finally:
        server.close()
        await settle(aio, 5)


@site(since=(3, 12))
async def handler_of_start_server(aio, loop, fail):
    async def handler(reader, writer):
        fail()

    server = await aio.start_server(handler, "127.0.0.1", 0)
    reader, writer = await aio.open_connection(*server.sockets[0].getsockname())
    reading = aio.ensure_future(reader.read())
    await settle(aio)
    reading.cancel()
    writer.close()
    await settle(aio, 5)
    server.close()


# ------------------------------------------------------------------------------------------------
class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(
            (record.getMessage().split("\n")[0], record.exc_info and record.exc_info[0])
        )


def head(message):
    """A message as far as it does not name objects."""
    import re

    return (
        re.split(r"<|\(", re.sub(r"0x[0-9a-f]+|\S*\.<locals>\S*|Task-\d+", "", message))[0]
        .split(" at ")[0]
        .strip()
    )


def leave_again(aio, loop, kind):
    for _ in range(3):
        spinning = loop.create_task(spin(aio))
        try:
            loop.run_until_complete(spinning)
        except kind:
            spinning.cancel()


def told(name, implementation, kind):
    """Everybody who heard of the failure injected at the site, and how."""
    aio = load(implementation)
    loop = aio.new_event_loop()
    stdlib.set_event_loop(loop)
    reports = Reports(loop)
    calls, heard, unraisable = [], [], []
    records = Records()
    logger = logging.getLogger("asyncio")
    logger.addHandler(records)
    hook, sys.unraisablehook = sys.unraisablehook, lambda u: unraisable.append(u.exc_type)

    def fail(*_):
        calls.append(1)
        raise kind("injected")

    async def whole():
        await SITES[name](aio, loop, fail)
        await spin(aio)

    try:
        try:
            loop.run_until_complete(whole())
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup):
                [error] = error.exceptions
            heard.append(("raised", type(error)))
            del error
        if issubclass(kind, (KeyboardInterrupt, SystemExit)):
            # A task that was left by one gives it to whoever waits for it, which leaves the loop once more.
            leave_again(aio, loop, kind)
        loop.run_until_complete(spin(aio))
        gc.collect()
        assert loop.run_until_complete(aio.sleep(0, "goes on")) == "goes on"
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        sys.unraisablehook = hook
        logger.removeHandler(records)
        loop.close()
        stdlib.set_event_loop(None)
    assert calls, f"the site was not reached: {heard}"
    for context in reports:
        heard.append(
            ("reported", head(context["message"]), type(context.get("exception")), sorted(context))
        )
    heard += [("logged", head(message), error) for message, error in records.said]
    heard += [("unraisable", error) for error in unraisable]
    reports.clear()
    return heard, len(calls)


# What asyncio lets pass in silence, or leaves unclosed, at these places is not its sites' fault.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# asyncio passes over what is no Exception here.
SILENT_WHEN_HARSH = {"close_of_an_async_generator_at_shutdown"}
# No Handle is made for these calls: the context names transport and protocol in its place.
WITHOUT_HANDLE = {"connection_made", "connection_lost"}
# asyncio tells the handler and leaves the task pending for ever; here the task fails.
FAILS_WHERE_ASYNCIO_HANGS = {"add_done_callback_of_a_foreign_future"}


@pytest.mark.parametrize("kind", [Failure, Harsh], ids=["Exception", "BaseException"])
@pytest.mark.parametrize("name", SITES)
def test_failure_is_told_once_and_the_loop_goes_on(aio, name, kind):
    if aio is stdlib and sys.version_info < SINCE[name]:
        pytest.skip("asyncio does this since {}.{}".format(*SINCE[name]))
    heard, calls = told(name, aio.__name__, kind)
    if kind is not Harsh or name not in SILENT_WHEN_HARSH:
        assert len([h for h in heard if kind in h]) == calls, heard
    if name in WITHOUT_HANDLE and aio is not stdlib:
        [(how, message, _, keys)] = heard
        assert (how, message) == ("reported", f"Exception in callback protocol.{name}")
        assert keys == ["exception", "message", "protocol", "transport"]
    elif (
        aio is not stdlib
        and sys.version_info >= SINCE[name]
        and name not in FAILS_WHERE_ASYNCIO_HANGS
    ):
        assert heard == told(name, "asyncio", kind)[0]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "name",
    [
        "call_soon",
        "call_later",
        "reader",
        "signal_handler",
        "done_callback_of_a_future",
        "body_of_a_task",
        "data_received",
        "connection_made",
        "connection_lost",
    ],
)
def test_interrupts_leave_the_loop_which_can_be_run_again(aio, name, kind):
    heard, _ = told(name, aio.__name__, kind)
    assert ("raised", kind) in heard
    # The task it left keeps it, and says so if nobody looks; the exception handler is not told of it as a failure.
    assert {h[1] for h in heard if h[0] == "reported" and kind in h} <= {
        "Task exception was never retrieved"
    }
    if aio is not stdlib:
        assert heard == told(name, "asyncio", kind)[0]
