"""The documents say what is so: programs in them run, commands and files in them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .programs import python

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benches/README.md"])
MOST_README_LINES = 120


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_program_in_the_readme_runs(tmp_path):
    (program,) = blocks(ROOT / "README.md")
    assert len([line for line in program.splitlines() if line]) <= 10
    (tmp_path / "program.py").write_text(program)
    status, out, err = python("program.py", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out == "['A took 0.2 s', 'B took 0.1 s', 'C took 0.3 s']\n"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < MOST_README_LINES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_exist(path):
    makefile = (ROOT / "Makefile").read_text()
    commands = set(re.findall(r"(?:^    |`)make ([a-z]+)", path.read_text(), re.MULTILINE))
    assert {c for c in commands if not re.search(rf"^{c}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    files = {target for target in targets if "://" not in target}
    assert {target for target in files if not (path.parent / target).exists()} == set()
