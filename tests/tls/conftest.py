"""Every test here runs with both engines: OpenSSL driven natively, and the methods of `ssl.SSLObject`."""

from __future__ import annotations

import pytest

from ioxide import _ioxide


@pytest.fixture(params=["native", "methods"], autouse=True)
def engine(request: pytest.FixtureRequest):
    _ioxide._set_native_tls(request.param == "native")
    yield request.param
    _ioxide._set_native_tls(True)
