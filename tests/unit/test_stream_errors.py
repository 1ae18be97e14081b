"""The engine and its peer's errors: what is refused, how it is said, what still happens after it; the peer's Terminate.

Each test is a transcript, as in `test_stream`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.engine.sending import BATCH_OCTETS
from pyiwarp.errors import ProtocolViolation, TerminatedByPeer
from pyiwarp.mr import MemoryRegion, RemoteRegion
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Send, Status, Write
from tests.harness import Segment, ended, feed, fpdu, octets_of, read, response, send, terminate, write
from tests.unit.stage import Stage, asked, stage

__all__ = ["stage"]  # the fixture

FLUSHED = Status.WR_FLUSH_ERR


# --- what is refused -------------------------------------------------------------------------------------------------

Refused = tuple[Callable[[Stage], Segment], type[ProtocolViolation], str]

WRITES: dict[str, Refused] = {
    "unknown STag": (lambda s: write(s.region.stag ^ 0x100, s.region.to, b"abc"), errors.InvalidStag, "110"),
    "another key": (lambda s: write(s.region.stag ^ 1, s.region.to, b"abc"), errors.InvalidStag, "110"),
    "another PD's STag": (lambda s: write(s.foreign.stag, s.foreign.to, b"abc"), errors.StagNotAssociated, "110"),
    "no right": (lambda s: write(s.read_only.stag, s.read_only.to, b"abc"), errors.NoWriteRight, "110"),
    "before the region": (lambda s: write(s.region.stag, s.region.to - 1, b"abc"), errors.BaseOrBounds, "110"),
    "across its end": (lambda s: write(s.region.stag, s.region.to + 62, b"abc"), errors.BaseOrBounds, "110"),
    "past 2^64": (lambda s: write(s.region.stag, (1 << 64) - 2, b"abc"), errors.TaggedOffsetWrap, "110"),
    "DDP version": (lambda s: write(s.region.stag, s.region.to, b"abc", dv=2), errors.TaggedVersion, "110"),
    "RDMAP version": (lambda s: write(s.region.stag, s.region.to, b"abc", rv=0), errors.RdmapVersion, "110"),
    "opcode": (lambda s: write(s.region.stag, s.region.to, b"abc", opcode=0xC), errors.UnexpectedOpcode, "110"),
    "tagged Send": (lambda s: write(s.region.stag, s.region.to, b"abc", opcode=3), errors.UnexpectedOpcode, "110"),
    "Response to nothing": (lambda s: response(s.region.stag, s.region.to, b"abc"), errors.UnexpectedOpcode, "110"),
}


@pytest.mark.parametrize("case", WRITES)
@pytest.mark.parametrize("position", ["only", "first", "middle", "last"])
def test_a_bad_tagged_segment(stage: Stage, case: str, position: str) -> None:
    # RDMAP-5040-7.2-01
    # RDMAP-5040-5.1-03, RDMAP-5040-3.1-05, SEC-5041-8.3.1-02, SEC-5041-8.3.1-04, SEC-5040-8.1.1-01, SEC-5040-8.1.1-03,
    # SEC-5042-6.1.1-02, SEC-5042-6.2.1-01
    """Wherever in a message it stands (DDP-5041-7.1-10..-16): one Terminate that quotes it, nothing of it is placed."""
    make, violation, mdr = WRITES[case]
    bad = make(stage)
    if position in ("middle", "last"):
        stage.peer.sends(write(stage.region.stag, stage.region.to, b"good", last=False))
    before = stage.memory()
    bad = Segment(**vars(bad) | {"last": position in ("only", "last")})
    stage.peer.sends(bad)
    ulpdu = bad.octets(0)
    # RDMAP-5040-7.1-03, DDP-5041-7.1-17, DDP-5041-7.2-03, RDMAP-5040-5.4-01, RDMAP-5040-5.4-02, RDMAP-5040-4.2-02
    stage.peer.expects_terminate(
        violation.term,
        mdr=mdr,
        segment_length=len(ulpdu),
        quoted=ulpdu[:14],
        qn=2,
        msn=1,
        mo=0,
        inval_stag=0,
        last=True,
    )
    stage.peer.expects_end_of_stream()
    assert stage.memory() == before
    assert type(stage.error) is violation
    assert stage.node.qp.state is QpState.TERMINATE


SENDS: dict[str, Refused] = {
    "queue 4": (lambda s: send(b"abc", qn=4, msn=1), errors.InvalidQn, "110"),  # DDP-5041-7.1-01
    "queue 2^32 - 1": (lambda s: send(b"abc", qn=0xFFFF_FFFF, msn=1), errors.InvalidQn, "110"),
    "MSN behind": (lambda s: send(b"abc", msn=0), errors.MsnOutOfRange, "110"),  # DDP-5041-7.1-09
    "MSN ahead": (lambda s: send(b"abc", msn=2), errors.MsnOutOfRange, "110"),  # ambiguity 15
    "MO outside": (lambda s: send(b"abc", mo=40), errors.InvalidMo, "110"),  # DDP-5041-7.1-07
    "too long": (lambda s: send(b"abc", mo=38), errors.MessageTooLong, "110"),  # RDMAP-5040-5.3-04
    "DDP version": (lambda s: send(b"abc", dv=0), errors.UntaggedVersion, "110"),  # DDP-5041-7.2-04
    "RDMAP version": (lambda s: send(b"abc", rv=3), errors.RdmapVersion, "110"),  # RDMAP-5040-7.2-03
    "opcode": (lambda s: send(b"abc", opcode=0xF), errors.UnexpectedOpcode, "110"),  # RDMAP-5040-7.2-02
    "untagged Write": (lambda s: send(b"abc", opcode=0), errors.UnexpectedOpcode, "110"),  # ambiguity 19
    "Send on the Read queue": (lambda s: send(b"abc", qn=1), errors.UnexpectedOpcode, "110"),
}


@pytest.mark.parametrize("case", SENDS)
@pytest.mark.parametrize("position", ["only", "first", "middle", "last"])
def test_a_bad_untagged_segment(stage: Stage, case: str, position: str) -> None:
    """RDMAP-5040-5.3-07, RDMAP-5040-3.2-04, RDMAP-5040-7.2-01; the receive is not consumed, it is flushed."""
    make, violation, mdr = SENDS[case]
    bad = make(stage)
    if position in ("middle", "last"):
        stage.peer.sends(send(b"good", last=False))
    before = octets_of(stage.receive)
    bad = Segment(**vars(bad) | {"last": position in ("only", "last")})
    msn = 1 if bad.msn is None else bad.msn
    stage.peer.sends(bad)
    ulpdu = bad.octets(msn)
    stage.peer.expects_terminate(violation.term, mdr=mdr, segment_length=len(ulpdu), quoted=ulpdu[:18])
    stage.peer.expects_end_of_stream()
    assert octets_of(stage.receive) == before
    first = Status.LOC_LEN_ERR if violation in (errors.MessageTooLong, errors.InvalidMo) else FLUSHED
    assert ended(stage.node.received()) == [("recv 1", first), ("recv 2", FLUSHED)]
    assert type(stage.error) is violation


READS: dict[str, Refused] = {
    "unknown STag": (lambda s: read(s.region, size=4, source_stag=5), errors.ReadInvalidStag, "111"),
    "another key": (lambda s: read(s.region, size=4, source_stag=s.region.stag ^ 1), errors.ReadInvalidStag, "111"),
    "another PD's STag": (lambda s: read(s.foreign, size=4), errors.ReadStagNotAssociated, "111"),
    "no right": (lambda s: read(s.write_only, size=4), errors.ReadAccessRights, "111"),
    "before the region": (lambda s: read(s.region, size=4, offset=-1), errors.ReadBounds, "111"),
    "across its end": (lambda s: read(s.region, size=4, offset=61), errors.ReadBounds, "111"),
    "the whole world": (lambda s: read(s.region, size=0xFFFF_FFFF), errors.ReadBounds, "111"),
    "past 2^64": (lambda s: read(s.region, size=4, source_to=(1 << 64) - 2), errors.ReadWrap, "111"),
    "too short": (lambda s: Segment(opcode=1, qn=1, payload=bytes(27)), errors.MalformedMessage, "110"),
    "too long": (lambda s: Segment(opcode=1, qn=1, payload=bytes(53)), errors.MessageTooLong, "110"),
    "MSN": (lambda s: read(s.region, size=4, msn=2), errors.MsnOutOfRange, "110"),  # RDMAP-5040-7.2-06
    "MSN 0": (lambda s: read(s.region, size=4, msn=0), errors.MsnOutOfRange, "110"),  # RDMAP-5040-7.2-06
    "MO outside": (lambda s: read(s.region, size=4, mo=52), errors.InvalidMo, "110"),  # RDMAP-5040-7.2-06
    "MO that leaves too little": (lambda s: read(s.region, size=4, mo=25), errors.MessageTooLong, "110"),
    "MO within": (lambda s: read(s.region, size=4, mo=4), errors.MisplacedSegment, "110"),  # RDMAP-5040-7.2-06
    "DDP version": (lambda s: read(s.region, size=4, dv=2), errors.UntaggedVersion, "110"),  # RDMAP-5040-7.2-06
}


@pytest.mark.parametrize("case", READS)
def test_a_bad_read_request(stage: Stage, case: str) -> None:
    # RDMAP-5040-4.2-01
    # RDMAP-5040-7.1-04, RDMAP-5040-5.2.1-05, -14, RDMAP-5040-3.2-06, RDMAP-5040-4.8-13, -15, RDMAP-5040-7.2-09..-14
    make, violation, mdr = READS[case]
    bad = make(stage)
    ulpdu = bad.octets(1 if bad.msn is None else bad.msn)
    stage.peer.sends(bad)
    quoted = ulpdu if mdr == "111" else ulpdu[:18]
    stage.peer.expects_terminate(violation.term, mdr=mdr, segment_length=len(ulpdu), quoted=quoted)
    stage.peer.expects_end_of_stream()
    assert type(stage.error) is violation


RESPONSES: dict[str, tuple[Callable[[MemoryRegion], Segment], type[ProtocolViolation]]] = {
    "another STag": (lambda sink: response(sink.stag ^ 1, sink.to, b"abc"), errors.InvalidStag),
    "before the sink": (lambda sink: response(sink.stag, sink.to - 1, b"abc"), errors.BaseOrBounds),
    "across its end": (lambda sink: response(sink.stag, sink.to + 6, b"abc"), errors.BaseOrBounds),
    "too long": (lambda sink: response(sink.stag, sink.to, b"123456789"), errors.BaseOrBounds),
}


@pytest.mark.parametrize("case", RESPONSES)
@pytest.mark.parametrize("position", ["only", "first", "middle", "last"])
def test_a_bad_read_response(stage: Stage, case: str, position: str) -> None:  # RDMAP-5040-5.2.2-05, -08
    """The bug class of wire section 8: an oversized Response that goes on with L = 0."""
    make, violation = RESPONSES[case]
    sink = asked(stage)
    if position in ("middle", "last"):
        stage.peer.sends(response(sink.stag, sink.to, b"ok", last=False))
    before = octets_of(sink)
    bad = Segment(**vars(make(sink)) | {"last": position in ("only", "last")})
    stage.peer.sends(bad)
    stage.peer.expects_terminate(violation.term, mdr="110", quoted=bad.octets(0)[:14])
    assert octets_of(sink) == before
    assert ended(stage.node.sent()) == [("read", FLUSHED)]


def test_a_response_that_ends_too_early(stage: Stage) -> None:  # RDMAP-5040-5.2.2-05, -08
    sink = asked(stage)
    stage.peer.sends(response(sink.stag, sink.to, b"1234567"))
    stage.peer.expects_terminate(errors.MalformedMessage.term, mdr="110")


def test_a_response_without_octets_to_a_read_of_some(stage: Stage) -> None:  # RDMAP-5040-5.2.2-05, -08
    asked(stage)
    stage.peer.sends(response(0, 0))
    stage.peer.expects_terminate(errors.MalformedMessage.term, mdr="110")


def test_no_receive_posted(stage: Stage) -> None:  # DDP-5041-7.1-02, D5
    stage.peer.sends(send(b"1"), send(b"2"))
    stage.peer.sends(send(b"3"))
    stage.peer.expects_terminate(errors.NoBufferForMsn.term, mdr="110")


@pytest.mark.parametrize("nbytes", [0, 1, 13])
def test_a_ulpdu_that_ends_inside_its_header(
    stage: Stage, nbytes: int
) -> None:  # DDP-5041-4.4-01, ambiguities 7 and 12
    stage.peer.sends(fpdu((b"\xc1\x40" + bytes(20))[:nbytes]))
    stage.peer.expects_terminate(errors.DdpCatastrophe.term, mdr="000")


def test_an_untagged_ulpdu_that_ends_inside_its_header(stage: Stage) -> None:  # DDP-5041-4.4-01
    stage.peer.sends(fpdu(b"\x41\x43" + bytes(15)))
    stage.peer.expects_terminate(errors.DdpCatastrophe.term, mdr="000")


@pytest.mark.parametrize("markers", [False, True])
def test_a_bad_crc(
    markers: bool,
) -> None:  # MPA-5044-8-02, MPA-5044-8-06, MPA-5044-8-10, DDP-5041-7-01, DDP-5041-6.2.2-03
    stage = Stage(receive_markers=markers, send_markers=markers)
    frame = bytearray(stage.peer.frames(write(stage.region.stag, stage.region.to, b"abc")))
    frame[-6] ^= 1
    stage.peer.sends(bytes(frame))
    stage.peer.expects_terminate(errors.CrcMismatch.term, mdr="000", payload=b"\x20\x02\0\0")
    stage.peer.expects_end_of_stream()
    assert octets_of(stage.region) == b"." * 64  # MPA-5044-6-01


def test_the_end_waits_for_the_terminate(stage: Stage) -> None:  # MPA-5044-8-10
    """Until the kernel has taken it the driver closes nothing, and then with a FIN: a reset could overtake it."""
    frame = stage.peer.frames(write(stage.region.stag, stage.region.to, b"abc"), crc=0)
    feed(stage.node.qp, frame)
    assert not stage.node.qp.output_ended
    assert b"\x20\x02" in b"".join(stage.node.qp.next_iov())
    assert not stage.node.qp.output_ended
    stage.node.qp.flushed()
    assert stage.node.qp.output_ended
    assert not stage.node.qp.broken


def test_a_bad_marker() -> None:  # MPA-5044-8-03, MPA-5044-8-04
    stage = Stage(receive_markers=True, crc=False)
    frame = bytearray(stage.peer.frames(write(stage.region.stag, stage.region.to, b"abc")))
    frame[3] = 8
    stage.peer.sends(bytes(frame))
    assert type(stage.error) is errors.MarkerMismatch
    assert octets_of(stage.region) == b"." * 64


def test_a_ulpdu_length_beyond_all_bounds(stage: Stage) -> None:
    stage.peer.sends(b"\xff\xff")
    stage.peer.expects_terminate(errors.MalformedFrame.term, mdr="000")


# --- after the error -------------------------------------------------------------------------------------------------


def test_later_segments_are_dropped_silently(stage: Stage) -> None:
    # MPA-5041-3-09, MPA-5041-3-10, RDMAP-5040-7-01, RDMAP-5040-7-02
    # DDP-5041-7.1-18, MPA-5044-8-09, RDMAP-5040-7.1-05, RDMAP-5040-5.4-09
    bad = write(1, 0, b"x")
    stage.peer.sends(
        bad, write(stage.region.stag, stage.region.to, b"late"), send(b"late"), send(msn=9), read(), b"garbage" * 99
    )
    stage.peer.expects_terminate(errors.InvalidStag.term)
    stage.peer.sends(send(b"later"), b"\xff" * 1000, chunk=7)
    stage.peer.expects_end_of_stream()
    assert type(stage.error) is errors.InvalidStag
    assert octets_of(stage.region) == b"." * 64
    assert ended(stage.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


def test_what_was_placed_before_the_error_stays(stage: Stage) -> None:  # DDP-5041-6.2.2-06
    stage.peer.sends(write(stage.region.stag, stage.region.to, b"good"), send(b"hello"), send(b"x", msn=7))
    stage.peer.expects_terminate(errors.MsnOutOfRange.term)
    assert octets_of(stage.region)[:4] == b"good"
    assert ended(stage.node.received()) == [("recv 1", Status.SUCCESS), ("recv 2", FLUSHED)]


def test_the_terminate_comes_before_what_is_queued(stage: Stage) -> None:  # RDMAP-5040-5.4-08, RDMAP-5040-7.1-03
    stage.peer.end.clogged = True
    stage.node.send(b"first", 1)
    stage.peer._pump()
    stage.node.send(b"second", 2)
    stage.peer.sends(write(1, 0, b"x"))
    assert stage.node.sent() == [], "the transport still has the memory of the first"
    stage.peer.end.clogged = False
    stage.peer.expects(Opcode.SEND, payload=b"first")
    stage.peer.expects_terminate(errors.InvalidStag.term)
    stage.peer.expects_end_of_stream()
    assert ended(stage.node.sent()) == [(1, Status.SUCCESS), (2, FLUSHED)]


def test_a_long_message_is_cut_short_by_a_terminate_between_its_fpdus() -> None:  # D11
    stage = Stage(mulpdu=1442)
    big = stage.node.region(1_000_000)
    stage.peer.end.clogged = True
    stage.node.post(Write((big[:],), RemoteRegion(0, 9, 1_000_000), "big"))
    stage.peer._pump()
    stage.peer.sends(write(1, 0, b"x"))
    stage.peer.end.clogged = False
    heard = stage.peer.hears()
    assert {frame.opcode for frame in heard[:-1]} == {Opcode.WRITE}
    assert sum(len(frame.payload) for frame in heard[:-1]) <= BATCH_OCTETS
    assert not heard[-2].last
    assert heard[-1].opcode is Opcode.TERMINATE
    assert ended(stage.node.sent()) == [("big", FLUSHED)]
    big.close()


def test_an_error_lets_go_of_half_received_messages(stage: Stage) -> None:
    sink = asked(stage)
    stage.peer.sends(response(sink.stag, sink.to, b"ok", last=False), send(b"half", last=False), write(1, 0, b"x"))
    assert ended(stage.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]
    buffer = bytearray(8)
    for region in (sink, stage.receive):
        memory = region.view.obj
        region.close()
        assert isinstance(memory, bytearray)
        memory.extend(buffer)


# --- the peer's Terminate --------------------------------------------------------------------------------------------


def test_the_peer_s_terminate_is_delivered() -> None:
    # RDMAP-5040-5.4-03..-06, RDMAP-5040-6.2.1-02, RDMAP-5040-5.4-10, RDMAP-5040-3.2-08
    stage = Stage()
    sink = asked(stage)
    stage.node.send(b"behind", "send")
    quoted = write(7, 8, b"").octets(0)
    stage.peer.sends(terminate(errors.InvalidStag.term, 17, quoted))
    assert isinstance(stage.error, TerminatedByPeer)
    assert (stage.error.term, stage.error.header) == (errors.InvalidStag.term, quoted)
    assert ended(stage.node.sent()) == [("read", FLUSHED), ("send", FLUSHED)]
    assert all(done.error is stage.error for done in stage.node.received())
    assert stage.node.qp.state is QpState.ERROR
    stage.peer.expects_end_of_stream()
    sink.close()


def test_nothing_that_follows_a_terminate_is_looked_at(stage: Stage) -> None:
    # RDMAP-5040-7-03, MPA-5041-3-12
    stage.peer.sends(terminate(errors.InvalidStag.term), send(b"x"), b"\xff" * 50)
    assert isinstance(stage.error, TerminatedByPeer)
    stage.peer.closes()
    assert stage.peer.end.closed


def test_a_terminate_in_the_middle_of_everything() -> None:
    stage = Stage()
    asked(stage)
    stage.peer.sends(send(b"half", last=False), terminate(errors.CrcMismatch.term))
    stage.peer.closes()
    assert isinstance(stage.error, TerminatedByPeer)
    assert stage.node.qp.state is QpState.ERROR


def test_a_terminate_while_the_transport_is_full(stage: Stage) -> None:
    """Nothing completes, and no memory is let go, while the transport still reads it."""
    memory = stage.node.region(2000)
    stage.peer.end.clogged = True
    stage.node.post(Send((memory[:],), "sent"), Send((memory[:],), "queued"))
    stage.peer._pump()
    stage.peer.sends(terminate(errors.InvalidStag.term))
    assert stage.node.sent() == []
    assert memory.pins == 2
    stage.peer.end.clogged = False
    stage.peer._pump()
    assert [wr_id for wr_id, _ in ended(stage.node.sent())] == ["sent", "queued"]
    memory.close()


@pytest.mark.parametrize("payload", [b"", b"\x11\x00\xc0"])
def test_a_terminate_without_a_cause(stage: Stage, payload: bytes) -> None:  # RDMAP-5040-5.4-07
    stage.peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, payload=payload))
    stage.peer.expects_terminate(errors.MalformedMessage.term)


@pytest.mark.parametrize("payload", [bytes.fromhex("0005 0000"), bytes.fromhex("1100 ffff") + bytes(60)])
def test_terminates_are_read_leniently(stage: Stage, payload: bytes) -> None:  # RDMAP-5040-4.8-08, ambiguity 11
    stage.peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, payload=payload))
    assert isinstance(stage.error, TerminatedByPeer)


def test_a_terminate_longer_than_any(stage: Stage) -> None:
    stage.peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, payload=bytes(65)))
    stage.peer.expects_terminate(errors.MessageTooLong.term)
