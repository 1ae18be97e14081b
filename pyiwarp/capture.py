"""Captures: what a connection sends and receives, written as pcapng that Wireshark dissects.

No privilege is needed and nothing is sniffed: the driver shows the octets that pass it, and they are written as if
TCP had carried each write in segments of its own. Addresses and ports are the real ones; sequence numbers start at
one, so that Wireshark puts the stream together. A capture that is meant for Wireshark's MPA dissector must begin
before startup, as these do.

A capture is a bystander: each packet is in the file, whole, as soon as it has passed. A file that takes no more ends
the capture and nothing else.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Final, Protocol

from pyiwarp.buffers import Octets

__all__ = ["Address", "Capture", "Flow", "Tap"]

log = logging.getLogger(__name__)

Address = tuple[str, int]
"""A host's address and a port."""

LINKTYPE_RAW: Final = 101  # packets begin with their IP header
SEGMENT: Final = 60_000  # octets of payload in one packet; an IPv4 packet holds 65,535 in all

_IPV4: Final = Struct(">BBHHHBBH4s4s")
_IPV6: Final = Struct(">IHBB16s16s")
_TCP: Final = Struct(">HHIIBBHHH")
_TCP_PROTOCOL: Final = 6
_HOP_LIMIT: Final = 64
_PUSH_ACK: Final = 0x18
_FIN_ACK: Final = 0x11
_SYN: Final = 0x02
_SYN_ACK: Final = 0x12


class Tap(Protocol):
    """Who wants to see a connection's octets."""

    def opened(self, local: Address, peer: Address) -> None:
        """TCP is established."""

    def sent(self, octets: Iterable[Octets]) -> None:
        """These octets were given to TCP."""

    def received(self, octets: Octets) -> None:
        """These octets came from TCP."""

    def closed(self) -> None:
        """TCP has ended."""


class Capture:
    """A pcapng file for any number of connections; `flow` gives a tap for one. A context manager.

    `path` may name a FIFO, or be a file descriptor, such as that of a pipe to Wireshark, which `close` closes. Writing
    waits for the reader of a pipe, and the connections wait with it. Raises `OSError` if the file cannot be written;
    later such an error ends the capture with one warning in the log, and `error` keeps it. The file holds whole packets
    then.
    """

    def __init__(self, path: str | Path | int) -> None:
        from pcapng import FileWriter, blocks

        if isinstance(path, int) and hasattr(os, "set_blocking"):  # Windows has it since Python 3.12
            os.set_blocking(path, True)
        self._file: io.FileIO = open(path, "wb", buffering=0)  # noqa: SIM115  # closed by close()
        self._octets = io.BytesIO()  # of one block
        self._stored = 0  # octets of whole blocks
        self._header = blocks.SectionHeader(options={"shb_userappl": "pyiwarp"})
        self._interface = self._header.new_member(blocks.InterfaceDescription, link_type=LINKTYPE_RAW)
        self._writer = FileWriter(self._octets, self._header)
        self._packet = blocks.EnhancedPacket
        self._comment = ""
        self.packets = 0
        """How many packets the file has."""
        self.error: OSError | None = None
        """Why the capture has ended before `close`, if it has."""
        try:
            self._store()
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def flow(self, *, initiator: bool) -> Flow:
        """A tap for one more connection; `initiator` says whether this side opened it."""
        return Flow(self, initiator=initiator)

    def comment(self, text: str) -> None:
        """Give the next packet this comment, which Wireshark shows (`opt_comment`, `frame.comment`)."""
        self._comment = text

    def write(self, packet: bytes) -> None:
        """Add one IP packet, stamped with the present time."""
        if self._file.closed:
            return  # a connection that outlives its capture
        microseconds = time.time_ns() // 1000
        block = self._header.new_member(
            self._packet,
            packet_data=packet,
            timestamp_high=microseconds >> 32,
            timestamp_low=microseconds & 0xFFFF_FFFF,
            options={"opt_comment": self._comment} if self._comment else {},
        )
        self._comment = ""
        self._writer.write_block(block)
        try:
            self._store()
        except OSError as error:
            self._end(error)
        else:
            self.packets += 1

    def close(self) -> None:
        """Finish the file. Twice does nothing."""
        try:
            self._file.close()
        except OSError as error:  # some file systems say so late that they are full
            self._end(error)

    def _store(self) -> None:
        """Write the block that was made, at once: a program may be killed, and its capture read meanwhile."""
        block = self._octets.getvalue()
        self._octets.seek(0)
        self._octets.truncate()
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) or 0 :]
        self._stored += len(block)

    def _end(self, error: OSError) -> None:
        """End the capture, and nothing else."""
        self.error = error
        log.warning(
            "the capture ends after %d packets: %s; the connections go on", self.packets, error.strerror or error
        )
        with suppress(OSError):
            if not self._file.closed and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                os.ftruncate(self._file.fileno(), self._stored)  # a part of a block makes a file that is damaged
        with suppress(OSError):
            self._file.close()


class Flow:
    """One TCP connection of a capture."""

    def __init__(self, capture: Capture, *, initiator: bool) -> None:
        self._capture = capture
        self._opener = 0 if initiator else 1
        self._ends: tuple[Address, Address] | None = None
        self._next = [1, 1]  # sequence numbers: this side's, the peer's

    def opened(self, local: Address, peer: Address) -> None:
        """Write TCP's handshake: dissectors tell client from server by it."""
        self._ends = (local, peer)
        first = self._opener
        self._next = [0, 0]
        self._packets(first, b"", _SYN)
        self._next[first] = 1
        self._packets(1 - first, b"", _SYN_ACK)
        self._next[1 - first] = 1

    def sent(self, octets: Iterable[Octets]) -> None:
        """Write what this side sent."""
        self._stream(0, b"".join(octets))

    def received(self, octets: Octets) -> None:
        """Write what the peer sent."""
        self._stream(1, bytes(octets))

    def closed(self) -> None:
        """Write the end."""
        self._packets(0, b"", _FIN_ACK)

    def _stream(self, end: int, octets: bytes) -> None:
        for start in range(0, len(octets), SEGMENT):
            self._packets(end, octets[start : start + SEGMENT], _PUSH_ACK)

    def _packets(self, end: int, payload: bytes, flags: int) -> None:
        if self._ends is None:
            return
        (source, source_port), (target, target_port) = self._ends[end], self._ends[1 - end]
        sequence, acknowledged = self._next[end] & 0xFFFF_FFFF, self._next[1 - end] & 0xFFFF_FFFF
        tcp = _TCP.pack(source_port, target_port, sequence, acknowledged, 5 << 4, flags, 0xFFFF, 0, 0)
        self._next[end] += len(payload)
        self._capture.write(_ip(source, target, tcp + payload))


def _ip(source: str, target: str, payload: bytes) -> bytes:
    """An IP packet without checksums, which readers of captures do not ask for."""
    here, there = (ipaddress.ip_address(name.split("%")[0]) for name in (source, target))
    if here.version == 6:
        return _IPV6.pack(6 << 28, len(payload), _TCP_PROTOCOL, _HOP_LIMIT, here.packed, there.packed) + payload
    length = _IPV4.size + len(payload)
    return _IPV4.pack(0x45, 0, length, 0, 0, _HOP_LIMIT, _TCP_PROTOCOL, 0, here.packed, there.packed) + payload
