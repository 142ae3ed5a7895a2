"""Makes `ioxide.queues`, `ioxide.events` and so on: what asyncio has there, with ours in place."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType


def submodule(name: str) -> ModuleType:
    """Return ioxide's view of `asyncio.<name>`: its names, with ioxide's objects where it has them.

    AttributeError is raised if asyncio has no such submodule.
    """
    import asyncio

    from ._install import substitute

    if name.startswith("__") or name not in {
        m.name for m in pkgutil.iter_modules(asyncio.__path__)
    }:
        raise AttributeError(f"module 'ioxide' has no attribute {name!r}")
    source = importlib.import_module(f"asyncio.{name}")
    view = ModuleType(f"ioxide.{name}", source.__doc__)
    for key, value in vars(source).items():
        if not (key.startswith("__") and key != "__all__"):
            setattr(view, key, substitute(value))
    return sys.modules.setdefault(view.__name__, view)
