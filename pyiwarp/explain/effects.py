"""What messages do to both ends, as far as octets show it: the state of each, and octets in the memory of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from pyiwarp.codes import REPLY_KEY, REQUEST_KEY, Opcode, QueueNumber
from pyiwarp.decode.units import FpduUnit, StartupUnit
from pyiwarp.errors import IwarpError
from pyiwarp.explain.story import Conversation, Message
from pyiwarp.fastwire import TAGGED, TAGGED_SIZE, parse_read_request
from pyiwarp.wire import StartupHeader, parse_atomic_request

__all__ = ["Placed", "Region", "placements", "reached", "refused", "regions", "states"]

_ADVERTISEMENT: Final = 16
_ATOMIC: Final = 8
_SIDES: Final = "AB"
_TO_END: Final = 1 << 64

State = tuple[str, str]
"""What MPA or TCP does at one end, and the state of its queue pair."""


class Placed(NamedTuple):
    """Octets that a message reaches in the memory of `side`; none of them are known if they are only read."""

    side: str
    stag: int
    to: int
    nbytes: int
    octets: bytes
    does: str


class Region(NamedTuple):
    """Memory of `side` with an STag; `known` if a message advertised it, or else it is as much as was reached."""

    side: str
    stag: int
    begin: int
    end: int
    known: bool

    def has(self, placed: Placed) -> bool:
        """Whether all of these octets lie in it."""
        return self.begin <= placed.to and placed.to + placed.nbytes <= self.end


def states(conversation: Conversation) -> Iterator[tuple[State, State]]:
    """The states of A and B behind each message."""
    begin = ("is connected, startup was not captured", "RTS") if conversation.joined else ("TCP is there", "IDLE")
    ends = [begin, begin]
    for message in conversation.messages:
        _step(ends, message)
        yield ends[0], ends[1]


def _step(ends: list[State], message: Message) -> None:
    mine, other = message.direction, 1 - message.direction
    unit = message.units[0] if message.units else None
    if isinstance(unit, StartupUnit):
        _start(ends, unit, mine)
    elif isinstance(unit, FpduUnit) and unit.segment is not None:
        ends[mine] = ("Full Operation", ends[mine][1])
        ends[other] = ("Full Operation", ends[other][1])
        if unit.segment.is_terminate:
            ends[mine], ends[other] = ("has sent a Terminate", "TERMINATE"), ("has got a Terminate", "ERROR")
    elif message.text.startswith("TCP FIN"):
        over = ends[other][0].startswith("sends no more")
        ends[mine] = ("sends no more", "IDLE" if over else "CLOSING")
        if over:
            ends[other] = ("sends no more", "IDLE")
    elif message.text.startswith("TCP RST"):
        ends[:] = [("reset", "ERROR")] * 2


def _start(ends: list[State], unit: StartupUnit, mine: int) -> None:
    if unit.why:
        return
    header = StartupHeader.parse(unit.octets)
    if header.key == REQUEST_KEY:
        ends[mine], ends[1 - mine] = ("waits for the Reply", "IDLE"), ("has the Request", "IDLE")
    elif header.key == REPLY_KEY and header.flags.rejected:
        ends[mine], ends[1 - mine] = ("has rejected the Request", "IDLE"), ("was rejected", "IDLE")
    elif header.key == REPLY_KEY:
        ends[mine], ends[1 - mine] = ("waits for the first FPDU", "RTS"), ("Full Operation", "RTS")


def placements(message: Message) -> Iterator[Placed]:
    """What the FPDUs of a message write into the other side's memory."""
    for unit in message.units:
        segment = unit.segment if isinstance(unit, FpduUnit) else None
        if segment is not None and segment.tagged and segment.payload:
            does = "placed by RDMA Write" if segment.opcode == Opcode.WRITE else "placed by the Read Response"
            side = _SIDES[1 - message.direction]
            yield Placed(side, segment.stag, segment.to, len(segment.payload), segment.payload, does)


def reached(message: Message) -> Iterator[Placed]:
    """What a request of a message names in the memory of both sides, without octets."""
    for unit in message.units:
        segment = unit.segment if isinstance(unit, FpduUnit) else None
        if segment is None or segment.tagged or segment.qn != QueueNumber.READ_REQUEST:
            continue
        mine, other = _SIDES[message.direction], _SIDES[1 - message.direction]
        try:
            if segment.opcode == Opcode.READ_REQUEST:
                read = parse_read_request(segment.payload)
                yield Placed(other, read.source_stag, read.source_to, read.read_size, b"", "is to be read")
                yield Placed(mine, read.sink_stag, read.sink_to, read.read_size, b"", "waits for what is read")
            elif segment.opcode == Opcode.ATOMIC_REQUEST:
                atomic = parse_atomic_request(segment.payload)
                yield Placed(other, atomic.stag, atomic.to, _ATOMIC, b"", "is changed atomically")
        except IwarpError:
            return


def regions(conversation: Conversation) -> list[Region]:
    """The memory that messages reach, by side and STag."""
    advertised: dict[tuple[str, int], tuple[int, int]] = {}
    found: dict[tuple[str, int], Region] = {}
    for message in conversation.messages:
        for side, stag, to, nbytes in _advertised(message):
            advertised[side, stag] = (to, to + nbytes)
        for each in (*placements(message), *reached(message)):
            known = found.get((each.side, each.stag))
            begin, end = (each.to, each.to + each.nbytes) if known is None else known[2:4]
            bounds = min(begin, each.to), max(end, each.to + each.nbytes)
            found[each.side, each.stag] = Region(each.side, each.stag, *bounds, known=False)
    for key, region in found.items():
        if key in advertised and advertised[key][0] < advertised[key][1] <= _TO_END:
            found[key] = Region(region.side, region.stag, *advertised[key], known=True)
    return list(found.values())


def refused(conversation: Conversation) -> set[tuple[str, int, int]]:
    """Tagged segments whose headers a Terminate quotes: the side whose memory was to be reached, STag, TO."""
    found = set()
    for message in conversation.messages:
        for unit in message.units:
            header = unit.terminate.ddp_header if isinstance(unit, FpduUnit) and unit.terminate is not None else b""
            if len(header) >= TAGGED_SIZE and header[0] & TAGGED:
                stag, to = int.from_bytes(header[2:6], "big"), int.from_bytes(header[6:TAGGED_SIZE], "big")
                found.add((_SIDES[message.direction], stag, to))
    return found


def _advertised(message: Message) -> Iterator[tuple[str, int, int, int]]:
    """Memory that a Send of 16 octets may advertise; whether it does is seen when it is reached."""
    for unit in message.units:
        segment = unit.segment if isinstance(unit, FpduUnit) else None
        if segment is not None and not segment.tagged and len(segment.payload) == _ADVERTISEMENT and not segment.mo:
            numbers = segment.payload
            to, stag, nbytes = (int.from_bytes(numbers[a:b], "big") for a, b in ((0, 8), (8, 12), (12, 16)))
            yield _SIDES[message.direction], stag, to, nbytes
