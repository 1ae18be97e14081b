"""What a case is, and how one is registered.

A case is an async function that reads like a transcript. Its docstring says what is sent and, behind `Accepts:`, every
lawful reaction; its decorator says which requirement it tests and where it can run::

    @case("DDP-5041-7.1-10", "a Write beyond its region is refused", level=Level.TARGET)
    async def write_beyond_region(bench: Bench) -> None:
        '''A Write of four octets that begins three octets before the region's end.

        Accepts: Terminate DDP/tagged/base or bounds, or TO wrap; the memory is as it was.
        '''
        stream = await bench.open()
        await stream.write(bench.rw.stag, bench.rw.to + bench.rw.length - 3, b"1234")
        await stream.expect_terminated(DDP_TAGGED_BOUNDS, DDP_TAGGED_WRAP)
        await bench.target.expect_memory_unchanged("rw")

A case that sees something else raises `Failed` (the expectations of `Stream`, `Line` and `Target` do). One requirement
may have several cases: `DDP-5041-7.1-10`, `DDP-5041-7.1-10/2` and so on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from pyiwarp.conformance.clauses import Clause, clause
from pyiwarp.errors import IwarpError

if TYPE_CHECKING:
    from pyiwarp.conformance.testbench import Bench

__all__ = ["REGISTRY", "Cannot", "Case", "Direction", "Level", "Need", "Strictness", "Verdict", "case"]

ID: Final = re.compile(r"(?:MPA2?|DDP|RDMAP|SEC|EXT)-[0-9]{4}-[0-9A-Z]+(?:\.[0-9]+)*-[0-9]{2}(?:/[0-9]+)?")

LAYERS: Final = {
    "MPA": "MPA",
    "MPA2": "MPA enhanced startup",
    "DDP": "DDP",
    "RDMAP": "RDMAP",
    "EXT": "RDMAP extensions",
    "SEC": "security",
}


class Level(IntEnum):
    """What the peer runs beside the protocol; each level includes those before it."""

    BARE = 1  # anything that accepts or makes connections
    RPING = 2  # rping: as a client it advertises memory in its first Send, as a server it answers by Read and Write
    TARGET = 3  # the target program, which does what the control connection says and tells what it saw

    @property
    def word(self) -> str:
        """As it is written on the command line."""
        return self.name.lower()


class Direction(StrEnum):
    """Who makes the TCP connection, and with it who is the MPA Initiator."""

    CONNECT = "connect"  # the bench is Initiator, the peer Responder
    LISTEN = "listen"  # the bench is Responder, the peer Initiator


class Strictness(StrEnum):
    """How binding the clause is; a MAY is tested by showing that its use is accepted, which binds."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Need(StrEnum):
    """What a case needs and not every peer has; without it the case is not run, and the report says so.

    Most are the words by which a target program tells its abilities (`docs/target.md`).
    """

    CRC = "crc"  # it can be told which C bit to send
    MARKERS = "markers"  # it asks for markers when told to
    REVISION = "revision"  # it can be told to speak MPA revision 1
    DEPTHS = "depths"  # it can be told its IRD and ORD
    EXTENSIONS = "extensions"  # RFC 7306
    ENHANCED = "enhanced"  # RFC 6581
    P2P = "p2p"  # it can open as RFC 6581's peer-to-peer Initiator
    REJECT = "reject"  # its program can refuse a Request
    INVALIDATE = "invalidate"  # Send with Invalidate takes its regions away
    SOLICITED = "solicited"  # it tells whether a Send asked for an event
    TERMINATES = "terminates"  # it tells the octets of Terminate messages
    REGION = "region"  # the peer shows memory that may be read and written
    READER = "reader"  # the peer Reads memory that is shown to it


class Verdict(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    DEVIATES = "differs as declared"
    CANNOT = "peer cannot"
    SKIPPED = "skipped"
    ERROR = "error"  # of the bench or of the target program: nothing is known about the peer

    @property
    def bad(self) -> bool:
        """Whether the run did not succeed."""
        return self in (Verdict.FAILED, Verdict.ERROR)


class Cannot(IwarpError):
    """The peer lacks what the case needs; the text says what."""


CaseFunction = Callable[["Bench"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: `id` begins with the requirement it tests, `also` names further ones that its sequence shows."""

    id: str
    title: str
    run: CaseFunction
    level: Level
    directions: frozenset[Direction]
    strictness: Strictness
    needs: frozenset[Need]
    also: tuple[str, ...]
    sends: str
    accepts: str

    @property
    def group(self) -> str:
        """Layer and RFC, such as `DDP (RFC 5041)`."""
        layer, rfc = self.id.split("-")[:2]
        return f"{LAYERS[layer]} (RFC {rfc})"

    @property
    def clause(self) -> Clause:
        """The requirement in words."""
        return clause(self.id)


REGISTRY: Final[dict[str, Case]] = {}
"""Every case by its id, in the order of registration; `catalogue.cases` fills it."""

BOTH: Final = (Direction.CONNECT, Direction.LISTEN)


def case(
    id: str,
    title: str,
    *,
    level: Level = Level.BARE,
    directions: Iterable[Direction] = BOTH,
    needs: Iterable[Need] = (),
    also: tuple[str, ...] = (),
    strictness: Strictness | None = None,
) -> Callable[[CaseFunction], CaseFunction]:
    """Register the decorated function as the case `id`; raises `ValueError` for a case that is not complete.

    How strict it is follows from the requirement's level unless `strictness` says otherwise.
    """
    for each in (id, *also):
        if not ID.fullmatch(each):
            raise ValueError(f"{each!r} is no id of a case")
        clause(each)
    if id in REGISTRY:
        raise ValueError(f"there are two cases {id}")
    if strictness is None:
        strictness = Strictness.SHOULD if clause(id).level.startswith("SHOULD") else Strictness.MUST

    def register(function: CaseFunction) -> CaseFunction:
        sends, marker, accepts = " ".join((inspect.getdoc(function) or "").split()).partition("Accepts: ")
        if not (sends and marker):
            raise ValueError(f"the docstring of {id} must say what it sends and, behind 'Accepts:', what it accepts")
        REGISTRY[id] = Case(
            id,
            title,
            function,
            level,
            frozenset(directions),
            strictness,
            frozenset(needs),
            also,
            sends.strip(),
            accepts.strip(),
        )
        return function

    return register
