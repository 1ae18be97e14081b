"""Small breakages of the stack: each breaks rules of the RFCs, and for each rule a test that cites it must notice.

`MUTATIONS` holds them all. `python -m tests.meta.audit` applies each in a copy and runs the tests that cite the rules
which it breaks. `UNBROKEN` says, for a rule that a test cites, why no change of the code can break it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.meta.breakages import (
    alone,
    atomic_messages,
    atomics,
    ddp_checks,
    ddp_control,
    ddp_headers,
    ddp_llp,
    ddp_messages,
    ddp_streams,
    immediate,
    limits,
    memory,
    mpa_crc,
    mpa_end,
    mpa_enhanced,
    mpa_fpdu,
    mpa_markers,
    mpa_opening,
    mpa_segments,
    mpa_startup,
    mpa_startup_frames,
    rdmap_checks,
    rdmap_errors,
    rdmap_headers,
    rdmap_operations,
    rdmap_ordering,
    rdmap_services,
    rdmap_terminate,
)
from tests.meta.breakages.mutation import Mutation, Replacement

__all__ = ["MUTATIONS", "UNBROKEN", "Mutation", "Replacement"]

_MPA: Final = (mpa_fpdu, mpa_markers, mpa_crc, mpa_segments, mpa_startup_frames, mpa_startup, mpa_end)
_ENHANCED: Final = (mpa_enhanced, mpa_opening)
_DDP: Final = (ddp_llp, ddp_control, ddp_headers, ddp_messages, ddp_streams, ddp_checks)
_RDMAP: Final = (
    rdmap_services,
    rdmap_headers,
    rdmap_terminate,
    rdmap_errors,
    rdmap_operations,
    rdmap_ordering,
    rdmap_checks,
    atomic_messages,
    atomics,
    immediate,
)
_TABLES: Final = (*_MPA, *_ENHANCED, *_DDP, memory, limits, *_RDMAP, alone)

MUTATIONS: Final[tuple[Mutation, ...]] = tuple(mutation for table in _TABLES for mutation in table.MUTATIONS)
UNBROKEN: Final[Mapping[str, str]] = {rule: reason for table in _TABLES for rule, reason in table.UNBROKEN.items()}
