"""RFC 5044 §3 to §6: FPDUs, CRCs and markers as the other end of the wire sees them."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.engine.sending import BATCH_OCTETS
from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.work import Completion, Read, Send, Write
from tests.harness import Node, Pair, RawPeer, cut, octets_of, read, send, unframe, write
from tests.rfc.scene import Scene

EVERY_PAD = [0, 1, 2, 3, 4, 5]


def raw_octets(peer: RawPeer) -> bytes:
    """What the engine has said, as it came."""
    peer.sends()
    return bytes(peer._heard.incoming)


# --- FPDUs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("nbytes", EVERY_PAD)
def test_an_fpdu_octet_by_octet(crc: bool, nbytes: int) -> None:
    # MPA-5044-4.1-01, -02, -03, -05, -06, MPA-5044-4.4-11, -12, -13, -16: the CRC field is there in any case
    peer = RawPeer(crc=crc)
    peer.node.send(bytes(range(1, nbytes + 1)))
    octets = raw_octets(peer)
    body = struct.pack(">H", 18 + nbytes) + bytes.fromhex("4143 00000000 00000000 00000001 00000000")
    body += bytes(range(1, nbytes + 1)) + bytes(-(20 + nbytes) % 4)
    assert octets[:-4] == body
    assert not crc or octets[-4:] == crc32c(body).to_bytes(4, "little")
    assert len(octets) % 4 == 0


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_later_fpdu_starts_where_the_earlier_one_ends(crc: bool, pieces: int) -> None:
    # MPA-5044-4.4-11, MPA-5044-3-01, MPA-5044-4.1-06
    peer = RawPeer(crc=crc, mulpdu=128)
    memory = peer.node.region(bytes(n % 251 for n in range(1000)))
    for nbytes in (*EVERY_PAD, 1000, 0):
        peer.node.post(
            Send((memory[:nbytes],) if pieces == 1 else (memory[: nbytes // 2], memory[nbytes // 2 : nbytes]))
        )
    payloads = [each.payload for each in peer.hears()]  # parses strictly, one segment for each FPDU
    assert b"".join(payloads) == b"".join(octets_of(memory)[:nbytes] for nbytes in (*EVERY_PAD, 1000))
    assert peer._heard_offset == peer.node.qp.stream.octets_sent


@pytest.mark.parametrize("pad", [b"\xaa\xbb\xcc", b"\0\0\1"])
def test_the_pad_is_ignored_but_for_the_crc(pad: bytes) -> None:  # MPA-5044-4.1-04
    for nbytes in EVERY_PAD:
        scene = Scene()
        scene.peer.sends(scene.peer.frames(write(scene.region.stag, scene.region.to, b"abcdef"[:nbytes]), pad=pad))
        assert octets_of(scene.region)[:nbytes] == b"abcdef"[:nbytes]
        assert scene.error is None
    frame = bytearray(scene.peer.frames(write(scene.region.stag, scene.region.to, b"1")))
    frame[-6] = 1
    scene.peer.sends(bytes(frame))
    scene.peer.expects_terminate(errors.CrcMismatch.term, mdr="000")


@pytest.mark.parametrize("crc", [0, 0xFFFFFFFF, 0xDEADBEEF])
def test_without_crc_the_field_may_hold_anything(crc: int) -> None:
    # MPA-5044-4.1-07, MPA-5044-7.1.1-08, -10, MPA-5044-4.4-09: from the very first FPDU on
    scene = Scene(crc=False)
    scene.peer.sends(scene.peer.frames(write(scene.region.stag, scene.region.to, b"abc"), crc=crc))
    assert octets_of(scene.region)[:3] == b"abc"
    scene.peer.sends(scene.peer.frames(read(), crc=crc))
    scene.peer.expects(Opcode.READ_RESPONSE)


def test_with_crc_every_fpdu_is_checked_and_has_one() -> None:  # MPA-5044-4.4-01, MPA-5044-4.4-08, MPA-5044-7.1.1-09
    """Each CRC of the stack's is checked by the harness: of small messages, of copied runs, and of large payloads."""
    scene = Scene()
    source = scene.node.region(20_000)
    for _ in range(1000):
        scene.peer.sends(write(scene.region.stag, scene.region.to, b"good"))
        scene.node.send(b"small")
        scene.peer.expects(Opcode.SEND)
    scene.node.post(Write((source[:],), RemoteRegion(0, 1, 20_000)), Send((source[:], source[:])))
    assert {each.opcode for each in scene.peer.hears()} == {Opcode.WRITE, Opcode.SEND}
    scene.peer.sends(scene.peer.frames(write(scene.region.stag, scene.region.to, b"bad!"), crc=12345))
    scene.peer.expects_terminate(errors.CrcMismatch.term, mdr="000", payload=bytes.fromhex("20020000"))
    assert octets_of(scene.region)[:4] == b"good"


def converse(pair: Pair) -> list[object]:
    """A little of everything; what the programs get to see of it."""
    there = pair.right.region(b"t" * 3000)
    here = pair.left.region(b"h" * 3000)
    pair.right.receive(3000)
    pair.left.post(
        Write((here[:],), there[:].remote(), "write"),
        Read(here[:], there[:].remote(), "read"),
        Send((here[:100],), "send", fence=True),
    )
    pair.run()
    done = [*pair.left.sent(), *pair.right.received()]
    return [octets_of(there), octets_of(here), [replace_qp(each) for each in done]]


def replace_qp(completion: Completion) -> Completion:
    return completion._replace(qp_num=0)


def test_a_program_does_not_see_whether_crcs_are_used() -> None:  # MPA-5044-4.4-07
    with_crc, without = Pair(), Pair(initiator=Offer(crc=False), responder=Offer(crc=False))
    assert (with_crc.left.qp.stream.agreement.crc, without.left.qp.stream.agreement.crc) == (True, False)
    assert converse(with_crc) == converse(without)


def test_an_fpdu_is_cut_out_by_its_length() -> None:  # MPA-5044-5.2-01, MPA-5044-6-03, MPA-5044-4.3-14
    """All pad lengths in one delivery."""
    scene = Scene(nbytes=300)
    burst = b"".join(
        scene.peer.frames(write(scene.region.stag, scene.region.to + 10 * n, bytes([65 + n]) * (n + 1)))
        for n in range(9)
    )
    scene.peer.sends(burst)
    assert [octets_of(scene.region)[10 * n : 10 * n + n + 2] for n in range(9)] == [
        bytes([65 + n]) * (n + 1) + b"." for n in range(9)
    ]


def test_a_corrupted_length_places_nothing() -> None:  # MPA-5044-6-03, MPA-5044-6-02, MPA-5044-8-09
    scene = Scene()
    frame = bytearray(scene.peer.frames(write(scene.region.stag, scene.region.to, b"one!")))
    frame[1] += 4
    good = [scene.peer.frames(write(scene.region.stag, scene.region.to, b"two!")) for _ in range(3)]
    scene.peer.sends(bytes(frame) + b"".join(good))
    scene.peer.expects_terminate(errors.CrcMismatch.term)
    scene.peer.expects_end_of_stream()
    assert octets_of(scene.region) == b"." * 64


def test_nothing_behind_a_bad_fpdu_is_taken() -> None:  # MPA-5044-6-02, MPA-5044-6-01, MPA-5044-8-09, MPA-5044-8-02
    scene = Scene()
    bad = scene.peer.frames(write(scene.region.stag, scene.region.to, b"bad!"), crc=0)
    good = [scene.peer.frames(write(scene.region.stag, scene.region.to, b"good")) for _ in range(3)]
    scene.peer.sends(bad + b"".join(good))
    assert [each.opcode for each in scene.peer.hears()] == [Opcode.TERMINATE]
    assert octets_of(scene.region) == b"." * 64


@pytest.mark.parametrize(("crc", "field"), [(True, {}), (False, {}), (False, {"crc": 0xDEADBEEF})])
@pytest.mark.parametrize("markers", [True, False])
def test_the_last_octet_is_waited_for(crc: bool, field: dict[str, int], markers: bool) -> None:  # MPA-5044-6-04
    """Of a Send, a Write and a Read Request: although the octets that are missing are those of the CRC."""
    for lacking in (1, 4):
        scene = Scene(crc=crc, receive_markers=markers)
        frame = scene.peer.frames(send(b"hello"), **field)
        scene.peer.sends(frame[:-lacking])
        assert scene.node.received() == []
        scene.peer.sends(frame[-lacking:])
        assert [done.nbytes for done in scene.node.received()] == [5]
        frame = scene.peer.frames(write(scene.region.stag, scene.region.to, b"hello"), **field)
        scene.peer.sends(frame[:-lacking])
        assert octets_of(scene.region) == b"." * 64
        scene.peer.sends(frame[-lacking:])
        assert octets_of(scene.region)[:6] == b"hello."
        frame = scene.peer.frames(read(scene.region, size=5), **field)
        scene.peer.sends(frame[:-lacking])
        scene.peer.expects_nothing()
        scene.peer.sends(frame[-lacking:])
        assert scene.peer.expects(Opcode.READ_RESPONSE).payload == b"hello"


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 127, 1 << 20])
@pytest.mark.parametrize("markers", [False, True])
def test_alignment_with_tcp_segments_does_not_matter(chunk: int, markers: bool) -> None:
    # MPA-5044-5.1-05, MPA-5044-A.4-01, MPA-5044-5.1-04: fifty FPDUs and half of another in one write, single octets
    peer = RawPeer(receive_markers=markers)
    region = peer.node.region(600)
    regions = [peer.node.receive(40, n) for n in range(51)]
    frames = [peer.frames(send(bytes([n]) * (n % 40))) for n in range(51)]
    burst = b"".join(frames)
    half = len(burst) - len(frames[-1]) // 2
    peer.sends(burst[:half], chunk=chunk)
    assert [done.wr_id for done in peer.node.received()] == list(range(50))
    peer.sends(burst[half:], chunk=chunk)
    assert [done.nbytes for done in peer.node.received()] == [50 % 40]
    assert [octets_of(each)[: n % 40] for n, each in enumerate(regions)] == [bytes([n]) * (n % 40) for n in range(51)]
    peer.sends(write(region.stag, region.to, b"x" * 600), chunk=chunk)
    assert octets_of(region) == b"x" * 600


@pytest.mark.parametrize("nbytes", [0, 1, 2, 3, 64_750])
def test_ulpdus_of_every_size(nbytes: int) -> None:  # MPA-5044-3-06, MPA-5044-3-08, MPA-5044-4.3-14
    peer = RawPeer()
    region = peer.node.receive(64_750)
    peer.sends(send(b"x" * nbytes))
    assert [done.nbytes for done in peer.node.received()] == [nbytes]
    assert octets_of(region) == b"x" * nbytes + bytes(64_750 - nbytes)


# --- markers ---------------------------------------------------------------------------------------------------------


def marked() -> Scene:
    return Scene(receive_markers=True, nbytes=2000)


def test_fpduptr_s_low_bits_and_the_reserved_half_are_ignored() -> None:
    # MPA-5044-4.2-03, -05, MPA-5044-4.3-08: with a CRC over what they hold
    for low in (1, 2, 3):
        for rsvd in (0, 0xFFFF):
            scene = marked()
            frame = bytearray(scene.peer.frames(write(scene.region.stag, scene.region.to, b"m" * 1500)))
            for at in range(0, len(frame), 512):
                frame[at : at + 2] = rsvd.to_bytes(2, "big")
                frame[at + 3] |= low
            frame[-4:] = crc32c(bytes(frame[:-4])).to_bytes(4, "little")
            scene.peer.sends(bytes(frame))
            assert scene.error is None
            assert octets_of(scene.region)[:1501] == b"m" * 1500 + b"."


@pytest.mark.parametrize("at", [0, 1, 512, 513, 1024])
def test_markers_are_covered_by_the_crc(at: int) -> None:  # MPA-5044-4.3-15, MPA-5044-4.3-07, MPA-5044-4.4-15
    scene = marked()
    frame = scene.peer.frames(write(scene.region.stag, scene.region.to, b"m" * 1500))
    scene.peer.sends(frame)
    assert octets_of(scene.region)[:1501] == b"m" * 1500 + b".", "with a CRC over its markers it is accepted"
    scene = marked()
    damaged = bytearray(scene.peer.frames(write(scene.region.stag, scene.region.to, b"m" * 1500)))
    damaged[at] ^= 0x40  # in the reserved half, which means nothing
    scene.peer.sends(bytes(damaged))
    scene.peer.expects_terminate(errors.CrcMismatch.term, mdr="000")
    assert octets_of(scene.region) == b"." * 2000


def test_a_marker_before_the_crc_is_covered_too() -> None:  # MPA-5044-4.4-14
    for broken in (False, True):
        scene = Scene(receive_markers=True)
        frame = bytearray(scene.peer.frames(write(scene.write_only.stag, scene.write_only.to, b"")))
        first = 512 - len(frame)  # the next FPDU's length field, ULPDU and pad end where the second marker falls
        payload = b"w" * (first - 2 - 14)
        region = scene.node.region(len(payload))
        scene.peer.sends(bytes(frame))
        frame = bytearray(scene.peer.frames(write(region.stag, region.to, payload)))
        assert frame[-8:-4] == first.to_bytes(4, "big"), "the marker stands between ULPDU and CRC"
        frame[-8] ^= 0x40 if broken else 0
        scene.peer.sends(bytes(frame))
        assert (scene.error is None) is not broken


@pytest.mark.parametrize("octets", [4, 8, 64])
def test_a_marker_that_points_elsewhere(octets: int) -> None:  # MPA-5044-8-03, MPA-5044-8-04
    scene = marked()
    frame = bytearray(scene.peer.frames(write(scene.region.stag, scene.region.to, b"m" * 1500)))
    frame[515] ^= octets
    frame[-4:] = crc32c(bytes(frame[:-4])).to_bytes(4, "little")
    scene.peer.sends(bytes(frame))
    scene.peer.expects_terminate(errors.MarkerMismatch.term, mdr="000", payload=bytes.fromhex("20030000"))
    assert octets_of(scene.region) == b"." * 2000


def test_the_sender_s_markers() -> None:
    # MPA-5044-4.2-01, -02, -04, MPA-5044-4.3-03, -04, -06, -09, -11, -12, MPA-5044-7.1.2-20
    peer = RawPeer(send_markers=True, mulpdu=2000)
    memory = peer.node.region(4000)
    peer.node.post(Send((memory[:484],)), Send(), Send((memory[:],)), *[Send((memory[:n],)) for n in range(7, 41)] * 2)
    octets = raw_octets(peer)
    starts: list[int] = []
    at = 0
    while at < len(octets):
        starts.append(at + 4 if at % 512 == 0 else at)
        at += unframe(octets[at:], at, markers=True)[1]
    for place in range(0, len(octets), 512):
        start = max(start for start in starts if start <= place + 4)
        pointer = 0 if start == place + 4 else place - start
        assert octets[place : place + 4] == pointer.to_bytes(4, "big")
    assert octets[:4] == octets[512:516] == bytes(4), "one stands first, one between the first two FPDUs"
    assert len(starts) > 60


@pytest.mark.parametrize("markers", [False, True])
def test_what_full_operation_begins_with(markers: bool) -> None:  # MPA-5044-7.1.2-20, MPA-5044-4.3-09
    peer = RawPeer(send_markers=markers)
    peer.node.send(b"x")
    octets = raw_octets(peer)
    assert octets.startswith(bytes.fromhex("00000000 0013 4143") if markers else bytes.fromhex("0013 4143"))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 508])
@pytest.mark.parametrize("chunk", [1, 511, 1 << 20])
def test_markers_are_counted_from_full_operation(size: int, chunk: int) -> None:  # MPA-5044-4.3-10, MPA-5044-7.1-05
    """Private Data of every size stands before; each side's octets are parsed strictly, from its frame's end on."""
    offer = Offer(markers=True, private_data=bytes(size))
    pair = Pair(initiator=offer, responder=offer, chunk=chunk)
    converse(pair)
    for end in pair.ends:
        assert end.said[16] & 0x80
        at = 0
        stream = bytes(end.said[20 + 4 + size :])  # not marked, not framed, the enhanced word included
        assert stream[:4] == bytes(4)
        while at < len(stream):
            at += unframe(stream[at:], at, markers=True)[1]
        assert at > 512


@pytest.mark.parametrize("emss", [512, 1448, 9000, 65_483])
@pytest.mark.parametrize("markers", [False, True])
def test_fpdus_fit_tcp_s_segments(emss: int, markers: bool) -> None:
    # MPA-5044-3-03, -04, -05, MPA-5044-4.5-01, -02, -05, MPA-5044-5.1-01
    peer = RawPeer(Node(), send_markers=markers)
    peer.node.qp.set_emss(emss)
    memory = peer.node.region(300_000)
    peer.node.post(Write((memory[:],), RemoteRegion(0, 1, 300_000)))
    sizes = [len(each.ulpdu) for each in peer.hears()]
    marks = 4 * -(-emss // 512) if markers else 0
    largest = min(emss - (6 + marks + emss % 4), 64_768)
    assert set(sizes[:-1]) == {largest}
    assert sizes[-1] <= largest


@pytest.mark.parametrize("nbytes", [109, 110, 111, 114, 115, 128])
@pytest.mark.parametrize("pieces", [1, 2])
def test_no_small_message_exceeds_the_mulpdu(nbytes: int, pieces: int) -> None:  # MPA-5044-3-03
    """Messages that would fit without their headers: 14 octets of a Write, 18 of a Send."""
    peer = RawPeer(mulpdu=128)
    memory = peer.node.region(128)
    payload = (memory[:nbytes],) if pieces == 1 else (memory[:5], memory[5:nbytes])
    peer.node.post(Write(payload, RemoteRegion(0, 1, 128)), Send(payload))
    if pieces == 1:
        peer.node.post(Send((), inline=bytes(nbytes)))
    heard = peer.hears()
    assert max(len(each.ulpdu) for each in heard) <= 128
    assert [
        sum(len(each.payload) for each in heard if each.opcode is kind) for kind in (Opcode.WRITE, Opcode.SEND)
    ] == [
        nbytes,
        nbytes * (3 - pieces),
    ]


def test_fpdus_have_a_lawful_size_before_tcp_has_told_its_own() -> None:  # MPA-5044-3-04, MPA-5044-4.5-07
    peer = RawPeer(Node())
    memory = peer.node.region(1000)
    peer.node.qp.stream.send([memory.view], token=None)
    iov = peer.node.qp.stream.next_iov()
    assert unframe(b"".join(iov), 0, markers=False)[0][:2] == b"\x01\x43"
    assert int.from_bytes(b"".join(iov)[:2], "big") == 128


@pytest.mark.parametrize("emss", [0, 64, 88, 133])
def test_fpdus_are_never_cut_smaller_than_128(emss: int) -> None:  # MPA-5044-4.5-07, -08
    peer = RawPeer(Node())
    memory = peer.node.region(1000)
    for _ in range(5):  # whatever was just sent, and however little room that left in its segment
        peer.node.qp.set_emss(emss)
        peer.node.post(Send((memory[:],)))
        assert {len(each.ulpdu) for each in peer.hears()[:-1]} == {128}


def test_a_new_segment_size_counts_for_what_is_not_yet_cut() -> None:  # MPA-5044-4.5-06, MPA-5041-3-01, -02
    peer = RawPeer(Node())
    nbytes = BATCH_OCTETS + 100_000
    memory = peer.node.region(bytes(n % 251 for n in range(nbytes)))
    peer.node.qp.set_emss(9000)
    peer.node.post(Write((memory[:],), RemoteRegion(0, 1, nbytes)))
    peer.end.clogged = True
    peer.sends()
    peer.node.qp.set_emss(1448)
    peer.end.clogged = False
    heard = peer.hears()
    sizes = [len(each.ulpdu) for each in heard[:-1]]
    assert sizes == [8994] * sizes.count(8994) + [1442] * sizes.count(1442), "first the large, then the small"
    assert 8994 in sizes
    assert 1442 in sizes
    assert b"".join(each.payload for each in heard) == octets_of(memory)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_versions_are_the_same_everywhere() -> None:  # MPA-5044-C.1-01, MPA-5044-3-13, DDP-5041-4.1-11, -12
    for revision in (1, 2):
        pair = Pair(initiator=Offer(revision=revision))
        converse(pair)
        for end, frame in zip(pair.ends, (20 + 4 * (revision == 2),) * 2, strict=True):
            stream, at = bytes(end.said[frame:]), 0
            versions = set()
            while at < len(stream):
                ulpdu, size = unframe(stream[at:], at, markers=False)
                versions.add((ulpdu[0] & 0x03, ulpdu[1] >> 6))
                at += size
            assert versions == {(1, 1)}


def test_a_message_in_many_segments_arrives_whole() -> None:  # MPA-5044-4.3-14, DDP-5041-5.2-05
    scene = marked()
    message = write(scene.region.stag, scene.region.to, bytes(n % 251 for n in range(2000)))
    scene.peer.sends(*cut(message, 1, 700, 3, 508, 100, 2))
    assert octets_of(scene.region) == message.payload
