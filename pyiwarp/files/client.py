"""The client of the file service: get, put and listings over one connection."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyiwarp import Access, Connection, Options, connect
from pyiwarp.errors import IwarpError, Rejected
from pyiwarp.files import DEFAULT_PORT
from pyiwarp.files.attributes import Attributes
from pyiwarp.files.destination import Destination
from pyiwarp.files.dialogue import Dialogue, clipped
from pyiwarp.files.digests import Digest
from pyiwarp.files.directories import open_top
from pyiwarp.files.errors import BadMessage, CannotConnect, ChecksumMismatch, Refusal, RefusedByPeer, reason_of
from pyiwarp.files.hello import agreed, knows_no_digests, offer
from pyiwarp.files.messages import (
    MESSAGE_LIMIT,
    NAME_LIMIT,
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
)
from pyiwarp.files.report import Report
from pyiwarp.files.root import is_text
from pyiwarp.files.source import Source, check_regular
from pyiwarp.files.staging import ReadAhead, StagingMemory, WriteBehind
from pyiwarp.files.tasks import in_thread, opened_in_thread

__all__ = ["ClientSettings", "FileClient", "Progress", "connected"]

BEHIND: Final = 32 << 20
"""Octets that are placed and not yet written to the file, at most; what the server has under way comes on top."""

LARGEST_CHUNK: Final = 8 << 20
"""The most octets of one RDMA Read by a server."""

READS_AHEAD: Final = 5
"""Reads that may be answered before their octets are reported: those in flight, and one that follows the report."""

Progress = Callable[[int, int], None]
"""Called with the octets that are placed and the octets in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How files are transferred.

    `patience` (seconds) limits every wait for a server that owes an answer or progress. With `fsync` a file is on the
    disk when `get` returns. With `mode` and `times` the new file has the permissions and the time of change of the one
    that was transferred. With `sha256` files are verified by SHA-256, also by servers that have BLAKE3.
    """

    patience: float = 30.0
    fsync: bool = False
    mode: bool = False
    times: bool = False
    sha256: bool = False
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))
    """Of the connection."""


def _no_progress(placed: int, total: int) -> None:
    """Progress is not reported."""


class FileClient:
    """A client of one file server over one connection; made by `connected`. One operation at a time.

    An operation raises `Refusal` if the server refuses it, `OSError` if this machine fails; the connection goes on
    then. Any other `IwarpError` has ended the connection, and so has cancelling. A file is never left half written.
    """

    def __init__(self, connection: Connection, settings: ClientSettings, digest: Digest = Digest.SHA256) -> None:
        self.connection = connection
        """The connection to the server."""
        self.digest = digest
        """What verifies the files."""
        self._settings = settings
        self._dialogue = Dialogue(connection, settings.patience)
        self._cancelled = False
        self.committed = False
        """Whether the last `put` came so far that the server may have stored the file."""

    def _report(self, direction: str, name: str) -> Report:
        return Report(direction=direction, name=name, peer=self.connection.peername)

    # --- get ---------------------------------------------------------------------------------------------------------

    async def get(self, name: str, to: Path, progress: Progress = _no_progress) -> Report:
        """Have the server RDMA Write its file `name` here; it replaces the file `to` when all octets are right."""
        _check_name(name)
        report = self._report("get", name)
        settings = self._settings
        with report.counting(self.connection):
            await self._dialogue.send(Get(name, settings.mode, settings.times))
            found = await self._dialogue.receive(Found)
            report.nbytes = found.size
            async with self._cancelling():
                with _destination(to, fsync=settings.fsync) as destination:
                    prepared = in_thread(destination.prepare, found.size, found.permissions)
                    await self._dialogue.keep_peer_waiting(prepared)
                    theirs = await self._take(destination, report, progress)
                    if report.digest(self.digest) != theirs:
                        raise ChecksumMismatch.of(self.digest.title)
                    kept = in_thread(destination.keep, Attributes(found.permissions, found.mtime))
                    await self._dialogue.keep_peer_waiting(kept)
            await self._dialogue.send(Kept())
        return report

    async def _take(self, destination: Destination, report: Report, progress: Progress) -> str:
        """Let the server RDMA Write, and write to the file what is placed meanwhile; returns the server's digest."""
        memory = StagingMemory(report.nbytes, BEHIND, ring=False)
        rights = Access.LOCAL_WRITE | Access.REMOTE_WRITE
        async with WriteBehind(destination, memory, self.digest) as writing:
            with self._dialogue.moving(report.nbytes):
                async with self._dialogue.registered(memory.view, rights) as region:
                    report.stag, report.to = region.stag, region.to
                    await self._dialogue.send(Ready(region.stag, region.to))
                    theirs = await self._follow_writes(writing, report, progress)
            report.note(self.digest, await self._dialogue.keep_peer_waiting(writing.finish()))
        return theirs

    async def _follow_writes(self, writing: WriteBehind, report: Report, progress: Progress) -> str:
        """Receive the server's Placed messages until it has sent all. A file that cannot be written cancels that."""
        placed = 0
        while isinstance(message := await self._dialogue.receive(Placed, Sent), Placed):
            placed = _advanced(placed, message.upto, report)
            writing.advance(placed)
            progress(placed, report.nbytes)
            try:
                await writing.wait_for_room(placed)  # meanwhile TCP stops the server when messages pile up here
            except Refusal as error:
                await self._cancel(str(error))
                await self._wait_until_stopped(placed, report, Sent)
                raise
        if placed != report.nbytes:
            raise BadMessage(f"the server reports that all is sent; {placed} of {report.nbytes} octets are placed")
        return message.digest(self.digest)

    async def _wait_until_stopped(self, placed: int, report: Report, *last: type[Message]) -> None:
        """Behind a Cancel: wait until the server does not use the memory here any more.

        One that takes the Cancel answers Refused. One that was done before, or does not look for it, goes on to the
        `last` message, or until all is placed; then the Cancel is all that it has of the transfer.
        """
        with suppress(RefusedByPeer):
            while placed < report.nbytes or last:
                message = await self._dialogue.receive(Placed, *last)
                if not isinstance(message, Placed):
                    return
                placed = _advanced(placed, message.upto, report)

    @asynccontextmanager
    async def _cancelling(self) -> AsyncIterator[None]:
        """Send Cancel when this side cannot go on and the server has not ended the transfer."""
        self._cancelled = False
        try:
            yield
        except RefusedByPeer:
            raise
        except (Refusal, ChecksumMismatch) as error:
            await self._cancel(str(error))
            raise
        except IwarpError:
            raise
        except OSError as error:
            await self._cancel(reason_of(error))
            raise

    async def _cancel(self, reason: str) -> None:
        """Send Cancel, unless this transfer is cancelled already."""
        if self._cancelled:
            return
        self._cancelled = True
        with suppress(IwarpError):  # the caller gets the first error; the next operation will see this one
            await self._dialogue.send(Cancel(clipped(reason)))

    # --- put ---------------------------------------------------------------------------------------------------------

    async def put(self, path: Path, name: str, progress: Progress = _no_progress) -> Report:
        """Have the server RDMA Read the file `path` and store it as `name`."""
        self.committed = False
        _check_name(name)
        report = self._report("put", name)
        with report.counting(self.connection), await opened_in_thread(Source.close, Source.open, path) as source:
            report.nbytes = source.nbytes
            await self._lend(source, report, progress)
            self.committed = True
            await self._dialogue.send(Commit.of(self.digest, report.digest(self.digest)))
            await self._dialogue.receive(Stored)
        return report

    async def _lend(self, source: Source, report: Report, progress: Progress) -> None:
        """Let the server RDMA Read the file from memory, which is filled ahead of it."""
        ahead = (READS_AHEAD + self._settings.options.recv_depth) * LARGEST_CHUNK
        memory = StagingMemory(source.nbytes, ahead, ring=False)
        async with ReadAhead(source, memory, self.digest) as reading:
            with self._dialogue.moving(source.nbytes):
                async with self._dialogue.registered(memory.view, Access.REMOTE_READ) as region:
                    report.stag, report.to = region.stag, region.to
                    await reading.wait_until_done(memory.room)
                    attributes = Attributes.of(source.status, mode=self._settings.mode, times=self._settings.times)
                    async with self._cancelling():
                        await self._dialogue.send(Put(report.name, source.nbytes, region.stag, region.to, *attributes))
                        await self._follow_reads(reading, report, progress)
            async with self._cancelling():
                report.note(self.digest, await self._dialogue.keep_peer_waiting(reading.finish()))

    async def _follow_reads(self, reading: ReadAhead, report: Report, progress: Progress) -> None:
        """Receive the server's Placed messages until all octets are placed. A file that cannot be read cancels that.

        A Placed is taken only when the memory is filled for all Reads that may come before the next one is taken: what
        piles up here beyond `recv_depth` messages stops the connection.
        """
        placed = 0
        while placed < report.nbytes:
            placed = _advanced(placed, (await self._dialogue.receive(Placed)).upto, report)
            reading.advance(placed)
            progress(placed, report.nbytes)
            try:
                await reading.wait_until_done(min(report.nbytes, placed + reading.memory.room))
            except Refusal as error:
                await self._cancel(str(error))
                await self._wait_until_stopped(placed, report)
                raise

    # --- list --------------------------------------------------------------------------------------------------------

    async def entries(self, path: str = "") -> AsyncIterator[Entry]:
        """The entries of the server's directory `path`, as they arrive."""
        _check_name(path)
        await self._dialogue.send(List(path))
        count = 0
        while isinstance(message := await self._dialogue.receive(Entries, End), Entries):
            for entry in message.entries:
                count += 1
                yield entry
        if message.count != count:
            raise BadMessage(f"the server sent {count} entries and reports {message.count}")


def _advanced(placed: int, upto: int, report: Report) -> int:
    """Check the progress that the server reports: it grows, and not beyond the file."""
    if not placed < upto <= report.nbytes:
        raise BadMessage(f"the server reports {upto} of {report.nbytes} octets placed, after {placed}")
    report.operations += 1
    return upto


def _check_name(name: str) -> None:
    """Raise `Refusal` for a name that does not fit a message."""
    if not is_text(name) or len(name.encode()) > NAME_LIMIT:
        raise Refusal(f"a name is at most {NAME_LIMIT} octets of UTF-8")


def _destination(path: Path, *, fsync: bool) -> Destination:
    """The file to be written. Raises `Refusal` if `path` is, or links to, something other than a regular file."""
    with suppress(FileNotFoundError):
        check_regular(os.stat(path).st_mode)
    return Destination(open_top(path.parent), path.name, fsync=fsync)


@asynccontextmanager
async def connected(
    host: str, port: int = DEFAULT_PORT, settings: ClientSettings | None = None
) -> AsyncIterator[FileClient]:
    """Connect to the file server on `host` and `port`; the block has the client.

    Leaving the block closes the connection, leaving it by an exception aborts it. Raises `CannotConnect` if TCP cannot
    be established, `Rejected` or another `StartupError` if MPA startup fails, `BadMessage` if the peer is not a file
    server. A server of an earlier version rejects a client that names BLAKE3; then a second connection is made, whose
    files are verified by SHA-256.
    """
    settings = settings or ClientSettings()
    hello = offer(sha256=settings.sha256)
    try:
        connection = await _connect(host, port, hello, settings.options)
    except Rejected as rejected:
        without = offer(sha256=True)
        if hello == without or not knows_no_digests(rejected):
            raise
        hello = without
        connection = await _connect(host, port, hello, settings.options)
    try:
        yield FileClient(connection, settings, agreed(hello, connection.private_data))
    except BaseException:
        connection.abort()
        raise
    await connection.close()


async def _connect(host: str, port: int, hello: bytes, options: Options) -> Connection:
    try:
        return await connect(host, port, private_data=hello, options=options)
    except IwarpError:
        raise
    except OSError as error:
        raise CannotConnect(f"cannot connect to {host} port {port}: {_why(error)}") from error


def _why(error: OSError) -> str:
    """The system's text; one cause also when several addresses of the host were tried and each failed."""
    if isinstance(error, socket.gaierror):
        return f"the host is not known: {error.strerror}"
    if error.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return os.strerror(errno.ECONNREFUSED)
    return reason_of(error)
