"""Names of a package that are imported when they are first used (PEP 562), so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, names: Mapping[str, tuple[str, ...]], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of `package`.

    `names` says which of its modules defines which names, `modules` which of its modules are public themselves.
    `dir()` and tab completion show these, and nothing else of the package.
    """
    homes = {name: f"{package}.{module}" for module, defined in names.items() for name in defined}
    namespace = vars(sys.modules[package])

    def load(name: str) -> object:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = namespace[name] = getattr(import_module(homes[name]), name)
        return value

    def public() -> list[str]:
        return sorted([*homes, *modules])

    return load, public
