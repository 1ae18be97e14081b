"""The server's side of one client's connection: a request, its transfer, the next request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from pyiwarp.cli.destination import Destination
from pyiwarp.cli.dialogue import Dialogue
from pyiwarp.cli.digest import FollowingDigest
from pyiwarp.cli.digestcache import DigestCache
from pyiwarp.cli.faults import ChecksumMismatch, GivenUp, Refusal, reason_of
from pyiwarp.cli.fileproto import (
    MESSAGE_LIMIT,
    Cancel,
    Commit,
    End,
    Entries,
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
from pyiwarp.cli.prefault import Prefault
from pyiwarp.cli.report import Report
from pyiwarp.cli.root import Entry, Root
from pyiwarp.cli.source import Source
from pyiwarp.cli.threads import in_thread
from pyiwarp.cli.window import Window
from pyiwarp.connections.awaitable import Connection, Options, Region
from pyiwarp.errors import Disconnected, IwarpError
from pyiwarp.mr import Access, RemoteRegion

__all__ = ["ServerSettings", "Serving", "Session"]

CHUNK: Final = 8 << 20
"""Octets of one RDMA Write or Read: a message is far below 2^32, and progress is told after each."""

WRITES_IN_FLIGHT: Final = 4
READS_IN_FLIGHT: Final = 4
LISTING_BATCH: Final = 256
BROKEN_OFF: Final = "the transfer was broken off"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How files are served.

    `patience` bounds every wait for a client that owes an answer or progress, `idle` the wait for its next request,
    in seconds. More than `clients` at once are rejected. `fsync` has received files on the disk before the client
    hears that they are stored.
    """

    read_only: bool = False
    fsync: bool = False
    patience: float = 30.0
    idle: float = 300.0
    clients: int = 64
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))


@dataclass(frozen=True, slots=True)
class Serving:
    """What all sessions of one server share."""

    root: Root
    settings: ServerSettings
    on_report: Callable[[Report], None]
    digests: DigestCache = field(default_factory=DigestCache)


class Session:
    """Serves one client until it closes the connection."""

    def __init__(self, connection: Connection, server: Serving) -> None:
        self._connection = connection
        self._root = server.root
        self._settings = settings = server.settings
        self._digests = server.digests
        self._on_report = server.on_report
        self._talk = Dialogue(connection, settings.patience)
        self.underway = False
        self.told: IwarpError | None = None
        """The error that ended the connection, if a report has told of it."""

    async def run(self) -> None:
        """Answer requests; returns when the client has closed, raises what ended the connection otherwise."""
        while True:
            try:
                request = await self._talk.hear(Get, Put, List, patience=self._settings.idle)
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
        """Around one transfer: refuse what cannot be, let the peer's errors end the session, report in every case."""
        report = Report(direction=direction, name=name, peer=self._connection.peername, error=BROKEN_OFF)
        self.underway = True
        try:
            with report.counting(self._connection):
                yield report
            report.error = ""
        except GivenUp as error:
            report.error = str(error)
        except (Refusal, ChecksumMismatch) as error:
            report.error = str(error)
            await self._talk.refuse(report.error)
        except IwarpError as error:
            report.error = str(error)
            self.told = error
            raise
        except OSError as error:
            report.error = reason_of(error)
            await self._talk.refuse(report.error)
        finally:
            self.underway = False
            self._on_report(report)

    # --- get: RDMA Writes into the client's memory -------------------------------------------------------------------

    async def _send(self, request: Get, report: Report) -> None:
        with await in_thread(self._root.open_file, request.name) as source:
            report.nbytes = source.nbytes
            await self._talk.say(Found(source.nbytes))
            ready = await self._hear_unless_cancelled(Ready)
            report.stag, report.to = ready.stag, ready.to
            async with (
                FollowingDigest(source.view, source.nbytes, self._digests.get(source.identity)) as digest,
                self._talk.lent(source.view, Access(0)) as region,
            ):
                await self._talk.patiently(self._write_all(region, source, report), "taking the file")
                report.sha256 = await self._talk.busily(digest.finish())
                source.check()
            self._digests.forget(source.identity)  # until the client has found it right
            await self._talk.say(Sent(report.sha256))
            await self._hear_unless_cancelled(Kept)
            self._digests.add(source.identity, report.sha256)

    async def _write_all(self, region: Region, source: Source, report: Report) -> None:
        """Writes, and behind each a Send, which tells the client that its octets are placed (RFC 5040 §5.5)."""
        async with Window(2 * WRITES_IN_FLIGHT) as window:
            for start in range(0, source.nbytes, CHUNK):
                source.check()
                end = min(start + CHUNK, source.nbytes)
                remote = RemoteRegion(report.to + start, report.stag, end - start)
                await window.begin(self._connection.write(region[start:end], remote))
                await window.begin(self._connection.send(encode(Placed(end))))
                report.operations += 1

    async def _hear_unless_cancelled(self, kind: type[M]) -> M:
        message = await self._talk.hear(kind, Cancel)
        if isinstance(message, Cancel):
            raise GivenUp(f"the client gave up: {message.reason}")
        return message

    # --- put: RDMA Reads from the client's memory --------------------------------------------------------------------

    async def _receive(self, request: Put, report: Report) -> None:
        report.nbytes, report.stag, report.to = request.size, request.stag, request.to
        if self._settings.read_only:
            raise Refusal("the server is read-only")
        dir_fd, name = await in_thread(self._root.directory_for, request.name)
        with Destination(dir_fd, name, fsync=self._settings.fsync) as destination:
            await self._talk.busily(in_thread(destination.prepare, request.size))
            async with (
                FollowingDigest(destination.view) as digest,
                Prefault(destination.view) as prefault,
                self._talk.lent(destination.view, Access.LOCAL_WRITE) as region,
            ):
                await self._talk.patiently(self._read_all(region, (digest, prefault), report), "the file")
                commit = await self._hear_unless_cancelled(Commit)
                report.sha256 = await self._talk.busily(digest.finish())
            if report.sha256 != commit.sha256:
                raise ChecksumMismatch("the SHA-256 of what arrived is not that of the file")
            await self._talk.busily(in_thread(destination.keep))
            await self._talk.say(Stored())

    async def _read_all(self, region: Region, followers: tuple[FollowingDigest, Prefault], report: Report) -> None:
        async def read(start: int, end: int) -> None:
            await self._connection.read(region[start:end], RemoteRegion(report.to + start, report.stag, end - start))
            for follower in followers:
                follower.advance(end)  # Reads complete in the order in which they were posted
            await self._connection.send(encode(Placed(end)))

        async with Window(READS_IN_FLIGHT) as window:
            for start in range(0, region.nbytes, CHUNK):
                await window.begin(read(start, min(start + CHUNK, region.nbytes)))
                report.operations += 1

    # --- list --------------------------------------------------------------------------------------------------------

    async def _list(self, path: str) -> None:
        """The entries, in messages that fit; they are looked up a batch at a time."""
        count = 0
        try:
            with self._root.listing(path) as entries:
                while batch := await in_thread(lambda: list(islice(entries, LISTING_BATCH))):
                    await self._say_entries(batch)
                    count += len(batch)
        except Refusal as error:
            await self._talk.refuse(str(error))
        except IwarpError:
            raise
        except OSError as error:
            await self._talk.refuse(reason_of(error))
        else:
            await self._talk.say(End(count))

    async def _say_entries(self, entries: list[Entry]) -> None:
        while entries:
            fitting = packed(entries)
            await self._talk.say(Entries(tuple(entries[:fitting])))
            entries = entries[fitting:]
