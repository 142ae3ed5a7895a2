"""Runs the interpreter of the tests as a person would from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 50


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    out: str
    err: str


def python(*arguments: str, cwd: Path, text: str | None = None, **environment: str) -> Ended:
    """Run `python *arguments` in a folder, with `text` on its standard input."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=text or "",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=clean_environment() | environment,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    """The environment without what changes how Python or ioxide behaves."""
    return {
        k: v
        for k, v in os.environ.items()
        if k == "PYTHONPATH" or not k.startswith(("PYTHON", "IOXIDE"))
    }
