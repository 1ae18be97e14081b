"""Peers that break a rule which many cases watch over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp import faststartup, mpa, negotiation, wire
from pyiwarp.codes import Opcode, Rtr
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.conformance.bench.startup_line import build_startup_frame, build_word
from pyiwarp.engine import packing, sending, stream
from pyiwarp.engine.stream import Stream
from tests.conformance.peers import Breaker, Script, Tells, initiator, keeps_everything, responder, target

FOREVER = 3600.0
EMPTY_WRITE = Framer().frame(build_tagged(Opcode.WRITE, 1, 0))

Change = Callable[[bytes], bytes]

# --- scripts ---------------------------------------------------------------------------------------------------------


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(FOREVER)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(1 << 16):
        writer.write(octets)


async def _babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(build_startup_frame(wire.REPLY_KEY))
    await asyncio.sleep(FOREVER)


async def _picky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bits that must not be looked at are looked at."""
    request = await reader.read(1 << 16)
    if request[16] & (0x2F if request[17] > 1 else 0x3F):
        return
    enhanced = bool(request[16] & 0x10)
    word = build_word() if enhanced else b""
    writer.write(build_startup_frame(wire.REPLY_KEY, word, revision=request[17], enhanced=enhanced))
    await asyncio.sleep(FOREVER)


async def _wants_one_piece(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if len(await reader.read(1 << 16)) >= len(_plain(True)):
        writer.write(_plain(True))
        await asyncio.sleep(FOREVER)


def _replies(reply: bytes, behind: bytes = b"") -> Script:
    """Whatever comes is taken for a Request and answered so; whatever follows is swallowed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(reply + behind)
        while await reader.read(1 << 16):
            pass
        await asyncio.sleep(FOREVER)

    return script


def _requests(request: bytes, behind: bytes = b"", then: bytes = EMPTY_WRITE) -> Script:
    """This Request, `behind` it at once, and `then` whatever the answer is."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request + behind)
        await reader.read(1 << 16)
        writer.write(then)
        await asyncio.sleep(FOREVER)

    return script


def _plain(reply: bool, **fields: Any) -> bytes:
    return build_startup_frame(wire.REPLY_KEY if reply else wire.REQUEST_KEY, **fields)


RTR_WORD = build_word(rtr_write=True, ird=0x3FFE, ord=0x3FFE)

SILENT = responder("a Responder that says nothing", _silence)
ECHO = responder("a Responder that sends back what it gets", _echo)
BABBLES = responder("a Responder that speaks before it is asked", _babbles)
ACCEPTS_ANYTHING = responder("a Responder that accepts anything and swallows the rest", _replies(_plain(True)))
REJECTS = responder("a Responder that rejects everybody", _replies(_plain(True, rejected=True)))
SPEAKS_UP = responder("a Responder that sends an FPDU behind its Reply", _replies(_plain(True), EMPTY_WRITE))
WITHOUT_CRC = responder("a Responder that wants no CRC", _replies(_plain(True, crc=False)))
RESERVED_BITS = responder("a Responder that sets reserved bits", _replies(_plain(True, rsvd=0xF, enhanced=True)))
REVISION_9 = responder("a Responder of revision 9", _replies(_plain(True, revision=9)))
REPLIES_2 = responder(
    "a Responder that answers everybody in revision 2, with all bits set and the largest depths",
    _replies(_plain(True, revision=2, enhanced=True, rsvd=0xF, private_data=RTR_WORD)),
)

PICKY = responder("a Responder that looks at reserved bits and at R", _picky)
WANTS_ONE_PIECE = responder("a Responder that wants a Request in one piece", _wants_one_piece)

SILENT_INITIATOR = initiator("an Initiator that says nothing", _silence)
GOES_ON = initiator("an Initiator that goes on whatever the Reply is", _requests(_plain(False)))
GOES_ON_2 = initiator(
    "an Initiator of revision 2 that goes on whatever the Reply is",
    _requests(_plain(False, revision=2, enhanced=True, private_data=build_word())),
)
HASTY = initiator("an Initiator that does not wait for the Reply", _requests(_plain(False), EMPTY_WRITE))
WILD = initiator(
    "an Initiator that sets what must be clear, wants no CRC and has revision 9",
    _requests(_plain(False, revision=9, crc=False, rejected=True, rsvd=0xF)),
)
S_WITHOUT_WORD = initiator(
    "an Initiator that sets S and reserved bits, without an enhanced word",
    _requests(_plain(False, revision=2, enhanced=True, rsvd=0xF)),
)
S_IN_REVISION_1 = initiator("an Initiator that sets S in revision 1", _requests(_plain(False, enhanced=True)))
RTRS_WITHOUT_A = initiator(
    "an Initiator that lists opening messages without A",
    _requests(_plain(False, revision=2, enhanced=True, private_data=RTR_WORD)),
)


# --- the target with a liar between ----------------------------------------------------------------------------------


def startup_changed(name: str, change: Change) -> Breaker:
    """The target, its Request or Reply changed on the way."""

    def make() -> Any:
        return lambda seen: change(seen.octets) if isinstance(seen, Frame) else seen.fpdu.octets

    return target(name, says=make)


def fpdu_changed(name: str, change: Callable[[Message], bytes | None]) -> Breaker:
    """The target, its FPDUs changed on the way; None loses one."""

    def make() -> Any:
        return lambda seen: seen.octets if isinstance(seen, Frame) else change(seen)

    return target(name, says=make)


def _without_terminates(seen: Message) -> bytes | None:
    return None if seen.terminate is not None else seen.fpdu.octets


def _without_messages(seen: Message) -> bytes | None:
    return seen.fpdu.octets if seen.terminate is not None else None


def _other_code(seen: Message) -> bytes:
    """A Terminate with the code of a catastrophe of DDP's and the DDP header of an empty Write."""
    if seen.terminate is None:
        return seen.fpdu.octets
    header = build_tagged(Opcode.WRITE, 0, 0)
    payload = bytes.fromhex("1000c000") + len(header).to_bytes(2, "big") + header
    return Framer().frame(build_untagged(Opcode.TERMINATE, 2, 1, payload))


def _twice(seen: Message) -> bytes:
    return seen.fpdu.octets * 2


def _wrong_crc(seen: Message) -> bytes:
    octets = seen.fpdu.octets
    return octets[:-4] + octets[:-5:-1]


def _own_framing(**wrong: Any) -> Callable[[Message], bytes]:
    return lambda seen: Framer().frame(seen.fpdu.ulpdu, **wrong)


def _other_versions(seen: Message) -> bytes:
    ulpdu = bytearray(seen.fpdu.ulpdu)
    ulpdu[0] &= 0xFC
    return Framer().frame(bytes(ulpdu))


def _pad_of_ones(seen: Message) -> bytes:
    return Framer().frame(seen.fpdu.ulpdu, pad=b"\xff" * len(seen.fpdu.pad))


def _long_pad(seen: Message) -> bytes:
    return Framer().frame(seen.fpdu.ulpdu, pad=bytes(len(seen.fpdu.pad) + 4))


def _other_payload(seen: Message) -> bytes:
    """The same FPDU with the last octet of its payload changed."""
    ulpdu = bytearray(seen.fpdu.ulpdu)
    ulpdu[-1] ^= 0xFF
    return Framer().frame(bytes(ulpdu))


def _quoting(seen: Message) -> bytes:
    """The same Terminate with a DDP header that it should not have."""
    if seen.terminate is None or seen.segment is None:
        return seen.fpdu.octets
    header = build_tagged(Opcode.WRITE, 0, 0)
    payload = seen.segment.payload[:2] + bytes.fromhex("c000") + len(header).to_bytes(2, "big") + header
    return Framer().frame(build_untagged(Opcode.TERMINATE, 2, 1, payload))


def _always_last(seen: Message) -> bytes:
    ulpdu = bytearray(seen.fpdu.ulpdu)
    ulpdu[0] |= 0x40
    return Framer().frame(bytes(ulpdu))


QUOTES = fpdu_changed("a target whose Terminates always quote a header", _quoting)
ALWAYS_LAST = fpdu_changed("a target that sets L in every segment", _always_last)
HOLDS_ON = target("a target whose end does not arrive", says=lambda: keeps_everything)
NEVER_TERMINATES = fpdu_changed("a target whose Terminates do not arrive", _without_terminates)
SAYS_NOTHING = fpdu_changed("a target whose messages do not arrive", _without_messages)
OTHER_CODE = fpdu_changed("a target whose Terminates name another cause", _other_code)
TWICE = fpdu_changed("a target that sends every FPDU twice", _twice)
CRC_TURNED_ROUND = fpdu_changed("a target that sends its CRC the other way round", _wrong_crc)
PAD_OF_ONES = fpdu_changed("a target whose pad is not zero", _pad_of_ones)
LONG_PAD = fpdu_changed("a target whose pad is four octets too long", _long_pad)
OTHER_VERSIONS = fpdu_changed("a target of another DDP version", _other_versions)
OTHER_PAYLOAD = fpdu_changed("a target that changes what it sends", _other_payload)

FORGETS_PRIVATE_DATA = startup_changed("a target whose Private Data is lost", lambda octets: octets[:18] + b"\0\0")
OTHER_PRIVATE_DATA = startup_changed("a target whose Private Data is changed", lambda octets: octets[:-1] + b"?")
TURNS_R_ROUND = startup_changed("a target whose R is turned round", lambda octets: _flags(octets, turn=0x20))
OTHER_REVISION = startup_changed("a target of revision 3", lambda octets: octets[:17] + b"\3" + octets[18:])
S_LOST = startup_changed("a target whose S is lost", lambda octets: _flags(octets, clear=0x10))


def _flags(octets: bytes, *, clear: int = 0, turn: int = 0) -> bytes:
    return octets[:16] + bytes([octets[16] & ~clear & 0xFF ^ turn]) + octets[17:]


def word_changed(name: str, *, clear: int = 0, put: int = 0) -> Breaker:
    """The target, its enhanced word changed: bits that are cleared, bits that are set."""

    def change(octets: bytes) -> bytes:
        if len(octets) < 24 or not octets[16] & 0x10:
            return octets
        word = int.from_bytes(octets[20:24], "big") & ~clear | put
        return octets[:20] + word.to_bytes(4, "big") + octets[24:]

    return startup_changed(name, change)


A, B, IRD, C, D, ORD = 0x80000000, 0x40000000, 0x3FFF0000, 0x8000, 0x4000, 0x3FFF
FORGETS_A = word_changed("a target that does not echo A", clear=A)
SETS_A = word_changed("a target that always sets A", put=A)
NO_RTRS = word_changed("a target that lists no opening message", clear=B | C | D)


def _other_rtr(octets: bytes) -> bytes:
    """Where one opening message is listed, another is."""
    if len(octets) < 24 or not octets[16] & 0x10:
        return octets
    word = int.from_bytes(octets[20:24], "big")
    if (word & (B | C | D)).bit_count() == 1:
        word ^= B | C | D
    return octets[:20] + word.to_bytes(4, "big") + octets[24:]


OTHER_RTR = startup_changed("a target that lists other opening messages than the one offered", _other_rtr)
EVERY_RTR = word_changed("a target that always lists opening messages", put=B | C | D)
LARGEST_DEPTHS = word_changed("a target that always names the largest depths", put=0x3FFE3FFE)
NO_DEPTHS = word_changed("a target that always names depths of nothing", clear=IRD | ORD)
DEPTHS_EXCHANGED = word_changed("a target that names other depths", clear=IRD | ORD, put=0x00070009)

# --- the target's own voice ------------------------------------------------------------------------------------------


def _tells(command: str, pattern: str, replacement: str) -> Tells:
    """Replies to `command` with whatever fits `pattern` replaced."""
    return lambda said, answer: re.sub(pattern, replacement, answer) if re.match(command, said) else answer


LIES_ABOUT_MEMORY = target(
    "a target that shows other memory",
    tells=lambda said, answer: (
        re.sub(r"crc=\S+", "crc=0x1234", re.sub(r"data=..", "data=fe", answer))
        if re.match("memory|sum|received", said)
        else answer
    ),
)
ALWAYS_CONNECTED = target("a target that sees no end", tells=_tells("state|wait", r"state=\w+", "state=connected"))
NO_COMPLETIONS = target("a target that completes nothing", tells=_tells("completions", r"c=\S*", "c="))
ALL_SUCCEEDED = target("a target to which all is success", tells=_tells("completions", r"\w+_err", "success"))
OTHER_LENGTHS = target(
    "a target that receives other lengths", tells=_tells("completions", r"(success:recv):\d+", r"\1:99")
)
FORGETS_WHAT_IT_GOT = target(
    "a target whose program is not told of startup",
    tells=_tells("state|wait", r"(private|revision|peer_ird|peer_ord)=\S*", r"\1=99"),
)

# --- the target, bent ------------------------------------------------------------------------------------------------


def bent(name: str, owner: Any, attribute: str, value: object) -> Breaker:
    """The target with one thing of its stack replaced."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, attribute, value)

    return target(name, patch)


OVERLOOKS_CRC = bent("a target that does not look at CRCs", mpa.Deframer, "_verify", lambda self, start, end: None)
GOES_ON_AFTER_ERRORS = bent("a target that does not mind errors", Stream, "_fail", lambda self, violation: None)
SENDS_NO_MARKERS = bent("a target that sends no markers", packing, "MarkedFramer", mpa.Framer)
TAKES_NO_MARKERS = bent("a target that overlooks the markers that come", stream, "MarkedDeframer", mpa.Deframer)
MARKERS_POINT_ELSEWHERE = bent(
    "a target whose markers point elsewhere", mpa, "_marker", lambda fpduptr: (fpduptr + 4).to_bytes(4, "big")
)
MARKERS_OF_ONES = bent(
    "a target that sets RESERVED", mpa, "_marker", lambda fpduptr: (fpduptr | 1 << 31).to_bytes(4, "big")
)
LOW_BITS_SET = bent(
    "a target that sets FPDUPTR's low bits", mpa, "_marker", lambda fpduptr: (fpduptr | 3).to_bytes(4, "big")
)
SMALL_ULPDUS = bent("a target whose MULPDU is 100", sending, "mulpdu_for", lambda emss, *, markers: 100)
LARGE_ULPDUS = bent("a target whose MULPDU is 65000", sending, "mulpdu_for", lambda emss, *, markers: 65000)


def _verify_always(patch: pytest.MonkeyPatch) -> None:
    """CRCs are checked although nobody wanted them."""
    patch.setattr(mpa.Deframer, "__init__", _with_crc(mpa.Deframer.__init__))


def _with_crc(original: Any) -> Any:
    def init(self: Any, *, crc: bool, **others: Any) -> None:
        original(self, crc=True, **others)

    return init


CHECKS_ALWAYS = target("a target that checks CRCs always", _verify_always)


def _picky_about_markers(self: Any, position: int, offset: int, expected: int) -> None:
    from pyiwarp.errors import CrcMismatch

    if bytes(self.view[position : position + 4]) != expected.to_bytes(4, "big"):
        raise CrcMismatch(offset, 0, 0)


PICKY_ABOUT_MARKERS = bent(
    "a target that looks at all of a marker", mpa.MarkedDeframer, "_check_marker", _picky_about_markers
)

MARKS_ALWAYS = bent("a target that sends markers to everybody", packing, "Framer", mpa.MarkedFramer)


def _takes_256(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (wire, faststartup):
        monkeypatch.setattr(each, "MAX_PRIVATE_DATA", 256)


TAKES_256 = target("a target that takes 256 octets of Private Data", _takes_256)
OPENS_WITH_WRITE = bent(
    "a target that always opens with a Write", negotiation, "_choose_rtr", lambda *settled: Rtr.WRITE
)
OPENS_WITH_READ = bent("a target that always opens with a Read", negotiation, "_choose_rtr", lambda *settled: Rtr.READ)


def _unmuted(original: Any) -> Any:
    def init(self: Any, *positional: Any, **named: Any) -> None:
        original(self, *positional, **named)
        self.speak_first()

    return init


SPEAKS_FIRST = bent("a target that speaks first as Responder", Stream, "__init__", _unmuted(Stream.__init__))
NEVER_ENDS = target("a target whose Responder never gives up", instead=SILENT)
TAKES_EVERYTHING = target("a target whose Responder accepts anything", instead=ACCEPTS_ANYTHING)
