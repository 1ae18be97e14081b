"""The engine and memory that is read or withdrawn: Reads of both sides, Send with Invalidate (RFC 5040 §5.2, §5.3).

Each test is a transcript, as in `test_stream`.
"""

from __future__ import annotations

import pytest
from crc32c import crc32c

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.work import Read, Recv, Send, Status
from tests.harness import RawPeer, cut, ended, feed, octets_of, read, response, send, write
from tests.unit.stage import Stage, asked, stage

__all__ = ["stage"]  # the fixture

FLUSHED = Status.WR_FLUSH_ERR


# --- Send with Invalidate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL])
def test_send_with_invalidate_on_delivery(stage: Stage, opcode: Opcode) -> None:
    # SEC-5042-6.2.2-02, SEC-5041-8.3.1-07, SEC-5040-8.1.1-06
    # RDMAP-5040-5.3-12..-14, RDMAP-5040-4.1-03, RDMAP-5040-7.2-04
    first, last = cut(send(b"done with it", opcode=opcode, inval_stag=stage.region.stag), 5)
    stage.peer.sends(first)
    assert stage.region.is_open
    stage.peer.sends(write(stage.region.stag, stage.region.to, b"still"))
    stage.peer.sends(last)
    assert not stage.region.is_open
    (completion,) = stage.node.received()
    assert completion.inval_stag == stage.region.stag
    assert completion.solicited is (opcode is Opcode.SEND_SE_INVAL)
    stage.peer.sends(write(stage.region.stag, stage.region.to, b"late"))
    stage.peer.expects_terminate(errors.InvalidStag.term)


@pytest.mark.parametrize("which", ["foreign", "unknown", "receive"])
def test_send_with_invalidate_of_what_is_not_the_peer_s(stage: Stage, which: str) -> None:
    # RDMAP-5040-5.3-13, -15, RDMAP-5040-7.2-04, -05, ambiguities 9 and 13
    stag = {"foreign": stage.foreign.stag, "unknown": 5, "receive": stage.receive.stag}[which]
    bad = send(b"mine!", opcode=Opcode.SEND_INVAL, inval_stag=stag)
    stage.peer.sends(bad)
    stage.peer.expects_terminate(errors.CannotInvalidate.term, mdr="110", quoted=bad.octets(1)[:18])
    assert stage.foreign.is_open
    assert stage.receive.is_open
    assert ended(stage.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


def test_a_region_that_is_read_while_it_is_invalidated(stage: Stage) -> None:
    big = stage.node.region(b"d" * 5000)
    stage.peer.end.clogged = True
    stage.peer.sends(read(big, size=5000), send(b"", opcode=Opcode.SEND_INVAL, inval_stag=big.stag))
    assert not big.is_open
    assert big.pins == 1
    stage.peer.end.clogged = False
    assert b"".join(heard.payload for heard in stage.peer.hears()) == b"d" * 5000
    assert big.pins == 0


def test_an_answer_is_pinned_as_long_as_the_transport_reads_it(stage: Stage) -> None:
    """Even if an error has ended the stream in the middle of it."""
    big = stage.node.pd.register(bytes(1_000_000), Access.REMOTE_READ)
    stage.peer.end.clogged = True
    stage.peer.sends(read(big, size=1_000_000))
    stage.peer.sends(write(1, 0, b"x"))
    assert big.pins == 1
    with pytest.raises(errors.RegionInUse):
        big.close()
    stage.peer.end.clogged = False
    assert stage.peer.hears()[-1].opcode is Opcode.TERMINATE
    assert big.pins == 0


def test_answers_that_have_not_left_when_tcp_ends_pin_nothing() -> None:
    """One of which the transport has some octets, and one behind it of which it has none."""
    peer = RawPeer(mulpdu=1442)
    regions = [peer.node.region(400_000), peer.node.region(8)]
    for msn, region in enumerate(regions, 1):
        feed(peer.node.qp, peer.frames(read(region, size=len(region), msn=msn)))
    assert peer.node.qp.next_iov()
    assert [region.pins for region in regions] == [1, 1]
    peer.node.qp.lost(OSError("the cable"))
    assert [region.pins for region in regions] == [0, 0]
    for region in regions:
        region.close()


def test_memory_that_the_peer_invalidates_still_serves_work_in_flight() -> None:
    """A receive, a Read's sink and a fenced Send in the invalidated region: the octets were promised before."""
    peer = RawPeer()
    shared = peer.node.region(b"s" * 30)
    peer.node.receive(8, "first")
    peer.node.qp.post_recv(Recv((shared[:10],), "in it"))
    peer.node.post(Read(shared[10:20], RemoteRegion(0, 5, 10), "read"), Send((shared[20:],), "fenced", fence=True))
    peer.expects(Opcode.READ_REQUEST)
    peer.sends(send(b"", opcode=Opcode.SEND_INVAL, inval_stag=shared.stag))
    assert not shared.is_open
    peer.sends(send(b"hello"), response(shared.stag, shared.to + 10, b"0123456789"))
    peer.expects(Opcode.SEND, payload=b"s" * 10)
    assert ended(peer.node.received()) == [("first", Status.SUCCESS), ("in it", Status.SUCCESS)]
    assert ended(peer.node.sent()) == [("read", Status.SUCCESS), ("fenced", Status.SUCCESS)]
    assert peer.node.qp.error is None


# --- Reads -----------------------------------------------------------------------------------------------------------


def test_reads_are_answered_in_the_order_they_came() -> None:
    # RDMAP-5040-5.2.2-09
    # RDMAP-5040-5.2.1-03, -04, -08, -12, RDMAP-5040-5.2.2-01, -02, -07, RDMAP-5040-5.5-17, RDMAP-5040-4.4-05, -06
    stage = Stage(mulpdu=128)
    source = stage.node.region(bytes(range(250)), Access.REMOTE_READ)
    stage.peer.sends(
        read(source, size=200, offset=10, sink_stag=1, sink_to=1000), read(), read(source, size=1, sink_stag=3)
    )
    heard = stage.peer.hears()
    assert {frame.opcode for frame in heard} == {Opcode.READ_RESPONSE}
    assert [(frame.stag, frame.to, frame.last) for frame in heard] == [
        (1, 1000, False),
        (1, 1114, True),
        (0xDEADBEEF, 0, True),
        (3, 0, True),
    ]
    assert b"".join(frame.payload for frame in heard[:2]) == bytes(range(10, 210))
    assert stage.node.received() == []


def test_a_read_request_in_two_segments(stage: Stage) -> None:  # RDMAP-5040-5.5-07
    first, last = cut(read(stage.region, size=4), 10)
    stage.peer.sends(first)
    stage.peer.expects_nothing()
    stage.peer.sends(last)
    stage.peer.expects(Opcode.READ_RESPONSE, payload=b"....")


def test_a_read_sees_what_was_written_before_it(stage: Stage) -> None:  # RDMAP-5040-5.5-08, RDMAP-5040-5.5-14
    stage.peer.sends(write(stage.region.stag, stage.region.to, b"new!"), read(stage.region, size=4))
    stage.peer.expects(Opcode.READ_RESPONSE, payload=b"new!")


def test_one_read_too_many(stage: Stage) -> None:  # RDMAP-5040-6.1-02, RDMAP-5040-6.1-06, ambiguity 18
    # RDMAP-5040-5.2.1-02
    stage.peer.end.clogged = True
    stage.node.send(b"in the way")
    stage.peer._pump()
    stage.peer.sends(*[read(stage.region, size=4)] * 4)
    assert stage.error is None
    stage.peer.sends(read(stage.region, size=4))
    stage.peer.end.clogged = False
    stage.peer.expects(Opcode.SEND)
    stage.peer.expects_terminate(errors.NoBufferForMsn.term, mdr="110")
    assert stage.region.pins == 0


def test_answered_reads_make_room_for_others(stage: Stage) -> None:
    # RDMAP-5040-5.2.2-03, RDMAP-5040-6.1-02, RDMAP-5040-6.1-06
    for _ in range(3):
        stage.peer.sends(*[read(stage.region, size=4)] * 4)
        assert len(stage.peer.hears()) == 4


def test_a_response_to_where_the_peer_s_memory_wraps(stage: Stage) -> None:
    """RDMAP-5040-4.4-02: sink STag and TO are copied uninterpreted; it is for the peer to refuse them."""
    big = stage.node.region(3000)
    stage.peer.sends(read(big, size=3000, sink_to=(1 << 64) - 1))
    assert [heard.to for heard in stage.peer.hears()] == [(1 << 64) - 1, 1427, 2855]
    assert stage.error is None


def test_reads_of_this_side_complete_when_their_response_is_delivered(stage: Stage) -> None:
    # RDMAP-5040-5.2-01, RDMAP-5040-5.2.2-04, RDMAP-5040-5.2.2-06, RDMAP-5040-5.5-16, RDMAP-5040-5.5-19
    sink = asked(stage)
    stage.peer.sends(response(sink.stag, sink.to, b"0123", last=False))
    assert stage.node.sent() == []
    stage.peer.sends(response(sink.stag, sink.to + 4, b"4567"))
    (completion,) = stage.node.sent()
    assert (completion.wr_id, completion.nbytes, octets_of(sink)) == ("read", 8, b"01234567")


def test_a_read_whose_region_was_retired_meanwhile(stage: Stage) -> None:
    """This side asked for the octets, so they have a place, even if their STag is void by now."""
    released: list[str] = []
    sink = asked(stage)
    memory = sink.view
    sink.retire(lambda: released.append("released"))
    stage.peer.sends(response(sink.stag, sink.to, b"01234567"))
    assert (bytes(memory), released) == (b"01234567", ["released"])
    assert stage.error is None


@pytest.mark.parametrize("promised", [False, True])
def test_memory_that_is_registered_read_only_is_sent_as_it_lies(promised: bool) -> None:
    """Its registration promises that it stays as it is: where it does not, the peer finds a CRC that does not fit."""
    memory = bytearray(b"." * 20_000)
    peer = RawPeer(mulpdu=64_768)
    shown = memoryview(memory).toreadonly() if promised else memory
    region = peer.node.pd.register(shown, Access.REMOTE_READ)
    feed(peer.node.qp, peer.frames(read(region, size=20_000)))
    pieces = peer.node.qp.next_iov()
    memory[10] = 0
    octets = b"".join(pieces)
    intact = crc32c(octets[:-4]).to_bytes(4, "little") == octets[-4:]  # MPA-5044-4.4-12
    assert intact is not promised
