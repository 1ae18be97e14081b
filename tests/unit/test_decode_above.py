"""Protocols above RDMAP: each octet is in one field whatever comes, and a guess is told as one."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.decode.above.files import FileService
from pyiwarp.decode.above.perftest import Perftest
from pyiwarp.decode.above.protocols import Protocol
from pyiwarp.decode.above.rping import Rping
from pyiwarp.decode.above.rsockets import Rsockets
from pyiwarp.decode.directions import Session
from pyiwarp.decode.segments import Segment, parse_segment
from pyiwarp.decode.units import FpduUnit, Unit
from pyiwarp.files import messages

PROTOCOLS = (FileService, Rsockets, Rping, Perftest)
FILES = b"pyiwarp files 1"
RING = struct.pack(">BBH3xBQIIQII", 1, 2, 384, 0, 0x1000, 7, 2, 0x2000, 8, 4096)
VERSION = b"6.06".ljust(16, b"\0")
ADVERTISEMENT = struct.pack(">QII", 0x5000, 9, 64)
LIKELY = (b"", FILES, FILES + b" blake3", RING, VERSION, ADVERTISEMENT, b'{"op":"get","name":"x"}', b"\0\0\0\x05")


def startup(key: bytes, private_data: bytes, flags: int = 0x40) -> bytes:
    return b"MPA ID %s Frame" % key + bytes([flags, 1]) + len(private_data).to_bytes(2, "big") + private_data


def session(private_data: bytes, sent: list[tuple[int, bytes]], *, markers: bool = False) -> list[tuple[int, Unit]]:
    """The units of a session whose sides have the same private data and send these segments."""
    talk, framers = Session(), (Framer(markers), Framer(markers))
    flags = 0x40 | 0x80 * markers
    units = talk.feed(0, startup(b"Req", private_data, flags)) + talk.feed(1, startup(b"Rep", private_data, flags))
    for direction, segment in sent:
        units += talk.feed(direction, framers[direction].frame(segment))
    return units + talk.finish()


def told(units: list[tuple[int, Unit]]) -> list[str]:
    return [str(unit.above) if unit.above else "" for _, unit in units]


def segment(ulpdu: bytes) -> Segment:
    parsed = parse_segment(ulpdu)
    assert parsed is not None
    return parsed


PAYLOADS = st.one_of(
    st.sampled_from(LIKELY), st.binary(max_size=80), st.sampled_from(LIKELY).map(lambda each: each[:-1])
)
SEGMENTS = st.one_of(
    st.builds(lambda opcode, payload: build_untagged(opcode, 0, 1, payload), st.sampled_from(Opcode), PAYLOADS),
    st.builds(
        lambda opcode, stag, to, payload: build_tagged(opcode, stag, to, payload),
        st.sampled_from([Opcode.WRITE, Opcode.READ_RESPONSE]),
        st.sampled_from([7, 8, 9, 1 << 31]),
        st.sampled_from([0, 0x1000, 0x1010, 0x1020, 0x2000, 0x5000, (1 << 64) - 1]),
        PAYLOADS,
    ),
    st.just(build_untagged(Opcode.READ_REQUEST, 1, 1, build_read_request(1, 2, 64, 9, 0x5000))),
)


@given(PAYLOADS, st.lists(st.tuples(st.integers(0, 1), SEGMENTS), max_size=12), st.booleans())
def test_whatever_comes_each_octet_is_in_one_field(
    private_data: bytes, sent: list[tuple[int, bytes]], markers: bool
) -> None:
    for _, unit in session(private_data, sent, markers=markers):
        places = sorted(at for field in unit.fields for span in field.spans for at in range(*span))
        assert places == list(range(unit.offset, unit.offset + len(unit.octets)))
        assert all(field.octets for field in unit.fields)
        assert unit.text
        assert unit.above is None or str(unit.above)


@given(st.binary(max_size=100), st.sampled_from(PROTOCOLS))
def test_any_private_data_are_read_or_not(private_data: bytes, kind: type[Protocol]) -> None:
    reading = kind().hello(0, private_data)
    if reading is not None:
        assert b"".join(field.octets for field in reading.fields(private_data, 3)) == private_data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    ),
    st.booleans(),
)
def test_any_json_of_the_file_service_is_fields(value: object, ascii: bool) -> None:
    payload = json.dumps({"op": value, "n": value}, ensure_ascii=ascii, separators=(",", ":"))
    units = session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, payload.encode("utf-8", "replace")))])
    fields = units[-1][1].fields
    assert [field.name for field in fields if field.format == "files"] == ["op", "n"]
    assert str(units[-1][1].above).startswith("files: ")


@pytest.mark.parametrize(
    "message",
    [
        messages.Get('näme, with "quotes"', mode=True),
        messages.Put("x", 5, 7, 1 << 40),
        messages.Entries((messages.Entry("a", "file", 1, 2), messages.Entry("b", "link", 3, 4))),
        messages.Busy(),
    ],
)
def test_a_message_of_the_file_service_is_told_by_its_fields(message: messages.Message) -> None:
    units = session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, messages.encode(message)))])
    assert str(units[-1][1].above).startswith(f"files: {message.op}")
    named = [field.name for field in units[-1][1].fields if field.format == "files"]
    assert named == list(json.loads(messages.encode(message)))


def test_one_side_alone_makes_a_guess() -> None:
    talk = Session()
    units = talk.feed(0, startup(b"Req", FILES)) + talk.feed(1, startup(b"Rep", b""))
    units += talk.feed(0, Framer().frame(build_untagged(Opcode.SEND, 0, 1, b'{"op":"get","name":"x"}')))
    assert told(units) == ["looks like files: version 1, the client has SHA-256", "", ""]
    assert units[0][1].fields[-1].format == "files?"


def test_rsockets_is_sure_when_a_write_goes_to_the_ring() -> None:
    units = session(
        RING,
        [
            (0, build_untagged(Opcode.SEND, 0, 1, struct.pack("<I", 5))),
            (0, build_tagged(Opcode.WRITE, 7, 0x1010, struct.pack("<QII", 0x9000, 21, 100))),
            (1, build_tagged(Opcode.WRITE, 21, 0x9000, b"hello")),
            (1, build_untagged(Opcode.SEND, 0, 1, struct.pack("<I", 7 << 29 | 2))),
        ],
    )
    last = [unit.above for _, unit in units[2:]]
    assert [each.says if each else "" for each in last] == [
        "5 octets more are in the ring",
        "entry 1 of the target SGL: 100 octets of the ring are free",
        "octets into the peer's ring",
        "shutdown: this side writes no more",
    ]
    assert [field.name for field in units[3][1].fields if field.format == "rsockets"] == ["TO", "STag", "Size"]
    assert told(units)[-1].startswith("rsockets: ")


def test_private_data_of_the_form_of_rsockets_alone_are_a_guess() -> None:
    units = session(RING, [(0, build_tagged(Opcode.WRITE, 99, 0, b"elsewhere"))])
    assert [each.partition(":")[0] for each in told(units)] == ["looks like rsockets", "looks like rsockets", ""]


def test_what_only_advertises_memory_is_not_rping() -> None:
    read = build_untagged(Opcode.READ_REQUEST, 1, 1, build_read_request(1, 0, 64, 9, 0x5000))
    units = session(
        b"",
        [
            (0, build_untagged(Opcode.SEND, 0, 1, ADVERTISEMENT)),
            (1, read),
            (0, build_tagged(Opcode.READ_RESPONSE, 1, 0, b"something else".ljust(64))),
        ],
    )
    assert [each.partition(":")[0] for each in told(units)[2:]] == ["looks like rping"] * 3
    assert {field.format for field in units[2][1].fields} == {"MPA", "DDP", "RDMAP", "rping?"}


def test_a_program_that_says_a_version_is_not_perftest() -> None:
    units = session(
        b"", [(0, build_untagged(Opcode.SEND, 0, 1, VERSION)), (1, build_untagged(Opcode.SEND, 0, 1, b"hi"))]
    )
    assert told(units)[2:] == ["looks like perftest: version 6.06", ""]


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_octets_that_were_lost_end_no_protocol_with_an_error(kind: type[Protocol]) -> None:
    protocol = kind()
    protocol.lost()
    protocol.read(0, segment(build_untagged(Opcode.SEND, 0, 1, VERSION)))


def test_a_unit_of_the_middle_of_a_message_has_a_payload_alone() -> None:
    units = session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, b'{"op":"get"', mo=5, last=False))])
    unit = units[-1][1]
    assert isinstance(unit, FpduUnit)
    assert "Payload" in [field.name for field in unit.fields]
    assert unit.above is None


@pytest.mark.parametrize("member", [b'"\\ud800":1', b'"x":"\\ud800"', b'"x":["\\ud800"]'])
def test_what_a_message_of_the_file_service_says_can_be_written_anywhere(member: bytes) -> None:
    unit = session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, b'{"op":"get",%s}' % member))])[-1][1]
    for text in (str(unit.above), *(each.name for each in unit.fields), *(each.words for each in unit.fields)):
        assert text.encode().decode() == text


def test_objects_that_are_no_messages_of_the_file_service_are_not_divided() -> None:
    """Neither those with more members than any message, nor those that JSON's reader refuses."""

    def sends(members: str) -> Unit:
        return session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, b'{"op":"get"%s}' % members.encode()))])[-1][1]

    assert str(sends("".join(f',"{number}":1' for number in range(31))).above).startswith("files: get 0 1, 1 1")
    for members in ("".join(f',"{number}":1' for number in range(32)), f',"x":{"9" * 5000}'):
        unit = sends(members)
        assert unit.above is None
        assert "Payload" in [each.name for each in unit.fields]


@pytest.mark.parametrize("depth", range(900, 1000))
def test_deep_objects_end_in_no_error(depth: int) -> None:
    octets = b'{"op":"get","x":%s%s}' % (b"[" * depth, b"]" * depth)
    unit = session(FILES, [(0, build_untagged(Opcode.SEND, 0, 1, octets))])[-1][1]
    assert sum(len(span) for each in unit.fields for span in [range(*span) for span in each.spans]) == len(unit.octets)
