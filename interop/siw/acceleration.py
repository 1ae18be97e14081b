"""Which accelerator QEMU gets: KVM where a guest under it has been seen to work, else TCG.

That /dev/kvm can be opened, and that it runs some instructions, proves nothing about a guest: inside some virtual
machines it then never boots one. So a guest is tried (`snapshots.choose`), and what came of it is kept with the
image, for this machine as it is.
"""

import contextlib
import functools
import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from . import qemu
from .errors import PreparationError
from .image import Image
from .progress import Progress

VARIABLE = "PYIWARP_ACCEL"
"""Environment variable: `kvm` or `tcg`, to decide without trying."""

DEVICE = Path("/dev/kvm")

_DIGITS = 12
_CPU = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags")
_IDENTITY = ("/etc/machine-id", "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name")


def decided() -> str | None:
    """What the environment decides, or None. Raises `PreparationError` for a name that is neither of the two."""
    value = os.environ.get(VARIABLE)
    if value and value not in qemu.CPU:
        raise PreparationError(f"{VARIABLE} is {value!r}: it can be {' or '.join(qemu.CPU)}")
    return value or None


def obstacle() -> str | None:
    """Why KVM cannot be had at all, which is seen at once; None if its device can be opened."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    return None


@dataclass(frozen=True)
class Answer:
    """Whether a guest works under KVM, and if not, what was seen."""

    works: bool
    reason: str = ""


class Memory:
    """The answer for an image on this machine as it is: with another CPU, kernel or QEMU there is none."""

    def __init__(self, image: Image) -> None:
        """Nothing is read before it is asked for."""
        self.file = image.directory / f"kvm-{_machine()}.json"

    def recall(self) -> Answer | None:
        """What was kept; None if nothing was, or if it cannot be read."""
        try:
            return Answer(**json.loads(self.file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, answer: Answer) -> None:
        """Keep it in place of what was kept before."""
        partial = self.file.with_name(f"{self.file.name}.partial-{os.getpid()}")
        partial.write_text(json.dumps(asdict(answer)) + "\n")
        partial.rename(self.file)

    def tell(self, answer: Answer, progress: Progress) -> None:
        """Say in one line, once in this process, that there is no KVM, why, and where that is kept."""
        tell(f"{answer.reason}, as {self.file} keeps", progress)


_told: set[str] = set()


def tell(reason: str, progress: Progress) -> None:
    """Say in one line, once in this process, that guests run without KVM, and why."""
    if reason not in _told:
        _told.add(reason)
        progress.note(f"accel     tcg: {reason} ({VARIABLE}=kvm or =tcg decides without trying)")


@functools.cache
def _machine() -> str:
    """A name for all that may change whether KVM works: the machine, its CPU, the kernel, QEMU."""
    system = os.uname()
    parts = [system.release, system.version, system.machine, qemu.version(), *_cpu()]
    for file in _IDENTITY:
        with contextlib.suppress(OSError):
            parts.append(Path(file).read_text())
    return sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


def _cpu() -> list[str]:
    """What the kernel says of the first processor, without what changes from moment to moment."""
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    return [line for line in first.splitlines() if line.partition("\t")[0] in _CPU]
