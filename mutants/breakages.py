"""What can be broken in a module: mutmut's operators, and some that remove statements and decide conditions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

__all__ = ["Breakage", "breakages", "sample"]

Operator = tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]

UNTOUCHED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Assert, cst.TypeAlias)
NAMES_UNTOUCHED = {"__all__", "__slots__", "__version__"}
TYPING = {"cast", "TypeVar", "NewType", "ParamSpec", "TYPE_CHECKING"}


@dataclass(frozen=True)
class Breakage:
    """One change to a file: the line where it begins, and the whole text that the file has then."""

    path: Path
    line: int
    text: str
    broken: str

    @property
    def diff(self) -> str:
        """The change, as `diff -u` shows it."""
        lines = unified_diff(
            self.text.splitlines(), self.broken.splitlines(), str(self.path), f"line {self.line}", n=2, lineterm=""
        )
        return "\n".join(lines)


def removed(node: cst.SimpleStatementLine) -> Iterable[cst.CSTNode]:
    """A call, a raise, a `del`, or a change of something that outlives the function, left out."""
    match node.body:
        case [cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString() | cst.Yield() | cst.Ellipsis())]:
            return
        case [cst.Expr() | cst.Raise() | cst.Del() | cst.AugAssign()] | [
            cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute() | cst.Subscript()), *_])
        ]:
            yield node.with_changes(body=[cst.Pass()])


def decided(node: cst.If) -> Iterable[cst.CSTNode]:
    """A condition that is always, or never, true."""
    for value in ("True", "False"):
        yield node.with_changes(test=cst.Name(value))


def halved(node: cst.BooleanOperation) -> Iterable[cst.CSTNode]:
    """One side of `and` or `or`."""
    brackets = {"lpar": [cst.LeftParen()], "rpar": [cst.RightParen()]}
    for side in (node.left, node.right):
        yield side if side.lpar else side.with_changes(**brackets)


OPERATORS: tuple[Operator, ...] = (
    *mutation_operators,
    (cst.SimpleStatementLine, removed),
    (cst.If, decided),
    (cst.BooleanOperation, halved),
)


def only_crashes(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """None in the place of a value: such breakages are many, and a test need only run the line to notice them."""
    if isinstance(node, cst.Call) and isinstance(changed, cst.Call) and len(node.args) == len(changed.args):
        return any(
            isinstance(new.value, cst.Name) and new.value.value == "None" and new.value is not old.value
            for old, new in zip(node.args, changed.args, strict=True)
        )
    if isinstance(node, (cst.Assign, cst.AnnAssign)) and isinstance(changed, (cst.Assign, cst.AnnAssign)):
        return isinstance(changed.value, cst.Name) and changed.value.value == "None"
    return False


def sentence(node: cst.CSTNode, changed: cst.CSTNode) -> bool:
    """Words for people, or the case of letters: their wording is not what tests hold."""
    if not isinstance(node, cst.SimpleString) or not isinstance(changed, cst.SimpleString):
        return False
    return " " in node.value or "XX" not in changed.value


class Finder(cst.CSTVisitor):
    """Collects what can be changed, with the line of each."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Apply each operator that fits; False leaves out what lies below."""
        match node:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))]) if name in NAMES_UNTOUCHED:
                return False
            case cst.AnnAssign(target=cst.Name(value=name)) if name in NAMES_UNTOUCHED:
                return False
            case cst.Call(func=cst.Name(value=name)) | cst.If(test=cst.Name(value=name)) if name in TYPING:
                return False
            case _ if isinstance(node, UNTOUCHED):
                return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for changed in operator(node):
                    if not only_crashes(node, changed) and not sentence(node, changed):
                        line = self.get_metadata(PositionProvider, node).start.line
                        self.found.append((line, node, changed))
        return True


def breakages(path: Path, among: random.Random, most: int) -> Iterator[Breakage]:
    """Breakages of a file in random order: at most one for each line first, then others, `most` together."""
    text = path.read_text()
    wrapper = MetadataWrapper(cst.parse_module(text))
    finder = Finder()
    wrapper.visit(finder)
    among.shuffle(finder.found)
    seen: set[int] = set()
    first: list[tuple[int, cst.CSTNode, cst.CSTNode]] = []
    later = first[:]
    for one in finder.found:
        (later if one[0] in seen else first).append(one)
        seen.add(one[0])
    for line, node, changed in (first + later)[:most]:
        replaced = wrapper.module.deep_replace(node, changed)
        broken = replaced.code if isinstance(replaced, cst.Module) else text
        if broken != text and compiles(broken):
            yield Breakage(path, line, text, broken)


def compiles(text: str) -> bool:
    """Whether Python takes it."""
    try:
        compile(text, "broken", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def sample(paths: list[Path], size: int, seed: int) -> list[Breakage]:
    """`size` breakages of the files, each file having its share by its number of lines; the seed says which."""
    among = random.Random(seed)
    weights = [len(path.read_text().splitlines()) for path in paths]
    drawn = among.choices(range(len(paths)), weights, k=size)
    return [
        breakage
        for number, path in enumerate(paths)
        for breakage in breakages(path, random.Random(f"{seed} {path}"), drawn.count(number))
    ]
