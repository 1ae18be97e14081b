"""Sessions with Linux siw, as they were captured: decoded, framed anew, and siw's side played into the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from interop import decode
from interop.decode import Frame
from interop.transcript import Transcript
from pyiwarp import wire
from pyiwarp.codes import Opcode, Rtr
from pyiwarp.engine.events import Delivered, Event, PeerTerminated, ReadDone, Violated
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import BaseOrBounds, ProtocolViolation
from pyiwarp.fastwire import TAGGED_SIZE, UNTAGGED_SIZE, parse_read_request, parse_tagged, parse_untagged
from pyiwarp.mpa import Framer
from pyiwarp.mr import Access, MemoryRegion, StagTable
from pyiwarp.negotiation import Agreement, Offer, Role
from pyiwarp.profile import PROFILES
from pyiwarp.startup import Startup, StartupState
from tests.harness import feed

DIRECTORY = Path(__file__).parents[2] / "interop" / "captures"
FILES = sorted(DIRECTORY.glob("*.pcapng"))
SIW = PROFILES["siw"]
_IP, _TCP = 20, 20


def payloads(file: Path) -> Iterator[tuple[bool, bytes]]:
    """For each packet: whether it is the opener's, and its octets of the stream."""
    opener = b""
    with file.open("rb") as stream:
        for block in FileScanner(stream):
            if not isinstance(block, EnhancedPacket):
                continue
            packet = block.packet_data
            ports = packet[_IP : _IP + 2]
            opener = opener or ports
            yield ports == opener, packet[_IP + _TCP :]


def session(file: Path) -> Transcript:
    """The capture as the transcript of our side."""
    we_opened = file.stem.endswith("pyiwarp-connects")
    transcript = Transcript(None, initiator=we_opened)
    for by_opener, octets in payloads(file):
        if octets and by_opener is we_opened:
            transcript.sent([octets])
        elif octets:
            transcript.received(octets)
    return transcript


def test_the_captures_are_there_small_and_described() -> None:
    described = set(re.findall(r"^\| `([^`]+)`", (DIRECTORY / "README.md").read_text(), re.MULTILINE))
    assert described == {file.stem for file in FILES}
    assert len(FILES) >= 7
    assert all(file.stat().st_size < 20 * 1024 for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_in_a_capture_is_wrong(file: Path) -> None:
    found = decode.frames(session(file))
    assert [str(frame) for frame in found if frame.complaint] == []
    assert [frame.text.split(",")[0] for frame in found[:2]] == [
        "MPA Request",
        "MPA Reply",
    ]
    assert len(found) > 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("sent", [True, False], ids=["ours", "siw's"])
def test_both_sides_frame_alike(file: Path, sent: bool) -> None:
    transcript = session(file)
    octets = transcript.stream(sent=sent)
    framer = Framer(crc=crc_agreed(transcript))
    out: list[bytes | bytearray | memoryview] = [octets[: startup_size(octets)]]
    for frame in decode.frames(transcript):
        if frame.number and frame.sent is sent:
            framer.frame(frame.ulpdu, [], 0, out)
    assert b"".join(out) == octets


def startup_size(octets: bytes) -> int:
    return wire.STARTUP_HEADER_SIZE + int(wire.StartupHeader.parse(octets).private_data_length)


def crc_agreed(transcript: Transcript) -> bool:
    heads = [wire.StartupHeader.parse(transcript.stream(sent=sent)) for sent in (True, False)]
    return any(head.flags.crc for head in heads)


# --- siw's side, played into the engine ------------------------------------------------------------------------------


class AnyMemory(StagTable):
    """Memory for whatever siw names; what it writes is kept. With `refused` all of its Writes break a rule."""

    def __init__(self, refused: ProtocolViolation | None) -> None:
        super().__init__()
        self.written: list[tuple[int, int, bytearray]] = []
        self._refused = refused
        self._region = self.register(self, bytearray(1 << 16), Access.LOCAL_WRITE, MemoryRegion)

    def sink(self, stag: int, to: int, nbytes: int, *_: Any, **__: Any) -> memoryview:
        if self._refused is not None:
            raise self._refused
        self.written.append((stag, to, bytearray(nbytes)))
        return memoryview(self.written[-1][2])

    def source(self, stag: int, to: int, nbytes: int, *_: Any, **__: Any) -> tuple[memoryview, MemoryRegion]:
        return self._region.pinned_view(0, nbytes), self._region

    def invalidate(self, stag: int, *_: Any, **__: Any) -> None:
        """It may be any."""


def agreement_of(transcript: Transcript) -> Agreement:
    """What startup settled, found by our own startup from siw's frame and what we sent."""
    ours, theirs = transcript.stream(sent=True), transcript.stream(sent=False)
    frame = wire.StartupHeader.parse(ours)
    word = wire.parse_enhanced(ours[wire.STARTUP_HEADER_SIZE :]) if frame.flags.enhanced else None
    offer = Offer(
        revision=frame.revision,
        crc=frame.flags.crc,
        ird=word.ird if word else 16,
        ord=word.ord if word else 16,
        rtr=Rtr.WRITE | Rtr.READ if word and word.peer_to_peer else Rtr(0),
        open_at_once=True,
    )
    startup = Startup(Role.INITIATOR if transcript.initiator else Role.RESPONDER, offer, lambda startup: None)
    feed(startup, theirs[: startup_size(theirs)], [7] * len(theirs))
    if not transcript.initiator:
        assert startup.state is StartupState.DECIDING
        return startup.accept(offer)[0]
    assert startup.agreement is not None
    return startup.agreement


def replay(transcript: Transcript, found: Sequence[Frame], chunk: int) -> tuple[list[Event], AnyMemory]:
    """Play siw's octets into a stream that has asked what we asked: its events, and the memory."""
    we_refused = any(frame.sent and frame.opcode == Opcode.TERMINATE for frame in found)
    memory = AnyMemory(BaseOrBounds(0, 0, 0) if we_refused else None)
    stream = Stream(agreement_of(transcript), memory, memory, lambda: [memoryview(bytearray(4096))], profile=SIW)
    for frame in found:
        payload = frame.ulpdu[UNTAGGED_SIZE:]
        if frame.sent and frame.opcode == Opcode.READ_REQUEST:
            request = parse_read_request(payload)
            stream.read(request, memoryview(bytearray(request.read_size)), "ours")
    octets = transcript.stream(sent=False)
    pump = Pump(stream)
    feed(pump, octets[startup_size(octets) :], [chunk] * len(octets))
    return pump.events, memory


class Pump:
    """Collects a stream's events."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.events: list[Event] = []

    def receive_view(self) -> memoryview:
        return self.stream.receive_view()

    def received(self, nbytes: int) -> None:
        self.events += self.stream.received(nbytes)

    @property
    def behind(self) -> bool:
        return self.stream.behind

    def proceed(self) -> None:
        self.events += self.stream.proceed()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("chunk", [1, 13, 1 << 16])
def test_the_engine_understands_siw(file: Path, chunk: int) -> None:
    transcript = session(file)
    found = decode.frames(transcript)
    theirs = [frame for frame in found if frame.number and not frame.sent]
    events, memory = replay(transcript, found, chunk)
    expected = [text for frame in theirs for text in as_event(frame)]
    assert [text for event in events for text in as_text(event)] == expected
    if not any(isinstance(event, Violated) for event in events):
        assert [(stag, to, bytes(octets)) for stag, to, octets in memory.written] == writes(theirs)


def as_event(frame: Frame) -> list[str]:
    """The event that a frame of siw's must lead to."""
    if frame.opcode == Opcode.TERMINATE:
        return [f"terminate {wire.parse_terminate(SIW.read_terminate(frame.ulpdu[UNTAGGED_SIZE:])).term}"]
    if frame.opcode == Opcode.READ_RESPONSE and frame.last:
        return ["read"]
    if frame.opcode in (Opcode.SEND, Opcode.SEND_SE, Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL) and frame.last:
        header = parse_untagged(frame.ulpdu)
        return [f"{Opcode(frame.opcode).name} {header.msn} of {len(frame.ulpdu) - UNTAGGED_SIZE}"]
    return []


def as_text(event: Event) -> list[str]:
    match event:
        case Delivered():
            return [f"{event.opcode.name} {event.msn} of {event.nbytes}"]
        case ReadDone():
            return ["read"]
        case PeerTerminated():
            return [f"terminate {event.error.term}"]
    return []


def writes(theirs: Sequence[Frame]) -> list[tuple[int, int, bytes]]:
    """What siw's Writes carry, and where to."""
    found = []
    for frame in theirs:
        if frame.opcode == Opcode.WRITE and (payload := frame.ulpdu[TAGGED_SIZE:]):
            header = parse_tagged(frame.ulpdu)
            found.append((header.stag, header.to, bytes(payload)))
    return found


# --- what makes siw siw ----------------------------------------------------------------------------------------------


def octets_of(name: str, opcode: Opcode, *, sent: bool) -> list[str]:
    found = decode.frames(session(DIRECTORY / f"{name}.pcapng"))
    size = TAGGED_SIZE if opcode in (Opcode.WRITE, Opcode.READ_RESPONSE) else UNTAGGED_SIZE
    return [frame.ulpdu[size:].hex() for frame in found if frame.opcode == opcode and frame.sent is sent]


def test_siw_exchanges_layer_and_type_in_its_terminates() -> None:
    (said,) = octets_of("error-we-read-bounds-siw-pyiwarp-connects", Opcode.TERMINATE, sent=False)
    assert said.startswith("10010700")  # layer 0, type 1, code 1, and M D R
    (ours,) = octets_of("error-peer-writes-bounds-siw-pyiwarp-connects", Opcode.TERMINATE, sent=True)
    assert ours.startswith("1101c000")


def test_siw_opens_with_an_empty_write_or_read_that_names_stag_1() -> None:
    for name, opcode, stag in (
        ("startup-peer-to-peer-siw_p2p-peer-connects", Opcode.WRITE, "STag=0x00000001 TO=0x0 [0 octets]"),
        ("startup-peer-to-peer-read-siw_p2p-peer-connects", Opcode.READ_REQUEST, "of 0 from STag=0x00000001 TO=0x0"),
    ):
        found = decode.frames(session(DIRECTORY / f"{name}.pcapng"))
        first = next(frame for frame in found if frame.number and not frame.sent)
        assert (first.opcode, stag in first.text) == (opcode, True)
