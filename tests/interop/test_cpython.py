"""The runner of CPython's own tests: what it makes of each outcome, and a part of them over iWARP."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.cpython import expected, page, source
from interop.cpython.errors import NoTests
from interop.cpython.expected import Expected, Ran, faults
from interop.cpython.runs import Module
from interop.cpython.suites import SUITES
from interop.errors import InteropError
from interop.foreign.judged import LIMIT
from interop.foreign.outcome import Outcome

TESTS = """
import os, socket, time, unittest


class A(unittest.TestCase):
    def test_connects(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass

    def test_dies(self):
        os._exit(7)

    def test_fails(self):
        self.fail("as it should")

    def test_hangs(self):
        time.sleep(600)

    def test_passes(self):
        pass

    def test_part_fails(self):
        with self.subTest("a part"):
            self.fail("in a part")

    @unittest.skip("for a reason")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_unexpected(self):
        pass


class B(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no fixture")

    def test_never_begun(self):
        pass


class C(unittest.TestCase):
    def test_last(self):
        pass
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A directory with a module of tests, one for each outcome."""
    (tmp_path / "test_of_each_kind.py").write_text(TESTS)
    return tmp_path


def test_every_outcome_is_told_and_a_test_that_hangs_costs_itself_alone(beside: Path) -> None:
    ran = {each.test.rpartition(".")[2]: each for each in Module("test_of_each_kind", (), "tcp", beside, 5.0).run()}
    assert {name: each.outcome.value for name, each in ran.items()} == {
        "test_connects": "passed",
        "test_dies": "died",
        "test_fails": "failed",
        "test_hangs": "hung",
        "test_last": "passed",
        "test_never_begun": "failed",
        "test_part_fails": "failed",
        "test_passes": "passed",
        "test_skipped": "skipped",
        "test_unexpected": "failed",
    }
    assert "as it should" in ran["test_fails"].detail
    assert "in a part" in ran["test_part_fails"].detail
    assert "no fixture" in ran["test_never_begun"].detail
    assert "in test_hangs" in ran["test_hangs"].detail  # where it stood
    assert ran["test_skipped"].detail == "for a reason"
    assert (ran["test_connects"].plain, ran["test_connects"].accepted, ran["test_connects"].streams) == (1, 1, 0)
    assert (ran["test_passes"].plain, ran["test_passes"].accepted) == (0, 0)


def test_classes_are_chosen(beside: Path) -> None:
    assert [each.test for each in Module("test_of_each_kind", ("C",), "tcp", beside).run()] == [
        "test.test_of_each_kind.C.test_last"
    ]


def test_a_module_that_is_not_there_is_not_a_run_without_tests(beside: Path) -> None:
    with pytest.raises(NoTests, match="no_such_module"):
        list(Module("no_such_module", (), "tcp", beside).run())


FAILS = Expected(("m.A.test_*",), Outcome.FAILED, "a reason", ("iwarp",))


@pytest.mark.parametrize(
    ("ran", "entries", "over", "said"),
    [
        (Ran("test.m.A.test_x", Outcome.PASSED, accepted=1, streams=2), [], "iwarp", None),
        (Ran("test.m.A.test_x", Outcome.FAILED), [FAILS], "iwarp", None),
        (Ran("test.m.A.test_x", Outcome.FAILED), [FAILS], "tcp", "failed; expected: passed"),
        (Ran("test.m.A.test_x", Outcome.PASSED), [FAILS], "iwarp", "passed; expected: failed, a reason"),
        (Ran("test.m.A.test_x", Outcome.HUNG), [FAILS], "iwarp", "hung; expected: failed, a reason"),
        (Ran("test.m.A.test_x", Outcome.SKIPPED), [], "tcp", "skipped; expected: passed"),
        (Ran("test.m.A.test_x", Outcome.PASSED, plain=1), [], "iwarp", "asked for 1 TCP connections"),
        (Ran("test.m.A.test_x", Outcome.PASSED, plain=1, accepted=1), [], "tcp", None),
        (Ran("test.m.A.test_x", Outcome.PASSED, accepted=1), [], "iwarp", "no MPA was spoken"),
    ],
)
def test_what_is_a_fault(ran: Ran, entries: list[Expected], over: str, said: str | None) -> None:
    found = faults([ran], entries, over)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_an_entry_of_which_no_test_is_left_is_a_fault() -> None:
    """A name that CPython has changed must not stay in the list."""
    whole = Expected(("m.A.test_gone",), Outcome.FAILED, "a reason", ("iwarp",))
    assert faults([], [whole], "iwarp", whole=True) == ["no test is m.A.test_gone, which is expected: failed, a reason"]
    assert faults([], [whole], "iwarp") == []


@pytest.mark.parametrize(
    "entry",
    [
        'tests = ["a"]\noutcome = "failed"',
        'tests = ["a"]\noutcome = "failed"\nreason = "r"\nwhen = "now"',
        'tests = ["a"]\noutcome = "passed"\nreason = "r"',
        'tests = ["a"]\noutcome = "failed"\nreason = "r"\nover = ["udp"]',
        'tests = ["a"]\noutcome = "failed"\nreason = "r"\npythons = "3.12"',
    ],
)
def test_an_entry_that_is_not_complete_is_an_error(tmp_path: Path, entry: str) -> None:
    (tmp_path / "expected.toml").write_text(f"[[expected]]\n{entry}\n")
    with pytest.raises(InteropError):
        expected.load(tmp_path / "expected.toml")


def test_the_page_counts() -> None:
    ran = [Ran("test.m.A.test_x", Outcome.PASSED, streams=2), Ran("test.m.A.test_y", Outcome.FAILED)]
    both = {"tcp": [Ran(each.test, Outcome.PASSED) for each in ran], "iwarp": ran}
    text = page.text(both, [FAILS])
    assert "| m.A | 2 | 2 | 1 | 1 | 1 |\n| all | 2 | 2 | 1 | 1 | 1 |\n" in text
    assert "| `m.A.test_*` | failed | iWARP | a reason |" in text


@pytest.mark.parametrize(
    ("module", "classes"),
    [
        ("test_socket", ("BasicTCPTest", "NonBlockingTCPTests", "ContextManagersTest")),
        ("test_asyncio.test_sendfile", ("SelectEventLoopTests",)),
    ],
)
def test_some_of_them_over_iwarp(module: str, classes: tuple[str, ...]) -> None:
    """`make cpython` runs all."""
    try:
        beside = source.find()
    except NoTests as error:
        pytest.skip(str(error))
    assert set(classes) <= set(SUITES[module] or classes)
    ran = list(Module(module, classes, "iwarp", beside, LIMIT).run())
    assert len(ran) > 15
    assert faults(ran, expected.load(), "iwarp") == []
    assert sum(each.streams > 0 for each in ran) > 10
