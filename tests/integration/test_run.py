"""`pyiwarp run` as `python`: what a program finds of itself, exit codes, errors, signals, usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.children import ENVIRONMENT, finished, first_line, started
from tests.patience import PATIENCE

PYTHON = (sys.executable,)
RUN = (sys.executable, "-m", "pyiwarp", "run")
TOLD = Path(__file__).with_name("programs") / "told.py"
# Where sys.path is compared: the directory of the package that runs the program comes last there.
ENV = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the program in each form that `python` takes."""
    for name in ("told.py", "dir/__main__.py", "package/__main__.py", "package/within.py", "package/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if name.endswith("__init__.py") else TOLD.read_text())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.py").symlink_to(tmp_path / "told.py")
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.write(TOLD, "__main__.py")
    return tmp_path


FORMS: Sequence[Sequence[str]] = [
    ("elsewhere/link.py",),
    ("dir",),
    ("archive.pyz",),
    ("-m", "package"),
    ("-mpackage.within",),
    ("-c", TOLD.read_text()),
    ("-",),
]


@pytest.mark.parametrize("form", FORMS, ids=["file", "directory", "archive", "package", "module", "code", "stdin"])
def test_a_program_finds_what_python_gives_it(place: Path, form: Sequence[str]) -> None:
    words = [*form, "argument", "-m", "--only", "-h", "--"]
    found = []
    for runner in (PYTHON, RUN):
        with TOLD.open() as stdin:
            done = finished([*runner, *words], cwd=os.fspath(place), env=ENV, stdin=stdin)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[1] == found[0]


def test_options_of_the_interpreter_are_kept(place: Path) -> None:
    flags = ("-O", "-B", "-P", "-X", "utf8")
    told = [
        finished([sys.executable, *flags, *rest, "told.py"], cwd=os.fspath(place), env=ENV).stdout
        for rest in ((), ("-m", "pyiwarp", "run"))
    ]
    assert json.loads(told[1]) == json.loads(told[0])
    assert json.loads(told[1])["flags"] == [1, True, True]


def test_modules_beside_the_caller_do_not_hide_those_of_the_library(place: Path) -> None:
    """The directory that one calls from is not the program's."""
    for name in ("socket.py", "asyncio.py"):
        (place / "elsewhere" / name).write_text("raise AssertionError('the caller has a module of this name')")
    done = finished([_command(), "run", "../package/within.py"], cwd=os.fspath(place / "elsewhere"), env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def _command() -> str:
    """The `pyiwarp` command beside this Python."""
    return os.fspath(Path(sys.executable).with_name("pyiwarp"))


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-file.py",),
        ("-m", "no_such_module"),
        ("-m", "package.no_such_module"),
        ("-m", "json"),
        ("empty",),
        ("-c", "import sys; sys.exit(5)"),
        ("-c", "import sys; sys.exit(130)"),
        ("-c", "import sys; sys.exit('a last word')"),
        ("-c", "def fail(): raise OSError(2, 'a word')\nfail()"),
        ("-c", "raise BrokenPipeError"),
        ("-c", "1 +"),
        ("broken.py",),
        ("-c", "import threading, time; threading.Timer(0.2, print, ['a thread']).start()"),
        ("-c", "import atexit; atexit.register(print, 'at exit')"),
        ("-c", "import os; os.kill(os.getpid(), 15)"),
        ("-c", "raise KeyboardInterrupt"),
    ],
    ids=str,
)
def test_ends_and_errors_are_those_of_python(tmp_path: Path, words: Sequence[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "broken.py").write_text("import json\njson.loads('{')\n")
    plain, over = (finished([*runner, *words], cwd=os.fspath(tmp_path), env=ENVIRONMENT) for runner in (PYTHON, RUN))
    assert (over.returncode, over.stdout, over.stderr) == (plain.returncode, plain.stdout, plain.stderr)


TELL_WHEN_AT_REST = """
import socket, sys, threading, time
def watch(main=threading.get_ident()):
    looks = []
    while len(looks) < 10 or len(set(looks[-10:])) > 1:
        time.sleep(0.02)
        frame = sys._current_frames()[main]
        looks.append((id(frame), frame.f_lasti))
    print("begun", flush=True)
threading.Thread(target=watch, daemon=True).start()
"""
"""On its way there the program also calls the audit hooks of `pyiwarp run`, which are lines of a traceback then."""


@pytest.mark.parametrize("waiting", ["time.sleep(600)", "socket.create_server(('127.0.0.1', 0)).accept()"])
def test_ctrl_c_ends_it_as_it_ends_python(waiting: str) -> None:
    code = TELL_WHEN_AT_REST + waiting
    with started([*RUN, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert first_line(child) == "begun\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGINT, errors
    assert errors.endswith("KeyboardInterrupt\n")
    assert "pyiwarp/run" not in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "there is no program"),
        (("--only", "8000", "program.py"), "'8000' is no place"),
        (("--only", "host:70000", "program.py"), "'host:70000' is no place"),
        (("--only", ":", "program.py"), "':' is no place"),
        (("--peer", "nobody", "program.py"), "no peer profile is called 'nobody'"),
        (("-m",), "requires an argument"),
        (("--nothing", "program.py"), "No such option"),
    ],
    ids=str,
)
def test_usage_errors(words: Sequence[str], said: str) -> None:
    done = finished([*RUN, *words], env=ENVIRONMENT)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
