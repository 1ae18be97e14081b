"""`import pyverbs` as `pyiwarp.pyverbs`: by `install`, by `pyiwarp run --pyverbs`; what is said, and to whom."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.children import COMMAND, ENVIRONMENT, finished, python_path

PROGRAM = """
import sys
import pyverbs, pyverbs.device as device
from pyverbs import pd
from pyverbs.providers.mlx5 import mlx5dv
import pyiwarp.pyverbs.device, pyiwarp.pyverbs.pd

assert device is pyiwarp.pyverbs.device is pyverbs.device is sys.modules["pyverbs.device"]
assert pd is pyiwarp.pyverbs.pd
assert pyverbs is pyiwarp.pyverbs
assert (device.__name__, device.__spec__.name) == ("pyiwarp.pyverbs.device", "pyiwarp.pyverbs.device")
with device.Context(name="iw0") as context:
    print(context.query_device().max_qp, *sys.argv[1:])
"""


def _python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    more = {} if path is None else {"PYTHONPATH": python_path(path)}
    return finished([sys.executable, "-c", code], env={**ENVIRONMENT, **more})


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return finished([*COMMAND, "run", "--pyverbs", *words], env={**ENVIRONMENT, **environment})


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A directory with a pyverbs that is not this project's."""
    package = tmp_path / "site" / "pyverbs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "device.py").write_text("print('that of the device')\n")
    return package.parent


def test_the_modules_are_the_same_objects(tmp_path: Path) -> None:
    done = _python(f"from pyiwarp import pyverbs\npyverbs.install()\npyverbs.install()\n{PROGRAM}")
    assert (done.returncode, done.stdout) == (0, "65536\n"), done.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    done = _run(os.fspath(tmp_path / "program.py"), "and", "--its=arguments")
    assert (done.returncode, done.stdout) == (0, "65536 and --its=arguments\n"), done.stderr
    assert done.stderr == "pyiwarp run: pyverbs is pyiwarp.pyverbs; there is no other\n"


def test_nothing_is_said_if_pyverbs_is_not_imported() -> None:
    done = _run("-c", "print('done')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_another_pyverbs_is_hidden_in_that_process_alone(other: Path) -> None:
    assert _python("import pyiwarp.pyverbs, pyverbs.device", path=other).stdout == "that of the device\n"
    done = _run("-c", "import pyverbs.device as d; print(d.__name__)", PYTHONPATH=python_path(other))
    assert done.stdout == "pyiwarp.pyverbs.device\n", done.stderr
    assert f"pyverbs is pyiwarp.pyverbs; the one at {other / 'pyverbs' / '__init__.py'} is not used" in done.stderr


def test_a_module_that_only_the_other_one_has_is_not_found(other: Path) -> None:
    (other / "pyverbs" / "own.py").write_text("")
    done = _run("-c", "import pyverbs.own", PYTHONPATH=python_path(other))
    assert done.returncode == 1
    assert "ModuleNotFoundError: pyiwarp's pyverbs has no module 'pyverbs.own'" in done.stderr


def test_install_does_not_replace_what_is_imported_already(other: Path) -> None:
    done = _python("import pyverbs.device\nfrom pyiwarp import pyverbs\npyverbs.install()", path=other)
    assert done.returncode == 1
    where = other / "pyverbs" / "__init__.py"
    assert f"UsageError: another pyverbs is imported already, from {where}: install before that" in done.stderr


def test_sockets_of_the_program_stay_tcp() -> None:
    code = "import socket; print(type(socket.create_server(('127.0.0.1', 0))).__module__)"
    done = _run("-c", code)
    assert (done.stdout, done.stderr) == ("socket\n", "")


def test_a_forked_child_has_it_and_another_program_is_named() -> None:
    code = """
import multiprocessing, subprocess, sys


def child():
    import pyverbs.device
    print(pyverbs.device.__name__, flush=True)


forked = multiprocessing.get_context("fork").Process(target=child)
forked.start()
forked.join()
subprocess.run([sys.executable, "-c", "import importlib.util as u; print(u.find_spec('pyverbs'))"], check=True)
"""
    done = _run("-c", code)
    assert done.stdout == "pyiwarp.pyverbs.device\nNone\n", done.stderr
    assert f"not replaced: pyverbs in another process, {sys.executable}" in done.stderr


def test_the_peer_s_profile_is_what_the_device_uses() -> None:
    code = "import pyverbs; from pyiwarp.pyverbs.opened import peer_profile; print(peer_profile().name)"
    assert _run("-c", code).stdout == "rfc\n"
    assert _run("--peer", "siw", "-c", code).stdout == "siw\n"
    assert _run("-c", code, PYIWARP_VERBS_PEER="siw").stdout == "siw\n"


@pytest.mark.parametrize("words", [("--check",), ("--only", ":7471"), ("--no-crc",)])
def test_options_of_sockets_do_not_go_with_it(words: Sequence[str]) -> None:
    done = _run(*words, "-c", "pass")
    assert done.returncode == 2
    assert "--pyverbs replaces no sockets" in done.stderr
