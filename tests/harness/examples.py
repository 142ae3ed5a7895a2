"""How many examples a property test tries: the same ones every time, unless more are asked for.

`IOXIDE_EXAMPLES=100` tries a hundred times as many, others in each run.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("IOXIDE_EXAMPLES", "1"))


def examples(count: int) -> Any:
    """A decorator: so many, however long one takes to make or to try."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
