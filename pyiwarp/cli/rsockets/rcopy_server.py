"""rcopy's server: takes files from any number of clients, and writes them below one directory and nowhere else.

A file appears under its name when all of its octets are there. What was there before stays until then.
"""

from __future__ import annotations

import asyncio
import errno
import json as jsonlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from pyiwarp.cli.address import Address
from pyiwarp.cli.rsockets.rcopy import ANSWER, HEADER_SIZE, SIZE, STEP, Command, Header, read_header
from pyiwarp.cli.running import complain, end_server
from pyiwarp.cli.tasks import within
from pyiwarp.cli.terminal import counts_text, explain, shown
from pyiwarp.errors import IwarpError
from pyiwarp.files.destination import Destination
from pyiwarp.files.directories import Place
from pyiwarp.files.errors import BadMessage, Refusal
from pyiwarp.files.room import DiskLimits
from pyiwarp.files.root import Root, close_directory
from pyiwarp.files.tasks import in_thread, opened_in_thread
from pyiwarp.sockets import StreamOptions, StreamServer, start_server

__all__ = ["CopyServer", "CopySettings"]

MAX_PATH: Final = 4096
"""Octets of a path, as Linux has it."""

_PERMISSIONS: Final = 0o777


class CopySettings(NamedTuple):
    """What the server allows: so many `clients` at once, each of which is silent for `patience` seconds at most.

    `max_file` and `reserve` are those of the file service.
    """

    clients: int
    patience: float
    max_file: int | None
    reserve: int | None
    options: StreamOptions


class CopyServer:
    """Takes files into the directory `root`."""

    def __init__(self, root: Root, settings: CopySettings, *, json: bool) -> None:
        self._root = root
        self._settings = settings
        self._json = json
        self._counts: Counter[str] = Counter({"files": 0})
        self._limits = DiskLimits(self._counts, max_file=settings.max_file, max_client=None, reserve=settings.reserve)
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int) -> None:
        """Until it is cancelled: exit code 0 if no client was there then, 1 if one was interrupted."""
        options, most = self._settings.options, self._settings.clients
        server = await start_server(self._take, host, port, limit=STEP, options=options, max_connections=most)
        interrupted = 0
        try:
            self._announce(Address(host, server.port))
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
            interrupted = len(self._clients)
        finally:
            server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await server.wait_closed()
        self._end(server, interrupted)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client; its errors are its own."""
        peer = str(Address(*writer.get_extra_info("peername")[:2]))
        writer.transport.set_write_buffer_limits(0)  # a client that takes no answer makes no more requests
        session = _Session(self._root, self._limits, self._settings.patience, reader, writer)
        try:
            try:
                await session.run(lambda name, nbytes, seconds: self._print_file(peer, name, nbytes, seconds))
            except Refusal as refusal:  # the client has its answer
                self._counts["refused"] += 1
                complain(f"{peer}: {explain(refusal)}")
            finally:
                session.close()
            writer.close()
            await within(self._settings.patience, writer.wait_closed(), "the end of the connection")
        except (IwarpError, OSError) as error:
            complain(f"{peer}: {explain(error)}")
            writer.transport.abort()
        except BaseException:
            writer.transport.abort()
            raise

    # --- what is printed ---------------------------------------------------------------------------------------------

    def _announce(self, place: Address) -> None:
        if self._json:
            print(jsonlib.dumps({"event": "listening", "host": place.host, "port": place.port}), flush=True)
        else:
            print(f"taking files into {shown(str(self._root.path))} at {place}; Ctrl-C stops", flush=True)

    def _print_file(self, peer: str, name: str, nbytes: int, seconds: float) -> None:
        self._counts["files"] += 1
        if self._json:
            facts = {"event": "file", "peer": peer, "name": name, "octets": nbytes, "seconds": round(seconds, 6)}
            print(jsonlib.dumps(facts), flush=True)
        else:
            print(
                f"{time.strftime('%H:%M:%S')}  {peer}  {shown(name)}: {nbytes:,} octets in {seconds:.2f} s", flush=True
            )

    def _end(self, server: StreamServer, interrupted: int) -> None:
        counts = self._counts + Counter(server.counters.refusals)
        counts.setdefault("files", 0)
        end_server(interrupted, "client", counts_text(counts), {"counters": counts} if self._json else None)


class _Session:
    """What one client does: it may have one file open at a time."""

    def __init__(
        self,
        root: Root,
        limits: DiskLimits,
        patience: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._root, self._limits, self._patience = root, limits, patience
        self._reader, self._writer = reader, writer
        self._destination: Destination | None = None
        self._place: Place = ""  # that of the destination, which owns it
        self._name = ""
        self._mode = 0
        self._written: tuple[int, float] | None = None

    async def run(self, on_file: Callable[[str, int, float], None]) -> None:
        """Do what the client asks for until it closes the connection, or something is refused."""
        commands: dict[int, Callable[[Header], Awaitable[None]]]
        commands = {Command.OPEN: self._open, Command.WRITE: self._write, Command.CLOSE: self._close}
        while (header := await read_header(self._reader, self._patience, "a request")) is not None:
            command = commands.get(header.command)
            try:
                if command is None:
                    raise _unfit(errno.EINVAL, f"command {header.command}")
                await command(header)
            except (Refusal, OSError) as error:
                if isinstance(error, ConnectionError | TimeoutError):
                    raise
                number = errno.EACCES if isinstance(error, Refusal) else error.errno or errno.EIO
                self._answer(header, number)
                raise Refusal(f"{self._name or 'a request'}: {explain(error)}") from error
            self._answer(header, 0)
            await within(self._patience, self._writer.drain(), "room for an answer")
            if header.command == Command.CLOSE:
                assert self._written is not None
                on_file(self._name, *self._written)
                self._written = None

    def close(self) -> None:
        """A file that is not complete is forgotten."""
        if self._destination is not None:
            self._destination.close()
            self._destination = None

    def _answer(self, header: Header, error: int) -> None:
        self._writer.write(bytes(Header(header.command | ANSWER, HEADER_SIZE, error, header.number)))

    async def _body(self, nbytes: int) -> bytes:
        try:
            return await within(self._patience, self._reader.readexactly(nbytes), "the rest of a request")
        except asyncio.IncompleteReadError:
            raise BadMessage("the client closed the connection within a request") from None

    async def _open(self, header: Header) -> None:
        if self._destination is not None or self._written is not None:
            raise _unfit(errno.EBUSY, "a file is open")
        if header.nbytes - HEADER_SIZE > MAX_PATH:
            raise _unfit(errno.ENAMETOOLONG, f"a path of {header.nbytes - HEADER_SIZE} octets")
        path = (await self._body(header.nbytes - HEADER_SIZE)).partition(b"\0")[0]
        self._name = os.fsdecode(path)
        name = self._name.lstrip("/")
        self._place, leaf = await opened_in_thread(close_directory, self._root.directory_for, name)
        self._destination = Destination(self._place, leaf)
        self._mode = header.data & _PERMISSIONS

    async def _write(self, header: Header) -> None:
        destination = self._destination
        if destination is None:
            raise _unfit(errno.EINVAL, "no file is open, or it is written")
        if header.nbytes != HEADER_SIZE + SIZE.size:
            raise _unfit(errno.EINVAL, f"a WRITE of {header.nbytes} octets")
        nbytes: int = SIZE.unpack(await self._body(SIZE.size))[0]
        begun = time.perf_counter()
        with self._limits.taken("", nbytes):
            await self._fill(destination, nbytes)
        self._written = nbytes, time.perf_counter() - begun

    async def _fill(self, destination: Destination, nbytes: int) -> None:
        prepare = partial(destination.prepare, nbytes, self._mode)
        reserved = await in_thread(self._limits.prepare, self._place, nbytes, prepare)
        with self._limits.promised(0 if reserved else nbytes):
            await self._receive(destination, nbytes)
        await in_thread(destination.keep)
        self.close()

    async def _receive(self, destination: Destination, nbytes: int) -> None:
        came = 0
        while came < nbytes:
            piece = await within(self._patience, self._reader.read(min(STEP, nbytes - came)), "octets of the file")
            if not piece:
                raise BadMessage(f"the client closed the connection after {came} of {nbytes} octets")
            await in_thread(destination.write, memoryview(piece), came)
            came += len(piece)

    async def _close(self, header: Header) -> None:
        if self._destination is not None:  # opened, and nothing was written: an empty file
            begun = time.perf_counter()
            await self._fill(self._destination, 0)
            self._written = 0, time.perf_counter() - begun
        if self._written is None:
            raise _unfit(errno.EINVAL, "no file is open")


def _unfit(number: int, why: str) -> OSError:
    """A request that cannot be answered otherwise than with an error."""
    return OSError(number, f"{os.strerror(number)}: {why}")
