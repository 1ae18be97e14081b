"""The bench: a raw peer on real TCP that opens connections in either direction and may then say anything.

A case is given a `Bench`. `bench.open()` gives a `Stream` in Full Operation on which both sides may speak;
`bench.line()` gives the TCP connection before any startup frame. All connections of a case are closed when it ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Cannot, Direction, Level, Need
from pyiwarp.conformance.bench.allowances import PLAIN, Allowances
from pyiwarp.conformance.bench.control import Region, Target, Value
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.conformance.bench.patterns import Failed, message, reply, request
from pyiwarp.conformance.bench.shown import Shown
from pyiwarp.conformance.bench.startup_line import Line, build_startup_frame, build_word
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.tcp import Tap, Tcp
from pyiwarp.errors import IwarpError
from pyiwarp.wire import REPLY_KEY

__all__ = ["Bench", "NobodyConnects", "Settings", "Unreachable"]

OPENING_MESSAGES: Final = 3  # that an rping client may send before it shows its memory
ADVERTISEMENT: Final = 16  # octets with which rping shows memory: be64 TO, be32 STag, be32 length
OFFER_REGION: Final = Region(0x42454E43, 0x1000, 4096)  # what the bench shows to a peer that Reads and Writes


class Unreachable(IwarpError):
    """TCP to the peer could not be established; the text says why."""


class NobodyConnects(IwarpError):
    """No Initiator connected within the time limit."""


@dataclass(slots=True)
class Settings:
    """What is tested, and how.

    `timeout` is how long a reaction may take, `quiet` how long silence is awaited and `patience` how long an Initiator
    may take to connect, all in seconds. `reachable_at` is where the target finds a bench that listens, if that is not
    the address that the control connection has here; its port 0 is the bench's own. `make_tap` is asked for a tap for
    each TCP connection. `allowances` are allowances for this peer.
    """

    direction: Direction = Direction.CONNECT
    level: Level = Level.BARE
    host: str = "127.0.0.1"
    port: int = 0
    timeout: float = 5.0
    quiet: float = 0.15
    patience: float = 30.0
    reachable_at: tuple[str, int] | None = None
    make_tap: Callable[[bool], Tap | None] = lambda initiator: None
    allowances: Allowances = PLAIN
    needs: set[Need] = field(default_factory=set)  # what this peer can do


class Listener:
    """The port at which Initiators connect; `accept` returns each connection once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arrived: asyncio.Queue[Tcp] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen; raises `Unreachable`."""
        loop, host, port = asyncio.get_running_loop(), self._settings.host, self._settings.port
        try:
            self._server = await loop.create_server(self._make, host, port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise Unreachable(f"nobody can listen at {host} port {port}: {why}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    def _make(self) -> Tcp:
        return _Arriving(self._settings.make_tap(False), self._arrived)

    async def accept(self, seconds: float) -> Tcp:
        """The next connection; raises `NobodyConnects`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._arrived.get()
        except TimeoutError:
            raise NobodyConnects(f"nobody connected to port {self.port} within {seconds:g} s") from None

    def clear(self) -> None:
        """Close the connections that were not accepted."""
        while not self._arrived.empty():
            self._arrived.get_nowait().close()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self.clear()


class _Arriving(Tcp):
    def __init__(self, tap: Tap | None, arrived: asyncio.Queue[Tcp]) -> None:
        super().__init__(tap)
        self._arrived = arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arrived.put_nowait(self)


class Bench:
    """What a case works with; `rw` is the peer's region that may be read and written, `ro` and `wo` the target's."""

    def __init__(self, settings: Settings, control: Target | None = None, listener: Listener | None = None) -> None:
        self.settings = settings
        self._control = control
        self._listener = listener
        self._lines: list[Line] = []
        self._streams: list[Stream] = []
        self._rw: Region | None = None

    # --- the peer ----------------------------------------------------------------------------------------------------

    @property
    def initiator(self) -> bool:
        """Whether the bench is the MPA Initiator."""
        return self.settings.direction is Direction.CONNECT

    @property
    def target(self) -> Target:
        """The target program; `Cannot` if there is no control connection."""
        if self._control is None:
            raise Cannot("it takes a target program")
        return self._control

    @property
    def has_target(self) -> bool:
        """Whether there is a target program to talk to."""
        return self._control is not None

    def _region(self, name: str) -> Region:
        if self._control is not None and name in self._control.regions:
            return self._control.regions[name]
        if name == "rw" and self._rw is not None:
            return self._rw
        raise Cannot(f"the peer has shown no region {name}")

    @property
    def rw(self) -> Region:
        """The region that may be read and written."""
        return self._region("rw")

    @property
    def ro(self) -> Region:
        """The target's region that may only be read."""
        return self._region("ro")

    @property
    def wo(self) -> Region:
        """The target's region that may only be written."""
        return self._region("wo")

    @property
    def other(self) -> Region:
        """The target's region in another protection domain; `Cannot` if it has only one."""
        return self._region("other")

    # --- connections -------------------------------------------------------------------------------------------------

    async def prepare(self, **session: Value) -> None:
        """Tell the target program what the next connection is to be like; without one nothing needs to be told."""
        if self._control is None:
            if session:
                raise Cannot("it takes a target program")
            return
        await self._control.reset()
        await self._control.session(**session)

    async def line(self, *, session: Mapping[str, Value] | None = None, mss: int | None = None) -> Line:
        """A new TCP connection without a startup frame; the one before, if there was one, is closed.

        `session` is what the target program is told before; `mss` is set as TCP's segment size, in octets.
        """
        await self.close()  # an Initiator may make one connection at a time
        await self.prepare(**(session or {}))
        tcp = await (self._dial(mss) if self.initiator else self._accept(mss))
        line = Line(tcp, self.settings.timeout, self.settings.quiet, self.settings.allowances)
        self._lines.append(line)
        return line

    async def _dial(self, mss: int | None) -> Tcp:
        settings = self.settings
        port = settings.port
        if self._control is not None and self._control.port is not None:
            port = self._control.port
        loop = asyncio.get_running_loop()
        tcp = Tcp(settings.make_tap(True))
        try:
            async with asyncio.timeout(settings.timeout):
                if mss is None:
                    await loop.create_connection(lambda: tcp, settings.host, port)
                else:
                    await self._dial_with(mss, tcp, port)
        except TimeoutError:
            raise Unreachable(f"TCP to {settings.host} port {port} takes more than {settings.timeout:g} s") from None
        except OSError as error:
            why = "nothing listens there" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
            raise Unreachable(f"TCP to {settings.host} port {port} cannot be established: {why}") from error
        tcp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tcp

    async def _dial_with(self, mss: int, tcp: Tcp, port: int) -> None:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(self.settings.host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
            except (AttributeError, OSError):
                raise Cannot("this system lets no program choose TCP's segment size") from None
            await loop.sock_connect(sock, address)
            await loop.create_connection(lambda: tcp, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _accept(self, mss: int | None) -> Tcp:
        assert self._listener is not None, "a bench that listens has one"
        if mss is not None:
            raise Cannot("the segment size of an arriving connection is the Initiator's")
        if self._control is None:
            tcp = await self._listener.accept(self.settings.patience)
        else:
            self._listener.clear()
            host, port = self.settings.reachable_at or (self._control.local_host, 0)
            await self._control.command("connect", {"host": host, "port": port or self._listener.port})
            tcp = await self._listener.accept(self.settings.timeout)
        tcp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tcp

    async def open(
        self,
        private_data: bytes = b"",
        *,
        revision: int = 1,
        crc: bool = True,
        markers: bool = False,
        word: Mapping[str, Any] | None = None,
        session: Mapping[str, Value] | None = None,
        speak_first: bool = True,
        mss: int | None = None,
    ) -> Stream:
        """A stream in Full Operation on which both sides may speak.

        `crc`, `markers` and `private_data` are those of the bench's own startup frame; `revision`, and `word` with its
        fields of the enhanced word, those of its Request. As a Responder the bench answers in the revision, and with an
        enhanced word if there is one, of the peer's Request. Since a Responder may not speak before it has received
        an FPDU (RFC 5044 §7.1.2), an Initiator sends an empty Write first, unless `speak_first` is False.
        """
        line = await self.line(session=session, mss=mss)
        if self.initiator:
            data = private_data if word is None else build_word(**word) + private_data
            asked = Frame(
                await line.request(data, revision=revision, crc=crc, markers=markers, enhanced=word is not None)
            )
            answered = await line.expect_frame(reply(rejected=False))
        else:
            asked = await line.expect_frame(request())
            answered = await self.answer(line, asked, private_data, crc=crc, markers=markers, word=word)
        stream = self.full_operation(line, asked, answered)
        if speak_first:
            await self.send_first(stream)
        return stream

    async def asked(self, *, session: Mapping[str, Value] | None = None) -> tuple[Line, Frame]:
        """A fresh connection of the peer's, and the Request that it brought."""
        line = await self.line(session=session)
        return line, await line.expect_frame(request())

    async def answer(self, line: Line, asked: Frame, private_data: bytes = b"", **fields: Any) -> Frame:
        """Accept the peer's Request as `build_answer` says."""
        octets = self.build_answer(asked, private_data, **fields)
        await line.send(octets)
        return Frame(octets)

    @staticmethod
    def build_answer(
        asked: Frame, private_data: bytes = b"", *, word: Mapping[str, Any] | None = None, **fields: Any
    ) -> bytes:
        """A Reply in the terms of the Request, or otherwise: `fields` are those of `build_startup_frame`.

        If the Request has an enhanced word, so has the Reply; `word` are fields of it that are to be different.
        """
        if asked.word is not None:
            offered = asked.word
            peer_to_peer = bool(offered.peer_to_peer)
            due = {
                "peer_to_peer": peer_to_peer,
                "rtr_write": bool(peer_to_peer and offered.rtr_write),
                "rtr_read": bool(peer_to_peer and offered.rtr_read and not offered.rtr_write),
                "rtr_send": bool(peer_to_peer and not offered.rtr_write and not offered.rtr_read),
                "ird": offered.ord,
                "ord": offered.ird,
            }
            private_data = build_word(**{**due, **(word or {})}) + private_data
        whole = {"revision": asked.header.revision, "enhanced": asked.word is not None, "key": REPLY_KEY, **fields}
        return build_startup_frame(private_data=private_data, **whole)

    def full_operation(self, line: Line, asked: Frame, answered: Frame) -> Stream:
        """The stream on a line whose startup frames were exchanged."""
        stream = Stream(
            line,
            asked,
            answered,
            initiator=self.initiator,
            patient=self._control is None,
            shown=Shown() if self._control is None and self.settings.level is Level.RPING else None,
        )
        self._streams.append(stream)
        return stream

    async def send_first(self, stream: Stream) -> None:
        """Send or await the first FPDU, before which a Responder may not send (RFC 5044 §7.1.2)."""
        if self.initiator:
            await stream.write(0, 0)
            return
        peer_to_peer = stream.request.word is not None and stream.request.word.peer_to_peer
        if self._control is not None and not peer_to_peer:
            await self._control.expect_state("connected")
            await self._control.post("write", len=0, stag=PROBE_STAG, to=0, signaled=0)
        elif self._control is None and self.settings.level is Level.BARE:
            seen = await stream.observe(self.settings.quiet)
            stream.first = seen if isinstance(seen, Message) else None
            return
        stream.first = await stream.expect_message(message())
        await self._handle_opening(stream, stream.first)
        if self._control is None:
            for _ in range(OPENING_MESSAGES):
                if self._rw is not None:
                    return
                await self._handle_opening(stream, await stream.expect_message(message()))

    async def _handle_opening(self, stream: Stream, seen: Message) -> None:
        """Answer an opening Read, and store the region that an rping client advertises."""
        segment = seen.segment
        if segment is None:
            return
        if segment.opcode == Opcode.READ_REQUEST and len(segment.payload) >= 12:
            sink_stag, sink_to = (
                int.from_bytes(segment.payload[:4], "big"),
                int.from_bytes(segment.payload[4:12], "big"),
            )
            await stream.respond(sink_stag, sink_to)
        elif segment.opcode == Opcode.SEND and segment.payload and self.settings.level is Level.RPING:
            if len(segment.payload) != ADVERTISEMENT:
                expected = f"a Send of {ADVERTISEMENT} octets that shows memory, as rping's first is"
                raise Failed(expected, f"one of {len(segment.payload)}", seen.annotated())
            octets = segment.payload
            to, stag, length = (int.from_bytes(octets[a:b], "big") for a, b in ((0, 8), (8, 12), (12, 16)))
            self._rw = Region(stag, to, length)

    def last_seen(self) -> list[str]:
        """The frame or FPDU that came last, by its fields, for a failure that has no octets of its own."""
        came = [line.last for line in self._lines if line.last is not None]
        return ["what came last:", *came[-1].annotated()] if came else []

    def last_sent(self) -> list[str]:
        """What the bench sent last on the connection at hand, by its fields."""
        return self._lines[-1].sent.annotated() if self._lines else []

    def judge_rest(self) -> None:
        """Judge what has come and was not looked at, at the end of a case; raises `Failed`."""
        for stream in self._streams:
            stream.judge_rest()

    async def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.tcp.close()
        self._lines.clear()
        self._streams.clear()
        self._rw = None
        await asyncio.sleep(0)  # for the transports to close their sockets

    # --- rping -------------------------------------------------------------------------------------------------------

    async def show(self, stream: Stream, region: Region) -> None:
        """Advertise memory of the bench as an rping client does."""
        if stream.shown is not None:
            stream.shown.add(region)
        octets = (region.to.to_bytes(8, "big"), region.stag.to_bytes(4, "big"), region.length.to_bytes(4, "big"))
        await stream.send(b"".join(octets))

    async def provoke_read(self, stream: Stream, size: int = 64) -> Message:
        """Have the peer Read `size` octets of `OFFER_REGION`; returns its Read Request."""
        region = OFFER_REGION
        if self._control is not None:
            await self._control.post("read", len=size, stag=region.stag, to=region.to)
        else:
            await self.show(stream, Region(region.stag, region.to, size))
        return await stream.expect_message(message(Opcode.READ_REQUEST, tagged=False))
