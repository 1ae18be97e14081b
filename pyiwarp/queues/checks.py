"""What may be posted: every work request is checked before it is queued (RFC 5040 §5.5 rule 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyiwarp.access import octets_of
from pyiwarp.codes import IMMEDIATE_SIZE, MAX_MESSAGE
from pyiwarp.errors import BadMemory, BadWorkRequest, Closed
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.memory.handles import Domain
from pyiwarp.mr import Access, RegionSlice
from pyiwarp.queues.work import Immediate, LocalSge, Send, Sge, Write

__all__ = [
    "QpCap",
    "check_count_of_sges",
    "check_immediate",
    "check_length",
    "check_operands",
    "check_sges",
    "check_stag",
    "inline_octets",
    "pinned_sinks",
    "slices_of",
]


@dataclass(frozen=True, slots=True)
class QpCap:
    """How much a queue pair holds: work requests in each queue, elements in each list, octets sent inline."""

    max_send_wr: int = 256
    """Work requests that the send queue holds."""
    max_recv_wr: int = 256
    """Receives that the receive queue holds."""
    max_sge: int = 16
    """Elements in the list of one work request."""
    max_inline: int = 1024
    """Octets that a work request carries itself."""


def check_count_of_sges(sges: Sequence[object], cap: QpCap) -> None:
    """Judge how many elements a list has."""
    if len(sges) > cap.max_sge:
        raise BadWorkRequest(f"{len(sges)} SGEs; this queue pair takes {cap.max_sge}")


def slices_of(sges: Sequence[Sge | LocalSge], pd: Domain) -> tuple[Sge, ...]:
    """Elements as slices of regions, also those that are plain tuples.

    Those that name an STag are looked up, and dropped if they have no octets.
    """
    found = []
    for sge in sges:
        if not isinstance(sge, LocalSge):
            found.append(sge if type(sge) is RegionSlice else RegionSlice(*sge))
        elif sge.nbytes:
            region = pd.stags.get(sge.lkey)
            if region is None:
                raise BadMemory(f"STag {sge.lkey:#x} names no region here: {sge!r}")
            found.append(RegionSlice(region, sge.to - region.to, sge.nbytes))
    return tuple(found)


def pinned_sinks(sges: Sequence[Sge | LocalSge], pd: Domain, cap: QpCap) -> tuple[Sge, ...]:
    """The memory of a receive, judged, and pinned only then; raises `BadWorkRequest`, or `Closed` if it is gone."""
    slices = slices_of(sges, pd)
    check_sges(slices, Access.LOCAL_WRITE, pd, cap)
    for region in [sge.region for sge in slices]:
        region.pin()
    return slices


def check_sges(sges: Sequence[Sge], needed: Access, pd: object, cap: QpCap) -> int:
    """Judge a list of elements that need the right `needed`; returns their octets."""
    check_count_of_sges(sges, cap)
    rights = int(needed)
    total = 0
    for region, offset, nbytes in sges:
        if not region.is_open:
            raise Closed(f"the region was closed or invalidated: {region!r}")
        if region.pd is not pd:
            raise BadMemory(f"the region belongs to another protection domain: {region!r}")
        if rights & ~region.rights:
            raise BadMemory(f"the region does not grant {needed!r}: {region!r}")
        if offset < 0 or nbytes < 0 or offset + nbytes > region.nbytes:
            raise BadMemory(f"octets {offset}..{offset + nbytes} lie outside {region!r}")
        total += nbytes
    return total


def check_length(nbytes: int) -> None:
    """Judge the octets of a whole message."""
    if nbytes > MAX_MESSAGE:  # DDP-5041-5.2-03
        raise BadWorkRequest(f"a message of {nbytes} octets; it must be shorter than 2^32 (RFC 5041 §5.2)")


def check_stag(stag: int) -> None:
    """Judge an STag of the peer's."""
    if stag >> 32:
        raise BadWorkRequest(f"an STag is a number from 0 to 2^32 - 1, not {stag:#x} (RFC 5041 §4.2)")


def inline_octets(request: Send | Write, cap: QpCap) -> bytes:
    """A copy of the octets that a request carries itself."""
    inline = request.inline
    octets = inline if type(inline) is bytes else b"" if inline is None else octets_of(inline).tobytes()
    if request.sges or len(octets) > cap.max_inline:
        raise BadWorkRequest(f"{len(octets)} octets inline and {len(request.sges)} SGEs; {cap.max_inline} may be")
    return octets


def check_immediate(request: Immediate) -> bytes:
    """The octets of Immediate Data."""
    nbytes = len(request.data)
    if nbytes != IMMEDIATE_SIZE:  # EXT-7306-6.3-05
        raise BadWorkRequest(f"Immediate Data has 8 octets, not {nbytes} (RFC 7306 §6.2)")
    return bytes(request.data)


def check_operands(operands: Sequence[object]) -> None:
    """Judge the numbers of an Atomic."""
    for operand in operands:
        if not isinstance(operand, int) or not 0 <= operand <= ALL_ONES:
            raise BadWorkRequest(
                f"an operand of an Atomic is a number from 0 to 2^64 - 1, not {operand!r} (RFC 7306 §5.2.1)"
            )
