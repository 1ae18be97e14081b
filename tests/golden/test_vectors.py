"""The definitions in `wire` give the golden octets, and read them back (RFC 5044 §4.4 figures 5 and 6).

The FPDU builder here is plain Python after the RFC's text and shares nothing with `mpa`.
"""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c

from pyiwarp import wire
from pyiwarp.errors import TERMS, Term
from pyiwarp.fastwire import ReadRequest, Tagged, Untagged
from tests.golden.vectors import FPDUS, MULPDU_TABLE, STARTUPS, TERM_TABLE, StartupVector, Vector, ulpdu_of

MARKER_SPACING = 512  # MPA-5044-4.3-03


def frame(ulpdu: bytes, offset: int, *, markers: bool) -> bytes:
    """One FPDU, word by word: markers where they are due, the CRC over all that precedes it (RFC 5044 §4.3, §4.4)."""
    body = struct.pack(">H", len(ulpdu)) + ulpdu + bytes(-(2 + len(ulpdu)) % 4)
    sent, start = b"", None
    for at in range(0, len(body) + 4, 4):
        position = offset + len(sent)
        if markers and position % MARKER_SPACING == 0:
            sent += struct.pack(">HH", 0, 0 if start is None else position - start)  # MPA-5044-4.3-04, MPA-5044-4.3-06
        start = offset + len(sent) if start is None else start
        sent += body[at : at + 4] or struct.pack("<I", crc32c(sent))
    return sent


def split_markers(octets: bytes, offset: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    """An FPDU without its markers, and each marker with its position in `octets`."""
    rest, found, at = b"", [], 0
    while at < len(octets):
        if (offset + at) % MARKER_SPACING == 0:
            found.append((at, octets[at : at + 4]))
        else:
            rest += octets[at : at + 4]
        at += 4
    return rest, found


def bitwise_crc32c(octets: bytes) -> int:
    """CRC32c by its definition: reflected polynomial 0x1EDC6F41, all ones before and after."""
    register = 0xFFFF_FFFF
    for octet in octets:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x82F6_3B78 if register & 1 else 0)
    return register ^ 0xFFFF_FFFF


def named(vector: Vector | StartupVector) -> str:
    return vector.name


def test_the_crc_library_computes_the_crc_of_the_rfc() -> None:  # MPA-5044-4.4-12
    assert crc32c(b"123456789") == bitwise_crc32c(b"123456789") == 0xE306_9283


@pytest.mark.parametrize("vector", FPDUS, ids=named)
def test_fields_give_the_golden_octets(vector: Vector) -> None:  # MPA-5044-4.1-01, MPA-5044-4.1-06
    assert frame(ulpdu_of(vector), vector.offset, markers=vector.markers) == vector.octets


@pytest.mark.parametrize("vector", [vector for vector in FPDUS if not vector.markers], ids=named)
def test_the_fpdu_definition_gives_the_golden_octets(vector: Vector) -> None:  # MPA-5044-4.1-03, MPA-5044-4.4-16
    crc = bitwise_crc32c(vector.octets[:-4])
    assert wire.Fpdu.build({"ulpdu": ulpdu_of(vector), "crc": crc}) == vector.octets


@pytest.mark.parametrize("vector", FPDUS, ids=named)
def test_the_fpdu_definition_reads_the_golden_octets(vector: Vector) -> None:  # MPA-5044-4.1-02, MPA-5044-4.3-14
    octets, _ = split_markers(vector.octets, vector.offset) if vector.markers else (vector.octets, [])
    fpdu = wire.Fpdu.parse(octets)
    assert fpdu.ulpdu == ulpdu_of(vector)
    assert fpdu.ulpdu_length == len(fpdu.ulpdu)
    assert not any(fpdu.pad)
    assert fpdu.crc == bitwise_crc32c(vector.octets[:-4])  # MPA-5044-4.4-13, MPA-5044-4.4-14, MPA-5044-4.4-15
    assert wire.Fpdu.build(fpdu) == octets


@pytest.mark.parametrize("vector", [vector for vector in FPDUS if vector.markers], ids=named)
def test_every_marker_points_to_the_length_field(vector: Vector) -> None:  # MPA-5044-4.3-04, MPA-5044-4.3-11
    _, markers = split_markers(vector.octets, vector.offset)
    length_field = 4 if vector.offset % MARKER_SPACING == 0 else 0
    assert markers, "a vector with markers must show one"
    for position, octets in markers:
        marker = wire.Marker.parse(octets)
        assert (marker.rsvd, marker.fpduptr) == (0, max(position - length_field, 0))
        assert wire.Marker.build({"fpduptr": marker.fpduptr}) == octets  # MPA-5044-4.2-01, MPA-5044-4.2-02


@pytest.mark.parametrize("vector", FPDUS, ids=named)
def test_headers_and_bodies_read_back(vector: Vector) -> None:  # DDP-5041-4.2-01, DDP-5041-4.3-01, RDMAP-5040-4.1-02
    ulpdu = ulpdu_of(vector)
    tagged = isinstance(vector.header, Tagged)
    header = (wire.TaggedHeader if tagged else wire.UntaggedHeader).parse(ulpdu)
    assert (header.ddp.tagged, header.ddp.last, header.ddp.dv, header.ddp.rsvd) == (tagged, True, 1, 0)
    assert (header.rdmap.rv, header.rdmap.opcode, header.rdmap.rsvd) == (1, vector.header.rdmap & 0x0F, 0)
    if isinstance(vector.header, Untagged):
        assert (header.qn, header.msn, header.mo) == (vector.header.qn, vector.header.msn, 0)
    else:
        assert (header.stag, header.to) == (vector.header.stag, vector.header.to)
    assert read_body(vector, ulpdu[14:] if tagged else ulpdu[18:]) == vector.body


def read_body(vector: Vector, octets: bytes) -> object:
    match vector.body:
        case ReadRequest():
            fields = wire.ReadRequestHeader.parse(octets)
            return ReadRequest(**{name: fields[name] for name in ReadRequest._fields})
        case wire.Terminate():
            return wire.parse_terminate(octets)
        case wire.AtomicRequest():
            return wire.parse_atomic_request(octets)
        case wire.AtomicResponse():
            return wire.parse_atomic_response(octets)
        case wire.ImmediateData():
            return wire.parse_immediate_data(octets)
        case _:
            return octets


@pytest.mark.parametrize("vector", STARTUPS, ids=named)
def test_startup_frames_give_the_golden_octets(vector: StartupVector) -> None:  # MPA-5044-7.1.1-01, MPA-5044-7.1.1-03
    assert wire.build_startup(vector.frame) == vector.octets


@pytest.mark.parametrize("vector", STARTUPS, ids=named)
def test_startup_frames_read_back(vector: StartupVector) -> None:  # MPA-5044-7.1.1-19, MPA2-6581-6-07
    frame_read, length = wire.parse_startup_header(vector.octets[:20], reply=vector.frame.reply)
    private_data = vector.octets[20:]
    assert length == len(private_data)
    assert frame_read._replace(private_data=private_data) == vector.frame


@pytest.mark.parametrize("vector", [vector for vector in STARTUPS if vector.enhanced], ids=named)
def test_the_enhanced_word_is_golden(vector: StartupVector) -> None:  # MPA2-6581-9-01
    assert vector.enhanced is not None
    assert wire.build_enhanced(vector.enhanced) == vector.frame.private_data[:4]
    assert wire.parse_enhanced(vector.frame.private_data) == vector.enhanced


@pytest.mark.parametrize(("emss", "without", "with_markers"), MULPDU_TABLE)
def test_the_mulpdu_table_follows_the_formulas(emss: int, without: int, with_markers: int) -> None:
    spaces = [emss - (6 + emss % 4), emss - (6 + 4 * -(-emss // 512) + emss % 4)]  # MPA-5044-4.5-02, MPA-5044-4.5-01
    assert [min(max(space, 128), 64_768) for space in spaces] == [without, with_markers]  # MPA-5044-3-04


def test_an_fpdu_of_the_table_fills_the_segment_and_no_more() -> None:
    for emss, without, with_markers in MULPDU_TABLE[1:-1]:  # the first and last rows are clamped
        assert emss - 4 < len(frame(bytes(without), 4, markers=False)) <= emss
        assert emss - 12 < len(frame(bytes(with_markers), 0, markers=True)) <= emss


def test_the_registry_holds_exactly_the_codes_of_the_rfcs() -> None:  # RDMAP-5040-4.8-03, DDP-5041-7.2-01
    named = {Term(layer, etype, code) for (layer, etype), codes in TERM_TABLE.items() for code in codes}
    assert set(TERMS) == named
