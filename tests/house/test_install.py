"""install() and uninstall(): what they change, what they leave alone, and that it can be undone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .programs import python

SNAPSHOT = """
import asyncio, asyncio.staggered, sys
def snapshot():
    return {
        (m, k): v
        for m, module in list(sys.modules.items()) if m.split(".")[0] == "asyncio"
        for k, v in vars(module).items()
    } | {"factory": asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory}
before = snapshot()
import ioxide
"""


def prints(text: str, folder: Path, **environment: str) -> str:
    status, out, err = python("-W", "ignore", "-c", text, cwd=folder, **environment)
    assert (status, err) == (0, ""), err
    return out.strip()


def test_import_alone_changes_nothing(tmp_path):
    assert prints(SNAPSHOT + "print(snapshot() == before)", tmp_path) == "True"


def test_uninstall_restores_every_binding(tmp_path):
    text = """
ioxide.install()
assert snapshot() != before
ioxide.uninstall()
after = snapshot()
print([k for k in before if after[k] is not before[k]], set(after) - set(before))
"""
    assert prints(SNAPSHOT + text, tmp_path) == "[] set()"


def test_install_and_uninstall_are_idempotent(tmp_path):
    text = """
ioxide.uninstall()
assert snapshot() == before
ioxide.install(); first = snapshot()
ioxide.install(); assert snapshot() == first
ioxide.uninstall(); ioxide.uninstall()
print(snapshot() == before)
ioxide.install()
print(snapshot() == first)
"""
    assert prints(SNAPSHOT + text, tmp_path).split() == ["True", "True"]


def test_uninstall_reaches_modules_imported_in_between(tmp_path):
    text = """
import sys, types, asyncio, ioxide
ioxide.install()
late = types.ModuleType("asyncio.late"); late.sleep = asyncio.sleep; late.Runner = asyncio.Runner
sys.modules["asyncio.late"] = late
ioxide.uninstall()
print(late.Runner is asyncio.Runner is asyncio.runners.Runner, late.sleep is asyncio.sleep)
"""
    assert prints(text, tmp_path) == "True True"


def test_public_names_are_ioxides_wherever_they_are_bound(tmp_path):
    text = """
ioxide.install()
shared = {"get_event_loop", "new_event_loop"}
wrong = [
    name for name in asyncio.__all__
    if name not in shared and getattr(asyncio, name) is not getattr(ioxide, name)
]
print(wrong)
print(asyncio.tasks.Task is asyncio.tasks._CTask is ioxide.Task,
      asyncio.futures.Future is asyncio.futures._CFuture is ioxide.Future,
      asyncio.tasks._PyTask.__module__, asyncio.base_events.BaseEventLoop.__module__)
"""
    assert prints(SNAPSHOT + text, tmp_path).splitlines() == [
        "[]",
        "True True asyncio.tasks asyncio.base_events",
    ]


def test_every_way_of_making_a_loop_makes_ioxides(tmp_path):
    text = """
import asyncio, ioxide
ioxide.install()
def check(loop):
    print(type(loop) is ioxide.EventLoop, end=" "); loop.close()
check(asyncio.new_event_loop())
check(asyncio.events.new_event_loop())
check(asyncio.SelectorEventLoop())
check(asyncio.get_event_loop_policy().new_event_loop())
asyncio.set_event_loop_policy(None)
check(asyncio.get_event_loop_policy().new_event_loop())
check(asyncio.DefaultEventLoopPolicy().new_event_loop())
async def running(): return asyncio.get_running_loop()
check(asyncio.run(running()))
with asyncio.Runner() as runner: print(type(runner.get_loop()) is ioxide.EventLoop)
"""
    assert set(prints(text, tmp_path).split()) == {"True"}


def test_a_policy_that_the_program_sets_is_obeyed(tmp_path):
    text = """
import asyncio, ioxide
ioxide.install()
class Loop(ioxide.EventLoop): pass
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self): return Loop()
asyncio.set_event_loop_policy(Policy())
async def kind(): return type(asyncio.get_running_loop()).__name__
print(asyncio.run(kind()))
loop = asyncio.new_event_loop(); print(type(loop).__name__); loop.close()
loop = ioxide.new_event_loop(); print(type(loop).__name__); loop.close()
"""
    assert prints(text, tmp_path).split() == ["Loop", "Loop", "EventLoop"]


def test_get_event_loop_is_as_strict_as_the_running_python(tmp_path):
    text = """
import asyncio
{install}
async def nothing(): pass
asyncio.run(nothing())
try:
    asyncio.get_event_loop().close()
except RuntimeError as error:
    print(error)
"""
    bare = prints(text.format(install=""), tmp_path)
    assert prints(text.format(install="import ioxide; ioxide.install()"), tmp_path) == bare != ""


@pytest.mark.parametrize("value", ["1", "yes"])
def test_disabled_leaves_asyncio_with_one_line_in_the_log(tmp_path, value):
    text = SNAPSHOT + "ioxide.install(); print(snapshot() == before)"
    status, out, err = python("-c", text, cwd=tmp_path, IOXIDE_DISABLE=value)
    assert (status, out.strip()) == (0, "True")
    assert err.count("\n") == 1 and "IOXIDE_DISABLE" in err


@pytest.mark.parametrize("value", ["", "0"])
def test_not_disabled_by_an_empty_or_zero_setting(tmp_path, value):
    text = SNAPSHOT + "ioxide.install(); print(snapshot() == before)"
    assert prints(text, tmp_path, IOXIDE_DISABLE=value) == "False"


def test_the_loop_factory_works_without_install(tmp_path):
    text = """
import asyncio, ioxide
async def kind(): return type(asyncio.get_running_loop()).__module__.split(".")[0]
with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
    print(runner.run(kind()), asyncio.run.__module__)
"""
    assert prints(text, tmp_path) == "ioxide asyncio.runners"


LENIENT = """
import ioxide as asyncio
loop = asyncio.get_event_loop()
print(loop is asyncio.get_event_loop(), type(loop) is asyncio.EventLoop)
loop.close()
async def nothing(): pass
asyncio.run(nothing())
again = asyncio.get_event_loop()
print(again is not loop)
again.close()
async def running(): return asyncio.get_event_loop() is asyncio.get_running_loop()
print(asyncio.run(running()))
"""


def test_imported_as_asyncio_get_event_loop_always_finds_one(tmp_path):
    assert prints(LENIENT, tmp_path).split() == ["True"] * 4


def test_another_thread_has_no_loop_until_it_sets_one(tmp_path):
    text = """
import ioxide, threading
def ask():
    try:
        ioxide.get_event_loop()
    except RuntimeError as error:
        print(error)
    loop = ioxide.new_event_loop(); ioxide.set_event_loop(loop)
    print(ioxide.get_event_loop() is loop); loop.close()
thread = threading.Thread(target=ask, name="side"); thread.start(); thread.join()
"""
    out = prints(text, tmp_path).splitlines()
    assert out == ["There is no current event loop in thread 'side'.", "True"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has them since 3.12")
@pytest.mark.parametrize("first", ["library", "install"])
def test_a_library_recognises_eager_task_factories_by_their_code(tmp_path, first):
    """As anyio does, which looks at `__code__` when it is imported."""
    library = "code = asyncio.eager_task_factory.__code__\n"
    install = "ioxide.install()\n"
    ended = python(
        "-c",
        "import asyncio, ioxide\n"
        + (library + install if first == "library" else install + library)
        + "made = asyncio.create_eager_task_factory(asyncio.Task)\n"
        "assert made.__code__ is asyncio.eager_task_factory.__code__ is code\n"
        "assert made.__closure__[0].cell_contents is ioxide.Task\n",
        cwd=tmp_path,
    )
    assert (ended.status, ended.err) == (0, "")
