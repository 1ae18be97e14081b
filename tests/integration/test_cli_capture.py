"""`--pcapng FILE` leaves a capture that begins with MPA startup, and a file that cannot be written is a usage error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from pyiwarp.wire import REPLY_KEY, REQUEST_KEY
from tests.children import ENVIRONMENT, finished, first_line, started
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


def captured(octets: bytes) -> list[bytes]:
    return [block.packet_data for block in FileScanner(io.BytesIO(octets)) if isinstance(block, EnhancedPacket)]


def test_a_killed_server_leaves_what_was_exchanged(tmp_path: Path) -> None:
    """A file server that runs on: its capture can be read meanwhile, and SIGKILL loses nothing of it."""
    served, file = tmp_path / "served", tmp_path / "c.pcapng"
    served.mkdir()
    (served / "a").write_bytes(b"data")
    command = [sys.executable, "-m", "pyiwarp"]
    listen = [*command, "serve", str(served), "--port", "0", "--json", "--pcapng", str(file)]
    with started(listen, stdout=subprocess.PIPE) as server:
        place = json.loads(first_line(server))["port"]
        done = finished([*command, "get", f"127.0.0.1:{place}/a", "-o", str(tmp_path)])
        assert done.returncode == 0, done.stderr
        meanwhile = captured(file.read_bytes())
        assert any(REQUEST_KEY in packet for packet in meanwhile)
        assert any(b"data" in packet for packet in meanwhile)
        server.kill()
        server.wait(PATIENCE)
    assert captured(file.read_bytes())[: len(meanwhile)] == meanwhile


def test_a_capture_goes_into_a_pipe(tmp_path: Path) -> None:
    with started([*PING, "--serve", "--port", "0", "--json"], stdout=subprocess.PIPE) as server:
        place = json.loads(first_line(server))["port"]
        done = subprocess.run(
            [*PING, f"127.0.0.1:{place}", "-C", "3", "--pcapng", "-"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            cwd=tmp_path,
            env=ENVIRONMENT,
        )
        server.wait(PATIENCE)
    assert done.returncode == 0, done.stderr
    assert any(REPLY_KEY in packet for packet in captured(done.stdout))
    assert b"octets" in done.stderr or b"ping" in done.stderr, "what is printed goes to standard error"
    assert not list(tmp_path.iterdir()), "no file is called -"


def test_the_reader_of_a_capture_may_leave() -> None:
    with started([*PING, "--serve", "--port", "0", "--json"], stdout=subprocess.PIPE) as server:
        place = json.loads(first_line(server))["port"]
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [*PING, f"127.0.0.1:{place}", "-C", "3", "--pcapng", "-"],
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
                env=ENVIRONMENT,
            )
        finally:
            os.close(writing)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
