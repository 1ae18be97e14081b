"""What clients send: sessions of each kind, as the octets of one client from its MPA Request to its end."""

from __future__ import annotations

import hashlib
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.files.hello import HELLO
from pyiwarp.files.messages import Commit, Get, Kept, List, Message, Put, Ready, encode
from tests.harness import Segment, fpdu, read, send, write
from tests.hostile.server import FILE, Server
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["HEADER", "Session", "play", "sessions_of"]

HEADER: Final = 20  # octets of a startup frame before its private data
CRC: Final = 0x40
ENHANCED: Final = bytes((0x80, 16, 0x40, 16))  # peer-to-peer, IRD 16, an RTR of no octets, ORD 16


@dataclass(frozen=True)
class Session:
    """`request` until the Reply, `rest` after it."""

    name: str
    port: int
    request: bytes
    rest: bytes

    @property
    def octets(self) -> bytes:
        """All of it."""
        return self.request + self.rest

    def with_octets(self, octets: bytes) -> Session:
        """The same kind with other octets, perhaps fewer."""
        cut = len(self.request)
        return Session(self.name, self.port, octets[:cut], octets[cut:])


def _request(private_data: bytes = b"", *, crc: bool) -> bytes:
    data = ENHANCED + private_data
    return b"MPA ID Req Frame" + struct.pack(">BBH", 0x10 | (CRC if crc else 0), 2, len(data)) + data


def _stream(*segments: Segment, crc: bool) -> bytes:
    """Segments as FPDUs; without CRC its field is 0."""
    out, msns = b"", dict.fromkeys(QueueNumber, 1)
    for segment in (write(), *segments):  # the RTR first
        msn = msns.get(QueueNumber(segment.qn), 1)
        out += fpdu(segment.octets(msn if segment.msn is None else segment.msn), crc=None if crc else 0)
        if segment.last and not segment.tagged:
            msns[QueueNumber(segment.qn)] = msn + 1
    return out


def _terminate() -> Segment:
    """RDMAP, remote operation error, catastrophic (RFC 5040 §4.8)."""
    fields: dict[str, Any] = {"opcode": Opcode.TERMINATE, "qn": QueueNumber.TERMINATE, "payload": b"\x02\x07\0\0"}
    return Segment(**fields)


def sessions_of(server: Server, *, crc: bool) -> list[Session]:
    """A session of each kind that `server` has."""
    near, far = server.to, server.to + 1000
    words = [send(b"hello"), send(b"a message of some length", last=False), send(b", and its end", mo=24, msn=2)]
    kinds: dict[str, tuple[Segment, ...]] = {
        "startup": (),
        "Send": tuple(words),
        "Write": (write(server.stag, near, b"some octets"), write(server.stag, far, b"others"), send(b"done")),
        "Read": tuple(
            read(sink_stag=7, sink_to=0, size=size, source_stag=server.stag, source_to=near) for size in (0, 40, 3000)
        ),
        "Terminate": (send(b"first"), _terminate()),
    }
    found = [
        Session(name, server.port, _request(crc=crc), _stream(*segments, crc=crc) if segments else b"")
        for name, segments in kinds.items()
    ]
    if server.files:
        exchanges: dict[str, tuple[Message, ...]] = {
            "files: ls": (List(""),),
            "files: get": (Get(FILE), Ready(7, 0), Kept()),
            "files: put": (Put("new", 0, 7, 0), Commit(hashlib.sha256(b"").hexdigest())),
        }
        for name, messages in exchanges.items():
            segments = tuple(send(encode(message)) for message in messages)
            found.append(Session(name, server.files, _request(HELLO, crc=crc), _stream(*segments, crc=crc)))
    return found


def play(session: Session) -> None:
    """Be the client of a session, close this half, and wait until the server has ended; `TimeoutError` if it does not.

    What follows the Request is sent when the Reply has come, or when none will.
    """
    with socket.create_connection((HOST, session.port), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.sendall(session.request)
            if session.rest and len(sock.recv(HEADER, socket.MSG_WAITALL)) == HEADER:
                sock.sendall(session.rest)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            raise
        except OSError:
            return  # reset: that is an end
