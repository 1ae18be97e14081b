"""The engine against a peer that may say anything: what it takes, what it sends and when (RFC 5040, 5041).

Each test is a transcript: who sent what, what came back, what memory says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode, QueueNumber, Rtr
from pyiwarp.engine.events import PeerTerminated
from pyiwarp.errors import ConnectionLost, InsufficientIrd, TerminatedByPeer, UsageError
from pyiwarp.fastwire import ReadRequest, parse_tagged, parse_untagged
from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Role
from pyiwarp.queues.work import Read, Send, Status, Write
from tests.harness import Heard, Node, RawPeer, agreed, cut, ended, feed, octets_of, read, response, send, write
from tests.unit.stage import Stage, asked, stage

__all__ = ["stage"]  # the fixture

FLUSHED = Status.WR_FLUSH_ERR


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
    # DDP-5041-5.2-11, DDP-5041-4.4-01
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


def test_an_empty_segment_in_the_middle_of_a_message(stage: Stage) -> None:  # DDP-5041-4.4-01
    message = send(b"hello")
    first, nothing, rest = *cut(message, 3)[:1], send(last=False, mo=3), cut(message, 3)[1]
    stage.peer.sends(first, nothing, rest)
    assert [done.nbytes for done in stage.node.received()] == [5]


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
    for each in (follower, fixed):
        assert each.node.qp.stream.mulpdu == (1000 if each is fixed else 128)
        each.node.qp.set_emss(8948)
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


def test_the_half_is_closed_behind_the_last_fpdu(stage: Stage) -> None:  # MPA-5044-7.2-01
    """Answers that are queued or on their way go out before, although no work request waits for them."""
    qp = stage.node.qp
    feed(qp, stage.peer.frames(read(stage.region, size=5)))
    qp.disconnect()
    assert not qp.output_ended, "the answer is queued"
    assert qp.next_iov()
    assert not qp.output_ended, "the transport has not given it to the kernel"
    qp.flushed()
    assert qp.output_ended


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
