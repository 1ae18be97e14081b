"""`import pyverbs` means this package: for programs that are not to be changed, and in their process alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from pyiwarp.errors import UsageError

__all__ = ["install", "installed_elsewhere"]

_NAME: Final = "pyverbs"
_HERE: Final = __package__


def install() -> None:
    """From now on `pyverbs` and its modules are `pyiwarp.pyverbs` and its modules, in this process and its forks.

    A pyverbs that is installed is not seen any more, and not touched. To call it again changes nothing. Raises
    `UsageError` if the process has imported another pyverbs already.
    """
    imported = sys.modules.get(_NAME)
    if imported is not None and imported is not sys.modules[_HERE]:
        raise UsageError(f"another pyverbs is imported already, from {_place(imported.__spec__)}: install before that")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def installed_elsewhere() -> str | None:
    """Where a program finds pyverbs without `install`; None if it is not installed."""
    spec = PathFinder.find_spec(_NAME)
    return None if spec is None else _place(spec)


def _place(spec: ModuleSpec | None) -> str:
    if spec is None:
        return "an unknown place"
    return spec.origin or ", ".join(spec.submodule_search_locations or ()) or "an unknown place"


class _Finder(MetaPathFinder):
    """Finds `pyverbs` and all below it here and nowhere else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Overrides."""
        first, dot, rest = fullname.partition(".")
        if first != _NAME:
            return None
        real = find_spec(f"{_HERE}{dot}{rest}")
        if real is None:
            raise ModuleNotFoundError(f"pyiwarp's pyverbs has no module {fullname!r}", name=fullname)
        packages = None if real.submodule_search_locations is None else True
        return ModuleSpec(fullname, _Alias(real), origin=real.origin, is_package=packages)


class _Alias(Loader):
    """Gives the module of this package that has another name: the same object."""

    def __init__(self, real: ModuleSpec) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Overrides."""
        return importlib.import_module(self._real.name)

    def exec_module(self, module: ModuleType) -> None:
        """Overrides: it has run under its own name, whose spec it keeps."""
        module.__spec__ = self._real
