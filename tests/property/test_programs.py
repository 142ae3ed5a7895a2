"""Random programs of everything that waits have the same complete order of events on asyncio and on ioxide.

`IOXIDE_PROGRAMS=20000` runs more of them, `IOXIDE_SEED=7` others. A failure prints the smallest program that shows
it, which `check_program` runs again.
"""

from __future__ import annotations

import asyncio
import difflib
import os

import pytest
from harness.implementation import load

from .interpreter import execute
from .programs import generate, show, shrink

PROGRAMS = int(os.environ.get("IOXIDE_PROGRAMS", "3000"))
FIRST_SEED = int(os.environ.get("IOXIDE_SEED", "0"))
PER_TEST = 250

# What is compared with asyncio on its own loop: (whose names, whose loop).
COMPARED = {
    "ioxide": ("ioxide", "ioxide"),
    "asyncio's names on ioxide's loop": ("asyncio", "ioxide"),
}


def difference(program, names, loop_of):
    """The first lines in which the logs differ, or nothing."""
    expected = execute(asyncio, "asyncio", program)
    got = execute(load(names), loop_of, program)
    if expected == got:
        return None
    lines = difflib.unified_diff(
        [*map(repr, expected)], [*map(repr, got)], "asyncio", f"{names} on {loop_of}", "", "", 6
    )
    return "\n".join([*lines][:60])


def check_program(program, names="ioxide", loop_of="ioxide"):
    """Fails with the smallest program that shows a difference."""
    if difference(program, names, loop_of) is not None:
        small = shrink(program, lambda candidate: difference(candidate, names, loop_of) is not None)
        pytest.fail(
            f"program:\n{show(small)}\n\n{difference(small, names, loop_of)}", pytrace=False
        )


def test_random_programs_have_the_same_order_of_events_each_time():
    for seed in range(FIRST_SEED, FIRST_SEED + 50):
        assert difference(generate(seed), "asyncio", "asyncio") is None, seed


@pytest.mark.slow
@pytest.mark.parametrize("compared", COMPARED)
@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + PROGRAMS, PER_TEST))
def test_random_programs_have_asyncios_order_of_events(compared, first):
    names, loop_of = COMPARED[compared]
    load(loop_of)
    for seed in range(first, first + PER_TEST):
        program = generate(seed)
        if difference(program, names, loop_of) is not None:
            print(f"seed {seed}")
            check_program(program, names, loop_of)
