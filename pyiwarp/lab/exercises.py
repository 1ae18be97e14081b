"""Exercises: each has an endpoint that breaks one rule, and knows which answers are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import fill, wrap
from typing import Final, NamedTuple

from pyiwarp.conformance.clauses import Clause, clauses
from pyiwarp.errors import UsageError
from pyiwarp.lab import flaws

__all__ = ["EXERCISES", "Exercise", "Verdict", "rules"]


class Verdict(NamedTuple):
    """Whether an answer is right, and what there is to say about it; at the prompt it shows itself."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return fill(self.text, 79)


class Exercise(NamedTuple):
    """What to do, how the endpoint's flaw is made, and the requirements that the flaw breaks."""

    task: str
    flaw: Callable[[], flaws.Flaw]
    broken: tuple[str, ...]
    startup: bool = True
    """Whether MPA startup is over when it begins."""

    def judge(self, id: str) -> Verdict:
        """Whether `id` is a requirement that the endpoint breaks. Raises `UsageError` if no requirement has this id."""
        if id not in clauses():
            raise UsageError(f"{id!r} is no requirement; rules('RFC 5041 §4.3') or rules('MSN') lists them")
        if id in self.broken:
            return Verdict(True, f"Right. {clauses()[id]}")
        section = id.rpartition("-")[0]
        if any(each.rpartition("-")[0] == section for each in self.broken):
            return Verdict(False, f"Not this one, but it is in the same section. {clauses()[id]}")
        return Verdict(False, f"Not this one. {clauses()[id]}")


EXERCISES: Final[Mapping[int, Exercise]] = {
    1: Exercise(
        "Send to the endpoint, let it send five octets, and look at each field of the FPDU.",
        flaws.pads_with_ones,
        ("MPA-5044-4.1-03",),
    ),
    2: Exercise(
        "Say a Request with the C bit, send to the endpoint, and let it send something.",
        flaws.sends_no_crc,
        ("MPA-5044-7.1.1-09", "MPA-5044-4.4-08", "MPA-5044-4.4-05"),
        startup=False,
    ),
    3: Exercise("Send to the endpoint, and let it send.", flaws.starts_at_zero, ("DDP-5041-4.3-08",)),
    4: Exercise("Send to the endpoint, and let it send more than once.", flaws.counts_by_two, ("DDP-5041-4.3-07",)),
    5: Exercise(
        "Read from the endpoint's region, into different places.", flaws.forgets_the_sink_to, ("RDMAP-5040-4.4-03",)
    ),
    6: Exercise(
        "Read from the endpoint's region, into different regions.", flaws.forgets_the_sink_stag, ("RDMAP-5040-4.4-02",)
    ),
    7: Exercise(
        "Read more octets than one FPDU can carry. endpoint.register(bytearray(4000)) makes room for it.",
        flaws.restarts_each_segment,
        ("DDP-5041-5.2-09",),
    ),
    8: Exercise(
        "Read no octets, then some.", flaws.forgets_empty_responses, ("RDMAP-5040-5.2.1-16", "RDMAP-5040-5.2.1-12")
    ),
    9: Exercise(
        "Write to an STag that does not exist.",
        flaws.terminates_on_queue_zero,
        ("RDMAP-5040-5.4-02", "RDMAP-5040-3.1-04"),
    ),
    10: Exercise(
        "Write to an STag that does not exist, and compare with an endpoint that is right.",
        flaws.quotes_nothing,
        ("RDMAP-5040-7.1-03", "RDMAP-5040-4.8-04", "RDMAP-5040-4.8-05"),
    ),
    11: Exercise(
        "Let the endpoint add to eight octets of its memory, twice.", flaws.tells_the_new_value, ("EXT-7306-5.2.2-02",)
    ),
    12: Exercise(
        "Say Requests with several values of IRD; start one endpoint for each.",
        flaws.offers_too_many_reads,
        ("MPA2-6581-9.1-04", "MPA2-6581-9.1-02"),
        startup=False,
    ),
}
"""The exercises by number."""


class Rules(tuple[Clause, ...]):
    """Requirements; at the prompt each is a paragraph."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [line for each in self for line in wrap(f"{each.id}  {each}", 79, subsequent_indent="    ")]
        return "\n".join(lines) or "no requirement has this"


def rules(words: str) -> Rules:
    """The requirements of a section, as `RFC 5041 §4.3`, or those whose id or text has these words."""
    rfc, _, section = words.removeprefix("RFC ").partition("§")
    if section:
        return Rules(each for each in clauses().values() if (each.rfc, each.section) == (rfc.strip(), section.strip()))
    return Rules(each for each in clauses().values() if words.lower() in f"{each.id} {each.text}".lower())
