"""What makes processes that multiprocessing starts anew use ioxide, if `python -m ioxide` does.

A forked child has what its parent has. One that is spawned begins as plain Python, and first of all
unpickles a dict by which multiprocessing prepares it: an entry is added that installs ioxide when it
is unpickled.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from . import _install

_MODULE = "multiprocessing.spawn"


def follow() -> None:
    """Let spawned children follow this process, now or once multiprocessing is imported."""
    if _MODULE in sys.modules:
        _teach(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Waits for the one import: most programs never need multiprocessing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _teach(module)


def _teach(spawn: Any) -> None:
    prepare = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = prepare(name)
        if _install.state()[0]:
            data["ioxide"] = _Installing()
        return data

    spawn.get_preparation_data = get_preparation_data


class _Installing:
    """Installs ioxide where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _install.install_lenient, ()
