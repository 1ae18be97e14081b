"""What a forked child inherits and must not touch: the sockets of its parent's connections and listeners.

A child has copies of its parent's descriptors, and a copy of each object. What it wrote would be torn into its parent's
streams, and an end of its own would end them. So in a child each such descriptor stands for nothing any more (for
`/dev/null`, under the same number, so that closing it later closes nothing else), and its owner is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Inherited", "StandIn", "left_behind_in_children"]


class Inherited(Protocol):
    """An owner of descriptors that are its process's alone."""

    def descriptors(self) -> Iterable[int]:
        """The descriptors that a child shall not have."""

    def leave_behind(self) -> None:
        """This process is a child: the descriptors stand for nothing."""


class StandIn:
    """Stands for an owner of a compiled class, which weak references cannot name; the owner holds it while open."""

    __slots__ = ("__weakref__", "_owner")

    def __init__(self, owner: Inherited) -> None:
        self._owner = owner

    def descriptors(self) -> Iterable[int]:
        """The owner's."""
        return self._owner.descriptors()

    def leave_behind(self) -> None:
        """Tell the owner."""
        self._owner.leave_behind()


_inherited: Final[WeakSet[Inherited]] = WeakSet()


def left_behind_in_children(owner: Inherited) -> None:
    """See to `owner` in every child that is forked from now on, as long as it lives."""
    _inherited.add(owner)


def _in_child() -> None:
    owners = tuple(_inherited)
    if not owners:
        return
    _inherited.clear()
    nothing = os.open(os.devnull, os.O_RDWR)
    for owner in owners:
        for descriptor in owner.descriptors():
            if descriptor >= 0:
                os.dup2(nothing, descriptor, inheritable=False)
        owner.leave_behind()
    os.close(nothing)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
