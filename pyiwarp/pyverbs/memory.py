"""Memory by address, as verbs programs name it."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

__all__ = ["EVERYTHING", "HUGE_PAGE", "Memory", "implicit_is_allowed", "view_of"]

HUGE_PAGE: Final = 2 << 20
EVERYTHING: Final = 1 << 47
"""Octets of the addresses that a process may have."""

_IMPLICIT: Final = "PYIWARP_VERBS_IMPLICIT"
_HUGE_PAGES: Final = 0x40000  # MAP_HUGETLB of Linux, which Python does not name


def implicit_is_allowed() -> bool:
    """Whether a program may register all of its memory at once, which the environment must say: it is dangerous."""
    return os.environ.get(_IMPLICIT, "") == "1"


class Memory:
    """Octets of its own, aligned to a page, zero at first; they live as long as somebody has `view`."""

    def __init__(self, nbytes: int, *, huge: bool = False) -> None:
        self.nbytes = nbytes
        length, flags = max(1, nbytes), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if huge:
            length, flags = -(-length // HUGE_PAGE) * HUGE_PAGE, flags | _HUGE_PAGES
        mapped = mmap.mmap(-1, length, flags=flags)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        self.view = memoryview(mapped)[:nbytes]


def view_of(address: int, nbytes: int) -> memoryview:
    """The octets at an address; nothing keeps them there but the program."""
    if not nbytes:
        return memoryview(bytearray())
    return memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")
