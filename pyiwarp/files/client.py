"""The client of the file service: get, put and listings over one connection."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pyiwarp import Access, Connection, Options, connect
from pyiwarp.errors import IwarpError
from pyiwarp.files import DEFAULT_PORT
from pyiwarp.files.destination import Destination
from pyiwarp.files.dialogue import Dialogue, clipped
from pyiwarp.files.digests import FollowingDigest
from pyiwarp.files.errors import BadMessage, CannotConnect, ChecksumMismatch, Refusal, RefusedByPeer, reason_of
from pyiwarp.files.messages import (
    HELLO,
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
    Placed,
    Put,
    Ready,
    Sent,
    Stored,
)
from pyiwarp.files.prefault import Prefault
from pyiwarp.files.report import Report
from pyiwarp.files.root import is_text
from pyiwarp.files.source import Source, check_regular
from pyiwarp.files.tasks import in_thread

__all__ = ["ClientSettings", "FileClient", "Progress", "connected"]

Progress = Callable[[int, int], None]
"""Called with the octets that are placed and the octets in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How files are transferred.

    `patience` (seconds) limits every wait for a server that owes an answer or progress. With `fsync` a file is on the
    disk when `get` returns.
    """

    patience: float = 30.0
    fsync: bool = False
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))


def _no_progress(placed: int, total: int) -> None:
    """Progress is not reported."""


class FileClient:
    """A client of one file server over one connection; made by `connected`. One operation at a time.

    An operation raises `Refusal` if the server refuses it, `OSError` if this machine fails; the connection goes on
    then. Any other `IwarpError` has ended the connection, and so has cancelling. A file is never left half written.
    """

    def __init__(self, connection: Connection, settings: ClientSettings) -> None:
        self.connection = connection
        self._settings = settings
        self._dialogue = Dialogue(connection, settings.patience)
        self.committed = False
        """Whether the last `put` came so far that the server may have stored the file."""

    def _report(self, direction: str, name: str) -> Report:
        return Report(direction=direction, name=name, peer=self.connection.peername)

    # --- get ---------------------------------------------------------------------------------------------------------

    async def get(self, name: str, to: Path, progress: Progress = _no_progress) -> Report:
        """Have the server RDMA Write its file `name` here; it replaces the file `to` when all octets are right."""
        _check_name(name)
        report = self._report("get", name)
        with report.counting(self.connection):
            await self._dialogue.send(Get(name))
            report.nbytes = (await self._dialogue.receive(Found)).size
            async with self._cancelling():
                with _destination(to, fsync=self._settings.fsync) as destination:
                    await self._dialogue.keep_peer_waiting(in_thread(destination.prepare, report.nbytes))
                    theirs = await self._take(destination, report, progress)
                    if report.sha256 != theirs:
                        raise ChecksumMismatch("the SHA-256 of what arrived is not that of the file")
                    await self._dialogue.keep_peer_waiting(in_thread(destination.keep))
            await self._dialogue.send(Kept())
        return report

    async def _take(self, destination: Destination, report: Report, progress: Progress) -> str:
        """Let the server RDMA Write, and hash what is placed meanwhile; returns the server's SHA-256."""
        async with (
            FollowingDigest(destination.view) as digest,
            Prefault(destination.view) as prefault,
            self._dialogue.registered(destination.view, Access.LOCAL_WRITE | Access.REMOTE_WRITE) as region,
        ):
            report.stag, report.to = region.stag, region.to
            await self._dialogue.send(Ready(region.stag, region.to))
            placed = 0
            while isinstance(message := await self._dialogue.receive(Placed, Sent), Placed):
                placed = _advanced(placed, message.upto, report)
                digest.advance(placed)
                prefault.advance(placed)
                progress(placed, report.nbytes)
            if placed != report.nbytes:
                raise BadMessage(f"the server reports that all is sent; {placed} of {report.nbytes} octets are placed")
            report.sha256 = await self._dialogue.keep_peer_waiting(digest.finish())
        return message.sha256

    @asynccontextmanager
    async def _cancelling(self) -> AsyncIterator[None]:
        """Send Cancel when this side cannot go on and the server has not ended the transfer."""
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
        with suppress(IwarpError):  # the caller gets the first error; the next operation will see this one
            await self._dialogue.send(Cancel(clipped(reason)))

    # --- put ---------------------------------------------------------------------------------------------------------

    async def put(self, path: Path, name: str, progress: Progress = _no_progress) -> Report:
        """Have the server RDMA Read the file `path` and store it as `name`."""
        self.committed = False
        _check_name(name)
        report = self._report("put", name)
        with report.counting(self.connection), await in_thread(Source.open, path) as source:
            report.nbytes = source.nbytes
            async with self._cancelling():
                await self._lend(source, report, progress)
            self.committed = True
            await self._dialogue.send(Commit(report.sha256))
            await self._dialogue.receive(Stored)
        return report

    async def _lend(self, source: Source, report: Report, progress: Progress) -> None:
        """Let the server RDMA Read the file, and hash it meanwhile."""
        async with (
            FollowingDigest(source.view, source.nbytes) as digest,
            self._dialogue.registered(source.view, Access.REMOTE_READ) as region,
        ):
            report.stag, report.to = region.stag, region.to
            await self._dialogue.send(Put(report.name, source.nbytes, region.stag, region.to))
            await self._follow_progress(source, report, progress)
            report.sha256 = await self._dialogue.keep_peer_waiting(digest.finish())
            source.check()

    async def _follow_progress(self, source: Source, report: Report, progress: Progress) -> None:
        """Receive the server's Placed messages until all octets are placed."""
        placed = 0
        while placed < source.nbytes:
            source.check()
            placed = _advanced(placed, (await self._dialogue.receive(Placed)).upto, report)
            progress(placed, source.nbytes)

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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Destination(directory, path.name, fsync=fsync)


@asynccontextmanager
async def connected(
    host: str, port: int = DEFAULT_PORT, settings: ClientSettings | None = None
) -> AsyncIterator[FileClient]:
    """Connect to the file server on `host` and `port`; the block has the client.

    Leaving the block closes the connection, leaving it by an exception aborts it. Raises `CannotConnect` if TCP cannot
    be established, `Rejected` or another `StartupError` if MPA startup fails, `BadMessage` if the peer is not a file
    server.
    """
    settings = settings or ClientSettings()
    try:
        connection = await connect(host, port, private_data=HELLO, options=settings.options)
    except IwarpError:
        raise
    except OSError as error:
        raise CannotConnect(f"cannot connect to {host} port {port}: {_why(error)}") from error
    try:
        if connection.private_data != HELLO:
            raise BadMessage(
                f"the peer speaks iWARP, but its private data is not {HELLO.decode()!r}: it is not a file server"
            )
        yield FileClient(connection, settings)
    except BaseException:
        connection.abort()
        raise
    await connection.close()


def _why(error: OSError) -> str:
    """The system's text; one cause also when several addresses of the host were tried and each failed."""
    if isinstance(error, socket.gaierror):
        return f"the host is not known: {error.strerror}"
    if error.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return os.strerror(errno.ECONNREFUSED)
    return reason_of(error)
