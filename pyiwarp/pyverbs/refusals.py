"""Modules of pyverbs for what iWARP has not: each name is a class that cannot be made.

Programs import such names whether or not they use them. What is a plain set of attributes can be made, and what is used
as a number is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from pyiwarp.pyverbs.base import unsupported

__all__ = ["refusing"]

_PLAIN: Final = ("Attr", "Attrs", "Caps", "In", "Out", "Param", "Params")
_NUMBER: Final = 1


class _Kind(type):
    """The type of such a class: whatever is asked of it is a number, so that flags can be joined."""

    def __getattr__(cls, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return _NUMBER

    def __int__(cls) -> int:
        return _NUMBER

    __index__ = __int__

    def _joined(cls, other: object) -> int:
        return _NUMBER

    __or__ = __ror__ = __and__ = __rand__ = __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = _joined  # type: ignore[assignment]
    __lshift__ = __rlshift__ = _joined

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class _Refused(metaclass=_Kind):
    def __init__(self, *args: object, **kwargs: object) -> None:
        unsupported(f"{type(self).__name__} is no part of iWARP")


class _Attributes(metaclass=_Kind):
    def __init__(self, *args: object, **kwargs: object) -> None:
        self.__dict__.update(kwargs)


def refusing(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names are all of this kind."""
    made: dict[str, type] = {}

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name not in made:
            base = _Attributes if name.endswith(_PLAIN) else _Refused
            made[name] = _Kind(name, (base,), {"__module__": module})
        return made[name]

    return attribute
