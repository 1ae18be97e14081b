"""Where Wireshark looks for a user's plug-ins, and the file of this package there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from pyiwarp.errors import UsageError

__all__ = ["FILE", "dissector", "install", "plugin_folder", "uninstall"]

FILE: Final = "pyiwarp.lua"
"""The name of the file in the folder."""

_PROGRAMS: Final = ("tshark", "wireshark")
_NAMES: Final = ("Personal Lua Plugins", "Personal Plugins")  # the first is newer, and meant for these files
_SECONDS: Final = 30.0
_MARK: Final = "-- pyiwarp's additions to Wireshark's iWARP dissectors"


def dissector() -> str:
    """The text of the dissector."""
    return files(__package__).joinpath(FILE).read_text(encoding="utf-8")


def plugin_folder() -> Path:
    """The folder in which Wireshark looks for a user's plug-ins in Lua, as `tshark -G folders` tells it.

    Raises `UsageError` if neither tshark nor wireshark is there, or if what they tell is not understood.
    """
    program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise UsageError("neither tshark nor wireshark is found; --folder names the folder for plug-ins in Lua")
    command = [program, "-G", "folders"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{' '.join(command)} does not tell the folders: {error}") from error
    for name in _NAMES:
        if line := re.search(rf"^{name}:\s+(\S.*?)\s*$", told, re.MULTILINE):
            return Path(line[1])
    raise UsageError(f"{' '.join(command)} names no folder for personal plug-ins")


def install(folder: Path) -> Path:
    """Write the dissector to `folder`, which is made if it is not there; returns the file.

    Raises `UsageError` if a file of that name is there which this package did not write, `OSError` if it cannot be
    written.
    """
    path = folder / FILE
    _check_ours(path)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.{os.getpid()}"
    try:
        part.write_text(dissector(), encoding="utf-8")
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return path


def uninstall(folder: Path) -> Path | None:
    """Remove the dissector from `folder`; returns the file that was there, None if there was none.

    Raises `UsageError` if the file there was not written by this package, `OSError` if it cannot be removed.
    """
    path = folder / FILE
    if not path.exists():
        return None
    _check_ours(path)
    path.unlink()
    return path


def _check_ours(path: Path) -> None:
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_MARK):
        raise UsageError(f"{path} is not pyiwarp's; remove it, or name another folder with --folder")
