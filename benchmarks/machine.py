"""The machine and the software that figures belong to."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from pyiwarp.cli.info import is_compiled

__all__ = ["Machine", "describe"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, how many of them this process may use, kernel, TCP's congestion control, Python, and which builds."""

    processor: str
    cpus: int
    kernel: str
    congestion: str
    python: str
    uvloop: str
    build: str
    load: float

    @property
    def line(self) -> str:
        """All of it, for people."""
        return (
            f"{self.cpus} × {self.processor}, Linux {self.kernel} ({self.congestion}), Python {self.python}, "
            f"uvloop {self.uvloop}, pyiwarp {self.build}; load average {self.load:.1f}"
        )

    def data(self) -> dict[str, object]:
        """The same as JSON takes it."""
        return asdict(self)


def describe() -> Machine:
    """This machine, now; the load average tells who else is using it."""
    return Machine(
        processor=_processor(),
        cpus=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        congestion=_congestion(),
        python=platform.python_version(),
        uvloop=version("uvloop"),
        build=f"{version('pyiwarp')} ({'compiled' if is_compiled() else 'pure Python'})",
        load=os.getloadavg()[0],
    )


def _congestion() -> str:
    """What TCP paces and slows down by, unless a socket asks for another."""
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return setting.read_text().strip() if setting.exists() else "?"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
