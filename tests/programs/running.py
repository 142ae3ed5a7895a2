"""Runs the programs in `apps` in processes of their own, as a person would from a shell."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from house.programs import clean_environment

APPS = Path(__file__).parent / "apps"
LIMIT_S = 50
#: What a library says about itself is not judged here, but what is left open is.
FLAGS = ["-W", "ignore::DeprecationWarning", "-W", "always::ResourceWarning", "-X", "faulthandler"]


def run(program: str, *arguments: object, module: str | None = None) -> dict[str, object]:
    """Run a program to its end, by `python -m module` if there is one; return what it reports.

    It has said nothing else, ran on ioxide, and left nothing behind.
    """
    done = subprocess.run(
        [
            sys.executable,
            *FLAGS,
            *(["-m", module] if module else []),
            program,
            *map(str, arguments),
        ],
        cwd=APPS,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    facts = json.loads(done.stdout)
    for name, expected in (("loop", "ioxide"), ("task", "ioxide"), ("tasks_left", 0)):
        assert facts.pop(name) == expected, f"{name}: {done.stdout}"
    assert facts.pop("sockets_left") == 0, done.stdout
    return facts


@contextlib.contextmanager
def uvicorn(application: str, log: Path) -> Iterator[str]:
    """The URL of an application that uvicorn serves on ioxide's loop; it ends well when told to."""
    with log.open("w") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, *FLAGS, "-m", "uvicorn", application),
                *("--loop", "ioxide:new_event_loop", "--port", "0", "--no-access-log"),
            ],
            cwd=APPS,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stderr is not None
            for line in server.stderr:
                output.write(line)
                if found := re.search(r"running on (http://[\d.:]+)", line):
                    break
            assert found, "uvicorn has not started"
            yield found[1]
            server.send_signal(signal.SIGTERM)
            _, rest = server.communicate(timeout=50)
            output.write(rest)
        finally:
            server.kill()
            server.wait()
            server.stderr.close()
    # uvicorn shuts down in an orderly way, and then passes the signal on to itself.
    assert server.returncode == -signal.SIGTERM
