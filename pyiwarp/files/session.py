"""The server's side of one connection: requests are answered one after the other."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from pyiwarp import Access, Connection, Options, Region, RemoteRegion
from pyiwarp.bounds import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.errors import Disconnected, IwarpError
from pyiwarp.files.attributes import Attributes
from pyiwarp.files.destination import Destination
from pyiwarp.files.dialogue import Dialogue
from pyiwarp.files.digests import Digest, DigestCache
from pyiwarp.files.errors import ChecksumMismatch, Refusal, TransferCancelled, reason_of
from pyiwarp.files.messages import (
    MESSAGE_LIMIT,
    Cancel,
    Commit,
    End,
    Entries,
    Entry,
    Found,
    Get,
    Kept,
    List,
    Message,
    Placed,
    Put,
    Ready,
    Sent,
    Stored,
    encode,
    packed,
)
from pyiwarp.files.report import Report
from pyiwarp.files.room import DiskLimits
from pyiwarp.files.root import Root, close_directory
from pyiwarp.files.source import Source
from pyiwarp.files.staging import ReadAhead, StagingMemory, WriteBehind
from pyiwarp.files.tasks import Window, in_thread, opened_in_thread

__all__ = ["ServerSettings", "ServerState", "Session"]

CHUNK: Final = 4 << 20
"""Octets of one RDMA Write or Read; progress is reported after each. A message must be below 2^32 octets."""

WRITES_IN_FLIGHT: Final = 4
READS_IN_FLIGHT: Final = 4
ROOM: Final = 6
"""Chunks of memory for one transfer: those in flight, and those that are read or written meanwhile."""

LISTING_BATCH: Final = 256
INTERRUPTED: Final = "the transfer was interrupted"

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How files are served.

    `patience` (seconds) limits every wait for a client that owes an answer or progress, `idle` (seconds) the wait for
    its next request. Of more than `clients` at once the one that has been idle longest makes room; if all have work
    the new one is rejected. With `fsync` a received file is on the disk before the client is told that it is stored.
    `backlog` and `per_address` bound the clients in MPA startup, as in `pyiwarp.listen`.
    With `sha256` files are verified by SHA-256, also with clients that have BLAKE3.
    `read_only` refuses every put. `max_file`, `max_client` and `reserve` limit puts; see `DiskLimits`.
    """

    read_only: bool = False
    fsync: bool = False
    sha256: bool = False
    patience: float = 30.0
    idle: float = 300.0
    clients: int = 64
    backlog: int = DEFAULT_BACKLOG
    per_address: int = PER_ADDRESS
    max_file: int | None = None
    max_client: int | None = None
    reserve: int | None = None
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))
    """Of the connections."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What all sessions of one server share."""

    root: Root
    settings: ServerSettings
    on_report: Callable[[Report], None]
    refusals: Counter[str]
    limits: DiskLimits
    digests: DigestCache = field(default_factory=DigestCache)


class Session:
    """Serves one client until it closes the connection."""

    def __init__(self, connection: Connection, server: ServerState, digest: Digest) -> None:
        self._connection = connection
        self._digest = digest
        self._client = connection.peername.rpartition(":")[0]
        self._root = server.root
        self._settings = settings = server.settings
        self._digests = server.digests
        self._limits = server.limits
        self._refusals = server.refusals
        self._on_report = server.on_report
        self._dialogue = Dialogue(connection, settings.patience)
        self.transferring = False
        self.idle_since: float | None = time.monotonic()
        """When the last answer was given; None while a request is answered."""
        self.has_asked = False
        """Whether the client has made a request."""
        self._commit_under_way = False
        """Whether a Commit is to come that nobody waits for: a client sends that of an empty file without an answer."""
        self.reported: IwarpError | None = None
        """The error that ended the connection, if a report already has it."""

    async def run(self) -> None:
        """Answer requests until the client closes the connection; raises the error that ended it otherwise."""
        while True:
            try:
                request = await self._dialogue.receive(Get, Put, List, patience=self._settings.idle)
            except Disconnected:
                return
            self.idle_since, self.has_asked = None, True
            match request:
                case Get():
                    async with self._reported("get", request.name) as report:
                        await self._send(request, report)
                case Put():
                    self._commit_under_way = not request.size
                    async with self._reported("put", request.name) as report:
                        await self._receive(request, report)
                    if self._commit_under_way:
                        await self._dialogue.receive(Commit, Cancel)
                case List():
                    await self._list(request.path)
            self.idle_since = time.monotonic()

    @asynccontextmanager
    async def _reported(self, direction: str, name: str) -> AsyncIterator[Report]:
        """One transfer. Sends Refused for what fails on this side, raises what ended the connection, always reports."""
        report = Report(direction=direction, name=name, peer=self._connection.peername, error=INTERRUPTED)
        self.transferring = True
        try:
            with report.counting(self._connection):
                yield report
            report.error = ""
        except TransferCancelled as error:
            report.error = str(error)
        except (Refusal, ChecksumMismatch) as error:
            report.error = str(error)
            await self._dialogue.refuse(report.error)
        except IwarpError as error:
            report.error = str(error)
            self.reported = error
            raise
        except OSError as error:
            report.error = reason_of(error)
            await self._dialogue.refuse(report.error)
        finally:
            self.transferring = False
            self._tell(report)

    def _tell(self, report: Report) -> None:
        """Call `on_report`; an error of its own ends no transfer."""
        try:
            self._on_report(report)
        except Exception:
            log.exception("%s: the report of a transfer failed", report.peer)

    # --- get: RDMA Writes into the client's memory -------------------------------------------------------------------

    async def _send(self, request: Get, report: Report) -> None:
        with await opened_in_thread(Source.close, self._root.open_file, request.name) as source:
            report.nbytes = source.nbytes
            attributes = Attributes.of(source.status, mode=request.mode, times=request.times)
            await self._dialogue.send(Found(source.nbytes, attributes.mode, attributes.mtime))
            ready = await self._receive_unless_cancelled(Ready)
            report.stag, report.to = ready.stag, ready.to
            memory = StagingMemory(source.nbytes, ROOM * CHUNK, ring=True)
            known = self._digests.get(source.identity, self._digest) if source.tells_its_size else None
            async with ReadAhead(source, memory, self._digest, known or "") as reading:
                with self._dialogue.moving(source.nbytes):
                    async with self._dialogue.registered(memory.view, Access(0)) as region:
                        await self._dialogue.unless_cancelled(
                            self._write_all(region, reading, report), "taking the file"
                        )
                digest = await self._dialogue.keep_peer_waiting(reading.finish())
            report.note(self._digest, digest)
            self._digests.forget(source.identity, self._digest)  # cached again when the client has confirmed it
            await self._dialogue.send(Sent.of(self._digest, digest))
            await self._receive_unless_cancelled(Kept)
            if source.tells_its_size:
                self._digests.add(source.identity, self._digest, digest)

    async def _write_all(self, region: Region, reading: ReadAhead, report: Report) -> None:
        """RDMA Writes, each followed by a Send, whose delivery means that the Write is placed (RFC 5040 §5.5)."""
        memory = reading.memory

        async def write(start: int, end: int) -> None:
            remote = RemoteRegion(report.to + start, report.stag, end - start)
            await self._connection.write(memory.slice_of(region, start, end), remote)
            reading.advance(end)

        async with Window(2 * WRITES_IN_FLIGHT) as window:
            for start in range(0, memory.nbytes, CHUNK):
                end = min(start + CHUNK, memory.nbytes)
                await reading.wait_until_done(end)
                await window.begin(write(start, end))
                await window.begin(self._connection.send(encode(Placed(end))))
                report.operations += 1

    async def _receive_unless_cancelled(self, kind: type[M]) -> M:
        message = await self._dialogue.receive(kind, Cancel)
        if isinstance(message, Cancel):
            raise TransferCancelled(f"the client cancelled: {message.reason}")
        return message

    # --- put: RDMA Reads from the client's memory --------------------------------------------------------------------

    async def _receive(self, request: Put, report: Report) -> None:
        report.nbytes, report.stag, report.to = request.size, request.stag, request.to
        if self._settings.read_only:
            self._refusals["read_only"] += 1
            raise Refusal("the server is read-only")
        with self._limits.taken(self._client, request.size):
            place, name = await opened_in_thread(close_directory, self._root.directory_for, request.name)
            with Destination(place, name, fsync=self._settings.fsync) as destination:
                prepare = partial(destination.prepare, request.size, request.permissions)
                prepared = in_thread(self._limits.prepare, place, request.size, prepare)
                reserved = await self._dialogue.keep_peer_waiting(prepared)
                with self._limits.promised(0 if reserved else request.size):
                    await self._fill(destination, request, report)

    async def _fill(self, destination: Destination, request: Put, report: Report) -> None:
        """Read the client's memory into the file, and keep it if the checksum is right."""
        self._commit_under_way = False
        memory = StagingMemory(request.size, ROOM * CHUNK, ring=True)
        async with WriteBehind(destination, memory, self._digest) as writing:
            with self._dialogue.moving(request.size):
                async with self._dialogue.registered(memory.view, Access.LOCAL_WRITE) as region:
                    await self._dialogue.unless_cancelled(self._read_all(region, writing, report), "the file")
            if request.size:
                await self._dialogue.send(Placed(request.size))  # a Cancel behind it comes where Commit is due
            theirs = (await self._receive_unless_cancelled(Commit)).digest(self._digest)
            ours = await self._dialogue.keep_peer_waiting(writing.finish())
        report.note(self._digest, ours)
        if ours != theirs:
            raise ChecksumMismatch.of(self._digest.title)
        attributes = Attributes(request.permissions, request.mtime)
        await self._dialogue.keep_peer_waiting(in_thread(destination.keep, attributes))
        await self._dialogue.send(Stored())

    async def _read_all(self, region: Region, writing: WriteBehind, report: Report) -> None:
        memory = writing.memory

        async def read(start: int, end: int) -> None:
            remote = RemoteRegion(report.to + start, report.stag, end - start)
            await self._connection.read(memory.slice_of(region, start, end), remote)
            writing.advance(end)  # Reads complete in the order posted (RFC 5040 §5.5)
            if end < memory.nbytes:
                await self._connection.send(encode(Placed(end)))

        async with Window(READS_IN_FLIGHT) as window:
            for start in range(0, memory.nbytes, CHUNK):
                end = min(start + CHUNK, memory.nbytes)
                await writing.wait_for_room(end)
                await window.begin(read(start, end))
                report.operations += 1

    # --- list --------------------------------------------------------------------------------------------------------

    async def _list(self, path: str) -> None:
        """Send the entries in messages of at most `MESSAGE_LIMIT` octets; they are read a batch at a time."""
        count = 0
        try:
            with self._root.listing(path) as entries:
                while batch := await in_thread(lambda: list(islice(entries, LISTING_BATCH))):
                    await self._send_entries(batch)
                    count += len(batch)
        except Refusal as error:
            await self._dialogue.refuse(str(error))
        except IwarpError:
            raise
        except OSError as error:
            await self._dialogue.refuse(reason_of(error))
        else:
            await self._dialogue.send(End(count))

    async def _send_entries(self, entries: list[Entry]) -> None:
        while entries:
            fitting = packed(entries)
            await self._dialogue.send(Entries(tuple(entries[:fitting])))
            entries = entries[fitting:]
