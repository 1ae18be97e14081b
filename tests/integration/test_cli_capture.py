"""`--pcapng FILE` leaves a capture that begins with MPA startup, and a file that cannot be written is a usage error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from pyiwarp.wire import REPLY_KEY, REQUEST_KEY
from tests.children import finished, first_line, started
from tests.patience import PATIENCE

PING = [sys.executable, "-m", "pyiwarp", "ping"]


def test_a_ping_is_taken_down(tmp_path: Path) -> None:
    file = tmp_path / "ping.pcapng"
    with started([*PING, "--serve", "--port", "0", "--json"], stdout=subprocess.PIPE) as server:
        place = json.loads(first_line(server))["port"]
        done = finished([*PING, f"127.0.0.1:{place}", "-C", "3", "--pcapng", str(file)])
        server.wait(PATIENCE)
    assert done.returncode == 0, done.stderr
    with file.open("rb") as stream:
        packets = [block.packet_data for block in FileScanner(stream) if isinstance(block, EnhancedPacket)]
    assert REQUEST_KEY in packets[2]
    assert REPLY_KEY in packets[3]
    assert len(packets) > 3 * 6


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    done = finished([*PING, "localhost:1", "--pcapng", str(tmp_path / "no" / "such" / "place")])
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
