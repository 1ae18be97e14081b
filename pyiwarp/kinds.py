"""What each kind of work request is: its opcode, whether the peer answers it, how it is judged, how it is begun.

One row a kind, found by the request's type: a queue pair asks the table, and knows nothing of the kinds itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyiwarp.admission import (
    ATOMIC_SIZE,
    QpCap,
    check_immediate,
    check_length,
    check_operands,
    check_sges,
    check_stag,
    inline_octets,
)
from pyiwarp.codes import MAX_MESSAGE
from pyiwarp.errors import BadWorkRequest
from pyiwarp.mr import Access
from pyiwarp.stream import Stream
from pyiwarp.work import (
    CompareSwap,
    FetchAdd,
    Immediate,
    Read,
    Send,
    SendRequest,
    Sge,
    WorkOpcode,
    Write,
    atomic_request_of,
    check_remote,
    read_request_of,
)

if TYPE_CHECKING:
    from pyiwarp.stream import Octets

__all__ = ["KINDS", "Admitted", "Kind", "Posted"]

_NO_SGES: Final[Sequence[Sge]] = ()
_NO_RIGHT: Final = Access(0)


Admitted = tuple[int, Sequence[Sge], Sequence["Octets"]]
"""What a request was found to be: the octets that it moves, the elements that it pins, the memory itself."""


class Kind(NamedTuple):
    """One kind of work request.

    `answered` ones wait for the peer's answer and count in ORD (EXT-7306-5.2-01). `admit` judges a request, for a
    protection domain and the limits of its queue pair, and pins its memory; it raises `BadWorkRequest`, or `Closed`
    for a region that is gone, and has pinned nothing then. `start` hands a request that was admitted to the stream.
    """

    opcode: WorkOpcode
    answered: bool
    admit: Callable[[Any, object, QpCap], Admitted]
    start: Callable[[Stream, Posted], None]


class Posted:
    """A work request in the send queue; `payload` is its memory as it was posted, whatever becomes of the STag."""

    __slots__ = ("done", "kind", "nbytes", "payload", "request", "sges", "value")

    def __init__(
        self, request: SendRequest, kind: Kind, nbytes: int, sges: Sequence[Sge], payload: Sequence[Octets]
    ) -> None:
        self.request: Any = request  # its kind's functions know which it is
        self.kind = kind
        self.nbytes = nbytes
        self.sges = sges
        self.payload = payload
        self.done = False
        self.value: int | None = None


# --- judging ---------------------------------------------------------------------------------------------------------


def _pinned(sges: Sequence[Sge], needed: Access, pd: object, cap: QpCap) -> Admitted:
    """Elements that were judged, and pinned only then."""
    nbytes = check_sges(sges, needed, pd, cap)
    check_length(nbytes)
    for sge in sges:
        sge.region.pin()
    return nbytes, sges, [region.pinned_view(start, count) for region, start, count in sges if count]


def _admit_payload(request: Send | Write, pd: object, cap: QpCap) -> Admitted:
    if request.inline is not None:
        octets = inline_octets(request, cap)
        return len(octets), _NO_SGES, (octets,)
    sges = request.sges
    if len(sges) == 1:
        region, start, nbytes = sges[0]
        if nbytes <= MAX_MESSAGE:
            view = region.lend(pd, start, nbytes)
            if view is not None:
                return nbytes, sges, (view,)
    return _pinned(sges, _NO_RIGHT, pd, cap)


def _admit_send(request: Send, pd: object, cap: QpCap) -> Admitted:
    if request.inval_stag is not None:
        check_stag(request.inval_stag)
    return _admit_payload(request, pd, cap)


def _admit_write(request: Write, pd: object, cap: QpCap) -> Admitted:
    sges = request.sges
    if len(sges) == 1:
        nbytes = sges[0][2]
    elif request.inline is None:
        nbytes = sum(sge[2] for sge in sges)
    else:
        nbytes = memoryview(request.inline).nbytes
    check_remote(request.remote, nbytes)
    return _admit_payload(request, pd, cap)


def _admit_sink(sge: Sge | None, pd: object, cap: QpCap) -> Admitted:
    """Memory that an answer is placed in."""
    return (0, _NO_SGES, ()) if sge is None else _pinned((sge,), Access.LOCAL_WRITE, pd, cap)


def _admit_read(request: Read, pd: object, cap: QpCap) -> Admitted:
    check_remote(request.remote, 0 if request.sge is None else request.sge.nbytes)
    return _admit_sink(request.sge, pd, cap)


def _admit_atomic(request: FetchAdd | CompareSwap, pd: object, cap: QpCap) -> Admitted:
    check_remote(request.remote, ATOMIC_SIZE)
    check_operands((request.add, request.mask) if isinstance(request, FetchAdd) else request[1:5])
    if request.sge is not None and request.sge.nbytes != ATOMIC_SIZE:
        raise BadWorkRequest(f"the SGE of an Atomic has 8 octets, not {request.sge.nbytes}")
    _, sges, payload = _admit_sink(request.sge, pd, cap)
    return ATOMIC_SIZE, sges, payload


def _admit_immediate(request: Immediate, pd: object, cap: QpCap) -> Admitted:
    data = check_immediate(request)
    return len(data), _NO_SGES, (data,)


# --- beginning -------------------------------------------------------------------------------------------------------


def _start_send(stream: Stream, posted: Posted) -> None:
    request: Send = posted.request
    stream.send(posted.payload, token=posted, solicited=request.solicited, inval_stag=request.inval_stag)


def _start_write(stream: Stream, posted: Posted) -> None:
    to, stag, _ = posted.request.remote
    stream.write(posted.payload, stag=stag, to=to, token=posted)


def _start_read(stream: Stream, posted: Posted) -> None:
    request: Read = posted.request
    sink = memoryview(posted.payload[0] if posted.payload else b"")
    stream.read(read_request_of(request), sink, posted)


def _start_atomic(stream: Stream, posted: Posted) -> None:
    request: FetchAdd | CompareSwap = posted.request
    stream.atomic(atomic_request_of(request), posted)


def _start_immediate(stream: Stream, posted: Posted) -> None:
    request: Immediate = posted.request
    stream.immediate(bytes(posted.payload[0]), token=posted, solicited=request.solicited)


KINDS: Final[Mapping[type, Kind]] = {
    Send: Kind(WorkOpcode.SEND, False, _admit_send, _start_send),
    Write: Kind(WorkOpcode.WRITE, False, _admit_write, _start_write),
    Read: Kind(WorkOpcode.READ, True, _admit_read, _start_read),
    FetchAdd: Kind(WorkOpcode.FETCH_ADD, True, _admit_atomic, _start_atomic),
    CompareSwap: Kind(WorkOpcode.COMPARE_SWAP, True, _admit_atomic, _start_atomic),
    Immediate: Kind(WorkOpcode.IMMEDIATE, False, _admit_immediate, _start_immediate),
}
"""Every kind that a send queue takes."""
