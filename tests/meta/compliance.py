"""Which requirement is obeyed where, and which test shows it: reads every citation and writes `docs/compliance.md`.

Run it after a change of citations:

    python -m tests.meta.compliance

Code and tests cite the requirements of `spec/requirements.tsv` by their ids, as `DDP-5041-7.1-10`. Behind an id, `-11`
stands for another number of the same section, `-5.1-04` for another section of the same RFC, `..-16` for a range.
A citation in a test file belongs to the test that it stands in or above; one that stands in a table or a helper belongs
to the tests that use it.
"""

from __future__ import annotations

import ast
import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "compliance.md"
OBEYING: Final = "pyiwarp"
CONFORMANCE: Final = "pyiwarp/conformance"
DECODING: Final = "pyiwarp/decode"  # it names rules that others break
LABORATORY: Final = "pyiwarp/lab"  # its exercises name rules that others break
SHOWING: Final = "tests"
NOT_SHOWING: Final = ("tests/meta", "tests/interop", "tests/conformance", "tests/unit/test_lab.py")
"""What is here is about other tests, about the tester or exercises, or runs only where another implementation is."""

RFCS: Final[Mapping[str, str]] = {
    "5044": "MPA",
    "6581": "MPA revision 2",
    "5041": "DDP",
    "5040": "RDMAP",
    "7306": "Atomics and Immediate Data",
    "5042": "security",
    "6580": "registries",
}
BINDING: Final = ("MUST", "MUST NOT")
ADVISING: Final = ("SHOULD", "SHOULD NOT")
LISTED_TESTS: Final = 3

_SECTION: Final = r"[0-9A-Z]+(?:\.[0-9]+)*"
_CITATION: Final = re.compile(rf"\b(MPA2?|DDP|RDMAP|SEC|EXT)-([0-9]{{4}})-({_SECTION})(?:-([0-9]{{2}}))?")
_CONTINUATION: Final = re.compile(rf"(?:,| and)\s+(?:-|-?({_SECTION})-)([0-9]{{2}})\b(?![.-]\d)|\.\.-?([0-9]{{2}})\b")


class Requirement(NamedTuple):
    """One row of `spec/requirements.tsv`."""

    id: str
    rfc: str
    section: str
    level: str
    layer: str
    role: str
    requirement: str
    how_to_observe: str

    @property
    def observable(self) -> bool:
        return not self.how_to_observe.startswith("not observable")


class Citation(NamedTuple):
    id: str
    line: int


@dataclass
class Ledger:
    """Everything that was found: `obeyed` names files, `shown` tests, `unknown` what no requirement answers to."""

    requirements: list[Requirement]
    exemptions: Mapping[str, str]
    homes: Mapping[str, list[str]]
    obeyed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    checked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unknown: list[str] = field(default_factory=list)

    @property
    def untested(self) -> list[Requirement]:
        """What binds and could be seen, but no test shows it."""
        return [row for row in self.requirements if row.level in BINDING and not self.accounted(row)]

    @property
    def unexplained(self) -> list[Requirement]:
        """What is advised, and neither followed by a test nor explained."""
        return [row for row in self.requirements if row.level in ADVISING and not self.accounted(row)]

    def home(self, row: Requirement) -> list[str]:
        """The files in which the rules of its section are obeyed: those of the narrowest section that has any."""
        section = row.id.rpartition("-")[0]
        while section and section not in self.homes:
            section = section.rpartition("." if "." in section else "-")[0]
        return self.homes.get(section, [])

    def accounted(self, row: Requirement) -> bool:
        return bool(self.shown.get(row.id)) or row.id in self.exemptions or not row.observable


# --- reading ---------------------------------------------------------------------------------------------------------


def rows_of(name: str) -> list[dict[str, str]]:
    """A table of `spec/`, its first line naming the columns."""
    with (ROOT / "spec" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def requirements() -> list[Requirement]:
    return [Requirement(**row) for row in rows_of("requirements.tsv")]


def citations(text: str) -> Iterator[Citation]:
    """The ids that a text cites, abbreviated ones written out; a citation that names no number comes as it is."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _CITATION.finditer(line):
            prefix, rfc, section, last = match.groups()
            if last is None:
                yield Citation(match.group(), number)
                continue
            yield Citation(match.group(), number)
            at = match.end()
            while more := _CONTINUATION.match(line, at):
                other, single, end = more.groups()
                section = other or section
                numbers = range(int(last) + 1, int(end) + 1) if end else [int(single)]
                for each in numbers:
                    yield Citation(f"{prefix}-{rfc}-{section}-{each:02}", number)
                last, at = end or single, more.end()


def sources(folder: str, besides: Iterable[str] = ()) -> list[Path]:
    """The Python files of a folder in the order of their names."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if not any(file.is_relative_to(ROOT / other) for other in besides)]


def read() -> Ledger:
    """All citations of the project."""
    ledger = Ledger(
        requirements(),
        {row["id"]: row["reason"] for row in rows_of("exemptions.tsv")},
        {row["section"]: [f"{OBEYING}/{name}" for name in row["files"].split()] for row in rows_of("homes.tsv")},
    )
    known = {row.id for row in ledger.requirements}
    ledger.unknown += [f"spec/exemptions.tsv: {each}" for each in ledger.exemptions if each not in known]

    def note(where: dict[str, list[str]], citation: Citation, names: Iterable[str], file: Path) -> None:
        if citation.id not in known:
            ledger.unknown.append(f"{file.relative_to(ROOT)}:{citation.line}: {citation.id}")
            return
        for name in names:
            if name not in where[citation.id]:
                where[citation.id].append(name)

    for file in sources(OBEYING, [CONFORMANCE, DECODING, LABORATORY]):
        for citation in citations(file.read_text(encoding="utf-8")):
            note(ledger.obeyed, citation, [str(file.relative_to(ROOT))], file)
    for file in sources(CONFORMANCE):
        for citation in citations(file.read_text(encoding="utf-8")):
            note(ledger.checked, citation, [str(file.relative_to(ROOT))], file)
    for file in sources(SHOWING, NOT_SHOWING):
        text = file.read_text(encoding="utf-8")
        owners = TestsOf(text)
        for citation in citations(text):
            names = [f"{file.relative_to(ROOT)}::{test}" for test in owners.at(citation.line)]
            note(ledger.shown, citation, names, file)
    return ledger


class TestsOf:
    """Finds the tests of a file that a line belongs to."""

    __test__ = False

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._nodes = [node for node in ast.parse(text).body if not _is_text(node)]
        self._text = {id(node): "\n".join(self._lines[_first_line(node) - 1 : node.end_lineno]) for node in self._nodes}

    def at(self, line: int) -> list[str]:
        """The tests that a citation in this line is made by."""
        node = self._node_at(line)
        return [] if node is None else self._tests_using(node, set())

    def _node_at(self, line: int) -> ast.stmt | None:
        """What the line stands in, at the end of if it is indented, or else above."""
        before: ast.stmt | None = None
        for node in self._nodes:
            if line < _first_line(node):
                return before if self._lines[line - 1].startswith(" ") else node if before else None
            if line <= (node.end_lineno or 0):
                return node
            before = node
        return before

    def _tests_using(self, node: ast.stmt, seen: set[int]) -> list[str]:
        if id(node) in seen:
            return []
        seen.add(id(node))
        names = _names_of(node)
        if len(names) == 1 and names[0].startswith("test_"):
            return names
        if not names:
            return []
        mention = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
        users = [other for other in self._nodes if other is not node and mention.search(self._text[id(other)])]
        return list(dict.fromkeys(test for user in users for test in self._tests_using(user, seen)))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _names_of(node: ast.stmt) -> list[str]:
    """What a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# --- writing ---------------------------------------------------------------------------------------------------------

PREFACE: Final = """# Compliance

Every normative statement of RFC 5044, 6581, 5041, 5040, 7306, 5042 and 6580, where this stack obeys it, and which test
shows it. The statements stand in [`spec/requirements.tsv`](../spec/requirements.tsv); the last two columns are
read from the citations in the code and in the tests. Where no line of the code stands for a statement alone, the files
in italics obey its section together. This page is generated: `make compliance` writes it anew, and a test fails while
it is stale.

A statement that no test can show says why in italics: the matter lies in the host, in the program above, in a
capability that TCP sockets do not give, or in one that this stack does not have and need not have.
"""

AMBIGUITIES: Final = """## Ambiguities

Where the RFCs contradict each other, say nothing, or are not followed in the field: what this stack does, and what it
puts up with in a peer.

| # | Where | The question | What pyiwarp does | What it tolerates |
|---|---|---|---|---|
"""


def page(ledger: Ledger) -> str:
    """The whole of `docs/compliance.md`."""
    parts = [PREFACE, _totals(ledger)]
    order = list(RFCS)
    for rfc, rows in groupby(sorted(ledger.requirements, key=lambda row: order.index(row.rfc)), lambda row: row.rfc):
        parts.append(f"## RFC {rfc}: {RFCS[rfc]}\n")
        for section, each in groupby(sorted(rows, key=_section_key), lambda row: row.section):
            parts.append(_section(ledger, rfc, section, list(each)))
    ambiguities = [f"| {' | '.join(map(_cell, row.values()))} |\n" for row in rows_of("ambiguities.tsv")]
    return "\n".join(parts) + "\n" + AMBIGUITIES + "".join(ambiguities)


def _section_key(row: Requirement) -> list[tuple[bool, int, str]]:
    """Sections by number, appendices last; rows of a section in the order of their ids."""
    parts = [*row.section.split("."), row.id[-2:]]
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _totals(ledger: Ledger) -> str:
    lines = ["## Totals\n", "| RFC | Level | Statements | With a test | Explained | Not observable | Neither |"]
    lines.append("|---|---|---|---|---|---|---|")
    for rfc in [*RFCS, ""]:
        for levels in (BINDING, ADVISING, ("MAY",)):  # the negative form of each counts with it
            rows = [row for row in ledger.requirements if row.level in levels and rfc in ("", row.rfc)]
            count = Counter(_standing(ledger, row) for row in rows)
            figures = [len(rows), *(count[standing] for standing in ("shown", "explained", "unobservable", "open"))]
            name = f"RFC {rfc}" if rfc else "**all**"
            lines.append(f"| {name} | {', '.join(levels)} | {' | '.join(map(str, figures))} |")
    binding = [row for row in ledger.requirements if row.level in BINDING and _standing(ledger, row) != "unobservable"]
    shown = sum(_standing(ledger, row) == "shown" for row in binding)
    lines.append(
        f"\nOf the {len(binding)} binding statements that can be observed, {shown} have a test that fails when the"
    )
    lines.append("rule is broken. A MAY binds nobody: where it has no test, either way is right.\n")
    return "\n".join(lines)


def _standing(ledger: Ledger, row: Requirement) -> str:
    if ledger.shown.get(row.id):
        return "shown"
    if row.id in ledger.exemptions:
        return "explained"
    return "open" if row.observable else "unobservable"


def _section(ledger: Ledger, rfc: str, section: str, rows: list[Requirement]) -> str:
    head = "| Id | Level | Statement | Obeyed in | Shown by |"
    lines = [f"### RFC {rfc} §{section}\n", head, "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.id} | {row.level} | {_cell(row.requirement)} | {_obeyed(ledger, row)} | {_shown(ledger, row)} |"
        )
    return "\n".join(lines) + "\n"


def _obeyed(ledger: Ledger, row: Requirement) -> str:
    cited = ", ".join(map(_link, ledger.obeyed.get(row.id, [])))
    if cited or _standing(ledger, row) != "shown":
        return cited or "–"
    return f"*{', '.join(map(_link, ledger.home(row)))}*"


def _shown(ledger: Ledger, row: Requirement) -> str:
    tests = ledger.shown.get(row.id, [])
    if tests:
        more = f" and {len(tests) - LISTED_TESTS} more" if len(tests) > LISTED_TESTS else ""
        return "<br>".join(_link(test) for test in tests[:LISTED_TESTS]) + more
    if row.id in ledger.exemptions:
        return f"*{_cell(ledger.exemptions[row.id])}*"
    if not row.observable:
        return f"*{_cell(row.how_to_observe)}*"
    return "either way is right" if row.level == "MAY" else "**open**"


def _link(name: str) -> str:
    path, _, test = name.partition("::")
    return f"[{test or Path(path).name}](../{path})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the page; tell what is wrong with the citations."""
    ledger = read()
    PAGE.write_text(page(ledger), encoding="utf-8")
    for what, rows in (("no test shows", ledger.untested), ("neither test nor reason", ledger.unexplained)):
        for row in rows:
            print(f"{what}: {row.id}: {row.requirement}", file=sys.stderr)
    for citation in ledger.unknown:
        print(f"unknown: {citation}", file=sys.stderr)
    return 1 if ledger.untested or ledger.unexplained or ledger.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
