"""What the stack sends decodes to what was asked, however it was cut into segments, FPDUs and pieces of TCP."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pyiwarp.codes import Opcode
from pyiwarp.decode.directions import Session
from pyiwarp.decode.segments import Segment
from pyiwarp.decode.units import FpduUnit, Unit
from pyiwarp.fastwire import parse_read_request
from pyiwarp.negotiation import Offer
from pyiwarp.queues.work import Read, Send, Write
from tests.harness import Pair

SIZE = 9_000
"""Octets of each region: some segments."""


@dataclass
class Decoded:
    """A message as the decoder has it: its first segment, and all of its payload."""

    first: Segment
    payload: bytearray = field(default_factory=bytearray)


def messages(units: list[tuple[int, Unit]], direction: int) -> list[Decoded]:
    """The messages of a direction; each segment must lie behind the one before."""
    found: list[Decoded] = []
    whole = True
    for way, unit in units:
        if way != direction or not isinstance(unit, FpduUnit):
            continue
        segment = unit.segment
        assert segment is not None
        if whole:
            found.append(Decoded(segment))
        message = found[-1]
        begin = segment.to - message.first.to if segment.tagged else segment.mo
        assert begin == len(message.payload)
        message.payload += segment.payload
        whole = segment.last
    assert whole
    return found


SIZES = st.one_of(st.integers(0, 40), st.integers(0, SIZE))
ASKED = st.lists(st.tuples(st.sampled_from(["send", "write", "read"]), SIZES), max_size=8)


@settings(max_examples=60)
@given(
    ASKED,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([536, 1448, 8948, 65_483]),
    st.integers(1, 3_000),
)
def test_what_the_stack_sends_decodes_to_what_was_asked(
    asked: list[tuple[str, int]], mine: bool, theirs: bool, crc: bool, emss: int, piece: int
) -> None:
    initiator, responder = Offer(crc=crc, markers=mine), Offer(crc=crc, markers=theirs)
    pair = Pair(initiator=initiator, responder=responder, emss=emss)
    target, source = pair.right.region(SIZE), pair.right.region(bytes(range(250)) * (SIZE // 250))
    sink = pair.left.region(SIZE)
    octets = [bytes([number + 1]) * size for number, (_, size) in enumerate(asked)]
    for payload, (kind, size) in zip(octets, asked, strict=True):
        local = pair.left.region(payload or 1)[: len(payload)]
        if kind == "send":
            pair.right.receive(SIZE)
            pair.left.post(Send((local,)))
        elif kind == "write":
            pair.left.post(Write((local,), target[:size].remote()))
        else:
            pair.left.post(Read(sink[:size], source[:size].remote()))
        pair.run()
    units = decoded(bytes(pair.left_end.said), bytes(pair.right_end.said), piece)
    assert [unit.wrong for _, unit in units if unit.wrong] == []
    sent = [each for each in messages(units, 0) if (each.first.opcode, each.first.stag) != (Opcode.WRITE, 1)]
    answers = messages(units, 1)
    assert len(sent) == len(asked)
    for message, payload, (kind, size) in zip(sent, octets, asked, strict=True):
        if kind == "send":
            assert (message.first.opcode, bytes(message.payload)) == (Opcode.SEND, payload)
        elif kind == "write":
            assert (message.first.opcode, bytes(message.payload)) == (Opcode.WRITE, payload)
            assert (message.first.stag, message.first.to) == (target.stag, target[:size].remote().to)
        else:
            request = parse_read_request(bytes(message.payload))
            stag = sink.stag if size else 0  # a Read of no octets has no sink
            assert (request.sink_stag, request.read_size, request.source_stag) == (stag, size, source.stag)
            assert answers.pop(0).payload == bytes(source.view[:size])
    assert answers == []


def decoded(first: bytes, second: bytes, piece: int) -> list[tuple[int, Unit]]:
    """The units of both directions, which come in pieces by turns."""
    session, units = Session(), list[tuple[int, Unit]]()
    for at in range(0, max(len(first), len(second)), piece):
        for direction, said in enumerate((first, second)):
            units += session.feed(direction, said[at : at + piece])
    units += session.finish()
    for direction, said in enumerate((first, second)):
        assert b"".join(unit.octets for way, unit in units if way == direction) == said
    return units
