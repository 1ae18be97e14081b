"""Endpoints that break a rule: what the real one says is changed on its way out, so that one clause no longer holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyiwarp.codes import ENHANCED_SIZE, STARTUP_HEADER_SIZE, Opcode, QueueNumber
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.decode.frames import startup_size
from pyiwarp.decode.framing import Deframer, pad_length
from pyiwarp.decode.segments import Segment, parse_segment
from pyiwarp.wire import (
    AtomicResponse,
    EnhancedWord,
    StartupHeader,
    TerminateControl,
    build_atomic_response,
    parse_atomic_response,
)

__all__ = [
    "Flaw",
    "counts_by_two",
    "forgets_empty_responses",
    "forgets_the_sink_stag",
    "forgets_the_sink_to",
    "offers_too_many_reads",
    "pads_with_ones",
    "quotes_nothing",
    "restarts_each_segment",
    "sends_no_crc",
    "starts_at_zero",
    "tells_the_new_value",
    "terminates_on_queue_zero",
]

Frame = Callable[[Framer, bytes], bytes]
"""Makes the octets that are sent for one ULPDU."""


class Flaw:
    """Changes what an endpoint without markers says: its startup frame by `startup`, its FPDUs by `frame`."""

    def __init__(self, frame: Frame = Framer.frame, startup: Callable[[bytes], bytes] = bytes) -> None:
        self._frame = frame
        self._startup = startup
        self._waiting = bytearray()
        self._begun = False
        self._deframer = Deframer()
        self._framer = Framer()

    def alter(self, octets: bytes) -> bytes:
        """What is said instead of these octets; a frame that is not whole yet waits."""
        self._waiting += octets
        said = b""
        if not self._begun:
            size = startup_size(bytes(self._waiting[:STARTUP_HEADER_SIZE]))
            if size is None or len(self._waiting) < size:
                return b""
            said = self._startup(bytes(self._waiting[:size]))
            del self._waiting[:size]
            self._begun = True
        self._deframer.buffer += self._waiting
        self._waiting.clear()
        while (fpdu := self._deframer.next()) is not None:
            said += self._frame(self._framer, fpdu.ulpdu)
        return said


def _built(segment: Segment) -> bytes:
    """The ULPDU of a segment."""
    if segment.tagged:
        return build_tagged(segment.opcode, segment.stag, segment.to, segment.payload, last=segment.last)
    where = (segment.opcode, segment.qn, segment.msn, segment.payload)
    return build_untagged(*where, mo=segment.mo, last=segment.last, inval_stag=segment.inval_stag)


def _changing(change: Callable[[Segment], Segment | None]) -> Frame:
    """A frame of the segment that `change` makes of each, none where it makes None."""

    def frame(framer: Framer, ulpdu: bytes) -> bytes:
        segment = parse_segment(ulpdu)
        changed = segment and change(segment)
        return b"" if changed is None else framer.frame(_built(changed))

    return frame


def pads_with_ones() -> Flaw:
    """PAD is not zero."""
    return Flaw(lambda framer, ulpdu: framer.frame(ulpdu, pad=b"\xff" * pad_length(len(ulpdu))))


def sends_no_crc() -> Flaw:
    """The Reply has no C bit, and no FPDU a CRC, whatever the Request asks for."""

    def startup(octets: bytes) -> bytes:
        header = StartupHeader.parse(octets)
        header.flags.crc = False
        return bytes(StartupHeader.build(header)) + octets[STARTUP_HEADER_SIZE:]

    return Flaw(lambda framer, ulpdu: framer.frame(ulpdu, crc=0), startup)


def offers_too_many_reads() -> Flaw:
    """ORD in the Reply is 4, whatever IRD the Request has."""

    def startup(octets: bytes) -> bytes:
        word = {**EnhancedWord.parse(octets[STARTUP_HEADER_SIZE:]), "ord": 4}
        rest = octets[STARTUP_HEADER_SIZE + ENHANCED_SIZE :]
        return octets[:STARTUP_HEADER_SIZE] + bytes(EnhancedWord.build(word)) + rest

    return Flaw(startup=startup)


def starts_at_zero() -> Flaw:
    """MSNs begin with 0."""
    return Flaw(_changing(lambda segment: replace(segment, msn=segment.msn - 1)))


def counts_by_two() -> Flaw:
    """MSNs are 1, 3, 5 and so on."""
    return Flaw(_changing(lambda segment: replace(segment, msn=2 * segment.msn - 1)))


def forgets_the_sink_to() -> Flaw:
    """Read Responses begin at TO 0, whatever SinkTO was asked for."""
    started: dict[int, int] = {}

    def change(segment: Segment) -> Segment:
        if segment.opcode != Opcode.READ_RESPONSE:
            return segment
        start = started.setdefault(segment.stag, segment.to)
        if segment.last:
            del started[segment.stag]
        return replace(segment, to=segment.to - start)

    return Flaw(_changing(change))


def forgets_the_sink_stag() -> Flaw:
    """Read Responses have the STag 0x00000100, whatever SinkSTag was asked for."""
    return Flaw(
        _changing(lambda segment: replace(segment, stag=0x100) if segment.opcode == Opcode.READ_RESPONSE else segment)
    )


def restarts_each_segment() -> Flaw:
    """The segments of one message all have the TO of the first."""
    started: dict[int, int] = {}

    def change(segment: Segment) -> Segment:
        if not segment.tagged:
            return segment
        start = started.setdefault(segment.stag, segment.to)
        if segment.last:
            del started[segment.stag]
        return replace(segment, to=start)

    return Flaw(_changing(change))


def forgets_empty_responses() -> Flaw:
    """A Read of no octets is not answered."""

    def change(segment: Segment) -> Segment | None:
        empty = segment.opcode == Opcode.READ_RESPONSE and segment.last and not segment.payload
        return None if empty else segment

    return Flaw(_changing(change))


def terminates_on_queue_zero() -> Flaw:
    """A Terminate has QN 0."""
    return Flaw(
        _changing(
            lambda segment: replace(segment, qn=QueueNumber.SEND) if segment.opcode == Opcode.TERMINATE else segment
        )
    )


def quotes_nothing() -> Flaw:
    """A Terminate quotes no header and no length of the segment that it refuses."""

    def change(segment: Segment) -> Segment:
        if segment.opcode != Opcode.TERMINATE:
            return segment
        quoted = dict.fromkeys(("has_length", "has_ddp_header", "has_rdma_header"), False)
        control = {**TerminateControl.parse(segment.payload), **quoted}
        return replace(segment, payload=bytes(TerminateControl.build(control)))

    return Flaw(_changing(change))


def tells_the_new_value() -> Flaw:
    """An Atomic Response tells one more than memory had before, which is what a FetchAdd of 1 leaves there."""

    def change(segment: Segment) -> Segment:
        if segment.opcode != Opcode.ATOMIC_RESPONSE:
            return segment
        told = parse_atomic_response(segment.payload)
        more = AtomicResponse(told.request_id, (told.original_value + 1) % (1 << 64))
        return replace(segment, payload=build_atomic_response(more))

    return Flaw(_changing(change))
