"""No test waits without a limit: a peer, thread or process that never answers makes one test fail, and says which.

What is awaited has the limit of whoever runs the coroutine (`tests.integration.loops.run_on`), and a program that a
test starts has that of `tests.children`. So this looks for calls that block a thread.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
LOOKED_AT: Final = ("tests", "interop")  # a limit of a socket would be measured by benchmarks, whose parent ends them
SOURCES = sorted(path for folder in LOOKED_AT for path in (ROOT / folder).rglob("*.py"))

BARE: Final = frozenset({"join", "wait", "communicate", "acquire"})
"""Methods that wait for ever where they are given nothing: of threads, processes, events, locks."""

TIMED: Final = {
    "subprocess.run": None,
    "subprocess.call": None,
    "subprocess.check_call": None,
    "subprocess.check_output": None,
    "socket.create_connection": 1,
    "select.select": 3,
}
"""Functions that take a time limit, and the place of that argument where it has one."""

EXCEPTIONS: Final = {
    ("interop/programs/pour.py", "socket.create_connection((host, port))"): "an ordinary program; its scenario ends it",
    (
        "interop/programs/rstream.py",
        "socket.create_connection((place[0], int(place[1])))",
    ): "an ordinary program; its scenario ends it",
    ("tests/machine/verbs_machine.py", "link.join()"): "it joins two streams of the model, and no threads",
    ("tests/meta/trial.py", "os.waitpid(self.child, 0)"): "the fork was killed, or its pipe says that it has ended",
    ("tests/prepared.py", "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)"): "its descriptor says that it has ended",
    ("tests/prepared.py", "os.waitpid(pid, 0)"): "it has ended; its parent took its status",
}
"""What waits for ever and may, by file and call: why."""


def limited(call: ast.Call, place: int | None) -> bool:
    """Whether a call names its time limit."""
    named = any(keyword.arg in ("timeout", None) for keyword in call.keywords)
    return named or (place is not None and len(call.args) > place)


def is_endless(call: ast.Call, own: set[str]) -> bool:
    """Whether a call may block its thread for ever; `own` are names of methods that the file defines itself."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name = ast.unparse(call.func)
    if name in TIMED:
        return not limited(call, TIMED[name])
    if name in ("os.wait", "os.waitid"):
        return True
    if name == "os.waitpid":
        return ast.unparse(call.args[1]) == "0"
    return call.func.attr in BARE - own and not call.args and not call.keywords


def endless(source: str) -> Iterator[str]:
    """The calls of a file that block a thread without a limit."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    elsewhere = set[ast.AST]()  # a loop waits for it, or an argument of a call that has the limit
    for node in nodes:
        if isinstance(node, ast.Await):
            elsewhere.update(ast.walk(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "create_task",
            "ensure_future",
        ):
            elsewhere.update(each for argument in node.args for each in ast.walk(argument))
    for node in nodes:
        if isinstance(node, ast.Call) and node not in elsewhere and is_endless(node, own):
            yield ast.unparse(node)
        elif isinstance(node, ast.With):  # leaving the block waits for the process
            yield from (
                f"with {ast.unparse(item.context_expr)}"
                for item in node.items
                if isinstance(item.context_expr, ast.Call)
                and ast.unparse(item.context_expr.func) in ("Popen", "subprocess.Popen")
            )


def found() -> set[tuple[str, str]]:
    """Every such call, by file."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    return {(path, call) for path, text in texts.items() for call in endless(text)}


def test_no_wait_is_without_limit() -> None:
    waits = found()
    assert not [f"{path}: {call}" for path, call in sorted(waits) if (path, call) not in EXCEPTIONS]
    assert not EXCEPTIONS.keys() - waits, "nothing waits there any more"


ENDLESS = """
    thread.join()
    child.wait()
    child.communicate()
    lock.acquire()
    os.waitpid(child, 0)
    os.wait()
    select.select([one], [], [])
    socket.create_connection((host, port))
    subprocess.run(["true"], check=True)
    with subprocess.Popen(["true"]) as child: pass
"""
BOUNDED = """
    thread.join(PATIENCE)
    child.wait(timeout=1)
    os.waitpid(child, os.WNOHANG)
    select.select([one], [], [], 1)
    socket.create_connection((host, port), PATIENCE)
    subprocess.run(["true"], check=True, timeout=3)
    ", ".join(words)
    async def main(): await event.wait()
    asyncio.create_task(event.wait())
"""


@pytest.mark.parametrize("line", textwrap.dedent(ENDLESS).split("\n")[1:-1])
def test_a_wait_without_limit_is_found(line: str) -> None:
    assert len(list(endless(line))) == 1


@pytest.mark.parametrize("line", textwrap.dedent(BOUNDED).split("\n")[1:-1])
def test_what_ends_in_time_is_not_found(line: str) -> None:
    assert list(endless(line)) == []
