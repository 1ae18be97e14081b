"""PostgreSQL and psql through two tunnels: neither knows anything of iWARP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import finished, started
from tests.endurance import AS_NOBODY, NOBODY
from tests.hosts import HOST
from tests.integration.tunnelrig import two_tunnels
from tests.patience import PATIENCE

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
"""Where Debian has those that are not for everybody's path."""

AS_USER = AS_NOBODY if os.getuid() == 0 else ()
"""PostgreSQL does not run as root."""

ROWS = 20_000
TRIES = 3

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None or not shutil.which("psql"), reason="this machine has no PostgreSQL"),
    pytest.mark.skipif(bool(AS_USER) and not shutil.which("setpriv"), reason="root cannot become another user here"),
]


class Database:
    """PostgreSQL behind a port, and how often psql was there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.visits = 0

    def psql(self, *words: str, given: str | None = None) -> str:
        """What psql prints when `given` comes at its standard input."""
        self.visits += 1
        command = (
            "psql",
            "-h",
            HOST,
            "-p",
            str(self._port),
            "-U",
            "tunnel",
            *("-X", "-A", "-t", "-q"),
            *words,
            "postgres",
        )
        with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            output, errors = child.communicate(given, PATIENCE)
        assert child.returncode == 0, errors
        assert isinstance(output, str)
        return output


def free_port() -> int:
    """A port that nobody has now; somebody may take it before it is used."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        port: int = held.getsockname()[1]
    return port


def ready(child: subprocess.Popen[str], port: int) -> bool:
    """Wait until the server answers; False if it has ended."""
    until = time.monotonic() + PATIENCE
    while child.poll() is None:
        assert time.monotonic() < until, "it does not become ready"
        if finished([f"{PROGRAMS}/pg_isready", "-h", HOST, "-p", str(port)]).returncode == 0:
            return True
        time.sleep(0.05)
    return False


@contextmanager
def postgresql() -> Iterator[int]:
    """A server with a database of its own; its port."""
    with tempfile.TemporaryDirectory(prefix="tunnel") as directory:
        if AS_USER:
            os.chown(directory, NOBODY, NOBODY)
        data, log = f"{directory}/data", Path(directory) / "log"
        made = finished([*AS_USER, f"{PROGRAMS}/initdb", "-D", data, "-U", "tunnel", "-A", "trust", "-N"])
        assert made.returncode == 0, made.stderr
        for _ in range(TRIES):
            port = free_port()
            words = ("-D", data, "-p", str(port), "-h", HOST, "-k", directory, "-F")
            with log.open("a") as errors, started([*AS_USER, f"{PROGRAMS}/postgres", *words], stderr=errors) as child:
                if ready(child, port):
                    yield port
                    child.send_signal(signal.SIGINT)  # its children are not of its process group
                    assert child.wait(PATIENCE) == 0, log.read_text()
                    return
        pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """PostgreSQL, by way of iWARP."""
    with postgresql() as server, two_tunnels(server) as (near, far):
        database = Database(near.port)
        yield database
        for tunnel in (near, far):
            ends = [tunnel.client() for _ in range(database.visits)]
            assert not [end for end in ends if "error" in end]
            assert tunnel.stopped()["joined"] == database.visits


def test_queries(database: Database) -> None:
    assert database.psql("-c", "select sum(n) from generate_series(1, 1000) as s(n)") == "500500\n"
    assert database.psql("-c", "select repeat('iWARP', 1000000)") == "iWARP" * 1_000_000 + "\n"


def test_rows_go_in_and_out_by_copy(database: Database) -> None:
    rows = "".join(f"{number}\t{'x' * (number % 500)}\n" for number in range(ROWS))
    database.psql("-c", "create table t (n int, words text)")
    database.psql("-c", "copy t from stdin", given=rows)
    assert database.psql("-c", "copy (select * from t order by n) to stdout") == rows
    assert database.psql("-c", "select count(*), sum(length(words)) from t") == f"{ROWS}|{ROWS // 500 * 124_750}\n"


def test_a_notification_comes_while_nobody_asks(database: Database) -> None:
    """The server speaks first."""
    said = database.psql(given="listen news;\nnotify news, 'hello';\nselect 1;\n")
    assert 'Asynchronous notification "news" with payload "hello"' in said


def test_many_clients_at_once(database: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda number: database.psql("-c", f"select pg_sleep(0.05), {number}"), range(12))
        assert [answer.strip().lstrip("|") for answer in answers] == [str(number) for number in range(12)]
