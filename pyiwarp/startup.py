"""MPA startup: the two frames that turn a TCP connection into an RDMA connection (RFC 5044 §7.1, RFC 6581).

Sans I/O: a driver moves octets and watches time limits, `Startup` decides. It receives exactly the octets of the
startup frame, so that the octets behind it are still in the socket when Full Operation begins.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from pyiwarp import faststartup
from pyiwarp.codes import ENHANCED_SIZE, MAX_PRIVATE_DATA, REQUEST_KEY, STARTUP_HEADER_SIZE
from pyiwarp.errors import (
    ConnectionLost,
    MalformedStartup,
    MarkersRefused,
    Rejected,
    StartupError,
    StartupTimeout,
    UsageError,
    VersionMismatch,
    WrongState,
)
from pyiwarp.faststartup import StartupFrame
from pyiwarp.negotiation import (
    Agreement,
    Offer,
    Role,
    StartupFrameRead,
    agree,
    check_private_data_type,
    reply_word,
    request_word,
)
from pyiwarp.pump import TURN_FPDUS, TimeLimit, reason_of

__all__ = ["Startup", "StartupState"]

REJECTED_LINGER: Final = 1.0
"""How long a rejected peer has to close TCP, in seconds: it costs the Responder a descriptor meanwhile."""

TOO_MUCH: Final = "octets follow the MPA Request before its Reply (RFC 5044 §7.1.1)"
STREAMING_EOF: Final = "the peer closed the connection before its startup frame was complete (RFC 5044 §7.1.2)"


class StartupState(Enum):
    """The states of startup; the two AWAIT states are the ones with a time limit."""

    __hash__ = object.__hash__  # members are compared by identity; Python's own hashes their names

    AWAIT_REPLY = "await reply"
    AWAIT_REQUEST = "await request"
    DECIDING = "deciding"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class StartupInput(Enum):
    """What can happen during startup."""

    __hash__ = object.__hash__

    GOOD_REQUEST = "good request"
    ACCEPTING_REPLY = "accepting reply"
    REJECTING_REPLY = "rejecting reply"
    ACCEPT = "accept"
    REJECT = "reject"
    FAULT = "fault"


NEXT: Final[dict[tuple[StartupState, StartupInput], StartupState]] = {
    (StartupState.AWAIT_REPLY, StartupInput.ACCEPTING_REPLY): StartupState.ACCEPTED,
    (StartupState.AWAIT_REPLY, StartupInput.REJECTING_REPLY): StartupState.REJECTED,
    (StartupState.AWAIT_REPLY, StartupInput.FAULT): StartupState.FAILED,
    (StartupState.AWAIT_REQUEST, StartupInput.GOOD_REQUEST): StartupState.DECIDING,
    (StartupState.AWAIT_REQUEST, StartupInput.FAULT): StartupState.FAILED,
    (StartupState.DECIDING, StartupInput.ACCEPT): StartupState.ACCEPTED,
    (StartupState.DECIDING, StartupInput.REJECT): StartupState.REJECTED,
    (StartupState.DECIDING, StartupInput.FAULT): StartupState.FAILED,
}
"""Every transition there is (RFC 5044 §7.1.2); a pair that is missing cannot happen or is a `WrongState`."""


class Startup:
    """One side of MPA startup as a pump for a driver (RFC 5044 §7.1.2).

    `on_outcome` is called once when a Request waits for its decision and once at the end; it may exchange the
    driver's pump. An Initiator's Request is ready from the beginning.
    """

    def __init__(self, role: Role, offer: Offer, on_outcome: Callable[[Startup], None]) -> None:
        self.role = role
        self.offer = offer
        self.state = StartupState.AWAIT_REPLY if role is Role.INITIATOR else StartupState.AWAIT_REQUEST
        self.agreement: Agreement | None = None
        self.error: StartupError | ConnectionLost | None = None
        self._on_outcome = on_outcome
        self._size = STARTUP_HEADER_SIZE  # of the frame as far as it is known
        # MPA-5044-7.1.1-20: a Responder has room for what may not follow a Request, so that it comes with its frame
        self._frame = bytearray(STARTUP_HEADER_SIZE + (role is Role.RESPONDER))
        self._have = 0
        self._header: tuple[StartupFrame, int] | None = None  # once it has come: the frame, and its Private Data's size
        self._peer_closed = False
        self._out: list[bytes | bytearray | memoryview] = []
        self._request: StartupFrameRead | None = None
        if role is Role.INITIATOR:
            word = request_word(offer)
            self._out.append(_frame(offer.revision, word, offer.private_data, markers=offer.markers, crc=offer.crc))

    def __repr__(self) -> str:
        return f"<Startup {self.role.value} {self.state.value}>"

    @property
    def request(self) -> StartupFrameRead:
        """The peer's Request, once the state is DECIDING."""
        if self._request is None:
            raise WrongState(f"no MPA Request has come yet: {self!r}")
        return self._request

    # --- the pump's side ---------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Room for what the frame still lacks; one octet more than a Request, to notice what may not follow it."""
        if self._have == len(self._frame):
            return memoryview(bytearray(1))
        return memoryview(self._frame)[self._have :]

    def received(self, nbytes: int) -> bool:
        """`nbytes` octets of the peer's startup frame have come."""
        if self.state is StartupState.DECIDING:
            # MPA-5044-7.1.2-11: no FPDU exists before the Reply, so these octets belong to no frame
            self._fail(MalformedStartup(TOO_MUCH))
        elif self.state in (StartupState.AWAIT_REPLY, StartupState.AWAIT_REQUEST):
            self._have += nbytes
            try:
                self._advance()
            except StartupError as error:
                self._fail(error)
        return False

    def received_eof(self) -> None:
        """The peer closed its half; no startup can succeed after that."""
        self._peer_closed = True
        self.lost(None)

    def is_completed_by(self, octets: bytes) -> bool:
        """Whether a Responder that receives `octets` next has a whole and good Request; nothing changes."""
        if self.state is not StartupState.AWAIT_REQUEST:
            return False
        trial = Startup(self.role, self.offer, lambda startup: None)
        left = memoryview(bytes(self._frame[: self._have]) + octets)
        while left and trial.state is StartupState.AWAIT_REQUEST:
            view = trial.receive_view()
            nbytes = min(len(view), len(left))
            view[:nbytes] = left[:nbytes]
            trial.received(nbytes)
            left = left[nbytes:]
        return trial.state in (StartupState.DECIDING, StartupState.REJECTED) and not left

    def set_emss(self, emss: int) -> None:
        """Startup frames are not FPDUs: TCP's segment size does not matter."""

    def resume(self) -> None:
        """Does nothing: startup never pauses its input."""

    def proceed(self, fpdus: int = TURN_FPDUS) -> None:
        """Does nothing: one frame is less than a turn's input."""

    def next_iov(self) -> list[bytes | bytearray | memoryview]:
        """The startup frame, once."""
        out, self._out = self._out, []
        return out

    def flushed(self) -> None:
        """Does nothing: startup frames complete no work request."""

    def time_limit(self) -> TimeLimit | None:
        """The limit on the wait for the peer's frame (MPA-5044-7.1.2-27)."""
        seconds = self.offer.timeout
        if self.state is StartupState.REJECTED and not self.over:
            linger = REJECTED_LINGER if seconds is None else min(seconds, REJECTED_LINGER)
            return TimeLimit("the end of the rejected connection", linger)
        if seconds is not None and self.state is StartupState.AWAIT_REPLY:
            return TimeLimit("the MPA Reply", seconds)
        if seconds is not None and self.state is StartupState.AWAIT_REQUEST:
            return TimeLimit("the MPA Request", seconds)
        return None

    def timed_out(self, limit: TimeLimit) -> None:
        """The wait took too long."""
        if limit != self.time_limit():
            return
        if self.state is StartupState.REJECTED:
            self._peer_closed = True  # it had its time to close first
        else:  # MPA-5044-7.1.2-22, MPA-5044-7.1.2-27
            message = f"{limit.waiting_for} did not come within {limit.seconds:g} s (RFC 5044 §7.1.2)"
            self._fail(StartupTimeout(message))

    def lost(self, cause: Exception | None) -> None:
        """TCP ended."""
        if (self.state, StartupInput.FAULT) in NEXT:
            told = STREAMING_EOF if cause is None else f"the connection was lost: {reason_of(cause)}"
            self._fail(ConnectionLost(told))

    @property
    def steady(self) -> bool:
        """Always false: during startup the driver asks for the time limit and the end after every event."""
        return False

    @property
    def behind(self) -> bool:
        """Always false: one frame is less than a turn's input."""
        return False

    @property
    def wants_input(self) -> bool:
        """Always true: a Responder that decides must notice when the peer closes."""
        return True

    @property
    def output_ended(self) -> bool:
        """Whether nothing will be sent any more: the driver closes its half."""
        if self.state is StartupState.REJECTED and self.offer.close_last and not self._peer_closed:
            return False  # MPA-5044-7.1.2-07: TCP is left open, so the peer may close first
        return self.state in (StartupState.REJECTED, StartupState.FAILED) and not self._out

    @property
    def over(self) -> bool:
        """Whether the driver shall close TCP: at once after a bad frame (MPA-5044-7.1.2-04, MPA-5044-8-07)."""
        return self.state is StartupState.FAILED or (self.output_ended and self._peer_closed)

    @property
    def broken(self) -> bool:
        """Always false: a startup that fails ends with a FIN, not a reset."""
        return False

    # --- the responder's decision ------------------------------------------------------------------------------------

    def accept(self, offer: Offer) -> tuple[Agreement, bytes]:
        """Agree to the Request with `offer`; returns the agreement and the Reply to send before any FPDU.

        Raises `WrongState` if no Request waits, `UsageError` if the offer's private data does not fit the Reply.
        """
        request = self.request
        word, ird, order = reply_word(request, offer)
        crc = request.crc or offer.crc  # MPA-5044-7.1.1-09
        self._check_private_data(request, offer.private_data)
        self._move(StartupInput.ACCEPT)
        self.offer = offer
        reply = _frame(request.revision, word, offer.private_data, reply=True, markers=offer.markers, crc=crc)
        self.agreement = Agreement(
            role=Role.RESPONDER,
            revision=request.revision,
            crc=crc,
            send_markers=request.markers,  # MPA-5044-7.1.1-06
            receive_markers=offer.markers,
            ird=ird,
            ord=order,
            private_data=request.private_data,
            peer_ird=request.ird,
            peer_ord=request.ord,
            peer_to_peer=request.peer_to_peer,
            first_fpdu_timeout=offer.first_fpdu_timeout,
        )
        return self.agreement, reply

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse the Request; the Reply says so and carries `private_data` (MPA-5044-7.1.2-05)."""
        request = self.request
        self._check_private_data(request, private_data)
        self._move(StartupInput.REJECT)
        word = reply_word(request, self.offer)[0]
        self._out.append(_frame(request.revision, word, private_data, reply=True, crc=request.crc, rejected=True))
        self._on_outcome(self)

    # --- internals --------------------------------------------------------------------------------------------------

    def _move(self, happened: StartupInput) -> None:
        key = (self.state, happened)
        if key not in NEXT:
            raise WrongState(f"{happened.value} while startup is in state {self.state.value!r}")
        self.state = NEXT[key]

    def _fail(self, error: StartupError | ConnectionLost) -> None:
        self._move(StartupInput.FAULT)
        self.error = error
        self._out.clear()  # MPA-5044-7.1.2-17: close, send nothing
        self._on_outcome(self)

    def _advance(self) -> None:
        """Parse as much of the frame as has come."""
        if self._have < STARTUP_HEADER_SIZE:
            self._check_key_so_far()
            return
        if self._header is None:
            self._header = self._parse_header()
        frame, pd_length = self._header
        if self._size == STARTUP_HEADER_SIZE and pd_length:
            self._size += pd_length
            # MPA-5044-7.1.2-24: bounded by 512, the parser saw to it; a driver may still hold a view of the old one
            self._frame = self._frame + bytes(pd_length)
        if self._have > self._size:
            raise MalformedStartup(TOO_MUCH)
        if self._have == self._size:
            self._finish(StartupFrameRead.of(frame, bytes(self._frame[STARTUP_HEADER_SIZE : self._size])))

    def _parse_header(self) -> tuple[StartupFrame, int]:
        """The frame so far, and the size of its Private Data; refuses a frame that cannot be the one that is due."""
        reply = self.role is Role.INITIATOR
        octets = bytes(self._frame[:STARTUP_HEADER_SIZE])
        header = faststartup.parse_startup_header(octets, reply=reply)
        if header is None:
            from pyiwarp import wire

            header = wire.parse_startup_header(octets, reply=reply)
        frame = header[0]
        if frame.revision not in (1, 2):  # MPA-5044-7.1.1-17
            raise VersionMismatch(f"the peer speaks MPA revision {frame.revision}, not 1 or 2 (RFC 5044 §7.1.1)")
        if not reply and frame.revision > self.offer.revision:  # MPA2-6581-10-06
            raise VersionMismatch("the Initiator speaks MPA revision 2, only 1 is offered here (RFC 6581 §10)")
        return header

    def _check_key_so_far(self) -> None:
        """Refuse a wrong key at its first wrong octet: such a peer may never send all twenty."""
        from pyiwarp import wire

        seen = bytes(self._frame[: min(self._have, len(REQUEST_KEY))])
        wire.check_startup_key(seen, reply=self.role is Role.INITIATOR)

    def _finish(self, received: StartupFrameRead) -> None:
        if self.role is Role.RESPONDER:
            self._request = received
            self._move(StartupInput.GOOD_REQUEST)
            if received.markers and self.offer.refuse_markers:
                self.reject()
                return
        elif received.rejected:
            self.error = Rejected(received.private_data, received.ird, received.ord)  # MPA2-6581-9.1-12
            self._move(StartupInput.REJECTING_REPLY)
        else:
            if received.markers and self.offer.refuse_markers:
                raise MarkersRefused("the peer asks for markers, which are not sent here")
            self.agreement = agree(self.offer, received)
            self._move(StartupInput.ACCEPTING_REPLY)
        self._on_outcome(self)

    @staticmethod
    def _check_private_data(request: StartupFrameRead, private_data: bytes) -> None:
        check_private_data_type(private_data)
        limit = MAX_PRIVATE_DATA - (ENHANCED_SIZE if request.enhanced else 0)
        if len(private_data) > limit:
            raise UsageError(f"{len(private_data)} octets of private data; this Reply carries at most {limit}")


def _frame(
    revision: int,
    word: bytes | None,
    private_data: bytes,
    *,
    crc: bool,
    markers: bool = False,
    reply: bool = False,
    rejected: bool = False,
) -> bytes:
    """The octets of a startup frame; with an enhanced word it is an enhanced one (MPA2-6581-6-01)."""
    whole = (word or b"") + private_data
    frame = StartupFrame(reply, markers, crc, rejected, word is not None, revision, whole)
    octets = faststartup.build_startup(frame)
    if octets is None:
        from pyiwarp import wire

        octets = wire.build_startup(frame)
    return octets
