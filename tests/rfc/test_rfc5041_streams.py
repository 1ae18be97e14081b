"""RFC 5041 §3, §6, §7 and §8: the life of a stream, its end, and which memory belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, ConnectionLost, ProtocolViolation
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Read, Send, Status, Write
from tests.harness import Node, Pair, RawPeer, Segment, ended, fpdu, octets_of, read, response, send, terminate, write
from tests.rfc.scene import ALL_RIGHTS, Scene, fetch_add, page, sibling

FLUSHED = Status.WR_FLUSH_ERR


@pytest.fixture
def scene() -> Scene:
    return Scene()


def broken(scene: Scene) -> Scene:
    """After the peer's first error, and its Terminate."""
    scene.peer.sends(write(5, 0, b"x"))
    scene.peer.expects_terminate(errors.InvalidStag.term)
    return scene


# --- what the LLP promises -------------------------------------------------------------------------------------------


def test_what_was_posted_is_transferred_or_reported() -> None:  # MPA-5041-3-03, DDP-5041-6.2.2-01
    """TCP breaks in the middle of a big message: everything completes, once, and only what was taken completes well."""
    peer = RawPeer()
    big = peer.node.region(2_000_000)
    peer.node.send(b"small", 0)
    peer.sends()
    peer.end.clogged = True
    peer.node.post(
        Send((big[:],), 1),
        Write((big[:],), RemoteRegion(0, 5, 2_000_000), 2),
        Read(big[:], RemoteRegion(0, 5, 2_000_000), 3),
    )
    peer.sends()
    peer.end.lose()
    assert ended(peer.node.sent()) == [(0, Status.SUCCESS), (1, FLUSHED), (2, FLUSHED), (3, FLUSHED)]
    assert isinstance(peer.node.qp.error, ConnectionLost)


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("bit", range(0, 8 * 20, 7))
def test_a_digest_covers_every_bit_of_a_segment(bit: int, tagged: bool, markers: bool) -> None:
    # MPA-5041-3-07, MPA-5044-4.4-17
    scene = Scene(receive_markers=markers)
    message = write(scene.region.stag, scene.region.to, b"abcd") if tagged else send(b"abcd")
    frame = bytearray(scene.peer.frames(message))
    frame[6 * markers + 2 * (not markers) + bit // 8] ^= 1 << bit % 8  # somewhere in the ULPDU or in the CRC
    scene.peer.sends(bytes(frame))
    scene.peer.expects_terminate(errors.CrcMismatch.term, mdr="000")
    assert octets_of(scene.region) == b"." * 64
    assert octets_of(scene.receives[0]) == bytes(40)
    assert not any(done.ok for done in scene.node.received())


def test_what_is_framed_already_stays_as_it_is() -> None:  # MPA-5041-3-02, MPA-5041-3-03: small messages, ready to go
    peer = RawPeer(Node())
    peer.node.qp.set_emss(9000)
    for number in range(3):
        peer.node.send(bytes([number]) * 1000, number)
    peer.node.qp.set_emss(536)
    assert [each.payload for each in peer.hears()] == [bytes([number]) * 1000 for number in range(3)]
    assert ended(peer.node.sent()) == [(number, Status.SUCCESS) for number in range(3)]


def test_what_is_framed_already_is_reported_when_tcp_is_lost() -> None:  # MPA-5041-3-03
    peer = RawPeer()
    peer.node.send(b"first", 1)
    peer.node.post(Write(remote=RemoteRegion(0, 5, 1), wr_id=2, inline=b"x"))
    peer.end.lose()
    assert ended(peer.node.sent()) == [(1, FLUSHED), (2, FLUSHED)]


@pytest.mark.parametrize("by_peer", [False, True])
def test_a_broken_stream_is_called_broken(scene: Scene, by_peer: bool) -> None:  # MPA-5041-3-09, RDMAP-5040-7-01
    states = [scene.node.qp.state]
    if by_peer:
        scene.peer.sends(terminate(errors.InvalidStag.term))
    else:
        broken(scene)
    states.append(scene.node.qp.state)
    scene.peer.closes()
    states.append(scene.node.qp.state)
    assert states == [QpState.RTS, QpState.ERROR if by_peer else QpState.TERMINATE, QpState.ERROR]
    assert isinstance(scene.error, errors.TerminatedByPeer if by_peer else errors.InvalidStag)


def test_nothing_travels_on_a_broken_stream(scene: Scene) -> None:  # MPA-5041-3-10, RDMAP-5040-7-02, DDP-5041-7.1-18
    broken(scene)
    good = [
        write(scene.region.stag, scene.region.to, b"late"),
        send(b"late"),
        read(scene.region, size=4),
        fetch_add(scene.region),
    ]
    scene.peer.sends(*good)
    scene.node.send(b"late", "late")
    scene.peer.expects_nothing()
    assert octets_of(scene.region) == b"." * 64
    assert ended(scene.node.sent()) == [("late", FLUSHED)]
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


@pytest.mark.parametrize("by_peer", [False, True])
def test_what_waits_does_not_leave_a_broken_stream(scene: Scene, by_peer: bool) -> None:  # MPA-5041-3-10
    """What TCP has is sent; of what waits behind it, and of the answers to the peer, nothing is."""
    scene.peer.end.clogged = True
    scene.node.send(b"on its way", 1)
    scene.peer.sends()
    scene.node.send(b"waits", 2)
    scene.peer.sends(
        read(scene.region, size=4),
        terminate(errors.InvalidStag.term) if by_peer else write(5, 0, b"x"),
        write(scene.region.stag, scene.region.to, b"late"),
        send(b"late"),
    )
    scene.peer.end.clogged = False
    heard = [each.opcode for each in scene.peer.hears()]
    assert heard == [Opcode.SEND] + [Opcode.TERMINATE] * (not by_peer)
    assert octets_of(scene.region) == b"." * 64
    assert ended(scene.node.sent()) == [(1, Status.SUCCESS), (2, FLUSHED)]
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


@pytest.mark.parametrize("by_peer", [False, True])
def test_what_is_framed_already_does_not_leave_a_broken_stream(scene: Scene, by_peer: bool) -> None:  # MPA-5041-3-10
    scene.node.send(b"small", 1)
    scene.peer.sends(terminate(errors.InvalidStag.term) if by_peer else write(5, 0, b"x"))
    assert [each.opcode for each in scene.peer.hears()] == [Opcode.TERMINATE] * (not by_peer)
    assert ended(scene.node.sent()) == [(1, FLUSHED)]


def test_a_graceful_end_is_told(scene: Scene) -> None:  # MPA-5041-3-11, MPA-5044-3-12, MPA-5044-7.2-02
    told: list[QpState] = []
    scene.node.qp.on_ended = lambda: told.append(scene.node.qp.state)
    scene.peer.closes()
    assert told == [QpState.IDLE]
    assert scene.error is None
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("silent", [True, False])
def test_the_connection_ends_after_a_terminate(sent: bool, silent: bool) -> None:
    # MPA-5041-3-12, RDMAP-5040-7-03: sent or received, and whether the peer closes or not
    scene = Scene()
    if sent:
        broken(scene)
    else:
        scene.peer.sends(terminate(errors.InvalidStag.term))
    scene.peer.expects_end_of_stream()
    assert not scene.peer.end.closed, "the other half may still carry the peer's Terminate"
    if silent:
        scene.peer.end.expire()
        scene.peer.sends()
    else:
        scene.peer.closes()
    assert scene.peer.end.closed


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_both_directions_begin_together() -> None:  # DDP-5041-6.1-01, MPA-5044-7.1-02
    node = Node(mulpdu=1442)
    with pytest.raises(errors.WrongState):
        node.send(b"too early")
    with pytest.raises(errors.WrongState):
        node.qp.receive_view()
    scene = Scene(node=node)
    assert scene.node.qp.wants_input
    scene.node.send(b"out")
    scene.peer.expects(Opcode.SEND, payload=b"out")
    scene.peer.sends(send(b"in"))
    assert [done.nbytes for done in scene.node.received()] == [2]


def test_an_idle_stream_stays(scene: Scene) -> None:  # DDP-5041-6.2-01: nothing ends it but the peer or the program
    scene.peer.sends(write(), send(b"x"), read())
    scene.peer.hears()
    assert scene.node.qp.time_limit() is None
    assert not scene.node.qp.output_ended
    assert scene.node.qp.wants_input


Provocation = Callable[[Scene], Segment | bytes]

PROVOCATIONS: dict[str, tuple[Provocation, type[ProtocolViolation]]] = {
    "MPA: CRC": (lambda s: s.peer.frames(write(), crc=0), errors.CrcMismatch),
    "MPA: length": (lambda s: b"\xff\xff", errors.MalformedFrame),
    "DDP: no header": (lambda s: fpdu(b"\xc1"), errors.DdpCatastrophe),
    "DDP: tagged": (lambda s: write(5, 0, b"x"), errors.InvalidStag),
    "DDP: untagged": (lambda s: send(b"x", qn=99, msn=1), errors.InvalidQn),
    "DDP: no receive": (lambda s: send(b"x" * 41), errors.MessageTooLong),
    "RDMAP: protection": (lambda s: read(s.region, size=65), errors.ReadBounds),
    "RDMAP: operation": (lambda s: send(b"x", opcode=0xF), errors.UnexpectedOpcode),
}


@pytest.mark.parametrize("case", PROVOCATIONS)
def test_every_error_is_told_with_one_terminate_before_the_end(case: str) -> None:
    # RDMAP-5040-6.2.1-01, RDMAP-5040-7.1-01, DDP-5041-6.2-01, DDP-5041-6.2.2-03, -05, -06, DDP-5041-7.1-19
    # MPA-5044-8-10
    make, violation = PROVOCATIONS[case]
    scene = Scene()
    scene.node.send(b"before")
    scene.peer.expects(Opcode.SEND)
    scene.peer.sends(make(scene))
    heard = scene.peer.hears()
    assert [each.opcode for each in heard] == [Opcode.TERMINATE]
    assert heard[0].term == violation.term
    scene.peer.expects_end_of_stream()
    assert type(scene.error) is violation, "and the program is told too: DDP-5041-6.2.2-02, DDP-5041-7-01"


def test_a_lack_of_buffers_is_an_error_of_the_stream(scene: Scene) -> None:  # DDP-5041-7.1-03, DDP-5041-7.1-02
    scene.peer.sends(send(b"1"), send(b"2"), send(b"3"))
    scene.peer.expects_terminate(errors.NoBufferForMsn.term)
    assert isinstance(scene.error, errors.NoBufferForMsn)
    assert "no buffer" in str(scene.error)


def test_queue_3_is_not_valid_without_extensions() -> None:  # DDP-5041-7.1-01
    peer = RawPeer(Node(mulpdu=1442, extensions=False))
    peer.sends(send(b"x", qn=3, msn=1))
    peer.expects_terminate(errors.InvalidQn.term, mdr="110")


def test_the_half_stays_open_until_the_terminate_has_left(scene: Scene) -> None:  # DDP-5041-6.2.2-06
    scene.peer.end.incoming += scene.peer.frames(write(5, 0, b"x"))
    scene.peer.end.read(1 << 20)
    assert isinstance(scene.error, errors.InvalidStag)
    assert not scene.node.qp.output_ended
    scene.peer.expects_terminate(errors.InvalidStag.term)
    scene.peer.expects_end_of_stream()


def test_whoever_ends_a_stream_waits_for_its_reads(scene: Scene) -> None:  # DDP-5041-6.2.1-01, DDP-5041-6.2.1-07
    scene.node.post(Read(scene.region[:4], RemoteRegion(0, 5, 4), "read"))
    scene.node.qp.disconnect()
    scene.peer.expects(Opcode.READ_REQUEST)
    assert not scene.peer.end.sent_fin
    assert scene.node.qp.wants_input
    scene.peer.sends(response(scene.region.stag, scene.region.to, b"data"))
    assert ended(scene.node.sent()) == [("read", Status.SUCCESS)]
    scene.peer.expects_end_of_stream()
    assert octets_of(scene.region)[:4] == b"data"


def test_a_half_closed_stream_is_told_of_and_goes_on() -> None:  # DDP-5041-6.2.1-04, DDP-5041-6.2.1-05, MPA-5041-3-11
    scene = Scene(node=Node(mulpdu=1442, half_close=True))
    told: list[str] = []
    scene.node.qp.on_half_closed = lambda: told.append("half closed")
    scene.peer.closes()
    assert told == ["half closed"]
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]
    for request in (Send(inline=b"small"), Send((scene.region[:],))):
        scene.node.post(request)
        scene.peer.expects(Opcode.SEND)
        assert not scene.peer.end.sent_fin
    assert all(done.ok for done in scene.node.sent())
    scene.node.qp.disconnect()
    scene.peer.expects_end_of_stream()


def test_a_fin_stops_one_half_alone(scene: Scene) -> None:  # DDP-5041-6.2.1-05, DDP-5041-6.2.1-06
    """What was posted before still leaves, a Read's answer too; then the other half is closed."""
    scene.peer.end.clogged = True
    scene.node.send(b"one", 1)
    scene.peer.sends(read(scene.region, size=4))
    scene.node.send(b"two", 2)
    scene.peer.closes()
    assert not scene.peer.end.sent_fin
    scene.peer.end.clogged = False
    heard = scene.peer.hears()
    assert [each.payload for each in heard if each.opcode is Opcode.SEND] == [b"one", b"two"]
    assert [each.payload for each in heard if each.opcode is Opcode.READ_RESPONSE] == [b"...."]
    assert ended(scene.node.sent()) == [(1, Status.SUCCESS), (2, Status.SUCCESS)]
    scene.peer.expects_end_of_stream()


# --- whose memory it is ----------------------------------------------------------------------------------------------

Use = Callable[[Any], Segment]

USES: dict[str, tuple[Use, type[ProtocolViolation]]] = {
    "Write": (lambda region: write(region.stag, region.to, b"x"), errors.StagNotAssociated),
    "Read": (lambda region: read(region, size=1), errors.ReadStagNotAssociated),
    "Atomic": (lambda region: fetch_add(region), errors.ReadStagNotAssociated),
    "Invalidate": (lambda region: send(b"", opcode=Opcode.SEND_INVAL, inval_stag=region.stag), errors.CannotInvalidate),
}


@pytest.mark.parametrize("case", USES)
def test_memory_of_one_stream_is_of_no_use_on_another(case: str) -> None:
    # RDMAP-5040-3.2-07
    # DDP-5041-8.2-02, -03, -04, DDP-5041-8.3-03, -04, SEC-5041-8.3.1-03, SEC-5040-8.1.1-02, SEC-5042-6.1.1-03
    make, violation = USES[case]
    owner = Node(mulpdu=1442)
    other = sibling(owner)
    region = owner.pd.register(page(8), ALL_RIGHTS, qp=owner.qp)
    assert (region.pd, region.scope) == (owner.pd, owner.qp)
    stranger = RawPeer(other)
    other.receive(8)
    stranger.sends(make(region))
    stranger.expects_terminate(violation.term)
    assert type(other.qp.error) is violation
    assert (region.is_open, octets_of(region)) == (True, bytes(8))
    friend = RawPeer(owner)
    owner.receive(8)
    friend.sends(make(region))
    assert owner.qp.error is None


@pytest.mark.parametrize("case", USES)
def test_memory_of_another_protection_domain_is_of_no_use(scene: Scene, case: str) -> None:
    # DDP-5041-8.2-01, SEC-5041-8.3.1-02, SEC-5040-8.1.1-01, SEC-5042-6.1.1-02
    make, violation = USES[case]
    scene.peer.sends(make(scene.foreign))
    scene.peer.expects_terminate(violation.term)
    assert octets_of(scene.foreign) == b"f" * 64
    assert scene.foreign.is_open
    assert type(scene.error) is violation


def test_memory_of_a_protection_domain_serves_all_its_streams() -> None:  # DDP-5041-8.2-04
    pair = Pair()
    shared = pair.right.region(8)
    third = RawPeer(sibling(pair.right))
    pair.left.post(Write(remote=shared[:4].remote(), inline=b"left"))
    pair.run()
    third.sends(write(shared.stag, shared.to + 4, b"also"))
    assert octets_of(shared) == b"leftalso"


def test_memory_is_bound_to_a_queue_pair_of_its_own_protection_domain(scene: Scene) -> None:  # SEC-5042-2.2.2-01
    other = scene.node.context.alloc_pd()
    with pytest.raises(BadWorkRequest, match="another protection domain"):
        other.register(bytearray(8), Access.REMOTE_WRITE, qp=scene.node.qp)
