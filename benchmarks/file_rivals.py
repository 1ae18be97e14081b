"""What else moves a file: asyncio's streams with a digest or without, and curl from a static server."""

from __future__ import annotations

import asyncio
import http.server
import io
import mmap
import shutil
import subprocess
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.pairs import HOST, Absent
from pyiwarp.files.digests import Digest

__all__ = ["CHUNK", "GOT", "NAME", "curl_get", "static_server", "stream_get", "stream_put", "stream_server"]

CHUNK: Final = 1 << 20
NAME: Final = "source.bin"
GOT: Final = "got.bin"
PATIENCE: Final = 120.0


# --- streams: writes of 1 MiB from a mapping, reads of 1 MiB into one ------------------------------------------------


class Digesting:
    """A digest that is computed in a thread behind the transfer, as pyiwarp does; with None there is none."""

    def __init__(self, kind: Digest | None, view: memoryview) -> None:
        self._hash = None if kind is None else kind.begin()
        self._view = view
        self._done = 0
        self._task: asyncio.Future[object] | None = None

    def advance(self, upto: int) -> None:
        if self._hash is None or (self._task is not None and not self._task.done()):
            return
        loop = asyncio.get_running_loop()
        self._task = loop.run_in_executor(None, self._hash.update, self._view[self._done : upto])
        self._done = upto

    async def finish(self, upto: int) -> str:
        if self._task is not None:
            await self._task
        if self._hash is not None:
            await asyncio.to_thread(self._hash.update, self._view[self._done : upto])
        self._view.release()
        return "" if self._hash is None else self._hash.hexdigest()


async def give(writer: asyncio.StreamWriter, path: Path, kind: Digest | None) -> None:
    """Send the size, the octets and the digest, and end this direction."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
        view = memoryview(source)
        digesting = Digesting(kind, view[:])
        writer.write(len(view).to_bytes(8, "big"))
        for start in range(0, len(view), CHUNK):
            with view[start : start + CHUNK] as piece:
                writer.write(piece)
                await writer.drain()
            digesting.advance(min(start + CHUNK, len(view)))
        writer.write((await digesting.finish(len(view))).encode())
        writer.transport.set_write_buffer_limits(high=0)
        await writer.drain()  # until nothing of the mapping is still to be written
        writer.write_eof()
        view.release()


async def take(reader: asyncio.StreamReader, path: Path, kind: Digest | None) -> None:
    """Receive what `give` sends into a new file; raises `ValueError` if the digest is another."""
    size = int.from_bytes(await reader.readexactly(8), "big")
    with path.open("wb+") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as sink:
            view = memoryview(sink)
            digesting = Digesting(kind, view[:])
            placed = 0
            while placed < size:
                piece = await reader.read(min(CHUNK, size - placed))
                if not piece:
                    raise ConnectionError("the stream ended early")
                view[placed : placed + len(piece)] = piece
                placed += len(piece)
                digesting.advance(placed)
            ours, theirs = await digesting.finish(size), (await reader.read()).decode()
            view.release()
            if ours != theirs:
                raise ValueError("the digests differ")


def stream_server(directory: Path, announce: Pipe, *, put: bool, kind: Digest | None) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if put:
            await take(reader, directory / GOT, kind)
            writer.write(b"stored")
        else:
            await give(writer, directory / NAME, kind)
        writer.close()
        await writer.wait_closed()

    async def serve() -> None:
        server = await asyncio.start_server(answer, HOST, 0, limit=2 * CHUNK)
        announce.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def stream_get(directory: Path, port: int, *, kind: Digest | None) -> None:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2 * CHUNK)
    await take(reader, directory / GOT, kind)
    writer.close()
    await writer.wait_closed()


async def stream_put(directory: Path, port: int, *, kind: Digest | None) -> None:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2 * CHUNK)
    await give(writer, directory / NAME, kind)
    if await reader.read() != b"stored":
        raise ConnectionError("the server has not stored the file")
    writer.close()
    await writer.wait_closed()


# --- curl ------------------------------------------------------------------------------------------------------------


class StaticFiles(http.server.SimpleHTTPRequestHandler):
    """Python's own static server, but that the kernel sends the file (sendfile), as good static servers let it."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        assert isinstance(source, io.BufferedIOBase), "files are served, no listings"
        outputfile.flush()
        self.connection.sendfile(source)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def static_server(directory: Path, announce: Pipe) -> None:
    with http.server.ThreadingHTTPServer((HOST, 0), partial(StaticFiles, directory=str(directory))) as server:
        announce.send(server.server_port)
        server.serve_forever()


async def curl_get(directory: Path, port: int) -> None:
    """Let curl get the file; it starts within the time that is measured. Raises `Absent` where it is not installed."""
    program = shutil.which("curl")
    if program is None:
        raise Absent("curl is not installed (Debian: curl)")
    command = [program, "--silent", "--fail", "--noproxy", "*", "--output", str(directory / GOT)]
    done = subprocess.run(  # noqa: ASYNC221 - this process has nothing else to do
        [*command, f"http://{HOST}:{port}/{NAME}"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise RuntimeError(f"curl ended with {done.returncode}: {done.stderr.strip()}")
