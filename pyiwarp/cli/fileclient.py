"""The file client: gets files into its memory, lends its memory for files that it puts, asks for listings."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pyiwarp.cli.address import DEFAULT_PORT
from pyiwarp.cli.destination import Destination
from pyiwarp.cli.dialogue import Dialogue, clipped
from pyiwarp.cli.digest import FollowingDigest
from pyiwarp.cli.faults import BadMessage, CannotConnect, ChecksumMismatch, Refusal, RefusedByPeer, reason_of
from pyiwarp.cli.fileproto import (
    HELLO,
    MESSAGE_LIMIT,
    NAME_LIMIT,
    Cancel,
    Commit,
    End,
    Entries,
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
from pyiwarp.cli.onscreen import explain
from pyiwarp.cli.prefault import Prefault
from pyiwarp.cli.report import Report
from pyiwarp.cli.root import Entry, is_text
from pyiwarp.cli.source import Source, check_regular
from pyiwarp.cli.threads import in_thread
from pyiwarp.connections.awaitable import Connection, Options
from pyiwarp.connections.serving import connect
from pyiwarp.errors import IwarpError
from pyiwarp.mr import Access

__all__ = ["ClientSettings", "FileClient", "Progress", "connected"]

Progress = Callable[[int, int], None]
"""Told how many octets of how many are placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How files are moved.

    `patience` bounds every wait for a server that owes an answer or progress, in seconds. `fsync` has a file that was
    got on the disk before `get` returns.
    """

    patience: float = 30.0
    fsync: bool = False
    options: Options = field(default_factory=lambda: Options(recv_size=MESSAGE_LIMIT))


def _unwatched(placed: int, total: int) -> None:
    """Progress that nobody looks at."""


class FileClient:
    """A client of one file server over one connection; made by `connected`. One operation at a time.

    Every operation raises `Refusal` if the server will not do it, `OSError` if this machine cannot; the connection
    goes on then. Any other `IwarpError` has ended the connection. Cancelling ends it too. In no case is a file left
    half written.
    """

    def __init__(self, connection: Connection, settings: ClientSettings) -> None:
        self.connection = connection
        self._settings = settings
        self._talk = Dialogue(connection, settings.patience)
        self.committed = False
        """Whether the present `put` has come so far that the server may have stored the file."""

    def _report(self, direction: str, name: str) -> Report:
        return Report(direction=direction, name=name, peer=self.connection.peername)

    # --- get ---------------------------------------------------------------------------------------------------------

    async def get(self, name: str, to: Path, progress: Progress = _unwatched) -> Report:
        """Have the server RDMA Write its file `name` into the file `to`, which is replaced when all has come."""
        _check_name(name)
        report = self._report("get", name)
        with report.counting(self.connection):
            await self._talk.say(Get(name))
            report.nbytes = (await self._talk.hear(Found)).size
            async with self._cancelling():
                with _destination(to, fsync=self._settings.fsync) as destination:
                    await self._talk.busily(in_thread(destination.prepare, report.nbytes))
                    theirs = await self._take(destination, report, progress)
                    if report.sha256 != theirs:
                        raise ChecksumMismatch("the SHA-256 of what arrived is not that of the file")
                    await self._talk.busily(in_thread(destination.keep))
            await self._talk.say(Kept())
        return report

    async def _take(self, destination: Destination, report: Report, progress: Progress) -> str:
        """Let the server write, and hash what is placed meanwhile; returns the server's SHA-256."""
        async with (
            FollowingDigest(destination.view) as digest,
            Prefault(destination.view) as prefault,
            self._talk.lent(destination.view, Access.LOCAL_WRITE | Access.REMOTE_WRITE) as region,
        ):
            report.stag, report.to = region.stag, region.to
            await self._talk.say(Ready(region.stag, region.to))
            placed = 0
            while isinstance(message := await self._talk.hear(Placed, Sent), Placed):
                placed = _advanced(placed, message.upto, report)
                digest.advance(placed)
                prefault.advance(placed)
                progress(placed, report.nbytes)
            if placed != report.nbytes:
                raise BadMessage(f"the server says that all is sent, but placed {placed} of {report.nbytes} octets")
            report.sha256 = await self._talk.busily(digest.finish())
        return message.sha256

    @asynccontextmanager
    async def _cancelling(self) -> AsyncIterator[None]:
        """Tell the server if this side cannot go on for a reason that is not the server's."""
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
        with suppress(IwarpError):  # the next operation will tell; the reason for this one is known already
            await self._talk.say(Cancel(clipped(reason)))

    # --- put ---------------------------------------------------------------------------------------------------------

    async def put(self, path: Path, name: str, progress: Progress = _unwatched) -> Report:
        """Have the server RDMA Read the file `path` and keep it as `name`."""
        self.committed = False
        _check_name(name)
        report = self._report("put", name)
        with report.counting(self.connection), await in_thread(Source.open, path) as source:
            report.nbytes = source.nbytes
            async with self._cancelling():
                await self._lend(source, report, progress)
            self.committed = True
            await self._talk.say(Commit(report.sha256))
            await self._talk.hear(Stored)
        return report

    async def _lend(self, source: Source, report: Report, progress: Progress) -> None:
        """Let the server read, and hash the file meanwhile."""
        async with (
            FollowingDigest(source.view, source.nbytes) as digest,
            self._talk.lent(source.view, Access.REMOTE_READ) as region,
        ):
            report.stag, report.to = region.stag, region.to
            await self._talk.say(Put(report.name, source.nbytes, region.stag, region.to))
            await self._give(source, report, progress)
            report.sha256 = await self._talk.busily(digest.finish())
            source.check()

    async def _give(self, source: Source, report: Report, progress: Progress) -> None:
        """While the server reads."""
        placed = 0
        while placed < source.nbytes:
            source.check()
            placed = _advanced(placed, (await self._talk.hear(Placed)).upto, report)
            progress(placed, source.nbytes)

    # --- list --------------------------------------------------------------------------------------------------------

    async def entries(self, path: str = "") -> AsyncIterator[Entry]:
        """What the directory `path` of the server holds, as it comes."""
        _check_name(path)
        await self._talk.say(List(path))
        count = 0
        while isinstance(message := await self._talk.hear(Entries, End), Entries):
            for entry in message.entries:
                count += 1
                yield entry
        if message.count != count:
            raise BadMessage(f"the server listed {count} entries and says that they are {message.count}")


def _advanced(placed: int, upto: int, report: Report) -> int:
    """Check that the server's account of its progress can be true."""
    if not placed < upto <= report.nbytes:
        raise BadMessage(f"the server says that {upto} of {report.nbytes} octets are placed, after {placed}")
    report.operations += 1
    return upto


def _check_name(name: str) -> None:
    """Raise `Refusal` for a name that no message can carry."""
    if not is_text(name) or len(name.encode()) > NAME_LIMIT:
        raise Refusal(f"that is no name of at most {NAME_LIMIT} octets of UTF-8")


def _destination(path: Path, *, fsync: bool) -> Destination:
    """A device or FIFO, under this name or behind a link, is no file that could be replaced."""
    with suppress(FileNotFoundError):
        check_regular(os.stat(path).st_mode)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Destination(directory, path.name, fsync=fsync)


@asynccontextmanager
async def connected(
    host: str, port: int = DEFAULT_PORT, settings: ClientSettings | None = None
) -> AsyncIterator[FileClient]:
    """A client of the file server on `host` and `port`; closes the connection, or aborts it after an error.

    Raises `CannotConnect` if there is no TCP connection, `StartupError` if the peer is no file server or rejects.
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
            raise BadMessage(f"the peer speaks iWARP, but is no file server of {HELLO.decode()!r}")
        yield FileClient(connection, settings)
    except BaseException:
        connection.abort()
        raise
    await connection.close()


def _why(error: OSError) -> str:
    """One cause, also when several addresses of the host were tried and each failed."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        refused = f"[Errno {errno.ECONNREFUSED}]" in str(error)
        return os.strerror(errno.ECONNREFUSED) if refused else explain(error)
    return reason_of(error)
