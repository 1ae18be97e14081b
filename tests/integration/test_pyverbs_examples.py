"""Programs as users of pyverbs write them run on the stand-in by `pyiwarp run --pyverbs`, each side in a process."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.children import COMMAND, finished, first_line, started
from tests.hosts import HOST, closed_port
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "examples" / "pyverbs"
SAID = "pyiwarp run: pyverbs is pyiwarp.pyverbs; there is no other\n"


def command(name: str, *words: str) -> list[str]:
    return [*COMMAND, "run", "--pyverbs", str(PROGRAMS / f"{name}.py"), *words]


def ended(child: subprocess.Popen[str]) -> str:
    """What a server has written since its first line, once it has ended by itself."""
    output, errors = child.communicate(timeout=PATIENCE)
    assert (child.returncode, errors) == (0, SAID)
    assert isinstance(output, str)
    return output


def client(name: str, *words: str) -> str:
    done = finished(command(name, *words))
    assert (done.returncode, done.stderr) == (0, SAID)
    return done.stdout


class Server:
    """A server of an example: what it says first, and `words` by which its clients find it."""

    def __init__(self, name: str, stack: ExitStack, *, by_cm: bool) -> None:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if by_cm:
            port = str(stack.enter_context(closed_port()))
            self.child = stack.enter_context(started(command(name, port), **pipes))
            assert first_line(self.child) == "listening\n"
            self.words = (port, HOST)
        else:
            self.child = stack.enter_context(started(command(name), **pipes))
            word, _, port = first_line(self.child).strip().partition(" ")
            assert word == "port"
            self.words = (HOST, port)


def test_every_program_is_run_here() -> None:
    tested = {"cm_pingpong", "events", "first_steps", "rc_pingpong", "read_write_bw", "rping"}
    assert {path.stem for path in PROGRAMS.glob("*.py")} == tested


def test_first_steps() -> None:
    said = client("first_steps")
    assert said.startswith("iw0 ")
    assert "GID 0 is 0000:0000:0000:0000:0000:ffff:7f00:0001" in said
    assert "datagrams: Failed to create QP. Errno: 95, Operation not supported" in said


def test_ping_pong_of_queue_pairs_that_find_each_other_by_number() -> None:
    with ExitStack() as stack:
        server = Server("rc_pingpong", stack, by_cm=False)
        assert "200 round trips of 1024 octets" in client("rc_pingpong", *server.words)
        assert ended(server.child) == "answered 200 times\n"


def test_ping_pong_of_identifiers() -> None:
    with ExitStack() as stack:
        server = Server("cm_pingpong", stack, by_cm=True)
        assert "200 round trips of 1024 octets" in client("cm_pingpong", *server.words)
        assert ended(server.child) == "answered 200 times\n"


def test_reads_and_writes_of_memory_whose_program_sleeps() -> None:
    with ExitStack() as stack:
        server = Server("read_write_bw", stack, by_cm=False)
        said = client("read_write_bw", *server.words)
        assert "256 messages of 65536 octets" in said
        assert "Write: " in said
        assert ended(server.child) == "in the end there is written\n"


def test_events_wake_a_server() -> None:
    with ExitStack() as stack:
        server = Server("events", stack, by_cm=True)
        for _ in range(2):
            assert client("events", *server.words) == "WAKE UP\n"
        assert ended(server.child) == "client 0 says hello\nclient 1 says hello\n"


def test_rping_reads_and_writes_what_its_client_lends() -> None:
    with closed_port() as port:
        words = (HOST, str(port), "20", "3000")
        with started(command("rping", "-s", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
            assert first_line(server) == "listening\n"
            assert client("rping", "-c", *words) == "20 pings of 3000 octets came back whole\n"
            assert ended(server) == "served 20 pings\n"
