"""MPA startup alone: its tables, its frames, its refusals (RFC 5044 §7.1, RFC 6581)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from pyiwarp import wire
from pyiwarp.codes import UNNEGOTIATED, Rtr
from pyiwarp.errors import (
    ConnectionLost,
    InsufficientIrd,
    MalformedStartup,
    MarkersRefused,
    NoMatchingRtr,
    Rejected,
    StartupTimeout,
    UsageError,
    VersionMismatch,
    WrongState,
)
from pyiwarp.negotiation import Agreement, Offer, Role
from pyiwarp.startup import NEXT, REJECTED_LINGER, Startup, StartupInput, StartupState
from tests.harness import feed

NONE = Rtr(0)
ALL = Rtr.SEND | Rtr.WRITE | Rtr.READ
CHOICES = [Rtr(bits) for bits in range(8)]


class Side:
    """A Startup and what it told."""

    def __init__(self, role: Role, offer: Offer | None = None) -> None:
        self.outcomes: list[StartupState] = []
        self.startup = Startup(role, offer or Offer(), lambda startup: self.outcomes.append(startup.state))

    @property
    def state(self) -> StartupState:
        return self.startup.state

    def hears(self, octets: bytes | bytearray, chunks: Sequence[int] = ()) -> None:
        feed(self.startup, octets, chunks)

    def says(self) -> bytes:
        return b"".join(self.startup.next_iov())

    @property
    def agreement(self) -> Agreement:
        assert self.startup.agreement is not None
        return self.startup.agreement


def initiator(**offer: Any) -> Side:
    side = Side(Role.INITIATOR, Offer(**offer))
    assert side.says()
    return side


def responder(**offer: Any) -> Side:
    return Side(Role.RESPONDER, Offer(**offer))


def frame(
    *,
    reply: bool,
    revision: int = 2,
    word: wire.Enhanced | None = None,
    private_data: bytes = b"",
    flags: int = 0x40,
    pd_length: int | None = None,
) -> bytes:
    """A startup frame with any flags, revision and length, lawful or not."""
    data = (wire.build_enhanced(word) if word else b"") + private_data
    length = len(data) if pd_length is None else pd_length
    flags |= 0x10 if word else 0
    return (wire.REPLY_KEY if reply else wire.REQUEST_KEY) + bytes([flags, revision]) + length.to_bytes(2, "big") + data


def word(ird: int = 4, order: int = 4, rtr: Rtr = NONE, *, peer_to_peer: bool | None = None) -> wire.Enhanced:
    asked = bool(rtr) if peer_to_peer is None else peer_to_peer
    return wire.Enhanced(asked, Rtr.SEND in rtr, ird, Rtr.WRITE in rtr, Rtr.READ in rtr, order)


def parsed(octets: bytes, *, reply: bool) -> tuple[wire.StartupFrame, wire.Enhanced | None, bytes]:
    head, length = wire.parse_startup_header(octets[:20], reply=reply)
    assert length == len(octets) - 20
    enhanced = wire.parse_enhanced(octets[20:]) if head.enhanced else None
    return head, enhanced, octets[24:] if enhanced else octets[20:]


def accepted(request: bytes, **offer: Any) -> tuple[Agreement, wire.Enhanced | None, bytes]:
    """A Responder's agreement, its enhanced word, and its whole Reply."""
    side = responder()
    side.hears(request)
    agreement, reply = side.startup.accept(Offer(**offer))
    return agreement, parsed(reply, reply=True)[1], reply


# --- the frames that are sent ----------------------------------------------------------------------------------------


def test_an_initiator_sends_one_request_at_once() -> None:  # MPA-5044-7.1.2-01, MPA-5044-7.1-05, MPA-5044-7.1.1-01
    side = Side(Role.INITIATOR, Offer(private_data=b"hello", ird=3, ord=5))
    head, enhanced, data = parsed(side.says(), reply=False)
    assert (head.revision, head.enhanced, head.crc, head.markers, head.rejected) == (2, True, True, False, False)
    assert enhanced == word(3, 5)  # MPA2-6581-9.2-13, MPA2-6581-9.2-15
    assert data == b"hello"  # MPA-5044-7.1.2-02
    assert side.says() == b""
    assert (side.state, side.outcomes) == (StartupState.AWAIT_REPLY, [])


def test_a_request_of_revision_1_has_no_enhanced_word() -> None:  # MPA2-6581-6-05, MPA2-6581-10-03
    side = Side(Role.INITIATOR, Offer(revision=1, crc=False, markers=True))
    octets = side.says()
    assert octets[16:] == bytes.fromhex("80 01 0000")  # MPA-5044-4.4-03


def test_crc_is_asked_for_unless_the_user_says_no() -> None:  # MPA-5044-4.4-04, MPA-5041-3-07
    # MPA-5044-1.2-02, MPA-5044-4.4-03
    assert Offer().crc
    assert Side(Role.INITIATOR).says()[16] & 0x40


def test_peer_to_peer_mode_lists_its_opening_messages() -> None:  # MPA2-6581-9.2-01, MPA2-6581-9.2-02, MPA2-6581-5-02
    for rtr in CHOICES[1:]:
        _, enhanced, _ = parsed(Side(Role.INITIATOR, Offer(rtr=rtr)).says(), reply=False)
        assert enhanced == word(16, 16, rtr)


def test_a_responder_says_nothing_before_a_valid_request() -> None:  # MPA-5044-7.1.2-03
    side = responder()
    assert side.says() == b""
    side.hears(frame(reply=False)[:-1])
    assert (side.says(), side.outcomes) == (b"", [])


@pytest.mark.parametrize(
    ("offer", "what"),
    [
        ({"revision": 1, "private_data": bytes(513)}, "512"),  # MPA-5044-7.1.1-23
        ({"revision": 2, "private_data": bytes(509)}, "508"),  # MPA2-6581-9-02
        ({"revision": 0}, "revision 0"),
        ({"revision": 3}, "revision 3"),
        ({"ird": 0x4000}, "IRD is 16384"),
        ({"ord": -1}, "ORD is -1"),
        ({"revision": 1, "rtr": Rtr.WRITE}, "revision 2"),  # MPA2-6581-6-04
    ],
)
def test_an_offer_that_does_not_fit_the_frame_is_refused(offer: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Offer(**offer)


@pytest.mark.parametrize(("revision", "size"), [(1, 0), (1, 512), (2, 0), (2, 508)])
def test_private_data_of_every_lawful_size_arrives(revision: int, size: int) -> None:
    # MPA-5044-7.1.1-22, MPA-5044-7.1.2-09, MPA-5044-7.1.2-24, MPA-5044-7.1.2-25
    data = bytes(n % 251 for n in range(size))
    left, right = Side(Role.INITIATOR, Offer(revision=revision, private_data=data)), responder()
    right.hears(left.says())
    assert right.startup.request.private_data == data
    agreement, reply = right.startup.accept(Offer(revision=revision, private_data=data[::-1]))
    left.hears(reply)
    assert left.agreement.private_data == data[::-1]
    assert left.agreement.revision == right.startup.request.revision == agreement.revision == revision
    # MPA-5044-7.1.1-18, MPA-5044-3-13


def test_the_initiator_s_revision_is_that_of_the_reply() -> None:  # MPA-5044-7.1.1-18, MPA-5044-3-13
    side = initiator(revision=2)
    side.hears(frame(reply=True, revision=1))
    assert side.agreement.revision == 1


def test_private_data_that_does_not_fit_this_reply_is_refused_and_another_may_be_tried() -> None:
    side = responder()
    side.hears(frame(reply=False, word=word()))
    with pytest.raises(UsageError, match="509 octets of private data; this Reply carries at most 508"):
        side.startup.accept(Offer(revision=1, private_data=bytes(509)))
    with pytest.raises(UsageError, match="509"):
        side.startup.reject(bytes(509))
    assert side.outcomes == [StartupState.DECIDING]
    side.startup.accept(Offer())
    assert side.state is StartupState.ACCEPTED


# --- the table -------------------------------------------------------------------------------------------------------

REQUEST, REPLY, REFUSAL = frame(reply=False), frame(reply=True), frame(reply=True, flags=0x60)


def in_state(state: StartupState) -> Side:
    match state:
        case StartupState.AWAIT_REPLY:
            return initiator()
        case StartupState.AWAIT_REQUEST:
            return responder()
        case StartupState.FAILED:
            side = initiator()
            side.hears(b"X")
        case StartupState.REJECTED:
            side = initiator()
            side.hears(REFUSAL)
        case StartupState.ACCEPTED:
            side = initiator()
            side.hears(REPLY)
        case StartupState.DECIDING:
            side = responder()
            side.hears(REQUEST)
    assert side.state is state
    return side


INPUTS = {
    StartupInput.GOOD_REQUEST: lambda side: side.hears(REQUEST),
    StartupInput.ACCEPTING_REPLY: lambda side: side.hears(REPLY),
    StartupInput.REJECTING_REPLY: lambda side: side.hears(REFUSAL),
    StartupInput.ACCEPT: lambda side: side.startup.accept(Offer()),
    StartupInput.REJECT: lambda side: side.startup.reject(),
    StartupInput.FAULT: lambda side: side.startup.lost(ConnectionResetError("cut")),
}


@pytest.mark.parametrize("fed", StartupInput)
@pytest.mark.parametrize("state", StartupState)
def test_every_state_and_every_input(state: StartupState, fed: StartupInput) -> None:
    """What the table has leads where it says; a wrong frame is a fault; a wrong call is refused; the rest is inert."""
    side = in_state(state)
    expected = NEXT.get((state, fed))
    call = fed in (StartupInput.ACCEPT, StartupInput.REJECT)
    if expected is None and call:
        with pytest.raises(WrongState):
            INPUTS[fed](side)
        assert side.state is state
        return
    INPUTS[fed](side)
    waiting = state in (StartupState.AWAIT_REPLY, StartupState.AWAIT_REQUEST, StartupState.DECIDING)
    wrong_frame = StartupState.FAILED if waiting and fed is not StartupInput.FAULT else state
    assert side.state is (expected or wrong_frame)


def test_accepting() -> None:  # MPA-5044-7.1.2-08, MPA-5044-7.1.2-10, MPA-5044-7.1.2-15, MPA-5044-7.1.1-13
    # MPA-5044-7.1.2-12
    left, right = Side(Role.INITIATOR), responder()
    right.hears(left.says())
    assert right.outcomes == [StartupState.DECIDING]
    agreement, reply = right.startup.accept(Offer(first_fpdu_timeout=7.0))
    assert (agreement.role, agreement.first_fpdu_timeout) == (Role.RESPONDER, 7.0)
    assert right.outcomes == [StartupState.DECIDING], "who accepts need not be told"
    assert right.state is StartupState.ACCEPTED
    right.hears(b"\0\x0e")  # not looked at here, and no fault: FPDUs may come now
    assert right.state is StartupState.ACCEPTED
    left.hears(reply)
    assert left.outcomes == [StartupState.ACCEPTED]
    assert left.agreement.role is Role.INITIATOR


@pytest.mark.parametrize("revision", [1, 2])
@pytest.mark.parametrize("enhanced", [False, True])
def test_rejecting(revision: int, enhanced: bool) -> None:
    # MPA-5044-7.1.2-05, -06, -07, -14, -19, MPA-5044-7.1.1-13
    side = responder(rtr=ALL)  # what a listener offers otherwise must not stand in the way of a refusal
    side.hears(frame(reply=False, revision=revision, word=word() if enhanced and revision == 2 else None))
    side.startup.reject(b"not today")
    octets = side.says()
    head, enhanced_word, data = parsed(octets, reply=True)
    assert (head.rejected, head.revision, data) == (True, revision, b"not today")
    assert (enhanced_word is not None) == (enhanced and revision == 2)
    assert side.outcomes == [StartupState.DECIDING, StartupState.REJECTED]
    assert side.startup.output_ended
    assert not side.startup.over, "TCP is left open for the peer"
    left = initiator()
    left.hears(octets)
    assert left.outcomes == [StartupState.REJECTED]
    assert isinstance(left.startup.error, Rejected)
    assert left.startup.error.private_data == b"not today"


def test_a_refusal_tells_the_responder_s_ird_and_ord() -> None:  # MPA2-6581-9.1-06, MPA2-6581-9.1-12
    side = responder(ird=3, ord=9)
    side.hears(frame(reply=False, word=word(ird=1, order=1)))
    side.startup.reject()
    assert parsed(side.says(), reply=True)[1] is not None


def test_a_rejected_connection_ends_when_the_peer_closes_or_time_is_up() -> None:
    for end in (Startup.received_eof, lambda startup: startup.timed_out(startup.time_limit())):
        side = in_state(StartupState.REJECTED)
        end(side.startup)
        assert side.startup.over


def test_an_emulated_peer_that_refuses_markers() -> None:
    """Against RFC 5044 §4.3, as some implementations do."""
    side = responder(refuse_markers=True)
    side.hears(frame(reply=False, flags=0xC0, word=word()))
    assert side.outcomes == [StartupState.REJECTED]
    assert parsed(side.says(), reply=True)[0].rejected
    left = initiator(refuse_markers=True)
    left.hears(frame(reply=True, flags=0xC0, word=word()))
    assert isinstance(left.startup.error, MarkersRefused)
    for side in (responder(refuse_markers=True), initiator(refuse_markers=True)):
        side.hears(frame(reply=side.startup.role is Role.INITIATOR, word=word()))
        assert side.outcomes[0] in (StartupState.DECIDING, StartupState.ACCEPTED), "only who asks for them is refused"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("wrong", [0, 8, 15])
def test_a_wrong_key_is_refused_at_its_first_wrong_octet(role: Role, wrong: int) -> None:
    # MPA-5044-7.1.1-02, MPA-5044-7.1.1-04, MPA-5044-7.1.2-17, MPA-5044-7.1.2-04, MPA-5044-7.1.2-13, MPA-5044-8-07
    side = Side(role)
    key = bytearray(frame(reply=role is Role.INITIATOR)[:16])
    key[wrong] ^= 0x80
    side.hears(key[:wrong])
    assert not side.outcomes
    side.hears(key[wrong : wrong + 1])
    assert side.outcomes == [StartupState.FAILED]
    assert isinstance(side.startup.error, MalformedStartup)
    assert side.startup.over, "TCP is closed at once"
    assert side.says() == b"", "nothing is said"


def test_two_initiators_notice_each_other() -> None:  # MPA-5044-7.1.2-21
    side = initiator()
    side.hears(frame(reply=False))
    assert isinstance(side.startup.error, MalformedStartup)
    assert "both sides are Initiators" in str(side.startup.error)


def test_a_responder_refuses_a_reply() -> None:
    side = responder()
    side.hears(frame(reply=True))
    assert "Reply came where a Request is due" in str(side.startup.error)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("revision", [0, 3, 255])
def test_other_revisions_are_refused(role: Role, revision: int) -> None:  # MPA-5044-7.1.1-17
    side = Side(role)
    side.hears(frame(reply=role is Role.INITIATOR, revision=revision))
    assert isinstance(side.startup.error, VersionMismatch)
    assert f"revision {revision}" in str(side.startup.error)
    assert side.startup.over


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("length", [513, 0xFFFF])
def test_too_much_private_data_is_refused_unseen(role: Role, length: int) -> None:
    # MPA-5044-7.1.1-21, MPA-5044-7.1.2-23, MPA-5044-7.1.2-26
    side = Side(role)
    side.hears(frame(reply=role is Role.INITIATOR, pd_length=length))
    assert isinstance(side.startup.error, MalformedStartup)


@pytest.mark.parametrize("size", [0, 3])
def test_an_enhanced_frame_without_its_word_is_refused(size: int) -> None:  # MPA2-6581-6-08, MPA2-6581-12-01
    side = responder()
    side.hears(frame(reply=False, flags=0x50, private_data=bytes(size)))
    assert isinstance(side.startup.error, MalformedStartup)


@pytest.mark.parametrize("private_data", [b"", b"data"])
@pytest.mark.parametrize("together", [True, False])
def test_octets_behind_the_request_are_refused(private_data: bytes, together: bool) -> None:
    # MPA-5044-7.1.2-11, -23, -26, MPA-5044-7.1.1-20: if they come together, before a program could accept
    side = responder()
    octets = frame(reply=False, private_data=private_data) + b"\x00\x00\x00\x00"
    for piece in [octets] if together else [octets[:-4], octets[-4:]]:
        side.hears(piece)
    assert side.outcomes == ([StartupState.FAILED] if together else [StartupState.DECIDING, StartupState.FAILED])
    assert "before its Reply" in str(side.startup.error)
    with pytest.raises(WrongState):
        side.startup.accept(Offer())


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("size", [0, 1, 19, 20, 23])
def test_a_peer_that_leaves_too_early(role: Role, size: int) -> None:  # MPA-5044-7.1.1-20, MPA-5044-7.1.2-23
    side = Side(role)
    side.hears(frame(reply=role is Role.INITIATOR, private_data=b"data")[:size])
    side.startup.received_eof()
    assert side.outcomes == [StartupState.FAILED]
    assert isinstance(side.startup.error, ConnectionLost)
    assert side.startup.over


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_says_nothing(role: Role) -> None:  # MPA-5044-7.1.2-22, MPA-5044-7.1.2-27
    side = Side(role, Offer(timeout=0.25))
    limit = side.startup.time_limit()
    assert limit is not None
    assert limit.seconds == 0.25
    for octet in frame(reply=role is Role.INITIATOR)[:5]:
        side.hears(bytes([octet]))
        assert side.startup.time_limit() == limit, "a trickle of octets begins no new wait"
    side.startup.timed_out(limit._replace(seconds=1.0))  # an old timer
    assert not side.outcomes
    side.startup.timed_out(limit)
    assert isinstance(side.startup.error, StartupTimeout)
    assert "did not come within 0.25 s" in str(side.startup.error)
    assert side.startup.time_limit() is None


@pytest.mark.parametrize("role", Role)
def test_an_offer_without_a_limit_waits_for_as_long_as_it_takes(role: Role) -> None:
    side = Side(role, Offer(timeout=None))
    assert side.startup.time_limit() is None
    side.hears(frame(reply=role is Role.INITIATOR)[:5])
    assert side.startup.time_limit() is None
    side.hears(frame(reply=role is Role.INITIATOR)[5:])
    assert side.outcomes == [StartupState.ACCEPTED if role is Role.INITIATOR else StartupState.DECIDING]


def test_a_rejected_peer_has_a_limit_all_the_same() -> None:
    side = responder(timeout=None)
    side.hears(frame(reply=False))
    side.startup.reject(b"")
    limit = side.startup.time_limit()
    assert limit is not None
    assert limit.seconds == REJECTED_LINGER


def test_deciding_has_all_the_time() -> None:
    assert in_state(StartupState.DECIDING).startup.time_limit() is None


def test_no_request_can_be_looked_at_before_it_came() -> None:
    with pytest.raises(WrongState, match="no MPA Request has come"):
        _ = responder().startup.request
    assert repr(responder().startup) == "<Startup responder await request>"


# --- what is ignored -------------------------------------------------------------------------------------------------


def test_reserved_bits_and_the_r_bit_of_a_request_are_ignored() -> None:  # MPA-5044-7.1.1-12, -15, MPA2-6581-6-03
    side = responder()
    side.hears(frame(reply=False, flags=0x6F))
    assert side.state is StartupState.DECIDING
    assert not side.startup.request.rejected


def test_the_s_bit_means_nothing_in_revision_1() -> None:  # MPA-5044-7.1.1-15, MPA2-6581-6-04
    side = responder()
    side.hears(frame(reply=False, revision=1, flags=0x5F, private_data=b"abc"))
    assert side.startup.request.private_data == b"abc"
    _, reply = side.startup.accept(Offer())
    head, enhanced, _ = parsed(reply, reply=True)
    assert (head.revision, head.enhanced, enhanced) == (1, False, None)  # MPA2-6581-6-06, MPA2-6581-10-04


@pytest.mark.parametrize("revision", [1, 2])
def test_unenhanced_in_unenhanced_out(revision: int) -> None:  # MPA2-6581-10-02, MPA2-6581-10-05
    agreement, enhanced, reply = accepted(frame(reply=False, revision=revision), ird=3, ord=5)
    assert enhanced is None
    assert reply[16] == 0x40  # MPA-5044-7.1.1-14, MPA2-6581-6-02
    assert (agreement.ird, agreement.ord, agreement.peer_ird, agreement.peer_ord) == (3, 5, None, None)


def test_enhanced_in_enhanced_out() -> None:  # MPA2-6581-10-01, MPA2-6581-6-01
    _, enhanced, reply = accepted(frame(reply=False, word=word()))
    assert enhanced is not None
    assert reply[16:18] == b"\x50\x02"


@pytest.mark.parametrize("chunk", [1, 2, 7, 19, 20, 21])
def test_any_chunking_gives_the_same_result(chunk: int) -> None:
    left, right = Side(Role.INITIATOR, Offer(private_data=b"p" * 99)), responder()
    right.hears(left.says(), [chunk] * 200)
    _, reply = right.startup.accept(Offer(private_data=b"q" * 98))
    left.hears(reply, [chunk] * 200)
    assert right.startup.request.private_data == b"p" * 99
    assert left.agreement.private_data == b"q" * 98


def test_a_startup_takes_not_one_octet_too_many() -> None:  # MPA-5044-7.1-01
    side = initiator()
    taken = 0
    octets = frame(reply=True, word=word(), private_data=b"data") + b"FPDU"
    while side.state is StartupState.AWAIT_REPLY:
        view = side.startup.receive_view()
        view[:] = octets[taken : taken + len(view)]
        taken += len(view)
        side.startup.received(len(view))
    assert octets[taken:] == b"FPDU"


# --- what is agreed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_crc", "reply_crc"), list(itertools.product([False, True], repeat=2)))
def test_crc_is_used_if_either_wants_it(request_crc: bool, reply_crc: bool) -> None:
    # MPA-5044-7.1.1-08, MPA-5044-7.1.1-09, MPA-5044-4.4-05, MPA-5044-4.4-08, MPA-5044-4.4-09
    left, right = Side(Role.INITIATOR, Offer(crc=request_crc)), responder()
    right.hears(left.says())
    agreement, reply = right.startup.accept(Offer(crc=reply_crc))
    left.hears(reply)
    assert agreement.crc is left.agreement.crc is (request_crc or reply_crc)


@pytest.mark.parametrize(("left_wants", "right_wants"), list(itertools.product([False, True], repeat=2)))
def test_markers_go_to_whoever_asked(left_wants: bool, right_wants: bool) -> None:
    # MPA-5044-7.1.1-05, MPA-5044-7.1.1-06, MPA-5044-7.1.1-07, MPA-5044-4.3-01, MPA-5044-4.3-02
    left, right = Side(Role.INITIATOR, Offer(markers=left_wants)), responder()
    right.hears(left.says())
    agreement, reply = right.startup.accept(Offer(markers=right_wants))
    left.hears(reply)
    assert (left.agreement.receive_markers, left.agreement.send_markers) == (left_wants, right_wants)
    assert (agreement.receive_markers, agreement.send_markers) == (right_wants, left_wants)


@pytest.mark.parametrize(
    ("peer", "mine", "replied", "used"),  # each IRD, ORD: the Initiator's, ours, what the Reply says, what we use
    [
        ((4, 4), (16, 16), (16, 4), (16, 4)),  # MPA2-6581-9.1-02, MPA2-6581-9.1-04
        ((16, 16), (4, 4), (4, 4), (4, 4)),
        ((0, 0), (4, 4), (4, 0), (4, 0)),
        ((4, UNNEGOTIATED), (5, 6), (UNNEGOTIATED, 4), (5, 4)),  # MPA2-6581-9.1-14
        ((UNNEGOTIATED, 4), (5, 6), (5, UNNEGOTIATED), (5, 6)),  # MPA2-6581-9.1-16
        ((UNNEGOTIATED, UNNEGOTIATED), (5, 6), (UNNEGOTIATED, UNNEGOTIATED), (5, 6)),  # MPA2-6581-9.1-13
    ],
)
def test_what_a_responder_makes_of_ird_and_ord(
    peer: tuple[int, int], mine: tuple[int, int], replied: tuple[int, int], used: tuple[int, int]
) -> None:
    agreement, enhanced, _ = accepted(frame(reply=False, word=word(*peer)), ird=mine[0], ord=mine[1])
    assert enhanced is not None
    assert (enhanced.ird, enhanced.ord) == replied
    assert (agreement.ird, agreement.ord) == used
    assert (agreement.peer_ird, agreement.peer_ord) == peer  # MPA2-6581-9.1-01


@pytest.mark.parametrize(
    ("mine", "reply", "used"),
    [
        ((16, 16), (4, 4), (16, 4)),  # MPA2-6581-9.1-08, MPA2-6581-9.1-09, MPA2-6581-9.3-01
        ((4, 4), (16, 4), (4, 4)),
        ((4, 5), (UNNEGOTIATED, 4), (4, 5)),  # MPA2-6581-9.1-15
        ((4, 5), (5, UNNEGOTIATED), (4, 5)),  # MPA2-6581-9.1-17
    ],
)
def test_what_an_initiator_makes_of_ird_and_ord(
    mine: tuple[int, int], reply: tuple[int, int], used: tuple[int, int]
) -> None:
    # MPA2-6581-9.1-05
    side = initiator(ird=mine[0], ord=mine[1])
    side.hears(frame(reply=True, word=word(*reply)))
    assert (side.agreement.ird, side.agreement.ord) == used
    assert side.agreement.fault is None
    assert (side.agreement.peer_ird, side.agreement.peer_ord) == reply  # MPA2-6581-9.1-01, MPA2-6581-9.1-12


def test_an_initiator_that_cannot_take_so_many_reads() -> None:  # MPA2-6581-9.1-10
    side = initiator(ird=4)
    side.hears(frame(reply=True, word=word(4, 5)))
    assert isinstance(side.agreement.fault, InsufficientIrd)
    assert side.agreement.fault.args == (5, 4)


@pytest.mark.parametrize("asked", CHOICES[1:])
@pytest.mark.parametrize("supported", CHOICES)
def test_every_choice_of_an_opening_message(asked: Rtr, supported: Rtr) -> None:
    # MPA2-6581-9.2-03, -04, -05, -07, -09, -10, -11
    left, right = Side(Role.INITIATOR, Offer(rtr=asked)), responder()
    right.hears(left.says())
    agreement, reply = right.startup.accept(Offer(rtr=supported))
    _, enhanced, _ = parsed(reply, reply=True)
    assert enhanced is not None
    assert agreement.peer_to_peer
    assert enhanced.peer_to_peer
    known = supported or ALL
    listed = word(rtr=asked & known or known)
    assert enhanced[1::2][:1] + enhanced[3:5] == listed[1::2][:1] + listed[3:5]
    left.hears(reply)
    if asked & known:
        assert left.agreement.rtr in list(Rtr)
        assert left.agreement.rtr & asked & known
        assert left.agreement.fault is None
    else:
        assert isinstance(left.agreement.fault, NoMatchingRtr)


def test_the_opening_message_is_the_cheapest_that_works() -> None:
    for listed, order, chosen in [
        (ALL, 4, Rtr.WRITE),
        (Rtr.SEND | Rtr.READ, 4, Rtr.READ),
        (Rtr.SEND | Rtr.READ, 0, Rtr.SEND),  # a Read needs ORD
        (Rtr.SEND, 4, Rtr.SEND),
    ]:
        side = initiator(rtr=ALL, ord=order)
        side.hears(frame(reply=True, word=word(rtr=listed)))
        assert side.agreement.rtr is chosen


@pytest.mark.parametrize(("peer_ird", "chosen", "ord"), [(1, Rtr.READ, 1), (UNNEGOTIATED, Rtr.READ, 1), (0, Rtr(0), 0)])
def test_a_program_without_reads_can_open_with_one(peer_ird: int, chosen: Rtr, ord: int) -> None:
    side = initiator(rtr=ALL, ord=0)
    side.hears(frame(reply=True, word=word(ird=peer_ird, rtr=Rtr.READ)))  # MPA2-6581-9.3-01
    assert side.agreement.rtr is chosen
    assert side.agreement.ord == ord
    assert (side.agreement.fault is None) == bool(chosen)


def test_a_read_as_opening_message_needs_room_for_one_read() -> None:  # MPA2-6581-9.1-03
    agreement, enhanced, _ = accepted(frame(reply=False, word=word(order=0, rtr=Rtr.READ)), ird=0)
    assert enhanced is not None
    assert agreement.ird == enhanced.ird == 1


def test_client_server_mode_ignores_the_rtr_bits() -> None:  # MPA2-6581-9.2-14, MPA2-6581-9.2-16
    octets = bytearray(frame(reply=False, word=word()))
    octets[20] |= 0x40
    octets[22] |= 0xC0
    agreement, enhanced, _ = accepted(bytes(octets), rtr=ALL)
    assert enhanced == word(16, 4)
    assert not agreement.peer_to_peer


def test_an_initiator_whose_peer_ignores_the_wish_for_peer_to_peer_mode() -> None:  # MPA2-6581-9.2-11
    side = initiator(rtr=ALL)
    side.hears(frame(reply=True, word=word()))
    assert isinstance(side.agreement.fault, NoMatchingRtr)


def test_the_rest_of_the_pump_is_inert() -> None:
    side = responder()
    side.startup.set_emss(1448)
    side.startup.resume()
    side.startup.flushed()
    assert side.startup.wants_input
    assert not side.startup.output_ended
    side.hears(b"x")
    side.hears(b"more of the same")
    assert side.outcomes == [StartupState.FAILED]
    side.startup.lost(None)
    assert side.outcomes == [StartupState.FAILED]


@pytest.mark.parametrize(
    ("read", "waiting", "completed"),
    [
        (0, frame(reply=False), True),
        (7, frame(reply=False), True),
        (0, frame(reply=False, private_data=bytes(508), word=word()), True),
        (30, frame(reply=False, private_data=b"hello from afar"), True),
        (0, frame(reply=False)[:-1], False),
        (0, frame(reply=False, private_data=b"hello")[:-1], False),
        (0, frame(reply=False) + b"x", False),
        (0, frame(reply=True), False),
        (0, frame(reply=False, revision=3), False),
        (0, b"", False),
    ],
)
def test_octets_that_complete_a_request_are_known_before_they_are_read(
    read: int, waiting: bytes, *, completed: bool
) -> None:
    side = responder()
    side.hears(waiting[:read])
    for _ in range(2):
        assert side.startup.is_completed_by(waiting[read:]) is completed
        assert (side.state, side.outcomes) == (StartupState.AWAIT_REQUEST, [])
    if completed:
        side.hears(waiting[read:])
        assert side.state is StartupState.DECIDING
        assert not side.startup.is_completed_by(b"")
    assert not initiator().startup.is_completed_by(frame(reply=True))
