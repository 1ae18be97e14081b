"""Octets as fields: each octet in one field, and what is wrong said with its clause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from construct import Struct
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.decode import formats, joining
from pyiwarp.decode.directions import Direction, Session, Settings
from pyiwarp.decode.fields import Field, Figure, Name, hex_number
from pyiwarp.decode.frames import fields_of_fpdu, fields_of_startup, fields_of_ulpdu, startup_size
from pyiwarp.decode.framing import MARKER_SIZE, MARKER_SPACING, Deframer, Fpdu, Marker, _Reader, with_markers
from pyiwarp.decode.joining import place_of_fpdu
from pyiwarp.decode.segments import parse_segment
from pyiwarp.decode.terminates import in_rfc_layout
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.wire import TaggedHeader, TerminateHeader, UntaggedHeader

_RDMAP = ("rv", "rsvd", "opcode")
_PLACES = ("stag", "to", "inval_stag", "qn", "msn", "mo")
FIGURES = {name: value for name, value in vars(formats).items() if isinstance(value, Figure)}


def covered(fields: Iterable[Field]) -> list[int]:
    """The places that fields have, in order of place."""
    return sorted(at for field in fields for span in field.spans for at in range(span.start, span.end))


def named(fields: Iterable[Field]) -> dict[str, Field]:
    return {field.name: field for field in fields}


def groups(name: str, figure: Figure) -> list[tuple[str, Name]]:
    return [(f"{name}.{key}", each) for key, each in figure.names.items() if each.parts]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_each_field_of_its_format(name: str) -> None:
    definition = FIGURES[name].definition
    assert isinstance(definition, Struct)
    assert [part.name for part in definition.subcons] == list(FIGURES[name].names)


@pytest.mark.parametrize("name", FIGURES)
def test_the_bits_of_a_group_are_its_octets(name: str) -> None:
    sizes = {part.name: part for part in FIGURES[name].definition.subcons}  # type: ignore[attr-defined]
    for key, group in FIGURES[name].names.items():
        if group.parts:
            assert sum(part.width for part in group.parts.values()) == 8 * sizes[key].sizeof()


@given(st.binary(max_size=700))
def test_any_octets_of_startup_are_fields(octets: bytes) -> None:
    fields = fields_of_startup(octets)
    assert covered(fields) == list(range(len(octets)))
    assert b"".join(field.octets for field in fields) == octets


@given(st.binary(max_size=200))
def test_any_octets_of_a_segment_are_fields(octets: bytes) -> None:
    fields = fields_of_ulpdu(octets, 7)
    assert covered(fields) == list(range(7, 7 + len(octets)))
    assert b"".join(field.octets for field in fields) == octets


@given(st.binary(max_size=40))
def test_a_segment_is_what_the_formats_of_wire_say(ulpdu: bytes) -> None:
    segment = parse_segment(ulpdu)
    definition: Any = TaggedHeader if ulpdu[:1] >= b"\x80" else UntaggedHeader
    if segment is None:
        assert len(ulpdu) < definition.sizeof()
        return
    header = definition.parse(ulpdu)
    assert (segment.tagged, segment.last) == (header.ddp.tagged, header.ddp.last)
    assert (segment.dv, segment.ddp_rsvd) == (header.ddp.dv, header.ddp.rsvd)
    assert (segment.rv, segment.rdmap_rsvd, segment.opcode) == tuple(header.rdmap[name] for name in _RDMAP)
    assert all(getattr(segment, name) == header[name] for name in _PLACES if name in header)
    assert segment.payload == ulpdu[definition.sizeof() :]


@given(st.sampled_from([*Opcode, 0xC, 0xF]), st.integers(0, 5), st.binary(max_size=120))
def test_any_message_is_fields(opcode: int, qn: int, payload: bytes) -> None:
    ulpdu = build_untagged(opcode, qn, 1, payload)
    assert covered(fields_of_ulpdu(ulpdu)) == list(range(len(ulpdu)))


@given(st.lists(st.binary(min_size=1, max_size=1500), min_size=1, max_size=6), st.booleans())
def test_each_octet_of_an_fpdu_is_in_one_field_markers_and_all(ulpdus: list[bytes], markers: bool) -> None:
    framer, deframer = Framer(markers), Deframer(markers)
    deframer.buffer += b"".join(framer.frame(ulpdu) for ulpdu in ulpdus)
    for ulpdu in ulpdus:
        fpdu = deframer.next()
        assert fpdu is not None
        fields = fields_of_fpdu(fpdu)
        assert covered(fields) == list(range(len(fpdu.octets)))
        for field in fields:
            assert field.octets == b"".join(fpdu.octets[span.start : span.end] for span in field.spans)
        assert [field.wrong for field in fields if field.format == "MPA" and field.wrong] == []
        assert ulpdu in b"".join(field.octets for field in fields if field.name != "Marker")


def fpdu_of(octets: bytes, *, markers: bool = False) -> Fpdu:
    deframer = Deframer(markers)
    deframer.buffer += octets
    fpdu = deframer.next()
    assert fpdu is not None
    return fpdu


def is_rule(said: str) -> bool:
    """Whether a complaint ends with the id of a requirement."""
    return re.search(r" \(\w+-\d{4}-[\d.]+-\d\d\)$", said) is not None


def test_what_is_wrong_names_its_clause() -> None:
    crc = named(fields_of_fpdu(fpdu_of(Framer().frame(build_tagged(0, 1, 2), crc_mask=1))))["CRC"]
    assert "is right" in crc.wrong
    pad = named(fields_of_fpdu(fpdu_of(Framer().frame(bytes(15), pad=b"xyz"))))["PAD"]
    assert "a pad is zero" in pad.wrong
    twisted = Framer(markers=True).frame(bytes(20), tamper=lambda marker: Marker(0, marker.fpduptr + 4))
    marker = named(fields_of_fpdu(fpdu_of(twisted, markers=True)))["Marker"]
    assert "FPDUPTR 0 is due" in marker.wrong
    dv, rv = fields_of_ulpdu(build_tagged(0, 1, 2, dv=2))[0], fields_of_ulpdu(build_tagged(0, 1, 2, rv=0))[1]
    assert "DV is 2, 1 is due" in dv.wrong
    assert "RV is 0, 1 is due" in rv.wrong
    assert all(is_rule(field.wrong) for field in (crc, pad, marker, dv, rv))


def test_without_crc_its_octets_may_be_any() -> None:
    fpdu = fpdu_of(Framer().frame(build_tagged(0, 1, 2), crc=0))
    assert named(fields_of_fpdu(fpdu, crc=False))["CRC"].wrong == ""


def test_a_read_request_is_told_in_words() -> None:
    told = named(
        fields_of_ulpdu(build_untagged(Opcode.READ_REQUEST, 1, 3, build_read_request(0x100, 8, 512, 0x2FF, 9)))
    )
    assert (told["RV, Opcode"].format, told["RV, Opcode"].clause) == ("RDMAP", "RFC 5040 §4.1")
    assert (told["T, L, DV"].format, told["T, L, DV"].clause) == ("DDP", "RFC 5041 §4.1")
    assert told["Invalidate STag"].format == "RDMAP"
    assert told["RV, Opcode"].words == "RDMAP version 1, RDMA Read Request"
    assert told["QN"].words == "queue 1: Read and Atomic Requests"
    assert told["MSN"].words == "message 3 of its queue"
    assert told["RDMA Read Message Size"].words == "512 octets"
    assert told["Data Source STag"].words == "STag 0x000002ff: index 0x2, key 0xff"


def test_a_terminate_quotes_headers_field_by_field() -> None:
    refused = build_tagged(0, 0xABC, 5)
    control = {"layer": 1, "etype": 1, "code": 0, "has_length": True, "has_ddp_header": True, "has_rdma_header": False}
    message = TerminateHeader.build(
        {"control": control, "segment_length": 14, "ddp_header": refused, "rdma_header": b""}
    )
    told = named(fields_of_ulpdu(build_untagged(Opcode.TERMINATE, 2, 1, message)))
    assert told["Terminate Control"].words == "DDP: tagged buffer: invalid STag (RFC 5041 §7.2)"
    assert told["Terminated DDP Header: STag"].value == 0xABC


def test_a_terminate_of_siw_is_fields_by_what_it_means() -> None:
    refused = build_tagged(0, 0xABC, 5)
    message = bytes.fromhex("11010300") + b"\0\x0e" + refused  # C bitfields of a little-endian machine
    fields = fields_of_ulpdu(build_untagged(Opcode.TERMINATE, 2, 1, message))
    told = named(fields)
    assert told["Terminate Control"].octets == message[:4]
    assert told["Terminate Control"].words.startswith("DDP: tagged buffer: base or bounds violation (RFC 5041 §7.2)")
    assert told["Terminate Control"].words.endswith("as C bitfields, which the RFC has in another order")
    assert told["Terminated DDP Header: STag"].value == 0xABC
    assert b"".join(field.octets for field in fields)[18:] == message


def test_the_length_of_a_startup_frame_is_known_with_its_header() -> None:
    head = b"MPA ID Req Frame\x40\x01\x00\x05"
    assert startup_size(head[:19]) is None
    assert startup_size(head) == 25
    assert fields_of_startup(head + b"hello")[-1].octets == b"hello"


def test_the_enhanced_word_is_apart_from_private_data() -> None:
    octets = b"MPA ID Req Frame\x50\x02\x00\x06\x80\x10\x40\x20ab"
    word = named(fields_of_startup(octets))["Enhanced RDMA word"]
    assert word.words.startswith("peer to peer, IRD: 16 Read Requests taken at a time, ready with a Read of no octets")
    assert [bits.value for bits in word.bits] == [1, 0, 16, 0, 1, 32]


def test_in_revision_1_the_bit_of_s_is_reserved() -> None:
    octets = b"MPA ID Req Frame\x50\x01\x00\x06\x80\x10\x40\x20ab"
    told = named(fields_of_startup(octets))
    assert "enhanced" not in told["M, C, R, S"].words
    assert [bits.words for bits in told["M, C, R, S"].bits if bits.name == "S"] == [""]
    assert told["Private Data"].octets == octets[20:]
    assert [field.wrong for field in told.values() if field.wrong] == []


@pytest.mark.parametrize(("length", "wrong"), [(512, False), (513, True), (65535, True)])
def test_too_much_private_data_is_wrong(length: int, wrong: bool) -> None:
    octets = b"MPA ID Req Frame\x40\x01" + length.to_bytes(2, "big") + bytes(length)
    told = named(fields_of_startup(octets))["PD_Length"]
    assert told.wrong == (f"{length} octets, 512 at most (MPA-5044-7.1.1-23)" if wrong else "")
    assert StartupUnit(0, octets).wrong == ([f"PD_Length: {told.wrong}"] if wrong else [])


@pytest.mark.parametrize("length", range(5))
def test_an_enhanced_word_that_is_not_there_is_wrong(length: int) -> None:
    octets = b"MPA ID Req Frame\x50\x02\x00" + bytes([length]) + bytes(length)
    wrong = named(fields_of_startup(octets))["PD_Length"].wrong
    assert wrong == ("" if length == 4 else "S is set, and 4 octets for it are not there (MPA2-6581-6-08)")


def test_numbers_are_short_or_hexadecimal() -> None:
    assert (hex_number(9), hex_number(10)) == ("9", "0xa")


@given(st.integers(0, 5_000), st.integers(0, 511))
def test_octets_with_markers_are_as_many_as_a_sender_makes(nbytes: int, offset: int) -> None:
    made = nbytes
    at = offset
    for _ in range(nbytes):
        if at % MARKER_SPACING == 0:
            made, at = made + MARKER_SIZE, at + MARKER_SIZE
        at += 1
    assert with_markers(nbytes, offset) == made


ALIKE = {"A": b"A" * 280_000, "headers": bytes.fromhex("fff14143") * 70_000, "markers": b"\0\0\0\x04AAAA" * 35_000}


@pytest.mark.parametrize("octets", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("crc", [False, True])
def test_octets_that_look_like_fpdus_everywhere_are_searched_without_copies(
    octets: bytes, markers: bool, crc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[object] = []
    monkeypatch.setattr(_Reader, "fpdu", taken.append)
    assert place_of_fpdu(octets, markers, crc=crc) is None
    assert taken == []


@pytest.mark.parametrize("octets", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("markers", [False, True])
def test_a_search_computes_no_more_crcs_than_it_may(
    octets: bytes, markers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def counted(piece: memoryview) -> int:
        taken.append(len(piece))
        return 1

    monkeypatch.setattr(joining, "crc32c", counted)
    assert place_of_fpdu(octets, markers, crc=True) is None
    assert sum(taken) <= 2 * joining._WORK


def test_an_fpdu_whose_header_nobody_sends_is_found() -> None:
    framer = Framer()
    octets = b"".join(framer.frame(build_tagged(0, 1, n, bytes(400), rdmap_rsvd=3)) for n in range(9))
    assert place_of_fpdu(octets[7:], False, crc=True) == (len(octets) // 9 - 7, 0)
    assert place_of_fpdu(octets[7:], False, crc=False) is None


def test_an_fpdu_that_comes_octet_by_octet_is_not_read_again_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[None] = []
    read = _Reader.fpdu

    def counted(reader: _Reader) -> Fpdu:
        tries.append(None)
        return read(reader)

    monkeypatch.setattr(_Reader, "fpdu", counted)
    octets, deframer, found = Framer(markers=True).frame(bytes(20_000)), Deframer(markers=True), 0
    for octet in octets:
        deframer.buffer.append(octet)
        found += deframer.next() is not None
    assert found == 1
    assert len(tries) < len(octets) / 200


# --- both directions -------------------------------------------------------------------------------------------------


REQUEST = b"MPA ID Req Frame\x40\x01\x00\x00"
REPLY = b"MPA ID Rep Frame\x40\x01\x00\x02ok"


def flow(count: int, *, markers: bool = False) -> tuple[list[bytes], bytes]:
    """Segments of growing size, and the FPDUs of them."""
    framer = Framer(markers)
    segments = [build_tagged(0, 1, number, bytes([number % 256]) * (number * 97 % 1400)) for number in range(count)]
    return segments, b"".join(framer.frame(segment) for segment in segments)


def ulpdus(found: Iterable[tuple[int, Unit]], direction: int) -> list[bytes]:
    return [unit.ulpdu for way, unit in found if way == direction and isinstance(unit, FpduUnit)]


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize("markers", [False, True])
def test_a_session_is_units_however_its_octets_come(piece: int, markers: bool) -> None:
    segments, octets = flow(9, markers=markers)
    reply = bytearray(REPLY)
    reply[16] |= 0x80 * markers
    session = Session()
    found = session.feed(0, REQUEST)
    early = octets[:3]  # may be captured before the Reply is
    found += session.feed(0, early) + session.feed(1, bytes(reply))
    for at in range(len(early), len(octets), piece):
        found += session.feed(0, octets[at : at + piece])
    found += session.finish()
    assert ulpdus(found, 0) == segments
    assert [unit.text.partition(",")[0] for _, unit in found if isinstance(unit, StartupUnit)] == [
        "MPA Request",
        "MPA Reply",
    ]
    sent = [unit for way, unit in found if way == 0]
    assert b"".join(unit.octets for unit in sent) == REQUEST + octets
    assert covered(field for unit in sent for field in unit.fields) == list(range(len(REQUEST + octets)))
    assert [unit.wrong for _, unit in found if unit.wrong] == []


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 13, 700, 2_222])
def test_a_stream_that_was_joined_late_is_found_again(lost: int, markers: bool) -> None:
    segments, octets = flow(40, markers=markers)
    direction = Direction(joined=True)
    assert direction.feed(octets[lost:]) == []
    found = direction.begin(Settings(crc=True, markers=markers)) + direction.finish()
    seen = [unit.ulpdu for unit in found if isinstance(unit, FpduUnit)]
    assert seen == segments[-len(seen) :]
    assert len(seen) > 30
    assert b"".join(unit.octets for unit in found) == octets[lost:]
    assert covered(field for unit in found for field in unit.fields) == list(range(len(octets) - lost))


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("markers", [False, True])
def test_how_a_stream_is_framed_is_found_out(crc: bool, markers: bool) -> None:
    framer = Framer(markers)
    segments = [build_tagged(0, 1, number, bytes([number]) * (number * 97 % 1400)) for number in range(40)]
    octets = b"".join(framer.frame(segment, crc=None if crc else 0) for segment in segments)
    session = Session(joined=True)
    found = session.feed(1, octets[1_999:]) + session.finish()
    assert session.directions[1].settings == Settings(crc, markers)
    seen = ulpdus(found, 1)
    assert seen == segments[-len(seen) :]
    assert len(seen) > 25
    assert [unit.wrong for _, unit in found if unit.wrong] == []


def test_without_crc_a_stream_is_found_by_its_headers() -> None:
    segments, octets = flow(40)
    direction = Direction(joined=True)
    direction.feed(octets[55:])
    found = direction.begin(Settings(crc=False, markers=False))
    assert ulpdus(((0, unit) for unit in found), 0)[-30:] == segments[-30:]


@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=300)), max_size=8), st.booleans())
def test_any_octets_of_a_session_are_units(pieces: list[tuple[int, bytes]], joined: bool) -> None:
    session = Session(joined=joined)
    found = [pair for way, octets in pieces for pair in session.feed(way, octets)] + session.finish()
    for direction in (0, 1):
        whole = b"".join(octets for way, octets in pieces if way == direction)
        units = [unit for way, unit in found if way == direction]
        assert b"".join(unit.octets for unit in units) == whole
        assert covered(field for unit in units for field in unit.fields) == list(range(len(whole)))
        assert all(isinstance(unit.text, str) for unit in units)


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=30).map(lambda rest: b"\xc1\x40" + rest)), st.data())
def test_what_is_wrong_with_an_fpdu_is_what_is_wrong_with_its_fields(ulpdu: bytes, data: st.DataObject) -> None:
    crc_mask, crc = data.draw(st.sampled_from([0, 1])), data.draw(st.booleans())
    fpdu = fpdu_of(Framer().frame(ulpdu, pad=data.draw(st.sampled_from([None, b"xyz"])), crc_mask=crc_mask))
    unit = FpduUnit(0, fpdu.octets, "", fpdu, 1, crc)
    assert unit.wrong == [f"{field.name}: {field.wrong}" for field in unit.fields if field.wrong]


@given(st.sampled_from(list(Opcode)), st.integers(0, 3), st.binary(max_size=80))
def test_any_message_has_a_line(opcode: int, qn: int, payload: bytes) -> None:
    unit = FpduUnit(0, b"", "", fpdu_of(Framer().frame(build_untagged(opcode, qn, 1, payload))), 1)
    assert formats.opcode_name(opcode) in unit.text


def test_a_terminate_of_siw_is_read_in_its_layout() -> None:
    siw = bytes.fromhex("10010700 000e") + build_tagged(0, 1, 2) + bytes(28)
    unit = FpduUnit(0, b"", "", fpdu_of(Framer().frame(build_untagged(Opcode.TERMINATE, 2, 1, siw))), 1)
    assert unit.terminate is not None
    assert str(unit.terminate.term) == "0/1/01"
    assert in_rfc_layout(bytes.fromhex("0101e000")) == bytes.fromhex("0101e000")


@pytest.mark.parametrize("markers", [False, True])
def test_behind_octets_that_were_lost_fpdus_are_found_again(markers: bool) -> None:
    segments, octets = flow(60, markers=markers)
    reply = bytearray(REPLY)
    reply[16] |= 0x80 * markers
    session = Session()
    found = session.feed(0, REQUEST) + session.feed(1, bytes(reply))
    found += (
        session.feed(0, octets[:5_000]) + session.lost(0, 3_001) + session.feed(0, octets[8_001:]) + session.finish()
    )
    seen = ulpdus(found, 0)
    assert 10 < len(seen) < len(segments)
    assert all(segment in segments for segment in seen)
    assert seen[-1] == segments[-1]
    places = covered(field for way, unit in found if way == 0 for field in unit.fields)
    lost = range(len(REQUEST) + 5_000, len(REQUEST) + 8_001)
    assert places == [at for at in range(len(REQUEST + octets)) if at not in lost]


@pytest.mark.parametrize("markers", [False, True])
def test_a_side_that_sends_little_waits_for_its_first_fpdu(markers: bool) -> None:
    framer = Framer(markers)
    segments, octets = flow(600, markers=markers)
    answers = [build_untagged(Opcode.SEND, 0, number, bytes(50)) for number in range(1, 30)]
    back = b"".join(framer.frame(answer) for answer in answers)
    session = Session(joined=True)
    found = session.feed(1, back[5:9]) + session.feed(0, octets[1_000:]) + session.feed(1, back[9:]) + session.finish()
    assert ulpdus(found, 0)[-500:] == segments[-500:]
    assert ulpdus(found, 1)[-20:] == answers[-20:]
    assert [unit.wrong for _, unit in found if unit.wrong] == []


@pytest.mark.parametrize("joined", [False, True])
def test_a_reply_that_comes_late_is_a_startup_frame(joined: bool) -> None:
    segments, octets = flow(600)
    session = Session(joined=joined)
    found = session.feed(0, REQUEST) + session.feed(0, octets)
    found += session.feed(1, REPLY + octets) + session.finish()
    assert [unit.text.partition(",")[0] for _, unit in found if isinstance(unit, StartupUnit)] == [
        "MPA Request",
        "MPA Reply",
    ]
    assert ulpdus(found, 0) == ulpdus(found, 1) == segments
