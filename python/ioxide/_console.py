"""The only file that talks to a person: a console in which `await` works at the top level."""

from __future__ import annotations

import ast
import code
import concurrent.futures
import contextvars
import sys
import threading
import traceback
import types
from typing import Any

from .runners import Runner


def interact(names: dict[str, Any]) -> None:
    """Read statements in a thread and run them in a loop in this one, until the input ends.

    `exit()` sets the exit status. Ctrl-C ends the statement that runs, not the console.
    """
    import ioxide

    names["asyncio"] = names["ioxide"] = ioxide
    _use_readline(names)
    with Runner() as runner:
        console = _Console(names, runner.get_loop())
        threading.Thread(target=console.read, name="console", daemon=True).start()
        console.serve()
    raise SystemExit(console.exit_code)


def _use_readline(names: dict[str, Any]) -> None:
    """Line editing, history and completion, where python has them and somebody is typing."""
    hook = getattr(sys, "__interactivehook__", None)
    if hook is None or not sys.stdin.isatty():
        return
    hook()
    try:
        import readline
        import rlcompleter
    except ImportError:
        return
    readline.set_completer(rlcompleter.Completer(names).complete)


class _Console(code.InteractiveConsole):
    """Lives in the reading thread, except for what `serve` and `_start` do in the loop's."""

    def __init__(self, names: dict[str, Any], loop: Any) -> None:
        super().__init__(names, filename="<console>")
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.exit_code: Any = 0
        self._loop = loop
        # One context for all statements: a variable set in one is seen by the next.
        self._context = contextvars.copy_context()
        self._task: Any = None

    def read(self) -> None:
        """Read to the end of the input, then let the loop stop."""
        banner = (
            f"ioxide on Python {sys.version.split()[0]}, {sys.platform}\n"
            'Use "await" directly; "asyncio" is ioxide.'
        )
        try:
            self.interact(banner="" if sys.flags.quiet else banner, exitmsg="")
        except SystemExit as leaving:
            self.exit_code = leaving.code
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def serve(self) -> None:
        """Run the loop; Ctrl-C cancels the statement that waits."""
        while True:
            try:
                self._loop.run_forever()
                return
            except KeyboardInterrupt:
                if self._task is not None:
                    self._task.cancel()
            except SystemExit:
                # Raised in a task, whose outcome the reading thread learns too.
                pass

    def runcode(self, code: types.CodeType) -> None:
        """Run one statement in the loop and wait for it."""
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(self._start, code, outcome, context=self._context)
        error = outcome.exception()
        if isinstance(error, SystemExit):
            raise error
        if isinstance(error, KeyboardInterrupt):
            self.write("\nKeyboardInterrupt\n")
        elif error is not None:
            self._show(error)

    def _show(self, error: BaseException) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != self.filename:
            trace = trace.tb_next
        error.__traceback__ = trace
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        self.write("".join(traceback.format_exception(error)))

    def _start(self, code: types.CodeType, outcome: concurrent.futures.Future[Any]) -> None:
        try:
            value = types.FunctionType(code, self.locals)()
        except BaseException as error:
            outcome.set_exception(error)
            return
        if not isinstance(value, types.CoroutineType):
            outcome.set_result(None)
            return
        self._task = self._loop.create_task(value, context=self._context)
        self._task.add_done_callback(lambda task: self._finish(task, outcome))

    def _finish(self, task: Any, outcome: concurrent.futures.Future[Any]) -> None:
        self._task = None
        if task.cancelled():
            outcome.set_exception(KeyboardInterrupt())
        elif task.exception() is not None:
            outcome.set_exception(task.exception())
        else:
            outcome.set_result(None)
