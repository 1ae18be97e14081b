"""Ctrl-C while the command is still being imported: it ends at once, and says nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ENVIRONMENT, first_line, python_path, started
from tests.patience import PATIENCE

SLOW = '''
"""Stands for a slow disk: the import of a module that the command needs waits here."""
import os, time
os.write(1, b"importing\\n")
time.sleep(60)
'''


@pytest.mark.parametrize("start", [["-m", "pyiwarp"], ["-c", "from pyiwarp.__main__ import main; main()"]])
def test_an_interrupted_import_is_silent(start: list[str], tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(SLOW)
    environment = {**ENVIRONMENT, "PYTHONPATH": python_path(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with started([sys.executable, *start, "info"], **pipes) as child:
        assert first_line(child) == "importing\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)
        assert (child.returncode, errors) == (130, "")
