"""Runs a script in a child process, where a crash, a hang or a leak is seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

# Ends hangs only, sooner than the limit of tests does.
LIMIT_S = 50
TESTS = Path(__file__).resolve().parent.parent

PREAMBLE = """\
import faulthandler, sys
faulthandler.enable()
faulthandler.dump_traceback_later({limit}, exit=True)
import asyncio as stdlib
import {module} as aio
"""


def source(aio, script: str, *, limit: float = LIMIT_S) -> str:
    """`script` with `aio` bound to the implementation and `stdlib` to asyncio."""
    return PREAMBLE.format(module=aio.__name__, limit=limit) + textwrap.dedent(script)


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process without what would change a child's behaviour."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTHONASYNCIO", "PYTHONMALLOC", "PYTHONDEV"))
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), kept.get("PYTHONPATH")]))
    return kept | changes


def run(
    aio, script: str, *, flags=(), env=None, limit: float = LIMIT_S
) -> subprocess.CompletedProcess:
    """The finished child, whatever its exit status was."""
    return subprocess.run(
        [sys.executable, *flags, "-c", source(aio, script, limit=limit)],
        capture_output=True,
        text=True,
        timeout=limit + 5,
        env=environment(**(env or {})),
        check=False,
    )


def check(
    aio, script: str, *, flags=(), env=None, limit: float = LIMIT_S, quiet: bool = True
) -> str:
    """What the child printed, after asserting that it ended well and, if `quiet`, said nothing on stderr."""
    done = run(aio, script, flags=flags, env=env, limit=limit)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    if quiet:
        assert done.stderr == "", done.stderr
    return done.stdout
