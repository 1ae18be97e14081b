"""RFC 7306 §6, Immediate Data: eight octets that take a receive and come in its completion."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.mr import RemoteRegion
from pyiwarp.queues.work import Immediate, Send, Status, Write
from tests.harness import Pair, RawPeer, cut, ended, octets_of, send, write
from tests.rfc.scene import Scene, immediate

FLUSHED = Status.WR_FLUSH_ERR


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("solicited", [False, True])
def test_immediate_data_octet_by_octet(solicited: bool) -> None:
    # EXT-7306-6.2-01, EXT-7306-6.3-01, -04, -05, EXT-7306-4.1-01, -02, -03, -05, EXT-7306-4.2-01
    peer = RawPeer()
    peer.node.post(Immediate(bytes(range(1, 9)), solicited=solicited))
    (heard,) = peer.hears()
    assert heard.ulpdu == bytes.fromhex(
        f"41 {'49' if solicited else '48'} 00000000 00000000 00000001 00000000 0102030405060708"
    )


def test_immediate_data_keeps_its_place(scene: Scene) -> None:  # EXT-7306-6.3-06, EXT-7306-6.3-04
    scene.node.post(
        Write(remote=RemoteRegion(0, 5, 1), inline=b"w"),
        Immediate(b"11111111"),
        Send(inline=b"s"),
        Immediate(b"22222222", solicited=True),
    )
    heard = scene.peer.hears()
    assert [(each.opcode, each.msn) for each in heard] == [
        (Opcode.WRITE, None),
        (Opcode.IMMEDIATE, 1),
        (Opcode.SEND, 2),
        (Opcode.IMMEDIATE_SE, 3),
    ]


@pytest.mark.parametrize("opcode", [Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE])
def test_the_program_gets_eight_octets(scene: Scene, opcode: Opcode) -> None:  # EXT-7306-6.1-01
    events: list[str] = []
    scene.node.recv_cq.arm(lambda: events.append("event"), solicited_only=True)
    scene.peer.sends(immediate(b"ABCDEFGH", opcode=opcode))
    solicited = opcode is Opcode.IMMEDIATE_SE
    assert events == ["event"] * solicited
    (done,) = scene.node.received()
    assert (done.immediate, done.solicited, done.wr_id, done.status) == (
        b"ABCDEFGH",
        solicited,
        "recv 1",
        Status.SUCCESS,
    )


def test_each_takes_a_receive_and_an_msn(scene: Scene) -> None:  # EXT-7306-6.3-02
    scene.peer.sends(send(b"x", msn=1), immediate(msn=2))
    assert [done.wr_id for done in scene.node.received()] == ["recv 1", "recv 2"]
    scene.peer.sends(immediate(msn=3))
    scene.peer.expects_terminate(errors.NoBufferForMsn.term, mdr="110")


def test_sends_and_immediate_data_come_in_the_order_sent() -> None:  # EXT-7306-6.3-03
    scene = Scene(receives=40)
    messages = [immediate(bytes([n]) * 8) if n % 3 else send(bytes([n]) * 8) for n in range(40)]
    scene.peer.sends(b"".join(map(scene.peer.frames, messages)))
    done = scene.node.received()
    assert [each.wr_id for each in done] == [f"recv {n + 1}" for n in range(40)]
    got = [each.immediate or octets_of(region)[:8] for each, region in zip(done, scene.receives, strict=True)]
    assert got == [bytes([n]) * 8 for n in range(40)]


@pytest.mark.parametrize("nbytes", [0, 1, 7, 9, 16])
@pytest.mark.parametrize("opcode", [Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE])
def test_any_other_number_of_octets_is_refused(scene: Scene, opcode: Opcode, nbytes: int) -> None:
    # EXT-7306-6.3-07, EXT-7306-6.1-02, ambiguity 20
    scene.peer.sends(immediate(bytes(nbytes), opcode=opcode))
    scene.peer.expects_terminate(errors.MalformedMessage.term, mdr="110", segment_length=18 + nbytes)
    assert type(scene.error) is errors.MalformedMessage
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


@pytest.mark.parametrize("first", [0, 4, 8])
def test_immediate_data_in_two_segments_is_refused(scene: Scene, first: int) -> None:  # EXT-7306-6.3-07
    scene.peer.sends(*cut(immediate(), first))
    scene.peer.expects_terminate(errors.MalformedMessage.term)
    assert octets_of(scene.receives[0]) == bytes(40)


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"dv": 0}, errors.UntaggedVersion),
        ({"dv": 2}, errors.UntaggedVersion),
        ({"msn": 0}, errors.MsnOutOfRange),
        ({"msn": 2}, errors.MsnOutOfRange),
        ({"mo": 8}, errors.MisplacedSegment),
        ({"mo": 1}, errors.MisplacedSegment),
        ({"qn": 1}, errors.UnexpectedOpcode),
        ({"qn": 2}, errors.UnexpectedOpcode),
        ({"qn": 4, "msn": 1}, errors.InvalidQn),
        ({"rv": 0}, errors.RdmapVersion),  # EXT-7306-4.1-01, EXT-7306-8.2-03
        ({"rv": 2}, errors.RdmapVersion),
        ({"rv": 3}, errors.RdmapVersion),
        ({"tagged": True}, errors.UnexpectedOpcode),
    ],
)
def test_header_fields_are_validated(
    scene: Scene, fields: dict[str, Any], violation: type[errors.ProtocolViolation]
) -> None:  # EXT-7306-8.2-01, EXT-7306-8.2-03, EXT-7306-8.1-02
    scene.peer.sends(immediate(**fields))
    assert type(scene.error) is violation
    scene.peer.expects_terminate(violation.term, mdr="110")
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


def test_the_invalidate_field_of_immediate_data_is_not_looked_at(scene: Scene) -> None:  # EXT-7306-4.1-04
    scene.peer.sends(immediate(inval_stag=scene.region.stag))
    assert [done.inval_stag for done in scene.node.received()] == [None]
    assert scene.region.is_open


def test_what_was_written_before_is_there(scene: Scene) -> None:  # EXT-7306-6.4-01
    seen: list[bytes] = []
    scene.node.recv_cq.arm(lambda: seen.append(octets_of(scene.region)[:4]))
    message = write(scene.region.stag, scene.region.to, b"data")
    burst = b"".join(scene.peer.frames(segment) for segment in [*cut(message, 2), immediate()])
    scene.peer.sends(burst, chunk=3)
    assert seen == [b"data"]


def test_a_write_with_immediate_data_between_two_sides() -> None:  # EXT-7306-6.4-01, EXT-7306-6.3-06
    pair = Pair(chunk=11)
    region = pair.right.region(10_000)
    source = pair.left.region(b"w" * 10_000)
    pair.right.receive(0, "told")
    pair.left.post(Write((source[:],), region[:].remote()), Immediate(b"complete"))
    pair.run()
    (done,) = pair.right.received()
    assert (done.immediate, octets_of(region)) == (b"complete", b"w" * 10_000)
