"""The call graph: the stack of a task, and who awaits it."""

from __future__ import annotations

import asyncio
import inspect
import io

import pytest

import ioxide


def names(graph):
    return [entry.frame.f_code.co_name for entry in graph.call_stack]


def run(coroutine):
    return ioxide.run(coroutine)


async def inner():
    return ioxide.capture_call_graph()


async def outer():
    return await inner()


def test_current_task_has_its_stack_innermost_first():
    graph = run(outer())
    assert names(graph) == ["inner", "outer"]


def test_synchronous_calls_and_generators_are_part_of_the_stack():
    def generator():
        yield ioxide.capture_call_graph()

    def plain():
        return next(generator())

    async def main():
        return plain()

    assert names(run(main())) == ["generator", "plain", "main"]


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, ["outer"]), (-1, ["inner"]), (0, []), (5, ["inner", "outer"])]
)
def test_limit_of_the_current_task(limit, kept):
    async def inner():
        return ioxide.capture_call_graph(limit=limit)

    async def outer():
        return await inner()

    assert names(run(outer())) == kept


def test_depth_leaves_out_the_callers_nearest_to_it():
    def helper():
        return ioxide.capture_call_graph(depth=2)

    async def main():
        return helper()

    assert names(run(main())) == ["main"]


@pytest.mark.parametrize(
    ("limit", "kept"), [(None, ["deep", "waits"]), (1, ["waits"]), (-1, ["deep"]), (0, [])]
)
def test_a_waiting_task_shows_where_it_waits(limit, kept):
    async def deep():
        await asyncio.get_running_loop().create_future()

    async def waits():
        await deep()

    async def main():
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        graph = ioxide.capture_call_graph(task, limit=limit)
        task.cancel()
        return graph

    assert names(run(main())) == kept


def test_a_future_has_no_stack():
    async def main():
        return ioxide.capture_call_graph(asyncio.get_running_loop().create_future())

    assert run(main()).call_stack == ()


def test_asynchronous_generators_are_shown_as_such():
    async def numbers():
        yield ioxide.format_call_graph()

    async def main():
        async for text in numbers():
            return text

    text = run(main())
    assert "in async generator " in text and "numbers()" in text and "in async " in text


def test_the_text_names_tasks_files_and_lines():
    async def main():
        asyncio.current_task().set_name("the one")
        return ioxide.format_call_graph(), inspect.currentframe().f_lineno

    text, line = run(main())
    first, second, third = text.splitlines()
    assert first.startswith("* Task(name='the one', id=0x")
    assert second == "  + Call stack:"
    assert f"{__file__!r}, line {line}, in async " in third


def test_printing_goes_to_the_file():
    async def main():
        future = asyncio.get_running_loop().create_future()
        out = io.StringIO()
        ioxide.print_call_graph(future, file=out)
        return out.getvalue(), hex(id(future))

    text, address = run(main())
    assert text == f"* Future(id={address})\n"


def test_outside_of_a_loop_a_future_must_be_given():
    with pytest.raises(RuntimeError, match="outside of a running event loop"):
        ioxide.capture_call_graph()


def test_without_a_current_task_there_is_no_graph():
    async def main():
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            lambda: done.set_result((ioxide.capture_call_graph(), ioxide.format_call_graph()))
        )
        return await done

    assert run(main()) == (None, "")


@pytest.mark.parametrize("wrong", [1, "task", object()])
def test_what_is_no_future_is_refused(wrong):
    async def main():
        with pytest.raises(TypeError, match="does not appear to be compatible"):
            ioxide.capture_call_graph(wrong)

    run(main())
    with pytest.raises(TypeError, match="does not appear to be compatible"):
        ioxide.capture_call_graph(wrong)


AWAITED_BY = hasattr(ioxide.Future, "_asyncio_awaited_by")


@pytest.mark.skipif(not AWAITED_BY, reason="futures of this Python do not know who awaits them")
def test_awaiting_tasks_are_listed_up_to_the_root():
    async def leaf(event):
        await event.wait()

    async def root(task):
        await task

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(leaf(event), name="leaf")
        above = asyncio.create_task(root(task), name="root")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        graph = ioxide.capture_call_graph(task)
        text = ioxide.format_call_graph(task)
        event.set()
        await above
        return graph, text, ioxide.capture_call_graph(task)

    graph, text, after = run(main())
    assert [g.future.get_name() for g in graph.awaited_by] == ["root"]
    assert names(graph.awaited_by[0]) == ["root"]
    assert "  + Awaited by:\n    * Task(name='root'" in text
    assert after.awaited_by == ()
