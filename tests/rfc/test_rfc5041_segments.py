"""RFC 5041 §4 and §5: what segments carry, how messages are cut and put together again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.mr import MemoryRegion, RemoteRegion
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Recv, Send, SendRequest, Status, Write
from tests.harness import Pair, RawPeer, Segment, cut, ended, octets_of, read, response, send, write
from tests.rfc.scene import Scene, fetch_add

FAR = RemoteRegion(0x0123_4567_FFFF_FF01, 0xA5C3F00D, 1 << 31)


@pytest.fixture(params=["the fast way", "the plain way"])
def scene(request: pytest.FixtureRequest) -> Scene:
    """What comes with markers goes the plain way, everything else the fast way."""
    return Scene(receive_markers=request.param == "the plain way")


# --- what is sent ----------------------------------------------------------------------------------------------------

SMALL, LARGE = 128, 9000
SMALL_SIZES = [0, 1, 109, 110, 111, 113, 114, 115, 220, 228, 229, 10_000]
LARGE_SIZES = [4097, 8982, 8983, 8986, 8987, 20_000, 70_000]
WAYS = {
    "one element": (SMALL, SMALL_SIZES),
    "inline": (SMALL, SMALL_SIZES[:-1]),
    "in two elements": (SMALL, SMALL_SIZES),
    "behind a Read": (SMALL, SMALL_SIZES),
    "with markers": (SMALL, SMALL_SIZES),
    "in large segments": (LARGE, LARGE_SIZES),
}
CUT = [(way, mulpdu, nbytes) for way, (mulpdu, sizes) in WAYS.items() for nbytes in sizes]


def tagged_segments(octet: int, stag: int, to: int, payload: bytes, mulpdu: int) -> Iterator[bytes]:
    """What RFC 5041 §4.2 and §5.2 make of a message, word by word."""
    room = mulpdu - 14
    for start in range(0, max(len(payload), 1), room):
        last = 0x40 if start + room >= len(payload) else 0
        yield struct.pack(">BBIQ", 0x81 | last, octet, stag, to + start) + payload[start : start + room]


def untagged_segments(
    octet: int, payload: bytes, mulpdu: int, *, inval_stag: int = 0, qn: int = 0, msn: int = 1
) -> Iterator[bytes]:
    """As `tagged_segments`, with §4.3."""
    room = mulpdu - 18
    for start in range(0, max(len(payload), 1), room):
        last = 0x40 if start + room >= len(payload) else 0
        header = struct.pack(">BBIIII", 0x01 | last, octet, inval_stag, qn, msn, start)
        yield header + payload[start : start + room]


@pytest.mark.parametrize(("way", "mulpdu", "nbytes"), CUT)
@pytest.mark.parametrize("tagged", [False, True])
def test_a_message_is_cut_into_segments(tagged: bool, way: str, mulpdu: int, nbytes: int) -> None:
    # DDP-5041-5.2-01, -02, -04, -07, -08, -09, -10, DDP-5041-5.3-02, DDP-5041-4.1-01, -02, -03, -04, -05, -06, -09, -11
    # DDP-5041-4.1-12, DDP-5041-4.2-01, -02, -04, -05, -06, -08, -09, DDP-5041-4.3-01, -02, -04, -06, -08, -10, -11
    # DDP-5041-4.4-01, MPA-5041-3-07, MPA-5044-3-01, MPA-5044-4.5-05: each FPDU is one segment, full but for the last
    peer = RawPeer(mulpdu=mulpdu, send_markers=way == "with markers")
    payload = bytes(n % 251 for n in range(nbytes))
    memory = peer.node.region(payload)
    sges = (memory[: nbytes // 3], memory[nbytes // 3 :]) if way == "in two elements" else (memory[:],)
    if way == "behind a Read":
        peer.node.post(Read(peer.node.region(4)[:], RemoteRegion(0, 5, 4)))
    if way == "inline":
        peer.node.post(Write(remote=FAR, inline=payload) if tagged else Send(inline=payload))
    else:
        peer.node.post(Write(sges, FAR) if tagged else Send(sges))
    if way == "behind a Read":
        peer.expects(Opcode.READ_REQUEST)
    expected = (
        tagged_segments(0x40, FAR.stag, FAR.to, payload, mulpdu) if tagged else untagged_segments(0x43, payload, mulpdu)
    )
    assert [each.ulpdu for each in peer.hears()] == list(expected)


@pytest.mark.parametrize("markers", [False, True])
def test_the_ulp_s_40_bits_are_in_every_segment(markers: bool) -> None:  # DDP-5041-4.3-02, DDP-5041-4.3-04
    peer = RawPeer(mulpdu=128, send_markers=markers)
    memory = peer.node.region(300)
    requests = [Send((memory[:],), inval_stag=0x11223344), Send((memory[:],)), Send((memory[:],), solicited=True)]
    peer.node.post(*requests, Send((memory[:],), solicited=True, inval_stag=0x55667788))
    prefixes = [each.ulpdu[1:6].hex() for each in peer.hears()]
    assert prefixes == [each for each in ("4411223344", "4300000000", "4500000000", "4655667788") for _ in range(3)]


@pytest.mark.parametrize("markers", [False, True])
def test_the_octet_of_a_small_message_says_what_it_is(markers: bool) -> None:  # DDP-5041-4.3-02, DDP-5041-4.2-02
    peer = RawPeer(send_markers=markers)
    peer.node.post(Send(inline=b"1", solicited=True), Send(inline=b"2"), Write(remote=FAR, inline=b"3"))
    assert [each.ulpdu[1:6].hex() for each in peer.hears()] == ["4500000000", "4300000000", "40a5c3f00d"]


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("nbytes", [3, 64, 1000])
def test_a_response_goes_where_its_request_said(nbytes: int, markers: bool) -> None:
    # DDP-5041-4.2-05, -02, -04, -08, DDP-5041-4.1-01, -03, -04, DDP-5041-5.2-09
    peer = RawPeer(mulpdu=128, send_markers=markers)
    source = peer.node.region(bytes(n % 251 for n in range(nbytes)))
    peer.sends(read(source, size=nbytes, sink_stag=0xDEADBEEF, sink_to=0x01234567_FFFFFFEF))
    expected = tagged_segments(0x42, 0xDEADBEEF, 0x01234567_FFFFFFEF, octets_of(source), 128)
    assert [each.ulpdu for each in peer.hears()] == list(expected)


def test_every_kind_of_message_has_its_queue_and_its_numbers() -> None:
    # DDP-5041-4.3-06, DDP-5041-4.3-07, DDP-5041-4.3-08, DDP-5041-5.3-01: each queue counts for itself, from 1
    scene = Scene(mulpdu=128)
    big = scene.node.region(200)
    sink, remote = scene.node.region(8), RemoteRegion(16, 0x77, 8)
    requests: list[SendRequest] = [Send(inline=b"small"), Send(inline=b"another"), Read(sink[:], remote)]
    requests += [FetchAdd(remote, 1), Immediate(b"12345678"), Send((big[:],)), Write(remote=remote, inline=b"1")]
    requests += [Send(inline=b"1"), Read(sink[:], remote), FetchAdd(remote, 1), Immediate(b"12345678", solicited=True)]
    scene.node.post(*requests)
    assert [(each.qn, each.opcode, each.msn) for each in scene.peer.hears() if each.last] == [
        (0, Opcode.SEND, 1),
        (0, Opcode.SEND, 2),
        (1, Opcode.READ_REQUEST, 1),
        (1, Opcode.ATOMIC_REQUEST, 2),
        (0, Opcode.IMMEDIATE, 3),
        (0, Opcode.SEND, 4),
        (None, Opcode.WRITE, None),
        (0, Opcode.SEND, 5),
        (1, Opcode.READ_REQUEST, 3),
        (1, Opcode.ATOMIC_REQUEST, 4),
        (0, Opcode.IMMEDIATE_SE, 6),
    ]
    scene.peer.sends(fetch_add(scene.region), fetch_add(scene.region))
    assert [(each.qn, each.opcode, each.msn) for each in scene.peer.hears()] == [
        (3, Opcode.ATOMIC_RESPONSE, 1),
        (3, Opcode.ATOMIC_RESPONSE, 2),
    ]
    scene.peer.sends(write(5, 0, b"bad"))
    scene.peer.expects_terminate(errors.InvalidStag.term, qn=2, msn=1)


# --- what is received ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("sizes", [(), (4,), (1, 0, 2)])
@pytest.mark.parametrize("nbytes", [0, 1, 17, 1000])
def test_lengths_are_exact(nbytes: int, sizes: tuple[int, ...], markers: bool) -> None:
    # MPA-5041-3-04, -08, DDP-5041-4.4-01, DDP-5041-5.2-05, -10, DDP-5041-5.4-01, -03, -04: in however many segments
    peer = RawPeer(receive_markers=markers)
    memory, written = peer.node.receive(1008), peer.node.region(b"." * 1008)
    payload = bytes(n % 250 + 1 for n in range(nbytes))
    sizes = sizes if sum(sizes) <= nbytes else ()
    peer.sends(*cut(send(payload), *sizes))
    assert [(done.ok, done.nbytes) for done in peer.node.received()] == [(True, nbytes)]
    assert octets_of(memory) == payload.ljust(1008, b"\0")
    peer.sends(*cut(write(written.stag, written.to, payload), *sizes))
    assert octets_of(written) == payload.ljust(1008, b".")


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize(
    ("mo", "nbytes", "error"),
    [
        (6, 4, None),
        (0, 10, None),
        (10, 1, errors.InvalidMo),  # DDP-5041-7.1-07
        (0xFFFF_FFFF, 1, errors.InvalidMo),
        (9, 2, errors.MessageTooLong),  # DDP-5041-7.1-08
        (0, 11, errors.MessageTooLong),
    ],
)
def test_a_receive_of_several_elements_ends_with_the_last(
    mo: int, nbytes: int, error: type[errors.ProtocolViolation] | None, markers: bool
) -> None:  # DDP-5041-7.1-07, DDP-5041-7.1-08, DDP-5041-5.2-05
    peer = RawPeer(receive_markers=markers)
    one, two, three = (peer.node.region(b"." * size) for size in (8, 8, 8))
    peer.node.qp.post_recv(Recv((one[2:5], two[:6], three[7:]), "recv"))
    if error is None:
        peer.sends(send(b"." * mo, last=False))
    peer.sends(send(b"!" * nbytes, mo=mo))
    memory = octets_of(one)[2:5] + octets_of(two)[:6] + octets_of(three)[7:]
    untouched = octets_of(one)[:2] + octets_of(one)[5:] + octets_of(two)[6:] + octets_of(three)[:7]
    assert untouched == b"." * 14
    if error is None:
        assert memory == b"." * mo + b"!" * nbytes + b"." * (10 - mo - nbytes)
        assert [done.nbytes for done in peer.node.received()] == [mo + nbytes]
    else:
        peer.expects_terminate(error.term, mdr="110")
        assert memory == b"." * 10


def test_t_says_what_a_segment_is_for(scene: Scene) -> None:  # DDP-5041-4.1-01, DDP-5041-4.1-02, DDP-5041-5.2-05
    scene.peer.sends(*cut(write(scene.region.stag, scene.region.to, b"written"), 2, 2))
    scene.peer.sends(*cut(send(b"sent"), 1, 1))
    assert octets_of(scene.region)[:8] == b"written."
    assert octets_of(scene.receives[0])[:5] == b"sent\0"
    assert [(done.wr_id, done.nbytes) for done in scene.node.received()] == [("recv 1", 4)]


@pytest.mark.parametrize("dv", [0, 2, 3])
@pytest.mark.parametrize("last", [True, False])
def test_an_untagged_segment_s_version_is_looked_at(scene: Scene, dv: int, last: bool) -> None:  # DDP-5041-4.1-12
    scene.peer.sends(send(b"good"), send(b"good", last=False))
    bad = send(b"bad", mo=4, msn=2, dv=dv, last=last)
    scene.peer.sends(bad)
    scene.peer.expects_terminate(errors.UntaggedVersion.term, mdr="110", quoted=bad.octets(2)[:18])
    assert octets_of(scene.receives[1])[:8] == b"good\0\0\0\0"


@pytest.mark.parametrize("markers", [False, True])
def test_messages_are_delivered_in_the_order_of_sending(markers: bool) -> None:
    # DDP-5041-5.3-06, DDP-5041-4.1-07, DDP-5041-5.4-01, MPA-5041-3-04: all kinds and sizes, in one delivery
    peer = RawPeer(receive_markers=markers)
    kinds = [Opcode.SEND, Opcode.SEND_SE, Opcode.IMMEDIATE]  # the last has eight octets, and places none
    sizes = [0 if number % 3 == 2 else number for number in range(60)]
    regions = [peer.node.receive(64, number) for number in range(60)]
    segments = []
    for number, nbytes in enumerate(sizes):
        message = send(bytes([number]) * nbytes, opcode=kinds[number % 3])
        if number % 3 == 2:
            segments.append(replace(message, payload=bytes([number]) * 8))
        else:
            segments += cut(message, nbytes // 2) if number % 2 else [message]
    peer.sends(b"".join(map(peer.frames, segments)))
    done = peer.node.received()
    assert [each.nbytes for each in done] == sizes
    assert [each.solicited for each in done] == [number % 3 == 1 for number in range(60)]
    assert [each.immediate for each in done] == [
        bytes([number]) * 8 if number % 3 == 2 else None for number in range(60)
    ]
    assert [each.wr_id for each in done] == list(range(60))
    for number, (nbytes, region) in enumerate(zip(sizes, regions, strict=True)):
        assert octets_of(region) == bytes([number]) * nbytes + bytes(64 - nbytes)


@pytest.mark.parametrize("opcode", [Opcode.SEND, Opcode.SEND_INVAL])
@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100, 1 << 20])
def test_boundaries_survive_any_cutting_of_the_stream(chunk: int, markers: bool, opcode: Opcode) -> None:
    # MPA-5041-3-04, MPA-5044-4.3-13
    peer = RawPeer(receive_markers=markers)
    taken = [peer.node.region(1).stag if opcode is Opcode.SEND_INVAL else 0 for _ in range(9)]
    sizes = [0, 1, 2, 3, 4, 5, 100, 0, 33]
    regions = [peer.node.receive(128) for _ in sizes]
    messages = [
        send(bytes([n]) * size, opcode=opcode, inval_stag=stag)
        for n, (size, stag) in enumerate(zip(sizes, taken, strict=True))
    ]
    peer.sends(b"".join(map(peer.frames, messages)), chunk=chunk)
    assert [done.nbytes for done in peer.node.received()] == sizes
    for n, (size, region) in enumerate(zip(sizes, regions, strict=True)):
        assert octets_of(region) == bytes([n]) * size + bytes(128 - size)


SINKS: dict[str, tuple[int, Segment]] = {
    "Send": (0, send(mo=9)),
    "Send with Invalidate": (0, send(opcode=Opcode.SEND_INVAL, mo=9)),
    "Send with Solicited Event": (0, send(opcode=Opcode.SEND_SE, mo=9)),
    "Send with Solicited Event and Invalidate": (0, send(opcode=Opcode.SEND_SE_INVAL, mo=9)),
    "Read Request": (1, Segment(opcode=Opcode.READ_REQUEST, qn=1, mo=28)),
    "Atomic Request": (1, Segment(opcode=Opcode.ATOMIC_REQUEST, qn=1, mo=52)),
    "Terminate": (2, Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, mo=4)),
}


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("case", SINKS)
def test_a_message_of_which_no_octet_came_is_refused(case: str, markers: bool) -> None:
    # DDP-5041-5.4-02, DDP-5041-5.4-03: it would be delivered as what lies in the buffer, another client's message
    qn, empty = SINKS[case]
    scene = Scene(receive_markers=markers)
    before = scene.memory()
    ulpdu = empty.octets(1)
    scene.peer.sends(empty)
    scene.peer.expects_terminate(errors.MisplacedSegment.term, mdr="110", quoted=ulpdu[:18])
    assert scene.peer.hears() == [], "nothing is answered"
    assert scene.node.qp.stream.due_msn(QueueNumber(qn)) == 1
    assert [done.ok for done in scene.node.received()] == [False, False]
    assert scene.memory() == before


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


def test_a_message_before_its_predecessor_is_not_delivered(scene: Scene) -> None:  # DDP-5041-5.4-01, DDP-5041-5.4-02
    """It is whole, and nothing of the first message is here: it is not delivered in the first one's place."""
    scene.peer.sends(send(b"second", msn=2))
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


def three_reads(markers: bool) -> tuple[RawPeer, list[MemoryRegion]]:
    """Three Reads under way, and their sinks."""
    peer = RawPeer(receive_markers=markers)
    sinks = [peer.node.region(4) for _ in range(3)]
    peer.node.post(*[Read(sink[:], RemoteRegion(0, 5, 4), number) for number, sink in enumerate(sinks)])
    peer.hears()
    return peer, sinks


@pytest.mark.parametrize("markers", [False, True])
def test_each_response_finds_its_read(markers: bool) -> None:
    # DDP-5041-4.2-07, DDP-5041-4.1-08, RDMAP-5040-5.5-06, RDMAP-5040-5.5-12
    peer, sinks = three_reads(markers)
    for number, sink in enumerate(sinks):
        first, last = cut(response(sink.stag, sink.to, bytes([number]) * 4), 3)
        peer.sends(first)
        assert peer.node.sent() == [], "the second segment is the last"
        peer.sends(last)
        assert ended(peer.node.sent()) == [(number, Status.SUCCESS)]
        assert [octets_of(each) for each in sinks] == [
            bytes([n]) * 4 if n <= number else bytes(4) for n in range(len(sinks))
        ]


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_response_names_the_sink_of_the_read_that_is_due(markers: bool, position: int) -> None:  # DDP-5041-4.2-07
    peer, sinks = three_reads(markers)
    for sink in sinks[:position]:
        peer.sends(response(sink.stag, sink.to, b"good"))
    other = sinks[position - 1]
    peer.sends(response(other.stag, sinks[position].to, b"bad!"))
    peer.expects_terminate(errors.InvalidStag.term)
    assert [octets_of(sink) for sink in sinks] == [b"good"] * position + [bytes(4)] * (3 - position)


@pytest.mark.parametrize("reading", [False, True])
def test_msns_wrap_in_both_directions(reading: bool) -> None:  # DDP-5041-4.3-09: small Sends alone, and among Reads
    pair = Pair()
    left, right = pair.left.qp.stream, pair.right.qp.stream
    left.send_msn = left.read_msn = 0xFFFF_FFFE
    for queue in right._queues.values():
        queue.due_msn = 0xFFFF_FFFE
    source, sink = pair.right.region(b"source"), pair.left.region(6)
    for number in range(4):
        pair.right.receive(8, number)
        pair.left.send(bytes([number]))
        if reading:
            pair.left.post(Read(sink[:], source[:].remote()))
    pair.run()
    assert [done.wr_id for done in pair.right.received()] == [0, 1, 2, 3]
    assert all(done.ok for done in pair.left.sent())
    assert left.send_msn == 2
    assert left.read_msn == (2 if reading else 0xFFFF_FFFE)
