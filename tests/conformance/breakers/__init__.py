"""For every case a peer against which it fails; each module has its own `BREAKERS`, keyed by case id."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.conformance.peers import Breaker


def all_breakers() -> dict[str, Breaker]:
    found: dict[str, Breaker] = {}
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        for name, breaker in getattr(module, "BREAKERS", {}).items():
            assert name not in found, f"{name} has two breakers"
            found[name] = breaker
    return found
