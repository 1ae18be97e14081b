"""Shell completion: installed as a user would, and asked by bash itself."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.children import ENVIRONMENT, finished

BASH = shutil.which("bash")
COMMAND = Path(sys.executable).with_name("pyiwarp")

ASK = """
COMP_WORDS=({words})
COMP_CWORD=$(({count} - 1))
_pyiwarp_completion pyiwarp
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

ASKED = {
    "pyiwarp pe": ["perf"],
    "pyiwarp g": ["get"],
    "pyiwarp perf write_": ["write_bw", "write_lat"],
    "pyiwarp ping --peer ''": ["rfc", "siw"],
    "pyiwarp get --mul": ["--mulpdu"],
}


def in_shell(program: str, home: Path) -> str:
    assert BASH is not None
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = finished([BASH, "--norc", "-c", program], env={**ENVIRONMENT, "HOME": str(home), "PATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(not BASH, reason="this machine has no bash")
def test_bash_completes_once_it_is_installed(tmp_path: Path) -> None:
    told = in_shell("pyiwarp --install-completion; true", tmp_path)  # it looks which shell has called it
    assert "bash completion installed" in told
    asked = "".join(ASK.format(words=words, count=len(words.split())) + "echo ===\n" for words in ASKED)
    answers = in_shell(f"source ~/.bashrc\n{asked}", tmp_path).split("===\n")[:-1]
    assert [answer.split() for answer in answers] == list(ASKED.values())


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")])
def test_the_script_of_each_shell(shell: str, word: str) -> None:
    done = finished([str(COMMAND)], env={**ENVIRONMENT, "_PYIWARP_COMPLETE": f"source_{shell}"})
    assert done.returncode == 0
    assert word in done.stdout
    assert "pyiwarp" in done.stdout
