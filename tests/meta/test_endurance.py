"""The program that repeats the suite under other circumstances makes them, and tells what each run gave."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import endurance

pytestmark = pytest.mark.tools

ONE_PASSES = "def test_it():\n    pass\n"
PROBES = {
    "sigint": "import signal\n\ndef test_it():\n    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN\n",
    "one-cpu": "import os\n\ndef test_it():\n    assert os.sched_getaffinity(0) == {0}\n",
    "hash-4711": "import os\n\ndef test_it():\n    assert os.environ['PYTHONHASHSEED'] == '4711'\n",
    "tmpfs": "def test_it(tmp_path):\n    assert str(tmp_path).startswith('/dev/shm/')\n",
    "no-ipv6": (
        "import socket\nimport pytest\n\ndef test_it():\n    socket.create_server(('127.0.0.1', 0)).close()\n"
        "    with pytest.raises(OSError), socket.socket(socket.AF_INET6) as other:\n        other.bind(('::1', 0))\n"
    ),
}


def run(name: str, text: str, place: Path) -> endurance.Run:
    file = place / "test_it.py"
    file.write_text(text)
    return endurance.run(name, 7, [str(file)], place / "log")


@pytest.mark.parametrize("name", PROBES)
def test_the_circumstance_is_made(name: str, tmp_path: Path) -> None:
    if why := endurance.lacking(endurance.CIRCUMSTANCES[name]):
        pytest.skip(why)
    done = run(name, PROBES[name], tmp_path)
    assert done.good, (tmp_path / "log").read_text()
    assert re.fullmatch(r"1 passed in .*s", done.said)


def test_the_table_tells_what_each_run_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(ONE_PASSES)
    logs = ["--logs", str(tmp_path / "logs")]
    assert endurance.main(["shuffled", "--times", "2", "--seed", "7", "--tests", str(file), *logs]) == 0
    table = capsys.readouterr().out.partition("\nrun ")[2].splitlines()[1:]
    assert [line.split()[:2] for line in table] == [["shuffled", "7"], ["shuffled", "8"]]
    assert all("1 passed" in line for line in table)
    file.write_text("def test_it():\n    assert False\n")
    assert endurance.main(["load", "--times", "1", "--tests", str(file), *logs]) == 1
    assert "1 failed" in capsys.readouterr().out


def test_a_circumstance_that_is_not_allowed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forbidden = endurance.Circumstance(what="", before=("false",))
    monkeypatch.setattr(endurance, "CIRCUMSTANCES", {"forbidden": forbidden})
    done = run("forbidden", ONE_PASSES, tmp_path)
    assert done.said.startswith("cannot be made here: ")
    assert not (tmp_path / "log").exists()
