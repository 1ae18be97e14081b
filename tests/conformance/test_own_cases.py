"""`--cases`: a file of the user's own, the page that shows one, and the comments that cases leave in a capture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from pyiwarp.conformance.case import REGISTRY
from pyiwarp.conformance.catalogue import cases, load_cases, select
from pyiwarp.errors import UsageError
from tests.children import finished, first_line, started
from tests.patience import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "own-cases.md").read_text(encoding="utf-8")
HEAD = "from pyiwarp.conformance.case import case\n"
ONE = '''
@case("{id}", "a title"{more})
async def one(bench):
    """Something. Accepts: anything."""
'''


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The package's cases alone, before and after."""
    kept = {case.id: case for case in cases()}
    yield
    REGISTRY.clear()
    REGISTRY.update(kept)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The file that the page shows."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "acme.py"
    file.write_text(block, encoding="utf-8")
    return file


def conform(*words: str) -> subprocess.CompletedProcess[str]:
    return finished([sys.executable, "-m", "pyiwarp", "conform", *words], timeout=2 * PATIENCE)


def test_the_example_of_the_page_runs(example: Path, tmp_path: Path) -> None:
    capture = tmp_path / "acme.pcapng"
    with started([sys.executable, "-m", "pyiwarp", "target", "--port", "0", "--json"], stdout=subprocess.PIPE) as peer:
        place = f"127.0.0.1:{json.loads(first_line(peer))['port']}"
        chosen = ["--only", "acme-*", "--only", "MPA-5044-8-10", "--pcapng", str(capture)]
        done = conform(place, "--cases", str(example), *chosen, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    results = {result["id"]: result for result in json.loads(done.stdout)["results"]}
    assert [*results] == ["MPA-5044-8-10", "acme-1"]
    assert results["acme-1"]["verdict"] == "passed"
    assert results["acme-1"]["group"] == "own cases"
    with capture.open("rb") as file:
        packets = [block for block in FileScanner(file) if isinstance(block, EnhancedPacket)]
    comments = [str(packet.options["opt_comment"]) for packet in packets if "opt_comment" in packet.options]
    assert [comment.split()[0] for comment in comments] == ["MPA-5044-8-10", "acme-1"]


def test_an_own_case_is_listed_with_its_rule(example: Path) -> None:
    done = conform("--list", "--cases", str(example), "--only", "acme-1", "--json")
    (listed,) = json.loads(done.stdout)
    assert listed["clause"].startswith("Acme's data sheet, item 7")
    assert listed["sends"] == "A hundred Reads of zero octets, four at a time."


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = (", "SyntaxError"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
        (HEAD, "registers no case"),
        (HEAD + ONE.format(id="acme-1", more=""), "rule="),
        (HEAD + ONE.format(id="MPA-5044-4.1-03", more=", rule='x'"), "two cases"),
        (HEAD + ONE.format(id=" ", more=", rule='x'"), "has an id"),
    ],
)
def test_a_file_that_is_no_good_is_refused_and_leaves_nothing(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text, encoding="utf-8")
    before = [*REGISTRY]
    with pytest.raises(UsageError, match=re.escape(complaint)):
        load_cases(file)
    assert [*REGISTRY] == before


def test_a_file_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = conform("--list", "--cases", str(tmp_path / "none.py"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "none.py" in done.stderr


def test_a_second_case_of_a_requirement_needs_no_rule(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + ONE.format(id="MPA-5044-4.1-03/77", more=""), encoding="utf-8")
    (mine,) = load_cases(file)
    assert mine.group == "MPA (RFC 5044)"
    assert select(["MPA-5044-4.1-03/77"]) == [mine]
