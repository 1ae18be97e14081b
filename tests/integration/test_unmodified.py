"""Programs that know nothing of iWARP, server and client, over `pyiwarp run`."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.children import ENVIRONMENT, finished, first_line, started
from tests.patience import PATIENCE

HERE = os.fspath(Path(__file__).with_name("programs"))
PYTHON = (sys.executable,)
OVER_IWARP = (sys.executable, "-m", "pyiwarp", "run", "--check")
HTTP = ("-m", "http.server", "0", "--bind", "127.0.0.1")
PORT = "PORT"

PAIRS = {
    "urllib": (HTTP, "fetch.py"),
    "requests": (HTTP, "with_requests.py"),
    "xmlrpc": (("xmlrpc_server.py",), "xmlrpc_client.py"),
    "ftplib": (("ftp_server.py",), "ftp_client.py"),
    "smtplib": (("smtp_server.py",), "smtp_client.py"),
    "aiohttp": (("aiohttp_server.py",), "aiohttp_client.py"),
    "redis": (("redis_server.py",), "redis_client.py"),
    "socketserver": (("threading_server.py",), "threading_client.py"),
    "ssl": (("tls_server.py",), "tls_client.py"),
}
REQUEST = 64
"""Octets of an MPA Request of revision 2 with the private data of rsockets."""
COUNTED = re.compile(r"pyiwarp run: (\d+) streams connected and (\d+) accepted over MPA, (\d+) over TCP\n\Z")
# pyftpdlib is in Python's deprecated asyncore below 3.12, and says so
ENV = {**ENVIRONMENT, "PYTHONWARNINGS": "ignore::DeprecationWarning"}


@contextmanager
def served(runner: Sequence[str], words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and the port that it says."""
    with started([*runner, *words], cwd=HERE, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        line = first_line(server)
        port = re.search(r"\b\d{4,5}\b", line)
        assert port is not None, (line, _said(server))
        yield server, port[0]


def ended(server: subprocess.Popen[str]) -> str:
    """Interrupt a server that has nothing left to do; returns what it said on standard error."""
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0, (server.returncode, errors)
    return errors


def client(runner: Sequence[str], name: str, port: str) -> subprocess.CompletedProcess[str]:
    return finished([*runner, name, port], cwd=HERE, env=ENV)


def counted(errors: str) -> tuple[int, int, int]:
    """Streams connected, accepted, and sockets that stayed TCP, as the last line says."""
    found = COUNTED.search(errors)
    assert found is not None, errors
    return int(found[1]), int(found[2]), int(found[3])


@pytest.mark.parametrize("pair", PAIRS)
def test_server_and_client_speak_mpa_and_nothing_else(pair: str) -> None:
    words, name = PAIRS[pair]
    with served(OVER_IWARP, words) as (server, port):
        done = client(OVER_IWARP, name, port)
        assert (done.returncode, done.stdout) == (0, "done\n"), (done.stderr, _said(server))
        connected, accepted, plain = counted(done.stderr)
        theirs = counted(ended(server))
    assert connected >= 1
    assert plain == 0
    assert theirs == (accepted, connected, 0)  # with active FTP the server connects too


def _said(server: subprocess.Popen[str]) -> str:
    """What a server that is to be ended anyway has said."""
    server.send_signal(signal.SIGINT)
    return "".join(server.communicate(timeout=PATIENCE))


@pytest.mark.parametrize("pair", PAIRS)
def test_they_are_programs_that_python_runs_over_tcp(pair: str) -> None:
    words, name = PAIRS[pair]
    with served(PYTHON, words) as (server, port):
        done = client(PYTHON, name, port)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
        ended(server)


def test_a_client_over_tcp_is_not_served() -> None:
    with served(OVER_IWARP, HTTP) as (server, port):
        done = client(PYTHON, "fetch.py", port)
        assert done.returncode == 1
        assert re.search(r"RemoteDisconnected|ConnectionResetError|BadStatusLine", done.stderr), done.stderr
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=PATIENCE)
    assert server.returncode == 3  # no MPA was spoken
    assert counted(errors) == (0, 0, 0)


TCP_SERVERS = {
    "answers the Request": (b"", b"HTTP/1.0 400 Bad request syntax\r\n\r\n", 60, "does not speak MPA"),
    "greets": (b"220 there is mail\r\n", b"", 60, "does not speak MPA"),
    "leaves": (b"", b"", 60, "closed the connection before its startup frame was complete"),
    "is silent": (b"", None, 0.2, "timed out"),
}
"""What a server says first, what it answers (None: nothing, and it stays), the client's timeout, and what that says.

An HTTP server is the first or the last of these: it answers to a Request in whose STags and TOs there is a newline.
"""


@pytest.mark.parametrize("server", TCP_SERVERS)
def test_a_server_over_tcp_is_refused(server: str) -> None:
    """There is no silent return to TCP."""
    greeting, answer, timeout, words = TCP_SERVERS[server]
    asked = bytearray()

    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.settimeout(PATIENCE)
            peer.sendall(greeting)
            with peer.makefile("rb") as file, suppress(ConnectionResetError):  # the client leaves at once
                asked.extend(file.read(REQUEST))
                if answer is None:
                    file.read()  # up to the end
                else:
                    peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        listener.settimeout(PATIENCE)
        served = threads.submit(serve)
        place = listener.getsockname()
        code = f"import socket; socket.create_connection({place}, {timeout}).sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')"
        done = finished([*OVER_IWARP, "-c", code], env=ENV)
        served.result(PATIENCE)
    assert done.returncode == 3
    assert words in done.stderr.splitlines()[-2]
    assert counted(done.stderr) == (0, 0, 0)
    assert greeting or asked.startswith(b"MPA ID Req Frame")


def test_only_some_places_and_what_stays_tcp_is_said() -> None:
    with served(PYTHON, HTTP) as (over_tcp, plain), served(OVER_IWARP, HTTP) as (over_iwarp, port):
        code = (
            "import sys, urllib.request\n"
            "for port in sys.argv[1:]:\n"
            "    with urllib.request.urlopen(f'http://127.0.0.1:{port}/fetch.py') as answer: answer.read()\n"
        )
        command = [*OVER_IWARP, "--only", f"127.0.0.1:{port}", "-c", code, plain, plain, port]
        done = finished(command, cwd=HERE, env=ENV)
        assert done.returncode == 3, done.stderr  # not everything was over MPA
        assert done.stderr.count(f"pyiwarp run: TCP, not iWARP: a socket connects to 127.0.0.1:{plain}\n") == 1
        assert counted(done.stderr) == (1, 0, 2)
        ended(over_tcp)
        assert counted(ended(over_iwarp)) == (0, 1, 0)


@pytest.mark.parametrize("place", ["127.0.0.1:", "127.0.0.1:9", "[::1]:", ":9"])
def test_a_listener_that_is_left_out_is_said(place: str) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"
    done = finished([*OVER_IWARP[:-1], "--only", place, "-c", code], env=ENV)
    assert done.returncode == 0
    line = f"pyiwarp run: TCP, not iWARP: a socket listens at 127.0.0.1:{done.stdout.strip()}\n"
    assert done.stderr == ("" if place == "127.0.0.1:" else line)


def test_a_socket_that_python_cannot_replace_is_said() -> None:
    """`_socket.socket`, by which modules in C and old copies of the class go, is seen and counted."""
    with served(PYTHON, HTTP) as (server, port):
        code = f"import _socket; s = _socket.socket(); s.connect(('127.0.0.1', {port})); s.close()"
        done = finished([*OVER_IWARP, "-c", code], env=ENV)
        assert done.returncode == 3
        assert f"TCP, not iWARP: a socket connects to 127.0.0.1:{port}\n" in done.stderr
        ended(server)


def test_another_process_is_said() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', '']); subprocess.run(['true'])"
    done = finished([*OVER_IWARP[:-1], "-c", code], env=ENV)
    assert done.returncode == 0
    line = "pyiwarp run: not replaced: the sockets of another process, "
    assert done.stderr == f"{line}{sys.executable}\n{line}true\n"


def test_uvloop_is_hidden() -> None:
    """It makes its sockets in C."""
    code = (
        "import importlib.util, asyncio\n"
        "try:\n    import uvloop\nexcept ImportError as error: print(error)\n"
        "print(type(asyncio.new_event_loop()).__module__)"
    )
    done = finished([*OVER_IWARP[:-1], "-c", code], env=ENV)
    assert done.stdout.splitlines() == ["import of uvloop halted; None in sys.modules", "asyncio.unix_events"]


def test_a_forked_server_speaks_mpa(tmp_path: Path) -> None:
    """A child that is forked before the first connection has streams of its own."""
    code = (
        "import os, socket\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "if os.fork() == 0:\n"
        "    with socket.create_connection(listener.getsockname()) as client: client.sendall(b'from a child')\n"
        "    raise SystemExit\n"
        "peer, _ = listener.accept()\n"
        "print(peer.recv(100, socket.MSG_WAITALL), flush=True)\n"
        "os.wait()\n"
    )
    done = finished([*OVER_IWARP, "-c", code], env=ENV, cwd=os.fspath(tmp_path))
    assert done.stdout == "b'from a child'\n", done.stderr
    assert done.returncode == 0, done.stderr
    assert counted(done.stderr) == (0, 1, 0)
