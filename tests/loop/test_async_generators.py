"""Asynchronous generators that a program leaves unfinished: the loop closes them."""

from __future__ import annotations

import gc
import sys

import pytest
from harness.implementation import Reports, spin


def test_async_generator_hooks_of_the_program_are_put_back(aio, loop):
    before = sys.get_asyncgen_hooks()

    async def main():
        return sys.get_asyncgen_hooks()

    during = loop.run_until_complete(main())
    assert during.firstiter is not None and during.finalizer is not None
    assert sys.get_asyncgen_hooks() == before


def test_dropped_async_generator_is_closed_by_the_loop(aio, loop):
    log = []

    async def generator():
        try:
            yield 1
        finally:
            await aio.sleep(0)
            log.append("closed")

    async def main():
        async for _ in generator():
            break
        await spin(aio)

    loop.run_until_complete(main())
    assert log == ["closed"]


def test_shutdown_asyncgens_closes_and_later_iteration_warns(aio, loop):
    async def generator():
        yield 1

    async def main():
        kept = generator()
        await kept.__anext__()
        await loop.shutdown_asyncgens()
        with pytest.raises(StopAsyncIteration):
            await kept.__anext__()
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            late = generator()
            await late.__anext__()
        await late.aclose()

    loop.run_until_complete(main())


class Unfinished:
    """Makes generators that note in which order they are begun and closed."""

    def __init__(self, aio):
        self.closed = []
        self._aio = aio

    async def begin(self, name):
        generator = self._generator(name)
        await generator.__anext__()
        return generator

    async def _generator(self, name):
        try:
            yield
        finally:
            await self._aio.sleep(0)
            self.closed.append(name)


def test_crowd_that_dies_at_once_is_closed(aio, loop):
    unfinished = Unfinished(aio)

    async def main():
        crowd = [await unfinished.begin(name) for name in range(3000)]
        crowd.clear()
        await spin(aio)

    loop.run_until_complete(main())
    assert sorted(unfinished.closed) == list(range(3000))


def test_generator_that_the_collector_found_is_closed_once(aio, loop):
    unfinished = Unfinished(aio)
    reports = Reports(loop)

    async def main():
        cycle = [await unfinished.begin("in a cycle")]
        cycle.append(cycle)
        del cycle
        gc.collect()
        # It is being closed, when everything else is too.
        await loop.shutdown_asyncgens()
        await spin(aio)

    loop.run_until_complete(main())
    assert unfinished.closed == ["in a cycle"]
    assert reports == []


def test_generator_in_the_place_of_one_that_was_closed_is_known(aio, loop):
    unfinished = Unfinished(aio)

    async def main():
        kept = []
        for name in range(100):
            await (await unfinished.begin("over")).aclose()
            kept.append(await unfinished.begin(name))
        unfinished.closed.clear()
        await loop.shutdown_asyncgens()
        assert sorted(unfinished.closed) == list(range(100))

    loop.run_until_complete(main())


def test_shutdown_closes_in_the_order_of_beginning():
    import ioxide

    loop = ioxide.EventLoop()
    unfinished = Unfinished(ioxide)

    async def main():
        kept = [await unfinished.begin(name) for name in range(100)]
        await kept.pop(50).aclose()
        unfinished.closed.clear()
        await loop.shutdown_asyncgens()
        assert unfinished.closed == [*range(50), *range(51, 100)]

    loop.run_until_complete(main())
    loop.close()
