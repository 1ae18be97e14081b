"""QEMU's monitor protocol over a socket pair: a command, its reply, and the events in between ignored."""

import json
import socket
from typing import Any


class MonitorError(Exception):
    """QEMU refused a command, or its monitor is gone."""


class Monitor:
    """Talks to one QEMU. The calls block, each for at most `timeout` seconds; most take less than a millisecond."""

    def __init__(self, sock: socket.socket, timeout: float = 10.0) -> None:
        """Take over `sock`, the other end of which is QEMU's monitor."""
        sock.settimeout(timeout)
        self._socket = sock
        self._lines = sock.makefile("r", encoding="utf-8")

    def greet(self) -> None:
        """Wait until QEMU is there and enter command mode."""
        self._receive()
        self.command("qmp_capabilities")

    def command(self, name: str, /, **arguments: object) -> Any:
        """Run a command and give what it returns; raise `MonitorError` if QEMU refuses."""
        message = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise MonitorError(f"{name}: {error}") from error
        while True:
            reply = self._receive()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise MonitorError(f"{name}: {reply['error'].get('desc')}")

    def human(self, line: str) -> str:
        """Run a command of the human monitor and give what it prints."""
        return str(self.command("human-monitor-command", command_line=line))

    def close(self) -> None:
        """Close the socket; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise MonitorError(f"no answer from QEMU's monitor: {error}") from error
        if not line:
            raise MonitorError("QEMU closed its monitor")
        reply: dict[str, Any] = json.loads(line)
        return reply
