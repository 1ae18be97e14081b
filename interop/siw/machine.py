"""One QEMU process: its console, its forwarded ports, its state."""

import fcntl
import os
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import qemu
from .qmp import Monitor, MonitorError

_FORWARDED = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<host>\d+)\s+\S+\s+(?P<guest>\d+)")
_UNTHROTTLED = 10**11  # octets a second
_GLANCE = 0.005
_LAST_WORDS = 30.0


class Machine:
    """Runs from the moment it is made until `kill`, its own end, or the end of the thread that made it.

    Calls block for milliseconds, `load` and `save` for some tenths of a second; they raise `MonitorError` when QEMU
    does not do what it is told.
    """

    def __init__(self, arguments: Sequence[str], state: int | None = None) -> None:
        """Start QEMU with `arguments`; with `state`, a file descriptor, it waits for `load` to start from there."""
        # the file has no name, so nothing is left of it whatever happens
        self._console = tempfile.TemporaryFile()  # noqa: SIM115
        fcntl.fcntl(self._console, fcntl.F_SETFL, os.O_APPEND)
        self._final_console: str | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = qemu.start([*arguments], self._console.fileno(), theirs.fileno(), state)
        self._monitor = Monitor(ours)
        self._greeted = False
        self._ports: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._process.poll() is None

    @property
    def console(self) -> str:
        """All that the guest wrote to its serial console, and QEMU's own complaints."""
        if self._final_console is not None:
            return self._final_console
        size = os.fstat(self._console.fileno()).st_size
        return os.pread(self._console.fileno(), size, 0).decode(errors="replace").replace("\r", "")

    def forward(self, guest_port: int) -> int:
        """The port on the host's 127.0.0.1 that leads to `guest_port`, made on the first call."""
        if guest_port not in self._ports:
            self._ask_forward(guest_port)
        return self._ports[guest_port]

    def _ask_forward(self, guest_port: int) -> None:
        # port 0: the host chooses a free one, and there is no moment in which somebody else can take it
        complaint = self._ready_monitor().human(f"hostfwd_add {qemu.NETWORK} tcp:127.0.0.1:0-:{guest_port}")
        table = self._monitor.human("info usernet")
        self._ports = {int(match["guest"]): int(match["host"]) for match in _FORWARDED.finditer(table)}
        if guest_port not in self._ports:
            raise MonitorError(f"port {guest_port} of the guest not forwarded: {complaint}")

    def load(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until the state this machine was started with is loaded, then let it run."""
        monitor = self._ready_monitor()
        end = time.monotonic() + timeout
        while monitor.command("query-status")["status"] == "inmigrate":
            _pause(end, "load the state")
        monitor.command("cont")

    def save(self, file: Path, timeout: float) -> None:
        """Write the state to `file` within `timeout` seconds; the machine stands still meanwhile, then goes on."""
        monitor = self._ready_monitor()
        monitor.command("migrate-set-parameters", max_bandwidth=_UNTHROTTLED)
        monitor.command("stop")
        monitor.command("migrate", uri=f"exec:cat > {shlex.quote(str(file))}")
        end = time.monotonic() + timeout
        while (progress := monitor.command("query-migrate"))["status"] != "completed":
            if progress["status"] in ("failed", "cancelled"):
                raise MonitorError(f"state not saved: {progress.get('error-desc', progress['status'])}")
            _pause(end, "save the state")
        monitor.command("cont")

    def await_end(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for QEMU to end by itself; whether it did."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End QEMU at once; also collects one that ended by itself. What it wrote to its console stays readable."""
        if self._final_console is not None:
            return
        self._process.kill()
        self._process.wait(_LAST_WORDS)
        self._final_console = self.console
        self._console.close()
        self._monitor.close()

    def _ready_monitor(self) -> Monitor:
        if not self._greeted:
            self._monitor.greet()
            self._greeted = True
        return self._monitor


def _pause(end: float, purpose: str) -> None:
    if time.monotonic() > end:
        raise MonitorError(f"QEMU took too long to {purpose}")
    time.sleep(_GLANCE)
