"""The engine: one RDMA stream, octets in and events out, messages in and octets out.

It sees all three layers. Receiving: `mpa` finds and verifies a ULPDU, `fastwire` reads its header, `rdmap` says whether
such a message may come, `ddp` or `mr` say where its octets belong, and they are placed. Common FPDUs go the fast way
of `fast_receive`. Sending is the other half, in `sending`. Nothing here blocks, reads a clock or knows of work
requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from pyiwarp import rdmap
from pyiwarp.access import Grantor
from pyiwarp.buffers import BUFFER_SIZE, Octets
from pyiwarp.codes import ATOMIC_REQUEST_SIZE, ATOMIC_RESPONSE_SIZE, IMMEDIATE_SIZE, Opcode, QueueNumber
from pyiwarp.crc import crc32c
from pyiwarp.ddp import MSN_MASK, Outbound, UntaggedOutbound, UntaggedQueue, next_msn
from pyiwarp.engine.events import AtomicDone, Delivered, Event, PeerClosed, PeerTerminated, ReadDone, Violated
from pyiwarp.engine.fast_receive import FastReceive
from pyiwarp.engine.responses import Answer, AtomicAnswer, ReadAnswer
from pyiwarp.engine.sending import WHOLE_SEND, WHOLE_SEND_SE, SendingHalf
from pyiwarp.errors import (
    ConnectionLost,
    MalformedMessage,
    NoBufferForMsn,
    ProtocolViolation,
    ReadInvalidStag,
)
from pyiwarp.fastwire import (
    READ_REQUEST_SIZE,
    TAGGED,
    TAGGED_SIZE,
    UNTAGGED_FIELDS,
    UNTAGGED_SIZE,
    Untagged,
    build_read_request,
    parse_read_request,
    parse_tagged,
    parse_untagged,
)
from pyiwarp.memory.atomics import perform
from pyiwarp.mpa import CRC_SIZE, INTACT, LENGTH_SIZE, Deframer, Discarder, MarkedDeframer, fpdu_size
from pyiwarp.mr import StagTable
from pyiwarp.negotiation import Agreement
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.pump import TURN_FPDUS

__all__ = ["Stream"]


_PLAIN_COST: Final = 16  # FPDUs of the fast way that one of the plain way counts for: it takes about as much longer
_OCTETS_SHIFT: Final = 12  # and so do 4 KiB, so that the longest turn is 2 MiB of large FPDUs

_LARGEST_TERMINATE: Final = 64  # control, length, DDP and RDMA header make 52 at most; anything longer is no Terminate
_NOTHING: Final = memoryview(b"")

_untagged: Final = UNTAGGED_FIELDS.unpack_from
_TAGGED_KIND: Final = TAGGED << 8
_SEND_BODY: Final = LENGTH_SIZE + UNTAGGED_SIZE
_LEAST_SEND: Final = fpdu_size(UNTAGGED_SIZE)


def _immediate_data(opcode: Opcode, header: Untagged, payload: memoryview) -> bytes:
    """The eight octets of Immediate Data; raises `MalformedMessage` for any other number (EXT-7306-6.3-07)."""
    if len(payload) != IMMEDIATE_SIZE or not header.last:
        raise MalformedMessage(opcode, len(payload), IMMEDIATE_SIZE)
    return bytes(payload)


class Receives(Protocol):
    """The receive queue, as far as `receive_alone` needs to know it."""

    posted: deque[Any]
    """Those that wait for a Send, as work requests."""
    taken: deque[Any]
    """Those that messages have taken, and that are not complete."""
    judged_late: bool
    """Whether their memory is judged when a message takes them."""
    late: deque[Any]
    """What is to be told when there are no more receives."""
    small_taker: Callable[[memoryview], bool] | None
    """It is asked first for the octets of a Send, without Solicited Event, that comes by itself; if it takes them, the
    receive stays."""

    def deliver_alone(self, payload: memoryview, solicited: bool) -> None:
        """Place a Send in the oldest receive that waits, and complete it."""


class Scope(Grantor, Protocol):
    """Whose stream it is, as far as memory is concerned."""

    @property
    def shares_memory(self) -> bool:
        """Whether other streams reach the regions of the protection domain too."""


class Stream(SendingHalf):
    """One RDMA stream in Full Operation.

    `take_receive` gives the views of the next posted receive, or None. With `pause_when_starved` a Send that finds none
    stops the reading instead of the stream, until `resume`. `mulpdu` fixes the FPDU size; by default it follows
    `set_emss`. `prologue` is sent before the first FPDU: a Responder's Reply. `profile` says how the peer departs from
    the RFCs. Without `extensions` the messages of RFC 7306 are unexpected opcodes. `scope` is what a region names that
    belongs to this stream alone. `receive_fault` says what is wrong if there is a receive that cannot be used.
    `needs_no_receive` is asked about Immediate Data that comes next, before a receive is taken for it.
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
        receive_fault: Callable[[], ProtocolViolation | None] = lambda: None,
        needs_no_receive: Callable[[bytes], bool] | None = None,
    ) -> None:
        super().__init__(agreement, mulpdu, prologue, profile)
        self._table = table
        self._pd = pd
        self._scope = scope
        self._receive_fault = receive_fault
        self._needs_no_receive = needs_no_receive
        self.deframer = (MarkedDeframer if agreement.receive_markers else Deframer)(crc=agreement.crc)
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
        self._sends = self._queues[QueueNumber.SEND]
        self._fast_receive: FastReceive | None = FastReceive(table, pd, scope, self.reads, self._sends)
        self._profile = profile
        self._pause_when_starved = pause_when_starved
        self.waiting_ulpdu: memoryview | None = None
        """A ULPDU that waits for a receive, as everything behind it does: then the stream is `starved`."""
        self._segment: Octets = b""  # the ULPDU at hand, for the Terminate that it may deserve
        self._immediate = b""
        self._atomic_octets = bytearray(ATOMIC_RESPONSE_SIZE)
        self._turn_left = TURN_FPDUS
        self._turn_began = 0  # at this octet of the stream
        self.behind = False  # the rest of the input waits for the next turn
        self.peer_closed = False
        self.input_discarded = False  # input is discarded, so no outstanding Read or Atomic will be answered
        self._awaits_alone = self._may_come_alone()

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def fpdus_received(self) -> int:
        """Verified FPDUs so far."""
        return self.deframer.fpdus

    @property
    def progress(self) -> int:
        """How far this side's own messages are: octets of the oldest that have left, and of the Read that is answered.

        What else the peer sends, or has sent to it, is not counted.
        """
        read = self.reads.due
        sent = self._messages[0].sent if self._messages else 0
        return sent + (0 if read is None else read.extent.placed)

    @property
    def starved(self) -> bool:
        """Whether a Send waits for a receive, and everything behind it too."""
        return self.waiting_ulpdu is not None

    @property
    def unfinished(self) -> bool:
        """Whether the peer owes the rest of an FPDU: what has come of it is all there is to process."""
        return self.waiting_ulpdu is None and not self.behind and not self.deframer.idle

    @property
    def flowing(self) -> bool:
        """Whether both directions are open: this side may send, and no input waits for a receive or for its turn."""
        return self.waiting_ulpdu is None and not self._mute and not self.behind

    # --- receiving ---------------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty."""
        return self.deframer.receive_view()

    def received(self, nbytes: int) -> list[Event]:
        """`nbytes` octets now lie in the view that `receive_view` gave."""
        self.deframer.received(nbytes)
        self._turn_left -= nbytes >> _OCTETS_SHIFT
        return self.resume()

    def receive_alone(self, nbytes: int, receives: Receives) -> bool:
        """As `received` and what follows of it, if the octets are one ordinary Send, for which there is a receive.

        A Write may lie before the Send that tells of it. Otherwise it returns False, and nothing has happened: the
        Write was placed at most, which the plain way does again.
        """
        posted = receives.posted
        if not (self._awaits_alone and posted) or receives.taken or receives.judged_late:
            return False
        deframer = self.deframer
        view, start, fpdus = deframer.view, 0, 1
        if nbytes < _LEAST_SEND or len(view) == BUFFER_SIZE:  # others may use a shared buffer as soon as it is released
            return False
        length, kind, _, qn_msn, mo = _untagged(view)
        if kind & _TAGGED_KIND:
            start = self._place_first(view, nbytes - _LEAST_SEND)
            if not start:
                return False
            length, kind, _, qn_msn, mo = _untagged(view, start)
            fpdus = 2
        sends = self._sends
        if qn_msn != sends.due_msn or mo:  # DDP-5041-7.1-09, DDP-5041-5.4-02
            return False
        if kind != WHOLE_SEND and kind != WHOLE_SEND_SE:
            return False
        sges, _ = posted[0]
        stop = start + LENGTH_SIZE + length
        if len(sges) != 1 or (stop + 3 & ~3) + CRC_SIZE != nbytes:
            return False
        _, _, room = sges[0]
        if not UNTAGGED_SIZE <= length <= room + UNTAGGED_SIZE:  # DDP-5041-7.1-08
            return False
        if deframer.crc and crc32c(view[start:nbytes]) != INTACT:  # MPA-5044-6-01: before anything is placed
            return False
        sends.due_msn = qn_msn + 1 & MSN_MASK  # DDP-5041-4.3-09
        deframer.octets += nbytes
        deframer.fpdus += fpdus
        if not deframer.resting:
            deframer.rest(nbytes)
        self._turn_left = left = self._turn_left - fpdus
        if left <= 2:  # the plain way ends the turn
            self._awaits_alone = False
        payload, taker = view[start + _SEND_BODY : stop], receives.small_taker
        if taker is None or kind != WHOLE_SEND or receives.late or not taker(payload):  # else the receive stays
            receives.deliver_alone(payload, kind == WHOLE_SEND_SE)
        return True

    def _may_come_alone(self) -> bool:
        """Whether nothing is under way, so that a Send may come by itself."""
        deframer = self.deframer
        return (
            self._fast_receive is not None
            and deframer.alone
            and deframer.start == deframer.end
            and self._turn_left > 2  # else the plain way ends the turn
            and self.waiting_ulpdu is None
            and not self._mute  # whom the first FPDU lets speak
        )

    def _place_first(self, view: memoryview, room: int) -> int:
        """See `FastReceive.place_first`."""
        fast_receive = self._fast_receive
        return 0 if fast_receive is None else fast_receive.place_first(view, room, crc=self.deframer.crc)

    def proceed(self, fpdus: int = TURN_FPDUS) -> list[Event]:
        """Process what the last turn has left: the next turn begins, and others have had theirs.

        It ends after so many FPDUs of the fast way, or what takes as long as these.
        """
        self._turn_left = fpdus
        self._turn_began = self.deframer.octets
        return self.resume()

    def resume(self) -> list[Event]:
        """Process the octets received so far; after a pause for want of a receive, call it when one was posted.

        The turn may end before: then the stream is `behind` until `proceed`.
        """
        fast_receive = self._fast_receive
        try:
            while True:
                ulpdu = self.waiting_ulpdu
                if ulpdu is None:
                    deframer = self.deframer
                    if fast_receive is not None:
                        fpdus = fast_receive.run(deframer, self._events, self._turn_left)
                        if fpdus:
                            self._mute = False
                            self._turn_left -= fpdus
                    if deframer.start == deframer.end or self._turn_left <= 0:
                        break
                    ulpdu = deframer.next_ulpdu()
                if ulpdu is None:
                    break
                self._turn_left -= _PLAIN_COST
                self._mute = False  # one FPDU was verified: from now on both directions are open
                self._segment = ulpdu
                if ulpdu and ulpdu[0] & TAGGED:
                    self._on_tagged(ulpdu)
                else:
                    self._on_untagged(ulpdu)
                if self.waiting_ulpdu is not None:
                    break
        except ProtocolViolation as violation:  # the only such clause in the package
            self._fail(violation.with_traceback(None))  # its frames would keep users' memory unresizable
        self.behind = self._turn_left <= 0
        if self.behind and self.waiting_ulpdu is None and not self.input_discarded:
            self.deframer.wait(self.deframer.octets - self._turn_began)
        self._segment = b""
        if self.waiting_ulpdu is None:
            self.deframer.release()
        events, self._events = self._events, []
        self._awaits_alone = self._may_come_alone()
        return events

    def received_eof(self) -> list[Event]:
        """The peer closed its half.

        Raises `ConnectionLost` if something was left unfinished: an FPDU, a message, a Read (RFC 5044 §7.2).
        """
        self.peer_closed = True
        if self.violation is not None:
            return []
        for unfinished, what in (
            (not self.deframer.idle or self.waiting_ulpdu is not None, "an FPDU"),
            (any([queue.underway for queue in self._queues.values()]), "a message"),
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
            return  # RDMAP-5040-5.1-02: placed, without an event
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
            needs_none = self._needs_no_receive if header.msn == queue.due_msn and not queue.underway else None
            if needs_none is not None and needs_none(self._immediate):
                queue.provide(())  # EXT-7306-6.3-02: the buffer that it takes is one of this side's own
        try:
            nbytes = queue.place(header, payload)
        except NoBufferForMsn:
            fault = self._receive_fault() if queue.qn == QueueNumber.SEND else None
            if fault is not None:
                raise fault from None
            if not self._pause_when_starved or queue.qn != QueueNumber.SEND:
                raise
            if self._finishing:
                self._stop_input()  # no receive will be posted for it
            else:
                if self.waiting_ulpdu is None:  # else it was tried again
                    ulpdu = self.deframer.hold(ulpdu)
                self.waiting_ulpdu = ulpdu
            return
        self.waiting_ulpdu = None
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
        """A Terminate always finds a buffer (RDMAP-5040-5.4-04)."""
        octets = bytearray(_LARGEST_TERMINATE)
        self._terminate_octets = octets
        return (memoryview(octets),)

    def _on_read_request(self, msn: int, nbytes: int) -> None:
        """Answer the Requests in their order, without an event (RDMAP-5040-5.2.1-03, -04, -08)."""
        self._quiet = False
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
        """Perform it on delivery, in the order of the Requests, without an event (EXT-7306-5.2.1-12, -13, -17)."""
        from pyiwarp import wire

        self._quiet = False
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
        """Tell the owner (RDMAP-5040-5.4-06) and discard all further input."""
        error = rdmap.parse_terminate(self._profile.read_terminate(bytes(self._terminate_octets[:nbytes])))
        self._events.append(PeerTerminated(error))
        self._stop_input()

    # --- the end -----------------------------------------------------------------------------------------------------

    def fail(self, violation: ProtocolViolation) -> list[Event]:
        """End the stream for an error found outside it, such as a fault of startup or a local catastrophic error."""
        self._fail(violation)
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Send what is queued, then nothing more; a Send that waits for a receive is dropped."""
        self._finishing = True
        if self.waiting_ulpdu is not None:
            self._stop_input()

    def _fail(self, violation: ProtocolViolation) -> None:
        """Turn the first error into one Terminate (RDMAP-5040-7.1-05); no input is looked at after it."""
        if self.violation is not None:
            return
        self.violation = violation
        self._quiet = False  # RDMAP-5040-7.1-05
        segment = bytes(self._segment)
        self._stop_input()
        prologue = self._prologue
        self.drop_output()
        self._prologue = prologue
        if not self._mute:  # wire ambiguity 1: a Responder may not speak before the first valid FPDU
            self._terminates.append(self._terminate_message(violation, segment))
        self._events.append(Violated(violation))

    def _terminate_message(self, violation: ProtocolViolation, segment: bytes) -> Outbound:
        read_request = b""
        if len(segment) >= UNTAGGED_SIZE and segment[1] & 0x0F == Opcode.READ_REQUEST:
            read_request = bytes(self._request_octets[:READ_REQUEST_SIZE])
        payload = rdmap.terminate_payload(violation, segment, read_request)
        octet = rdmap.control_octet(Opcode.TERMINATE)
        return UntaggedOutbound(octet, (payload,), qn=QueueNumber.TERMINATE, msn=1)  # RDMAP-5040-5.4-02

    def _stop_input(self) -> None:
        self.input_discarded = True
        self._awaits_alone = False  # DDP-5041-7.1-18
        self.deframer = Discarder(self.deframer.fpdus)
        self.waiting_ulpdu = None
        self._drop_input()

    def _drop_input(self) -> None:
        """Release the memory of unfinished messages and outstanding Reads."""
        for queue in self._queues.values():
            queue.drop()
        self.reads.drop()

    def due_msn(self, qn: QueueNumber) -> int:
        """The MSN of the next message that comes on a queue."""
        return self._queues[qn].due_msn

    # --- sending -----------------------------------------------------------------------------------------------------

    def _refuse_rest(self, answer: ReadAnswer) -> None:
        """The memory was withdrawn while the peer read it: its Request comes back as far as it is unanswered."""
        self._answers.popleft()
        self._unflushed.append(answer)  # the transport still reads what was sent
        request = build_read_request(answer.unanswered)
        self._request_octets[:READ_REQUEST_SIZE] = request
        self._segment = answer.header + request
        self._fail(ReadInvalidStag(answer.request.source_stag))
        self._segment = b""

    def abandon(self) -> None:
        """TCP has ended: release all memory."""
        self.in_transit = False
        self._packer.forget()  # a transport that is still closing may look at it
        for message in self._unflushed:
            if isinstance(message, Answer):
                message.done()
        self._unflushed.clear()
        self.drop_output()
        self._terminates.clear()
        self._stop_input()
