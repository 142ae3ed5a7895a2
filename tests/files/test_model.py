"""Files of `ioxide.files.open` do what the builtin's do, over random sequences of operations."""

from __future__ import annotations

import io
import os

import pytest
from harness.examples import examples
from hypothesis import example, given, strategies as st

import ioxide
from ioxide import files

TEXT = st.text(st.sampled_from("ab\n\r\té€😀"), max_size=40)
BYTES = st.binary(max_size=40).map(lambda b: b.replace(b"\x07", b"\n"))
SIZE = st.one_of(st.none(), st.integers(-1, 30), st.integers(8000, 20000))
PLACE = st.tuples(st.integers(0, 60), st.sampled_from([0, 0, 0, 1, 2]))

COMMON = [
    st.tuples(st.just("read"), st.tuples(SIZE)),
    st.tuples(st.just("readline"), st.one_of(st.just(()), st.tuples(st.integers(-1, 30)))),
    st.tuples(st.just("readlines"), st.one_of(st.just(()), st.tuples(st.integers(0, 40)))),
    st.tuples(st.just("next"), st.just(())),
    st.tuples(st.just("tell"), st.just(())),
    st.tuples(st.just("seek"), PLACE),
    st.tuples(st.just("back"), st.just(())),
    st.tuples(st.just("flush"), st.just(())),
    st.tuples(st.just("truncate"), st.one_of(st.just(()), st.tuples(st.integers(0, 50)))),
    st.tuples(st.just("seekable"), st.just(())),
    st.tuples(st.just("writable"), st.just(())),
    st.tuples(st.just("isatty"), st.just(())),
    st.tuples(st.just("close"), st.just(())),
]


def operations(data: st.SearchStrategy):
    return st.lists(
        st.one_of(
            *COMMON,
            *COMMON[:6],
            *COMMON[:4],
            st.tuples(st.just("write"), st.tuples(data)),
            st.tuples(st.just("writelines"), st.tuples(st.lists(data, max_size=3))),
        ),
        max_size=14,
    )


def outcome_of(error: BaseException) -> tuple:
    return type(error), getattr(error, "errno", None), str(error)


def refused(outcome: object) -> bool:
    return isinstance(outcome, tuple) and outcome[0] is io.UnsupportedOperation


class Builtin:
    """The builtin's file, under the names of the operations."""

    def __init__(self, file):
        self.file = file
        self.place = 0

    def do(self, name, arguments):
        if name == "next":
            # The asynchronous iterator reads lines; `next()` would also forbid to ask for the position.
            return self.file.readline() or StopAsyncIteration
        if name == "back":
            return self.file.seek(self.place)
        result = getattr(self.file, name)(*arguments)
        if name == "tell":
            self.place = result
        return result


class Ours:
    def __init__(self, file):
        self.file = file
        self.place = 0

    async def do(self, name, arguments):
        if name == "next":
            try:
                return await self.file.__anext__()
            except StopAsyncIteration:
                return StopAsyncIteration
        if name == "back":
            return await self.file.seek(self.place)
        result = await getattr(self.file, name)(*arguments)
        if name == "tell":
            self.place = result
        return result


async def run(path, script, options):
    """The outcomes of both on files of the same content, and the content afterwards."""
    theirs, ours = [], []
    builtin = Builtin(open(f"{path}-1", **options))
    async with files.open(f"{path}-2", **options) as file:
        native = Ours(file)
        for name, arguments in script:
            for side, log in ((builtin, theirs), (native, ours)):
                try:
                    result = side.do(name, arguments)
                    log.append((name, arguments, await result if side is native else result))
                except (OSError, ValueError, TypeError) as error:
                    log.append((name, arguments, outcome_of(error)))
            if name == "readlines" and refused(theirs[-1][-1]):
                # Its `next()`, though refused, forbids a text file to tell its position until something is flushed,
                # which ours may do earlier.
                builtin.file.flush()
                await native.file.flush()
        assert native.file.closed == builtin.file.closed
        # The last operation may have left something to be written: both write it when they are closed.
    builtin.file.close()
    assert ours == theirs
    with open(f"{path}-1", "rb") as one, open(f"{path}-2", "rb") as two:
        assert one.read() == two.read()


MODES = ["r", "r", "r", "r+", "w", "a", "x", "w+", "a+"]


@pytest.fixture(scope="module")
def runner():
    with ioxide.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return str(tmp_path_factory.mktemp("model") / "file")


def prepare(place, mode, content):
    for name in (f"{place}-1", f"{place}-2"):
        if "x" in mode:
            if os.path.exists(name):
                os.unlink(name)
        else:
            with open(name, "wb") as file:
                file.write(content)


@pytest.mark.slow
@examples(150)
@example(
    # The position after that depends on whether the last byte is in the file or in the buffer.
    mode="a",
    buffering=-1,
    content=b"x",
    script=[("writelines", ([],)), ("seek", (0, 0)), ("write", (b"y",)), ("tell", ())],
)
@example(
    mode="a",
    buffering=-1,
    content=b"x",
    script=[("writelines", ([],)), ("truncate", (0,)), ("write", (b"y",)), ("tell", ())],
)
@given(
    mode=st.sampled_from(MODES),
    buffering=st.sampled_from([-1, -1, -1, 16, 4096, 0]),
    content=st.one_of(BYTES, st.lists(BYTES, max_size=6).map(lambda b: b"\n".join(b) * 300)),
    script=operations(BYTES),
)
def test_binary_files_do_what_the_builtins_do(place, runner, mode, buffering, content, script):
    prepare(place, mode, content)
    runner.run(run(place, script, {"mode": mode + "b", "buffering": buffering}))


@pytest.mark.slow
@examples(150)
@example(
    # The builtin is wrong about its position after that, and would not go back to where it was.
    mode="r",
    buffering=-1,
    encoding="utf-8",
    newline=None,
    content="\r" * 300,
    script=[("readlines", (1,)), ("flush", ()), ("readline", ()), ("readlines", ())],
)
@given(
    mode=st.sampled_from(MODES),
    buffering=st.sampled_from([-1, -1, 1, 16, 4096]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1", "utf-8-sig"]),
    newline=st.sampled_from([None, None, "", "\n", "\r", "\r\n"]),
    content=st.one_of(TEXT, st.lists(TEXT, max_size=6).map(lambda t: "\n".join(t) * 300)),
    script=operations(TEXT),
)
def test_text_files_do_what_the_builtins_do(
    place, runner, mode, buffering, encoding, newline, content, script
):
    data = content.encode(encoding, "replace")
    prepare(place, mode, data)
    options = {
        "mode": mode,
        "buffering": buffering,
        "encoding": encoding,
        "errors": "replace",
        "newline": newline,
    }
    runner.run(run(place, script, options))


@pytest.mark.slow
@examples(150)
@given(content=st.binary(max_size=60), repeat=st.integers(1, 400), sizes=st.lists(SIZE, max_size=8))
def test_what_is_no_text_is_an_error_where_the_builtin_has_one(
    place, runner, content, repeat, sizes
):
    prepare(place, "r", content * repeat)
    script = [("read", (size,)) for size in sizes] + [("readline", ())]
    try:
        open_builtin = open(f"{place}-1", encoding="utf-8")
        open_builtin.read()
    except UnicodeDecodeError:
        # How far both come depends on how much is decoded at a time; that there is an error, on nothing.
        script = [("read", ())]
    finally:
        open_builtin.close()
    runner.run(run(place, script, {"mode": "r", "encoding": "utf-8"}))


@pytest.mark.parametrize("hint", [(), (100_000,)], ids=["whole", "hint"])
def test_an_error_in_the_midst_of_readlines_moves_nothing(place, runner, hint):
    prepare(place, "r", b"ab\r" * 5000 + b"\xff" + b"ab\r" * 5000)
    reading = [("readline", ()), ("readline", ()), ("read", (5,)), ("readlines", hint)]
    script = [("readline", ()), ("readlines", hint), ("flush", ()), *reading]
    # (Where in what is decoded the wrong byte stands is another matter, so not to there again.)
    script += [("seek", (3, 0)), ("readline", ()), ("tell", ()), *reading[:-1]]
    runner.run(run(place, script, {"mode": "r", "encoding": "utf-8"}))
