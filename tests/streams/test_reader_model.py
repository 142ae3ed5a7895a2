"""ioxide's StreamReader does under every chunking what asyncio's does."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import given, strategies as st

import ioxide

pytestmark = pytest.mark.slow

SEVERAL_SEPARATORS = sys.version_info >= (3, 13)


@dataclass
class Flow:
    """A transport that notes when it is held back and when not."""

    calls: list[str] = field(default_factory=list)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


async def read(reader: Any, how: tuple[Any, ...]) -> object:
    """The outcome of one read, in a form that can be compared."""
    method, *arguments = how
    try:
        return bytes(await getattr(reader, method)(*arguments))
    except asyncio.IncompleteReadError as error:
        return "incomplete", bytes(error.partial), error.expected
    except asyncio.LimitOverrunError as error:
        return "overrun", str(error), error.consumed
    except ValueError as error:
        return "value", str(error), type(error.__context__).__name__
    except StopAsyncIteration:
        return "over"


async def history(aio: Any, chunks: list[Any], reads: list[Any], limit: int) -> list[object]:
    """What the reads give while a chunk arrives in each turn of the loop, and then EOF."""
    reader, flow = aio.StreamReader(limit=limit), Flow()
    reader.set_transport(flow)

    async def feed() -> None:
        for chunk in chunks:
            reader.feed_data(chunk)
            await aio.sleep(0)
        reader.feed_eof()

    feeder = aio.create_task(feed())
    outcomes: list[object] = []
    for how in reads:
        outcome = await read(reader, how)
        outcomes += [how, outcome, bytes(reader._buffer), reader.at_eof(), tuple(flow.calls)]
    await feeder
    return [*outcomes, bytes(reader._buffer), flow.calls, repr(reader).split(" transport=")[0]]


SEPARATORS = [b"\n", b"ab", b"aba"]
if SEVERAL_SEPARATORS:
    SEPARATORS += [(b"ab", b"\n"), (b"aab", b"b"), ()]

text = st.lists(st.sampled_from([b"a", b"b", b"\n"]), max_size=12).map(b"".join)
kinds = st.sampled_from([bytes, bytearray, memoryview])
chunks = st.lists(st.builds(lambda kind, data: kind(data), kinds, text), max_size=8)
reads = st.lists(
    st.one_of(
        st.just(("readline",)),
        st.just(("__anext__",)),
        st.tuples(st.just("readuntil"), st.sampled_from(SEPARATORS)),
        st.tuples(st.just("readexactly"), st.integers(-1, 9)),
        st.tuples(st.just("read"), st.integers(-1, 9)),
    ),
    max_size=8,
)


@examples(80)
@given(chunks, reads, st.integers(1, 12))
def test_every_script_of_reads_gives_what_asyncio_gives(chunks, reads, limit):
    expected = asyncio.run(history(asyncio, chunks, reads, limit))
    assert ioxide.run(history(ioxide, chunks, reads, limit)) == expected


@examples(25)
@given(chunks, reads, st.integers(1, 12))
def test_also_where_python_code_has_asked_for_the_buffer(chunks, reads, limit):
    class Watched(ioxide.StreamReader):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            assert self._buffer is self._buffer

    class Aio:
        StreamReader = Watched
        create_task = staticmethod(ioxide.create_task)
        sleep = staticmethod(ioxide.sleep)

    expected = asyncio.run(history(asyncio, chunks, reads, limit))
    assert ioxide.run(history(Aio, chunks, reads, limit)) == expected


@examples(25)
@given(chunks, reads, st.integers(1, 12))
def test_also_on_the_loop_of_asyncio(chunks, reads, limit):
    class Aio:
        StreamReader = ioxide.StreamReader
        create_task = staticmethod(asyncio.create_task)
        sleep = staticmethod(asyncio.sleep)

    expected = asyncio.run(history(asyncio, chunks, reads, limit))
    assert asyncio.run(history(Aio, chunks, reads, limit)) == expected
