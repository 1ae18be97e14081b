"""The judge of one stream: what every FPDU of the peer's must keep, in whatever case it comes.

`Stream` shows it all that goes out and all that comes in. It asks `breaches` (one FPDU by itself), `sequences`
(messages and their segments), `answers` (what the bench asked for), `quotes` (Terminates) and `shown` memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.allowances import Allowances
from pyiwarp.conformance.bench.answers import Answers
from pyiwarp.conformance.bench.breaches import Breach, fpdu_breaches, mulpdu_bound, segment_breaches
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.quotes import Quotes
from pyiwarp.conformance.bench.sequences import UntaggedSequence, WriteSequence
from pyiwarp.conformance.bench.shown import Shown
from pyiwarp.conformance.bench.terminates import take_apart
from pyiwarp.decode.segments import Segment, parse_segment

__all__ = ["FpduJudge"]


class FpduJudge:
    """Judges the peer's FPDUs in the order in which they come.

    `crc` and `markers` say what was agreed for them. `emss` is the most that the peer's EMSS can be, in octets.
    `shown` is the memory that the peer may Write and Read; None says that it may know of more.
    """

    def __init__(
        self, allowances: Allowances, *, crc: bool, markers: bool, emss: int | None, shown: Shown | None
    ) -> None:
        self._allowances = allowances
        self._crc = crc
        self._most = mulpdu_bound(emss, markers=markers)
        self._shown = shown
        self._queues: defaultdict[int, UntaggedSequence] = defaultdict(UntaggedSequence)
        self._writes = WriteSequence()
        self._answers = Answers()
        self._quotes = Quotes()
        self._terminated = False

    def sent(self, ulpdu: bytes, right: bool) -> None:
        """The bench sends this ULPDU in an FPDU; `right` says whether the FPDU is as it should be."""
        segment = parse_segment(ulpdu)
        if segment is not None:
            self._answers.asked(segment)
        self._quotes.sent(ulpdu)
        if not right:
            self._quotes.sent_octets()

    def sent_octets(self) -> None:
        """The bench sends octets that may be anything."""
        self._quotes.sent_octets()

    def judge(self, seen: Message) -> None:
        """Raises `Failed` for the first rule that `seen` breaks and that this peer is not known to break."""
        for breach in self._breaches(seen):
            if breach.rule not in self._allowances.not_judged:
                expected = f"{breach.expected} in {seen} ({breach.rule})"
                raise Failed(expected, breach.came, seen.annotated())

    def _breaches(self, seen: Message) -> Iterator[Breach]:
        if self._terminated:
            yield Breach("RDMAP-5040-5.4-09", "nothing after the Terminate", str(seen))
        yield from fpdu_breaches(seen.fpdu, crc=self._crc, most=self._most)
        yield from segment_breaches(seen.segment)
        if seen.segment is None:
            return
        yield from self._message_breaches(seen.segment)
        yield from self._answers.take(seen.segment)
        if self._shown is not None:
            yield from self._shown.breaches(seen.segment)
        if seen.segment.is_terminate:
            self._terminated = True
            said = take_apart(seen, self._allowances.read_terminate(seen.segment.payload))
            yield from self._quotes.breaches(said)

    def _message_breaches(self, segment: Segment) -> Iterator[Breach]:
        if not segment.tagged:
            yield from self._queues[segment.qn].take(segment)
        elif segment.opcode == Opcode.WRITE:
            yield from self._writes.take(segment)
