"""The bench's own framing gives the octets of the RFC, and reads back what it made."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.decode.framing import Deframer, Marker, pad_length


def send(msn: int, payload: bytes) -> bytes:
    return build_untagged(3, 0, msn, payload)


def test_figure_5_of_rfc_5044() -> None:  # MPA-5044-4.4-12
    octets = Framer(markers=True).frame(send(1, bytes(24)))
    assert octets.hex() == "00000000002a414300000000000000000000000100000000" + "00" * 24 + "52239983"


def test_figure_6_of_rfc_5044() -> None:  # MPA-5044-4.4-12, MPA-5044-4.3-04
    framer = Framer(markers=True)
    framer.offset = 0x1EC
    octets = framer.frame(send(2, bytes(24)))
    assert octets.hex() == "002a414300000000000000000000000200000000" + "00000014" + "00" * 24 + "84925898"


def test_the_marker_before_the_crc() -> None:  # MPA-5044-4.4-14
    octets = Framer(markers=True).frame(send(1, bytes(488)))
    assert len(octets) == 520
    assert octets[-8:].hex() == "000001fc38cf64e8"


@pytest.mark.parametrize(("length", "pad"), [(18, 0), (19, 3), (20, 2), (21, 1)])
def test_pads(length: int, pad: int) -> None:
    assert pad_length(length) == pad


def test_what_can_be_wrong_is() -> None:
    ulpdu = send(1, b"abc")
    right = Framer().frame(ulpdu)
    assert Framer().frame(ulpdu, crc=0)[-4:] == bytes(4)
    assert Framer().frame(ulpdu, crc_mask=1)[-4] == right[-4] ^ 1
    assert Framer().frame(ulpdu, length=5)[:2] == b"\0\5"
    assert Framer().frame(ulpdu, pad=b"\xff")[-5] == 0xFF
    marked = Framer(markers=True).frame(ulpdu, tamper=lambda marker: Marker(7, 9))
    assert marked[:4] == bytes.fromhex("00070009")
    assert Framer(markers=True).frame(ulpdu, crc_leading_marker=False)[4:] == right


@pytest.mark.parametrize("at", [2, 2 + 18, 2 + 18 + 600, 2 + 18 + 701, 2 + 18 + 703])
@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("offset", [0, 256, 512])
def test_damage_behind_the_crc_changes_the_octet_that_is_meant(markers: bool, offset: int, at: int) -> None:
    ulpdu = send(1, bytes(701))
    framer, deframer = Framer(markers), Deframer(markers)
    framer.offset = deframer.offset = offset
    deframer.buffer += framer.damaged(ulpdu, at, 0x04)
    fpdu = deframer.next()
    assert fpdu is not None
    assert framer.offset == deframer.offset
    assert not fpdu.crc_right
    body = bytearray(struct.pack(">H", len(ulpdu)) + ulpdu + bytes(3))
    body[at] ^= 0x04
    assert fpdu.ulpdu + fpdu.pad == body[2:]


@pytest.mark.parametrize("markers", [False, True])
def test_damage_to_the_length(markers: bool) -> None:
    right, octets = Framer(markers).frame(send(1, b"12345678")), Framer(markers).damaged(send(1, b"12345678"), 1, 0x0C)
    lead = 4 if markers else 0
    assert octets == right[: lead + 1] + bytes([26 ^ 0x0C]) + right[lead + 2 :]


@given(st.lists(st.binary(min_size=14, max_size=1500), min_size=1, max_size=8), st.booleans(), st.integers(1, 700))
def test_what_is_made_is_read_back(ulpdus: list[bytes], markers: bool, chunk: int) -> None:
    framer, deframer = Framer(markers), Deframer(markers)
    stream = b"".join(framer.frame(ulpdu) for ulpdu in ulpdus)
    came = []
    for start in range(0, len(stream), chunk):
        deframer.buffer += stream[start : start + chunk]
        while (fpdu := deframer.next()) is not None:
            came.append(fpdu)
    assert [fpdu.ulpdu for fpdu in came] == ulpdus
    assert all(fpdu.crc_right and not any(fpdu.pad) for fpdu in came)
    assert all(seen.marker == (0, seen.due) for fpdu in came for seen in fpdu.markers)
    assert b"".join(fpdu.octets for fpdu in came) == stream
