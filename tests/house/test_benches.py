"""Every scenario runs and counts what it did, and the table says what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import ioxide

BENCHES = Path(__file__).resolve().parents[2] / "benches"
SMALL = 1000


@pytest.fixture(scope="module")
def benches():
    sys.path.insert(0, str(BENCHES))
    try:
        import run
        import scenarios

        scenarios.load()
        yield run, scenarios
    finally:
        sys.path.remove(str(BENCHES))
        for name in [m for m in sys.modules if m == "run" or m.split(".")[0] == "scenarios"]:
            del sys.modules[name]


def names():
    sys.path.insert(0, str(BENCHES))
    try:
        import scenarios

        return [n for n, s in scenarios.load().items() if s.kind in ("loop", "memory")]
    finally:
        sys.path.remove(str(BENCHES))


@pytest.mark.parametrize("name", names())
def test_scenario_runs_small(benches, name):
    _, scenarios = benches
    chosen = scenarios.SCENARIOS[name]
    n = 1 if chosen.n < SMALL else SMALL
    try:
        with ioxide.Runner(loop_factory=ioxide.new_event_loop) as runner:
            done = runner.run(chosen.function(n))
    except scenarios.Skip as reason:
        pytest.skip(str(reason))
    assert chosen.kind == "memory" or done >= n * 0.9


def test_table_has_ratios_means_failures_and_gaps(benches):
    run, _ = benches
    results = {
        "call_soon_chain": {
            "asyncio": {"cpu": 8e-6, "wall": 8e-6},
            "ioxide": {"cpu": 1e-6, "wall": 2e-6},
            "peer": {"failed": "Boom"},
        },
        "call_soon_batch": {
            "asyncio": {"cpu": 2e-6, "wall": 2e-6},
            "ioxide": {"cpu": 1e-6, "wall": 4e-6},
            "peer": {"skipped": "none"},
        },
    }
    lines = run.table(results, ["asyncio", "ioxide", "peer"], "cpu")
    assert "| **callbacks** | | **4.00** | **-** |" in lines
    assert "| call soon chain | 8,000 | 8.00 | fails |" in lines
    assert "| call soon batch | 2,000 | 2.00 | - |" in lines
    assert "| call soon batch | 2,000 | 0.50 | - |" in run.table(
        results, ["asyncio", "ioxide", "peer"], "wall"
    )
    assert run.failures(results) == ["- call_soon_chain, peer: Boom"]


def test_table_is_written_between_its_marks(benches, tmp_path):
    run, _ = benches
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{run.BEGIN}\nold\n{run.END}\nafter\n")
    run.write(document, "new\n")
    assert document.read_text() == f"before\n{run.BEGIN}\nnew\n{run.END}\nafter\n"


def test_document_without_marks_is_refused(benches, tmp_path):
    run, _ = benches
    document = tmp_path / "other.md"
    document.write_text("nothing here")
    with pytest.raises(SystemExit, match="no place"):
        run.write(document, "new")
    assert document.read_text() == "nothing here"
