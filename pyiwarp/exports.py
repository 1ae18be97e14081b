"""What a program sees of packages and objects.

Names of a package are imported when they are first used (PEP 562), so that importing the package is quick; `dir()` and
tab completion show what is meant for programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_exports", "public_names"]


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


def public_names(obj: object, internal: frozenset[str]) -> list[str]:
    """The `__dir__` of an object: its attributes without those that begin with an underscore and those in `internal`.

    `internal` names what other modules of the package call and no program needs.
    """
    return sorted(name for name in object.__dir__(obj) if name[0] != "_" and name not in internal)
