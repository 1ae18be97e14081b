"""The command line as users meet it: real processes, their words, their exit codes, and what they leave behind."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pyiwarp.files.hello import HELLO
from tests.children import COMMAND, ENVIRONMENT, finished, first_line, kill, start, started
from tests.hosts import closed_port, ipv6
from tests.patience import PATIENCE


def run(
    *words: str, limits: str = "", expect: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command to its end; `limits` are given to the shell's ulimit."""
    command: Sequence[str] = (*COMMAND, *words)
    if limits:
        command = ("sh", "-c", f'ulimit {limits}; exec env PYTHONDONTWRITEBYTECODE=1 "$@"', "sh", *command)
    done = finished(command, env=ENVIRONMENT if env is None else env)
    assert done.returncode == expect, (done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def complaint(*words: str, limits: str = "") -> str:
    """The one line of a command that fails."""
    done = run(*words, limits=limits, expect=1)
    assert done.stderr.startswith("pyiwarp: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("pyiwarp: ").strip()


class Process:
    """A command that goes on; ended by its own pid at the end of the test. What it tells goes into a file."""

    def __init__(self, *words: str, limits: str = "") -> None:
        command: Sequence[str] = (*COMMAND, *words)
        if limits:
            command = ("sh", "-c", f'ulimit {limits}; exec env PYTHONDONTWRITEBYTECODE=1 "$@"', "sh", *command)
        self._told = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 - closed by `stop`
        self.read = 0
        self.popen = start(command, stdout=self._told, stderr=subprocess.PIPE)

    def line(self) -> str:
        """What it tells next."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            line, newline, _ = os.pread(self._told.fileno(), 100_000, self.read).partition(b"\n")
            if newline:
                self.read += len(line) + 1
                return line.decode()
            assert self.popen.poll() is None, self.popen.communicate(timeout=PATIENCE)[1]
            time.sleep(0.01)
        pytest.fail("it tells nothing")

    def told(self) -> dict[str, Any]:
        """What it tells next, as JSON."""
        facts: dict[str, Any] = json.loads(self.line())
        return facts

    def has_opened_a_file_in(self, directory: Path) -> None:
        """Wait until it has: it makes a file there before the octets of a transfer begin to move."""
        until = time.monotonic() + PATIENCE
        while not any(name.startswith(f"{directory}/") for name in self._open_files()):
            assert self.popen.poll() is None, "it has ended before"
            assert time.monotonic() < until, "it opens no file"
            time.sleep(0.01)

    def _open_files(self) -> Iterator[str]:
        descriptors = f"/proc/{self.popen.pid}/fd"
        for name in os.listdir(descriptors):
            with suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(f"{descriptors}/{name}")

    def forget(self) -> None:
        """What it has told so far is of no interest."""
        self.read = os.fstat(self._told.fileno()).st_size

    def end(self, number: int, expect: int) -> str:
        """Send a signal, and return what it says on standard error until it ends."""
        self.popen.send_signal(number)
        return self.ended(expect)

    def ended(self, expect: int) -> str:
        """What it says on standard error until it ends."""
        _, errors = self.popen.communicate(timeout=PATIENCE)
        assert self.popen.returncode == expect, errors
        assert "Traceback" not in errors
        return errors

    def rest(self) -> str:
        """What it has told and nobody has read yet."""
        return os.pread(self._told.fileno(), 100_000, self.read).decode()

    def stop(self) -> None:
        """End it, whatever it is at."""
        kill(self.popen)
        self._told.close()


@contextmanager
def process(*words: str, limits: str = "") -> Iterator[Process]:
    it = Process(*words, limits=limits)
    try:
        yield it
    finally:
        it.stop()


class Served(Process):
    """A server process, its directory, and its address."""

    directory: Path
    address: str


@contextmanager
def serving(directory: Path, *words: str, limits: str = "") -> Iterator[Served]:
    directory.mkdir(exist_ok=True)
    served = Served("serve", str(directory), "--port", "0", "--json", *words, limits=limits)
    try:
        listening = served.told()
        served.directory, served.address = directory, f"{listening['host']}:{listening['port']}"
        yield served
    finally:
        served.stop()
    assert hidden(directory) == []


def hidden(directory: Path) -> list[str]:
    """Temporary files have names like this, if they have any."""
    return [name for name in os.listdir(directory) if name.startswith(".")]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("lasting") / "served") as served:
        yield served


@pytest.fixture
def served(lasting: Served) -> Iterator[Served]:
    """One server for many tests, with an empty directory for each."""
    lasting.forget()
    yield lasting
    assert lasting.popen.poll() is None
    assert hidden(lasting.directory) == []
    for path in lasting.directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Served]:
    """A server that sends FPDUs of 128 octets: there is all the time to disturb it."""
    with serving(tmp_path / "served", "--mulpdu", "128") as served:
        with (served.directory / "big").open("wb") as file:
            os.truncate(file.fileno(), 1 << 30)
        yield served


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """The clients' directory; nothing half done is in it afterwards."""
    directory = tmp_path / "mine"
    directory.mkdir()
    yield directory
    assert hidden(directory) == []


# --- what works ------------------------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert run("--version").stdout == "pyiwarp 0.1.0\n"
    assert "demo" in run("--help").stdout


def test_files_go_both_ways(served: Served, mine: Path) -> None:
    octets = hashlib.shake_128(b"seed").digest(3_000_001)
    (served.directory / "a").write_bytes(octets)
    (served.directory / "é\n").write_bytes(b"")
    got = run("get", served.address, "a", "é\n", "-o", str(mine)).stdout.splitlines()
    assert got[0].startswith("get a: 3,000,001 octets in ")
    assert got[0].endswith(("FPDUs, BLAKE3 ok", "FPDUs, SHA-256 ok"))
    assert got[1].startswith(r"get é\n: 0 octets")
    run("put", served.address, str(mine / "a"), str(mine / "é\n"))
    told = run("put", f"{served.address}/", str(mine / "a"), "--as", "c", "--markers", "--sha256").stdout
    assert told.endswith("FPDUs, SHA-256 ok\n")
    assert (mine / "a").read_bytes() == (served.directory / "c").read_bytes() == octets
    assert [served.told()["direction"] for _ in range(5)] == ["get"] * 2 + ["put"] * 3


def test_results_are_data(served: Served, mine: Path) -> None:
    (served.directory / "a").write_bytes(b"octets")
    words = ("-o", str(mine / "b"), "--loop", "asyncio", "--fsync", "--revision", "1", "--json")
    connected, transfer = map(json.loads, run("get", f"{served.address}/a", *words).stdout.splitlines())
    assert (connected["revision"], connected["crc"], transfer["nbytes"]) == (1, True, 6)
    assert len(transfer[connected["digest"]]) == 64
    assert transfer["stag"] == served.told()["stag"]


def test_a_listing(served: Served) -> None:
    (served.directory / "sub").mkdir()
    (served.directory / "sub" / "x\x1b[2J").write_bytes(b"abc")
    assert run("ls", served.address).stdout.endswith("  sub/\n")
    assert run("ls", f"{served.address}/sub").stdout.rpartition("  ")[2] == "x\\x1b[2J\n"
    assert json.loads(run("ls", f"{served.address}/sub", "--json").stdout)["name"] == "x\x1b[2J"


def test_a_reader_that_leaves_early(served: Served) -> None:
    for number in range(3000):
        (served.directory / f"{number:0100}").touch()
    command = (*COMMAND, "ls", served.address)
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        first_line(listing)
        listing.stdout.close()
        assert listing.wait(PATIENCE) == 1
        assert listing.stderr.read() == ""


def test_several_clients_at_once(served: Served, mine: Path) -> None:
    (served.directory / "a").write_bytes(hashlib.shake_128(b"seed").digest(10_000_000))
    with ExitStack() as stack:
        words = [("get", served.address, "a", "-o", str(mine / str(number))) for number in range(2)]
        for client in [stack.enter_context(process(*each)) for each in words]:
            client.ended(0)
    assert len({(mine / str(number)).read_bytes() for number in range(2)}) == 1


def test_people_see_where_it_is_served(tmp_path: Path) -> None:
    with process("serve", str(tmp_path), "--port", "0", "--read-only") as server:
        line = server.line()
        assert line.startswith(f"serving {tmp_path} at 127.0.0.1:")
        assert line.endswith("read-only; Ctrl-C stops")
        (tmp_path / "x").write_bytes(b"x")
        address = line.split()[3].rstrip(",")
        assert "read-only" in complaint("put", address, str(tmp_path / "x"))
        assert "put x: the server is read-only" in server.line()


@ipv6
def test_ipv6(tmp_path: Path, mine: Path) -> None:
    with process("serve", str(tmp_path), "--port", "0", "--host", "::1") as server:
        address = server.line().split()[3].rstrip(",")
        assert address.startswith("[::1]:")
        (tmp_path / "x").write_bytes(b"x")
        run("get", f"{address}/x", "-o", str(mine))


# --- peers that are none ---------------------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A peer that reads one Request, says this, and waits."""

    def serve() -> None:
        with suppress(OSError):
            peer, _ = server.accept()
            with peer:
                peer.settimeout(PATIENCE)
                peer.recv(1000)
                peer.sendall(answer)
                peer.recv(1000)

    with listening() as (server, address):
        server.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        yield address
        thread.join(PATIENCE)


def test_a_web_server() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.timeout = PATIENCE
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        # It waits for the end of a line, which an MPA Request has not.
        assert "did not come within 1 s" in complaint("ls", f"127.0.0.1:{server.server_address[1]}", "--timeout", "1")
        thread.join(PATIENCE)


def test_a_web_server_that_answers() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "MPA" in complaint("ls", address)


def test_a_silent_port() -> None:
    with listening() as (_, address):
        assert "did not come within 1 s" in complaint("get", address, "x", "--timeout", "1")


def test_a_closed_port(mine: Path) -> None:
    with closed_port() as port:
        line = complaint("get", f"127.0.0.1:{port}", "x")
    assert line == f"cannot connect to 127.0.0.1 port {port}: Connection refused"


def test_a_host_that_is_none() -> None:
    assert "the host is not known" in complaint("ls", "no.such.host.invalid")
    for words in (("ls", "no..name"), ("rstream", "-b", "no..name"), ("rcopy", __file__, "no..name:x")):
        assert "the host is not known: a part of its name is empty" in complaint(*words)


def test_a_wrong_key() -> None:
    with answering(b"MPA ID Req Frame" + bytes([0x40, 1, 0, 0])) as address:
        assert "MPA" in complaint("ls", address)


def test_a_rejection(mine: Path) -> None:
    with answering(b"MPA ID Rep Frame" + bytes([0x60, 1, 0, 4]) + b"full") as address:
        line = complaint("get", address, "x", "-o", str(mine), "--revision", "1")
    assert line == "the peer rejected the connection (RFC 5044 §7.1.2); it said 'full'"


def test_a_port_in_use(tmp_path: Path) -> None:
    with listening() as (_, address):
        line = complaint("serve", str(tmp_path), "--port", address.rpartition(":")[2])
    assert "ddress already in use" in line


# --- refusals --------------------------------------------------------------------------------------------------------


def test_one_unknown_name_does_not_stop_the_others(served: Served, mine: Path) -> None:
    (served.directory / "a").write_bytes(b"a")
    (mine / "none").write_bytes(b"old")
    done = run("get", served.address, "none", "/etc/passwd", "../mine/x", "a", "-o", str(mine), expect=1)
    assert done.stderr.splitlines() == [
        f"pyiwarp: none: No such file or directory; the old {mine}/none is unchanged",
        "pyiwarp: /etc/passwd: absolute names are not served; nothing was stored",
        "pyiwarp: ../mine/x: names with .. are not served; nothing was stored",
    ]
    assert (mine / "a").read_bytes() == b"a"
    assert (mine / "none").read_bytes() == b"old"


def test_a_file_that_is_not_here(served: Served, mine: Path) -> None:
    line = complaint("put", served.address, str(mine / "none"))
    assert line == f"none: {mine}/none: No such file or directory; the server has stored nothing"
    assert "it is a device" in complaint("put", served.address, "/dev/null")


def test_no_room_here(served: Served, mine: Path) -> None:
    (served.directory / "a").write_bytes(bytes(1_000_000))
    (mine / "a").write_bytes(b"old")
    line = complaint("get", served.address, "a", "-o", str(mine), limits="-f 100")
    assert line == f"a: File too large; the old {mine}/a is unchanged"
    assert served.told()["error"] == "the client cancelled: File too large"


def test_no_room_there(tmp_path: Path, mine: Path) -> None:
    (mine / "a").write_bytes(bytes(1_000_000))
    with serving(tmp_path / "served", limits="-f 100") as served:
        line = complaint("put", served.address, str(mine / "a"))
        assert line == "a: File too large; the server has stored nothing"
        assert served.told()["error"] == "File too large"


def test_a_full_disk(served: Served, mine: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(disk))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=PATIENCE, check=False).returncode:
        pytest.skip("only root may mount a small disk, and not everywhere")
    try:
        (served.directory / "a").write_bytes(bytes(2_000_000))
        line = complaint("get", served.address, "a", "-o", str(disk))
        assert line == "a: No space left on device; nothing was stored"
        assert os.listdir(disk) == []
    finally:
        subprocess.run(("umount", str(disk)), timeout=PATIENCE, check=True)


def test_missing_permission(served: Served) -> None:
    """Nobody may make files in /sys, not even root."""
    (served.directory / "a").write_bytes(b"a")
    line = complaint("get", served.address, "a", "-o", "/sys/kernel/a")
    assert any(why in line for why in ("Permission denied", "Operation not permitted", "Read-only file system"))
    assert "/sys" not in served.told()["error"]


# --- interruptions ---------------------------------------------------------------------------------------------------


@contextmanager
def get_underway(slow: Served, mine: Path) -> Iterator[Process]:
    with process("get", slow.address, "big", "-o", str(mine), "--json") as client:
        assert client.told()["event"] == "connected"
        client.has_opened_a_file_in(mine)
        yield client


def test_the_server_is_killed(slow: Served, mine: Path) -> None:
    (mine / "big").write_bytes(b"old")
    with get_underway(slow, mine) as client:
        slow.popen.kill()
        errors = client.ended(1)
    assert errors.startswith("pyiwarp: big: the ")
    assert errors.endswith(f"; the old {mine}/big is unchanged\n")
    assert errors.count("\n") == 1
    assert os.listdir(mine) == ["big"]
    assert (mine / "big").read_bytes() == b"old"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_get_is_interrupted(slow: Served, mine: Path, number: int) -> None:
    with get_underway(slow, mine) as client:
        assert client.end(number, expect=1) == "pyiwarp: big: interrupted; nothing was stored\n"
    assert os.listdir(mine) == []
    assert slow.told()["error"]
    run("ls", slow.address)


def test_a_client_is_killed_in_get(slow: Served, mine: Path) -> None:
    with get_underway(slow, mine) as client:
        client.end(signal.SIGKILL, expect=-signal.SIGKILL)
    assert os.listdir(mine) == []
    assert slow.told()["error"]
    run("ls", slow.address)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_client_is_stopped_in_put(slow: Served, mine: Path, number: int) -> None:
    (slow.directory / "big").write_bytes(b"old")
    with (mine / "big").open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)
    with process("put", slow.address, str(mine / "big"), "--mulpdu", "128", "--json") as client:
        assert client.told()["event"] == "connected"
        slow.has_opened_a_file_in(slow.directory)
        if number == signal.SIGKILL:
            client.end(number, expect=-number)
        else:
            errors = client.end(number, expect=1)
            assert errors == "pyiwarp: big: interrupted; the server has stored nothing\n"
    assert slow.told()["error"]
    assert os.listdir(slow.directory) == ["big"]
    assert (slow.directory / "big").read_bytes() == b"old"


def test_the_server_is_stopped(slow: Served, mine: Path) -> None:
    with get_underway(slow, mine) as client:
        assert slow.end(signal.SIGINT, expect=1) == "pyiwarp: stopped; 1 transfer interrupted\n"
        assert "nothing was stored" in client.ended(1)


def test_an_idle_server_stops_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.end(signal.SIGTERM, expect=0) == "pyiwarp: stopped; 0 transfers interrupted\n"


def test_a_server_tells_what_it_has_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "--json", "--idle", "0.2", "--timeout", "20") as served:
        host, port = served.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), PATIENCE) as stranger:
            stranger.sendall(b"GET / HTTP/1.1")
            assert stranger.recv(1) == b""
        with socket.create_connection((host, int(port)), PATIENCE) as idler:
            idler.settimeout(PATIENCE)
            idler.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, len(HELLO))) + HELLO)
            assert idler.recv(20 + len(HELLO), socket.MSG_WAITALL)[20:] == HELLO
            with suppress(ConnectionResetError):
                assert idler.recv(1) == b"", "ended when it was idle"
        last = served.end(signal.SIGTERM, expect=0).splitlines()[-1]
        assert last == "pyiwarp: stopped; 0 transfers interrupted; refused: failed=1"
        told = served.told()
        assert (told["event"], told["interrupted"], told["refusals"]) == ("stopped", 0, {})
        assert told["listener"]["connections"] == 2


# --- the demonstration -----------------------------------------------------------------------------------------------


def test_the_demo(tmp_path: Path) -> None:
    lines = run("demo", "--mib", "20", env={**ENVIRONMENT, "TMPDIR": str(tmp_path)}).stdout.splitlines()
    assert 10 <= len(lines) <= 20
    assert "revision 2, CRC32C" in "".join(lines)
    assert "octet for octet" in lines[-1]
    assert os.listdir(tmp_path) == []
