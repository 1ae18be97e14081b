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

import ast
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.clauses import Clause, clause

__all__ = ["REGISTRY", "Case", "Strictness", "Verdict", "case"]

ID: Final = re.compile(r"(?:MPA2?|DDP|RDMAP|SEC|EXT)-[0-9]{4}-[0-9A-Z]+(?:\.[0-9]+)*-[0-9]{2}(?:/[0-9]+)?")

OWN_GROUP: Final = "own cases"

LAYERS: Final = {
    "MPA": "MPA",
    "MPA2": "MPA enhanced startup",
    "DDP": "DDP",
    "RDMAP": "RDMAP",
    "EXT": "RDMAP extensions",
    "SEC": "security",
}


class Strictness(StrEnum):
    """How binding the clause is; a MAY is tested by showing that its use is accepted, which binds."""

    MUST = "MUST"
    SHOULD = "SHOULD"


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


CaseFunction = Callable[[Bench], Awaitable[None]]


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
    rule: str = ""  # what a case of the user's own demands, which is no requirement of the RFCs

    @property
    def group(self) -> str:
        """Layer and RFC, such as `DDP (RFC 5041)`."""
        if self.rule:
            return OWN_GROUP
        layer, rfc = self.id.split("-")[:2]
        return f"{LAYERS[layer]} (RFC {rfc})"

    def as_data(self) -> dict[str, object]:
        """For JSON."""
        return {
            "id": self.id,
            "title": self.title,
            "group": self.group,
            "level": self.level.word,
            "directions": sorted(direction.value for direction in self.directions),
            "strictness": self.strictness.value,
            "needs": sorted(self.needs),
            "also": [*self.also],
            "sends": self.sends,
            "accepts": self.accepts,
            "clause": str(self.clause),
        }

    @property
    def clause(self) -> Clause:
        """The requirement in words."""
        return Clause(self.id, "", "", self.strictness.value, self.rule) if self.rule else clause(self.id)


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
    rule: str = "",
) -> Callable[[CaseFunction], CaseFunction]:
    """Register the decorated function as the case `id`; raises `ValueError` for a case that is not complete.

    How strict it is follows from the requirement's level unless `strictness` says otherwise. A case of the user's own
    has any id, and `rule`, which says what it demands (`docs/own-cases.md`).
    """
    for each in also if rule else (id, *also):
        if not ID.fullmatch(each):
            raise ValueError(f"{each!r} is no id of a case; one of your own has rule=, the text of what it demands")
        clause(each)
    if id in REGISTRY:
        raise ValueError(f"there are two cases {id}")
    if rule and not id.strip():
        raise ValueError("a case has an id")
    if strictness is None:
        should = not rule and clause(id).level.startswith("SHOULD")
        strictness = Strictness.SHOULD if should else Strictness.MUST

    def register(function: CaseFunction) -> CaseFunction:
        text = function.__doc__ or _docstring_in_source(function)
        sends, marker, accepts = " ".join(text.split()).partition("Accepts: ")
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
            rule,
        )
        return function

    return register


def _docstring_in_source(function: CaseFunction) -> str:
    """The docstring of a function from its module's source: `python -OO` keeps none in memory."""
    file, name = inspect.getsourcefile(function), getattr(function, "__name__", "")
    return _docstrings(file).get(name, "") if file else ""


@cache
def _docstrings(file: str) -> dict[str, str]:
    """The docstring of each function at the top of a source file."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef))
    return {node.name: ast.get_docstring(node) or "" for node in functions}
