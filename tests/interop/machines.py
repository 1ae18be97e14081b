"""Machines whose KVM is of some kind, made of the QEMU that is there: a program of its name, to be found before it."""

import os
import shutil
import sys
from enum import Enum
from pathlib import Path

import pytest

from interop.siw import Image, acceleration

_PROGRAM = """\
#!{python} -S
import os, re, signal, sys, time

kind, real, log = {kind!r}, {real!r}, {log!r}
words = [real, *sys.argv[1:]]
accelerator = words[words.index("-accel") + 1] if "-accel" in words else ""
if kind == "broken" and accelerator:
    sys.exit("this machine runs no guest at all")
if accelerator == "kvm":
    with open(log, "a") as file:
        file.write(" ".join(words) + "\\n")
    if kind == "refuses":
        sys.exit("Could not access KVM kernel module: Operation not permitted")
    words[words.index("-accel") + 1] = "tcg"
    words[words.index("-cpu") + 1] = "qemu64"
    if kind == "probe" and "-kernel" in words:
        words.append("-S")  # the processor stands still
    if kind == "boots" and os.fork() == 0:
        qemu = os.getppid()
        console = next(found for word in words if (found := re.search("path=(/proc/self/fd/[0-9]+)", word)))[1]
        while os.getppid() == qemu:
            if "PEER-READY" in open(console).read():
                os.kill(qemu, signal.SIGSTOP)
                break
            time.sleep(0.002)
        os._exit(0)
os.execv(real, words)
"""


class Kvm(Enum):
    """What a machine's KVM does with a guest."""

    WORKS = "works"
    RUNS_A_PROBE_ONLY = "probe"
    STOPS_AFTER_THE_BOOT = "boots"
    REFUSES = "refuses"
    BROKEN = "broken"
    """Nor does any other accelerator work."""


class Machine:
    """A directory for the front of PATH, in which QEMU is `kind`'s, and a device that can be opened."""

    def __init__(self, directory: Path, kind: Kvm) -> None:
        real = shutil.which("qemu-system-x86_64")
        assert real is not None, "QEMU is installed where these tests run"
        directory.mkdir(exist_ok=True)
        self.path = f"{directory}:{os.environ['PATH']}"
        self.device = directory / "kvm"
        self.device.touch()
        self._log = directory / "log"
        self._log.touch()
        program = directory / "qemu-system-x86_64"
        program.write_text(_PROGRAM.format(python=sys.executable, kind=kind.value, real=real, log=str(self._log)))
        program.chmod(0o755)

    @property
    def guests_under_kvm(self) -> int:
        """How many have been started."""
        return self._log.read_text().count("\n")

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be on this machine until the test ends."""
        monkeypatch.setenv("PATH", self.path)
        monkeypatch.delenv(acceleration.VARIABLE, raising=False)
        monkeypatch.setattr(acceleration, "DEVICE", self.device)
        monkeypatch.setattr(acceleration, "_told", set())


def linked(image: Image, directory: Path) -> Image:
    """The same image without the saved states and answers."""
    directory.mkdir(parents=True)
    for file in image.directory.iterdir():
        if file.is_file() and not file.name.startswith("kvm"):
            (directory / file.name).symlink_to(file)
    return Image(directory)
