"""A test that does not end is stopped at its limit and named, wherever it hangs; the tests after it are still run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[2]
PATIENCE = 240

CONFTEST = """
from tests import limits
from tests.limits import *

limits.AGAIN, limits.LAST = 3.0, {last}
"""

START = """
import asyncio, contextlib, ctypes, subprocess, sys, threading, time
import pytest
"""

# Each test hangs in another place; behind it is what its report must show.
HANGS = {
    "test_in_a_thread": (
        """
def test_in_a_thread():
    def never_ends():
        while True:
            time.sleep(0.1)
    thread = threading.Thread(target=never_ends, name="the-one-that-stays", daemon=True)
    thread.start()
    thread.join()
""",
        ("thread the-one-that-stays", "in never_ends"),
    ),
    "test_in_an_await": (
        """
async def test_in_an_await():
    async def nobody_sets_it():
        await asyncio.Event().wait()
    await asyncio.create_task(nobody_sets_it(), name="the-waiting-task")
""",
        ("task the-waiting-task", "in nobody_sets_it", "in wait"),
    ),
    "test_in_an_await_on_uvloop": (
        """
import uvloop

def test_in_an_await_on_uvloop():
    async def nobody_sets_it():
        await asyncio.Event().wait()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(nobody_sets_it())
""",
        ("in nobody_sets_it", "in wait"),
    ),
    "test_at_a_lock": (
        """
def test_at_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
""",
        ("thread MainThread", "lock.acquire()"),
    ),
    "test_waiting_for_a_process": (
        """
def test_waiting_for_a_process():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]):
        pass
""",
        ("in test_waiting_for_a_process", "subprocess.py"),
    ),
    "test_and_catches_everything": (
        """
def test_and_catches_everything():
    for _ in range(2):
        with contextlib.suppress(BaseException):
            time.sleep(3600)
""",
        ("in test_and_catches_everything",),
    ),
    "test_in_a_fixture": (
        """
@pytest.fixture
def slow():
    yield
    threading.Event().wait()

def test_in_a_fixture(slow):
    pass
""",
        ("in slow",),
    ),
}

NO_SIGNAL_ENDS = """
def test_hangs():
    c, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)  # no signal ends this wait
"""

ANSWERS_TO_NOTHING = """
def test_hangs():
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(3600)
"""

AFTER = """
def test_afterwards():
    pass
"""


def run(place: Path, text: str, *options: str, last: float = 120.0) -> subprocess.CompletedProcess[str]:
    (place / "conftest.py").write_text(CONFTEST.format(last=last))
    (place / "test_it.py").write_text(START + text + AFTER)
    (place / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=1", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_hung_tests_name_themselves_and_the_next_ones_are_run(options: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, "".join(text for text, _ in HANGS.values()), *options)
    assert done.returncode == 1, done.stdout + done.stderr
    told = re.split(r"test_it.py::(\w+) has not ended after 1 seconds", done.stdout)
    stacks = dict(zip(told[1::2], told[2::2], strict=True))
    assert stacks.keys() == HANGS.keys()
    for name, (_, shown) in HANGS.items():
        for piece in shown:
            assert piece in stacks[name], done.stdout
    # the fixture hangs behind a test that has passed
    assert f"{len(HANGS) - 1} failed, 2 passed, 1 error" in done.stdout
    assert not left_in(tmp_path)


@pytest.mark.parametrize("text", [NO_SIGNAL_ENDS, ANSWERS_TO_NOTHING], ids=["no signal", "no exception"])
def test_what_nothing_else_ends_is_ended_with_its_process(text: str, tmp_path: Path) -> None:
    done = run(tmp_path, text, last=5.0)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in test_hangs" in done.stderr


def test_xdist_names_it_and_goes_on(tmp_path: Path) -> None:
    done = run(tmp_path, NO_SIGNAL_ENDS, "-n", "1", last=5.0)
    assert done.returncode == 1
    assert "crashed while running 'test_it.py::test_hangs'" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_process_that_outlives_its_module_is_ended_and_told(tmp_path: Path) -> None:
    text = 'def test_leaves():\n    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])\n'
    done = run(tmp_path, text, "-W", "ignore")
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "processes outlive the tests of test_it.py" in done.stdout
    assert "time.sleep(3600)" in done.stdout
    assert not left_in(tmp_path)


def test_a_mark_gives_another_limit(tmp_path: Path) -> None:
    text = "@pytest.mark.timeout(60)\ndef test_is_slow():\n    time.sleep(1.5)\n"
    done = run(tmp_path, text)
    assert done.returncode == 0, done.stdout


def left_in(place: Path) -> list[str]:
    """The processes that still run in this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cwd").readlink() == place:
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found
