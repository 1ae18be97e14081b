"""The engine: one RDMA stream, octets in and events out, messages in and octets out.

This is the one file that sees all three layers. Receiving: `mpa` finds and verifies a ULPDU, `fastwire` reads its
header, `rdmap` says whether such a message may come, `ddp` or `mr` say where its octets belong, and they are placed.
Sending: messages wait in two queues, `ddp` cuts them, `mpa` frames them. Nothing here blocks, reads a clock or knows
of work requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from pyiwarp import rdmap
from pyiwarp.answers import Answer, AtomicAnswer, ReadAnswer
from pyiwarp.atomics import perform
from pyiwarp.codes import MAX_MULPDU, MIN_MULPDU, Opcode, QueueNumber, Rtr
from pyiwarp.ddp import Outbound, TaggedOutbound, UntaggedOutbound, UntaggedQueue, next_msn
from pyiwarp.errors import (
    ConnectionLost,
    InvalidMo,
    MalformedMessage,
    NoBufferForMsn,
    ProtocolViolation,
    ReadInvalidStag,
    UsageError,
)
from pyiwarp.events import AtomicDone, Delivered, Event, PeerClosed, PeerTerminated, ReadDone, Sent, Violated
from pyiwarp.fastwire import (
    READ_REQUEST_SIZE,
    TAGGED,
    TAGGED_SIZE,
    UNTAGGED_SIZE,
    ReadRequest,
    Untagged,
    build_read_request,
    parse_read_request,
    parse_tagged,
    parse_untagged,
)
from pyiwarp.mpa import Deframer, Framer, MarkedDeframer, MarkedFramer, mulpdu_for
from pyiwarp.mr import StagTable
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.startup import Agreement, Role

if TYPE_CHECKING:
    from pyiwarp.wire import AtomicRequest

__all__ = ["Stream"]

Octets = bytes | bytearray | memoryview

BATCH_OCTETS: Final = 256 * 1024
"""What one `next_iov` gives at most, so that a Terminate and the other queue are never far away."""

BATCH_FPDUS: Final = 64

_LARGEST_TERMINATE: Final = 64  # control, length, DDP and RDMA header make 52 at most; anything longer is no Terminate
_NO_PAYLOAD: Final[tuple[Octets, ...]] = ()
_NOTHING: Final = memoryview(b"")
ATOMIC_REQUEST_SIZE: Final = 52
ATOMIC_RESPONSE_SIZE: Final = 12
_RTR_STAG: Final = 1  # a zero-length Write may name any STag; 0 upsets a known peer (wire ambiguity 29)


class _Discarder(Deframer):
    """Swallows what comes after an error: no later FPDU is looked at (DDP-5041-7.1-18, MPA-5044-8-09)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(crc=False)

    def received(self, nbytes: int) -> None:
        """Forget them."""


def _immediate_data(opcode: Opcode, header: Untagged, payload: memoryview) -> bytes:
    """The eight octets of Immediate Data; raises `MalformedMessage` for any other number (EXT-7306-6.3-07)."""
    if header.mo:  # EXT-7306-8.2-01: they are one segment, whatever size the receive has
        raise InvalidMo(header.qn, header.msn, header.mo, rdmap.IMMEDIATE_SIZE)
    if len(payload) != rdmap.IMMEDIATE_SIZE or not header.last:
        raise MalformedMessage(opcode, len(payload), rdmap.IMMEDIATE_SIZE)
    return bytes(payload)


class Scope(Protocol):
    """Whose stream it is, as far as memory is concerned."""

    @property
    def shares_memory(self) -> bool:
        """Whether other streams reach the regions of the protection domain too."""


class Stream:
    """One RDMA stream in Full Operation.

    `take_receive` gives the views of the next posted receive, or None. With `pause_when_starved` a Send that finds
    none stops the reading instead of the stream, until `resume`. `mulpdu` fixes the FPDU size; by default it
    follows `set_emss`. `prologue` is sent before the first FPDU: a Responder's Reply. `profile` says how to get on
    with the peer. Without `extensions` the messages of RFC 7306 are unexpected opcodes. `scope` is what a region names
    that belongs to this stream alone.
    """

    def __init__(
        self,
        agreement: Agreement,
        table: StagTable,
        pd: object,
        take_receive: Callable[[], Sequence[memoryview] | None],
        *,
        mulpdu: int | None = None,
        pause_when_starved: bool = False,
        prologue: bytes = b"",
        profile: PeerProfile = PROFILES["rfc"],
        extensions: bool = True,
        scope: Scope | None = None,
    ) -> None:
        if mulpdu is not None and not MIN_MULPDU <= mulpdu <= MAX_MULPDU:
            raise UsageError(f"MULPDU {mulpdu} is outside 128..64768 (RFC 5044 §3)")
        self.agreement = agreement
        self.mulpdu = mulpdu or MIN_MULPDU
        self._fixed_mulpdu = mulpdu is not None
        self._table = table
        self._pd = pd
        self._scope = scope
        self._framer = (MarkedFramer if agreement.send_markers else Framer)(crc=agreement.crc)
        self._deframer = (MarkedDeframer if agreement.receive_markers else Deframer)(crc=agreement.crc)
        self.reads = rdmap.OutstandingReads(agreement.ord)
        self._inbound = rdmap.InboundReads(agreement.ird)
        self._extensions = extensions
        # one buffer serves for all Requests: each is used up on delivery
        self._request_octets = bytearray(ATOMIC_REQUEST_SIZE if extensions else READ_REQUEST_SIZE)
        self._terminate_octets = bytearray()
        self._queues: dict[int, UntaggedQueue] = {
            QueueNumber.SEND: UntaggedQueue(QueueNumber.SEND, take_receive),
            QueueNumber.READ_REQUEST: UntaggedQueue(QueueNumber.READ_REQUEST, self._read_request_buffer),
            QueueNumber.TERMINATE: UntaggedQueue(QueueNumber.TERMINATE, self._terminate_buffer),
            QueueNumber.ATOMIC_RESPONSE: UntaggedQueue(QueueNumber.ATOMIC_RESPONSE, self._atomic_buffer),
        }
        self._profile = profile
        self._batch_fpdus = 1 if profile.one_fpdu_per_write else BATCH_FPDUS
        self._pause_when_starved = pause_when_starved
        self._held: memoryview | None = None  # a ULPDU that waits for a receive
        self._segment: Octets = b""  # the ULPDU at hand, for the Terminate that it may deserve
        self._events: list[Event] = []
        self._immediate = b""
        self._messages: deque[Outbound] = deque()
        self._answers: deque[ReadAnswer | AtomicAnswer] = deque()
        self._current: Outbound | None = None
        self._unflushed: list[Outbound] = []
        self._prologue = prologue
        self._mute = agreement.role is Role.RESPONDER  # MPA-5044-7.1.2-16
        self._send_msn = self._read_msn = self._answer_msn = 1
        self._atomic_octets = bytearray(ATOMIC_RESPONSE_SIZE)
        self._next_request_id = 0
        self._respond_next = False
        self._terminate: Outbound | None = None
        self._finishing = False
        self.violation: ProtocolViolation | None = None
        self.in_transit = False
        self.peer_closed = False
        if agreement.rtr:
            self._queue_rtr(agreement.rtr)

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def fpdus_sent(self) -> int:
        """FPDUs made so far."""
        return self._framer.fpdus

    @property
    def fpdus_received(self) -> int:
        """Verified FPDUs so far."""
        return self._deframer.fpdus

    @property
    def octets_sent(self) -> int:
        """Octets of FPDUs made so far."""
        return self._framer.octets

    @property
    def progress(self) -> int:
        """A number that grows whenever an FPDU is sent or received."""
        return self._framer.fpdus + self._deframer.fpdus

    @property
    def muted(self) -> bool:
        """Whether this Responder still waits for the Initiator's first FPDU (RFC 5044 §7.1.2 rule 4)."""
        return self._mute

    def speak_first(self) -> None:
        """Let this Responder send before an FPDU has come, on the word of its program; see `QueuePair.speak_first`."""
        self._mute = False

    @property
    def starved(self) -> bool:
        """Whether a Send waits for a receive, and everything behind it too."""
        return self._held is not None

    @property
    def output_ended(self) -> bool:
        """Whether everything has been sent of what was asked for, and no more will be asked."""
        if self.in_transit or self._prologue:
            return False
        if self.violation is not None:
            return self._terminate is None
        return self._finishing and not (self._messages or self._answers or self._current)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty."""
        return self._deframer.receive_view()

    def received(self, nbytes: int) -> list[Event]:
        """`nbytes` octets now lie in the view that `receive_view` gave."""
        self._deframer.received(nbytes)
        return self.resume()

    def resume(self) -> list[Event]:
        """Digest what has come; after a starved stop, once a receive was posted."""
        try:
            while True:
                ulpdu = self._held
                if ulpdu is None:
                    ulpdu = self._deframer.next_ulpdu()
                if ulpdu is None:
                    break
                self._mute = False  # one FPDU was verified: from now on both directions are open
                self._segment = ulpdu
                if ulpdu and ulpdu[0] & TAGGED:
                    self._on_tagged(ulpdu)
                else:
                    self._on_untagged(ulpdu)
                if self._held is not None:
                    break
        except ProtocolViolation as violation:  # the only such clause in the package
            self._fail(violation)
        self._segment = b""
        events, self._events = self._events, []
        return events

    def received_eof(self) -> list[Event]:
        """The peer closed its half.

        Raises `ConnectionLost` if something was left unfinished: an FPDU, a message, a Read (RFC 5044 §7.2).
        """
        self.peer_closed = True
        if self.violation is not None:
            return []
        for unfinished, what in (
            (not self._deframer.idle or self._held is not None, "an FPDU"),
            (any(queue.underway for queue in self._queues.values()), "a message"),
            (len(self.reads) > 0, "the answer to a Read"),
        ):
            if unfinished:
                raise ConnectionLost(f"the peer closed the connection in the middle of {what} (RFC 5044 §7.2)")
        return [PeerClosed()]

    def _on_tagged(self, ulpdu: memoryview) -> None:
        header = parse_tagged(ulpdu)
        opcode = rdmap.admit_tagged(header.rdmap)
        payload = ulpdu[TAGGED_SIZE:]
        nbytes = len(payload)
        if opcode is Opcode.WRITE:
            if nbytes:  # DDP-5041-5.2-12: without payload STag and TO are not looked at
                sink = self._table.sink(header.stag, header.to, nbytes, self._pd, stream=self._scope)
                sink[:] = payload
            return  # RDMAP-5040-5.1-02: placed, and nobody is told
        self.reads.place_segment(header.stag, header.to, payload)
        if header.last:
            read = self.reads.delivered()
            self._events.append(ReadDone(read.token, read.nbytes))

    def _on_untagged(self, ulpdu: memoryview) -> None:
        header = parse_untagged(ulpdu)
        opcode = rdmap.admit_untagged(header.rdmap, header.qn, extensions=self._extensions)
        queue = self._queues[header.qn]
        payload = ulpdu[UNTAGGED_SIZE:]
        if opcode in rdmap.IMMEDIATE_OPCODES:
            self._immediate = _immediate_data(opcode, header, payload)
            payload = _NOTHING
        try:
            nbytes = queue.place(header, payload)
        except NoBufferForMsn:
            if not self._pause_when_starved or queue.qn != QueueNumber.SEND:
                raise
            if self._finishing:
                self._stop_input()  # nobody will ever post a receive for it
            else:
                self._held = ulpdu
            return
        self._held = None
        if nbytes is None:
            return
        if header.qn == QueueNumber.SEND:
            self._on_send(opcode, header, nbytes)
        elif opcode is Opcode.READ_REQUEST:
            self._on_read_request(header.msn, nbytes)
        elif opcode is Opcode.ATOMIC_REQUEST:
            self._on_atomic_request(header.msn, nbytes)
        elif opcode is Opcode.ATOMIC_RESPONSE:
            self._on_atomic_response(nbytes)
        else:
            self._on_terminate(nbytes)

    def _on_send(self, opcode: Opcode, header: Untagged, nbytes: int) -> None:
        inval_stag: int | None = None
        if opcode in rdmap.INVALIDATING_OPCODES:
            inval_stag = header.inval_stag
            shared = self._scope is not None and self._scope.shares_memory
            # RDMAP-5040-5.3-13: on delivery, not before
            self._table.invalidate(inval_stag, self._pd, self._scope, shared=shared)
        immediate = self._immediate if opcode in rdmap.IMMEDIATE_OPCODES else None
        solicited = opcode in rdmap.SOLICITED_OPCODES
        self._events.append(Delivered(opcode, header.msn, nbytes, solicited, inval_stag, immediate))

    def _read_request_buffer(self) -> Sequence[memoryview]:
        return (memoryview(self._request_octets),)

    def _terminate_buffer(self) -> Sequence[memoryview]:
        """There is always one, whatever else is lacking (RDMAP-5040-5.4-04)."""
        octets = bytearray(_LARGEST_TERMINATE)
        self._terminate_octets = octets
        return (memoryview(octets),)

    def _on_read_request(self, msn: int, nbytes: int) -> None:
        """Answered here, in the order of asking, and the program is not told (RDMAP-5040-5.2.1-03, -04, -08)."""
        request = parse_read_request(self._request_octets[:nbytes])
        self._inbound.begin(msn)
        if request.read_size == 0:  # RDMAP-5040-5.2.1-15, RDMAP-5040-5.2.1-16
            self._answers.append(ReadAnswer(request, (), None))
            return
        stag, to, nbytes = request.source_stag, request.source_to, request.read_size
        source, region = self._table.source(stag, to, nbytes, self._pd, self._scope)
        self._answers.append(ReadAnswer(request, region.pieces(source), region, bytes(self._segment[:UNTAGGED_SIZE])))

    def _atomic_buffer(self) -> Sequence[memoryview] | None:
        """EXT-7306-5.2.2-06: a buffer for each Atomic that is outstanding, and for no other."""
        return (memoryview(self._atomic_octets),) if self.reads.atomic_due else None

    def _on_atomic_request(self, msn: int, nbytes: int) -> None:
        """Done on delivery, in the order of asking, and the program is not told (EXT-7306-5.2.1-12, -13, -17)."""
        from pyiwarp import wire

        request = wire.parse_atomic_request(self._request_octets[:nbytes])
        self._inbound.begin(msn)  # EXT-7306-5.2-01: Reads and Atomics share IRD
        memory = self._table.atomic(request.stag, request.to, self._pd, self._scope)
        response = wire.AtomicResponse(request.request_id, perform(request, memory))
        self._answers.append(AtomicAnswer(wire.build_atomic_response(response), self._answer_msn))
        self._answer_msn = next_msn(self._answer_msn)

    def _on_atomic_response(self, nbytes: int) -> None:
        from pyiwarp import wire

        response = wire.parse_atomic_response(self._atomic_octets[:nbytes])
        atomic = self.reads.answered(response.request_id)
        self._events.append(AtomicDone(atomic.token, response.original_value))

    def _on_terminate(self, nbytes: int) -> None:
        """The owner is told (RDMAP-5040-5.4-06), and nothing more is taken from the peer."""
        error = rdmap.parse_terminate(self._profile.read_terminate(bytes(self._terminate_octets[:nbytes])))
        self._events.append(PeerTerminated(error))
        self._stop_input()

    # --- the end -----------------------------------------------------------------------------------------------------

    def fail(self, violation: ProtocolViolation) -> list[Event]:
        """End the stream for a reason that lies outside it, such as startup's or this side's own collapse."""
        self._fail(violation)
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Send what is queued, and then nothing more; a Send that waits for a receive waits in vain."""
        self._finishing = True
        if self._held is not None:
            self._stop_input()

    def drop_output(self) -> None:
        """Forget what has not been handed over: nobody is there to read it."""
        for answer in self._answers:
            answer.done()
        if isinstance(self._current, Answer):
            if self.in_transit:
                self._unflushed.append(self._current)  # the transport still reads its first segments
            else:
                self._current.done()
        self._messages.clear()
        self._answers.clear()
        self._current = None
        self._prologue = b""

    def _fail(self, violation: ProtocolViolation) -> None:
        """Turn the first error into one Terminate (RDMAP-5040-7.1-05); no input is looked at after it."""
        if self.violation is not None:
            return
        self.violation = violation
        segment = bytes(self._segment)
        self._stop_input()
        prologue = self._prologue
        self.drop_output()
        self._prologue = prologue
        if not self._mute:  # wire ambiguity 1: a Responder may not speak before the first valid FPDU
            self._terminate = self._terminate_message(violation, segment)
        self._events.append(Violated(violation))

    def _terminate_message(self, violation: ProtocolViolation, segment: bytes) -> Outbound:
        read_request = b""
        if len(segment) >= UNTAGGED_SIZE and segment[1] & 0x0F == Opcode.READ_REQUEST:
            read_request = bytes(self._request_octets[:READ_REQUEST_SIZE])
        payload = rdmap.terminate_payload(violation, segment, read_request)
        octet = rdmap.control_octet(Opcode.TERMINATE)
        return UntaggedOutbound(octet, (payload,), qn=QueueNumber.TERMINATE, msn=1)  # RDMAP-5040-5.4-02

    def _stop_input(self) -> None:
        fpdus = self._deframer.fpdus
        self._deframer = _Discarder()
        self._deframer.fpdus = fpdus
        self._held = None
        self._drop_input()

    def _drop_input(self) -> None:
        """Let go of the memory that unfinished messages and Reads were meant for."""
        for queue in self._queues.values():
            queue.drop()
        self.reads.drop()

    # --- sending -----------------------------------------------------------------------------------------------------

    def set_emss(self, emss: int) -> None:
        """TCP's segment size is `emss` octets now (MPA-5044-4.5-06); segments made earlier stay as they are."""
        if not self._fixed_mulpdu:
            self.mulpdu = mulpdu_for(emss, markers=self.agreement.send_markers)

    def write(self, payload: Sequence[Octets], *, stag: int, to: int, token: object) -> None:
        """Queue an RDMA Write of the octets of `payload` to the peer's `stag` and `to`."""
        self._messages.append(TaggedOutbound(rdmap.control_octet(Opcode.WRITE), payload, stag=stag, to=to, token=token))

    def send(
        self, payload: Sequence[Octets], *, token: object, solicited: bool = False, inval_stag: int | None = None
    ) -> None:
        """Queue a Send, of the kind that `solicited` and `inval_stag` make it (RFC 5040 §5.3)."""
        if inval_stag is None:
            opcode = Opcode.SEND_SE if solicited else Opcode.SEND
        else:
            opcode = Opcode.SEND_SE_INVAL if solicited else Opcode.SEND_INVAL
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(opcode),
                payload,
                qn=QueueNumber.SEND,
                msn=self._send_msn,
                inval_stag=inval_stag or 0,  # RDMAP-5040-4.1-10
                token=token,
            )
        )
        self._send_msn = next_msn(self._send_msn)

    def read(self, request: ReadRequest, sink: memoryview, token: object) -> None:
        """Queue a Read Request for the octets of `sink`; the caller has made sure that `reads` is not full."""
        self.reads.add(rdmap.OutstandingRead(request.sink_stag, request.sink_to, sink, token))
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.READ_REQUEST),
                (build_read_request(request),),
                qn=QueueNumber.READ_REQUEST,
                msn=self._read_msn,
            )
        )
        self._read_msn = next_msn(self._read_msn)

    def atomic(self, request: AtomicRequest, token: object) -> None:
        """Queue an Atomic Request, whose identifier is set here; the caller has made sure that `reads` is not full."""
        from pyiwarp import wire

        request = request._replace(request_id=self._next_request_id)
        self._next_request_id = (self._next_request_id + 1) & 0xFFFF_FFFF
        self.reads.add(rdmap.OutstandingAtomic(request.request_id, token))
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.ATOMIC_REQUEST),
                (wire.build_atomic_request(request),),
                qn=QueueNumber.READ_REQUEST,
                msn=self._read_msn,
                token=None,
            )
        )
        self._read_msn = next_msn(self._read_msn)

    def immediate(self, data: bytes, *, token: object, solicited: bool = False) -> None:
        """Queue Immediate Data: eight octets for the peer's next receive (RFC 7306 §6.3)."""
        self._messages.append(
            UntaggedOutbound(
                rdmap.control_octet(Opcode.IMMEDIATE_SE if solicited else Opcode.IMMEDIATE),
                (data,),
                qn=QueueNumber.SEND,
                msn=self._send_msn,  # EXT-7306-6.3-02: the MSNs of Sends go on
                token=token,
            )
        )
        self._send_msn = next_msn(self._send_msn)

    def _queue_rtr(self, rtr: Rtr) -> None:
        """The zero-length message that opens a peer-to-peer stream (MPA2-6581-9.2-10)."""
        if rtr is Rtr.WRITE:
            self.write(_NO_PAYLOAD, stag=_RTR_STAG, to=0, token=None)
        elif rtr is Rtr.READ:
            self.read(ReadRequest(_RTR_STAG, 0, 0, _RTR_STAG, 0), memoryview(b""), token=None)
        else:
            self.send(_NO_PAYLOAD, token=None)

    def next_iov(self) -> list[Octets]:
        """The octets to write now, as views where they are a user's; [] when there are none.

        Nothing more is given before `flushed`.
        """
        if self.in_transit:
            return []
        out: list[Octets] = []
        if self._prologue:
            out.append(self._prologue)
            self._prologue = b""
        if not self._mute:
            self._fill(out)
        self.in_transit = bool(out)
        return out

    def _fill(self, out: list[Octets]) -> None:
        room, fpdus = BATCH_OCTETS, self._batch_fpdus
        frame = self._framer.frame
        while room > 0 and fpdus > 0:
            message = self._current or self._next_message()
            if message is None:
                return
            if isinstance(message, ReadAnswer) and message.revoked:
                self._refuse_rest(message)
                continue
            header, payload, nbytes = message.next_segment(self.mulpdu)
            room -= frame(header, payload, nbytes, out)
            fpdus -= 1
            if message.last_given:
                self._current = None
                self._unflushed.append(message)
                if isinstance(message, Answer):
                    self._inbound.end()
            else:
                self._current = message

    def _refuse_rest(self, answer: ReadAnswer) -> None:
        """The memory was withdrawn while the peer read it: its Request comes back as far as it is unanswered."""
        self._current = None
        self._unflushed.append(answer)  # the transport still reads what was sent
        request = build_read_request(answer.unanswered)
        self._request_octets[:READ_REQUEST_SIZE] = request
        self._segment = answer.header + request
        self._fail(ReadInvalidStag(answer.request.source_stag))
        self._segment = b""

    def _next_message(self) -> Outbound | None:
        """A Terminate before all and nothing behind it (RDMAP-5040-5.4-09).

        Else Responses and the ULP's messages in turn, each in its own order.
        """
        if self.violation is not None:
            terminate, self._terminate = self._terminate, None
            return terminate
        queues = (self._answers, self._messages) if self._respond_next else (self._messages, self._answers)
        self._respond_next = not self._respond_next
        for queue in queues:
            if queue:
                return queue.popleft()
        return None

    def flushed(self) -> list[Event]:
        """The kernel holds everything that `next_iov` gave (RFC 5041 §5.4 lets this be completion)."""
        self.in_transit = False
        events, self._events = self._events, []  # what came up while octets were made
        for message in self._unflushed:
            if isinstance(message, Answer):
                message.done()
            elif message.token is not None:
                events.append(Sent(message.token))
        self._unflushed.clear()
        return events

    def abandon(self) -> None:
        """TCP is gone: let go of all memory."""
        self.in_transit = False
        for message in self._unflushed:
            if isinstance(message, Answer):
                message.done()
        self._unflushed.clear()
        self.drop_output()
        self._terminate = None
        self._stop_input()
