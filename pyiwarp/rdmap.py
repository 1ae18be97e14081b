"""RDMAP: what messages mean, which may come where, and how a stream is ended (RFC 5040), without memory or sockets.

`admit_tagged` and `admit_untagged` judge the RDMAP control octet of every segment. `OutstandingReads` keeps the
Reads that this side has asked for (ORD), `InboundReads` bounds those that the peer has asked for (IRD).
`terminate_payload` writes the message that tells the peer what it did wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NoReturn

from pyiwarp.codes import Layer, Opcode, QueueNumber
from pyiwarp.errors import (
    BaseOrBounds,
    InvalidQn,
    InvalidStag,
    LocalCatastrophe,
    MalformedMessage,
    MisplacedResponse,
    NoBufferForMsn,
    ProtocolViolation,
    RdmapVersion,
    RemoteOperation,
    RemoteProtection,
    StreamCatastrophe,
    TerminatedByPeer,
    UnexpectedOpcode,
)
from pyiwarp.extent import Extent
from pyiwarp.fastwire import READ_REQUEST_SIZE, TAGGED, TAGGED_SIZE, UNTAGGED_SIZE

__all__ = [
    "InboundReads",
    "OutstandingAtomic",
    "OutstandingRead",
    "OutstandingReads",
    "admission",
    "admit_tagged",
    "admit_untagged",
    "control_octet",
    "parse_terminate",
    "terminate_payload",
]

_VERSION_SHIFT: Final = 6
_VERSION: Final = 1
_OPCODE_MASK: Final = 0x0F

TAGGED_OPCODES: Final = frozenset({Opcode.WRITE, Opcode.READ_RESPONSE})
QUEUE_OPCODES: Final[Mapping[int, frozenset[Opcode]]] = {  # RDMAP-5040-4.1-04, RDMAP-5040-4.1-06: figure 4 as a table
    QueueNumber.SEND: frozenset({Opcode.SEND, Opcode.SEND_INVAL, Opcode.SEND_SE, Opcode.SEND_SE_INVAL}),
    QueueNumber.READ_REQUEST: frozenset({Opcode.READ_REQUEST}),
    QueueNumber.TERMINATE: frozenset({Opcode.TERMINATE}),
}
EXTENDED_QUEUE_OPCODES: Final[Mapping[int, frozenset[Opcode]]] = {  # EXT-7306-4.1-05
    QueueNumber.SEND: QUEUE_OPCODES[QueueNumber.SEND] | {Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE},
    QueueNumber.READ_REQUEST: QUEUE_OPCODES[QueueNumber.READ_REQUEST] | {Opcode.ATOMIC_REQUEST},
    QueueNumber.TERMINATE: QUEUE_OPCODES[QueueNumber.TERMINATE],
    QueueNumber.ATOMIC_RESPONSE: frozenset({Opcode.ATOMIC_RESPONSE}),
}
IMMEDIATE_OPCODES: Final = frozenset({Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE})
SOLICITED_OPCODES: Final = frozenset({Opcode.SEND_SE, Opcode.SEND_SE_INVAL, Opcode.IMMEDIATE_SE})
INVALIDATING_OPCODES: Final = frozenset({Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL})


def control_octet(opcode: Opcode) -> int:
    """The RDMAP control octet: version 1, reserved bits zero, opcode (RFC 5040 §4.1)."""
    return _VERSION << _VERSION_SHIFT | opcode


def admission(opcodes: frozenset[Opcode]) -> tuple[Opcode | None, ...]:
    """For each control octet the opcode if it may come, else None; the reserved bits are ignored."""
    table: list[Opcode | None] = []
    for octet in range(256):
        lawful = octet >> _VERSION_SHIFT == _VERSION and (octet & _OPCODE_MASK) in opcodes
        table.append(Opcode(octet & _OPCODE_MASK) if lawful else None)
    return tuple(table)


TAGGED_ADMISSION: Final = admission(TAGGED_OPCODES)
_QUEUE_ADMISSION: Final = {qn: admission(opcodes) for qn, opcodes in QUEUE_OPCODES.items()}
_EXTENDED_ADMISSION: Final = {qn: admission(opcodes) for qn, opcodes in EXTENDED_QUEUE_OPCODES.items()}


def admit_tagged(octet: int) -> Opcode:
    """The opcode of a tagged segment; raises `RdmapVersion` or `UnexpectedOpcode` (RFC 5040 §7.2)."""
    opcode = TAGGED_ADMISSION[octet]
    if opcode is None:
        _refuse(octet, "in a tagged segment only RDMA Write and Read Response may come")
    return opcode


def admit_untagged(octet: int, qn: int, *, extensions: bool = False) -> Opcode:
    """The opcode of an untagged segment on queue `qn`; raises `InvalidQn` too.

    With `extensions` the messages of RFC 7306 are lawful.
    """
    admission = (_EXTENDED_ADMISSION if extensions else _QUEUE_ADMISSION).get(qn)
    if admission is None:
        raise InvalidQn(qn)  # DDP-5041-7.1-01
    opcode = admission[octet]
    if opcode is None:
        _refuse(octet, f"it may not come on queue {qn}")
    return opcode


def _refuse(octet: int, reason: str) -> NoReturn:
    version = octet >> _VERSION_SHIFT
    if version != _VERSION:
        raise RdmapVersion(version)  # RDMAP-5040-7.2-03
    raise UnexpectedOpcode(octet & _OPCODE_MASK, reason)  # RDMAP-5040-7.2-02


class OutstandingRead:
    """A Read that this side has asked for and whose Response has not been delivered; `sink` is where it goes."""

    __slots__ = ("extent", "nbytes", "sink", "sink_stag", "sink_to", "token")

    def __init__(self, sink_stag: int, sink_to: int, sink: memoryview, token: object) -> None:
        self.sink_stag = sink_stag
        self.sink_to = sink_to
        self.sink = sink
        self.nbytes = len(sink)
        self.extent = Extent()
        self.token = token


class OutstandingAtomic:
    """An Atomic that this side has asked for; `request_id` comes back with the answer (EXT-7306-5.2.1-05)."""

    __slots__ = ("request_id", "token")

    def __init__(self, request_id: int, token: object) -> None:
        self.request_id = request_id
        self.token = token


class OutstandingReads:
    """The Reads and Atomics of this side in the order of asking, never more than ORD (RFC 5040 §6.1)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._reads: deque[OutstandingRead | OutstandingAtomic] = deque()

    def __len__(self) -> int:
        return len(self._reads)

    @property
    def due(self) -> OutstandingRead | None:
        """The Read whose Response may come now, if any (RDMAP-5040-5.5-17)."""
        read = self._reads[0] if self._reads else None
        return read if isinstance(read, OutstandingRead) else None

    @property
    def full(self) -> bool:
        """Whether another Read would exceed ORD (RDMAP-5040-6.1-05)."""
        return len(self._reads) >= self.limit

    def add(self, read: OutstandingRead | OutstandingAtomic) -> None:
        """Remember a Read or Atomic whose Request is about to leave."""
        assert not self.full, "the caller asks `full` first"
        self._reads.append(read)

    def place_segment(self, stag: int, to: int, payload: memoryview) -> None:
        """Place octets of a Response; refuse one that answers no Read, or not what was asked (RDMAP-5040-5.2.2-08).

        The octets go where the Read wants them even if the sink's STag was voided since: this side asked for them.
        """
        nbytes = len(payload)
        read = self.due
        if read is None:
            raise UnexpectedOpcode(Opcode.READ_RESPONSE, "no Read is outstanding")
        if not nbytes:  # DDP-5041-5.2-12
            return
        if stag != read.sink_stag:
            raise InvalidStag(stag)
        if not read.sink_to <= to <= read.sink_to + read.nbytes - nbytes:
            raise BaseOrBounds(stag, to, nbytes)
        offset = to - read.sink_to
        if offset == read.extent.due:
            read.extent.due = offset + nbytes
        elif reason := read.extent.add(offset, offset + nbytes):
            raise MisplacedResponse(stag, to, nbytes, reason)
        read.sink[offset : offset + nbytes] = payload

    def drop(self) -> None:
        """No Response will come any more."""
        self._reads.clear()

    def delivered(self) -> OutstandingRead:
        """The Response to the oldest Read was delivered; raises `MalformedMessage` if octets are missing."""
        read = self.due
        assert read is not None, "place_segment has seen to it"
        if read.extent.due != read.nbytes:
            raise MalformedMessage(Opcode.READ_RESPONSE, read.extent.placed, read.nbytes)
        self._reads.popleft()
        return read

    @property
    def atomic_due(self) -> bool:
        """Whether an Atomic Response may come now: the oldest question is an Atomic (EXT-7306-7-01)."""
        return bool(self._reads) and isinstance(self._reads[0], OutstandingAtomic)

    def answered(self, request_id: int) -> OutstandingAtomic:
        """The Response to the oldest Atomic was delivered; raises `StreamCatastrophe` if it names another."""
        atomic = self._reads[0]
        assert isinstance(atomic, OutstandingAtomic), "a Response finds a buffer only while one is due"
        if request_id != atomic.request_id:  # EXT-7306-5.2.2-08
            raise StreamCatastrophe(
                f"an Atomic Response names request {request_id:#x} where {atomic.request_id:#x} is due"
            )
        self._reads.popleft()
        return atomic


class InboundReads:
    """How many Reads of the peer are being answered, never more than IRD (RFC 5040 §6.1)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def begin(self, msn: int) -> None:
        """A Read Request was delivered; raises `NoBufferForMsn` if it is one too many (RDMAP-5040-6.1-06)."""
        if self.count >= self.limit:
            raise NoBufferForMsn(QueueNumber.READ_REQUEST, msn)
        self.count += 1

    def end(self) -> None:
        """Its Response has left."""
        self.count -= 1


# --- Terminate -------------------------------------------------------------------------------------------------------


def terminate_payload(error: ProtocolViolation, segment: bytes, read_request: bytes = b"") -> bytes:
    """The Terminate message for `error` (RFC 5040 §4.8).

    `segment` is the DDP segment that it concerns, empty if none; `read_request` the RDMA header that goes along if
    the segment was a Read Request. Figure 10 says which copies are made.
    """
    from pyiwarp import wire

    length: int | None = None
    ddp_header = rdma_header = b""
    if segment and _quotes_headers(error):
        length = len(segment)  # RDMAP-5040-4.8-09
        size = TAGGED_SIZE if segment[0] & TAGGED else UNTAGGED_SIZE
        if len(segment) >= size:
            ddp_header = segment[:size]  # RDMAP-5040-4.8-11
            if isinstance(error, RemoteProtection) and len(read_request) == READ_REQUEST_SIZE:
                rdma_header = read_request  # RDMAP-5040-4.8-13, RDMAP-5040-7.1-04
        else:
            length = None
    return wire.build_terminate(wire.Terminate(error.term, length, ddp_header, rdma_header))


def _quotes_headers(error: ProtocolViolation) -> bool:
    """Whether figure 10 wants the DDP header: not for errors of MPA, nor for local catastrophes."""
    if isinstance(error, LocalCatastrophe):
        return False  # RDMAP-5040-4.8-12
    return error.term.layer == Layer.DDP or isinstance(error, RemoteProtection | RemoteOperation)


def parse_terminate(payload: bytes) -> TerminatedByPeer:
    """What the peer says that this side did; raises `MalformedMessage` if it cannot be read."""
    from pyiwarp import wire

    terminate = wire.parse_terminate(payload)
    quoted, end = terminate.ddp_header, 0
    if len(quoted) == UNTAGGED_SIZE and terminate.segment_length is not None:
        header = wire.UntaggedHeader.parse(quoted)
        if header.qn == QueueNumber.SEND:
            end = header.mo + max(0, terminate.segment_length - UNTAGGED_SIZE)
    return TerminatedByPeer(terminate.term, terminate.ddp_header + terminate.rdma_header, end)
