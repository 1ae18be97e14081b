"""What a case expects: patterns whose omitted fields mean anything, and alternatives for every lawful reaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.observed import Closed, Frame, Message, Observation, Reset, Silence
from pyiwarp.errors import IwarpError, Term

__all__ = [
    "Failed",
    "Pattern",
    "closed",
    "ended",
    "expect_octets",
    "in_decimal",
    "in_words",
    "message",
    "one_of",
    "read_response",
    "reply",
    "request",
    "reset",
    "silence",
    "terminate",
]


class Failed(IwarpError):
    """The peer did something else than the clause allows.

    `seen` is what it did in a few words, on which profiles match; `octets` show it field by field.
    """

    def __init__(self, expected: str, seen: str, octets: list[str] | None = None) -> None:
        self.expected = expected
        self.seen = seen
        self.octets = octets or []
        super().__init__(expected, seen)

    def __str__(self) -> str:
        return f"expected {self.expected}; came {self.seen}"


def expect_octets(what: str, came: bytes, due: bytes) -> None:
    """`came` must be `due`; the failure shows both from the first octet on that differs."""
    if came != due:
        at = next((at for at, (one, other) in enumerate(zip(came, due, strict=False)) if one != other), 0)
        here = slice(at, at + 8)
        raise Failed(f"{what}: {due[here].hex(' ')} at {at}", came[here].hex(" ") or "fewer octets")


@dataclass(frozen=True)
class Pattern:
    """What may come: `fits` decides, `text` says it in words; `differing` names what keeps it from fitting."""

    text: str
    fits: Callable[[Observation], bool]
    differing: Callable[[Observation], list[str]] = lambda seen: []

    def __str__(self) -> str:
        return self.text

    def missed(self, seen: Observation) -> Failed:
        """What is to be raised because `seen` does not fit."""
        return Failed(self.text, ", ".join((str(seen), *self.differing(seen))), seen.annotated())

    def __or__(self, other: Pattern) -> Pattern:
        return Pattern(
            f"{self.text} or {other.text}",
            lambda seen: self.fits(seen) or other.fits(seen),
            lambda seen: self.differing(seen) or other.differing(seen),
        )


def one_of(*patterns: Pattern) -> Pattern:
    """Any of these."""
    whole = patterns[0]
    for each in patterns[1:]:
        whole = whole | each
    return whole


def closed() -> Pattern:
    """The peer closes its half, with nothing cut before it."""
    return Pattern("close", lambda seen: isinstance(seen, Closed) and not seen.rest)


def reset() -> Pattern:
    """The peer resets the connection."""
    return Pattern("reset", lambda seen: isinstance(seen, Reset))


def ended() -> Pattern:
    """The stream ends, one way or the other."""
    return closed() | reset()


def silence() -> Pattern:
    """Nothing comes in the time that was given."""
    return Pattern("silence", lambda seen: isinstance(seen, Silence) and not seen.rest)


def terminate(*terms: Term, **fields: object) -> Pattern:
    """A Terminate with one of `terms`, or with any; `fields` are those of `wire.Terminate`."""
    names = " or ".join(str(term) for term in terms)

    def fits(seen: Observation) -> bool:
        if not isinstance(seen, Message) or seen.terminate is None:
            return False
        return (not terms or seen.terminate.term in terms) and _equal(seen.terminate._asdict(), fields)

    def differing(seen: Observation) -> list[str]:
        if not isinstance(seen, Message) or seen.terminate is None or (terms and seen.terminate.term not in terms):
            return []
        have = seen.terminate._asdict()
        return [
            f"{_name(key)} is {in_words(have[key])}" for key, value in fields.items() if not _equal(have, {key: value})
        ]

    return Pattern(" ".join(filter(None, ("Terminate", names, _written(fields)))), fits, differing)


def message(opcode: int | None = None, **fields: object) -> Pattern:
    """A DDP segment; `fields` are those of `segments.Segment`."""
    if opcode is not None:
        fields = {"opcode": opcode, **fields}
    name = "an FPDU" if opcode is None else Opcode(opcode).name.replace("_", " ").capitalize()
    shown = {key: value for key, value in fields.items() if key != "opcode"}

    def fits(seen: Observation) -> bool:
        if not isinstance(seen, Message) or seen.segment is None:
            return False
        return all(getattr(seen.segment, key) == value for key, value in fields.items())

    def differing(seen: Observation) -> list[str]:
        if not isinstance(seen, Message) or seen.segment is None or opcode not in (None, seen.segment.opcode):
            return []
        have = {key: getattr(seen.segment, key) for key in shown}
        return [f"{_name(key)} is {in_words(have[key])}" for key in shown if have[key] != shown[key]]

    return Pattern(" ".join(filter(None, (name, _written(shown)))), fits, differing)


def read_response(payload: bytes | None = None, **fields: object) -> Pattern:
    """A Read Response, whole in one segment, with this payload or with any."""
    if payload is not None:
        fields["payload"] = payload
    return message(Opcode.READ_RESPONSE, **fields)


def request(**fields: object) -> Pattern:
    """An MPA Request; `fields` are flags (`markers`, `crc`, `rejected`, `enhanced`, `rsvd`), `revision`, `word`..."""
    return Pattern(
        " ".join(filter(None, ("an MPA Request", _written(fields)))),
        lambda seen: isinstance(seen, Frame) and seen.is_request and _equal(_startup_fields(seen), fields),
    )


def reply(**fields: object) -> Pattern:
    """An MPA Reply; fields as of `request`, and those of the enhanced word."""
    return Pattern(
        " ".join(filter(None, ("an MPA Reply", _written(fields)))),
        lambda seen: isinstance(seen, Frame) and seen.is_reply and _equal(_startup_fields(seen), fields),
    )


def _startup_fields(frame: Frame) -> Mapping[str, Any]:
    word = frame.word
    return {
        **{key: value for key, value in frame.header.flags.items() if not key.startswith("_")},
        "revision": frame.header.revision,
        "private_data": frame.private_data,
        "program_data": frame.program_data,
        **({} if word is None else {key: value for key, value in word.items() if not key.startswith("_")}),
    }


def _equal(have: Mapping[str, Any], want: Mapping[str, object]) -> bool:
    """Every wanted field is there and fits: a callable decides by itself."""
    return all(
        key in have and (value(have[key]) if callable(value) else have[key] == value) for key, value in want.items()
    )


def _written(fields: Mapping[str, object]) -> str:
    return "with " + ", ".join(_fact(key, value) for key, value in fields.items()) if fields else ""


def _fact(key: str, value: object) -> str:
    """A field and its value; one that is not there has no value."""
    if value is None or value == b"":
        return f"no {_name(key)}"
    return f"{_name(key)}={in_words(value)}"


def _name(key: str) -> str:
    """What the RFCs call a field."""
    return _NAMES.get(key, key.replace("_", " "))


_NAMES: Final = {"segment_length": "DDP Segment Length", "ddp_header": "DDP header", "rdma_header": "RDMA header"}


def in_decimal(value: object) -> str:
    """A count that came, beside one that is due."""
    return "none" if value is None else str(value)


def in_words(value: object) -> str:
    """A value that came or is due, as people read it: no word of Python's."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, bytes):
        return f"{value[:16].hex()}{'...' if len(value) > 16 else ''}" or "nothing"
    if callable(value):
        return str(value.__doc__ or "as allowed")
    if isinstance(value, int):
        return f"{value:#x}" if value > 9 else str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return ", ".join(f"{_name(key)} {in_words(each)}" for key, each in value._asdict().items())
    if isinstance(value, list | tuple):
        return ", ".join(" ".join(map(in_words, each)) if isinstance(each, tuple) else in_words(each) for each in value)
    return str(value)
