"""What the values that programs give may be: each is judged where it is given, by its name, its kind and its bounds."""

from __future__ import annotations

from numbers import Real
from types import UnionType
from typing import Final, SupportsIndex

from pyiwarp.errors import UsageError

__all__ = ["DEFAULT_BACKLOG", "PER_ADDRESS", "check_count", "check_kind", "check_offered", "check_seconds"]

DEFAULT_BACKLOG: Final = 512
"""How many connections of one listener may be in startup or wait for a decision."""

PER_ADDRESS: Final = 256
"""How many of these may come from one address."""


def check_count(name: str, value: object, least: int, most: int, rule: str = "") -> None:
    """Raises `UsageError` unless `value` is a whole number from `least` to `most`; `rule` says which rule bounds it."""
    if type(value) is int:  # the usual kind: to ask for a protocol takes forty calls
        number = value
    elif isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = value.__index__()
    else:
        raise UsageError(f"{name} is a whole number from {least} to {most}{rule}, not {value!r}")
    if not least <= number <= most:
        raise UsageError(f"{name} is {value}; it may be {least} to {most}{rule}")


def check_seconds(name: str, value: object, *, zero: bool = True) -> None:
    """Raises `UsageError` unless `value` is a time in seconds; with `zero` it may be 0."""
    if type(value) is float:  # the usual kind: to ask for an abstract class takes ten calls
        seconds = value
    elif isinstance(value, Real) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise UsageError(f"{name} is a number of seconds, not {value!r}")
    if not (seconds >= 0 if zero else seconds > 0):  # NaN is neither
        raise UsageError(f"{name} is {value} seconds; it is {'0 or more' if zero else 'more than 0'}")


def check_kind(name: str, value: object, kind: type | UnionType, words: str) -> None:
    """Raises `UsageError` unless `value` is of a kind, which `words` name."""
    if not isinstance(value, kind):
        raise UsageError(f"{name} is {words}, not {value!r}")


def check_offered(name: str, value: int, most: int, device: str) -> None:
    """Raises `UsageError` if a device offers less than `value`."""
    if value > most:
        raise UsageError(f"{name} is {value}; {device} offers {most}")
