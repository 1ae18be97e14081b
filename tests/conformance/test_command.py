"""`pyiwarp conform` as a user runs it: two processes, exit codes, report files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from pyiwarp.cli import app
from tests.children import finished, first_line, started
from tests.hosts import closed_port
from tests.patience import PATIENCE

STARTED = 20_000  # octets of capture after which some cases have run, and most have not
SOME = [word for name in ("8-02", "8-07", "8-10", "9.2-14", "9.2-15", "9.2-17") for word in ("--only", f"*-{name}*")]
TSHARK = shutil.which("tshark")


def pyiwarp(*words: str) -> subprocess.CompletedProcess[str]:
    return finished([sys.executable, "-m", "pyiwarp", *words], timeout=2 * PATIENCE)


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[str, str]]:
    """Ports of a target program in a process of its own: MPA and control."""
    command = [sys.executable, "-m", "pyiwarp", "target", "--port", "0", "--json"]
    with started(command, stdout=subprocess.PIPE) as process:
        facts = json.loads(first_line(process))
        yield str(facts["port"]), str(facts["control"])


def test_a_good_peer(target: tuple[str, str], tmp_path: Path) -> None:
    xml = tmp_path / "report.xml"
    done = pyiwarp("conform", "127.0.0.1", target[0], "--control", target[1], *SOME, "--junit", str(xml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing failed" in done.stdout
    assert "MPA enhanced startup (RFC 6581)" in done.stdout
    assert not [*ElementTree.parse(xml).iter("failure")]


def test_a_good_peer_that_connects(target: tuple[str, str]) -> None:
    done = pyiwarp("conform", "--listen", "0", "--control", f"127.0.0.1:{target[1]}", *SOME, "--json", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["direction"] == "listen"
    assert report["counts"]["passed"] >= 5


def test_bare_cases_run_without_a_target_program(target: tuple[str, str]) -> None:
    done = pyiwarp("conform", "127.0.0.1", target[0], *SOME, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["level"] == "bare"


def test_a_profile_that_is_wrong_about_the_peer(target: tuple[str, str], tmp_path: Path) -> None:
    profile = tmp_path / "wrong.toml"
    profile.write_text('[[deviation]]\ncases = ["MPA-5044-8-02"]\nreason = "it overlooks CRCs"\n')
    done = pyiwarp("conform", "127.0.0.1", target[0], "--only", "MPA-5044-8-02", "--profile", str(profile))
    assert done.returncode == 1
    assert "the profile is out of date" in done.stdout
    assert "clause    RFC 5044 §8 (MUST)" in done.stdout


@pytest.mark.skipif(
    TSHARK is None and not os.environ.get("CI"), reason="tshark (Debian's package of that name) is not installed"
)
def test_the_capture_is_read_by_wireshark(target: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    done = pyiwarp("conform", "127.0.0.1", target[0], "--only", "MPA-5044-8-02", "--pcapng", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert TSHARK is not None, "in CI tshark is installed before the tests run"
    shown = finished([TSHARK, "-r", str(file)]).stdout
    assert "MPA" in shown
    assert "Terminate" in shown


def test_ctrl_c_ends_the_run_with_what_is_known(target: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    words = ("conform", "127.0.0.1", target[0], "--control", target[1], "--json", "--pcapng", str(file))
    command = [sys.executable, "-m", "pyiwarp", *words]
    with started(command, stdout=subprocess.PIPE) as process:
        end = time.monotonic() + PATIENCE
        while not (file.exists() and file.stat().st_size > STARTED) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    report = json.loads(output)
    assert report["abandoned"] == "interrupted"
    assert report["results"]


def test_ctrl_c_while_no_client_has_come() -> None:
    command = [sys.executable, "-m", "pyiwarp", "conform", "--listen", "0", "--patience", "600", "--json"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert "waiting for a peer at port" in first_line(process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert json.loads(output)["abandoned"] == "interrupted"


def test_off_a_terminal_each_verdict_is_a_line(target: tuple[str, str]) -> None:
    done = pyiwarp("conform", f"127.0.0.1:{target[0]}", *SOME)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if "MPA-5044-8-02 " in line]
    assert len(lines) == 1
    assert "passed" in lines[0]
    assert "skipped" not in done.stderr


def test_json_alone_is_on_standard_output(target: tuple[str, str]) -> None:
    done = pyiwarp("conform", f"127.0.0.1:{target[0]}", *SOME, "--json")
    assert json.loads(done.stdout)["passed"]


def test_fail_fast(target: tuple[str, str], tmp_path: Path) -> None:
    profile = tmp_path / "wrong.toml"
    profile.write_text('[[deviation]]\ncases = ["MPA-5044-8-02"]\nreason = "it overlooks CRCs"\n')
    words = ("conform", f"127.0.0.1:{target[0]}", "--only", "MPA-5044-8-02", "--profile", str(profile), "--json")
    assert len(json.loads(pyiwarp(*words).stdout)["results"]) == 2
    done = pyiwarp(*words, "--fail-fast")
    assert done.returncode == 1
    assert [result["verdict"] for result in json.loads(done.stdout)["results"]] == ["failed"]


def test_a_closed_port_ends_with_2(tmp_path: Path) -> None:
    xml = tmp_path / "report.xml"
    with closed_port() as port:
        done = pyiwarp("conform", "127.0.0.1", str(port), "--timeout", "1", "--junit", str(xml))
    assert done.returncode == 2
    assert "nothing listens there" in done.stdout
    assert [*ElementTree.parse(xml).iter("error")]


def test_the_list() -> None:
    result = CliRunner().invoke(app, ["conform", "--list", "--only", "MPA-5044-8-02"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 2
    assert lines[0].split()[:4] == ["MPA-5044-8-02", "bare", "both", "MUST"]


def test_the_list_as_json_and_by_level() -> None:
    result = CliRunner().invoke(app, ["conform", "--list", "--json", "--level", "bare", "--only", "MPA-5044-4.1"])
    assert result.exit_code == 0
    listed = json.loads(result.output)
    assert {each["level"] for each in listed} == {"bare"}
    first = next(each for each in listed if each["id"] == "MPA-5044-4.1-01")
    assert first["directions"] == ["connect", "listen"]
    assert first["sends"] == "Ten Reads of zero octets, one after the other."
    assert first["accepts"] == "ten Read Responses of 20 octets each, one after the other."
    everything = json.loads(CliRunner().invoke(app, ["conform", "--list", "--json"]).output)
    assert {each["level"] for each in everything} == {"bare", "rping", "target"}


def test_without_docstrings_the_cases_are_the_same() -> None:
    done = finished([sys.executable, "-OO", "-m", "pyiwarp", "conform", "--list", "--json"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(CliRunner().invoke(app, ["conform", "--list", "--json"]).output)


def test_a_profile_of_the_wrong_shape_is_one_line(tmp_path: Path) -> None:
    profile = tmp_path / "bad.toml"
    profile.write_text('[[deviation]]\ncases = ["*"]\nreason = 5\n')
    done = pyiwarp("conform", "127.0.0.1:1", "--profile", str(profile))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "reason" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("localhost",),
        ("localhost:1", "2"),
        ("localhost:0",),
        ("localhost:1/path",),
        ("localhost:1", "--listen", "2"),
        ("localhost", "1", "--listen", "2"),
        ("localhost", "1", "--level", "target"),
        ("localhost", "1", "--control", "nowhere"),
        ("localhost", "1", "--only", "MPA-9999"),
        ("localhost", "1", "--profile", "/no/such/file"),
        ("localhost", "1", "--timeout", "0"),
        ("--listen", "65536"),
    ],
)
def test_usage_errors(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["conform", *words])
    assert result.exit_code == 2
    assert "Usage" in result.output
