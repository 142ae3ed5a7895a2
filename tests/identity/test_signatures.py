"""What programs ask functions about before they call them, and the ways in which they call them."""

from __future__ import annotations

import asyncio as stdlib
import copy
import inspect
import pickle
import socket
from unittest import mock

import pytest

import ioxide


def coroutine_functions():
    """Every coroutine function among asyncio's public names and the methods of its classes."""
    for name in sorted(stdlib.__all__):
        theirs = getattr(stdlib, name)
        if inspect.iscoroutinefunction(theirs):
            yield (name,)
        if isinstance(theirs, type):
            for method, function in sorted(vars(theirs).items()):
                # `async with` and `async for` find their methods without asking, and are faster with plain ones.
                if inspect.iscoroutinefunction(function) and not method.startswith("__"):
                    yield name, method


def find(module, path):
    for name in path:
        module = getattr(module, name, None)
    return module


@pytest.mark.parametrize("path", list(coroutine_functions()), ids=".".join)
def test_coroutine_functions_are_seen_as_such(path):
    ours = find(ioxide, path)
    if ours is None:
        assert path[-1].startswith("_")
        return
    assert inspect.iscoroutinefunction(ours)
    assert ours.__name__ == path[-1]


@pytest.mark.parametrize(
    "make",
    [ioxide.Queue, ioxide.Lock, ioxide.Event, ioxide.Condition, lambda: ioxide.Barrier(2)],
    ids=["Queue", "Lock", "Event", "Condition", "Barrier"],
)
def test_bound_coroutine_methods_are_seen_as_such(make):
    thing = make()
    bound = getattr(thing, "get", None) or getattr(thing, "acquire", None) or thing.wait
    if isinstance(thing, ioxide.Condition):
        bound = thing.wait
    assert inspect.iscoroutinefunction(bound)
    assert bound.__self__ is thing


def test_signatures_are_those_of_asyncio():
    for path in [("sleep",), ("wait",), ("Queue", "put"), ("StreamReader", "readuntil")]:
        assert inspect.signature(find(ioxide, path)) == inspect.signature(find(stdlib, path))


def test_patching_a_coroutine_function_makes_an_async_mock():
    with mock.patch("ioxide.sleep") as sleep:

        async def main():
            await ioxide.sleep(3600)

        ioxide.run(main())
    sleep.assert_awaited_once_with(3600)


def test_autospec_of_a_stream_writer_awaits_where_the_writer_does():
    writer = mock.create_autospec(ioxide.StreamWriter, instance=True)

    async def main():
        writer.write(b"data")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    ioxide.run(main())
    writer.drain.assert_awaited_once_with()
    writer.write.assert_called_once_with(b"data")


def test_coroutine_functions_are_copied_and_pickled_by_name():
    assert copy.deepcopy(ioxide.sleep) is ioxide.sleep
    assert pickle.loads(pickle.dumps(ioxide.wait_for)) is ioxide.wait_for
    assert repr(ioxide.sleep) == "<coroutine function ioxide.sleep>"


def test_coroutine_function_kept_in_a_class_binds_as_a_function_does():
    class Holder:
        nap = ioxide.Queue.put

    queue = ioxide.Queue()
    assert Holder.__dict__["nap"] is ioxide.Queue.put
    with pytest.raises(TypeError, match="Queue"):
        Holder().nap("item")
    ioxide.run(ioxide.Queue.put(queue, item="item"))
    assert queue.get_nowait() == "item"


def test_wrong_arguments_of_coroutine_functions_are_refused_at_the_call():
    queue = ioxide.Queue()
    for call in (
        lambda: ioxide.sleep(),
        lambda: ioxide.sleep(1, 2, 3),
        lambda: ioxide.sleep(1, other=2),
        lambda: queue.get(1),
        lambda: queue.get(item=1),
        lambda: queue.put(),
        lambda: ioxide.Queue.get(),
        lambda: ioxide.Queue.get(ioxide.Lock()),
    ):
        with pytest.raises(TypeError):
            call()


def test_leading_arguments_can_be_given_by_name(aio, loop):
    seen = []

    def note():
        seen.append("called")
        return len(seen)

    async def result():
        return "task"

    async def main():
        loop.call_soon(callback=note)
        loop.call_soon_threadsafe(callback=note)
        loop.call_later(delay=0, callback=note)
        loop.call_later(0, callback=note)
        loop.call_at(when=loop.time(), callback=note)
        assert await loop.create_task(coro=result(), name="named") == "task"
        await loop.run_in_executor(executor=None, func=note)
        await aio.sleep(delay=0.01)
        queue = aio.Queue()
        await queue.put(item=1)
        queue.put_nowait(item=2)
        assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]
        loop.set_debug(enabled=False)
        loop.set_task_factory(factory=None)

    loop.run_until_complete(main())
    assert len(seen) == 6


def test_arguments_of_transports_can_be_given_by_name(aio, loop):
    class Echo(aio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.transport.set_protocol(protocol=self)

        def data_received(self, data):
            self.transport.write(data=data)
            self.transport.writelines(list_of_data=[data, data])

    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(Echo, ours)
        with theirs:
            await loop.sock_sendall(theirs, b"a")
            echoed = b""
            while len(echoed) < 3:
                echoed += await loop.sock_recv(theirs, 10)
        transport.close()
        return echoed

    assert loop.run_until_complete(main()) == b"aaa"


def test_leading_argument_given_twice_or_not_at_all_is_refused(loop):
    for call in (
        lambda: loop.call_soon(print, callback=print),
        lambda: loop.call_soon(),
        lambda: loop.call_later(delay=1),
        lambda: loop.call_later(callback=print),
        lambda: loop.call_soon(callback=print, other=1),
        lambda: loop.create_task(),
    ):
        with pytest.raises(TypeError):
            call()


def test_create_task_replaced_on_a_loop_makes_every_task(aio, loop):
    made = []
    original = loop.create_task

    def create_task(coro, **kwargs):
        task = original(coro, **kwargs)
        made.append(task)
        return task

    async def nothing():
        await aio.sleep(0)

    async def main():
        await aio.gather(nothing(), nothing())
        await aio.create_task(nothing())
        await aio.shield(nothing())
        await aio.wait([aio.ensure_future(nothing())])

    loop.create_task = create_task
    loop.run_until_complete(main())
    assert len(made) == 6
    del loop.create_task
    loop.run_until_complete(nothing())
    assert len(made) == 6
