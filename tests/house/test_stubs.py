"""The stubs name what the package has."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import ioxide


def names_in_stub() -> set[str]:
    tree = ast.parse((Path(ioxide.__file__).parent / "__init__.pyi").read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_every_public_name_has_a_type():
    missing = set(ioxide.__all__) - names_in_stub()
    assert missing == set(), f"on {sys.version}"


def test_the_package_says_that_it_is_typed():
    assert (Path(ioxide.__file__).parent / "py.typed").exists()
