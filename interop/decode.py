"""Octets of a connection as lines for people: startup frames, FPDUs, and whether their CRCs are right.

It decodes what it can and never raises: it is used when something is wrong. Markers are not taken out; a direction
with markers is shown as octets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from pyiwarp import fastwire, rdmap, wire
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.errors import IwarpError

from .transcript import Transcript

_LENGTH, _CRC = 2, 4
_SHOWN = 48  # octets of something that cannot be decoded
_NAMES = {
    Opcode.WRITE: "Write",
    Opcode.READ_REQUEST: "Read Request",
    Opcode.READ_RESPONSE: "Read Response",
    Opcode.SEND: "Send",
    Opcode.SEND_INVAL: "Send with Invalidate",
    Opcode.SEND_SE: "Send with SE",
    Opcode.SEND_SE_INVAL: "Send with SE and Invalidate",
    Opcode.TERMINATE: "Terminate",
}


class Frame(NamedTuple):
    """One startup frame or FPDU; `number` counts the FPDUs of its direction from 1, 0 is a startup frame.

    `ulpdu` is empty for startup frames. `complaint` says what is wrong with it, and which clause says so.
    """

    seconds: float
    sent: bool
    number: int
    ulpdu: bytes
    text: str
    complaint: str = ""
    opcode: int | None = None
    last: bool = True

    def __str__(self) -> str:
        arrow = "→" if self.sent else "←"
        what = f"FPDU {self.number}" if self.number else "startup"
        complaint = f"  !! {self.complaint}" if self.complaint else ""
        return f"{self.seconds:9.4f} {arrow} {what:<8} {self.text}{complaint}"


def frames(transcript: Transcript, read_terminate: Callable[[bytes], bytes] = bytes) -> list[Frame]:
    """All frames of a connection in the order in which they were complete.

    `read_terminate` brings the peer's Terminates into the RFC's layout.
    """
    crc, markers = _agreed(transcript)
    found = [
        frame
        for sent in (True, False)
        for frame in _Direction(transcript, sent, crc, markers[sent], bytes if sent else read_terminate).frames()
    ]
    return sorted(found, key=lambda frame: frame.seconds)


def last_lines(transcript: Transcript, count: int, read_terminate: Callable[[bytes], bytes] = bytes) -> list[str]:
    """The end of a connection, with every frame that something is wrong with before it."""
    found = frames(transcript, read_terminate)
    shown = [frame for frame in found[:-count] if frame.complaint] + found[-count:]
    return [str(frame) for frame in shown]


def _agreed(transcript: Transcript) -> tuple[bool, dict[bool, bool]]:
    """Whether FPDUs have CRCs, and which direction has markers."""
    flags = {}
    for sent in (True, False):
        octets = transcript.stream(sent=sent)[: wire.STARTUP_HEADER_SIZE]
        flags[sent] = wire.StartupHeader.parse(octets).flags if len(octets) == wire.STARTUP_HEADER_SIZE else None
    crc = any(each is not None and each.crc for each in flags.values())
    markers = {sent: (other := flags[not sent]) is not None and other.markers for sent in (True, False)}
    return crc, markers


class _Direction:
    """One direction of a connection, decoded from its beginning."""

    def __init__(
        self, transcript: Transcript, sent: bool, crc: bool, markers: bool, read_terminate: Callable[[bytes], bytes]
    ) -> None:
        self._pieces = [piece for piece in transcript.pieces if piece.sent is sent]
        self._octets = b"".join(piece.octets for piece in self._pieces)
        self._sent, self._crc, self._markers = sent, crc, markers
        self._read_terminate = read_terminate
        self._reply = sent is not transcript.initiator

    def frames(self) -> Iterator[Frame]:
        """Its frames, the last one with what could not be decoded."""
        place = self._startup_size()
        yield from self._startup(place)
        number = 0
        while place < len(self._octets):
            number += 1
            if self._markers:
                yield self._rest(place, number, "with markers")
                return
            length = int.from_bytes(self._octets[place : place + _LENGTH], "big")
            body = (length + _LENGTH + 3) & ~3
            end = place + body + _CRC
            if end > len(self._octets):
                yield self._rest(place, number, f"unfinished: ULPDU_Length {length}")
                return
            yield self._fpdu(place, length, body, number)
            place = end

    def _startup_size(self) -> int:
        if len(self._octets) < wire.STARTUP_HEADER_SIZE:
            return len(self._octets)
        header = wire.StartupHeader.parse(self._octets)
        return min(len(self._octets), wire.STARTUP_HEADER_SIZE + int(header.private_data_length))

    def _startup(self, size: int) -> Iterator[Frame]:
        if not size:
            return
        octets = self._octets[:size]
        try:
            frame, _ = wire.parse_startup_header(octets[: wire.STARTUP_HEADER_SIZE], reply=self._reply)
        except IwarpError as error:
            yield Frame(self._when(size), self._sent, 0, b"", octets[:_SHOWN].hex(" "), str(error))
            return
        yield Frame(self._when(size), self._sent, 0, b"", _startup_text(frame, octets[wire.STARTUP_HEADER_SIZE :]))

    def _fpdu(self, place: int, length: int, body: int, number: int) -> Frame:
        ulpdu = self._octets[place + _LENGTH : place + _LENGTH + length]
        complaint = self._crc_complaint(place, body) if self._crc else ""
        when = self._when(place + body + _CRC)
        try:
            text, opcode, last = _describe(ulpdu, self._read_terminate)
        except IwarpError as error:
            return Frame(when, self._sent, number, ulpdu, ulpdu[:_SHOWN].hex(" "), complaint or str(error))
        return Frame(when, self._sent, number, ulpdu, text, complaint, opcode, last)

    def _crc_complaint(self, place: int, body: int) -> str:
        computed = crc32c(self._octets[place : place + body])
        received = int.from_bytes(self._octets[place + body : place + body + _CRC], "little")
        if computed == received:
            return ""
        return f"CRC is {received:#010x}, should be {computed:#010x} (RFC 5044 §4.4)"

    def _rest(self, place: int, number: int, why: str) -> Frame:
        rest = self._octets[place:]
        text = f"{why}, {len(rest)} octets: {rest[:_SHOWN].hex(' ')}"
        return Frame(self._when(len(self._octets)), self._sent, number, b"", text)

    def _when(self, end: int) -> float:
        """When the octet before `end` passed."""
        while self._pieces:
            if end <= (size := len(self._pieces[0].octets)) + self._passed:
                return self._pieces[0].seconds
            self._passed += size
            self._last = self._pieces.pop(0).seconds
        return self._last

    _passed = 0
    _last = 0.0


def _startup_text(frame: wire.StartupFrame, private_data: bytes) -> str:
    words = [f"MPA {'Reply' if frame.reply else 'Request'}, revision {frame.revision}"]
    words += [name for name in ("markers", "crc", "rejected") if getattr(frame, name)]
    if frame.enhanced and len(private_data) >= wire.ENHANCED_SIZE:
        word = wire.parse_enhanced(private_data)
        words.append(f"IRD {word.ird} ORD {word.ord}")
        names = (("peer_to_peer", "peer to peer"), ("rtr_send", "Send"), ("rtr_write", "Write"), ("rtr_read", "Read"))
        words += [text for name, text in names if getattr(word, name)]
        private_data = private_data[wire.ENHANCED_SIZE :]
    if private_data:
        words.append(f"{len(private_data)} octets of private data: {private_data[:_SHOWN].hex(' ')}")
    return ", ".join(words)


def _describe(ulpdu: bytes, read_terminate: Callable[[bytes], bytes]) -> tuple[str, int, bool]:
    """An FPDU's text, its opcode, and whether it ends its message."""
    if ulpdu and ulpdu[0] & fastwire.TAGGED:
        tagged = fastwire.parse_tagged(ulpdu)
        opcode, size = tagged.rdmap & 0x0F, len(ulpdu) - fastwire.TAGGED_SIZE
        text = f"{_name(opcode)} STag={tagged.stag:#010x} TO={tagged.to:#x} [{size} octets]"
        return text + " L" * tagged.last, opcode, tagged.last
    header = fastwire.parse_untagged(ulpdu)
    opcode, payload = header.rdmap & 0x0F, ulpdu[fastwire.UNTAGGED_SIZE :]
    text = f"{_name(opcode)} QN={header.qn} MSN={header.msn} MO={header.mo} [{len(payload)} octets]"
    if opcode in rdmap.INVALIDATING_OPCODES:
        text += f" invalidates {header.inval_stag:#010x}"
    if header.qn == QueueNumber.READ_REQUEST and len(payload) == fastwire.READ_REQUEST_SIZE:
        read = fastwire.parse_read_request(payload)
        text += f" of {read.read_size} from STag={read.source_stag:#010x} TO={read.source_to:#x}"
    if opcode == Opcode.TERMINATE and len(payload) >= _CRC:
        text += f" {rdmap.parse_terminate(read_terminate(payload))}, raw {payload.hex(' ')}"
    return text + " L" * header.last, opcode, header.last


def _name(opcode: int) -> str:
    return _NAMES[Opcode(opcode)] if opcode in _NAMES else f"opcode {opcode:#x}"
