"""A capture as connections, and each of them as messages in the order in which they were whole.

A message is one startup frame, or the FPDUs of one RDMAP message. Its cause is what came before it and led to it, as
far as octets show that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyiwarp.codes import REPLY_KEY, Opcode, QueueNumber
from pyiwarp.decode.directions import Session
from pyiwarp.decode.formats import opcode_name
from pyiwarp.decode.segments import Segment
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.errors import IwarpError
from pyiwarp.explain.packets import CutShort, TcpSegment, tcp_segments
from pyiwarp.explain.reassembly import Gap, Half
from pyiwarp.fastwire import parse_read_request
from pyiwarp.wire import parse_atomic_response

__all__ = ["Conversation", "Message", "read_capture"]

OPENER: Final = 0
"""The direction of the side that opened the connection, or that is taken for it."""


@dataclass
class Message:
    """Something that one side sent: `units` are its startup frame or FPDUs, none for what TCP alone says.

    `direction` is 0 for the side that opened the connection. `seconds` count from the first segment of the connection.
    """

    seconds: float
    direction: int
    text: str
    units: list[Unit] = field(default_factory=list)
    cause: str = ""
    wrong: list[str] = field(default_factory=list)
    """What breaks a rule, with its clause."""
    left_out: int = 0
    """FPDUs in the middle of `units` that were read and not kept."""

    def take(self, unit: Unit, keep: int | None) -> None:
        """One more unit; of more than `keep` the first half and the last half are kept."""
        self.units.append(unit)
        self.wrong += unit.wrong
        if keep is not None and len(self.units) > keep:
            del self.units[keep // 2]
            self.left_out += 1


@dataclass
class Conversation:
    """One TCP connection that carried MPA, or was taken to; `ends` are the addresses of opener and other side."""

    ends: tuple[tuple[str, int], tuple[str, int]]
    began: float
    joined: bool
    messages: list[Message] = field(default_factory=list)
    session: Session = field(default_factory=Session)

    @property
    def agreed(self) -> str:
        """What startup settled, in words; empty before it is over."""
        if self.session.settings is None:
            return ""
        opener, other = self.session.settings
        markers = [name for name, each in (("A to B", opener), ("B to A", other)) if each.markers]
        seen = all(each.startup for each in self.session.directions)
        words = f"CRC {'in use' if opener.crc else 'not in use'}, markers {' and '.join(markers) or 'in neither way'}"
        return words if seen else f"{words} (taken so: the startup was not captured)"


def read_capture(path: Path, *, keep: int | None = None) -> tuple[list[Conversation], str]:
    """The connections of a capture that carried MPA, and what is to be said of the file, empty for nothing.

    `keep` is how many FPDUs of a message are kept, 2 or more; None keeps all, and memory for all octets is taken.
    A connection counts if something of it was understood: a startup frame, or an FPDU. Raises what `tcp_segments`
    raises, except `CutShort`, which becomes the text.
    """
    readers: list[_Reader] = []
    current: dict[frozenset[tuple[str, int]], _Reader] = {}
    said = ""
    try:
        for segment in tcp_segments(path):
            ends = frozenset((segment.source, segment.target))
            reader = current.get(ends)
            if reader is None or (segment.syn and reader.over):
                readers.append(reader := _Reader(segment, keep))
                current[ends] = reader
            reader.take(segment)
    except CutShort as error:
        said = str(error)
    for reader in readers:
        reader.finish()
    return [reader.conversation for reader in readers if reader.understood], said


class _Reader:
    """Makes one conversation of its TCP segments."""

    def __init__(self, first: TcpSegment, keep: int | None) -> None:
        self._keep = keep
        answer = first.payload.startswith(REPLY_KEY)
        ends = (first.target, first.source) if answer else (first.source, first.target)
        self.conversation = Conversation(ends, first.seconds, joined=not first.syn)
        self.conversation.session = Session(joined=self.conversation.joined)
        self.over = False
        self.understood = False
        self._halves = (Half(), Half())
        self._open: list[Message | None] = [None, None]  # of each direction, the message whose last segment is to come
        self._sizes = [0, 0]  # octets of payload of the messages that are open
        self._causes = _Causes()
        self._seconds = 0.0
        self._arrivals: tuple[list[tuple[int, float]], ...] = ([], [])  # how far a direction was, and when

    def take(self, segment: TcpSegment) -> None:
        """One segment, in the order of the capture."""
        direction = int(segment.source != self.conversation.ends[OPENER])
        self._seconds = segment.seconds - self.conversation.began
        self._add(direction, self._halves[direction].add(segment.seq, segment.payload, syn=segment.syn))
        if (segment.fin or segment.rst) and not self.over:
            text = "TCP RST: the connection is reset" if segment.rst else "TCP FIN: this side sends no more"
            self._append(Message(self._seconds, direction, text))
            self.over = segment.rst

    def finish(self) -> None:
        """The capture has ended."""
        for direction, half in enumerate(self._halves):
            self._add(direction, half.finish())
        self._units(self.conversation.session.finish())
        self.conversation.messages.sort(key=lambda message: message.seconds)  # what waited for its framing is late

    def _when(self, direction: int, unit: Unit) -> float:
        """When the last octet of a unit came."""
        arrivals = self._arrivals[direction]
        at = bisect_left(arrivals, (unit.offset + len(unit.octets), 0.0))
        return arrivals[min(at, len(arrivals) - 1)][1]

    def _count(self, direction: int, nbytes: int) -> None:
        arrivals = self._arrivals[direction]
        arrivals.append(((arrivals[-1][0] if arrivals else 0) + nbytes, self._seconds))

    def _add(self, direction: int, pieces: Iterable[bytes | Gap]) -> None:
        session = self.conversation.session
        for piece in pieces:
            self._count(direction, piece.nbytes if isinstance(piece, Gap) else len(piece))
            if isinstance(piece, Gap):
                self._units(session.lost(direction, piece.nbytes))
                text = f"{piece.nbytes:,} octets were not captured"
                self._append(Message(self._seconds, direction, text))
                self._open[direction] = None
            else:
                self._units(session.feed(direction, piece))

    def _units(self, units: Iterable[tuple[int, Unit]]) -> None:
        for direction, unit in units:
            if isinstance(unit, FpduUnit):
                self._fpdu(direction, unit)
            else:
                message = Message(self._when(direction, unit), direction, unit.text)
                message.take(unit, None)
                if isinstance(unit, StartupUnit) and not unit.why:
                    message.cause = self._causes.of_startup(direction, unit)
                    self.understood = self.understood or not unit.wrong
                self._append(message)

    def _fpdu(self, direction: int, unit: FpduUnit) -> None:
        segment, message = unit.segment, self._open[direction]
        if segment is not None:
            self.understood = True
        if message is None or segment is None or not _continues(message, segment):
            message = Message(0.0, direction, unit.text, cause=self._causes.of(direction, unit))
            self._append(message)
            self._sizes[direction] = 0
        message.take(unit, self._keep)
        message.seconds = self._when(direction, unit)
        if segment is not None:
            self._sizes[direction] += len(segment.payload)
            if len(message.units) > 1:
                message.text = _text(message, self._sizes[direction])
        self._open[direction] = None if segment is None or segment.last else message

    def _append(self, message: Message) -> None:
        self.conversation.messages.append(message)


def _segments(message: Message) -> Iterator[Segment]:
    for unit in message.units:
        if isinstance(unit, FpduUnit) and unit.segment is not None:
            yield unit.segment


def _continues(message: Message, segment: Segment) -> bool:
    """Whether a segment belongs to a message that has begun (RFC 5041 §5)."""
    first = next(_segments(message), None)
    if first is None or first.tagged is not segment.tagged or first.opcode != segment.opcode:
        return False
    return first.stag == segment.stag if segment.tagged else (first.qn, first.msn) == (segment.qn, segment.msn)


def _text(message: Message, nbytes: int) -> str:
    """One line for all segments of a message, which have so many octets of payload."""
    segments = list(_segments(message))
    first, count = segments[0], len(message.units) + message.left_out
    where = f"STag={first.stag:#010x} TO={first.to:#x}" if first.tagged else f"QN={first.qn} MSN={first.msn}"
    open_ = " L" if segments[-1].last else ", not yet all"
    return f"{opcode_name(first.opcode)} {where} [{nbytes} octets in {count} segments]{open_}"


class _Causes:
    """Remembers what was asked, so that an answer can name it."""

    def __init__(self) -> None:
        self._reads: tuple[deque[tuple[int, int]], ...] = (deque(), deque())  # by who asked: sink STag, MSN
        self._first = [True, True]

    def of_startup(self, direction: int, unit: StartupUnit) -> str:
        """Why a startup frame was sent."""
        if unit.octets.startswith(REPLY_KEY):
            return "answers the Request; Full Operation begins behind it (RFC 5044 §7.1.2)"
        return "opens MPA: says what this side wants (RFC 5044 §7.1.1)" if direction == OPENER else ""

    def of(self, direction: int, unit: FpduUnit) -> str:
        """Why a message was sent, as far as it can be seen."""
        segment = unit.segment
        if segment is None:
            return ""
        first, self._first[direction] = self._first[direction], False
        if segment.opcode == Opcode.READ_REQUEST and segment.qn == QueueNumber.READ_REQUEST:
            self._ask(direction, segment)
        elif segment.opcode == Opcode.READ_RESPONSE:
            return self._answer(direction, segment)
        elif segment.opcode == Opcode.ATOMIC_RESPONSE:
            return self._atomic(segment)
        elif unit.terminate is not None:
            return _refused(unit.terminate.ddp_header)
        if first and direction == OPENER and not segment.payload:
            return "opens the stream for the other side (RFC 6581 §9.2)"
        return ""

    def _ask(self, direction: int, segment: Segment) -> None:
        try:
            self._reads[direction].append((parse_read_request(segment.payload).sink_stag, segment.msn))
        except IwarpError:
            return

    def _answer(self, direction: int, segment: Segment) -> str:
        asked = self._reads[1 - direction]
        if asked and asked[0][0] == segment.stag:
            return f"answers the Read Request with MSN {asked.popleft()[1]} (RFC 5040 §5.4)"
        return ""

    @staticmethod
    def _atomic(segment: Segment) -> str:
        try:
            return f"answers Atomic Request {parse_atomic_response(segment.payload).request_id} (RFC 7306 §5.2.2)"
        except IwarpError:
            return ""


def _refused(header: bytes) -> str:
    """What a Terminate quotes."""
    if len(header) < 2:
        return ""
    return f"refuses a segment of {opcode_name(header[1] & 0x0F)} (RFC 5040 §4.8)"
