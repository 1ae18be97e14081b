"""The build: `pyproject.toml` describes it all, but for the compiled one, which is asked for by PYIWARP_COMPILE=1.

The same Python sources are then compiled by mypyc, those that each message passes through; nothing else differs, and
the pure package stays the reference. See docs/performance.md for what it gives.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
import tomllib
from pathlib import Path

from setuptools import setup

HOT = (
    "buffers",
    "ddp",
    "drivers/asyncio_driver",
    "drivers/polling_driver",
    "engine/fast_receive",
    "engine/packing",
    "engine/responses",
    "engine/sending",
    "engine/stream",
    "extent",
    "fastwire",
    "memory/paged",
    "mpa",
    "mr",
    "queues/checks",
    "queues/confirming_sq",
    "queues/cq",
    "queues/fast_post",
    "queues/qp",
    "queues/qp_pump",
    "queues/request_kinds",
    "queues/rq",
    "queues/sq",
    "rdmap",
)
"""The modules that are compiled: from the work request to the FPDU and back. Values and programs are not."""


def needs() -> list[str]:
    """What mypyc takes to read the types: itself, a part of mypy, and all that the package imports."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    typed = [need for need in project["optional-dependencies"]["test"] if need.startswith(("mypy", "construct-typing"))]
    return [*project["dependencies"], *typed]


def check_tools() -> None:
    """Compiling needs a C compiler and the headers of this Python; ends the build with what to install."""
    if os.name == "nt":  # setuptools looks for Microsoft's, which are no commands of PATH
        return
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise SystemExit(f"PYIWARP_COMPILE=1: there is no {header}; on Debian: apt-get install python3-dev")
    compiler = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))[0]
    if shutil.which(compiler) is None:
        raise SystemExit(
            f"PYIWARP_COMPILE=1: there is no C compiler {compiler!r}; on Debian: apt-get install gcc libc6-dev"
        )


if os.environ.get("PYIWARP_COMPILE") != "1":
    setup()
else:
    check_tools()
    try:
        from mypyc.build import mypycify
    except ImportError:  # the build asks what it needs before it has it
        setup(setup_requires=needs())
    else:
        modules = mypycify([f"pyiwarp/{module}.py" for module in HOT], opt_level="3", debug_level="0")
        setup(setup_requires=needs(), ext_modules=modules)
