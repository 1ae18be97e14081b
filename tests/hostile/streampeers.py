"""A server of streams in a process of its own, and peers of it that speak MPA and rsockets octet by octet.

    python -m tests.hostile.streampeers LOOP

The server sends back what it reads. It prints its port, then its `Figures` for each line that it reads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvloop

from pyiwarp import Options, RemoteRegion
from pyiwarp.sockets import StreamOptions, StreamServer, start_server
from pyiwarp.sockets.wire import LITTLE, NATIVE, Control, Hello, Op
from tests.children import started
from tests.harness import Segment, fpdu, send, write
from tests.hostile.server import ROOT, Faults, Figures, Server, answer_lines
from tests.hostile.sessions import HEADER
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["LOOPS", "OPTIONS", "StreamPeer", "conversation", "hello_of", "request_of", "serving_streams"]

LOOPS: Final = "asyncio", "uvloop"
LIMIT: Final = 20.0
BELOW: Final = Options(ird=1, ord=1, first_fpdu_timeout=None, extensions=False, timeout=LIMIT, linger=0.5, crc=False)
OPTIONS: Final = StreamOptions(ring=4096, send_memory=4096, recv_queue=16, send_queue=16, connection=BELOW)
ROOM: Final = 1 << 16  # of a peer's ring


# --- in the server's process -----------------------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the stream ends in any way."""
    with suppress(OSError):
        while data := await reader.read(1 << 12):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(faults: Faults) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: logging.getLogger("loop").error("%r", context))
    server = await start_server(echo, HOST, options=OPTIONS)

    def figures() -> Figures:
        return Figures(streams_of(server), len(asyncio.all_tasks(loop)), faults.count)

    answer_lines(figures, lambda: loop.call_soon_threadsafe(stopped.set))
    print(json.dumps({"port": server.port, "files": 0, "stag": 0, "to": 0}), flush=True)
    await stopped.wait()
    server.close()
    server.abort_clients()
    await server.wait_closed()


def streams_of(server: StreamServer) -> int:
    """How many streams it has."""
    return int(repr(server).rpartition(">")[0].split()[-2])


def main(loop: str) -> None:
    faults = Faults()
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(faults))


# --- in the client's process -----------------------------------------------------------------------------------------


@contextmanager
def serving_streams(loop: str) -> Iterator[Server]:
    """A server of streams in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.streampeers", loop]
    with started(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0, "it ends in order"


def hello_of(credits: int = 384, room: int = ROOM) -> bytes:
    """Private data of a peer whose memory nobody will look at."""
    return bytes(Hello(credits, (0x1000, 0x11111100, 2), RemoteRegion(0x200000, 0x22222200, room)))


def request_of(hello: bytes) -> bytes:
    """An MPA Request of revision 2 without CRC, as librdmacm sends it."""
    data = struct.pack(">HH", 1, 1) + hello
    return b"MPA ID Req Frame" + struct.pack(">BBH", 0x10, 2, len(data)) + data


class StreamPeer:
    """One peer that is connected by TCP, and says what the test has it say."""

    def __init__(self, port: int, hello: bytes | None = None) -> None:
        self.sock = socket.create_connection((HOST, port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(request_of(hello_of() if hello is None else hello))
        header = self.sock.recv(HEADER, socket.MSG_WAITALL)
        (length,) = struct.unpack_from(">H", header, HEADER - 2)
        self.theirs = Hello.parse(self.sock.recv(length, socket.MSG_WAITALL)[4:])
        self.words = 0
        self.written = 0

    def __enter__(self) -> StreamPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def word(self, op: int, value: int) -> bytes:
        """The FPDU of the next word."""
        return self.says(send(NATIVE.word(Op(op), value)))

    def says(self, segment: Segment) -> bytes:
        """The FPDU of any message; Sends are numbered."""
        self.words += not segment.tagged
        return fpdu(segment.octets(self.words), crc=0)

    def data(self, octets: bytes) -> bytes:
        """The FPDUs of one message of data, in the first half of the server's ring."""
        to, stag = self.theirs.data_buffer.to + self.written, self.theirs.data_buffer.stag
        self.written += len(octets)
        return self.says(write(stag, to, octets)) + self.word(Op.DATA, len(octets))

    def entry(self, index: int, memory: RemoteRegion) -> bytes:
        """The FPDU of a Write into the server's target SGL."""
        to, stag, _ = self.theirs.target_sgl
        return self.says(write(stag, to + 16 * index, LITTLE.entry(memory)))

    def is_ended(self) -> bool:
        """Wait until the server has ended TCP; raises `TimeoutError` if it does not."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True


def conversation(peer: StreamPeer) -> bytes:
    """All that a peer says after the Reply: credit, two messages, half-close, the end."""
    said = peer.entry(1, RemoteRegion(0x210000, 0x22222200, ROOM)) + peer.word(Op.SGL, 384)
    said += peer.data(b"a message") + peer.word(Op.CTRL, Control.KEEPALIVE) + peer.data(b"another")
    return said + peer.word(Op.CTRL, Control.SHUTDOWN) + peer.word(Op.CTRL, Control.DISCONNECT)


if __name__ == "__main__":
    main(*sys.argv[1:])
