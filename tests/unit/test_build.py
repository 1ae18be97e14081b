"""Which build is tested: all hot modules are pure, or all are compiled, and the compiled build says what it needs."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path

import pytest

from tests.children import ENVIRONMENT, finished

SETUP = Path(__file__).parents[2] / "setup.py"
COMPILED = (".so", ".pyd")


def hot_modules() -> list[str]:
    """Those that `setup.py` compiles."""
    for node in ast.parse(SETUP.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT":
            return ["pyiwarp." + path.replace("/", ".") for path in ast.literal_eval(node.value)]
    raise AssertionError("setup.py names them in HOT")


def test_the_tests_run_with_one_build_and_with_the_one_that_is_meant() -> None:
    """`.ci/compiled` sets PYIWARP_BUILD: nothing pure may stand in for what is compiled there."""
    compiled = {name: str(importlib.import_module(name).__file__).endswith(COMPILED) for name in hot_modules()}
    assert {"pyiwarp.drivers.asyncio_driver", "pyiwarp.drivers.polling_driver"} <= compiled.keys()
    meant = os.environ.get("PYIWARP_BUILD")
    wanted = meant == "compiled" if meant else compiled["pyiwarp.engine.stream"]
    assert [name for name, found in compiled.items() if found is not wanted] == []


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is found in another way there")
@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("sysconfig.get_path = lambda name: '/nonexistent/include'", "python3-dev"),
        ("os.environ['CC'] = '/nonexistent/cc -pthread'", "gcc"),
    ],
    ids=["headers", "compiler"],
)
def test_a_build_that_cannot_compile_says_what_to_install(missing: str, package: str) -> None:
    pytest.importorskip("setuptools", reason="an installation needs it, running does not")
    program = (
        f"import os, runpy, sys, sysconfig; {missing}; sys.argv = ['setup.py', '--name']; runpy.run_path('setup.py')"
    )
    done = finished(
        [sys.executable, "-c", program], cwd=SETUP.parent, env={**ENVIRONMENT, "PYIWARP_COMPILE": "1"}, timeout=60.0
    )
    assert done.returncode == 1
    assert "/nonexistent/" in done.stderr
    assert f"apt-get install {package}" in done.stderr
