"""What each kind of work request is: its opcode, whether the peer answers it, how it is judged, how it is begun.

One row a kind, found by the request's type: a queue pair asks the table, and knows nothing of the kinds itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from pyiwarp.access import Access
from pyiwarp.codes import ATOMIC_SIZE, MAX_MESSAGE
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import BadWorkRequest, WorkRequestRefused
from pyiwarp.memory.handles import Operation, check_invalidate
from pyiwarp.memory.paged import Spread, contiguous
from pyiwarp.mr import RegionSlice
from pyiwarp.queues.checks import (
    QpCap,
    check_immediate,
    check_length,
    check_operands,
    check_sges,
    check_stag,
    inline_octets,
)
from pyiwarp.queues.work import (
    BindMw,
    CompareSwap,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    LocalRequest,
    Read,
    RegMr,
    Send,
    SendRequest,
    Sge,
    Status,
    WorkOpcode,
    Write,
    atomic_request_of,
    check_remote,
    read_request_of,
)

if TYPE_CHECKING:
    from pyiwarp.buffers import Octets

__all__ = ["KINDS", "Admitted", "Asker", "Held", "Kind", "Pinned", "Posted"]

_NO_SGES: Final[Sequence[Sge]] = ()
_NO_RIGHT: Final = Access(0)


class Pinned(Protocol):
    """What is held as long as a request is posted: a region, or an operation on what an STag stands for."""

    def pin(self) -> None:
        """Begin to hold it."""

    def unpin(self) -> None:
        """Let it go."""


class Asker(Protocol):
    """The send queue that a request is posted to: its protection domain, its limits, and whose it is."""

    @property
    def pd(self) -> Any:
        """Whose memory may be used."""

    @property
    def cap(self) -> QpCap:
        """How much may be asked."""

    @property
    def owner(self) -> object:
        """The queue pair."""


Held = Sequence[tuple[Pinned, int, int]]
"""Elements as `Sge` has them, of which the first part is pinned."""

Admitted = tuple[int, Held, Sequence["Octets"]]
"""What a request was found to be: the octets that it moves, what it pins, the memory itself."""


class Posted:
    """A work request in the send queue; `payload` is its memory as it was posted, whatever becomes of the STag."""

    __slots__ = ("done", "error", "kind", "nbytes", "payload", "request", "sges", "value")

    def __init__(self, request: SendRequest, kind: Kind, nbytes: int, sges: Held, payload: Sequence[Octets]) -> None:
        self.request: Any = request  # its kind's functions know which it is
        self.kind = kind
        self.nbytes = nbytes
        self.sges = sges
        self.payload = payload
        self.done = False
        self.error: Exception | None = None
        self.value: int | None = None


class Kind(NamedTuple):
    """One kind of work request.

    `answered` ones wait for the peer's answer and count in ORD (EXT-7306-5.2-01). `admit` judges a request, for the
    send queue that it is posted to, and pins what it holds; it raises `BadWorkRequest`, or `Closed` for a region that
    is gone, and has pinned nothing then. `start` hands a request that was admitted to the stream; what is for this
    side alone it does, and says so in `Posted.done`.
    `refused` is the status of one that is no longer lawful when its turn has come. `finish` follows the peer's answer.
    """

    opcode: WorkOpcode
    answered: bool
    admit: Callable[[Any, Asker], Admitted]
    start: Callable[[Stream, Posted], None]
    refused: Status = Status.LOC_PROT_ERR
    finish: Callable[[Posted], None] | None = None


# --- judging ---------------------------------------------------------------------------------------------------------


def _pinned(sges: Sequence[Sge], needed: Access, asker: Asker) -> Admitted:
    """Elements that were judged, and pinned only then."""
    nbytes = check_sges(sges, needed, asker.pd, asker.cap)
    check_length(nbytes)
    for region, _, _ in sges:
        region.pin()
    return nbytes, sges, [region.pinned_view(start, count) for region, start, count in sges if count]


def _admit_payload(request: Send | Write, asker: Asker) -> Admitted:
    if request.inline is not None:
        octets = inline_octets(request, asker.cap)
        return len(octets), _NO_SGES, (octets,)
    sges = request.sges
    if len(sges) == 1:
        region, start, nbytes = sges[0]
        if nbytes <= MAX_MESSAGE:
            view = region.pin_source(asker.pd, start, nbytes)
            if view is not None:
                return nbytes, sges, (view,)
    nbytes, held, memory = _pinned(sges, _NO_RIGHT, asker)
    return nbytes, held, contiguous(cast("Sequence[memoryview]", memory))


def _admit_send(request: Send, asker: Asker) -> Admitted:
    if request.inval_stag is not None:
        check_stag(request.inval_stag)
    return _admit_payload(request, asker)


def _admit_write(request: Write, asker: Asker) -> Admitted:
    sges = request.sges
    if len(sges) == 1:
        nbytes = sges[0].nbytes
    elif request.inline is None:
        nbytes = sum(sge.nbytes for sge in sges)
    else:
        nbytes = memoryview(request.inline).nbytes
    check_remote(request.remote, nbytes)
    return _admit_payload(request, asker)


def _check_sink(sge: Sge | None) -> None:
    """Memory that an answer is placed in is one element, as a Request names one sink STag (RFC 5040 §5.2.1)."""
    if sge is not None and not isinstance(sge, RegionSlice):
        raise BadWorkRequest(f"an answer is placed into one SGE, of one region, not into {sge!r} (RFC 5040 §5.2.1)")


def _admit_sink(sge: Sge | None, asker: Asker) -> Admitted:
    return (0, _NO_SGES, ()) if sge is None else _pinned((sge,), Access.LOCAL_WRITE, asker)


def _admit_read(request: Read, asker: Asker) -> Admitted:
    sge = request.sge
    _check_sink(sge)
    check_remote(request.remote, 0 if sge is None else sge.nbytes)
    if request.invalidate_sink:
        if sge is None:
            raise BadWorkRequest("a Read that invalidates its sink needs one")
        check_invalidate(sge.region, asker.pd, asker.owner)
    return _admit_sink(sge, asker)


def _admit_atomic(request: FetchAdd | CompareSwap, asker: Asker) -> Admitted:
    sge = request.sge
    _check_sink(sge)
    check_remote(request.remote, ATOMIC_SIZE)
    fields = cast("tuple[object, ...]", request)  # compiled, a field of another type is refused where it is read
    check_operands(fields[1:3] if isinstance(request, FetchAdd) else fields[1:5])
    if sge is not None and sge.nbytes != ATOMIC_SIZE:
        raise BadWorkRequest(f"the SGE of an Atomic has 8 octets, not {sge.nbytes}")
    _, sges, payload = _admit_sink(sge, asker)
    if sge is not None and isinstance(payload[0], Spread):
        sge.region.unpin()
        raise BadWorkRequest(f"the SGE of an Atomic lies in one piece of memory, not in two: {sge!r}")
    return ATOMIC_SIZE, sges, payload


def _admit_immediate(request: Immediate, asker: Asker) -> Admitted:
    data = check_immediate(request)
    return len(data), _NO_SGES, (data,)


def _admit_local(request: LocalRequest, asker: Asker) -> Admitted:
    operation = request.operation(asker.pd, asker.owner)
    operation.pin()
    return 0, ((operation, 0, 0),), ()


# --- beginning -------------------------------------------------------------------------------------------------------


def _start_send(stream: Stream, posted: Posted) -> None:
    request: Send = posted.request
    stream.send(posted.payload, token=posted, solicited=request.solicited, inval_stag=request.inval_stag)


def _start_write(stream: Stream, posted: Posted) -> None:
    to, stag, _ = posted.request.remote
    stream.write(posted.payload, stag=stag, to=to, token=posted)


def _start_read(stream: Stream, posted: Posted) -> None:
    request: Read = posted.request
    sink = cast("memoryview", posted.payload[0]) if posted.payload else memoryview(b"")
    stream.read(read_request_of(request), sink, posted)


def _finish_read(posted: Posted) -> None:
    request: Read = posted.request
    if request.invalidate_sink and request.sge is not None:
        request.sge.region.retire()


def _start_atomic(stream: Stream, posted: Posted) -> None:
    request: FetchAdd | CompareSwap = posted.request
    stream.atomic(atomic_request_of(request), posted)


def _start_immediate(stream: Stream, posted: Posted) -> None:
    request: Immediate = posted.request
    stream.immediate(bytes(posted.payload[0]), token=posted, solicited=request.solicited)


def _start_local(stream: Stream, posted: Posted) -> None:
    ((operation_held, _, _),) = posted.sges
    operation = cast("Operation", operation_held)
    try:
        operation.perform()
    except WorkRequestRefused as error:
        posted.error = error.with_traceback(None)  # its frames would keep memory unresizable
    posted.done = True


KINDS: Final[Mapping[type, Kind]] = {
    Send: Kind(WorkOpcode.SEND, False, _admit_send, _start_send),
    Write: Kind(WorkOpcode.WRITE, False, _admit_write, _start_write),
    Read: Kind(WorkOpcode.READ, True, _admit_read, _start_read, finish=_finish_read),
    FetchAdd: Kind(WorkOpcode.FETCH_ADD, True, _admit_atomic, _start_atomic),
    CompareSwap: Kind(WorkOpcode.COMPARE_SWAP, True, _admit_atomic, _start_atomic),
    Immediate: Kind(WorkOpcode.IMMEDIATE, False, _admit_immediate, _start_immediate),
    BindMw: Kind(WorkOpcode.BIND_MW, False, _admit_local, _start_local, Status.MW_BIND_ERR),
    RegMr: Kind(WorkOpcode.REG_MR, False, _admit_local, _start_local),
    LocalInvalidate: Kind(WorkOpcode.LOCAL_INV, False, _admit_local, _start_local),
}
"""Every kind that a send queue takes."""
