"""What is fuzzed: the corpus fails nowhere, small changes of it neither, and a target notices a fault."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pyiwarp.files import messages
from pyiwarp.mpa import Deframer
from pyiwarp.mr import RemoteRegion
from pyiwarp.startup import Startup
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
INPUTS = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]
CHANGES = 6


def test_each_target_has_a_corpus() -> None:
    assert {target for target, _ in INPUTS} == set(TARGETS)


@pytest.mark.parametrize(("target", "name"), INPUTS)
def test_an_input_fails_nowhere(target: str, name: str) -> None:
    octets = (CORPUS / target / name).read_bytes()
    TARGETS[target](octets)
    rng = random.Random(f"{target}/{name}")
    for _ in range(CHANGES):
        changed = bytearray(octets)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed) + 1)
            changed[at : at + rng.choice((0, 1, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
        TARGETS[target](bytes(changed))


def broken(*_: object, **__: object) -> None:
    raise IndexError("a fault")


@pytest.mark.parametrize(
    ("target", "name", "owner", "function"),
    [
        ("stream", "writes", Deframer, "received"),
        ("ulpdus", "mixed", Deframer, "_verify"),
        ("startup", "request.2", Startup, "_finish"),
        ("files", "get", messages, "fields"),
        ("advertisements", "one", RemoteRegion, "__bytes__"),
    ],
)
def test_a_fault_is_noticed(
    target: str, name: str, owner: object, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, function, broken)
    with pytest.raises(IndexError, match="a fault"):
        TARGETS[target]((CORPUS / target / name).read_bytes())


def test_a_work_request_without_completion_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiwarp.queues.cq import CompletionQueue

    monkeypatch.setattr(CompletionQueue, "poll", lambda self, *_: [])
    with pytest.raises(AssertionError, match="completes once"):
        TARGETS["ulpdus"]((CORPUS / "ulpdus" / "writes").read_bytes())


@pytest.mark.tools
@pytest.mark.skipif(
    not importlib.util.find_spec("atheris"), reason="atheris is not here: it has no wheel for this Python"
)
def test_the_search_runs_and_tells(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "advertisements", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
    unknown = subprocess.run(
        [*command[:3], "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert unknown.returncode == 2
    assert "there is no target 'nothing'" in unknown.stderr
