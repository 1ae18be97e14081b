"""RFC 5040 §3, §4 and §5: the messages octet by octet, and what each does at the other end."""

from __future__ import annotations

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.work import Read, Recv, Send, SendRequest, Status, Write
from tests.harness import RawPeer, Segment, ended, octets_of, read, response, send, write
from tests.rfc.scene import Scene

THERE = RemoteRegion(0x0123456789ABCDEF, 0xA5C3F00D, 100)
FLUSHED = Status.WR_FLUSH_ERR


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- what is sent ----------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, tuple[SendRequest, str]] = {
    "Write": (Write(remote=THERE, inline=b"abc"), "C1 40 A5C3F00D 0123456789ABCDEF 616263"),
    "empty Write": (Write(remote=THERE), "C1 40 A5C3F00D 0123456789ABCDEF"),
    "Send": (Send(inline=b"abc"), "41 43 00000000 00000000 00000001 00000000 616263"),
    "empty Send": (Send(), "41 43 00000000 00000000 00000001 00000000"),
    "Send SE": (Send(inline=b"a", solicited=True), "41 45 00000000 00000000 00000001 00000000 61"),
    "Send Inv": (Send(inline=b"a", inval_stag=0x11223344), "41 44 11223344 00000000 00000001 00000000 61"),
    "Send SE Inv": (
        Send(inline=b"a", inval_stag=0x11223344, solicited=True),
        "41 46 11223344 00000000 00000001 00000000 61",
    ),
    "empty Read": (
        Read(remote=THERE),
        "41 41 00000000 00000001 00000001 00000000 00000000 0000000000000000 00000000 A5C3F00D 0123456789ABCDEF",
    ),
}


@pytest.mark.parametrize("markers", [False, True], ids=["fast way", "plain way"])
@pytest.mark.parametrize("case", OPERATIONS)
def test_every_operation_octet_by_octet(case: str, markers: bool) -> None:
    # RDMAP-6580-3.4-01
    # RDMAP-5040-3.2-01, RDMAP-5040-3.1-02, -04, RDMAP-5040-4.1-01, -02, -03, -04, -05, -06, -07, -08, -10
    # RDMAP-5040-4.2-01, -02, -03, RDMAP-5040-5.1-01, -09, RDMAP-5040-5.3-01, -08, -12
    peer = RawPeer(send_markers=markers)
    request, octets = OPERATIONS[case]
    peer.node.post(request)
    assert [each.ulpdu for each in peer.hears()] == [bytes.fromhex(octets)]


def test_a_read_request_octet_by_octet() -> None:  # RDMAP-5040-3.2-01, RDMAP-5040-4.4-01, RDMAP-5040-5.2.1-01, -06, -10
    peer = RawPeer()
    sink = peer.node.region(16)
    peer.node.post(Read(sink[4:], THERE))
    (heard,) = peer.hears()
    expected = "41 41 00000000 00000001 00000001 00000000" + f"{sink.stag:08X} {sink.to + 4:016X} 0000000C"
    assert heard.ulpdu == bytes.fromhex(expected + "A5C3F00D 0123456789ABCDEF")


def test_a_response_octet_by_octet(scene: Scene) -> None:  # RDMAP-5040-4.1-04, -05, RDMAP-5040-4.2-03
    scene.peer.sends(read(scene.region, size=2, sink_stag=0x01020304, sink_to=5))
    (heard,) = scene.peer.hears()
    assert heard.ulpdu == bytes.fromhex("C1 42 01020304 0000000000000005 2E2E")


TERMINATES: dict[str, tuple[Segment, str]] = {
    "DDP, tagged": (write(0x01020304, 0x1000, b"abcd"), "1100 C000 0012 C140 01020304 0000000000001000"),
    "DDP, untagged": (send(b"abcd", qn=9, msn=1), "1201 C000 0016 4143 00000000 00000009 00000001 00000000"),
    "protection": (
        read(size=16, source_stag=5, source_to=7, sink_stag=3, sink_to=9),
        "0100 E000 002E 4141 00000000 00000001 00000001 00000000"
        "00000003 0000000000000009 00000010 00000005 0000000000000007",
    ),
    "operation": (send(b"ab", opcode=0xF, msn=1), "0206 C000 0014 414F 00000000 00000000 00000001 00000000"),
}


@pytest.mark.parametrize("case", TERMINATES)
def test_a_terminate_octet_by_octet(scene: Scene, case: str) -> None:
    # RDMAP-5040-4.2-01, -02, RDMAP-5040-4.8-01..-07, -09, -10, -11, RDMAP-5040-5.4-01, -02, RDMAP-5040-3.1-02, -05
    # RDMAP-5040-4.1-04, -06, -10
    segment, payload = TERMINATES[case]
    scene.peer.sends(segment)
    (heard,) = scene.peer.hears()
    assert heard.ulpdu == bytes.fromhex("41 47 00000000 00000002 00000001 00000000" + payload)


def test_memory_is_written_one_region_at_a_time() -> None:  # RDMAP-5040-5.1-08, RDMAP-5040-5.2.1-09
    peer = RawPeer(mulpdu=128)
    source, sink = peer.node.region(300), peer.node.region(300)
    peer.node.post(Write((source[:],), RemoteRegion(0, 1, 300)), Write((source[:],), RemoteRegion(0, 2, 300)))
    peer.node.post(Read(sink[:], RemoteRegion(0, 3, 300)), Read(sink[:], RemoteRegion(0, 4, 300)))
    heard = peer.hears()
    assert [(each.stag, each.last) for each in heard[:6]] == [(1, False)] * 2 + [(1, True)] + [(2, False)] * 2 + [
        (2, True)
    ]
    assert [(each.msn, each.read_request.source_stag) for each in heard[6:]] == [(1, 3), (2, 4)]


def test_everything_travels_in_ddp_segments() -> None:  # RDMAP-5040-3.1-01, RDMAP-5040-6.1-01, RDMAP-5040-3.1-03
    """Every octet after startup is part of an FPDU whose segment has a good header; one message is one DDP message."""
    scene = Scene(mulpdu=128)
    memory = scene.node.region(400)
    scene.node.post(Send((memory[:],)), Write((memory[:],), THERE), Read(memory[:], THERE), Send(inline=b"x"))
    scene.peer.sends(read(memory, size=400), write(7, 0, b"x"))
    open_messages: dict[object, Opcode] = {}
    for each in scene.peer.hears():  # `Heard` looks at version and reserved bits
        flow = "tagged" if each.tagged else each.qn
        assert open_messages.setdefault(flow, each.opcode) is each.opcode, "a message changes its kind in the middle"
        if each.last:
            del open_messages[flow]
    assert scene.peer.node.qp.stream.octets_sent == scene.peer._heard_offset


def test_by_default_as_many_reads_out_as_in() -> None:  # RDMAP-5040-6.1-04
    assert Offer().ird == Offer().ord > 0


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", range(16))
@pytest.mark.parametrize("place", ["tagged", 0, 1, 2, 3])
def test_every_opcode_in_every_place(opcode: int, place: str | int) -> None:
    # RDMAP-5040-3.1-02, RDMAP-5040-4.1-04, RDMAP-5040-5.2.1-06, RDMAP-5040-5.3-08, RDMAP-5040-7.2-02, -07
    # RDMAP-6580-3.4-02, EXT-7306-5.2.1-15, -5.2.2-04
    figure_4 = {"tagged": {0, 2}, 0: {3, 4, 5, 6, 8, 9}, 1: {1, 0xA}, 2: {7}, 3: {0xB}}
    scene = Scene()
    fields = {"tagged": True} if place == "tagged" else {"qn": place}
    scene.peer.sends(Segment(opcode=opcode, payload=bytes(8), **fields))
    refused = isinstance(scene.error, errors.UnexpectedOpcode)
    unasked = place == "tagged" and opcode == Opcode.READ_RESPONSE
    assert refused is (opcode not in figure_4[place] or unasked)


@pytest.mark.parametrize("rv", [0, 2, 3])
@pytest.mark.parametrize("size", [0, 3])
def test_a_write_of_another_version_is_told(scene: Scene, rv: int, size: int) -> None:
    # RDMAP-5040-5.1-03, RDMAP-5040-4.1-07, RDMAP-5040-7.2-03
    scene.peer.sends(write(scene.region.stag, scene.region.to, b"abc"[:size], rv=rv))
    scene.peer.expects_terminate(errors.RdmapVersion.term, mdr="110", segment_length=14 + size)
    assert isinstance(scene.error, errors.RdmapVersion)
    assert octets_of(scene.region) == b"." * 64


# --- Reads -----------------------------------------------------------------------------------------------------------


def test_every_read_request_takes_one_buffer_of_its_queue() -> None:  # RDMAP-5040-5.2.1-02, RDMAP-5040-5.2.2-03
    scene = Scene(ird=3)
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends()
    scene.peer.sends(*[read(scene.region, size=4, msn=number) for number in (1, 2, 3)])
    assert scene.node.qp.alive
    scene.peer.sends(read(scene.region, size=4, msn=4))
    assert isinstance(scene.error, errors.NoBufferForMsn)


def test_a_request_with_the_msn_of_another_is_refused(scene: Scene) -> None:  # RDMAP-5040-5.2.1-02, RDMAP-5040-7.2-06
    scene.peer.sends(read(scene.region, size=4, msn=1))
    scene.peer.expects(Opcode.READ_RESPONSE)
    scene.peer.sends(read(scene.region, size=4, msn=1))
    scene.peer.expects_terminate(errors.MsnOutOfRange.term)


@pytest.mark.parametrize("size", [1, 114, 115, 5000])
def test_a_response_fills_one_sink(size: int) -> None:  # RDMAP-5040-5.2.2-09, RDMAP-5040-5.2-01, RDMAP-5040-4.4-05
    scene = Scene(mulpdu=128, nbytes=5000)
    scene.peer.sends(read(scene.region, size=size, sink_stag=0xDEADBEEF))
    heard = scene.peer.hears()
    assert {(each.stag, each.opcode) for each in heard} == {(0xDEADBEEF, Opcode.READ_RESPONSE)}
    assert sum(len(each.payload) for each in heard) == size
    assert [each.last for each in heard] == [False] * (len(heard) - 1) + [True]


def test_work_that_was_cut_short_says_so(scene: Scene) -> None:  # RDMAP-5040-3.1-06
    """Octets may lie in the buffers, but no completion says that they are good."""
    sink = scene.node.region(8)
    scene.node.post(Read(sink[:], RemoteRegion(0, 5, 8), "read"))
    scene.peer.hears()
    scene.peer.sends(response(sink.stag, sink.to, b"half", last=False), send(b"half", last=False), write(5, 0, b"x"))
    assert ended(scene.node.sent()) == [("read", FLUSHED)]
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


def test_a_receive_is_never_overrun() -> None:  # RDMAP-5040-5.3-04
    peer = RawPeer()
    memory = peer.node.region(b"#" * 30)
    peer.node.qp.post_recv(Recv((memory[10:15], memory[15:20]), "recv"))
    peer.sends(send(b"12345678901"))
    peer.expects_terminate(errors.MessageTooLong.term, mdr="110")
    assert octets_of(memory) == b"#" * 30
    assert ended(peer.node.received()) == [("recv", Status.LOC_LEN_ERR)]
