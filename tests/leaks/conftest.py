"""Leaks are looked for in ioxide; `IOXIDE_TEST_IMPL=asyncio` shows that the tests are fair."""

from __future__ import annotations

import os

import pytest
from harness.implementation import IMPLEMENTATIONS, load


@pytest.fixture(params=IMPLEMENTATIONS if "IOXIDE_TEST_IMPL" in os.environ else ["ioxide"])
def aio(request: pytest.FixtureRequest):
    """The module to use in the place of `asyncio`."""
    return load(request.param)
