"""The only file that stands in for the `python` command: it makes `__main__` and runs it."""

from __future__ import annotations

import builtins
import io
import os
import pkgutil
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

from . import _children, _install

_USAGE = f"usage: {sys.executable} -m ioxide [-c cmd | -m mod | file | -] [arg] ...\n"
_HELP = (
    _USAGE
    + """
Runs a program as `python` would, with ioxide in the place of asyncio.

  file        a script, or a folder or zip file with a __main__.py
  -m mod      a module or package, as `python -m mod`
  -c cmd      a program given as text
  -           a program read from standard input
  (nothing)   a console in which `await` works at the top level
  -h, --help  show this text
  -V          show the versions of ioxide and of Python

What follows belongs to the program. Options of Python itself go before `-m ioxide`.
"""
)
# Ends with the exit status by which the shell knows wrong usage.
_WRONG_USAGE = 2


def main() -> None:
    """Run what the command line asks for."""
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help"):
        sys.stdout.write(_HELP)
    elif first in ("-V", "--version"):
        import ioxide

        sys.stdout.write(f"ioxide {ioxide.__version__} (Python {sys.version.split()[0]})\n")
    elif first[:2] in ("-c", "-m"):
        # As with python, `-mpkg` is `-m pkg`, and the rest is the program's.
        value, rest = _value_of(arguments)
        run = _run_text if first[:2] == "-c" else _run_module
        _as_main(run, value, rest)
    elif not arguments or (first == "-" and sys.stdin.isatty()):
        _install.install_lenient()
        from ._console import interact

        sys.argv[:] = [first]
        interact(_make_main(None))
    elif first == "-":
        _as_main(_run_stdin, first, arguments[1:])
    elif first.startswith("-"):
        _refuse(f"Unknown option: {first}\n{_USAGE}Try `{sys.executable} -m ioxide -h' for help.")
    else:
        _as_main(_run_path, first, arguments[1:])


def _value_of(arguments: list[str]) -> tuple[str, list[str]]:
    option, attached, rest = arguments[0][:2], arguments[0][2:], arguments[1:]
    if attached:
        return attached, rest
    if not rest:
        _refuse(f"Argument expected for the {option} option\n{_USAGE}")
    return rest[0], rest[1:]


def _refuse(message: str, status: int = _WRONG_USAGE) -> NoReturn:
    sys.stderr.write(message.rstrip("\n") + "\n")
    raise SystemExit(status)


def _as_main(run: Any, value: str, rest: list[str]) -> None:
    """Run the program; an exception that it lets go is shown without the frames of this file."""
    _install.install_lenient()
    _children.follow()
    try:
        run(value, rest)
    except SystemExit:
        raise
    except BaseException as error:
        _report(error)
        # Python ends the process: exit status, threads, atexit, and SIGINT for KeyboardInterrupt.
        raise


def _report(error: BaseException) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    _remember(error, trace)
    hook = sys.excepthook
    try:
        hook(type(error), error, trace)
    except BaseException:
        return  # Python calls the hook again, and says that it fails
    sys.excepthook = lambda *_: None


def _remember(error: BaseException, trace: TracebackType | None) -> None:
    """What python leaves for `pdb.pm()` and the like."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def _make_main(file: str | None, loader: Any = BuiltinImporter) -> dict[str, Any]:
    """Put a fresh `__main__` in the place of ours, with the names that python gives it."""
    module = ModuleType("__main__")
    names = vars(module)
    names.update(__builtins__=builtins, __loader__=loader)
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    if file is not None:
        names["__file__"] = file
        if sys.version_info < (3, 15):
            names["__cached__"] = None
    sys.modules["__main__"] = module
    return names


def _set_path(first: str) -> None:
    """Replace the current folder, which `-m ioxide` put at the front, unless `-P` kept it away."""
    if not sys.flags.safe_path:
        sys.path[0] = first


def _run_module(name: str, rest: list[str]) -> None:
    _make_main(None)
    sys.argv[:] = ["-m", *rest]
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_text(text: str, rest: list[str]) -> None:
    if sys.version_info >= (3, 14):
        import textwrap

        text = textwrap.dedent(text)
    sys.argv[:] = ["-c", *rest]
    _set_path("")
    exec(compile(text, "<string>", "exec", dont_inherit=True), _make_main(None))


def _run_stdin(_dash: str, rest: list[str]) -> None:
    sys.argv[:] = ["-", *rest]
    _set_path("")
    source = sys.stdin.buffer.read()
    exec(compile(source, "<stdin>", "exec", dont_inherit=True), _make_main("<stdin>"))


def _run_path(path: str, rest: list[str]) -> None:
    sys.argv[:] = [path, *rest]
    # A folder or a zip file is a place to import `__main__` from.
    if pkgutil.get_importer(path) is not None:
        place = os.path.abspath(path)
        if sys.flags.safe_path:
            sys.path.insert(0, place)
        else:
            sys.path[0] = place
        _make_main(None)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    absolute = os.path.abspath(path)
    try:
        code, loader = _load(absolute)
    except OSError as error:
        _refuse(
            f"{sys.executable} -m ioxide: can't open file {absolute!r}: "
            f"[Errno {error.errno}] {error.strerror}"
        )
    _set_path(os.path.dirname(os.path.realpath(path)))
    exec(code, _make_main(absolute, loader))


def _load(path: str) -> tuple[CodeType, Any]:
    """The code of a script, and the loader which python names in its `__main__`."""
    if path.endswith(".pyc"):
        compiled: Any = SourcelessFileLoader("__main__", path)
        return compiled.get_code("__main__"), compiled
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    return code, SourceFileLoader("__main__", path)
