"""Standard streams that are closed, full, gone, asleep or narrow cost what is printed, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import COMMAND, ENVIRONMENT, finished, first_line, kill, start, started
from tests.patience import PATIENCE

ALL = ["serve", "get", "put", "ls", "ping", "perf", "conform", "target", "info", "demo"]
NAME = "日本"
OCTETS = b"served"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server has one file."""
    directory = tmp_path_factory.mktemp("served")
    (directory / NAME).write_bytes(OCTETS)
    command = (*COMMAND, "serve", str(directory), "--port", "0", "--json")
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        listening = json.loads(first_line(server))
        yield f"{listening['host']}:{listening['port']}"


def with_streams(streams: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command whose shell has changed its standard streams."""
    return finished(("sh", "-c", f'exec "$@" {streams}', "sh", *COMMAND, *words))


# --- closed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_closed_streams_and_a_transfer(address: str, tmp_path: Path, streams: str, loop: str) -> None:
    done = with_streams(streams, "get", f"{address}/{NAME}", "-o", str(tmp_path / "got"), "--loop", loop)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "got").read_bytes() == OCTETS


EACH = """
import json, os, runpy, sys
import pyiwarp.cli

assert sys.stdin is sys.stdout is None
for words in json.loads(sys.argv[1]):
    pid = os.fork()
    if not pid:
        sys.argv[1:] = words
        runpy.run_module("pyiwarp", run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(f"{words} ends with {code}")
"""


def test_closed_streams_and_every_command() -> None:
    """Python has started with closed streams, and forks for each command."""
    commands = [["--version"], ["info"], ["--help"], *([name, "--help"] for name in ALL)]
    command = ("sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", EACH, json.dumps(commands))
    done = finished(command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("words", "code"), [(("get",), 2), (("ls", "localhost:1"), 1)])
def test_a_closed_standard_error_changes_no_exit_code(words: tuple[str, ...], code: int) -> None:
    assert with_streams("2>&-", *words).returncode == code


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_server_without_streams(tmp_path: Path, loop: str) -> None:
    """It cannot say where it listens, so that is known from the kernel."""
    words = ("serve", str(tmp_path), "--port", "0", "--loop", loop)
    with started(("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, *words)) as server:
        deadline = time.monotonic() + PATIENCE
        while not listens(server.pid):
            assert time.monotonic() < deadline, "it does not listen"
            assert server.poll() is None
            time.sleep(0.05)
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0


def listens(pid: int) -> bool:
    """Whether the process has a TCP socket that listens; the event loop has sockets of its own."""
    return any(f"socket:[{inode}]" in links(pid) for inode in listening())


def listening() -> Iterator[str]:
    """The inodes of the TCP sockets that listen."""
    for table in ("tcp", "tcp6"):
        rows = Path(f"/proc/net/{table}")
        for row in rows.read_text().splitlines()[1:] if rows.exists() else []:
            state, inode = row.split()[3], row.split()[9]
            if state == "0A":  # TCP_LISTEN
                yield inode


def links(pid: int) -> list[str]:
    found = list[str]()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return found


# --- full, gone, asleep ----------------------------------------------------------------------------------------------


def test_a_full_disk_behind_standard_output(address: str, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    done = with_streams(">/dev/full", "get", address, NAME, "-o", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / NAME).read_bytes() == OCTETS
    for words in (("ls", address), ("info",), ("--version",)):
        done = with_streams(">/dev/full", *words)  # here what is printed is all
        assert (done.returncode, done.stderr) == (1, "pyiwarp: No space left on device\n")


@contextmanager
def serving_to_a_pipe(directory: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server whose standard output and error are pipes, and its address."""
    command = (*COMMAND, "serve", str(directory), "--port", "0", "--json", *words)
    server = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        listening = json.loads(first_line(server))
        yield server, f"{listening['host']}:{listening['port']}"
    finally:
        kill(server)


def test_a_server_whose_readers_have_gone(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).write_bytes(OCTETS)
    (tmp_path / "mine").mkdir()
    with serving_to_a_pipe(tmp_path) as (server, address):
        assert server.stdout is not None
        assert server.stderr is not None
        server.stdout.close()
        server.stderr.close()
        done = finished((*COMMAND, "get", address, "one", "two", "three", "-o", str(tmp_path / "mine")))
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(os.listdir(tmp_path / "mine")) == ["one", "three", "two"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


def test_a_server_whose_reader_sleeps(tmp_path: Path) -> None:
    """The pipe is full; nobody reads it, and nobody closes it."""
    (tmp_path / "file").write_bytes(OCTETS)
    with serving_to_a_pipe(tmp_path) as (server, address):
        full = os.open(f"/proc/{server.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(full, bytes(4096))
        except BlockingIOError:
            pass
        finally:
            os.close(full)
        for _ in range(3):
            done = finished((*COMMAND, "get", address, "file", "-o", str(tmp_path / "got"), "--timeout", "20"))
            assert (done.returncode, done.stderr) == (0, "")
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_ping_server_whose_reader_has_gone(words: tuple[str, ...]) -> None:
    command = (*COMMAND, "ping", "--serve", "-P", "-v", "--port", "0", "--json")
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        listening = json.loads(first_line(server))
        assert server.stdout is not None
        server.stdout.close()
        done = finished((*COMMAND, "ping", f"{listening['host']}:{listening['port']}", "-C", "3", *words))
        assert (done.returncode, done.stderr) == (0, "")


# --- narrow ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:surrogateescape"])
def test_an_encoding_without_the_characters(address: str, tmp_path: Path, encoding: str) -> None:
    narrow = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    listed = finished((*COMMAND, "ls", address), env=narrow)
    got = finished((*COMMAND, "get", address, NAME, "-o", str(tmp_path)), env=narrow)
    missing = finished((*COMMAND, "get", address, "文", "-o", str(tmp_path)), env=narrow)
    for done, code in ((listed, 0), (got, 0), (missing, 1)):
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert r"\u65e5\u672c" in listed.stdout
    assert r"get \u65e5\u672c: 6 octets" in got.stdout
    assert r"pyiwarp: \u6587: No such file" in missing.stderr
