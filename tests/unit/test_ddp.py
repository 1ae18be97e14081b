"""DDP alone: how messages are cut, and how untagged ones are checked, placed and delivered (RFC 5041)."""

from __future__ import annotations

import pytest

from pyiwarp import wire
from pyiwarp.ddp import Outbound, TaggedOutbound, UntaggedOutbound, UntaggedQueue, next_msn, scatter
from pyiwarp.errors import (
    InvalidMo,
    MessageTooLong,
    MisplacedSegment,
    MsnOutOfRange,
    NoBufferForMsn,
    ProtocolViolation,
    UsageError,
)
from pyiwarp.extent import MAX_PIECES
from pyiwarp.fastwire import Untagged

Piece = tuple[bytes, bytes]  # header, payload


def pieces(message: Outbound, mulpdu: int) -> list[Piece]:
    given: list[Piece] = []
    while not message.last_given:
        header, payload, nbytes = message.next_segment(mulpdu)
        octets = b"".join(payload)
        assert len(octets) == nbytes
        assert len(header) + nbytes <= mulpdu  # DDP-5041-5.2-02, MPA-5044-3-03
        given.append((header, octets))
    return given


def tagged(payload: bytes, *, to: int = 0, stag: int = 7) -> TaggedOutbound:
    return TaggedOutbound(0x40, (payload,), stag=stag, to=to)


def untagged(payload: bytes, *, msn: int = 1, qn: int = 0) -> UntaggedOutbound:
    return UntaggedOutbound(0x44, (payload,), qn=qn, msn=msn, inval_stag=9)


# --- cutting ---------------------------------------------------------------------------------------------------------


def test_the_rfc_s_example_of_a_send() -> None:  # DDP-5041-5.2-01, DDP-5041-5.2-07, DDP-5041-4.3-11
    given = pieces(untagged(bytes(2048)), 1500)
    assert [len(payload) for _, payload in given] == [1482, 566]
    assert [wire.UntaggedHeader.parse(header).mo for header, _ in given] == [0, 1482]


def test_the_rfc_s_example_of_a_write() -> None:  # DDP-5041-5.2-09, DDP-5041-4.2-09
    given = pieces(tagged(bytes(2048), to=16384), 1500)
    assert [len(payload) for _, payload in given] == [1486, 562]
    assert [wire.TaggedHeader.parse(header).to for header, _ in given] == [16384, 17870]


def test_all_segments_of_an_untagged_message_agree() -> None:
    # DDP-5041-4.1-05, DDP-5041-4.3-02
    # DDP-5041-4.3-04, -06, -10, DDP-5041-4.1-03, -04, -06, -09, -11, -12, DDP-5041-5.3-02
    headers = [wire.UntaggedHeader.parse(header) for header, _ in pieces(untagged(bytes(999), msn=5, qn=3), 128)]
    assert {(header.qn, header.msn, header.inval_stag, header.rdmap.opcode) for header in headers} == {(3, 5, 9, 4)}
    assert {(header.rdmap.rv, header.rdmap.rsvd) for header in headers} == {(1, 0)}
    assert [header.ddp.last for header in headers] == [False] * (len(headers) - 1) + [True]
    assert [header.mo for header in headers] == list(range(0, 999, 110))
    assert {(header.ddp.dv, header.ddp.rsvd, header.ddp.tagged) for header in headers} == {(1, 0, False)}


def test_all_segments_of_a_tagged_message_agree() -> None:  # DDP-5041-4.2-02, -04, -06, -08, DDP-5041-5.2-08
    headers = [wire.TaggedHeader.parse(header) for header, _ in pieces(tagged(bytes(999), to=1 << 40), 128)]
    assert {(header.stag, header.rdmap.opcode, header.ddp.tagged) for header in headers} == {(7, 0, True)}
    assert {(header.rdmap.rv, header.rdmap.rsvd) for header in headers} == {(1, 0)}
    assert [header.to - (1 << 40) for header in headers] == list(range(0, 999, 114))
    assert [header.ddp.last for header in headers] == [False] * (len(headers) - 1) + [True]


@pytest.mark.parametrize("nbytes", [0, 1, 109, 110, 111, 220, 221])
def test_all_octets_go_out_once(nbytes: int) -> None:  # DDP-5041-5.2-04, DDP-5041-5.2-10, MPA-5044-4.5-05
    octets = bytes(n % 251 for n in range(nbytes))
    given = pieces(untagged(octets), 128)
    assert b"".join(payload for _, payload in given) == octets
    assert len(given) == max(1, -(-nbytes // 110))


def test_a_payload_in_pieces_is_cut_across_them() -> None:
    views = [memoryview(bytes([n]) * n) for n in (0, 1, 50, 0, 200, 3)]
    message = UntaggedOutbound(0x43, views, qn=0, msn=1)
    assert b"".join(payload for _, payload in pieces(message, 128)) == b"".join(views)
    assert message.nbytes == message.sent == 254


def test_a_segment_is_as_large_as_the_mulpdu_of_its_moment() -> None:  # MPA-5041-3-01, MPA-5041-3-02, MPA-5044-4.5-03
    message = tagged(bytes(1000))
    sizes = [message.next_segment(mulpdu)[2] for mulpdu in (128, 512, 200, 1500)]
    assert sizes == [114, 498, 186, 202]


def test_a_response_past_the_end_of_the_world_is_still_a_response() -> None:  # RDMAP-5040-4.4-03, RDMAP-5040-4.4-04
    headers = [wire.TaggedHeader.parse(header) for header, _ in pieces(tagged(bytes(300), to=(1 << 64) - 1), 128)]
    assert [header.to for header in headers] == [(1 << 64) - 1, 113, 227]


def test_a_message_of_4_gib_is_refused() -> None:  # DDP-5041-5.2-03
    gigabyte = memoryview(bytearray(1 << 20))
    assert UntaggedOutbound(0x43, [gigabyte] * 4095 + [gigabyte[:-1]], qn=0, msn=1).nbytes == (1 << 32) - 1
    with pytest.raises(UsageError, match="4294967296 octets"):
        UntaggedOutbound(0x43, [gigabyte] * 4096, qn=0, msn=1)


def test_msns_wrap_to_zero() -> None:  # DDP-5041-4.3-07, DDP-5041-4.3-09
    assert [next_msn(msn) for msn in (1, 0xFFFF_FFFE, 0xFFFF_FFFF, 0)] == [2, 0xFFFF_FFFF, 0, 1]


# --- receiving -------------------------------------------------------------------------------------------------------


class Buffers:
    """What a queue takes its buffers from."""

    def __init__(self, *sizes: int) -> None:
        self.buffers = [bytearray(size) for size in sizes]
        self.taken = 0

    def take(self) -> list[memoryview] | None:
        if self.taken == len(self.buffers):
            return None
        self.taken += 1
        return [memoryview(self.buffers[self.taken - 1])]


def arriving(mo: int, *, last: bool = False, msn: int = 1) -> Untagged:
    return Untagged(last, 0x43, 0, 0, msn, mo)


def test_a_message_is_delivered_when_its_last_segment_is_placed() -> None:
    # DDP-5041-4.1-07, DDP-5041-4.1-08, DDP-5041-5.4-01, DDP-5041-5.4-03, DDP-5041-5.4-04, DDP-5041-4.3-08
    buffers = Buffers(8)
    queue = UntaggedQueue(0, buffers.take)
    assert not queue.underway
    assert queue.place(arriving(0), memoryview(b"abc")) is None
    assert queue.underway
    assert queue.place(arriving(3), memoryview(b"de")) is None
    assert queue.place(arriving(5, last=True), memoryview(b"f")) == 6
    assert not queue.underway
    assert buffers.buffers == [b"abcdef\0\0"]
    assert queue.due_msn == 2


def test_every_message_takes_the_next_buffer() -> None:  # DDP-5041-5.3-05, DDP-5041-5.3-06
    buffers = Buffers(4, 4)
    queue = UntaggedQueue(0, buffers.take)
    for msn, octets in [(1, b"one"), (2, b"two")]:
        queue.place(arriving(0, last=True, msn=msn), memoryview(octets))
    assert buffers.buffers == [b"one\0", b"two\0"]
    with pytest.raises(NoBufferForMsn):  # DDP-5041-7.1-02
        queue.place(arriving(0, last=True, msn=3), memoryview(b"x"))


def test_msns_of_a_queue_wrap() -> None:
    queue = UntaggedQueue(0, Buffers(1, 1, 1).take)
    queue.due_msn = 0xFFFF_FFFF
    for msn in (0xFFFF_FFFF, 0, 1):
        assert queue.place(arriving(0, last=True, msn=msn), memoryview(b"")) == 0


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize(
    ("header", "payload", "error"),
    [
        (arriving(6, msn=2), b"x", MsnOutOfRange),  # DDP-5041-7.1-09: ahead
        (arriving(6, msn=0), b"x", MsnOutOfRange),  # behind
        (arriving(10), b"x", InvalidMo),  # DDP-5041-7.1-07, DDP-5041-7.2-05
        (arriving(0xFFFF_FFFF), b"x", InvalidMo),
        (arriving(11), b"", InvalidMo),
        (arriving(9), b"xy", MessageTooLong),  # DDP-5041-7.1-08
        (arriving(0), b"x" * 11, MessageTooLong),
    ],
)
def test_every_segment_is_checked(
    position: str, header: Untagged, payload: bytes, error: type[ProtocolViolation]
) -> None:
    """DDP-5041-7.1-16: whichever it is, nothing of it is placed."""
    buffers = Buffers(10)
    queue = UntaggedQueue(0, buffers.take)
    if position != "first":
        queue.place(arriving(0), memoryview(b"abc"))
    before = bytes(buffers.buffers[0])
    with pytest.raises(error) as caught:
        queue.place(header._replace(last=position == "last"), memoryview(payload))
    assert bytes(buffers.buffers[0]) == before
    assert caught.value.args[0] == 0


def test_what_lies_outside_its_buffer_is_named() -> None:
    queue = UntaggedQueue(3, Buffers(10).take)
    with pytest.raises(InvalidMo) as invalid:
        queue.place(arriving(11), memoryview(b"x"))
    assert invalid.value.args == (3, 1, 11, 10), "queue, MSN, MO, octets of the buffer"
    with pytest.raises(MessageTooLong) as longer:
        queue.place(arriving(9), memoryview(b"xy"))
    assert longer.value.args == (3, 1, 11, 10), "queue, MSN, octets of the message and of the buffer"


def test_a_provided_buffer_is_measured_as_one_that_is_taken() -> None:  # EXT-7306-6.3-02
    queue = UntaggedQueue(0, Buffers(100).take)
    assert queue.place(arriving(0, last=True), memoryview(b"x" * 100)) == 100
    queue.provide(())
    with pytest.raises(InvalidMo) as invalid:
        queue.place(arriving(50, msn=2, last=True), memoryview(b""))
    assert invalid.value.args == (0, 2, 50, 0)


def test_the_last_octet_of_a_buffer_is_in_it() -> None:  # DDP-5041-7.1-08
    buffers = Buffers(10, 0)
    queue = UntaggedQueue(0, buffers.take)
    assert queue.place(arriving(9), memoryview(b"x")) is None
    assert queue.place(arriving(0), memoryview(b"012345678")) is None
    assert queue.place(arriving(10, last=True), memoryview(b"")) == 10
    assert queue.place(arriving(0, last=True, msn=2), memoryview(b"")) == 0, "an empty message fits an empty buffer"


def test_segments_out_of_order_are_placed_all_the_same() -> None:  # DDP-5041-5.2-06, DDP-5041-5.3-03
    buffers = Buffers(6)
    queue = UntaggedQueue(0, buffers.take)
    for mo, octets in [(2, b"cd"), (0, b"ab"), (0, b"")]:
        assert queue.place(arriving(mo), memoryview(octets)) is None
    assert queue.place(arriving(4, last=True), memoryview(b"ef")) == 6
    assert buffers.buffers == [b"abcdef"]


Pieces = list[tuple[int, int]]


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ([], (7, 0)),  # no octet came at all
        ([(0, 3)], (4, 0)),
        ([(0, 3)], (4, 2)),
        ([(1, 3)], (4, 2)),
        ([(4, 2), (0, 3)], (6, 1)),
        ([(0, 2), (4, 2)], (3, 1)),  # the segment with L is not the last of the message
        ([(0, 6)], (4, 0)),
        ([(0, 6)], (0, 0)),
    ],
)
def test_a_message_with_a_hole_is_not_delivered(pieces: Pieces, end: tuple[int, int]) -> None:  # DDP-5041-5.4-02
    buffers = Buffers(10)
    buffers.buffers[0][:] = b"a secret.."
    queue = UntaggedQueue(0, buffers.take)
    for mo, nbytes in pieces:
        assert queue.place(arriving(mo), memoryview(bytes(nbytes))) is None
    with pytest.raises(MisplacedSegment, match="with a hole"):
        queue.place(arriving(end[0], last=True), memoryview(bytes(end[1])))
    assert queue.underway
    assert queue.due_msn == 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("pieces", "again"),
    [
        ([(0, 3)], (0, 3)),
        ([(0, 3)], (2, 1)),
        ([(2, 3)], (0, 3)),
        ([(2, 3)], (4, 2)),
        ([(0, 2), (4, 2)], (2, 3)),
        ([(6, 2), (2, 2)], (0, 10)),
        ([(6, 2), (2, 2)], (3, 4)),
        ([(8, 2), (4, 2), (0, 2), (2, 2)], (1, 1)),
    ],
)
def test_no_octet_of_a_message_comes_twice(pieces: Pieces, again: tuple[int, int], last: bool) -> None:
    # DDP-5041-5.4-02: else the octets that came would make up for those of a hole
    buffers = Buffers(10)
    queue = UntaggedQueue(0, buffers.take)
    for mo, nbytes in pieces:
        assert queue.place(arriving(mo), memoryview(b"a" * nbytes)) is None
    before = bytes(buffers.buffers[0])
    with pytest.raises(MisplacedSegment, match="came before"):
        queue.place(arriving(again[0], last=last), memoryview(b"b" * again[1]))
    assert buffers.buffers[0] == before


def test_the_pieces_of_a_message_that_lie_apart_are_counted() -> None:
    queue = UntaggedQueue(0, Buffers(2 * MAX_PIECES + 4).take)
    for piece in range(MAX_PIECES):
        queue.place(arriving(2 * piece + 1), memoryview(b"x"))
    with pytest.raises(MisplacedSegment, match=f"more than {MAX_PIECES} pieces"):
        queue.place(arriving(2 * MAX_PIECES + 1), memoryview(b"x"))
    for piece in range(MAX_PIECES):
        assert queue.place(arriving(2 * piece), memoryview(b"y")) is None, "what lies between two joins them"
    assert queue.place(arriving(2 * MAX_PIECES, last=True), memoryview(b"z")) == 2 * MAX_PIECES + 1


def test_the_next_message_begins_anew() -> None:
    buffers = Buffers(4, 4)
    queue = UntaggedQueue(0, buffers.take)
    queue.place(arriving(2), memoryview(b"cd"))
    queue.place(arriving(0), memoryview(b"ab"))
    assert queue.place(arriving(4, last=True), memoryview(b"")) == 4
    assert queue.place(arriving(0, last=True, msn=2), memoryview(b"ef")) == 2
    assert buffers.buffers == [b"abcd", b"ef\0\0"]


def test_a_dropped_message_lets_go_of_its_buffer() -> None:
    buffers = Buffers(4)
    queue = UntaggedQueue(0, buffers.take)
    queue.place(arriving(0), memoryview(b"ab"))
    with pytest.raises(BufferError):
        buffers.buffers[0].append(0)
    queue.drop()
    assert not queue.underway
    buffers.buffers[0].append(0)


@pytest.mark.parametrize("offset", range(9))
def test_scatter(offset: int) -> None:
    views = [memoryview(bytearray(size)) for size in (0, 3, 1, 0, 5)]
    payload = b"wxyz"[: 9 - offset]
    scatter(views, offset, memoryview(payload))
    assert b"".join(views) == (bytes(offset) + payload).ljust(9, b"\0")
