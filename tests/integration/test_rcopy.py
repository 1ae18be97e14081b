"""`pyiwarp rcopy`: both sides as processes, and clients and servers that say what they should not."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyiwarp import Disconnected
from pyiwarp.cli.rsockets.rcopy import Copier
from pyiwarp.files.errors import BadMessage, RefusedByPeer
from pyiwarp.sockets import StreamTransport, open_connection
from tests.hosts import HOST, closed_port
from tests.integration.loops import Runner, run
from tests.integration.streamrig import QUICK, SMALL, serving
from tests.integration.test_cli import Process, complaint
from tests.integration.test_cli import run as command

__all__ = ["run"]

OPEN, CLOSE, WRITE = 1, 2, 3
OCTETS = random.Random(7427).randbytes(3_000_001)


class Server(Process):
    """An rcopy server in a directory of its own."""

    def __init__(self, root: Path, *words: str) -> None:
        root.mkdir()
        self.root = root
        super().__init__("rcopy", "--root", str(root), "--port", "0", "--json", *words)
        self.port: int = self.told()["port"]

    def stopped(self, interrupted: int = 0) -> dict[str, Any]:
        """End it; its counters."""
        errors = self.end(signal.SIGTERM, 1 if interrupted else 0)
        assert f"stopped; {interrupted} client{'' if interrupted == 1 else 's'} interrupted" in errors
        counters: dict[str, Any] = json.loads(self.rest().splitlines()[-1])["counters"]
        return counters


@contextmanager
def server(root: Path, *words: str) -> Iterator[Server]:
    served = Server(root, *words)
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("rcopy") / "root") as served:
        yield served


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_file_goes_below_the_root(tmp_path: Path, loop: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(OCTETS)
    source.chmod(0o4640)
    with server(tmp_path / "root", "--loop", loop) as served:
        done = command("rcopy", str(source), f"{HOST}:/new", "-p", str(served.port), "--loop", loop)
        assert done.stdout.startswith("opening...transferring...closing...done\n3000001 bytes in ")
        assert done.stdout.endswith(" Gb/sec\n")
        assert (served.root / "new").read_bytes() == OCTETS
        assert stat.S_IMODE((served.root / "new").stat().st_mode) == 0o640, "set-user-ID comes from nobody else"
        told = served.told()
        assert (told["event"], told["name"], told["octets"]) == ("file", "/new", len(OCTETS))
        assert served.stopped() == {"files": 1}


def test_an_empty_file_and_the_name_of_the_source(tmp_path: Path, lasting: Server) -> None:
    """Without a name the file has that of the source; a directory that is not there is not made."""
    source = tmp_path / "empty"
    source.write_bytes(b"")
    (lasting.root / "sub").mkdir()
    told = json.loads(command("rcopy", str(source), f"{HOST}:sub/x", "-p", str(lasting.port), "--json").stdout)
    assert (told["event"], told["octets"]) == ("copied", 0)
    assert (lasting.root / "sub" / "x").read_bytes() == b""
    assert (
        "No such file or directory" in complaint("rcopy", str(source), HOST, "-p", str(lasting.port)).partition(":")[2]
    )


def test_nobody_is_there_and_no_file(tmp_path: Path) -> None:
    with closed_port() as port:
        assert "refused" in complaint("rcopy", __file__, HOST, "-p", str(port)).lower()
    assert "No such file" in complaint("rcopy", str(tmp_path / "none"), HOST)


# --- the server against a client that the test plays -----------------------------------------------------------------


def message(kind: int, body: bytes = b"", data: int = 0, nbytes: int | None = None, version: int = 0) -> bytes:
    return struct.pack("=BBHIQ", version, kind, 16 + len(body) if nbytes is None else nbytes, data, 99) + body


def opening(path: bytes, mode: int = 0o100644) -> bytes:
    return message(OPEN, path + bytes(8 - len(path) % 8), mode)


class Client:
    """A client that says what the test has it say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, octets: bytes) -> int:
        """The error in the answer."""
        self.writer.write(octets)
        version, kind, nbytes, error, number = struct.unpack("=BBHIQ", await self.reader.readexactly(16))
        assert (version, kind, nbytes, number) == (0, octets[1] | 0x80, 16, 99)
        assert isinstance(error, int)
        return error

    async def over(self) -> bool:
        """Whether the server closes the connection."""
        return await self.reader.read() == b""


@asynccontextmanager
async def client(served: Server) -> AsyncIterator[Client]:
    reader, writer = await open_connection(HOST, served.port, options=QUICK)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def size(nbytes: int) -> bytes:
    return message(WRITE, struct.pack("=Q", nbytes))


def test_the_messages_are_those_of_rcopy(run: Runner, lasting: Server) -> None:
    """Several files over one connection; what has a name already is replaced and keeps its permissions."""
    path = lasting.root / "old"

    async def main() -> None:
        path.write_bytes(b"what was there before")
        path.chmod(0o600)
        async with client(lasting) as peer:
            for octets in (b"new", b"newer", b""):
                assert await peer.ask(opening(b"/old")) == 0
                assert path.read_bytes() != octets
                assert await peer.ask(size(len(octets)) + octets) == 0
                assert path.read_bytes() == octets
                assert await peer.ask(message(CLOSE)) == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    run(main)
    path.unlink()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"../outside", errno.EACCES),
        (b"/../outside", errno.EACCES),
        (b"sub/../../outside", errno.EACCES),
        (b"link/outside", errno.EACCES),
        (b"", errno.EACCES),
        (b"/", errno.EACCES),
        (b".", errno.EACCES),
        (b"none/x", errno.ENOENT),
        (b"pipe", errno.EACCES),
        (b"x" * 300, errno.ENAMETOOLONG),
        (b"x" * 5000, errno.ENAMETOOLONG),
        (b"\xff\xfe", errno.EACCES),
    ],
)
def test_paths_that_lead_elsewhere(run: Runner, lasting: Server, tmp_path: Path, path: bytes, error: int) -> None:
    link, pipe = lasting.root / "link", lasting.root / "pipe"
    if not pipe.exists():
        link.symlink_to("..")
        os.mkfifo(pipe)

    async def main() -> None:
        async with client(lasting) as peer:
            assert await peer.ask(opening(path)) == error
            assert await peer.over()

    before = sorted(lasting.root.parent.iterdir())
    run(main)
    assert sorted(lasting.root.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (message(0), errno.EINVAL),
        (message(7), errno.EINVAL),
        (size(3), errno.EINVAL),
        (message(CLOSE), errno.EINVAL),
    ],
)
def test_requests_that_do_not_fit(run: Runner, lasting: Server, octets: bytes, error: int) -> None:
    async def main() -> None:
        async with client(lasting) as peer:
            assert await peer.ask(octets) == error
            assert await peer.over()

    run(main)


@pytest.mark.parametrize(
    ("octets", "error"),
    [(opening(b"twice"), errno.EBUSY), (message(WRITE, bytes(16)), errno.EINVAL), (size(1 << 62), errno.EACCES)],
)
def test_requests_that_do_not_fit_behind_open(run: Runner, lasting: Server, octets: bytes, error: int) -> None:
    async def main() -> None:
        async with client(lasting) as peer:
            assert await peer.ask(opening(b"once")) == 0
            assert await peer.ask(octets) == error
            assert await peer.over()

    run(main)
    assert not (lasting.root / "once").exists()


@pytest.mark.parametrize("octets", [message(OPEN, version=1), message(OPEN, nbytes=15), message(OPEN)[:7]])
def test_what_is_not_rcopy_ends_the_connection(run: Runner, lasting: Server, octets: bytes) -> None:
    async def main() -> None:
        async with client(lasting) as peer:
            peer.writer.write(octets)
            peer.writer.write_eof()
            with pytest.raises(ConnectionResetError):
                await peer.reader.readexactly(1)

    run(main)


def test_a_file_that_is_not_complete_never_appears(run: Runner, tmp_path: Path) -> None:
    async def main(served: Server) -> None:
        async with client(served) as peer:
            assert await peer.ask(opening(b"half")) == 0
            peer.writer.write(size(1_000_000) + bytes(1000))
            peer.writer.write_eof()
            with pytest.raises(ConnectionResetError):
                await peer.reader.readexactly(1)

    with server(tmp_path / "root") as served:
        run(lambda: main(served))
        assert list(served.root.iterdir()) == []
        assert served.stopped() == {"files": 0}


def test_limits(run: Runner, tmp_path: Path) -> None:
    async def main(served: Server) -> None:
        async with client(served) as peer:
            assert await peer.ask(opening(b"x")) == 0
            with pytest.raises(ConnectionRefusedError):
                await open_connection(HOST, served.port, options=QUICK)
            assert await peer.ask(size(11)) == errno.EACCES
            assert await peer.over()

    with server(tmp_path / "root", "--clients", "1", "--max-file", "10") as served:
        run(lambda: main(served))
        assert served.stopped() == {"files": 0, "refused": 1, "max_file": 1, "over_limit": 1}


def test_a_silent_client_is_given_up(run: Runner, tmp_path: Path) -> None:
    async def main(served: Server) -> None:
        async with client(served) as peer:
            assert await peer.ask(opening(b"x")) == 0
            with pytest.raises(ConnectionResetError):
                await peer.reader.readexactly(1)

    with server(tmp_path / "root", "--timeout", "0.5") as served:
        run(lambda: main(served))


def test_a_client_that_takes_no_answer_is_given_up(run: Runner, tmp_path: Path) -> None:
    """Else the answers to all of its requests would wait in memory."""

    async def main(served: Server) -> None:
        reader, writer = await open_connection(HOST, served.port, options=SMALL)
        assert isinstance(writer.transport, StreamTransport)
        writer.transport.pause_reading()  # gives no credit
        writer.write((opening(b"x") + message(CLOSE)) * 50)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(100 * 16)

    with server(tmp_path / "root", "--timeout", "1") as served:
        run(lambda: main(served))
        assert "room for an answer did not come within 1 s" in served.end(signal.SIGTERM, 0)


def test_it_stops_while_a_client_is_there(run: Runner, tmp_path: Path) -> None:
    async def main(served: Server) -> None:
        async with client(served) as peer:
            assert await peer.ask(opening(b"x")) == 0
            await asyncio.to_thread(served.stopped, 1)
            with pytest.raises(ConnectionResetError):
                await peer.reader.readexactly(1)

    with server(tmp_path / "root") as served:
        run(lambda: main(served))


# --- the client against a server that the test plays -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([message(OPEN | 0x80, data=errno.EACCES)], RefusedByPeer, "answers OPEN with error 13: Permission denied"),
        (
            [message(OPEN | 0x80), message(WRITE | 0x80, data=errno.ENOSPC)],
            RefusedByPeer,
            "answers WRITE with error 28",
        ),
        ([message(OPEN | 0x80, data=0xFFFFFFFF)], RefusedByPeer, "answers OPEN with error 4294967295: no error"),
        ([message(CLOSE | 0x80)], BadMessage, "command 0x82 of 16 octets came, the answer to OPEN is due"),
        ([message(OPEN | 0x80, version=3)], BadMessage, "does not speak rcopy: version 3"),
        ([], Disconnected, "closed the connection where the answer to OPEN was due"),
        ([message(OPEN | 0x80)[:5]], BadMessage, "closed the connection within the answer to OPEN"),
    ],
)
def test_what_a_server_answers(run: Runner, answers: list[bytes], error: type[Exception], words: str) -> None:
    said: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for octets in answers:
            await reader.readexactly(16)
            writer.write(octets)
            if len(octets) == 16:
                await reader.read(1 << 16)
        writer.close()

    async def main() -> None:
        async with serving(answer) as served:
            with pytest.raises(error, match=words):
                await Copier(QUICK, 5, said.append).copy(Path(__file__), HOST, served.port, "x")
        assert said[0] == "opening..."
        assert "done" not in "".join(said)

    run(main)
