"""What may be posted: every work request is judged before anything is promised (RFC 5040 §5.5 rule 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyiwarp.atomics import ALL_ONES, ATOMIC_SIZE
from pyiwarp.codes import MAX_MESSAGE
from pyiwarp.errors import BadWorkRequest, Closed
from pyiwarp.mr import Access
from pyiwarp.work import (
    CompareSwap,
    FetchAdd,
    Immediate,
    Read,
    Send,
    SendRequest,
    Sge,
    Write,
    check_remote,
)

__all__ = ["QpCap", "check_send", "check_sges"]

IMMEDIATE_SIZE = 8


@dataclass(frozen=True, slots=True)
class QpCap:
    """How much a queue pair holds: work requests in each queue, elements in each list, octets sent inline."""

    max_send_wr: int = 256
    max_recv_wr: int = 256
    max_sge: int = 16
    max_inline: int = 1024


def check_send(request: SendRequest, pd: object, cap: QpCap) -> int:
    """Judge a request for the send queue of a queue pair in `pd`; returns the octets that it will move.

    Raises `BadWorkRequest`, or `Closed` for a region that is gone.
    """
    if isinstance(request, Immediate):
        return _check_immediate(request)
    if isinstance(request, FetchAdd | CompareSwap):
        return _check_atomic(request, pd, cap)
    if isinstance(request, Read):
        nbytes = 0 if request.sge is None else check_sges((request.sge,), Access.LOCAL_WRITE, pd, cap)
    else:
        nbytes = _check_payload(request, pd, cap)
    if nbytes > MAX_MESSAGE:  # DDP-5041-5.2-03
        raise BadWorkRequest(f"a message of {nbytes} octets; it must be shorter than 2^32 (RFC 5041 §5.2)")
    if not isinstance(request, Send):
        check_remote(request.remote, nbytes)
    elif request.inval_stag is not None and request.inval_stag >> 32:
        raise BadWorkRequest(f"an STag has 32 bits: {request.inval_stag:#x}")
    return nbytes


def check_sges(sges: Sequence[Sge], needed: Access, pd: object, cap: QpCap) -> int:
    """Judge a list of elements that need the right `needed`; returns their octets."""
    if len(sges) > cap.max_sge:
        raise BadWorkRequest(f"{len(sges)} SGEs; this queue pair takes {cap.max_sge}")
    rights = int(needed)
    total = 0
    for region, offset, nbytes in sges:
        if not region.is_open:
            raise Closed(f"the region was closed or invalidated: {region!r}")
        if region.pd is not pd:
            raise BadWorkRequest(f"the region belongs to another protection domain: {region!r}")
        if rights & ~region.rights:
            raise BadWorkRequest(f"the region does not grant {needed!r}: {region!r}")
        if offset < 0 or nbytes < 0 or offset + nbytes > region.nbytes:
            raise BadWorkRequest(f"octets {offset}..{offset + nbytes} lie outside {region!r}")
        total += nbytes
    return total


def _check_payload(request: Send | Write, pd: object, cap: QpCap) -> int:
    if request.inline is None:
        return check_sges(request.sges, Access(0), pd, cap)
    nbytes = memoryview(request.inline).nbytes
    if request.sges or nbytes > cap.max_inline:
        raise BadWorkRequest(f"{nbytes} octets inline and {len(request.sges)} SGEs; {cap.max_inline} may be")
    return nbytes


def _check_immediate(request: Immediate) -> int:
    nbytes = len(request.data)
    if nbytes != IMMEDIATE_SIZE:  # EXT-7306-6.3-05
        raise BadWorkRequest(f"Immediate Data has 8 octets, not {nbytes} (RFC 7306 §6.2)")
    return nbytes


def _check_atomic(request: FetchAdd | CompareSwap, pd: object, cap: QpCap) -> int:
    check_remote(request.remote, ATOMIC_SIZE)
    operands = (request.add, request.mask) if isinstance(request, FetchAdd) else request[1:5]
    for operand in operands:
        if not isinstance(operand, int) or not 0 <= operand <= ALL_ONES:
            raise BadWorkRequest(f"an operand of an Atomic is 64 bits without sign: {operand!r} (RFC 7306 §5.2.1)")
    if request.sge is not None and check_sges((request.sge,), Access.LOCAL_WRITE, pd, cap) != ATOMIC_SIZE:
        raise BadWorkRequest(f"the SGE of an Atomic has 8 octets, not {request.sge.nbytes}")
    return ATOMIC_SIZE
