"""`--pcapng FILE` leaves a capture that begins with MPA startup, and a file that cannot be written is a usage error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from pyiwarp.wire import REPLY_KEY, REQUEST_KEY

PING = [sys.executable, "-m", "pyiwarp", "ping"]


def test_a_ping_is_taken_down(tmp_path: Path) -> None:
    file = tmp_path / "ping.pcapng"
    with subprocess.Popen([*PING, "--serve", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        place = server.stdout.readline().split('"port": ')[1].split("}")[0].split(",")[0]
        command = [*PING, f"localhost:{place}", "-C", "3", "--pcapng", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        server.wait(30)
    assert done.returncode == 0, done.stderr
    with file.open("rb") as stream:
        packets = [block.packet_data for block in FileScanner(stream) if isinstance(block, EnhancedPacket)]
    assert REQUEST_KEY in packets[2]
    assert REPLY_KEY in packets[3]
    assert len(packets) > 3 * 6


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    command = [*PING, "localhost:1", "--pcapng", str(tmp_path / "no" / "such" / "place")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
