"""`python -m ioxide` without a program: statements typed in, answers read back."""

from __future__ import annotations

from pathlib import Path

from .programs import Ended, python


def typed(lines: str, cwd: Path) -> Ended:
    return python("-q", "-m", "ioxide", cwd=cwd, text=lines)


def test_await_works_at_the_top_level(tmp_path):
    status, out, err = typed(
        "await asyncio.sleep(0, 6) * 7\nx = await asyncio.sleep(0, 5)\nx\n", tmp_path
    )
    assert (status, err) == (0, "\n")
    assert "42" in out and "5" in out


def test_tasks_run_between_statements(tmp_path):
    lines = "t = asyncio.create_task(asyncio.sleep(0, 'ran'))\nawait asyncio.sleep(0)\nawait t\n"
    assert "'ran'" in typed(lines, tmp_path).out


def test_context_variables_last_from_statement_to_statement(tmp_path):
    lines = "import contextvars; v = contextvars.ContextVar('v')\n_ = v.set(8)\nawait asyncio.sleep(0, v.get())\n"
    assert "8" in typed(lines, tmp_path).out


def test_error_is_shown_without_frames_of_the_console(tmp_path):
    status, _, err = typed("1 / 0\n", tmp_path)
    assert status == 0
    assert "ZeroDivisionError" in err and "_console.py" not in err


def test_exit_sets_the_status(tmp_path):
    assert typed("exit(3)\n", tmp_path).status == 3


def test_exit_within_a_coroutine_sets_the_status(tmp_path):
    lines = "async def leave():\n    raise SystemExit(4)\n\nawait leave()\n"
    assert typed(lines, tmp_path).status == 4


def test_interrupt_ends_the_statement_and_not_the_console(tmp_path):
    lines = (
        "import os, signal\n"
        "_ = asyncio.get_running_loop if 0 else asyncio.get_event_loop()\n"
        "async def wait():\n"
        "    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)\n"
        "    await asyncio.sleep(10)\n"
        "\n"
        "await wait()\n"
        "print('still here')\n"
    )
    status, out, err = typed(lines, tmp_path)
    assert status == 0
    assert "KeyboardInterrupt" in err and "still here" in out
