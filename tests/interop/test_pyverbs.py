"""The runner of rdma-core's tests: what it makes of each outcome and of what is left behind; the table and its page."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from interop.errors import InteropError
from interop.foreign.judged import Told
from interop.foreign.outcome import Outcome
from interop.pyverbs import __main__ as command
from interop.pyverbs import expected, network, page, source
from interop.pyverbs.errors import NoTests
from interop.pyverbs.expected import AT_LEAST, Passed, Skipped, Table, What, differences, faults
from interop.pyverbs.runs import Run
from interop.siw.image import cache_directory

PARSER = """
import argparse, sys


class Parser:
    def parse_args(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--dev")
        known, sys.argv[1:] = parser.parse_known_args()
        self.args = vars(known)


parser = Parser()
"""

PACKAGE = """
from args_parser import parser
from tests import test_kinds


def load_tests(loader, tests, pattern):
    tests.addTests(loader.loadTestsFromModule(test_kinds))
    return tests
"""

KINDS = """
import json, os, socket, subprocess, sys, threading, time, unittest
from pyverbs.addr import AHAttr
from pyverbs.device import Context
from args_parser import parser

KEPT = []


class Kinds(unittest.TestCase):
    def test_dies(self):
        os._exit(7)

    def test_fails(self):
        self.fail("as it should")

    def test_hangs(self):
        time.sleep(600)

    def test_part_skipped(self):
        raise unittest.SkipTest("for a reason")

    def test_passes(self):
        self.assertEqual(parser.args["dev"], "iw0")
        with Context(name="iw0") as context:
            self.assertEqual(context.query_gid(1, 0).gid[-9:], "7f00:0001")

    def test_shims(self):
        (link,) = json.loads(subprocess.check_output(["rdma", "link", "show", "-j"]))
        self.assertEqual((link["ifname"], link["port"]), ("iw0", 1))
        (shown,) = json.loads(subprocess.check_output(["ip", "-j", "addr", "show", link["netdev"]]))
        self.assertEqual(shown["addr_info"][0]["local"], "127.0.0.1")
        self.assertEqual(subprocess.check_output(["ls", "/sys/class/infiniband/iw0/device/net/"]), b"lo\\n")
        self.assertEqual(subprocess.check_output(["ls", "-d", "/"]), b"/\\n")


class Leaks(unittest.TestCase):
    def test_leaves_a_descriptor(self):
        KEPT.append(socket.socket())

    def test_leaves_a_file(self):
        KEPT.append(open(__file__))

    def test_leaves_an_object(self):
        KEPT.append(AHAttr())

    def test_leaves_a_thread(self):
        threading.Thread(target=time.sleep, args=(600,), daemon=True, name="for ever").start()


class Next(unittest.TestCase):
    def test_nothing_is_left_by_this_one(self):
        pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A package of tests in the shape of rdma-core's, with one for each outcome."""
    for name, text in {
        "run_tests.py": "",
        "args_parser.py": PARSER,
        "__init__.py": PACKAGE,
        "test_kinds.py": KINDS,
    }.items():
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / name).write_text(text)
    return tmp_path / "tests"


def test_every_outcome_is_told_and_what_is_left_behind(suite: Path, tmp_path: Path) -> None:
    run = Run(suite, limit=10.0)
    run.play(tmp_path / "lock")
    assert {told.test.rpartition(".")[2]: told.outcome.value for told in run.ran} == {
        "test_dies": "died",
        "test_fails": "failed",
        "test_hangs": "hung",
        "test_leaves_a_descriptor": "passed",
        "test_leaves_a_file": "passed",
        "test_leaves_a_thread": "passed",
        "test_leaves_an_object": "passed",
        "test_nothing_is_left_by_this_one": "passed",
        "test_part_skipped": "skipped",
        "test_passes": "passed",
        "test_shims": "passed",
    }
    details = {told.test.rpartition(".")[2]: told.detail for told in run.ran}
    assert "as it should" in details["test_fails"]
    assert "in test_hangs" in details["test_hangs"]  # where it stood
    assert details["test_part_skipped"] == "for a reason"
    assert run.left == [
        "tests.test_kinds.Leaks left descriptors: 1 socket; threads: 1 for ever; objects: 1 pyiwarp.pyverbs.addr.AHAttr"
    ]


def test_patterns_choose_tests(suite: Path, tmp_path: Path) -> None:
    run = Run(suite, ["test_kinds.Next.*", "*.test_passes"])
    run.play(tmp_path / "lock")
    assert [told.test.rpartition(".")[2] for told in run.ran] == ["test_passes", "test_nothing_is_left_by_this_one"]


def test_tests_that_cannot_be_loaded_are_not_a_run_without_tests(suite: Path, tmp_path: Path) -> None:
    (suite / "test_kinds.py").write_text("import pyverbs.no_such_module")
    with pytest.raises(NoTests, match=r"pyverbs\.no_such_module"):
        Run(suite).play(tmp_path / "lock")


@pytest.mark.skipif(not network.may_enter(), reason="a network of its own takes a privilege")
def test_the_judge_has_a_network_of_its_own(suite: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (suite / "test_kinds.py").write_text(
            "import socket, unittest\n\n\nclass A(unittest.TestCase):\n    def test_listens(self):\n"
            f"        socket.create_server(('127.0.0.1', {port})).close()\n"
        )
        run = Run(suite)
        run.play(tmp_path / "lock")
    assert [told.outcome for told in run.ran] == [Outcome.PASSED], run.ran


TABLE = Table(
    "59.0",
    (
        Passed(What.PROTOCOL, ("m.A.test_wire",)),
        Passed(What.OBJECTS, ("m.A.test_object",)),
        Passed(What.NOTHING, ("m.A.test_empty",)),
        Skipped("no datagrams", ("Create AH*",), ("m.A.test_ah",)),
        Skipped("huge pages", ("There are no *",), ("m.A.test_huge",), may_pass=True),
        Skipped("a driver", ("*",), ("test_mlx5*",), vendor=True),
    ),
)


def told(name: str, outcome: Outcome, detail: str = "", startups: int = 0) -> Told:
    """An outcome as a judge tells it."""
    return Told(f"tests.{name}", outcome, detail, {"startups": startups})


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        (told("m.A.test_wire", Outcome.PASSED, startups=2), None),
        (told("m.A.test_wire", Outcome.PASSED), "passed without MPA"),
        (told("m.A.test_wire", Outcome.SKIPPED, "not supported"), "is skipped, and passed before: not supported"),
        (told("m.A.test_wire", Outcome.FAILED, "a trace"), "failed\na trace"),
        (told("m.A.test_object", Outcome.PASSED), None),
        (told("m.A.test_object", Outcome.PASSED, startups=2), None),
        (told("m.A.test_empty", Outcome.PASSED), None),
        (told("m.A.test_empty", Outcome.HUNG), "hung"),
        (told("m.A.test_ah", Outcome.SKIPPED, "Create AH is not supported"), None),
        (told("m.A.test_ah", Outcome.SKIPPED, "no port"), "for another reason than Create AH*: no port"),
        (told("m.A.test_ah", Outcome.PASSED), "passed; in the table it is skipped: no datagrams"),
        (told("m.A.test_ah", Outcome.DIED), "died"),
        (told("m.A.test_huge", Outcome.PASSED, startups=2), None),
        (told("m.A.test_huge", Outcome.FAILED), "failed"),
        (told("test_mlx5_cq.B.test_x", Outcome.SKIPPED, "whatever"), None),
        (told("m.A.test_new", Outcome.PASSED), "the table does not have it"),
    ],
)
def test_what_is_a_fault(ran: Told, said: str | None) -> None:
    found = faults([ran], TABLE)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_test_that_is_not_there_any_more_is_a_fault() -> None:
    ran = [told("m.A.test_wire", Outcome.PASSED, startups=2)]
    assert faults(ran, TABLE) == []
    assert "there is no test m.A.test_object, which the table has" in faults(ran, TABLE, whole=True)


def test_what_another_version_does_is_told_and_no_fault() -> None:
    ran = [
        told("m.A.test_wire", Outcome.SKIPPED, "not supported"),
        told("m.A.test_ah", Outcome.PASSED),
        told("m.A.test_object", Outcome.PASSED),
        told("m.A.test_new", Outcome.PASSED),
    ]
    assert differences(ran, TABLE) == [
        "m.A.test_wire, passed in 59.0: skipped: not supported",
        "m.A.test_ah, skipped in 59.0: passed",
        "m.A.test_new, which 59.0 has not: passed",
    ]


def test_the_table_says_enough_and_the_page_says_the_same() -> None:
    table = expected.load()
    assert table.version == source.VERSION
    counts = table.counts()
    assert counts.total() >= AT_LEAST
    assert counts[What.PROTOCOL] >= 42
    assert page.PAGE.read_text() == page.text(table)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'version = "1"\npassed = []\nskipped = [{ reason = "r", said = ["*"] }]',
        'version = "1"\nskipped = []\npassed = [{ what = "luck", tests = ["a"] }]',
        'version = "1"\npassed = []\nskipped = [{ reason = "r", said = ["*"], tests = ["a"], when = "now" }]',
        'version = "1"\nskipped = []\npassed = [{ what = "objects", tests = ["a", "a"] }]',
    ],
)
def test_a_table_that_is_not_complete_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "expected.toml").write_text(text)
    with pytest.raises(InteropError):
        expected.load(tmp_path / "expected.toml")


BACKEND = """
from pathlib import Path


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = Path(directory, "pyverbs-1.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: pyverbs\\nVersion: 1\\n")
    return info.name


def build_wheel(*arguments):
    raise NotImplementedError


build_sdist = build_wheel
"""

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds nothing but this source distribution, with one test and a file that wants to lie elsewhere."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.delenv("PIP_REQUIRE_HASHES", raising=False)
    inside = {
        "backend.py": BACKEND,
        "pyproject.toml": PROJECT,
        "PKG-INFO": "Metadata-Version: 2.1\nName: pyverbs\nVersion: 1\n",
        "rdma-core/tests/run_tests.py": "that of the archive",
        "rdma-core/tests/x/../../../escaped.py": "",
    }
    with tarfile.open(index / "pyverbs-1.tar.gz", "w:gz") as tar:
        for name, text in inside.items():
            member = tarfile.TarInfo(f"pyverbs-1/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return index / "pyverbs-1.tar.gz"


def test_the_tests_are_unpacked_and_nothing_else(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PINNED", {"1": hashlib.sha256(archive.read_bytes()).hexdigest()})
    cache = tmp_path / "cache"
    directory = source.download("1", cache)
    assert (directory / "run_tests.py").read_text() == "that of the archive"
    unpacked = [file for file in cache.rglob("*") if file.is_file() and file.name != "lock"]
    assert unpacked == [directory / "run_tests.py"]
    archive.unlink()
    assert source.download("1", cache) == directory  # nothing is downloaded again


def test_another_archive_than_the_pinned_one_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PINNED", {"1": "0" * 64})
    with pytest.raises(NoTests, match="HASH"):
        source.download("1", tmp_path / "cache")
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["lock"]


def test_what_cannot_be_downloaded_is_said(archive: Path, tmp_path: Path) -> None:
    archive.unlink()
    with pytest.raises(NoTests, match="pip cannot download the source of pyverbs 1:"):
        source.download("1", tmp_path / "cache")


def test_the_command_says_what_is_at_fault_and_ends_with_a_status(suite: Path, tmp_path: Path) -> None:
    def ended(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command.app, [*words, "--tests", str(suite.parent), "--cache", str(tmp_path)])
        return done.exit_code, done.output

    status, said = ended("test_kinds.Kinds.test_fails", "test_kinds.Next.*", "--runs", "2")
    assert status == 1
    assert "run 2 of 2: 2 generic tests: 1 passed, 1 failed" in said
    assert "FAIL  test_kinds.Kinds.test_fails failed" in said
    assert "2 of 2 runs with faults" in said
    status, said = ended("test_kinds.Next.*", "*.test_part_skipped")
    assert status == 0
    assert "test_kinds.Kinds.test_part_skipped, which 59.0 has not: skipped: for a reason" in said
    (suite / "run_tests.py").unlink()
    assert ended()[0] == 2


def test_some_of_them() -> None:
    """`make pyverbs` runs all."""
    held = cache_directory().parent / "pyverbs"
    try:
        directory = source.download(source.VERSION, held)
    except NoTests as error:
        pytest.skip(str(error))
    run = Run(directory, ["test_qpex.QpExTestCase.test_qp_ex_rc_*", "test_rdmacm.CMTestCase.test_rdmacm_*sync_traffic"])
    run.play(held / "lock-7471")
    assert len(run.ran) > 12
    assert faults(run.ran, expected.load()) == []
    assert run.left == []
    assert sum(each.counts["startups"] > 0 for each in run.ran) > 10
