"""The drivers of hardware, none of which is here: each module below can be imported, and its names refuse."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

from pyiwarp.pyverbs.refusals import refusing


class _Drivers(Loader):
    """Finds and makes the modules below this package."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Whatever is asked for below this package is a package of its own."""
        if not name.startswith(f"{__name__}."):
            return None
        return ModuleSpec(name, cls(), is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Let its names refuse."""
        module.__dict__["__getattr__"] = refusing(module.__name__)


sys.meta_path.append(_Drivers)
