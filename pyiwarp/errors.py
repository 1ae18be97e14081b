"""Everything that can go wrong, one class per cause; a protocol violation knows the code it has on the wire.

The tree (RFC 5040 §4.8, RFC 5041 §7.2, RFC 5044 §8, RFC 6581 §8)::

    IwarpError
    ├─ UsageError               the caller's mistake: never on the wire
    ├─ StartupError             no RDMA connection came to be
    ├─ ProtocolViolation        the peer broke a rule; it is told with one Terminate
    │  ├─ MpaError  ├─ DdpError  └─ RdmapError
    ├─ TerminatedByPeer         the peer says that this side broke one
    ├─ ConnectionLost           TCP ended without a word
    ├─ MessageRefused           a message of `send_large` is larger than its receiver takes
    └─ WorkFailed               one work request completed with a status other than SUCCESS
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from pyiwarp.codes import Layer

__all__ = [
    "TERMS",
    "AccessRights",
    "BadMemory",
    "BadWorkRequest",
    "BaseOrBounds",
    "CannotInvalidate",
    "Closed",
    "ConnectionLost",
    "CrcMismatch",
    "DdpCatastrophe",
    "DdpError",
    "Disconnected",
    "FpduTimeout",
    "InsufficientIrd",
    "InvalidMo",
    "InvalidQn",
    "InvalidStag",
    "IwarpError",
    "LocalCatastrophe",
    "MalformedFrame",
    "MalformedMessage",
    "MalformedStartup",
    "MarkerMismatch",
    "MarkersRefused",
    "MessageRefused",
    "MessageTooLong",
    "MisplacedResponse",
    "MisplacedSegment",
    "MpaError",
    "MsnOutOfRange",
    "NoBufferForMsn",
    "NoMatchingRtr",
    "NoWriteRight",
    "ProtocolViolation",
    "QueueFull",
    "RdmapError",
    "RdmapVersion",
    "ReadAccessRights",
    "ReadBounds",
    "ReadInvalidStag",
    "ReadStagNotAssociated",
    "ReadWrap",
    "RegionInUse",
    "Rejected",
    "RemoteOperation",
    "RemoteProtection",
    "SetupFailed",
    "StagNotAssociated",
    "StartupError",
    "StartupTimeout",
    "StreamCatastrophe",
    "TaggedBufferError",
    "TaggedOffsetWrap",
    "TaggedVersion",
    "Term",
    "TerminatedByPeer",
    "UnexpectedOpcode",
    "UntaggedBufferError",
    "UntaggedVersion",
    "UsageError",
    "VersionMismatch",
    "WorkFailed",
    "WorkRequestRefused",
    "WrongProcess",
    "WrongState",
    "WrongThread",
]


class Term(NamedTuple):
    """The three numbers by which a Terminate names its cause (RFC 5040 §4.8, figure 9)."""

    layer: int
    """0 is RDMAP, 1 DDP, 2 MPA."""
    etype: int
    """The error type of the layer, 4 bits."""
    code: int
    """The error code of the type, 8 bits."""

    def __str__(self) -> str:
        return f"{self.layer:x}/{self.etype:x}/{self.code:02x}"

    def describe(self) -> str:
        """The registered name and its clause, as `DDP: tagged buffer: invalid STag (RFC 5041 §7.2)`."""
        if self in TERMS:
            name, clause = TERMS[self]
            return f"{name} ({clause})"
        if self.layer == Layer.RDMAP and self.etype == 0:
            return f"RDMAP: local catastrophic error {self.code:#04x} (RFC 5040 §4.8)"
        return f"unregistered error {self}"


TERMS: Final[dict[Term, tuple[str, str]]] = {
    Term(*numbers): (name, clause)
    for numbers, name, clause in (
        ((0, 0, 0x00), "RDMAP: local catastrophic error", "RFC 5040 §4.8"),
        ((0, 1, 0x00), "RDMAP: remote protection: invalid STag", "RFC 5040 §4.8"),
        ((0, 1, 0x01), "RDMAP: remote protection: base or bounds violation", "RFC 5040 §4.8"),
        ((0, 1, 0x02), "RDMAP: remote protection: access rights violation", "RFC 5040 §4.8"),
        ((0, 1, 0x03), "RDMAP: remote protection: STag not associated with the stream", "RFC 5040 §4.8"),
        ((0, 1, 0x04), "RDMAP: remote protection: TO wrap", "RFC 5040 §4.8"),
        ((0, 1, 0x09), "RDMAP: remote protection: STag cannot be invalidated", "RFC 5040 §4.8"),
        ((0, 1, 0xFF), "RDMAP: remote protection: unspecified", "RFC 5040 §4.8"),
        ((0, 2, 0x05), "RDMAP: remote operation: invalid RDMAP version", "RFC 5040 §4.8"),
        ((0, 2, 0x06), "RDMAP: remote operation: unexpected opcode", "RFC 5040 §4.8"),
        ((0, 2, 0x07), "RDMAP: remote operation: catastrophic error of this stream", "RFC 5040 §4.8"),
        ((0, 2, 0x08), "RDMAP: remote operation: catastrophic error of all streams", "RFC 5040 §4.8"),
        ((0, 2, 0x09), "RDMAP: remote operation: STag cannot be invalidated", "RFC 5040 §4.8"),
        ((0, 2, 0xFF), "RDMAP: remote operation: unspecified", "RFC 5040 §4.8"),
        ((1, 0, 0x00), "DDP: local catastrophic error", "RFC 5041 §7.2"),
        ((1, 1, 0x00), "DDP: tagged buffer: invalid STag", "RFC 5041 §7.2"),
        ((1, 1, 0x01), "DDP: tagged buffer: base or bounds violation", "RFC 5041 §7.2"),
        ((1, 1, 0x02), "DDP: tagged buffer: STag not associated with the stream", "RFC 5041 §7.2"),
        ((1, 1, 0x03), "DDP: tagged buffer: TO wrap", "RFC 5041 §7.2"),
        ((1, 1, 0x04), "DDP: tagged buffer: invalid DDP version", "RFC 5041 §7.2"),
        ((1, 2, 0x01), "DDP: untagged buffer: invalid QN", "RFC 5041 §7.2"),
        ((1, 2, 0x02), "DDP: untagged buffer: invalid MSN, no buffer available", "RFC 5041 §7.2"),
        ((1, 2, 0x03), "DDP: untagged buffer: invalid MSN, out of range", "RFC 5041 §7.2"),
        ((1, 2, 0x04), "DDP: untagged buffer: invalid MO", "RFC 5041 §7.2"),
        ((1, 2, 0x05), "DDP: untagged buffer: message too long for the buffer", "RFC 5041 §7.2"),
        ((1, 2, 0x06), "DDP: untagged buffer: invalid DDP version", "RFC 5041 §7.2"),
        ((2, 0, 0x01), "MPA: TCP connection closed, terminated or lost", "RFC 5044 §8"),
        ((2, 0, 0x02), "MPA: CRC error", "RFC 5044 §8"),
        ((2, 0, 0x03), "MPA: marker and ULPDU_Length mismatch", "RFC 5044 §8"),
        ((2, 0, 0x04), "MPA: invalid Request or Reply frame", "RFC 5044 §8"),
        ((2, 0, 0x05), "MPA: local catastrophic error", "RFC 6581 §8"),
        ((2, 0, 0x06), "MPA: insufficient IRD resources", "RFC 6581 §8"),
        ((2, 0, 0x07), "MPA: no matching RTR option", "RFC 6581 §8"),
    )
}
"""The registered Terminates: the name of each, and the clause that registers it."""


class IwarpError(Exception):
    """The root of every error that pyiwarp raises on purpose."""


# --- the caller's mistakes -------------------------------------------------------------------------------------------


class UsageError(IwarpError):
    """A call that the rules of verbs do not allow; nothing went on the wire and nothing changed."""


class BadWorkRequest(UsageError, ValueError):
    """The work request names memory, rights or lengths that it may not (RFC 5040 §5.5 rule 13)."""


class BadMemory(BadWorkRequest):
    """The work request names octets of this side that are not its to use: another's, outside, or without the right."""


class QueueFull(UsageError, RuntimeError):
    """The queue holds as many entries as it was made for."""


class WrongState(UsageError, RuntimeError):
    """The object is in a state in which the call has no meaning."""


class RegionInUse(UsageError, RuntimeError):
    """The memory is pinned by work in flight or by objects that depend on it."""


class Closed(UsageError, RuntimeError):
    """The object was closed before the call."""


class WrongThread(UsageError, RuntimeError):
    """The object belongs to another thread or event loop: it has no locks.

    Blocking connections always look; everything else does in debug mode (`Device(debug=True)`).
    """


class WrongProcess(UsageError, RuntimeError):
    """The object belongs to the process that forked this one, and works on there; argument: the object."""

    def __str__(self) -> str:
        return f"it belongs to the process that forked this one: {self.args[0]!r}"


class WorkRequestRefused(UsageError, RuntimeError):
    """What a work request asks for was lawful when it was posted, and no longer is now that its turn has come."""


# --- startup ---------------------------------------------------------------------------------------------------------


class StartupError(IwarpError):
    """No RDMA connection came to be."""


class Rejected(StartupError):
    """The peer's program refused the connection (RFC 5044 §7.1.2 rules 2 and 3).

    `private_data` holds the octets that came with the refusal, `ird` and `ord` what the peer would have needed, None
    if it did not say.
    """

    def __init__(self, private_data: bytes = b"", ird: int | None = None, ord: int | None = None) -> None:
        self.private_data = private_data
        self.ird = ird
        self.ord = ord
        super().__init__(private_data, ird, ord)

    def __str__(self) -> str:
        text = self.private_data.decode("utf-8", "replace")
        words = repr(text) if text.isprintable() else f"the octets {self.private_data.hex()}"
        said = f"; it said {words}" if self.private_data else ""
        return f"the peer rejected the connection (RFC 5044 §7.1.2){said}"


class MalformedStartup(StartupError):
    """What came is no MPA Request or Reply frame (RFC 5044 §7.1.1)."""


class MarkersRefused(StartupError):
    """The peer asks for markers, and this side was told to send none (against RFC 5044 §4.3)."""


class VersionMismatch(StartupError):
    """The peer's MPA revision cannot be spoken here (RFC 5044 §7.1.1)."""


class StartupTimeout(StartupError, TimeoutError):
    """A startup frame, or the first FPDU, did not come in time (RFC 5044 §7.1.2 rules 8 and 10)."""


_LARGER_RECEIVES: Final = (
    "a Send must fit the receive that it meets: let the receiver post larger ones (Options.recv_size of a connection), "
    "or send fewer octets at once"
)
_DID_NOT_FIT: Final = Term(Layer.DDP, 0x2, 0x04), Term(Layer.DDP, 0x2, 0x05)


# --- the peer broke a rule -------------------------------------------------------------------------------------------


class ProtocolViolation(IwarpError):
    """The peer broke a rule; the class says which one, `term` is what the Terminate carries."""

    term: ClassVar[Term]
    rule: ClassVar[str] = "{}"

    def __str__(self) -> str:
        return f"{self.rule.format(*self.args)} ({TERMS[self.term][1]})"


class MpaError(ProtocolViolation):
    """An FPDU that MPA cannot pass on (RFC 5044 §8)."""


class CrcMismatch(MpaError):
    """The CRC32C of an FPDU is wrong; arguments: stream offset, received and computed CRC."""

    term = Term(Layer.LLP, 0x0, 0x02)
    rule = "CRC mismatch in the FPDU at stream offset {}: received {:#010x}, computed {:#010x}"


class MarkerMismatch(MpaError):
    """A marker and the ULPDU_Length disagree on where the FPDU starts; arguments: offset, got, expected."""

    term = Term(Layer.LLP, 0x0, 0x03)
    rule = "the marker at stream offset {} points {} octets back, the FPDU starts {} octets back"


class MalformedFrame(MpaError):
    """The ULPDU_Length cannot be true; arguments: stream offset, length, reason (wire ambiguity: no code is named)."""

    term = Term(Layer.LLP, 0x0, 0x03)
    rule = "the FPDU at stream offset {} has ULPDU_Length {}: {}"


class InsufficientIrd(StartupError, MpaError):
    """This side cannot take as many Reads at once as the peer asks for (RFC 6581 §9.1); arguments: asked, taken."""

    term = Term(Layer.LLP, 0x0, 0x06)
    rule = "the peer will have {} Reads outstanding, this side can take {}"


class SetupFailed(StartupError, MpaError):
    """This side cannot begin what startup has settled, for a reason of its own (RFC 6581 §9.3); argument: reason."""

    term = Term(Layer.LLP, 0x0, 0x05)
    rule = "the connection cannot begin here: {}"


class NoMatchingRtr(StartupError, MpaError):
    """The two sides share no opening message (RFC 6581 §9.2); arguments: this side's, the peer's."""

    term = Term(Layer.LLP, 0x0, 0x07)
    rule = "this side can open with {!r}, the peer takes {!r}"


class DdpError(ProtocolViolation):
    """A DDP segment that fails a check of RFC 5041 §7.1."""


class DdpCatastrophe(DdpError):
    """A segment for which DDP has no other code, such as one that ends inside its header."""

    term = Term(Layer.DDP, 0x0, 0x00)
    rule = "a DDP segment of {} octets: {}"


class TaggedBufferError(DdpError):
    """A tagged segment that may not be placed (RFC 5041 §7.2 type 0x1)."""


class InvalidStag(TaggedBufferError):
    """The STag names no memory; argument: STag."""

    term = Term(Layer.DDP, 0x1, 0x00)
    rule = "the peer wrote to STag {:#010x}, which names no region here"


class NoWriteRight(TaggedBufferError):
    """The region does not grant remote write; DDP has no code for rights, so Invalid STag goes out; argument: STag."""

    term = Term(Layer.DDP, 0x1, 0x00)
    rule = "the peer wrote to STag {:#010x}, which does not allow it"


class BaseOrBounds(TaggedBufferError):
    """The octets would fall outside the region; arguments: STag, TO, length."""

    term = Term(Layer.DDP, 0x1, 0x01)
    rule = "the peer wrote outside the region of STag {:#010x}: TO {:#x} + {} octets"


class MisplacedResponse(BaseOrBounds):
    """The segments of a Read Response overlap; arguments: STag, TO, length, reason."""

    rule = "the peer answered a Read at STag {:#010x} TO {:#x} with {} octets that may not be there: {}"


class StagNotAssociated(TaggedBufferError):
    """The STag belongs to another protection domain or stream; argument: STag."""

    term = Term(Layer.DDP, 0x1, 0x02)
    rule = "the peer wrote to STag {:#010x}, which is not associated with this stream"


class TaggedOffsetWrap(TaggedBufferError):
    """TO plus length passes 2^64; arguments: STag, TO, length."""

    term = Term(Layer.DDP, 0x1, 0x03)
    rule = "the peer wrote past 2^64: STag {:#010x} TO {:#x} + {} octets"


class TaggedVersion(TaggedBufferError):
    """The DDP version of a tagged segment is not 1; argument: DV."""

    term = Term(Layer.DDP, 0x1, 0x04)
    rule = "a tagged segment has DDP version {}, not 1"


class UntaggedBufferError(DdpError):
    """An untagged segment that may not be placed (RFC 5041 §7.2 type 0x2)."""

    remedy: ClassVar[str] = ""  # where the segment is one of a Send

    def __str__(self) -> str:
        told = super().__str__()
        return f"{told}; {self.remedy}" if self.remedy and not self.args[0] else told


class InvalidQn(UntaggedBufferError):
    """No such queue; argument: QN."""

    term = Term(Layer.DDP, 0x2, 0x01)
    rule = "an untagged segment names queue {}, which does not exist"


class NoBufferForMsn(UntaggedBufferError):
    """No buffer waits for the message; arguments: QN, MSN."""

    term = Term(Layer.DDP, 0x2, 0x02)
    rule = "no buffer is available on queue {} for MSN {}"


class MsnOutOfRange(UntaggedBufferError):
    """The MSN is not that of the message that is due; arguments: QN, MSN, MSN due."""

    term = Term(Layer.DDP, 0x2, 0x03)
    rule = "on queue {} MSN {} arrived where {} is due"


class InvalidMo(UntaggedBufferError):
    """The MO lies outside the buffer; arguments: QN, MSN, MO, octets there."""

    term = Term(Layer.DDP, 0x2, 0x04)
    rule = "on queue {:d} MSN {} has MO {}, outside its buffer of {} octets"
    remedy = _LARGER_RECEIVES


class MessageTooLong(UntaggedBufferError):
    """The message does not fit the buffer; arguments: QN, MSN, octets needed, octets there."""

    term = Term(Layer.DDP, 0x2, 0x05)
    rule = "on queue {:d} MSN {} needs {} octets, the buffer has {}"
    remedy = _LARGER_RECEIVES


class MisplacedSegment(UntaggedBufferError):
    """The segments leave a hole in their message, or overlap; arguments: QN, MSN, MO, reason (ambiguity 16)."""

    term = Term(Layer.DDP, 0x2, 0x04)
    rule = "on queue {:d} MSN {} has a segment at MO {} that may not be there: {}"


class UntaggedVersion(UntaggedBufferError):
    """The DDP version of an untagged segment is not 1; argument: DV."""

    term = Term(Layer.DDP, 0x2, 0x06)
    rule = "an untagged segment has DDP version {}, not 1"


class RdmapError(ProtocolViolation):
    """An RDMAP message that fails a check of RFC 5040 §7."""


class LocalCatastrophe(RdmapError):
    """This side can no longer work on the stream; argument: reason."""

    term = Term(Layer.RDMAP, 0x0, 0x00)
    rule = "local catastrophic error: {}"


class RemoteProtection(RdmapError):
    """The peer asked for memory that it may not have (RFC 5040 §4.8 type 0x1)."""


class ReadInvalidStag(RemoteProtection):
    """The source STag names no memory; argument: STag."""

    term = Term(Layer.RDMAP, 0x1, 0x00)
    rule = "the peer named STag {:#010x}, which names no region here"


class ReadBounds(RemoteProtection):
    """The octets asked for lie outside the region; arguments: STag, TO, length."""

    term = Term(Layer.RDMAP, 0x1, 0x01)
    rule = "the peer named octets outside the region of STag {:#010x}: TO {:#x} + {} octets"


class AccessRights(RemoteProtection):
    """The region does not grant the access; argument: STag."""

    term = Term(Layer.RDMAP, 0x1, 0x02)
    rule = "the region of STag {:#010x} does not grant the access that the peer asked for"


class ReadAccessRights(AccessRights):
    """The region does not grant remote read; argument: STag."""

    rule = "the peer read STag {:#010x}, which does not allow it"


class ReadStagNotAssociated(RemoteProtection):
    """The STag belongs to another protection domain or stream; argument: STag."""

    term = Term(Layer.RDMAP, 0x1, 0x03)
    rule = "the peer named STag {:#010x}, which is not associated with this stream"


class ReadWrap(RemoteProtection):
    """TO plus length passes 2^64; arguments: STag, TO, length."""

    term = Term(Layer.RDMAP, 0x1, 0x04)
    rule = "the peer named octets past 2^64: STag {:#010x} TO {:#x} + {} octets"


class CannotInvalidate(RemoteProtection):
    """The STag that a Send names cannot be invalidated; arguments: STag, reason."""

    term = Term(Layer.RDMAP, 0x1, 0x09)
    rule = "the peer asked to invalidate STag {:#010x}: {}"


class RemoteOperation(RdmapError):
    """The peer sent what it may not (RFC 5040 §4.8 type 0x2)."""


class RdmapVersion(RemoteOperation):
    """The RDMAP version is not 1; argument: RV."""

    term = Term(Layer.RDMAP, 0x2, 0x05)
    rule = "a message has RDMAP version {}, not 1"


class UnexpectedOpcode(RemoteOperation):
    """The opcode may not come here; arguments: opcode, reason."""

    term = Term(Layer.RDMAP, 0x2, 0x06)
    rule = "opcode {:#x} is not expected: {}"


class StreamCatastrophe(RemoteOperation):
    """The stream cannot go on; argument: reason."""

    term = Term(Layer.RDMAP, 0x2, 0x07)
    rule = "the stream cannot go on: {}"


class MalformedMessage(RemoteOperation):
    """The message has not the length that its kind must have; arguments: opcode, octets, octets expected."""

    term = Term(Layer.RDMAP, 0x2, 0xFF)
    rule = "a message with opcode {:#x} has {} octets where {} are due"


# --- how a connection ends -------------------------------------------------------------------------------------------


class TerminatedByPeer(IwarpError):
    """The peer ended the stream with a Terminate; `term` says why, `header` holds the octets that it quoted.

    `end` is where the segment ended in the Send that it quoted, in octets from the beginning; 0 if it quoted none.
    """

    def __init__(self, term: Term, header: bytes = b"", end: int = 0) -> None:
        self.term = term
        self.header = header
        self.end = end
        super().__init__(term, header, end)

    def __str__(self) -> str:
        told = f"the peer terminated the stream: {self.term.describe()}"
        if not self.end or self.term not in _DID_NOT_FIT:
            return told
        return f"{told}: its receive has fewer octets than the {self.end} or more of the Send; {_LARGER_RECEIVES}"


class ConnectionLost(IwarpError, ConnectionError):
    """TCP ended without a Terminate and without a graceful close; argument: reason."""


class FpduTimeout(ConnectionLost, TimeoutError):
    """The peer began an FPDU and did not complete it in time; argument: reason."""


class Disconnected(IwarpError, EOFError):
    """The peer closed the connection gracefully, and everything that it sent has been received."""


class MessageRefused(IwarpError):
    """A message of `send_large` is larger than its receiver takes; both sides get this, and the connection goes on."""


class WorkFailed(IwarpError):
    """A work request completed with a status other than SUCCESS; `completion` is that completion."""

    def __init__(self, completion: object) -> None:
        self.completion = completion
        super().__init__(completion)

    def __str__(self) -> str:
        return f"a work request failed: {self.completion}"
