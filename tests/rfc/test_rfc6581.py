"""RFC 6581: enhanced startup as two ends that both negotiate see it, and as a peer that sends any word sees it."""

from __future__ import annotations

import itertools

import pytest

from pyiwarp import Options
from pyiwarp.codes import UNNEGOTIATED, Rtr
from pyiwarp.errors import InsufficientIrd, NoMatchingRtr, Rejected, VersionMismatch
from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Offer, Role
from pyiwarp.queues.work import Read
from pyiwarp.startup import StartupState
from tests.harness import Pair, fpdu, octets_of, read, write
from tests.rfc.test_rfc5044_startup import REPLY, REQUEST, Wire, frame

THERE = RemoteRegion(0, 0x77, 4)


def word(ird: int, order: int, rtr: int = 0) -> bytes:
    """A, B, IRD, C, D, ORD by the figure; `rtr` as bits A, B, C, D."""
    return (
        ((rtr >> 3 & 1) << 31) | ((rtr >> 2 & 1) << 30) | ird << 16 | ((rtr >> 1 & 1) << 15) | ((rtr & 1) << 14) | order
    ).to_bytes(4, "big")


def request(ird: int = 4, order: int = 4, rtr: int = 0, flags: int = 0x50) -> bytes:
    return frame(REQUEST, flags, 2, word(ird, order, rtr))


def reply(ird: int = 4, order: int = 4, rtr: int = 0, flags: int = 0x50) -> bytes:
    return frame(REPLY, flags, 2, word(ird, order, rtr))


def responder(octets: bytes, offer: Offer) -> Wire:
    side = Wire(Role.RESPONDER, offer)
    side.hears(octets)
    return side


# --- the word --------------------------------------------------------------------------------------------------------


def test_the_enhanced_word_octet_by_octet() -> None:
    # MPA2-6581-9-01, MPA2-6581-6-01, -02, -07, -08, MPA2-6581-9.2-01, -02, MPA-5044-7.1.1-16
    side = Wire(Role.INITIATOR, Offer(ird=1, ord=2, rtr=Rtr.WRITE, private_data=b"0123456789"))
    assert side.said == REQUEST + bytes.fromhex("50 02 000E  80018002") + b"0123456789"


@pytest.mark.parametrize("bits", range(16))
def test_the_rtr_bits_of_a_reply(bits: int) -> None:
    # MPA-5044-7.1.1-16, MPA2-6581-9.2-03, -04, -05, -07, -09, -14, -15, -16
    # each choice of the Initiator with each of the Responder
    for supported in range(1, 8):
        rtr = Rtr(0)
        for mask, kind in ((4, Rtr.SEND), (2, Rtr.WRITE), (1, Rtr.READ)):
            rtr |= kind if supported & mask else Rtr(0)
        side = responder(request(rtr=bits), Offer(rtr=rtr))
        assert side.said[:18] == REPLY + b"\x50\x02"
        answered = int.from_bytes(side.said[20:24], "big")
        said = (answered >> 31 & 1) << 3 | (answered >> 30 & 1) << 2 | (answered >> 15 & 1) << 1 | (answered >> 14 & 1)
        if not bits & 8:
            assert said == 0, "client-server in, client-server out, whatever the other bits hold"
        else:
            assert said == 8 | (bits & supported or supported)


DEPTHS = [0, 1, 4, 16, 0x3FFE, UNNEGOTIATED]


@pytest.mark.parametrize("ird", DEPTHS)
@pytest.mark.parametrize("order", DEPTHS)
def test_ird_and_ord_of_a_reply(ird: int, order: int) -> None:
    # MPA2-6581-9.1-01, -02, -04, -05, -13, -14, -16, MPA2-6581-12-01
    side = responder(request(ird, order), Offer(ird=6, ord=5))
    answered = int.from_bytes(side.said[20:24], "big")
    their_ird, their_ord = answered >> 16 & 0x3FFF, answered & 0x3FFF
    assert their_ird == (UNNEGOTIATED if order == UNNEGOTIATED else 6)
    assert their_ord == (UNNEGOTIATED if ird == UNNEGOTIATED else min(5, ird))
    agreement = side.node.qp.stream.agreement
    assert (agreement.ird, agreement.ord) == (6, 5 if ird == UNNEGOTIATED else min(5, ird))
    assert (agreement.peer_ird, agreement.peer_ord) == (ird, order)


@pytest.mark.parametrize(("ird", "order"), [(0, 4), (2, 4), (4, 0), (UNNEGOTIATED, 4), (4, UNNEGOTIATED), (4, 4)])
def test_what_the_initiator_keeps_to(ird: int, order: int) -> None:
    # MPA2-6581-9.1-08, -09, -13, -15, -17: by its behaviour, with more Reads posted than are allowed
    side = Wire(Role.INITIATOR, Offer(ird=4, ord=8))
    sink = side.node.region(4)
    side.hears(reply(ird, order))
    allowed = 8 if ird == UNNEGOTIATED else min(ird, 8)
    for number in range(8 if allowed else 0):
        side.node.post(Read(sink[:], THERE, number))
    side.settle()
    assert (len(side.said) - 24) // 52 == allowed
    agreement = side.node.qp.stream.agreement
    assert (agreement.ird, agreement.ord) == (4, allowed)
    said, source = len(side.said), side.node.region(b"data")
    asked = 0 if order == 0 else 4
    side.hears(b"".join(fpdu(read(source, size=4).octets(msn)) for msn in range(1, asked + 1)))
    assert len(side.said) - said == asked * (2 + 14 + 4 + 4), "as many as it agreed to are answered, all asked at once"


def test_a_program_can_leave_ird_and_ord_alone() -> None:  # MPA2-6581-9.1-13
    """With 0x3FFF it says that it settles them with the other program."""
    side = Wire(Role.INITIATOR, Offer(ird=UNNEGOTIATED, ord=UNNEGOTIATED))
    assert side.said[20:] == bytes.fromhex("3FFF3FFF")
    side.hears(reply(UNNEGOTIATED, UNNEGOTIATED))
    assert side.startup.state is StartupState.ACCEPTED
    assert side.node.qp.error is None
    answered = responder(request(4, 4), Offer(ird=UNNEGOTIATED, ord=4))
    assert answered.said[20:] == bytes.fromhex("3FFF0004")


@pytest.mark.parametrize("left", [(1, 1), (4, 4), (16, 2), (2, 16)])
@pytest.mark.parametrize("right", [(1, 1), (4, 4), (16, 2), (2, 16)])
def test_what_two_ends_agree_on_can_be_kept(left: tuple[int, int], right: tuple[int, int]) -> None:
    # MPA2-6581-9.1-05: neither asks for more than the other answers; as many Reads as are allowed all succeed
    pair = Pair(initiator=Offer(ird=left[0], ord=left[1]), responder=Offer(ird=right[0], ord=right[1]))
    one, other = (node.qp.stream.agreement for node in pair.nodes)
    assert one.ord <= other.ird
    assert other.ord <= one.ird
    for asking, answering in (pair.nodes, pair.nodes[::-1]):
        source, sink = answering.region(b"data"), asking.region(4)
        asking.post(*[Read(sink[:], source[:].remote(), n) for n in range(40)])
    pair.run()
    assert [len([done for done in node.sent() if done.ok]) for node in pair.nodes] == [40, 40]


@pytest.mark.parametrize(("ird", "order", "rtr"), [(4, 5, 0), (4, 0x3FFE, 0), (4, 4, 8 | 1)])
def test_an_agreement_that_the_initiator_cannot_keep(ird: int, order: int, rtr: int) -> None:
    # MPA2-6581-9.1-07, -10, -11, MPA2-6581-9.2-11, -12, MPA2-6581-8-01: a Terminate, and then the end
    side = Wire(Role.INITIATOR, Offer(ird=4, ord=4, rtr=Rtr.WRITE if rtr else Rtr(0)))
    side.hears(reply(ird, order, rtr))
    terminate = side.said[24:]
    code = "2006" if order > 4 else "2007"
    assert terminate[2:4] == b"\x41\x47"
    assert terminate[20:24] == bytes.fromhex(code + "0000")
    assert len(terminate) == 28
    assert side.end.sent_fin
    assert type(side.node.qp.error) is (InsufficientIrd if order > 4 else NoMatchingRtr)


@pytest.mark.parametrize("enhanced", [True, False])
def test_a_rejection_tells_the_initiator_s_program_what_was_needed(enhanced: bool) -> None:
    # MPA2-6581-9.1-12, MPA2-6581-9.1-06, MPA-5044-7.1.2-14, ambiguities 24 and 27
    side = Wire(Role.INITIATOR, Offer(private_data=b"please"))
    side.hears(frame(REPLY, 0x70, 2, word(7, 9) + b"no") if enhanced else frame(REPLY, 0x60, 2, b"no"))
    error = side.startup.error
    assert isinstance(error, Rejected)
    assert (error.private_data, error.ird, error.ord) == (b"no", *((7, 9) if enhanced else (None, None)))
    assert side.end.sent_fin
    assert not side.end.closed, "TCP is not reset"
    assert side.said == frame(REQUEST, 0x50, 2, word(16, 16) + b"please")


# --- the opening message ---------------------------------------------------------------------------------------------

VECTORS = {  # bit of the Reply, the FPDU: MPA2-6581-9.2-17
    4: "0012 4143 00000000 00000000 00000001 00000000 587BE8C4",
    2: "000E C140 00000001 0000000000000000 EBD34C5F",
    1: "002E 4141 00000000 00000001 00000001 00000000 00000001 0000000000000000 00000000 00000001 0000000000000000",
}


@pytest.mark.parametrize("bit", VECTORS)
def test_the_opening_message_octet_by_octet(bit: int) -> None:
    # MPA2-6581-9.2-10, -17, MPA2-6581-5-01, MPA2-6581-9.3-01, ambiguity 29: the one that the Reply names, at once
    side = Wire(Role.INITIATOR, Offer(rtr=Rtr.SEND | Rtr.WRITE | Rtr.READ))
    side.hears(reply(rtr=8 | bit))
    octets = side.said[24:]
    expected = bytes.fromhex(VECTORS[bit])
    assert octets[: len(expected)] == expected
    assert len(octets) == len(expected) + (4 if bit == 1 else 0)


@pytest.mark.parametrize("rtr", [Rtr.SEND, Rtr.READ, Rtr.SEND | Rtr.WRITE])
def test_a_program_says_which_opening_messages_it_wants(rtr: Rtr) -> None:  # MPA2-6581-5-02, MPA2-6581-9.2-02
    side = Wire(Role.INITIATOR, Options(rtr=rtr).offer(b""))
    bits = 8 | (4 if rtr & Rtr.SEND else 0) | (2 if rtr & Rtr.WRITE else 0) | (1 if rtr & Rtr.READ else 0)
    assert side.said == request(16, 16, bits)
    assert Wire(Role.INITIATOR, Options(rtr=Rtr(0)).offer(b"")).said == request(16, 16)


def test_no_other_fpdu_comes_before_it() -> None:  # MPA2-6581-5-01, MPA2-6581-9.2-18
    side = Wire(Role.INITIATOR, Offer(rtr=Rtr.SEND))
    side.hears(reply(rtr=8 | 4))
    side.node.send(b"x")
    side.settle()
    octets = side.said[24:]
    assert octets[:24] == bytes.fromhex(VECTORS[4])
    assert octets[24 + 12 : 24 + 16] == (2).to_bytes(4, "big")


@pytest.mark.parametrize("asked", Rtr)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_peer_to_peer_mode_opens_both_directions(asked: Rtr, chunk: int) -> None:
    # MPA2-6581-9.2-18, -19, MPA2-6581-9.1-03, ambiguity 28: the Responder speaks although the Initiator does not
    offer = Offer(rtr=asked, ord=0 if asked is not Rtr.READ else 1)
    pair = Pair(initiator=offer, responder=Offer(rtr=asked, ird=1), chunk=chunk, opened=False)
    if asked is Rtr.SEND:
        assert pair.right.qp.error is not None, "nobody posted a receive for it"
        return
    assert not pair.right.qp.stream.muted
    pair.left.receive(8)
    pair.right.send(b"unasked")
    pair.run()
    assert [done.nbytes for done in pair.left.received()] == [7]


# --- revisions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0x40, 0x50, 0x5F])
def test_an_enhanced_request_where_only_revision_1_is_offered(flags: int) -> None:  # MPA2-6581-10-06, MPA-5044-7.1.1-17
    side = responder(frame(REQUEST, flags, 2, word(4, 4)), Offer(revision=1))
    assert isinstance(side.startup.error, VersionMismatch)
    assert side.startup.state is StartupState.FAILED
    assert (side.end.closed, side.said) == (True, b"")


def test_revision_1_is_always_taken() -> None:  # MPA2-6581-6-06, MPA2-6581-10-02, -04, -05
    for revision, offer in itertools.product((1, 2), (Offer(), Offer(rtr=Rtr.WRITE))):
        side = responder(frame(REQUEST, 0x40, revision, b"data"), offer)
        assert side.said == frame(REPLY, 0x40, revision)
        region = side.node.region(4)
        side.hears(fpdu(write(region.stag, region.to, b"abcd").octets(0)))
        assert octets_of(region) == b"abcd"
        assert side.node.qp.stream.agreement.private_data == b"data"


@pytest.mark.parametrize("size", range(4))
def test_an_enhanced_frame_without_its_word(size: int) -> None:  # MPA2-6581-6-08, ambiguity 27
    side = responder(frame(REQUEST, 0x50, 2, bytes(size)), Offer())
    assert (side.startup.state, side.end.closed, side.said) == (StartupState.FAILED, True, b"")


def test_an_initiator_that_wants_nothing_enhanced() -> None:  # MPA2-6581-10-03, MPA2-6581-6-04, -05
    side = Wire(Role.INITIATOR, Offer(revision=1, private_data=b"data"))
    assert side.said == frame(REQUEST, 0x40, 1, b"data")
    side.hears(frame(REPLY, 0x40, 1))
    side.node.send(b"x")
    side.settle()
    assert side.said[len(frame(REQUEST, 0x40, 1, b"data")) :][3] == 0x43
