"""Each one-line breakage of the engine that breaks a rule is seen by a conformance case of that rule."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import cases
from tests.conformance.peers import target
from tests.conformance.test_every_case_can_fail import try_case
from tests.meta.breakages import MUTATIONS, Mutation
from tests.meta.breakages.mutation import Replacement

PACKAGE = Path(__file__).parents[2] / "pyiwarp"
UNSEEN = {  # what a peer may do, or what does not show
    "MULPDU exceeds 64,768": "loopback's segment size may be told as less",
    "MULPDU forgets EMSS mod 4": "the segment size is a multiple of four here",
    "one Read more than IRD is served": "whoever serves it keeps to the rule that none is lost",
    "a Read of withdrawn memory goes on": "its octets may have been fetched before",
    "packed markers are little-endian": "the markers are made once, when the first FPDU needs them",
    "windows stay open when their region is retired": "the target program binds no windows",
    "a log lets everything through": "the target program keeps no logs of its regions",
    "a message with a hole is delivered": "a peer may not look (DDP-5041-5.2-13)",
    "a Response may give an octet twice, the plain way": "a peer may not compare (RDMAP-5040-5.2.2-08)",
    "a Send that comes by itself may be larger than its receive": "the memoryview of the receive refuses it",
    "a TO that wraps is out of bounds": "it lies outside the region too, and may be told so",
    "a Read that wraps is said to be out of bounds": "it lies outside the region too, and may be told so",
    "a Responder that was not spoken to sends a Terminate": "whether it may is not clear (wire ambiguity 1)",
    "an STag of another stream is an invalid one": "both codes are lawful (DDP-5041-8.2-01)",
    "a Send Inv invalidates before it is delivered": "a Terminate for a Write amid a Send's segments is lawful",
    "four octets of each TCP segment are left": "smaller FPDUs are lawful: MPA-5044-4.5-05 is a SHOULD",
    "four octets of the MULPDU are left on the plain way": "smaller FPDUs are lawful: MPA-5044-4.5-05 is a SHOULD",
    "the TOs of all regions begin at 0": "where the TOs of a region begin is for its owner to choose",
    "zero based memory is not": "the target program has no zero based memory",
    "a receive of several elements is not measured": "the target program's receives have one element",
    "the last of several elements is not sent": "the target program's messages have one element",
    **dict.fromkeys(
        (
            "a marker that points elsewhere is overlooked",
            "only the leading marker is checked",
            "the leading marker is not checked",
        ),
        "who receives in order may ignore markers (MPA-5044-5.2-02)",
    ),
    **dict.fromkeys(
        (
            "a region that is registered anew keeps its STag",
            "a region that is registered anew keeps its rights",
            "a region that moves stays with its first protection domain",
            "memory that is registered anew is reached by its old STag",
            "the STag of before stands beside the new one",
        ),
        "the target program registers no memory anew",
    ),
}

_LISTED = (Path(__file__).parent / "unseen.txt").read_text(encoding="utf-8").splitlines()
NOT_SEEN = {name: why for name, _, why in (line.partition(" | ") for line in _LISTED if not line.startswith("#"))}
"""What no case sees, and what that means: see the head of the file."""


def source_of(module: str) -> str:
    return (PACKAGE / f"{module}.py").read_text(encoding="utf-8")


def place_of(piece: Mutation | Replacement) -> list[str]:
    """The names that lead to the function in which the line stands; empty if it stands in none."""
    source = source_of(piece.module)
    line = source[: source.index(piece.old)].count("\n") + 1 + (piece.old.startswith("\n"))
    path: list[str] = []
    nodes: list[ast.AST] = [ast.parse(source)]
    function = False
    while nodes:
        inner = [
            node
            for node in ast.iter_child_nodes(nodes.pop())
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        nodes = list(inner)
        path += [node.name for node in inner]
        function = function or any(isinstance(node, ast.FunctionDef) for node in inner)
    return path if function else []


def code_of(path: list[str], code: CodeType) -> CodeType:
    for name in path:
        code = next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name)
    return code


def function_of(path: list[str], owner: Any) -> Any:
    for name in path:
        owner = vars(owner)[name]
    return owner.fget if isinstance(owner, property) else owner


def rebuild_tables(module: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the constants anew that `module` makes with `function` when it is loaded, wherever they are known."""
    for statement in ast.parse(inspect.getsource(module)).body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if function in called(value):
                old = getattr(module, name)
                new = eval(compile(ast.Expression(value), module.__name__, "eval"), vars(module))
                for owner in [one for key, one in sys.modules.items() if key.startswith("pyiwarp.")]:
                    for known in [known for known, what in vars(owner).items() if what is old]:
                        monkeypatch.setattr(owner, known, new)


def called(expression: ast.expr) -> set[str]:
    """The functions that it calls by name."""
    calls = [node.func for node in ast.walk(expression) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def cases_of(mutation: Mutation) -> list[Case]:
    """The cases that test one of the broken rules, those named after it first."""
    named = [case for case in cases() if case.id.partition("/")[0] in mutation.rules]
    return named + [case for case in cases() if case not in named and set(case.also) & set(mutation.rules)]


def cases_for(mutation: Mutation) -> list[Case]:
    """The cases of its rules, then some that bring long and marked FPDUs: each FPDU is judged in any case."""
    return cases_of(mutation) + [case for case in cases() if case.id in JUDGING]


JUDGING = {
    "DDP-5041-4.2-04",
    "DDP-5041-4.3-04",
    "DDP-5041-5.2-04",
    "DDP-5041-5.2-09/2",
    "MPA-5044-4.3-04",
    "MPA-5044-4.1-05",
}
ENGINE = ("ddp", "rdmap", "mr", "fastwire", "mpa", "engine/stream", "engine/responses", "memory/atomics")
SEEN = [
    mutation
    for mutation in MUTATIONS
    if mutation.module in ENGINE
    and place_of(mutation)
    and cases_of(mutation)
    and mutation.name not in {*UNSEEN, *NOT_SEEN}
]
ON_THE_PLAIN_WAY = target("a target that takes the plain way", lambda patch: None)
AS_IT_IS = target("a target that takes the fast ways")


def test_what_is_not_seen_is_still_there() -> None:
    assert {mutation.name for mutation in MUTATIONS} >= {*UNSEEN, *NOT_SEEN}
    assert sorted(NOT_SEEN) == list(NOT_SEEN)
    assert not UNSEEN.keys() & NOT_SEEN.keys()


def test_the_list_says_why_each_is_not_seen() -> None:
    for name, why in NOT_SEEN.items():
        kind, _, reason = why.partition(": ")
        assert kind in ("cannot show", "a case is missing"), name
        assert reason, name


@pytest.mark.parametrize("mutation", SEEN, ids=lambda mutation: mutation.name)
async def test_it_is_seen(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = (Replacement(mutation.module, mutation.old, mutation.new), *mutation.also)
    for piece in pieces:
        if path := place_of(piece):  # what stands in no function is what the others import
            source = source_of(piece.module)
            for each in pieces:
                source = source.replace(each.old, each.new) if each.module == piece.module else source
            code = compile(source, f"{piece.module}, broken", "exec", dont_inherit=True)
            module = import_module(f"pyiwarp.{piece.module.replace('/', '.')}")
            monkeypatch.setattr(function_of(path, module), "__code__", code_of(path, code))
            rebuild_tables(module, path[0], monkeypatch)
    verdicts = {}
    for breaker in (ON_THE_PLAIN_WAY, AS_IT_IS):  # some lines are those of the fast ways
        for case in cases_for(mutation):
            for direction in sorted(case.directions):
                verdict = (await try_case(case, breaker, direction)).verdict
                if verdict is Verdict.FAILED:
                    return
                verdicts[breaker.name, case.id] = verdict
    pytest.fail(f"{mutation.name}: {verdicts}")
