"""What the stand-in still holds when no test holds anything: descriptors, threads, children, objects, memory."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

_PATIENCE: Final = 5.0
"""Seconds for what ends by itself: TCP connections whose peer closes later, threads that wake up to end."""
_PAUSE: Final = 0.02
_DESCRIPTORS: Final = Path("/proc/self/fd")
_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True)
class Held:
    """What a process holds at one time."""

    descriptors: Counter[str]
    threads: Counter[str]
    objects: Counter[str]
    children: int

    @classmethod
    def now(cls) -> Held:
        """Of this process; what nobody refers to is collected before."""
        gc.collect()
        kinds = [kind for kind in map(type, gc.get_objects()) if kind.__module__.startswith("pyiwarp.")]
        return cls(
            Counter(_descriptors()),
            Counter(thread.name for thread in threading.enumerate()),
            # neither classes nor enumerations, which keep each combination of flags that was ever asked for
            Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if not issubclass(kind, Enum | type)),
            len(multiprocessing.active_children()),
        )

    def beyond(self, other: Held) -> list[str]:
        """A text for each kind of thing of which there is more than in `other`."""
        pairs = (
            ("descriptors", self.descriptors - other.descriptors),
            ("threads", self.threads - other.threads),
            ("objects", self.objects - other.objects),
            ("children", Counter(children=self.children - other.children)),
        )
        return [f"{what}: {_listed(+more)}" for what, more in pairs if +more]


def left_beyond(usual: Held) -> list[str]:
    """What there is beyond `usual`, when what ends by itself has had its time."""
    until = time.monotonic() + _PATIENCE
    while (left := Held.now().beyond(usual)) and time.monotonic() < until:
        time.sleep(_PAUSE)
    return left


def resident() -> int:
    """KiB of memory of this process."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def _descriptors() -> list[str]:
    """What each descriptor is of. Files are left out: the tests open some of their own and do not close them."""
    found = []
    for entry in os.listdir(_DESCRIPTORS):
        try:
            target = os.readlink(_DESCRIPTORS / entry)
        except FileNotFoundError:  # that of the listing itself
            continue
        if not target.startswith("/") or target.startswith("/memfd:"):
            found.append(target.partition(":[")[0])
    return found


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
