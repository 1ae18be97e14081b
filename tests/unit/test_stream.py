"""The engine against a peer that may say anything: what it takes, what it refuses and how it says so (RFC 5040, 5041).

Each test is a transcript: who sent what, what came back, what memory says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode, QueueNumber, Rtr
from pyiwarp.errors import (
    ConnectionLost,
    InsufficientIrd,
    ProtocolViolation,
    TerminatedByPeer,
    UsageError,
)
from pyiwarp.events import PeerTerminated
from pyiwarp.fastwire import ReadRequest, parse_tagged, parse_untagged
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.qp import QpState
from pyiwarp.sending import BATCH_OCTETS
from pyiwarp.startup import Role
from pyiwarp.work import Read, Recv, Send, Status, Write
from tests.harness import (
    Heard,
    Node,
    RawPeer,
    Segment,
    agreed,
    cut,
    ended,
    fpdu,
    octets_of,
    read,
    response,
    send,
    terminate,
    write,
)

FLUSHED = Status.WR_FLUSH_ERR


class Stage:
    """A RawPeer and what it usually plays with: three regions with different rights, receives, a peer's memory."""

    def __init__(self, **peer: Any) -> None:
        self.peer = RawPeer(**peer)
        self.node = self.peer.node
        self.region = self.node.region(b"." * 64)
        self.read_only = self.node.region(b"r" * 64, Access.REMOTE_READ)
        self.write_only = self.node.region(b"w" * 64, Access.REMOTE_WRITE)
        self.foreign = self.node.context.alloc_pd().register(
            bytearray(b"f" * 64), Access.REMOTE_READ | Access.REMOTE_WRITE
        )
        self.receive = self.node.receive(40, "recv 1")
        self.node.receive(40, "recv 2")

    @property
    def error(self) -> Exception | None:
        return self.node.qp.error

    def memory(self) -> list[bytes]:
        return [octets_of(region) for region in (self.region, self.read_only, self.write_only, self.foreign)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_write_is_placed_and_nobody_is_told(stage: Stage) -> None:  # RDMAP-5040-5.1-02, RDMAP-5040-3.2-05, -5.1-04
    stage.peer.sends(write(stage.region.stag, stage.region.to + 3, b"abc"))
    assert octets_of(stage.region)[:8] == b"...abc.."
    assert stage.node.received() == []
    stage.peer.expects_nothing()


def test_a_write_in_segments_is_placed_as_it_comes(stage: Stage) -> None:  # DDP-5041-5.2-05, DDP-5041-4.1-01
    message = write(stage.region.stag, stage.region.to, b"x" * 30)
    stage.peer.sends(*cut(message, 10, 10)[:2])
    assert octets_of(stage.region) == b"x" * 20 + b"." * 44


@pytest.mark.parametrize(("opcode", "solicited"), [(Opcode.SEND, False), (Opcode.SEND_SE, True)])
def test_a_send_is_delivered_once_it_is_whole(stage: Stage, opcode: Opcode, solicited: bool) -> None:
    # DDP-5041-5.4-02, DDP-5041-5.4-05, DDP-5041-4.3-03
    # DDP-5041-4.1-02, RDMAP-5040-5.3-01, -02, -03, -06, RDMAP-5040-3.2-03, RDMAP-5040-5.5-05, RDMAP-5040-5.5-13
    first, second = cut(send(b"hello world", opcode=opcode), 6)
    stage.peer.sends(first)
    assert stage.node.received() == []
    stage.peer.sends(second)
    (completion,) = stage.node.received()
    assert (completion.wr_id, completion.nbytes, completion.solicited) == ("recv 1", 11, solicited)
    assert octets_of(stage.receive)[:12] == b"hello world\0"


def test_reserved_bits_and_fields_are_ignored(stage: Stage) -> None:
    # DDP-5041-4.1-10, RDMAP-5040-4.1-09, RDMAP-5040-4.1-11
    stage.peer.sends(write(stage.region.stag, stage.region.to, b"a", ddp_rsvd=15, rdmap_rsvd=3))
    stage.peer.sends(send(b"hello", ddp_rsvd=15, rdmap_rsvd=3, inval_stag=stage.region.stag))
    (completion,) = stage.node.received()
    assert completion.inval_stag is None
    assert octets_of(stage.region)[:1] == b"a"


def test_many_sends_in_one_delivery_complete_in_order() -> None:  # RDMAP-5040-5.3-05, DDP-5041-5.3-06
    peer = RawPeer()
    regions = [peer.node.receive(8, number) for number in range(20)]
    peer.sends(b"".join(peer.frames(send(bytes([number]) * 4)) for number in range(20)))
    assert ended(peer.node.received()) == [(number, Status.SUCCESS) for number in range(20)]
    assert [octets_of(region)[0] for region in regions] == list(range(20))


def test_the_msn_of_sends_wraps() -> None:  # DDP-5041-4.3-09
    peer = RawPeer()
    peer.node.qp.stream._queues[QueueNumber.SEND].due_msn = 0xFFFF_FFFF
    peer.next_msn(0, 0xFFFF_FFFF)
    for number in range(3):
        peer.node.receive(8, number)
    peer.sends(send(b"a"), send(b"b"), send(b"c"))
    assert len(peer.node.received()) == 3


def test_a_write_and_a_send_may_alternate(stage: Stage) -> None:  # ambiguity 22
    first, second = cut(send(b"hello world"), 6)
    stage.peer.sends(first, write(stage.region.stag, stage.region.to, b"abc"), second)
    assert [completion.nbytes for completion in stage.node.received()] == [11]


# --- messages without payload ----------------------------------------------------------------------------------------


def test_an_empty_write_may_name_anything(stage: Stage) -> None:  # DDP-5041-5.2-12, DDP-5041-7.1-15, RDMAP-5040-5.1-09
    # DDP-5041-5.2-11
    for stag, to in [(0, 0), (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF), (stage.foreign.stag, stage.foreign.to)]:
        stage.peer.sends(write(stag, to))
    stage.peer.expects_nothing()
    assert stage.error is None


def test_an_empty_send_takes_a_receive(stage: Stage) -> None:  # RDMAP-5040-5.3-10, RDMAP-5040-5.3-11, DDP-5041-5.2-10
    stage.peer.sends(send(), send())
    assert [(done.wr_id, done.nbytes) for done in stage.node.received()] == [("recv 1", 0), ("recv 2", 0)]
    stage.peer.sends(send())
    stage.peer.expects_terminate(errors.NoBufferForMsn.term)  # ambiguity 23


def test_an_empty_read_is_not_looked_at_and_answered(stage: Stage) -> None:
    # RDMAP-5040-5.2.1-13, -15, -16, RDMAP-5040-4.4-02, RDMAP-5040-4.4-03
    stage.peer.sends(read(sink_stag=0x1234, sink_to=99, source_stag=0xFFFF_FFFF, source_to=(1 << 64) - 1))
    stage.peer.expects(Opcode.READ_RESPONSE, stag=0x1234, to=99, payload=b"", last=True, tagged=True)


def test_an_empty_read_of_this_side_s(stage: Stage) -> None:
    stage.node.post(Read(None, RemoteRegion(5, 6, 0), "nothing"))
    heard = stage.peer.expects(Opcode.READ_REQUEST, qn=1, msn=1, mo=0, last=True)
    assert heard.read_request == ReadRequest(0, 0, 0, 6, 5)
    stage.peer.sends(response(0xFFFF_FFFF, 12345))  # not looked at: DDP-5041-5.2-12
    assert ended(stage.node.sent()) == [("nothing", Status.SUCCESS)]


def test_an_empty_segment_in_the_middle_of_a_message(stage: Stage) -> None:
    message = send(b"hello")
    first, nothing, rest = *cut(message, 3)[:1], send(last=False, mo=3), cut(message, 3)[1]
    stage.peer.sends(first, nothing, rest)
    assert [done.nbytes for done in stage.node.received()] == [5]


# --- what is refused -------------------------------------------------------------------------------------------------

Refused = tuple[Callable[[Stage], Segment], type[ProtocolViolation], str]

WRITES: dict[str, Refused] = {
    "unknown STag": (lambda s: write(s.region.stag ^ 0x100, s.region.to, b"abc"), errors.InvalidStag, "110"),
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
    "another PD's STag": (lambda s: read(s.foreign, size=4), errors.ReadStagNotAssociated, "111"),
    "no right": (lambda s: read(s.write_only, size=4), errors.ReadAccessRights, "111"),
    "before the region": (lambda s: read(s.region, size=4, offset=-1), errors.ReadBounds, "111"),
    "across its end": (lambda s: read(s.region, size=4, offset=61), errors.ReadBounds, "111"),
    "the whole world": (lambda s: read(s.region, size=0xFFFF_FFFF), errors.ReadBounds, "111"),
    "past 2^64": (lambda s: read(s.region, size=4, source_to=(1 << 64) - 2), errors.ReadWrap, "111"),
    "too short": (lambda s: Segment(opcode=1, qn=1, payload=bytes(27)), errors.MalformedMessage, "110"),
    "too long": (lambda s: Segment(opcode=1, qn=1, payload=bytes(53)), errors.MessageTooLong, "110"),
    "MSN": (lambda s: read(s.region, size=4, msn=2), errors.MsnOutOfRange, "110"),  # RDMAP-5040-7.2-06
}


@pytest.mark.parametrize("case", READS)
def test_a_bad_read_request(stage: Stage, case: str) -> None:
    # RDMAP-5040-4.2-01
    # RDMAP-5040-7.1-04, RDMAP-5040-5.2.1-05, -14, RDMAP-5040-3.2-06, RDMAP-5040-4.8-13, -15, RDMAP-5040-7.2-09..-14
    make, violation, mdr = READS[case]
    bad = make(stage)
    ulpdu = bad.octets(bad.msn or 1)
    stage.peer.sends(bad)
    quoted = ulpdu if mdr == "111" else ulpdu[:18]
    stage.peer.expects_terminate(violation.term, mdr=mdr, segment_length=len(ulpdu), quoted=quoted)
    stage.peer.expects_end_of_stream()
    assert type(stage.error) is violation


def asked(stage: Stage, nbytes: int = 8, **fields: Any) -> MemoryRegion:
    """A Read of this side's, on its way."""
    sink = stage.node.region(b"-" * nbytes, Access.LOCAL_WRITE)
    stage.node.post(Read(sink[:], RemoteRegion(0x1000, 0x77, nbytes), "read", **fields))
    stage.peer.hears()
    return sink


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


def test_a_response_that_ends_too_early(stage: Stage) -> None:
    sink = asked(stage)
    stage.peer.sends(response(sink.stag, sink.to, b"1234567"))
    stage.peer.expects_terminate(errors.MalformedMessage.term, mdr="110")


def test_a_response_without_octets_to_a_read_of_some(stage: Stage) -> None:
    asked(stage)
    stage.peer.sends(response(0, 0))
    stage.peer.expects_terminate(errors.MalformedMessage.term, mdr="110")


def test_no_receive_posted(stage: Stage) -> None:  # DDP-5041-7.1-02, D5
    stage.peer.sends(send(b"1"), send(b"2"))
    stage.peer.sends(send(b"3"))
    stage.peer.expects_terminate(errors.NoBufferForMsn.term, mdr="110")


@pytest.mark.parametrize("nbytes", [0, 1, 13])
def test_a_ulpdu_that_ends_inside_its_header(stage: Stage, nbytes: int) -> None:  # ambiguities 7 and 12
    stage.peer.sends(fpdu((b"\xc1\x40" + bytes(20))[:nbytes]))
    stage.peer.expects_terminate(errors.DdpCatastrophe.term, mdr="000")


def test_an_untagged_ulpdu_that_ends_inside_its_header(stage: Stage) -> None:
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
    # RDMAP-5040-5.3-15, RDMAP-5040-7.2-05, ambiguities 9 and 13
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


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_messages_leave_in_the_order_of_posting(stage: Stage) -> None:
    # RDMAP-5040-4.1-04, RDMAP-5040-3.2-01, RDMAP-5040-4.2-03, RDMAP-5040-3.1-01, RDMAP-5040-3.1-04
    # RDMAP-5040-5.5-10, RDMAP-5040-5.1-06, RDMAP-5040-5.3-09, RDMAP-5040-5.2.1-07, DDP-5041-5.3-01, RDMAP-5040-6.1-01
    sink = stage.node.region(4)
    remote = RemoteRegion(16, 0x77, 4)
    stage.node.post(
        Write(remote=remote, inline=b"one"),
        Send(inline=b"two"),
        Read(sink[:], remote),
        Send(inline=b"four", solicited=True),
        Send(inline=b"five", inval_stag=0xABCD),
        Send(inline=b"six", inval_stag=0xABCE, solicited=True),
    )
    expects = stage.peer.expects
    expects(Opcode.WRITE, tagged=True, stag=0x77, to=16, payload=b"one", last=True)  # RDMAP-5040-5.1-01
    expects(Opcode.SEND, tagged=False, qn=0, msn=1, mo=0, inval_stag=0, payload=b"two")  # RDMAP-5040-4.1-10, -5.3-08
    expects(Opcode.READ_REQUEST, tagged=False, qn=1, msn=1, mo=0, inval_stag=0)  # RDMAP-5040-5.2.1-01, -06
    expects(Opcode.SEND_SE, qn=0, msn=2, inval_stag=0)  # DDP-5041-4.3-07: each queue counts for itself
    expects(Opcode.SEND_INVAL, qn=0, msn=3, inval_stag=0xABCD)
    expects(Opcode.SEND_SE_INVAL, qn=0, msn=4, inval_stag=0xABCE)
    stage.peer.expects_nothing()


def test_no_segment_exceeds_the_mulpdu(stage: Stage) -> None:  # DDP-5041-5.2-02, MPA-5044-3-02, RDMAP-5040-3.1-03
    # MPA-5044-3-01
    stage.node.post(Send((stage.node.region(5000)[:],)))
    sizes = [len(heard.ulpdu) for heard in stage.peer.hears()]
    assert sizes == [1442, 1442, 1442, 5000 + 4 * 18 - 3 * 1442]


def test_the_mulpdu_follows_tcp_unless_it_is_fixed() -> None:  # MPA-5044-4.5-06, MPA-5044-5.1-01
    follower, fixed = Stage(node=Node()), Stage(node=Node(mulpdu=1000))
    for stage in (follower, fixed):
        assert stage.node.qp.stream.mulpdu == (1000 if stage is fixed else 128)
        stage.node.qp.set_emss(8948)
    assert (follower.node.qp.stream.mulpdu, fixed.node.qp.stream.mulpdu) == (8942, 1000)
    marked = Stage(node=Node(), send_markers=True)
    marked.node.qp.set_emss(8948)
    assert marked.node.qp.stream.mulpdu == 8870


def test_markers_are_sent_because_the_peer_asked() -> None:  # MPA-5044-4.3-01, MPA-5044-7.1.1-06
    stage = Stage(send_markers=True, mulpdu=600)
    memory = stage.node.region(b"m" * 5000)
    stage.node.post(Send((memory[:],)), Write((memory[:],), RemoteRegion(0, 1, 5000)))
    heard = stage.peer.hears()
    assert b"".join(frame.payload for frame in heard) == b"m" * 10_000
    assert stage.node.qp.stream.octets_sent == stage.peer._heard_offset


def test_responses_and_messages_take_turns() -> None:
    stage = Stage(mulpdu=64_768)
    big = stage.node.region(200_000)
    stage.peer.end.clogged = True
    stage.node.send(b"in the way")
    stage.peer._pump()
    stage.node.post(*[Write((big[:],), RemoteRegion(0, 1, 200_000))] * 2)
    stage.peer.sends(read(big, size=4), read(big, size=4))
    stage.peer.end.clogged = False
    kinds = [heard.opcode for heard in stage.peer.hears() if heard.last]
    assert kinds in (
        [Opcode.SEND, Opcode.READ_RESPONSE, Opcode.WRITE, Opcode.READ_RESPONSE, Opcode.WRITE],
        [Opcode.SEND, Opcode.WRITE, Opcode.READ_RESPONSE, Opcode.WRITE, Opcode.READ_RESPONSE],
    )


def test_figures(stage: Stage) -> None:
    stage.node.send(b"abc")
    stage.peer.sends(send(b"x"))
    stream = stage.node.qp.stream
    assert (stream.fpdus_sent, stream.fpdus_received, stream.octets_sent) == (1, 1, 28)


# --- the responder's silence -----------------------------------------------------------------------------------------


def mute(**agreement: Any) -> Stage:
    return Stage(role=Role.RESPONDER, **agreement)


def test_a_responder_is_mute_until_the_first_valid_fpdu() -> None:  # MPA-5044-7.1.2-16, MPA2-6581-9.2-19
    stage = mute(send_markers=True)
    stage.node.send(b"wait")
    stage.peer.expects_nothing()
    stage.peer.sends(write(1, 0), chunk=1)
    stage.peer.expects(Opcode.SEND, payload=b"wait")


def test_half_an_fpdu_does_not_open_a_responder_s_mouth() -> None:
    stage = mute()
    stage.node.send(b"wait")
    frame = stage.peer.frames(write(1, 0))
    stage.peer.sends(frame[:-1])
    stage.peer.expects_nothing()
    stage.peer.sends(frame[-1:])
    stage.peer.expects(Opcode.SEND)


def test_a_first_fpdu_that_is_bad_gets_no_answer() -> None:  # ambiguity 1
    stage = mute()
    frame = bytearray(stage.peer.frames(write(1, 0)))
    frame[-1] ^= 1
    stage.peer.sends(bytes(frame))
    stage.peer.expects_end_of_stream()
    assert type(stage.error) is errors.CrcMismatch


def test_a_first_fpdu_that_is_verified_but_breaks_a_rule_is_answered() -> None:
    stage = mute()
    stage.peer.sends(write(1, 0, b"x"))
    stage.peer.expects_terminate(errors.InvalidStag.term)


def test_a_responder_sends_its_reply_before_all() -> None:
    node = Node(mulpdu=128)
    node.qp.connect(agreed(Role.RESPONDER), b"the Reply")
    node.send(b"later")
    assert node.qp.next_iov() == [b"the Reply"]
    assert node.qp.next_iov() == [], "nothing more is given before it was flushed"
    node.qp.flushed()
    assert node.qp.next_iov() == []


# --- opening messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtr", Rtr)
def test_opening_messages(rtr: Rtr) -> None:  # MPA2-6581-9.2-10, MPA2-6581-9.2-17, MPA2-6581-9.2-18, MPA2-6581-5-01
    peer = RawPeer(rtr=rtr, peer_to_peer=True)
    peer.node.send(b"first")
    opening, first = peer.hears()
    assert (opening.last, first.opcode) == (True, Opcode.SEND)
    lengths = {Rtr.SEND: (Opcode.SEND, 18), Rtr.WRITE: (Opcode.WRITE, 14), Rtr.READ: (Opcode.READ_REQUEST, 46)}
    assert (opening.opcode, len(opening.ulpdu)) == lengths[rtr]
    assert first.msn == (2 if rtr is Rtr.SEND else 1)
    if rtr is Rtr.READ:
        assert (opening.qn, opening.msn, opening.read_request.read_size) == (1, 1, 0)
        peer.sends(response())
    elif rtr is Rtr.SEND:
        assert (opening.qn, opening.msn) == (0, 1)
    assert [done.nbytes for done in peer.node.sent()] == [5], "nobody posted the opening message"
    assert peer.node.qp.error is None


def test_a_read_waits_for_the_opening_read_when_ord_is_1() -> None:  # RDMAP-5040-6.1-05
    peer = RawPeer(rtr=Rtr.READ, peer_to_peer=True, ord=1)
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], RemoteRegion(0, 5, 4), "read"))
    peer.expects(Opcode.READ_REQUEST, msn=1)
    peer.expects_nothing()
    peer.sends(response())
    peer.expects(Opcode.READ_REQUEST, msn=2)
    peer.sends(response(sink.stag, sink.to, b"1234"))
    assert ended(peer.node.sent()) == [("read", Status.SUCCESS)]


def test_an_agreement_that_cannot_be_kept_is_told_with_a_terminate() -> None:  # MPA2-6581-9.1-07, -10, -11, -8-01
    peer = RawPeer(fault=InsufficientIrd(5, 4), rtr=Rtr.WRITE)
    peer.expects_terminate(InsufficientIrd.term, mdr="000")
    peer.expects_end_of_stream()
    assert isinstance(peer.node.qp.error, InsufficientIrd)


# --- pausing ---------------------------------------------------------------------------------------------------------


def starved() -> RawPeer:
    return RawPeer(Node(mulpdu=1442, pause_when_starved=True))


def test_a_send_without_receive_pauses_and_goes_on() -> None:  # DDP-5041-7.1-04, DDP-5041-7.1-06
    peer = starved()
    peer.sends(b"".join(peer.frames(send(bytes([n]) * 10)) for n in range(5)) + peer.frames(read()))
    assert not peer.node.qp.wants_input
    peer.expects_nothing()
    for number in range(5):
        region = peer.node.receive(10, number)
        peer._pump()
        assert octets_of(region) == bytes([number]) * 10
        assert ended(peer.node.received()) == [(number, Status.SUCCESS)]
    assert peer.node.qp.wants_input
    peer.expects(Opcode.READ_RESPONSE)


def test_a_paused_stream_goes_on_even_while_its_output_is_clogged() -> None:
    """Two sides that are both clogged and starved must not wait for each other."""
    peer = starved()
    peer.end.clogged = True
    peer.node.send(b"in the way")
    peer._pump()
    peer.sends(send(b"one"), send(b"two"))
    assert not peer.node.qp.wants_input
    peer.node.receive(8, 1)
    peer.node.receive(8, 2)
    peer._pump()
    assert peer.node.qp.wants_input
    assert ended(peer.node.received()) == [(1, Status.SUCCESS), (2, Status.SUCCESS)]


def test_too_many_reads_do_not_pause() -> None:
    peer = starved()
    peer.end.clogged = True
    peer.node.send(b"in the way")
    peer._pump()
    peer.sends(*[read()] * 5)
    assert type(peer.node.qp.error) is errors.NoBufferForMsn


def test_whoever_closes_does_not_wait_for_messages_that_nobody_will_take() -> None:
    for early in (True, False):
        peer = starved()
        if early:
            peer.node.qp.disconnect()
        peer.sends(send(b"one"), send(b"two"))
        peer.node.qp.disconnect()
        assert peer.node.qp.wants_input
        peer.sends(send(b"three"))
        peer.expects_end_of_stream()
        peer.closes()
        assert peer.end.closed
        assert peer.node.qp.error is None


# --- the ends of TCP -------------------------------------------------------------------------------------------------


def test_a_fin_in_the_middle_of_something() -> None:  # MPA-5044-7.2-01, MPA-5044-8-01, DDP-5041-6.2.2-01, -02, -04
    cases: list[tuple[str, Callable[[Stage], object]]] = [
        ("an FPDU", lambda s: s.peer.sends(s.peer.frames(write(1, 0))[:-1])),
        ("a message", lambda s: s.peer.sends(send(b"half", last=False))),
        ("the answer to a Read", asked),
    ]
    for what, begin in cases:
        stage = Stage()
        begin(stage)
        stage.peer.closes()
        assert isinstance(stage.error, ConnectionLost)
        assert what in str(stage.error)
        assert ended(stage.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]
        assert stage.peer.end.closed


def test_a_fin_between_messages_is_graceful(
    stage: Stage,
) -> None:  # MPA-5044-3-12, MPA-5044-7.2-02, DDP-5041-6.2.1-05
    # MPA-5041-3-11
    stage.node.send(b"before", 1)
    stage.peer.sends(send(b"hello"))
    stage.peer.closes()
    assert stage.error is None
    stage.peer.expects(Opcode.SEND)
    assert stage.peer.end.closed
    assert ended(stage.node.received()) == [("recv 1", Status.SUCCESS), ("recv 2", FLUSHED)]


def test_a_pump_that_is_fed_one_octet_at_a_time() -> None:
    stage = Stage(receive_markers=True)
    stage.peer.sends(
        *[write(stage.region.stag, stage.region.to + n, bytes([n])) for n in range(64)],
        send(b"hello"),
        read(stage.region, size=64),
        chunk=1,
    )
    assert octets_of(stage.region) == bytes(range(64))
    stage.peer.expects(Opcode.READ_RESPONSE, payload=bytes(range(64)))


def test_events_are_values() -> None:
    error = TerminatedByPeer(errors.InvalidStag.term)
    assert PeerTerminated(error) == PeerTerminated(error)


def test_the_harness_reads_what_the_engine_writes(stage: Stage) -> None:
    """The other way round: the engine's parsers agree with what the raw peer builds."""
    tagged = write(7, 8, b"abc")
    assert parse_tagged(tagged.octets(0)) == (True, 0x40, 7, 8)
    assert parse_untagged(send(b"abc", mo=5).octets(3)) == (True, 0x43, 0, 0, 3, 5)
    assert isinstance(Heard(tagged.octets(0)), Heard)
    with pytest.raises(UsageError):
        stage.node.qp.stream.write([memoryview(bytearray(1 << 20))] * 4096, stag=0, to=0, token=None)
