"""rcopy's messages, and its client: opens a file at the server, sends all its octets, and closes it.

A message has a header of 16 octets in the byte order of the host, as librdmacm's rcopy has it. The server answers each
with a header alone: 0, or the number of an error of the system's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from pyiwarp.cli.tasks import within
from pyiwarp.errors import Disconnected
from pyiwarp.files.errors import BadMessage, RefusedByPeer
from pyiwarp.files.tasks import in_thread
from pyiwarp.sockets import StreamOptions, open_connection

__all__ = ["ANSWER", "HEADER_SIZE", "SIZE", "STEP", "Command", "Copier", "Header", "read_header"]

_HEADER: Final = struct.Struct("=BBHIQ")
HEADER_SIZE: Final = _HEADER.size
SIZE: Final = struct.Struct("=Q")
ANSWER: Final = 0x80
STEP: Final = 1 << 20
"""Octets of a file that are read or written at once."""

_VERSION: Final = 0
_PATH_UNIT: Final = 8
_MOST: Final = 0xFFFF
_NO_ERROR: Final = 1 << 31
"""From here on a number of the peer's is none that C has."""


class Command(IntEnum):
    """What a message asks for."""

    OPEN = 1
    CLOSE = 2
    WRITE = 3


class Header(NamedTuple):
    """The head of a message: `nbytes` octets has all of it, `data` is a mode or an error."""

    command: int
    nbytes: int = HEADER_SIZE
    data: int = 0
    number: int = 0

    def __bytes__(self) -> bytes:
        return _HEADER.pack(_VERSION, self.command, self.nbytes, self.data, self.number)

    @classmethod
    def parse(cls, octets: bytes) -> Header:
        """Raises `BadMessage` for a version or a length that cannot be."""
        version, *fields = _HEADER.unpack(octets)
        header = cls(*fields)
        if version != _VERSION or header.nbytes < HEADER_SIZE:
            raise BadMessage(f"the peer does not speak rcopy: version {version}, a message of {header.nbytes} octets")
        return header


async def read_header(reader: asyncio.StreamReader, patience: float, due: str) -> Header | None:
    """The next header, which must come within `patience` seconds; None at the end."""
    try:
        return Header.parse(await within(patience, reader.readexactly(HEADER_SIZE), due))
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise BadMessage(f"the peer closed the connection within {due}") from None
        return None


class Copier:
    """The client. `tell` is given the words that rcopy prints on the way."""

    def __init__(self, options: StreamOptions, patience: float, tell: Callable[[str], None]) -> None:
        self._options = options
        self._patience = patience
        self._tell = tell

    async def copy(self, source: Path, host: str, port: int, name: str) -> tuple[int, float]:
        """Send `source` to be the file `name`; the octets that it has, and the seconds that they took.

        Raises `RefusedByPeer` with the server's error, `OSError` for a file that cannot be read.
        """
        with source.open("rb") as file:
            status = os.fstat(file.fileno())
            opening = _opening(name, status.st_mode)
            reader, writer = await open_connection(host, port, options=self._options)
            try:
                self._tell("opening...")
                await self._ask(reader, writer, Command.OPEN, opening)
                begun = time.perf_counter()
                if status.st_size:  # C servers make an empty file as they open it, and refuse to write none
                    self._tell("transferring...")
                    try:
                        await self._send(writer, file.fileno(), status.st_size)
                    except ConnectionError:
                        await self._answer(reader, Command.WRITE)  # says why, if the server has
                        raise
                    await self._answer(reader, Command.WRITE)
                seconds = time.perf_counter() - begun
                self._tell("closing...")
                await self._ask(reader, writer, Command.CLOSE, bytes(Header(Command.CLOSE)))
                self._tell("done\n")
            except BaseException:
                writer.transport.abort()
                raise
            writer.close()
            await writer.wait_closed()
        return status.st_size, seconds

    async def _send(self, writer: asyncio.StreamWriter, fd: int, nbytes: int) -> None:
        writer.write(bytes(Header(Command.WRITE, HEADER_SIZE + SIZE.size)) + SIZE.pack(nbytes))
        sent = 0
        while sent < nbytes:
            piece = await in_thread(os.read, fd, min(STEP, nbytes - sent))
            if not piece:
                raise OSError(errno.EIO, f"the file has become shorter: {sent} octets, not {nbytes}")
            writer.write(piece)
            sent += len(piece)
            await within(self._patience, writer.drain(), "room for octets")

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: Command, message: bytes
    ) -> None:
        writer.write(message)
        await self._answer(reader, command)

    async def _answer(self, reader: asyncio.StreamReader, command: Command) -> None:
        header = await read_header(reader, self._patience, f"the answer to {command.name}")
        if header is None:
            raise Disconnected(f"the server closed the connection where the answer to {command.name} was due")
        if header.command != command | ANSWER or header.nbytes != HEADER_SIZE:
            raise BadMessage(
                f"command {header.command:#04x} of {header.nbytes} octets came, the answer to {command.name} is due"
            )
        if header.data:
            why = os.strerror(header.data) if header.data < _NO_ERROR else "no error of the system's has this number"
            raise RefusedByPeer(f"the server answers {command.name} with error {header.data}: {why}")


def _opening(name: str, mode: int) -> bytes:
    """The message that opens `name`, which ends with a NUL or more up to a multiple of 8 octets."""
    path = os.fsencode(name)
    if b"\0" in path or not path:
        raise BadMessage("that is not the name of a file")
    path += bytes(_PATH_UNIT - len(path) % _PATH_UNIT)
    nbytes = HEADER_SIZE + len(path)
    if nbytes > _MOST:
        raise BadMessage(f"a name of {len(path)} octets: a message has {_MOST} octets at most")
    return bytes(Header(Command.OPEN, nbytes, mode)) + path
