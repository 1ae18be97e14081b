"""MPA alone: MULPDU, pads, markers, CRC, and what a deframer refuses (RFC 5044 §4, §6, §8)."""

from __future__ import annotations

import random

import pytest

from pyiwarp.buffers import BUFFER_SIZE
from pyiwarp.errors import CrcMismatch, MalformedFrame, MarkerMismatch
from pyiwarp.mpa import (
    LARGEST_FPDU,
    Deframer,
    Framer,
    MarkedDeframer,
    MarkedFramer,
    markers_within,
    mulpdu_for,
    pad_length,
)
from tests.golden.vectors import MULPDU_TABLE
from tests.harness import fpdu

LENGTHS = [0, 1, 2, 3, 4, 5, 14, 18, 127, 502, 506, 507, 508, 509, 510, 511, 512, 1017, 1454, 8942]


def framed(framer: Framer, *ulpdus: bytes) -> bytes:
    out: list[bytes | bytearray | memoryview] = []
    for ulpdu in ulpdus:
        before = sum(map(len, out))
        size = framer.frame(ulpdu[:14], [memoryview(ulpdu)[14:]], len(ulpdu[14:]), out)
        assert size == sum(map(len, out)) - before, "the size is that of what was appended"
    return b"".join(out)


def received(deframer: Deframer, octets: bytes, chunk: int = 1 << 30) -> list[bytes]:
    """The ULPDUs that come out, copied at once as their views are void later."""
    ulpdus: list[bytes] = []
    while octets:
        view = deframer.receive_view()
        nbytes = min(len(view), chunk, len(octets))
        view[:nbytes] = octets[:nbytes]
        octets = octets[nbytes:]
        deframer.received(nbytes)
        while (ulpdu := deframer.next_ulpdu()) is not None:
            ulpdus.append(bytes(ulpdu))
    return ulpdus


@pytest.mark.parametrize(("emss", "without", "with_markers"), MULPDU_TABLE)
def test_mulpdu(emss: int, without: int, with_markers: int) -> None:
    assert mulpdu_for(emss, markers=False) == without  # MPA-5044-4.5-02, MPA-5044-5.1-01
    assert mulpdu_for(emss, markers=True) == with_markers  # MPA-5044-4.5-01


@pytest.mark.parametrize("markers", [False, True])
def test_mulpdu_stays_in_its_bounds_whatever_tcp_says(markers: bool) -> None:
    # MPA-5044-3-04, MPA-5044-4.5-07, MPA-5044-4.5-08
    assert all(128 <= mulpdu_for(emss, markers=markers) <= 64_768 for emss in [0, 1, 88, *range(100, 70_000, 37)])


@pytest.mark.parametrize("markers", [False, True])
def test_an_fpdu_of_mulpdu_fills_a_segment_and_no_more(markers: bool) -> None:  # MPA-5044-4.5-05
    for emss in range(140, 4000, 61):
        ulpdu = bytes(mulpdu_for(emss, markers=markers))
        assert all(
            len(fpdu(ulpdu, offset, markers=markers)) <= emss for offset in range(0, 516, 4)[:: 8 if markers else 99]
        )


@pytest.mark.parametrize(("ulpdu_length", "pad"), [(0, 2), (1, 1), (2, 0), (3, 3), (4, 2), (42, 0), (64_768, 2)])
def test_pads(ulpdu_length: int, pad: int) -> None:  # MPA-5044-4.1-05
    assert pad_length(ulpdu_length) == pad
    octets = framed(Framer(crc=True), bytes(ulpdu_length))
    assert len(octets) == 2 + ulpdu_length + pad + 4


@pytest.mark.parametrize("length", LENGTHS)
def test_fpdus_without_markers(
    length: int,
) -> None:  # MPA-5044-4.1-01, MPA-5044-4.1-02, MPA-5044-4.1-03, MPA-5044-4.4-13, MPA-5044-4.4-16
    ulpdu = random.Random(length).randbytes(length)
    assert framed(Framer(crc=True), ulpdu) == fpdu(ulpdu)
    assert received(Deframer(crc=True), fpdu(ulpdu)) == [ulpdu]


@pytest.mark.parametrize("length", LENGTHS)
def test_markers_at_every_offset(length: int) -> None:
    # MPA-5044-4.3-15, MPA-5044-4.1-01, -02, MPA-5044-4.4-16
    # MPA-5044-4.3-03, -04, -06, -09, -10, -11, MPA-5044-4.2-02, MPA-5044-4.2-04, MPA-5044-4.4-14, MPA-5044-4.4-15
    ulpdu = random.Random(length).randbytes(length)
    for offset in range(0, 1024, 4):
        framer, deframer = MarkedFramer(crc=True), MarkedDeframer(crc=True)
        framer.octets = deframer.octets = offset
        octets = fpdu(ulpdu, offset, markers=True)
        assert framed(framer, ulpdu) == octets, offset
        assert received(deframer, octets) == [ulpdu], offset
        assert framer.octets == deframer.octets == offset + len(octets)


def test_marker_positions_outlive_four_gigabytes() -> None:  # MPA-5044-4.3-05
    framer, deframer = MarkedFramer(crc=True), MarkedDeframer(crc=True)
    framer.octets = deframer.octets = (1 << 32) - 8
    ulpdus = [bytes([n]) * 700 for n in range(9)]
    assert received(deframer, framed(framer, *ulpdus)) == ulpdus


def test_many_small_fpdus_come_out_one_by_one() -> None:  # MPA-5044-4.3-13
    ulpdus = [bytes([n % 251]) * (n % 40) for n in range(400)]
    octets = framed(Framer(crc=True), *ulpdus)
    for chunk in (1, 3, 511, 1 << 30):
        assert received(Deframer(crc=True), octets, chunk) == ulpdus


def test_many_small_fpdus_share_markers() -> None:  # MPA-5044-4.3-12, MPA-5044-4.3-13
    ulpdus = [bytes([n % 251]) * (n % 40) for n in range(400)]
    framer = MarkedFramer(crc=True)
    octets = framed(framer, *ulpdus)
    assert octets[:4] == bytes(4), "the first octets of Full Operation are a marker"  # MPA-5044-7.1.2-20
    assert framer.fpdus == 400
    for chunk in (1, 3, 511, 512, 513, 1 << 30):
        assert received(MarkedDeframer(crc=True), octets, chunk) == ulpdus


def test_no_marker_after_the_last_fpdu() -> None:  # MPA-5044-4.3-06
    framer = MarkedFramer(crc=True)
    assert len(framed(framer, bytes(502))) == 512
    assert framed(framer, b"")[:4] == bytes(4)


@pytest.mark.parametrize(("offset", "nbytes"), [(4, 508), (4, 509), (4, 1016), (4, 1017), (508, 4), (508, 5), (510, 3)])
def test_markers_within_counts_those_that_split(offset: int, nbytes: int) -> None:
    position, left, markers = offset, nbytes, 0
    while left:
        if position % 512 == 0:
            markers += 1
            position += 4
        position += 1
        left -= 1
    assert markers_within(offset, nbytes) == markers


@pytest.mark.parametrize("markers", [False, True])
def test_a_flipped_bit_anywhere_is_a_crc_error(
    markers: bool,
) -> None:  # MPA-5044-4.4-17, MPA-5044-4.4-18, MPA-5044-8-02
    # MPA-5044-4.4-01, MPA-5041-3-07
    make = MarkedDeframer if markers else Deframer
    octets = fpdu(bytes(range(200)) * 3, markers=markers)
    lead = 4 if markers else 0
    for at in [position for position in range(len(octets)) if position not in (lead, lead + 1)]:
        damaged = bytearray(octets)
        damaged[at] ^= 0x10
        with pytest.raises(CrcMismatch) as caught:
            received(make(crc=True), bytes(damaged))
        assert caught.value.args[0] == 0
        assert "stream offset 0" in str(caught.value)


def test_nothing_of_a_damaged_fpdu_comes_out() -> None:  # MPA-5044-6-01
    good, bad = fpdu(b"good"), bytearray(fpdu(b"bad!"))
    bad[-1] ^= 1
    deframer = Deframer(crc=True)
    view = deframer.receive_view()
    view[: len(good) + len(bad)] = good + bad
    deframer.received(len(good) + len(bad))
    ulpdu = deframer.next_ulpdu()
    assert ulpdu is not None
    assert ulpdu.tobytes() == b"good"
    with pytest.raises(CrcMismatch, match=f"stream offset {len(good)}"):
        deframer.next_ulpdu()


def test_pad_octets_are_ignored_except_by_the_crc() -> None:  # MPA-5044-4.1-04
    assert received(Deframer(crc=True), fpdu(b"a", pad=b"\xaa\xbb\xcc")) == [b"a"]
    damaged = bytearray(fpdu(b"abc", pad=b"\xaa\xbb\xcc"))
    damaged[5] ^= 0xFF
    with pytest.raises(CrcMismatch):
        received(Deframer(crc=True), bytes(damaged))


@pytest.mark.parametrize("markers", [False, True])
def test_without_crc_the_field_is_there_and_may_hold_anything(markers: bool) -> None:
    # MPA-5044-4.4-11
    # MPA-5044-4.1-06, MPA-5044-4.1-07, MPA-5044-4.1-08, MPA-5044-7.1.1-10
    framer, deframer = (MarkedFramer, MarkedDeframer) if markers else (Framer, Deframer)
    ulpdu = bytes(range(250)) * 4
    octets = framed(framer(crc=False), ulpdu)
    assert octets == fpdu(ulpdu, markers=markers, crc=0)
    later = fpdu(ulpdu, len(octets), markers=markers, crc=0)
    first = fpdu(ulpdu, markers=markers, crc=0xDEADBEEF)
    assert received(deframer(crc=False), first + later) == [ulpdu, ulpdu], "the later one begins behind the CRC field"


def test_markers_are_read_leniently_in_what_is_reserved() -> None:  # MPA-5044-4.2-03, MPA-5044-4.2-05, MPA-5044-4.3-08
    octets = bytearray(fpdu(bytes(600), markers=True, crc=0))
    octets[0:2] = octets[512:514] = b"\xff\xff"
    octets[515] |= 3
    assert received(MarkedDeframer(crc=False), bytes(octets)) == [bytes(600)]


@pytest.mark.parametrize("at", [3, 515])
def test_a_marker_that_points_elsewhere_is_an_error(at: int) -> None:  # MPA-5044-8-03, MPA-5044-8-04
    octets = bytearray(fpdu(bytes(600), markers=True, crc=0))
    octets[at] ^= 0x08
    with pytest.raises(MarkerMismatch) as caught:
        received(MarkedDeframer(crc=False), bytes(octets))
    offset, fpduptr, expected = caught.value.args
    assert (offset, fpduptr ^ expected) == (at - 3, 0x08)


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("behind", [0, 66_000])
def test_a_ulpdu_length_above_the_limit_is_refused_at_once(markers: bool, behind: int) -> None:  # MPA-5044-3-05
    deframer = (MarkedDeframer if markers else Deframer)(crc=True)
    octets = bytes(4 if markers else 0) + (64_769).to_bytes(2, "big") + bytes(behind)
    with pytest.raises(MalformedFrame, match="64769"):
        received(deframer, octets)


@pytest.mark.parametrize("length", [0, 1, 14, 64_767, 64_768])
@pytest.mark.parametrize("markers", [False, True])
def test_every_lawful_length(markers: bool, length: int) -> None:  # MPA-5044-3-06, MPA-5044-3-08, MPA-5044-6-04
    # MPA-5041-3-08
    ulpdu = random.Random(length).randbytes(length)
    framer, deframer = (MarkedFramer, MarkedDeframer) if markers else (Framer, Deframer)
    octets = framed(framer(crc=True), ulpdu)
    assert len(octets) <= LARGEST_FPDU
    assert received(deframer(crc=True), octets, 4099) == [ulpdu]


@pytest.mark.parametrize("markers", [False, True])
def test_receive_views_are_never_empty_and_memory_stays_bounded(markers: bool) -> None:
    # MPA-5044-5.1-05, MPA-5044-A.4-01: FPDUs that lie across the end of the buffer too
    framer, deframer = (MarkedFramer, MarkedDeframer) if markers else (Framer, Deframer)
    source, sink = framer(crc=True), deframer(crc=True)
    ulpdus = [bytes(length) for length in [1, 64_768, 20, 40_000, 64_768, 9, 64_768, 64_768, 64_768, 5000] * 3]
    for chunk in (8 * 1024, 65_000, 1 << 20):
        assert received(sink, framed(source, *ulpdus), chunk) == ulpdus
        assert 0 < len(sink.receive_view()) <= BUFFER_SIZE
        assert sink.idle


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("before", [0, 3, 40])
@pytest.mark.parametrize("nbytes", [3, 2000, 2600, 20_000, 60_000])
def test_an_unfinished_fpdu_takes_memory_for_what_came_of_it(nbytes: int, before: int, markers: bool) -> None:
    """Whatever came before, and however large the FPDU says that it is (RFC 5042 §6.4.1)."""
    framer, deframer = (MarkedFramer, MarkedDeframer) if markers else (Framer, Deframer)
    source, sink = framer(crc=True), deframer(crc=True)
    assert len(received(sink, framed(source, *[bytes(60_000)] * before), 1 << 20)) == before
    view = sink.receive_view()
    octets = framed(source, b"x" * 64_000)
    taken = 0
    while taken < nbytes:
        view = sink.receive_view()
        room = min(len(view), nbytes - taken)
        view[:room] = octets[taken : taken + room]
        sink.received(room)
        assert sink.next_ulpdu() is None
        sink.release()
        taken += room
    assert len(sink.view) <= min(max(2048, 16 * nbytes), 128 * 1024)
    assert received(sink, octets[nbytes:], 1 << 20) == [b"x" * 64_000]


def test_idle_means_between_two_fpdus() -> None:
    deframer = Deframer(crc=True)
    octets = fpdu(b"abc")
    assert deframer.idle
    received(deframer, octets[:-1])
    assert not deframer.idle
    received(deframer, octets[-1:])
    assert deframer.idle
    assert (deframer.fpdus, deframer.octets) == (1, len(octets))


def test_payload_views_are_framed_without_copying() -> None:
    payload = memoryview(bytearray(b"x" * 50))
    out: list[bytes | bytearray | memoryview] = []
    Framer(crc=True).frame(b"h" * 14, [payload], 50, out)
    assert any(piece is payload for piece in out)


def test_reads_grow_although_each_ends_inside_an_fpdu() -> None:
    """A stream of small FPDUs fills whatever room it is given: soon it is given much."""
    deframer, stream = Deframer(crc=False), fpdu(bytes(1442)) * 400
    sizes = []
    while stream:
        view = deframer.receive_view()
        nbytes = min(len(view), len(stream))
        view[:nbytes] = stream[:nbytes]
        stream = stream[nbytes:]
        sizes.append(nbytes)
        deframer.received(nbytes)
        while deframer.next_ulpdu() is not None:
            pass
        deframer.release()
    assert len(sizes) <= 6, sizes
