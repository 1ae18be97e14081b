"""How many files a process may have open: each connection is one."""

from __future__ import annotations

import resource
import sys

__all__ = ["allow_files"]


def allow_files(wanted: int) -> int:
    """Let this process have `wanted` open files if the system does; never fewer than it may have. Returns how many."""
    soft, hard = (_number(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft >= wanted:
        return soft
    allowed = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return allowed


def _number(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
