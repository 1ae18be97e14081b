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

from pyiwarp.codes import ENHANCED_SIZE, REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE, Opcode, QueueNumber
from pyiwarp.decode.above.protocols import OPENER, Reading
from pyiwarp.decode.directions import Session
from pyiwarp.decode.formats import opcode_name
from pyiwarp.decode.segments import Segment
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.errors import IwarpError
from pyiwarp.explain.packets import CutShort, TcpSegment, tcp_segments
from pyiwarp.explain.reassembly import Gap, Half
from pyiwarp.fastwire import parse_read_request
from pyiwarp.wire import EnhancedWord, StartupHeader, parse_atomic_response

__all__ = ["Conversation", "Message", "Reader", "read_capture"]

ENDS: Final = 500
"""Messages at each end of a connection that are kept, where not all are."""

ENDS_OCTETS: Final = 8 << 20
"""Octets that the messages of each end may hold."""

CONNECTIONS: Final = 20_000
"""Connections of a capture that are read."""

_OUTSTANDING: Final = 1 << 14  # Read Requests of a side that wait: IRD and ORD have 14 bits
_MORE_WRONG: Final = "and more in its other FPDUs"


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

    @property
    def above(self) -> Reading | None:
        """What the protocol above RDMAP says by it; of a message in several segments, what its first one says."""
        return self.units[0].above if self.units else None

    def take(self, unit: Unit, keep: int | None) -> int:
        """One more unit; of more than `keep` the first half and the last half are kept. Returns the octets gained."""
        self.units.append(unit)
        self.wrong += unit.wrong
        gained = len(unit.octets)
        if keep is not None and len(self.wrong) > keep:
            self.wrong[keep:] = [_MORE_WRONG]
        if keep is not None and len(self.units) > keep:
            gained -= len(self.units.pop(keep // 2).octets)
            self.left_out += 1
        return gained


@dataclass
class Conversation:
    """One TCP connection that carried MPA, or was taken to; `ends` are the addresses of opener and other side."""

    ends: tuple[tuple[str, int], tuple[str, int]]
    began: float
    joined: bool
    messages: list[Message] = field(default_factory=list)
    session: Session = field(default_factory=Session)
    left_out: int = 0
    """Messages that were read and not kept."""
    left_out_wrong: int = 0
    """Of these, messages in which something is wrong."""
    left_out_at: int = 0
    """Which of `messages` comes behind these."""

    @property
    def without(self) -> str:
        """What is not told of the middle, in words; empty if all is told."""
        if not self.left_out:
            return ""
        return f"{self.left_out:,} messages more, something is wrong in {self.left_out_wrong:,} of them"

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

    `keep` is how many FPDUs of a message are kept, 2 or more. With it, of a long connection the first and the last
    `ENDS` messages are kept, or fewer if these hold more than `ENDS_OCTETS`. None keeps all, and takes memory for it.
    A connection counts if something of it was understood: a startup frame, or an FPDU. Raises what `tcp_segments`
    raises, except `CutShort`, which becomes the text.
    """
    readers: list[Reader] = []
    current: dict[frozenset[tuple[str, int]], Reader] = {}
    said = ""
    try:
        for segment in tcp_segments(path):
            ends = frozenset((segment.source, segment.target))
            reader = current.get(ends)
            if reader is None or (segment.syn and reader.over):
                if len(readers) == CONNECTIONS:
                    said = f"only the first {CONNECTIONS:,} connections are told"
                    continue
                readers.append(reader := Reader(segment, keep))
                current[ends] = reader
            reader.take(segment)
    except CutShort as error:
        said = ". ".join(filter(None, (said, str(error))))
    for reader in readers:
        reader.finish()
    return [reader.conversation for reader in readers if reader.understood], said


class Reader:
    """Makes one conversation of its TCP segments; `first` is the first of them, and is not taken by that.

    `keep` is as in `read_capture`.
    """

    def __init__(self, first: TcpSegment, keep: int | None) -> None:
        self.fresh: list[Message] | None = None
        """The messages that `news` has not given, if somebody asks for them: a list then, None otherwise."""
        self._keep = keep
        answer = first.payload.startswith(REPLY_KEY)
        ends = (first.target, first.source) if answer else (first.source, first.target)
        self.conversation = Conversation(ends, first.seconds, joined=not first.syn)
        self.conversation.session = Session(joined=self.conversation.joined)
        self.understood = False
        self._reset = False
        self._finished: set[int] = set()  # directions that have sent a FIN
        self._halves = (Half(), Half())
        self._held = 0  # octets that the messages of one end hold
        self._left_since = 0.0  # when the first message came that was not kept
        self._open: list[Message | None] = [None, None]  # of each direction, the message whose last segment is to come
        self._sizes = [0, 0]  # octets of payload of the messages that are open
        self._causes = _Causes()
        self._seconds = 0.0
        self._arrived = [0, 0]  # octets of each direction
        self._arrivals: tuple[deque[tuple[int, float]], ...] = (deque(), deque())  # how far a direction was, and when

    @property
    def over(self) -> bool:
        """Whether the connection has ended: another SYN begins another one."""
        return self._reset or len(self._finished) == 2

    def take(self, segment: TcpSegment) -> None:
        """One segment, in the order of the capture."""
        direction = int(segment.source != self.conversation.ends[OPENER])
        self._seconds = segment.seconds - self.conversation.began
        self._add(direction, self._halves[direction].add(segment.seq, segment.payload, syn=segment.syn))
        if segment.rst and not self._reset:
            self._reset = True
            self._append(Message(self._seconds, direction, "TCP RST: the connection is reset"))
        elif segment.fin and direction not in self._finished:
            self._finished.add(direction)
            self._append(Message(self._seconds, direction, "TCP FIN: this side sends no more"))

    def finish(self) -> None:
        """The capture has ended."""
        for direction, half in enumerate(self._halves):
            self._add(direction, half.finish())
        self._units(self.conversation.session.finish())
        talk = self.conversation
        talk.messages.sort(key=_seconds)  # what waited for its framing is late
        talk.left_out_at = bisect_left(talk.messages, self._left_since, key=_seconds)

    def news(self, *, all: bool = False) -> list[Message]:
        """The messages that came since the last call and are whole, in their order; `all` of them at the end."""
        fresh = self.fresh or []
        count = 0
        while count < len(fresh) and (all or len(fresh) > ENDS or not any(each is fresh[count] for each in self._open)):
            count += 1
        found = fresh[:count]
        del fresh[:count]
        return found

    def _when(self, direction: int, unit: Unit) -> float:
        """When the last octet of a unit came; units are asked for in their order."""
        arrivals = self._arrivals[direction]
        while len(arrivals) > 1 and arrivals[0][0] < unit.offset + len(unit.octets):
            arrivals.popleft()
        return arrivals[0][1]

    def _count(self, direction: int, nbytes: int) -> None:
        self._arrived[direction] += nbytes
        self._arrivals[direction].append((self._arrived[direction], self._seconds))

    def _add(self, direction: int, pieces: Iterable[bytes | Gap]) -> None:
        session = self.conversation.session
        for piece in pieces:
            self._count(direction, piece.nbytes if isinstance(piece, Gap) else len(piece))
            if isinstance(piece, Gap):
                self._units(session.lost(direction, piece.nbytes))
                self._causes.lost()
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
                self._held += message.take(unit, None)
                if isinstance(unit, StartupUnit) and not unit.why:
                    message.cause = self._causes.of_startup(direction, unit)
                    self.understood = self.understood or not unit.wrong
                self._append(message)

    def _fpdu(self, direction: int, unit: FpduUnit) -> None:
        segment, message = unit.segment, self._open[direction]
        if segment is not None and not unit.wrong:
            self.understood = True
        if message is None or segment is None or not _continues(message, segment):
            message = Message(0.0, direction, unit.text, cause=self._causes.of(direction, unit))
            self._append(message)
            self._sizes[direction] = 0
        self._held += message.take(unit, self._keep)
        message.seconds = self._when(direction, unit)
        if segment is not None:
            self._sizes[direction] += len(segment.payload)
            if len(message.units) > 1:
                message.text = _text(message, self._sizes[direction])
        self._open[direction] = None if segment is None or segment.last else message

    def _append(self, message: Message) -> None:
        self.conversation.messages.append(message)
        if self.fresh is not None:
            self.fresh.append(message)
        if self._keep is not None:
            self._leave_out()

    def _leave_out(self) -> None:
        """Keep the messages of both ends, where there are too many or where they hold too many octets."""
        talk, messages = self.conversation, self.conversation.messages
        if not talk.left_out_at:
            if len(messages) >= ENDS or self._held > ENDS_OCTETS:
                talk.left_out_at, self._held = len(messages), 0
            return
        while len(messages) - talk.left_out_at > (1 if self._held > ENDS_OCTETS else ENDS):
            gone = messages.pop(talk.left_out_at)
            self._left_since = self._left_since if talk.left_out else gone.seconds
            talk.left_out += 1
            talk.left_out_wrong += bool(gone.wrong)
            self._held -= sum(len(unit.octets) for unit in gone.units)
            self._open = [None if each is gone else each for each in self._open]


def _seconds(message: Message) -> float:
    return message.seconds


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
        self._reads: tuple[deque[tuple[int, int, int]], ...] = (  # by who asked: sink STag, sink TO, MSN
            deque(maxlen=_OUTSTANDING),
            deque(maxlen=_OUTSTANDING),
        )
        self._opens: int | None = None  # the direction whose next FPDU is the RTR indication

    def of_startup(self, direction: int, unit: StartupUnit) -> str:
        """Why a startup frame was sent."""
        header = StartupHeader.parse(unit.octets)
        if header.key == REPLY_KEY:
            if header.flags.rejected:
                return "rejects the Request: no FPDUs follow (RFC 5044 §7.1.1)"
            if header.flags.enhanced and header.revision > 1 and header.private_data_length >= ENHANCED_SIZE:
                word = EnhancedWord.parse(unit.octets[STARTUP_HEADER_SIZE:])
                self._opens = 1 - direction if word.peer_to_peer else None
            return "answers the Request; Full Operation begins behind it (RFC 5044 §7.1.2)"
        if header.key == REQUEST_KEY:
            return "opens MPA: says what this side wants (RFC 5044 §7.1.1)"
        return ""

    def of(self, direction: int, unit: FpduUnit) -> str:
        """Why a message was sent, as far as it can be seen."""
        segment = unit.segment
        if segment is None:
            return ""
        opens, self._opens = self._opens == direction, None if self._opens == direction else self._opens
        if segment.opcode == Opcode.READ_REQUEST and segment.qn == QueueNumber.READ_REQUEST:
            self._ask(direction, segment)
        elif segment.opcode == Opcode.READ_RESPONSE:
            return self._answer(direction, segment)
        elif segment.opcode == Opcode.ATOMIC_RESPONSE:
            return self._atomic(segment)
        elif unit.terminate is not None:
            return _refused(unit.terminate.ddp_header)
        return "says that this side is ready: the other one may send now (RFC 6581 §9.2)" if opens else ""

    def _ask(self, direction: int, segment: Segment) -> None:
        try:
            read = parse_read_request(segment.payload)
        except IwarpError:
            return
        self._reads[direction].append((read.sink_stag, read.sink_to, segment.msn))

    def lost(self) -> None:
        """Octets were not captured: which answer belongs to which Read Request is not known."""
        for asked in self._reads:
            asked.clear()

    def _answer(self, direction: int, segment: Segment) -> str:
        asked = self._reads[1 - direction]
        if asked and asked[0][:2] == (segment.stag, segment.to):
            return f"answers the Read Request with MSN {asked.popleft()[2]} (RFC 5040 §5.2.2)"
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
