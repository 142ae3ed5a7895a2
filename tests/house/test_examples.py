"""The programs of the tour do what they say, and the tour notices when they do not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import clean_environment

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 60


def load_tour():
    spec = importlib.util.spec_from_file_location("tour", ROOT / "tools" / "tour.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tour"] = module
    spec.loader.exec_module(module)
    return module


tour = load_tour()
ALONE = [stop for stop in tour.STOPS if stop.file != "echo_client.py"]


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )


@pytest.fixture(scope="module")
def ended():
    """Each example that runs by itself: they mostly wait, so all at once."""
    running = {stop.file: start(str(ROOT / "examples" / stop.file)) for stop in ALONE}
    try:
        yield {
            file: (process.communicate(timeout=30)[0], process.returncode)
            for file, process in running.items()
        }
    finally:
        for process in running.values():
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("stop", ALONE, ids=lambda stop: stop.file)
def test_example_prints_what_the_tour_expects(ended, stop):
    out, status = ended[stop.file]
    assert status == 0, out
    assert stop.expected in out
    assert "Traceback" not in out and "Error" not in out.replace("TimeoutError", "")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example_is_short_and_uses_ioxide(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert "import ioxide as asyncio" in text


@pytest.fixture
def screen():
    return tour.Screen()


@pytest.mark.slow
def test_the_echo_server_survives_its_client_and_a_load(screen, capsys):
    with tour.Server() as server:
        client = next(stop for stop in tour.STOPS if stop.file == "echo_client.py")
        assert tour.visit(screen, client, [server.port])
        assert tour.under_load(screen, server, connections=50, seconds=0.3)
    out = capsys.readouterr().out
    for word in ("50 of 50", "messages per second", "latency p50", "latency p99", "errors"):
        assert word in out
    assert server.process.returncode == 0


def test_a_program_that_fails_or_says_something_else_is_noticed(screen, tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "EXAMPLES", tmp_path)
    (tmp_path / "fails.py").write_text("print('fine'); raise SystemExit(3)")
    (tmp_path / "differs.py").write_text("print('something else')")
    assert not tour.visit(screen, tour.Stop("", "fails.py", None, "fine"), [])
    assert not tour.visit(screen, tour.Stop("", "differs.py", None, "fine"), [])


@pytest.mark.parametrize(
    "lost",
    [{"errors": 1}, {"connections": 9}, {"messages": 0, "p50": None, "p99": None}],
    ids=str,
)
def test_a_load_with_losses_is_noticed(screen, lost):
    good = {
        "asked_connections": 10,
        "connections": 10,
        "messages": 5,
        "errors": 0,
        "kinds": {},
        "elapsed": 1.0,
        "p50": 0.001,
        "p99": 0.002,
    }
    assert tour.sum_up(screen, good)
    assert not tour.sum_up(screen, good | lost)
    assert not tour.sum_up(screen, {})


def test_the_load_counts_connections_that_are_refused(screen, unused_port):
    class Nothing:
        port = str(unused_port)

    assert not tour.under_load(screen, Nothing(), connections=3, seconds=0.1)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
