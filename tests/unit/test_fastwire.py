"""The fast header codecs on octets that the RFCs' figures give; equality with `wire` is a property test."""

from __future__ import annotations

import pytest

from pyiwarp.errors import DdpCatastrophe, MalformedMessage, TaggedVersion, UntaggedVersion
from pyiwarp.fastwire import (
    LAST,
    TAGGED,
    ReadRequest,
    Tagged,
    Untagged,
    build_read_request,
    build_tagged,
    build_untagged,
    parse_read_request,
    parse_tagged,
    parse_untagged,
)

TAGGED_OCTETS = bytes.fromhex("C1 40 12345678 0000000000001000")
UNTAGGED_OCTETS = bytes.fromhex("41 44 CAFEF00D 00000000 00000007 000005CA")
READ_OCTETS = bytes.fromhex("DEADBEEF 0000000000000020 00000010 12345678 0000000000001000")

TAGGED_HEADER = Tagged(last=True, rdmap=0x40, stag=0x12345678, to=0x1000)
UNTAGGED_HEADER = Untagged(last=True, rdmap=0x44, inval_stag=0xCAFEF00D, qn=0, msn=7, mo=0x5CA)
READ = ReadRequest(sink_stag=0xDEADBEEF, sink_to=0x20, read_size=16, source_stag=0x12345678, source_to=0x1000)


def test_a_tagged_header_is_octets_and_back() -> None:  # DDP-5041-4.2-01
    assert build_tagged(TAGGED_HEADER) == TAGGED_OCTETS
    assert parse_tagged(TAGGED_OCTETS) == TAGGED_HEADER


def test_an_untagged_header_is_octets_and_back() -> None:  # DDP-5041-4.3-01, RDMAP-5040-4.1-03
    assert build_untagged(UNTAGGED_HEADER) == UNTAGGED_OCTETS
    assert parse_untagged(UNTAGGED_OCTETS) == UNTAGGED_HEADER


def test_a_read_request_is_octets_and_back() -> None:  # RDMAP-5040-4.4-01
    assert build_read_request(READ) == READ_OCTETS
    assert parse_read_request(READ_OCTETS) == READ


@pytest.mark.parametrize(("last", "tagged", "untagged"), [(True, 0xC1, 0x41), (False, 0x81, 0x01)])
def test_the_usual_control_octets(last: bool, tagged: int, untagged: int) -> None:  # DDP-5041-4.1-09, DDP-5041-4.1-11
    assert build_tagged(TAGGED_HEADER._replace(last=last))[0] == tagged
    assert build_untagged(UNTAGGED_HEADER._replace(last=last))[0] == untagged
    assert parse_tagged(bytes([tagged]) + TAGGED_OCTETS[1:]).last is last
    assert parse_untagged(bytes([untagged]) + UNTAGGED_OCTETS[1:]).last is last


def test_the_masks_pick_t_and_l() -> None:  # DDP-5041-4.1-01, DDP-5041-4.1-02
    assert [octets[0] & TAGGED != 0 for octets in (TAGGED_OCTETS, UNTAGGED_OCTETS)] == [True, False]
    assert [octet & LAST != 0 for octet in (0xC1, 0x81, 0x41, 0x01)] == [True, False, True, False]


@pytest.mark.parametrize("reserved", [0x04, 0x08, 0x10, 0x20, 0x3C])
def test_reserved_bits_are_not_checked(reserved: int) -> None:  # DDP-5041-4.1-10
    assert parse_tagged(bytes([TAGGED_OCTETS[0] | reserved]) + TAGGED_OCTETS[1:]) == TAGGED_HEADER
    assert parse_untagged(bytes([UNTAGGED_OCTETS[0] | reserved]) + UNTAGGED_OCTETS[1:]) == UNTAGGED_HEADER


@pytest.mark.parametrize("version", [0, 2, 3])
def test_another_version_is_refused(version: int) -> None:  # DDP-5041-4.1-11, DDP-5041-7.2-03, DDP-5041-7.2-04
    with pytest.raises(TaggedVersion, match=f"DDP version {version}, not 1"):
        parse_tagged(bytes([0xC0 | version]) + TAGGED_OCTETS[1:])
    with pytest.raises(UntaggedVersion, match=f"DDP version {version}, not 1"):
        parse_untagged(bytes([0x40 | version]) + UNTAGGED_OCTETS[1:])


def test_a_segment_that_ends_inside_its_header_is_refused() -> None:  # DDP-5041-4.4-01
    for size in range(14):
        with pytest.raises(DdpCatastrophe, match=f"segment of {size} octets"):
            parse_tagged(TAGGED_OCTETS[:size])
    for size in range(18):
        with pytest.raises(DdpCatastrophe, match=f"segment of {size} octets"):
            parse_untagged(UNTAGGED_OCTETS[:size])


@pytest.mark.parametrize("octets", [b"", READ_OCTETS[:-1], READ_OCTETS + b"\0"])
def test_a_read_request_of_another_length_is_refused(octets: bytes) -> None:  # RDMAP-5040-4.2-02
    with pytest.raises(MalformedMessage, match=f"has {len(octets)} octets where 28 are due"):
        parse_read_request(octets)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_headers_are_read_from_any_buffer_with_payload_behind(kind: type[bytes | bytearray | memoryview]) -> None:
    assert parse_tagged(kind(TAGGED_OCTETS + b"payload")) == TAGGED_HEADER
    assert parse_untagged(kind(UNTAGGED_OCTETS + b"payload")) == UNTAGGED_HEADER
    assert parse_read_request(kind(READ_OCTETS)) == READ
