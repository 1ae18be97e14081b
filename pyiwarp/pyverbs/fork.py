"""Forks: no memory is locked for a device here, so nothing must be prepared for them."""

from __future__ import annotations

from pyiwarp.pyverbs.libibverbs_enums import ibv_fork_status

__all__ = ["fork_init", "is_fork_initialized"]


def fork_init() -> None:
    """Does nothing."""


def is_fork_initialized() -> ibv_fork_status:
    """That it is not needed."""
    return ibv_fork_status.IBV_FORK_UNNEEDED
