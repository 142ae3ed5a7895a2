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


#: How the map calls the files and the folders in a part of the source.
PARTS = {
    "crates/ioxide-python/src": ("", ""),
    "crates/ioxide-core/src": ("core/", "core/"),
    "python/ioxide": ("", "python/ioxide/"),
}


@pytest.mark.parametrize("part", PARTS)
def test_everything_has_a_place_in_the_map(part):
    of_files, of_folders = PARTS[part]
    places = set()
    for path in (ROOT / part).iterdir():
        if path.suffix in (".rs", ".py") and path.stem not in ("lib", "__init__", "__main__"):
            places.add(f"{of_files}{path.name}")
        elif any(inside.suffix in (".rs", ".py") for inside in path.glob("*")):
            places.add(f"{of_folders}{path.name}/")
    the_map = TEXT.split("\n## Where things are\n")[1].split("\n## ")[0]
    assert {place for place in places if f"`{place}`" not in the_map} == set()


def test_the_document_can_be_read_in_one_sitting():
    assert len(TEXT.splitlines()) <= MOST_LINES
