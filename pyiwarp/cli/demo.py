"""`pyiwarp demo`: a server and a client on this machine, a file each way, and what each layer did."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

__all__ = ["demo"]

MIB = 1 << 20
TIME_LIMIT = 100.0
INDENT = 10  # of what stands behind the name of a layer
WIDTH = 79 - INDENT

Facts = dict[str, Any]


def demo(mib: Annotated[int, typer.Option(min=1, help="Size of the file in MiB.")] = 256) -> None:
    """Transfer a file both ways on this machine.

    A server and a client run in processes of their own; what each layer did is printed.
    """
    import signal
    import subprocess
    import tempfile
    from pathlib import Path

    from pyiwarp.cli.running import fail
    from pyiwarp.cli.terminal import explain

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a kill cleans up as Ctrl-C does
    try:
        with tempfile.TemporaryDirectory(prefix="pyiwarp-demo-") as scratch:
            _run(Path(scratch), mib * MIB)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        fail(explain(error))


def _run(scratch: Path, nbytes: int) -> None:
    served, mine = scratch / "served", scratch / "mine"
    served.mkdir()
    mine.mkdir()
    _tell("", f"a file of {nbytes // MIB} MiB goes over iWARP and comes back, between two processes on this machine")
    _make_file(served / "file.bin", nbytes)
    server, place = _start_server(served)
    try:
        _tell("server", f"process {server.pid} listens on TCP {place}, serving {served}")
        connected, got = _client("get", f"{place}/file.bin", "-o", str(mine / "file.bin"))
        _tell_startup(connected)
        _tell_transfer(got, "write", "the server RDMA Writes into the client's memory", _next_line(server))
        _, put = _client("put", place, str(mine / "file.bin"), "--as", "back.bin")
        _tell_transfer(put, "read", "the server RDMA Reads the client's memory", _next_line(server))
    finally:
        _stop(server)
    _compare(served)


def _make_file(path: Path, nbytes: int) -> None:
    import os

    with path.open("wb") as file:
        for start in range(0, nbytes, MIB):
            file.write(os.urandom(min(MIB, nbytes - start)))


# --- the two processes -----------------------------------------------------------------------------------------------


def _command(*words: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "pyiwarp", *words]


def _start_server(directory: Path) -> tuple[subprocess.Popen[str], str]:
    import subprocess

    command = _command("serve", str(directory), "--port", "0", "--json")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listening = _next_line(server)
    return server, f"{listening['host']}:{listening['port']}"


def _next_line(server: subprocess.Popen[str]) -> Facts:
    """The next event that the server prints; raises if it has ended."""
    import json

    assert server.stdout is not None, "the server was started with a pipe"
    line = server.stdout.readline()
    if not line:
        _, complaint = server.communicate()
        raise RuntimeError(f"the server ended with {server.returncode}: {complaint.strip()}")
    facts: Facts = json.loads(line)
    return facts


def _client(*words: str) -> tuple[Facts, Facts]:
    """Run a client to its end; returns what it printed of the connection and of the transfer."""
    import json
    import subprocess

    done = subprocess.run(_command(*words, "--json"), capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode:
        raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr.strip()}")
    connected, transfer = map(json.loads, done.stdout.splitlines())
    return connected, transfer


def _stop(server: subprocess.Popen[str]) -> None:
    import subprocess

    server.terminate()
    try:
        server.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.communicate()


# --- what is told ----------------------------------------------------------------------------------------------------


def _tell(layer: str, text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    text = ("\n" + " " * INDENT).join(lines)
    Console(highlight=False, soft_wrap=True).print(Text(f"{layer:>8}  ", style="bold cyan") + Text(text))


def _tell_startup(facts: Facts) -> None:
    markers = "markers" if facts["markers_sent"] or facts["markers_received"] else "no markers"
    crc = "CRC32C" if facts["crc"] else "no CRC"
    _tell("MPA", f"Request and Reply agree on revision {facts['revision']}, {crc}, {markers},")
    _tell("", f"IRD {facts['ird']}, ORD {facts['ord']}; the Reply's private data is {facts['private_data']!r}")


def _tell_transfer(client: Facts, right: str, what: str, server: Facts) -> None:
    from pyiwarp.cli.terminal import rate
    from pyiwarp.files.digests import Digest
    from pyiwarp.files.session import CHUNK

    nbytes, seconds = client["nbytes"], client["seconds"]
    kind = "RDMA Writes" if right == "write" else "RDMA Reads"
    _tell(client["direction"], what)
    _tell(
        "memory", f"{nbytes:,} octets registered for remote {right}: STag {client['stag']:#010x}, TO {client['to']:#x}"
    )
    _tell("RDMAP", f"{server['operations']} {kind} of at most {CHUNK // MIB} MiB; Sends tell how far they are")
    _tell("MPA", f"the client sent {client['fpdus_sent']:,} FPDUs and received {client['fpdus_received']:,}")
    digest = next(digest for digest in Digest if client[digest.value])
    told = f"{digest.title} {client[digest.value][:16]}"
    _tell("file", f"{seconds:.2f} s, {rate(nbytes, seconds)}, {told}… the same on both sides")


def _compare(directory: Path) -> None:
    import filecmp

    if not filecmp.cmp(directory / "file.bin", directory / "back.bin", shallow=False):
        raise RuntimeError("the file that came back is not the file that went out")
    _tell("verified", "the file that came back is the file that went out, octet for octet")
