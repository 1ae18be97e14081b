"""Every octet of every golden vector, and of every capture in the repository, is in one field and in no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.decode.frames import fields_of_fpdu, fields_of_startup
from pyiwarp.decode.framing import Deframer
from pyiwarp.decode.units import FpduUnit, Unit
from pyiwarp.explain.packets import tcp_segments
from pyiwarp.explain.records import record
from pyiwarp.explain.story import Conversation, read_capture
from tests.golden.vectors import FPDUS, STARTUPS, StartupVector, Vector

CAPTURES = sorted((Path(__file__).parents[2] / "interop" / "captures").glob("*.pcapng"))


def places(units: list[Unit]) -> list[int]:
    return sorted(at for unit in units for field in unit.fields for span in field.spans for at in range(*span))


@pytest.mark.parametrize("vector", STARTUPS, ids=lambda vector: str(vector.name))
def test_each_octet_of_a_startup_vector_is_in_one_field(vector: StartupVector) -> None:
    fields = fields_of_startup(vector.octets)
    assert b"".join(field.octets for field in fields) == vector.octets
    assert [field.wrong for field in fields if field.wrong] == []


@pytest.mark.parametrize("vector", FPDUS, ids=lambda vector: str(vector.name))
def test_each_octet_of_an_fpdu_vector_is_in_one_field(vector: Vector) -> None:
    deframer = Deframer(vector.markers)
    deframer.offset = vector.offset
    deframer.buffer += vector.octets
    fpdu = deframer.next()
    assert fpdu is not None
    fields = fields_of_fpdu(fpdu)
    found = sorted(at for field in fields for span in field.spans for at in range(*span))
    assert found == list(range(len(vector.octets)))
    assert [field.wrong for field in fields if field.wrong] == []


def the_conversation(file: Path) -> Conversation:
    (conversation,), said = read_capture(file)
    assert said == ""
    return conversation


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_each_octet_of_a_capture_is_in_one_field(file: Path) -> None:
    conversation = the_conversation(file)
    sent: list[bytes] = [b"", b""]
    for segment in tcp_segments(file):
        sent[segment.source != conversation.ends[0]] += segment.payload
    for direction, octets in enumerate(sent):
        units = [unit for each in conversation.messages if each.direction == direction for unit in each.units]
        assert b"".join(unit.octets for unit in units) == octets
        assert places(units) == list(range(len(octets)))


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_the_pieces_of_a_record_are_the_octets_in_their_order(file: Path) -> None:
    conversation = the_conversation(file)
    units = [unit for message in conversation.messages for unit in message.units]
    told = [unit for message in record(conversation)["messages"] for unit in message["units"]]
    for unit, each in zip(units, told, strict=True):
        at = unit.offset
        for piece in each["pieces"]:
            assert piece["at"] == at
            octets = unit.octets[at - unit.offset : at - unit.offset + piece["nbytes"]]
            assert bytes.fromhex(piece["octets"]) == octets[:64]
            at += piece["nbytes"]
        assert at == unit.offset + len(unit.octets)
        if isinstance(unit, FpduUnit) and unit.fpdu is not None:
            last = [piece["register"] for piece in each["pieces"] if "register" in piece][-1]
            assert int(last, 16) ^ 0xFFFFFFFF == unit.fpdu.computed


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_nothing_that_siw_or_we_sent_is_called_wrong(file: Path) -> None:
    messages = the_conversation(file).messages
    assert [message.wrong for message in messages if message.wrong] == []
    assert [message.text.partition(",")[0] for message in messages[:2]] == ["MPA Request", "MPA Reply"]


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_every_read_response_names_its_request(file: Path) -> None:
    for message in the_conversation(file).messages:
        units = [unit for unit in message.units if isinstance(unit, FpduUnit)]
        if units and units[0].segment is not None and units[0].segment.opcode == Opcode.READ_RESPONSE:
            assert message.cause.startswith("answers the Read Request with MSN ")


def test_the_captures_of_rstream_are_told_as_rsockets() -> None:
    for file in (each for each in CAPTURES if each.stem.startswith("rstream")):
        above = [message.above for message in the_conversation(file).messages if message.units]
        assert {str(each).partition(":")[0] for each in above} <= {"rsockets", "None"}
        assert sum(each is not None for each in above) > 20


@pytest.mark.parametrize("file", [each for each in CAPTURES if not each.stem.startswith("rstream")], ids=str)
def test_no_protocol_is_named_that_is_not_there(file: Path) -> None:
    above = [message.above for message in the_conversation(file).messages]
    assert [str(each) for each in above if each and each.protocol.sure] == []


def test_a_write_that_siw_refused_is_not_placed() -> None:
    (file,) = (each for each in CAPTURES if each.stem == "error-we-write-bounds-siw-pyiwarp-connects")
    placed = [each for message in record(the_conversation(file))["messages"] for each in message["memory"]]
    assert [(each["nbytes"], each["refused"], each["inside"]) for each in placed] == [(256, True, False)]
