"""The server's side of one connection: requests are answered one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from pyiwarp import Access, Connection, Options, Region, RemoteRegion
from pyiwarp.errors import Disconnected, IwarpError
from pyiwarp.files.destination import Destination
from pyiwarp.files.dialogue import Dialogue
from pyiwarp.files.digests import DigestCache, FollowingDigest
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
from pyiwarp.files.prefault import Prefault
from pyiwarp.files.report import Report
from pyiwarp.files.root import Root
from pyiwarp.files.source import Source
from pyiwarp.files.tasks import Window, in_thread

__all__ = ["ServerSettings", "ServerState", "Session"]

CHUNK: Final = 8 << 20
"""Octets of one RDMA Write or Read; progress is reported after each. A message must be below 2^32 octets."""

WRITES_IN_FLIGHT: Final = 4
READS_IN_FLIGHT: Final = 4
LISTING_BATCH: Final = 256
INTERRUPTED: Final = "the transfer was interrupted"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How files are served.

    `patience` (seconds) limits every wait for a client that owes an answer or progress, `idle` (seconds) the wait for
    its next request. More than `clients` at once are rejected. With `fsync` a received file is on the disk before the
    client is told that it is stored. `read_only` refuses every put.
    """

    read_only: bool = False
    fsync: bool = False
    patience: float = 30.0
    idle: float = 300.0
    clients: int = 64
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))


@dataclass(frozen=True, slots=True)
class ServerState:
    """What all sessions of one server share."""

    root: Root
    settings: ServerSettings
    on_report: Callable[[Report], None]
    digests: DigestCache = field(default_factory=DigestCache)


class Session:
    """Serves one client until it closes the connection."""

    def __init__(self, connection: Connection, server: ServerState) -> None:
        self._connection = connection
        self._root = server.root
        self._settings = settings = server.settings
        self._digests = server.digests
        self._on_report = server.on_report
        self._dialogue = Dialogue(connection, settings.patience)
        self.transferring = False
        self.reported: IwarpError | None = None
        """The error that ended the connection, if a report already has it."""

    async def run(self) -> None:
        """Answer requests until the client closes the connection; raises the error that ended it otherwise."""
        while True:
            try:
                request = await self._dialogue.receive(Get, Put, List, patience=self._settings.idle)
            except Disconnected:
                return
            match request:
                case Get():
                    async with self._reported("get", request.name) as report:
                        await self._send(request, report)
                case Put():
                    async with self._reported("put", request.name) as report:
                        await self._receive(request, report)
                case List():
                    await self._list(request.path)

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
            self._on_report(report)

    # --- get: RDMA Writes into the client's memory -------------------------------------------------------------------

    async def _send(self, request: Get, report: Report) -> None:
        with await in_thread(self._root.open_file, request.name) as source:
            report.nbytes = source.nbytes
            await self._dialogue.send(Found(source.nbytes))
            ready = await self._receive_unless_cancelled(Ready)
            report.stag, report.to = ready.stag, ready.to
            async with (
                FollowingDigest(source.view, source.nbytes, self._digests.get(source.identity)) as digest,
                self._dialogue.registered(source.view, Access(0)) as region,
            ):
                await self._dialogue.wait_for(self._write_all(region, source, report), "taking the file")
                report.sha256 = await self._dialogue.keep_peer_waiting(digest.finish())
                source.check()
            self._digests.forget(source.identity)  # cached again when the client has confirmed it
            await self._dialogue.send(Sent(report.sha256))
            await self._receive_unless_cancelled(Kept)
            self._digests.add(source.identity, report.sha256)

    async def _write_all(self, region: Region, source: Source, report: Report) -> None:
        """RDMA Writes, each followed by a Send, whose delivery means that the Write is placed (RFC 5040 §5.5)."""
        async with Window(2 * WRITES_IN_FLIGHT) as window:
            for start in range(0, source.nbytes, CHUNK):
                source.check()
                end = min(start + CHUNK, source.nbytes)
                remote = RemoteRegion(report.to + start, report.stag, end - start)
                await window.begin(self._connection.write(region[start:end], remote))
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
            raise Refusal("the server is read-only")
        dir_fd, name = await in_thread(self._root.directory_for, request.name)
        with Destination(dir_fd, name, fsync=self._settings.fsync) as destination:
            await self._dialogue.keep_peer_waiting(in_thread(destination.prepare, request.size))
            async with (
                FollowingDigest(destination.view) as digest,
                Prefault(destination.view) as prefault,
                self._dialogue.registered(destination.view, Access.LOCAL_WRITE) as region,
            ):
                await self._dialogue.wait_for(self._read_all(region, (digest, prefault), report), "the file")
                commit = await self._receive_unless_cancelled(Commit)
                report.sha256 = await self._dialogue.keep_peer_waiting(digest.finish())
            if report.sha256 != commit.sha256:
                raise ChecksumMismatch("the SHA-256 of what arrived is not that of the file")
            await self._dialogue.keep_peer_waiting(in_thread(destination.keep))
            await self._dialogue.send(Stored())

    async def _read_all(self, region: Region, followers: tuple[FollowingDigest, Prefault], report: Report) -> None:
        async def read(start: int, end: int) -> None:
            await self._connection.read(region[start:end], RemoteRegion(report.to + start, report.stag, end - start))
            for follower in followers:
                follower.advance(end)  # Reads complete in the order posted (RFC 5040 §5.5)
            await self._connection.send(encode(Placed(end)))

        async with Window(READS_IN_FLIGHT) as window:
            for start in range(0, region.nbytes, CHUNK):
                await window.begin(read(start, min(start + CHUNK, region.nbytes)))
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
