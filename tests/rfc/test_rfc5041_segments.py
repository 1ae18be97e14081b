"""RFC 5041 §4 and §5: what segments carry, how messages are cut and put together again."""

from __future__ import annotations

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.mr import RemoteRegion
from pyiwarp.queues.work import Read, Send, Status, Write
from tests.harness import Pair, RawPeer, cut, ended, octets_of, read, response, send, write
from tests.rfc.scene import Scene

FAR = RemoteRegion(0xFFFF_FF00, 0xA5C3F00D, 1 << 31)


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 109, 110, 111, 113, 114, 115, 220, 228, 229, 10_000])
@pytest.mark.parametrize("tagged", [False, True])
def test_a_message_is_cut_into_segments(tagged: bool, nbytes: int) -> None:
    # DDP-5041-5.2-01, -02, -04, -07, -09, -10, DDP-5041-5.3-02, DDP-5041-4.1-03, -04, -05, -06, DDP-5041-4.3-11
    # MPA-5044-3-01, MPA-5044-4.5-05: each FPDU is one segment, all but the last as large as may be
    peer = RawPeer(mulpdu=128)
    payload = bytes(n % 251 for n in range(nbytes))
    memory = peer.node.region(payload)
    peer.node.post(Write((memory[:],), FAR) if tagged else Send((memory[:],)))
    heard = peer.hears()
    header = 14 if tagged else 18
    room = 128 - header
    assert [len(each.ulpdu) for each in heard[:-1]] == [128] * (max(nbytes - 1, 0) // room)
    assert [each.last for each in heard] == [False] * (len(heard) - 1) + [True]
    assert b"".join(each.payload for each in heard) == payload
    starts = range(0, max(nbytes, 1), room)
    if tagged:
        assert [each.to for each in heard] == [FAR.to + start for start in starts], "carries into the upper 32 bits"
        assert {each.stag for each in heard} == {FAR.stag}  # DDP-5041-4.2-05, -06, -08
    else:
        assert [each.mo for each in heard] == list(starts)
        assert {(each.qn, each.msn) for each in heard} == {(0, 1)}  # DDP-5041-4.3-06, -08, -10
    assert len({each.ulpdu[1] for each in heard}) == 1  # DDP-5041-4.2-04


def test_the_ulp_s_40_bits_are_in_every_segment() -> None:  # DDP-5041-4.3-02, DDP-5041-4.3-04
    peer = RawPeer(mulpdu=128)
    memory = peer.node.region(300)
    peer.node.post(Send((memory[:],), inval_stag=0x11223344), Send((memory[:],)))
    prefixes = [each.ulpdu[1:6] for each in peer.hears()]
    assert prefixes == [bytes.fromhex("44 11223344")] * 3 + [bytes.fromhex("43 00000000")] * 3


def test_a_response_goes_where_its_request_said(scene: Scene) -> None:  # DDP-5041-4.2-05, DDP-5041-4.2-02
    scene.peer.sends(read(scene.region, size=3, sink_stag=0xDEADBEEF, sink_to=0x0123456789ABCDEF))
    (heard,) = scene.peer.hears()
    assert heard.ulpdu == bytes.fromhex("C1 42 DEADBEEF 0123456789ABCDEF") + b"..."


# --- what is received ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 17, 1000])
def test_lengths_are_exact(nbytes: int) -> None:  # MPA-5041-3-08, DDP-5041-5.4-03
    peer = RawPeer()
    peer.node.receive(2000)
    peer.sends(send(bytes(nbytes)))
    assert [done.nbytes for done in peer.node.received()] == [nbytes]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100, 1 << 20])
def test_boundaries_survive_any_cutting_of_the_stream(chunk: int) -> None:  # MPA-5041-3-04, MPA-5044-4.3-13
    peer = RawPeer()
    sizes = [0, 1, 2, 3, 4, 5, 100, 0, 33]
    regions = [peer.node.receive(128) for _ in sizes]
    peer.sends(b"".join(peer.frames(send(bytes([n]) * size)) for n, size in enumerate(sizes)), chunk=chunk)
    assert [done.nbytes for done in peer.node.received()] == sizes
    for n, (size, region) in enumerate(zip(sizes, regions, strict=True)):
        assert octets_of(region) == bytes([n]) * size + bytes(128 - size)


def test_nothing_is_delivered_before_it_is_whole(scene: Scene) -> None:  # DDP-5041-5.4-02, DDP-5041-4.1-07, -08
    first, second, last = cut(send(b"hello world"), 4, 4)
    for piece in (first, second):
        scene.peer.sends(piece)
        assert scene.node.received() == []
    scene.peer.sends(last)
    assert [done.nbytes for done in scene.node.received()] == [11]


def test_what_never_becomes_whole_is_never_delivered(scene: Scene) -> None:  # DDP-5041-5.4-02
    scene.peer.sends(send(b"hello", last=False))
    scene.peer.closes()
    assert ended(scene.node.received()) == [("recv 1", Status.WR_FLUSH_ERR), ("recv 2", Status.WR_FLUSH_ERR)]


def test_a_message_waits_for_all_before_it(scene: Scene) -> None:  # DDP-5041-5.4-02, DDP-5041-5.4-01
    """The second message in the middle of the first cannot be delivered, so it is not taken."""
    scene.peer.sends(send(b"first", last=False, msn=1), send(b"second", msn=2))
    assert type(scene.error) is errors.MsnOutOfRange
    assert all(not done.ok for done in scene.node.received())


def test_a_message_is_delivered_once(scene: Scene) -> None:  # DDP-5041-5.3-05
    scene.peer.sends(send(b"once", msn=1))
    assert len(scene.node.received()) == 1
    scene.peer.sends(send(b"once", msn=1))
    scene.peer.expects_terminate(errors.MsnOutOfRange.term)
    assert ended(scene.node.received()) == [("recv 2", Status.WR_FLUSH_ERR)]


def test_the_octet_of_the_ulp_decides_what_a_message_is(scene: Scene) -> None:
    # DDP-5041-4.3-03, DDP-5041-5.4-05, RDMAP-5040-3.2-03: solicited and invalidating as the wire says, that STag only
    scene.peer.sends(send(b"a", opcode=Opcode.SEND_SE))
    scene.peer.sends(send(b"b", opcode=Opcode.SEND_INVAL, inval_stag=scene.region.stag))
    assert [(done.solicited, done.inval_stag) for done in scene.node.received()] == [
        (True, None),
        (False, scene.region.stag),
    ]
    assert not scene.region.is_open
    assert scene.read_only.is_open
    assert scene.write_only.is_open


@pytest.mark.parametrize("nbytes", [0, 3])
@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"rv": 0}, errors.RdmapVersion),
        ({"rv": 2}, errors.RdmapVersion),
        ({"opcode": Opcode.SEND}, errors.UnexpectedOpcode),
        ({"opcode": 0xF}, errors.UnexpectedOpcode),
        ({"dv": 0}, errors.TaggedVersion),
        ({"dv": 3}, errors.TaggedVersion),
    ],
)
def test_a_tagged_segment_s_control_octets_are_looked_at(
    scene: Scene, fields: dict[str, int], violation: type[errors.ProtocolViolation], nbytes: int
) -> None:  # DDP-5041-4.2-03, DDP-5041-5.2-11, DDP-5041-4.1-12: even in a message without payload
    bad = write(scene.region.stag, scene.region.to, b"abc"[:nbytes])
    scene.peer.sends(type(bad)(**vars(bad) | fields))
    scene.peer.expects_terminate(violation.term, mdr="110", segment_length=14 + nbytes)


def test_each_response_finds_its_read() -> None:  # DDP-5041-4.2-07, RDMAP-5040-5.5-06, RDMAP-5040-5.5-12
    peer = RawPeer()
    sinks = [peer.node.region(4) for _ in range(3)]
    peer.node.post(*[Read(sink[:], RemoteRegion(0, 5, 4), number) for number, sink in enumerate(sinks)])
    peer.hears()
    for number, sink in enumerate(sinks):
        peer.sends(response(sink.stag, sink.to, bytes([number]) * 4))
        assert ended(peer.node.sent()) == [(number, Status.SUCCESS)]
        assert [octets_of(each) for each in sinks] == [
            bytes([n]) * 4 if n <= number else bytes(4) for n in range(len(sinks))
        ]


def test_msns_wrap_in_both_directions() -> None:  # DDP-5041-4.3-09
    pair = Pair()
    left, right = pair.left.qp.stream, pair.right.qp.stream
    left.send_msn = left.read_msn = 0xFFFF_FFFE
    for queue in right._queues.values():
        queue.due_msn = 0xFFFF_FFFE
    source, sink = pair.right.region(b"source"), pair.left.region(6)
    for number in range(4):
        pair.right.receive(8, number)
        pair.left.send(bytes([number]))
        pair.left.post(Read(sink[:], source[:].remote()))
    pair.run()
    assert [done.wr_id for done in pair.right.received()] == [0, 1, 2, 3]
    assert all(done.ok for done in pair.left.sent())
    assert left.send_msn == left.read_msn == 2
