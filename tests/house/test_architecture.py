"""ARCHITECTURE.md: every file and every function that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
MOST_LINES = 400
HOPS = sorted(set(re.findall(r"`([\w./]+\.(?:rs|py))::(\w+)`", TEXT)))
FILES = sorted(set(re.findall(r"`([\w./]+(?:\.rs|\.py|/))`", TEXT)))


def resolve(name: str) -> Path:
    if name.startswith("core/"):
        return ROOT / "crates/ioxide-core/src" / name.removeprefix("core/")
    if name.startswith(("python/", "crates/")):
        return ROOT / name
    beside = ROOT / "python/ioxide" / name
    return beside if name.endswith(".py") else ROOT / "crates/ioxide-python/src" / name


def test_there_are_hops_to_check():
    assert len(HOPS) >= 15


@pytest.mark.parametrize(("file", "function"), HOPS, ids=lambda part: str(part))
def test_hop_exists(file, function):
    source = resolve(file).read_text()
    assert re.search(rf"\b(?:fn|def) {function}\b", source), f"no {function} in {file}"


@pytest.mark.parametrize("name", FILES)
def test_file_exists(name):
    assert resolve(name).exists()


def test_the_document_can_be_read_in_one_sitting():
    assert len(TEXT.splitlines()) <= MOST_LINES
