"""RFC 7306, Atomics, the side that asks: its Requests, what counts as their end, which Responses it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, LocalCatastrophe, TerminatedByPeer
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.work import CompareSwap, FetchAdd, Immediate, Read, Send, Status, WorkOpcode
from tests.harness import Node, Pair, RawPeer, Segment, ended, octets_of, response
from tests.rfc.scene import ALL_RIGHTS, atomic_response, page, word

FLUSHED = Status.WR_FLUSH_ERR
THERE = RemoteRegion(0x7F00_0000_1000, 0x77, 8)


@pytest.fixture
def peer() -> RawPeer:
    return RawPeer()


def test_a_fetch_add_octet_by_octet(peer: RawPeer) -> None:
    # EXT-7306-5.2.1-01, -02, -08, -10, -15, EXT-7306-5.2-01, EXT-7306-4.1-01, -02, -03, -05, EXT-7306-4.2-01
    # EXT-7306-10.1-01, -10.2-01
    peer.node.post(FetchAdd(THERE, 0x0102030405060708, mask=0x80))
    (heard,) = peer.hears()
    assert heard.ulpdu == bytes.fromhex(
        "41 4A 00000000 00000001 00000001 00000000"
        "00000000 00000000 00000077 00007F0000001000"
        "0102030405060708 0000000000000080 0000000000000000 FFFFFFFFFFFFFFFF"
    )


def test_a_compare_swap_octet_by_octet(peer: RawPeer) -> None:  # EXT-7306-5.2.1-01, -02, -10, EXT-7306-10.1-01
    peer.node.post(CompareSwap(THERE, compare=1, swap=2, compare_mask=3, swap_mask=4))
    (heard,) = peer.hears()
    assert heard.ulpdu == bytes.fromhex(
        "41 4A 00000000 00000001 00000001 00000000"
        "00000002 00000000 00000077 00007F0000001000"
        "0000000000000002 0000000000000004 0000000000000001 0000000000000003"
    )


def test_any_offset_may_be_named(peer: RawPeer) -> None:  # EXT-7306-5.2.1-06
    for to in (0, 8, 4, (1 << 64) - 8):  # which address that is, only the other side knows
        peer.node.post(FetchAdd(RemoteRegion(to, 5, 8), 1))
        assert peer.expects(Opcode.ATOMIC_REQUEST).payload[12:20] == to.to_bytes(8, "big")


def test_requests_leave_in_the_order_of_posting() -> None:  # EXT-7306-5.2.1-16, EXT-7306-5.2-01
    peer = RawPeer(ord=16)
    sink = peer.node.region(8)
    for number in range(10):
        peer.node.post(FetchAdd(THERE, number), Read(sink[:], THERE)) if number == 5 else peer.node.post(
            FetchAdd(THERE, number)
        )
    heard = peer.hears()
    assert [each.msn for each in heard] == list(range(1, 12)), "Reads and Atomics count together"
    atomics = [each for each in heard if each.opcode is Opcode.ATOMIC_REQUEST]
    assert [int.from_bytes(each.payload[20:28], "big") for each in atomics] == list(range(10))
    assert {each.qn for each in heard} == {1}
    assert len({each.payload[4:8] for each in atomics}) == 10, "each has an identifier of its own"


def test_reads_and_atomics_share_ord() -> None:  # EXT-7306-5.2-01
    peer = RawPeer(ord=2)
    sink = peer.node.region(8)
    peer.node.post(Read(sink[:], THERE, 1), FetchAdd(THERE, 1, wr_id=2), FetchAdd(THERE, 1, wr_id=3))
    assert [each.opcode for each in peer.hears()] == [Opcode.READ_REQUEST, Opcode.ATOMIC_REQUEST]
    peer.sends(response(sink.stag, sink.to, bytes(8)))
    peer.expects(Opcode.ATOMIC_REQUEST, msn=3)


def test_an_atomic_is_complete_when_its_response_was_delivered(peer: RawPeer) -> None:
    # EXT-7306-5.4-08, EXT-7306-5.4-01, EXT-7306-5.2.2-07
    sink = peer.node.region(b"-" * 8, Access.LOCAL_WRITE)
    peer.node.post(FetchAdd(THERE, 1, sge=sink[:], wr_id="add"), Send(wr_id="send"))
    peer.hears()
    assert peer.node.sent() == [], "what was posted behind it waits too"
    first, second = atomic_response(0, 0x1122334455667788, last=False), Segment(opcode=0xB, qn=3, mo=12)
    peer.sends(first)
    assert (peer.node.sent(), octets_of(sink)) == ([], b"-" * 8)
    peer.sends(second)
    add, send = peer.node.sent()
    assert (add.wr_id, add.status, add.opcode) == ("add", Status.SUCCESS, WorkOpcode.FETCH_ADD)
    assert add.value == 0x1122334455667788
    assert octets_of(sink) == word(0x1122334455667788)
    assert send.wr_id == "send"


def test_a_compare_swap_tells_what_was_there(peer: RawPeer) -> None:  # EXT-7306-5.2.2-07
    peer.node.post(CompareSwap(THERE, compare=1, swap=2, wr_id="swap"))
    peer.sends(atomic_response(0, 7))
    (done,) = peer.node.sent()
    assert (done.opcode, done.value, done.nbytes) == (WorkOpcode.COMPARE_SWAP, 7, 8)


def test_responses_need_no_receive_and_count_for_themselves() -> None:  # EXT-7306-5.2.2-06, EXT-7306-5-06, -5.2.2-03
    peer = RawPeer(ord=8)
    peer.node.receive(8, "for a Send")
    sink = peer.node.region(8)
    peer.node.post(
        *[FetchAdd(THERE, 1, wr_id=n) for n in range(4)], Read(sink[:], THERE, 4), FetchAdd(THERE, 1, wr_id=5)
    )
    for number in range(4):
        peer.sends(atomic_response(number, number, msn=number + 1))
    peer.sends(response(sink.stag, sink.to, bytes(8)), atomic_response(4, 4, msn=5))
    assert ended(peer.node.sent()) == [(n, Status.SUCCESS) for n in range(6)]
    assert peer.node.received() == []


BAD: dict[str, tuple[Segment, type[errors.ProtocolViolation]]] = {
    "another identifier": (atomic_response(1, 5), errors.StreamCatastrophe),
    "11 octets": (Segment(opcode=0xB, qn=3, payload=bytes(11)), errors.MalformedMessage),
    "13 octets": (Segment(opcode=0xB, qn=3, payload=bytes(13)), errors.MessageTooLong),
    "MSN ahead": (atomic_response(0, 5, msn=2), errors.MsnOutOfRange),
    "MSN 0": (atomic_response(0, 5, msn=0), errors.MsnOutOfRange),
    "MO outside": (atomic_response(0, 5, mo=12), errors.InvalidMo),
    "on queue 0": (atomic_response(0, 5, qn=0), errors.UnexpectedOpcode),
    "on queue 1": (atomic_response(0, 5, qn=1), errors.UnexpectedOpcode),
    "on queue 2": (atomic_response(0, 5, qn=2), errors.UnexpectedOpcode),
    "RV": (atomic_response(0, 5, rv=0), errors.RdmapVersion),
    "a Read Response": (response(0, 0, bytes(8)), errors.UnexpectedOpcode),
}


@pytest.mark.parametrize("case", BAD)
def test_responses_that_are_refused(peer: RawPeer, case: str) -> None:
    # EXT-7306-5.2.2-08, EXT-7306-5-06, EXT-7306-5.2.2-04, EXT-7306-8.2-01, EXT-7306-8.2-03
    bad, violation = BAD[case]
    sink = peer.node.region(b"-" * 8, Access.LOCAL_WRITE)
    peer.node.post(FetchAdd(THERE, 1, sge=sink[:], wr_id="add"))
    peer.hears()
    peer.sends(bad)
    peer.expects_terminate(violation.term, mdr="110")
    assert ended(peer.node.sent()) == [("add", FLUSHED)]
    assert octets_of(sink) == b"-" * 8
    assert type(peer.node.qp.error) is violation


def test_a_second_response_is_refused(peer: RawPeer) -> None:  # EXT-7306-5.2.2-08, EXT-7306-5.2.2-06
    peer.node.post(FetchAdd(THERE, 1, wr_id="add"))
    peer.expects(Opcode.ATOMIC_REQUEST)
    peer.sends(atomic_response(0, 5), atomic_response(0, 5))
    assert ended(peer.node.sent()) == [("add", Status.SUCCESS)]
    peer.expects_terminate(errors.NoBufferForMsn.term)


def test_a_response_may_not_overtake_that_of_a_read() -> None:  # EXT-7306-5.2.2-06, EXT-7306-5.2.2-08
    peer = RawPeer(ord=2)
    sink = peer.node.region(b"-" * 8, Access.LOCAL_WRITE)
    peer.node.post(Read(sink[:], THERE, "read"), FetchAdd(THERE, 1, wr_id="add"))
    peer.hears()
    peer.sends(atomic_response(0, 5))
    peer.expects_terminate(errors.NoBufferForMsn.term, mdr="110")
    assert ended(peer.node.sent()) == [("read", FLUSHED), ("add", FLUSHED)]
    assert octets_of(sink) == b"-" * 8


@pytest.mark.parametrize("swap", [False, True])
def test_a_misaligned_target_is_told_by_the_peer(swap: bool) -> None:  # EXT-7306-5.1.1-01, EXT-7306-5.1.2-04
    """Only the peer knows the address behind STag and TO; the work request says what it answered."""
    pair = Pair()
    region = pair.right.pd.register(page(16), ALL_RIGHTS)
    there = region[4:12].remote()
    pair.left.post(CompareSwap(there, 0, 1, wr_id="x") if swap else FetchAdd(there, 1, wr_id="x"))
    pair.run()
    (done,) = pair.left.sent()
    assert done.status is Status.REM_OP_ERR
    assert isinstance(done.error, TerminatedByPeer)
    assert done.error.term == errors.StreamCatastrophe.term
    assert octets_of(region) == bytes(16)


OPERANDS: dict[str, Callable[[Node], FetchAdd | CompareSwap | Immediate]] = {
    "add": lambda node: FetchAdd(THERE, ALL_ONES + 1),
    "mask": lambda node: FetchAdd(THERE, 1, mask=-1),
    "compare": lambda node: CompareSwap(THERE, ALL_ONES + 1, 1),
    "swap mask": lambda node: CompareSwap(THERE, 1, 1, swap_mask=-1),
    "SGE of 7 octets": lambda node: FetchAdd(THERE, 1, sge=node.region(8)[:7]),
    "SGE that may not be written": lambda node: FetchAdd(THERE, 1, sge=node.region(8, Access(0))[:]),
    "past 2^64": lambda node: FetchAdd(RemoteRegion((1 << 64) - 7, 5, 8), 1),
    "7 octets of Immediate Data": lambda node: Immediate(bytes(7)),
    "9 octets of Immediate Data": lambda node: Immediate(bytes(9)),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_what_does_not_fit_the_message_is_refused_when_it_is_posted(peer: RawPeer, case: str) -> None:
    # EXT-7306-6.3-05
    with pytest.raises(BadWorkRequest):
        peer.node.post(OPERANDS[case](peer.node))
    peer.expects_nothing()
    assert peer.node.sent() == []


def test_a_collapse_before_the_message_is_made(peer: RawPeer) -> None:  # EXT-7306-8.1-01
    """The Terminate comes in the place of the messages, and quotes nothing."""
    peer.end.clogged = True
    peer.node.send(b"in the way", "first")
    peer.sends()
    peer.node.post(FetchAdd(THERE, 1, wr_id="add"), Immediate(bytes(8), "immediate"))
    peer.node.qp._take(peer.node.qp.stream.fail(LocalCatastrophe("no memory is left for it")))
    peer.end.clogged = False
    peer.expects(Opcode.SEND)
    peer.expects_terminate(LocalCatastrophe.term, mdr="000", payload=bytes(4))
    peer.expects_end_of_stream()
    assert ended(peer.node.sent()) == [("first", Status.SUCCESS), ("add", FLUSHED), ("immediate", FLUSHED)]
