"""The sending half of a stream: messages and answers wait in two queues and leave in batches of FPDUs.

`ddp` segments them, `packing` frames them. This module decides the order: a Terminate first, then answers and the ULP's
messages in turn. A Responder sends nothing before the first FPDU of the Initiator (RFC 5044 §7.1.2 rule 4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from pyiwarp import rdmap
from pyiwarp.buffers import Octets
from pyiwarp.codes import MIN_MULPDU, Opcode, QueueNumber, Rtr
from pyiwarp.crc import crc32c
from pyiwarp.ddp import MSN_MASK, TO_MASK, Outbound, TaggedOutbound, UntaggedOutbound, next_msn
from pyiwarp.engine.events import Event
from pyiwarp.engine.packing import Packer, SmallMessage
from pyiwarp.engine.responses import Answer, ReadAnswer
from pyiwarp.errors import ProtocolViolation
from pyiwarp.fastwire import (
    LAST,
    SEND_FIELDS,
    TAGGED,
    TAGGED_FIELDS,
    TAGGED_LEAD,
    TAGGED_SIZE,
    UNTAGGED_FIRST,
    UNTAGGED_SIZE,
    VERSION,
    ReadRequest,
    build_read_request,
)
from pyiwarp.mpa import PADS, mulpdu_for
from pyiwarp.negotiation import Agreement, Role
from pyiwarp.profile import PeerProfile
from pyiwarp.pump import HELD, NOT_NOW

if TYPE_CHECKING:
    from pyiwarp.wire import AtomicRequest

__all__ = ["BATCH_FPDUS", "BATCH_OCTETS", "WHOLE_SEND", "WHOLE_SEND_SE", "WHOLE_WRITE", "SendingHalf"]

BATCH_OCTETS: Final = 1024 * 1024
"""What one `next_iov` gives, and less than one FPDU more, so that a Terminate and the other queue are not far away.

Both sides wake up once for a batch, so that larger ones cost less: see `docs/performance.md`.
"""

BATCH_FPDUS: Final = 128
"""What one `next_iov` gives at most where FPDUs are small: about as many as `packing` copies into one buffer."""

_WRITE: Final = rdmap.control_octet(Opcode.WRITE)
_SEND_OCTETS: Final = {  # by whether it is solicited, and whether it invalidates an STag
    (False, False): rdmap.control_octet(Opcode.SEND),
    (True, False): rdmap.control_octet(Opcode.SEND_SE),
    (False, True): rdmap.control_octet(Opcode.SEND_INVAL),
    (True, True): rdmap.control_octet(Opcode.SEND_SE_INVAL),
}
_LAST_TAGGED: Final = (TAGGED | LAST | VERSION) << 8
_LAST_UNTAGGED: Final = (LAST | VERSION) << 8
WHOLE_WRITE: Final = _LAST_TAGGED | _WRITE
"""Both control octets of an RDMA Write in one segment."""
_PART_OF_WRITE: Final = (TAGGED | VERSION) << 8 | _WRITE
WHOLE_SEND: Final = _LAST_UNTAGGED | _SEND_OCTETS[False, False]
"""Those of a Send."""
WHOLE_SEND_SE: Final = _LAST_UNTAGGED | _SEND_OCTETS[True, False]
"""Those of a Send with Solicited Event."""
# the first eight octets of an FPDU, but for its length and STag
_WRITE_LEAD: Final = WHOLE_WRITE << 32
_SEND_LEAD: Final = WHOLE_SEND << 32
_SEND_SE_LEAD: Final = WHOLE_SEND_SE << 32
_CRC: Final = Struct("<I")
_NO_CRC: Final = bytes(_CRC.size)
_crc_field: Final = _CRC.pack
_send_head: Final = SEND_FIELDS.pack
_NO_PAYLOAD: Final[tuple[Octets, ...]] = ()
_ANY_STAG: Final = 1  # without octets any STag may be named; 0 upsets a known peer (wire ambiguity 29)
_READ_OF_NOTHING: Final = ReadRequest(_ANY_STAG, 0, 0, _ANY_STAG, 0)


class SendingHalf:
    """The messages and answers that one side of a stream sends.

    `mulpdu` fixes the FPDU size (`QpOptions` has judged it); by default it follows `set_emss`. `prologue` is sent
    before the first FPDU. `send_msn` and `read_msn` are the MSNs of the next messages on QN 0 and QN 1.
    """

    def __init__(self, agreement: Agreement, mulpdu: int | None, prologue: bytes, profile: PeerProfile) -> None:
        self.agreement = agreement
        self.mulpdu = mulpdu or MIN_MULPDU
        self.reads = rdmap.OutstandingReads(agreement.ord)
        self.violation: ProtocolViolation | None = None
        self.in_transit = False
        self._inbound = rdmap.InboundReads(agreement.ird)
        self._fixed_mulpdu = mulpdu is not None
        self._crc = agreement.crc
        self._packer = Packer(crc=agreement.crc, markers=agreement.send_markers)
        self._batch_fpdus = 1 if profile.one_fpdu_per_write else BATCH_FPDUS
        self._events: list[Event] = []
        self._messages: deque[Outbound] = deque()
        self._answers: deque[Outbound] = deque()
        self._terminates: deque[Outbound] = deque()  # one at most
        self._underway: deque[Outbound] | None = None  # the queue of whose head some was given
        self._unflushed: list[Outbound] = []
        self._prologue = prologue
        self._mute = agreement.role is Role.RESPONDER  # MPA-5044-7.1.2-16
        self.send_msn = self.read_msn = self._answer_msn = 1
        self._next_request_id = 0
        self._frames_early = self._packer.frames_early and not profile.one_fpdu_per_write
        self._respond_next = False
        self._finishing = False
        self._quiet = self._nothing_waits()
        if agreement.rtr:
            self._queue_rtr(agreement.rtr)

    def _refuse_rest(self, answer: ReadAnswer) -> None:
        raise NotImplementedError

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def fpdus_sent(self) -> int:
        """FPDUs made so far."""
        return self._packer.framer.fpdus

    @property
    def octets_sent(self) -> int:
        """Octets of FPDUs made so far."""
        return self._packer.framer.octets

    @property
    def muted(self) -> bool:
        """Whether this Responder still waits for the Initiator's first FPDU (RFC 5044 §7.1.2 rule 4)."""
        return self._mute

    def speak_first(self) -> None:
        """Let this Responder send before an FPDU has come, because its program says so; see `QueuePair.speak_first`."""
        self._mute = False

    @property
    def output_ended(self) -> bool:
        """Whether everything has been sent of what was asked for, and no more will be asked."""
        if self.in_transit or self._prologue:
            return False
        if self.violation is not None:
            return not self._terminates
        return self._finishing and not (self._messages or self._answers or self._packer.early_fpdus)

    # --- messages to send ------------------------------------------------------------------------------------------

    def set_emss(self, emss: int) -> None:
        """TCP's segment size is `emss` octets now (MPA-5044-4.5-06); segments made earlier stay as they are."""
        if not self._fixed_mulpdu:
            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)

    def write(self, payload: Sequence[Octets], *, stag: int, to: int, token: object) -> None:
        """Queue an RDMA Write of the octets of `payload` to the peer's `stag` and `to`."""
        self._quiet = False
        self._messages.append(TaggedOutbound(_WRITE, payload, stag, to, token))

    def send(
        self, payload: Sequence[Octets], *, token: object, solicited: bool = False, inval_stag: int | None = None
    ) -> None:
        """Queue a Send, of the kind that `solicited` and `inval_stag` make it (RFC 5040 §5.3)."""
        octet = _SEND_OCTETS[solicited, inval_stag is not None]
        msn = self.send_msn
        # RDMAP-5040-4.1-10: without an STag to invalidate the field is zero
        self._quiet = False
        self._messages.append(UntaggedOutbound(octet, payload, QueueNumber.SEND, msn, inval_stag or 0, token))
        self.send_msn = next_msn(msn)

    @property
    def can_frame_now(self) -> bool:
        """Whether nothing else waits to be sent, so that small messages can be framed when they are posted.

        `write_now` and `send_now` frame them. `flushed` gives no tokens for them: they are sent before all others.
        """
        idle = not (self.in_transit or self._messages or self._answers or self._mute)
        return idle and self._frames_early and self.violation is None  # RDMAP-5040-7.1-05

    def write_now(self, messages: Sequence[SmallMessage]) -> int:
        """As `write` for each of the messages, (stag, to, octets, nbytes), as long as they fit; returns how many did.

        Their octets are copied. What is written now may be withdrawn by an error until `next_iov` gives it, as
        everything queued.
        """
        self._quiet = False
        return self._packer.frame_early(TAGGED_LEAD, _WRITE_LEAD, self.mulpdu - TAGGED_SIZE, messages)

    def send_now(self, octets: Octets, nbytes: int, *, solicited: bool) -> int:
        """As `send` of a message, in the manner of `write_now`."""
        self._quiet = False
        base = _SEND_SE_LEAD if solicited else _SEND_LEAD
        msn = self.send_msn  # with QN 0 above
        most = self.mulpdu - UNTAGGED_SIZE
        framed = self._packer.frame_early(UNTAGGED_FIRST, base, most, ((0, msn, octets, nbytes),))
        if framed:
            self.send_msn = msn + 1 & MSN_MASK  # DDP-5041-4.3-09
        return framed

    def send_alone(
        self,
        octets: Octets,
        nbytes: int,
        write: Callable[[bytes], int],
        solicited: bool = False,
        ahead: tuple[int, int, Octets] | None = None,
    ) -> int:
        """As `send_now`, `next_iov` and `flushed` in one: the FPDU of a Send goes to `write` of the driver at once.

        `ahead` is an RDMA Write in front of it, STag, TO and octets; the two FPDUs are one piece for the driver.
        Returns what `write` returns; with NOT_NOW nothing was sent and nothing is changed, also where something else
        waits to be sent. With HELD the driver calls `flushed` when the kernel has it.
        """
        most, crc, msn = self.mulpdu, self._crc, self.send_msn
        if not self._quiet or nbytes > most - UNTAGGED_SIZE:
            return NOT_NOW
        control = WHOLE_SEND_SE if solicited else WHOLE_SEND
        # both headers, with MPA's length, are multiples of four, so that the octets decide the pad
        body = b"".join((_send_head(UNTAGGED_SIZE + nbytes, control, msn), octets, PADS[-nbytes & 3]))
        # MPA-5044-4.4-13: the pad is covered too; MPA-5044-4.1-06: without CRC the field is there, its content free
        fpdus = body + (_crc_field(crc32c(body)) if crc else _NO_CRC)
        if ahead is not None:
            stag, offset, written = ahead
            nbytes = len(written)
            if nbytes > most - TAGGED_SIZE:
                return NOT_NOW
            body = TAGGED_FIELDS.pack(TAGGED_SIZE + nbytes, WHOLE_WRITE, stag, offset) + written + PADS[-nbytes & 3]
            fpdus = body + (_CRC.pack(crc32c(body)) if crc else _NO_CRC) + fpdus
        handed = write(fpdus)
        if handed != NOT_NOW:
            framer = self._packer.framer
            framer.fpdus += 1 if ahead is None else 2
            framer.octets += len(fpdus)
            self.send_msn = msn + 1 & MSN_MASK  # DDP-5041-4.3-09
            if handed == HELD:
                self.in_transit = True
                self._quiet = False
        return handed

    def pair_large(self, ahead: tuple[int, int, memoryview], word: bytes, write: Callable[[list[Octets]], int]) -> int:
        """As `send_alone` with a Write in front, of as many segments as it takes; its octets are not copied here."""
        stag, to, octets = ahead
        nbytes, most, crc = len(octets), self.mulpdu - TAGGED_SIZE, self._crc
        count = -(-nbytes // most)
        if not self._quiet or count > BATCH_FPDUS:
            return NOT_NOW
        pieces: list[Octets] = []
        behind = b""
        for start in range(0, nbytes, most):
            piece = octets[start : start + most]
            size = len(piece)
            control = WHOLE_WRITE if start + size == nbytes else _PART_OF_WRITE
            head, pad = TAGGED_FIELDS.pack(TAGGED_SIZE + size, control, stag, to + start & TO_MASK), PADS[-size & 3]
            pieces += (behind + head, piece)
            # MPA-5044-4.4-13: the pad is covered too
            checked = crc32c(piece, crc32c(head)) if crc else 0
            behind = pad + _CRC.pack(crc32c(pad, checked) if crc and pad else checked)
        body = SEND_FIELDS.pack(UNTAGGED_SIZE + len(word), WHOLE_SEND, self.send_msn) + word + PADS[-len(word) & 3]
        pieces.append(behind + body + (_CRC.pack(crc32c(body)) if crc else _NO_CRC))
        handed = write(pieces)
        if handed != NOT_NOW:
            framer = self._packer.framer
            framer.fpdus += count + 1
            framer.octets += sum(map(len, pieces))
            self.send_msn = self.send_msn + 1 & MSN_MASK
            self.in_transit = handed == HELD
            self._quiet = not self.in_transit
        return handed

    def _nothing_waits(self) -> bool:
        """Whether what is sent next may go to the kernel past the batches; what is queued changes it."""
        return not (
            self.in_transit
            or self._messages
            or self._answers
            or self._mute
            or self._prologue
            or self.violation is not None  # RDMAP-5040-7.1-05
            or not self._frames_early
            or self._packer.early_fpdus
        )

    def read(self, request: ReadRequest, sink: memoryview, token: object) -> None:
        """Queue a Read Request for the octets of `sink`; the caller has made sure that `reads` is not full."""
        self.reads.add(rdmap.OutstandingRead(request.sink_stag, request.sink_to, sink, token))
        self._quiet = False
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.READ_REQUEST),
                (build_read_request(request),),
                qn=QueueNumber.READ_REQUEST,
                msn=self.read_msn,
            )
        )
        self.read_msn = next_msn(self.read_msn)

    def read_nothing(self, token: object) -> None:
        """As `read` of no octets: its answer says that the peer has come so far (RFC 5040 §5.5 rules 12 and 17)."""
        self.read(_READ_OF_NOTHING, memoryview(b""), token)

    def atomic(self, request: AtomicRequest, token: object) -> None:
        """Queue an Atomic Request, whose identifier is set here; the caller has made sure that `reads` is not full."""
        from pyiwarp import wire

        request = request._replace(request_id=self._next_request_id)
        self._next_request_id = (self._next_request_id + 1) & 0xFFFF_FFFF
        self.reads.add(rdmap.OutstandingAtomic(request.request_id, token))
        self._quiet = False
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.ATOMIC_REQUEST),
                (wire.build_atomic_request(request),),
                qn=QueueNumber.READ_REQUEST,
                msn=self.read_msn,
                token=None,
            )
        )
        self.read_msn = next_msn(self.read_msn)

    def immediate(self, data: bytes, *, token: object, solicited: bool = False) -> None:
        """Queue Immediate Data: eight octets for the peer's next receive (RFC 7306 §6.3)."""
        self._quiet = False
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.IMMEDIATE_SE if solicited else Opcode.IMMEDIATE),
                (data,),
                qn=QueueNumber.SEND,
                msn=self.send_msn,  # EXT-7306-6.3-02: the MSNs of Sends go on
                token=token,
            )
        )
        self.send_msn = next_msn(self.send_msn)

    def _queue_rtr(self, rtr: Rtr) -> None:
        """The zero-length message that opens a peer-to-peer stream (MPA2-6581-9.2-10)."""
        if rtr is Rtr.WRITE:
            self.write(_NO_PAYLOAD, stag=_ANY_STAG, to=0, token=None)
        elif rtr is Rtr.READ:
            self.read_nothing(token=None)
        else:
            self.send(_NO_PAYLOAD, token=None)

    def next_iov(self) -> list[Octets]:
        """The octets to write now, as views where they are a user's; [] when there are none.

        Nothing more is given before `flushed`.
        """
        if self.in_transit:
            return []
        if not (self._messages or self._answers or self._terminates or self._prologue):
            if not self._packer.early_fpdus:
                return []
            self.in_transit = True
            return self._packer.take_early()
        out: list[Octets] = []
        if self._prologue:
            out.append(self._prologue)
            self._prologue = b""
        if not self._mute:
            self._fill(out)
        self.in_transit = bool(out)
        return out

    def _fill(self, out: list[Octets]) -> None:
        packer = self._packer
        packer.begin(out, BATCH_OCTETS, self._batch_fpdus)
        more = True
        while more and (queue := self._next_queue()):
            if queue is self._messages:
                more = packer.pack(queue, self._unflushed, self.mulpdu, one=bool(self._answers))
                self._underway = queue if queue and queue[0].sent else None
            else:
                more = self._pack_answer(queue)
        packer.end()

    def _pack_answer(self, queue: deque[Outbound]) -> bool:
        """Responses go one by one: the memory of each may be withdrawn at any time."""
        answer = queue[0]
        if isinstance(answer, ReadAnswer) and answer.revoked:
            self._refuse_rest(answer)
            return True
        more = self._packer.pack(queue, self._unflushed, self.mulpdu, one=True)
        self._underway = None if answer.last_given else queue
        if answer.last_given and isinstance(answer, Answer):
            self._inbound.end()
        return more

    def _next_queue(self) -> deque[Outbound]:
        """Whose head goes next: a Terminate before all and nothing behind it (RDMAP-5040-5.4-09).

        Else what is under way, else Responses and the ULP's messages in turn, each in its own order.
        """
        if self.violation is not None:
            return self._terminates
        if self._underway is not None:
            return self._underway
        self._respond_next = not self._respond_next
        if self._respond_next:
            return self._messages or self._answers
        return self._answers or self._messages

    def flushed(self) -> tuple[list[Event], list[object]]:
        """The kernel holds everything that `next_iov` gave (RFC 5041 §5.4 lets this be completion).

        Returns the events that came up meanwhile, and the tokens of the messages that were sent.
        """
        self.in_transit = False
        self._packer.flushed()
        events, self._events = self._events, []  # what came up while octets were made
        tokens = []
        for message in self._unflushed:
            if isinstance(message, Answer):
                message.done()
            elif message.token is not None:
                tokens.append(message.token)
        self._unflushed.clear()
        self._quiet = self._nothing_waits()
        return events, tokens

    def drop_output(self) -> None:
        """Discard all output that the transport does not hold yet: the peer will not read it."""
        for answer in self._answers:
            if answer.sent and self.in_transit:
                self._unflushed.append(answer)  # the transport still reads its first segments
            elif isinstance(answer, Answer):
                answer.done()
        self._packer.discard_early()
        self._messages.clear()
        self._answers.clear()
        self._underway = None
        self._prologue = b""
