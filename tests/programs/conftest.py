"""The servers and certificates that the programs need, each started once, when it is first asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import servers

#: With this set, as it is in .ci/run, what is missing fails instead of being skipped.
ALL = os.environ.get("IOXIDE_TEST_PROGRAMS") == "all"


def missing(reason: str) -> None:
    if ALL:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _libraries(request: pytest.FixtureRequest) -> None:
    """The libraries that a test's program imports are there."""
    for mark in request.node.iter_markers("libraries"):
        for name in mark.args:
            if importlib.util.find_spec(name) is None:
                missing(f"{name} is not installed (requirements/programs.txt)")


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, and with `server.pem`: key and certificate for localhost."""
    if importlib.util.find_spec("trustme") is None:
        missing("trustme is not installed (requirements/programs.txt)")
    import trustme

    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


def started(start: Callable[[], contextlib.AbstractContextManager]) -> Iterator[servers.Server]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(start())
        except servers.Missing as reason:
            missing(str(reason))
        yield server


@pytest.fixture(scope="package")
def postgresql(certificates: Path) -> Iterator[servers.Server]:
    certificate = (certificates / "server.pem").read_bytes()
    yield from started(lambda: servers.postgresql(certificate))


@pytest.fixture(scope="package")
def mariadb() -> Iterator[servers.Server]:
    yield from started(servers.mariadb)


@pytest.fixture(scope="package")
def redis() -> Iterator[servers.Server]:
    yield from started(servers.redis)
