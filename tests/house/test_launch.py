"""`python -m ioxide X` is `python X`: output, errors and exit status are compared."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from .programs import python

LOOK_AROUND = """
import sys, __main__
print(sys.argv, sys.path[0], __name__, __main__.__dict__ is globals())
print(sorted(globals()), __spec__ is None, globals().get("__file__"))
"""

PROGRAMS = {
    "look_around": LOOK_AROUND,
    "last_words": "import atexit; atexit.register(print, 'bye'); print('hello')",
    "error": "def f():\n    raise ValueError('no')\nf()",
    "chained_error": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(1) from e",
    "syntax_error": "x = (",
    "coding": "# coding: latin-1\nprint(ascii('caf\\xe9'))",
    "exit_status": "raise SystemExit(7)",
    "exit_words": "import sys; sys.exit('words')",
    "exit_in_coroutine": "import asyncio\nasync def f(): raise SystemExit(5)\nasyncio.run(f())",
    "interrupt": "import atexit; atexit.register(print, 'bye'); raise KeyboardInterrupt",
    "own_hook": "import sys\nsys.excepthook = lambda t, v, tb: print(t, v, tb.tb_lineno)\n1 / 0",
    "thread_outlives_main": (
        "import threading\nt = threading.Timer(0.05, lambda: print(__name__, T))\nT = 3\nt.start()"
    ),
    "pickles_itself": (
        "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))).__module__)"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_bytes(text.encode("latin-1"))
    return tmp_path


def same(*arguments: str, cwd: Path, text: str | None = None) -> None:
    expected = python(*arguments, cwd=cwd, text=text)
    assert python("-m", "ioxide", *arguments, cwd=cwd, text=text) == expected


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_script_runs_as_with_python(folder, name):
    same(f"{name}.py", "-a", "b", cwd=folder)


def test_broken_hook_is_reported_by_python(tmp_path):
    text = "import sys; sys.excepthook = lambda *a: 1 / 0; raise ValueError('first')"
    status, _, err = python("-m", "ioxide", "-c", text, cwd=tmp_path)
    assert status == 1
    assert "Error in sys.excepthook" in err and "ValueError: first" in err


@pytest.mark.parametrize("name", ["look_around", "error", "syntax_error", "exit_status"])
def test_text_runs_as_with_python(folder, name):
    expected = python("-c", PROGRAMS[name], "-x", "y", cwd=folder)
    got = python("-m", "ioxide", "-c", PROGRAMS[name], "-x", "y", cwd=folder)
    assert (got.status, got.out) == (expected.status, expected.out)
    # From 3.13 on python shows the line of a program given as text; the last line is the same.
    assert got.err.splitlines()[-1:] == expected.err.splitlines()[-1:]


@pytest.mark.parametrize("name", ["look_around", "error", "exit_status"])
def test_standard_input_runs_as_with_python(folder, name):
    same("-", "a", cwd=folder, text=PROGRAMS[name])


def test_module_runs_as_with_python(folder):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("print('init')")
    (package / "__main__.py").write_text(
        "import sys; print(sys.argv, __name__, __package__, sys.path[0])"
    )
    same("-m", "package", "-c", "d", cwd=folder)
    same("-mpackage", cwd=folder)
    same("-m", "exit_status", cwd=folder)


def test_missing_module_is_said_as_with_python(folder):
    same("-m", "no_such_module", cwd=folder)


def test_folder_and_zip_file_run_as_with_python(folder):
    (folder / "app").mkdir()
    (folder / "app" / "__main__.py").write_text(LOOK_AROUND)
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        archive.write(folder / "app" / "__main__.py", "__main__.py")
    for path in ("app", "app.zip"):
        got = python("-m", "ioxide", path, "x", cwd=folder)
        assert got == python(path, "x", cwd=folder)


def test_safe_path_keeps_the_folder_away(folder):
    expected = python("-P", "look_around.py", cwd=folder)
    got = python("-P", "-m", "ioxide", "look_around.py", cwd=folder)
    assert got == expected


def test_missing_script_is_one_line_and_status_2(tmp_path):
    status, out, err = python("-m", "ioxide", "missing.py", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "missing.py" in err and "No such file or directory" in err


@pytest.mark.parametrize("wrong", [["-z"], ["-c"], ["-m"]])
def test_wrong_usage_is_status_2(tmp_path, wrong):
    status, out, err = python("-m", "ioxide", *wrong, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert "usage:" in err


def test_help_and_version(tmp_path):
    assert "-m mod" in python("-m", "ioxide", "--help", cwd=tmp_path).out
    assert sys.version.split()[0] in python("-m", "ioxide", "-V", cwd=tmp_path).out


def test_asyncio_is_ioxide_in_the_program(tmp_path):
    text = "import asyncio; loop = asyncio.get_event_loop(); print(type(loop).__module__); loop.close()"
    assert python("-m", "ioxide", "-c", text, cwd=tmp_path).out.startswith("ioxide")


def test_get_event_loop_works_again_after_run(tmp_path):
    text = """
import asyncio
async def one(): return 1
asyncio.run(one())
loop = asyncio.get_event_loop()
print(loop.run_until_complete(one()), loop is asyncio.get_event_loop())
loop.close()
"""
    assert python("-m", "ioxide", "-c", text, cwd=tmp_path) == (0, "1 True\n", "")


def test_disabled_leaves_asyncio_and_says_so_once(tmp_path):
    text = "import asyncio; print(asyncio.run.__module__)"
    status, out, err = python("-m", "ioxide", "-c", text, cwd=tmp_path, IOXIDE_DISABLE="1")
    assert (status, out) == (0, "asyncio.runners\n")
    assert err.count("\n") == 1 and "IOXIDE_DISABLE" in err
