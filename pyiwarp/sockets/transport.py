"""asyncio's transport above an engine: the whole contract of `asyncio.Transport`.

Each completion goes to the engine. Then `_advance` goes on until nothing changes: it gives the protocol its octets,
sends what waits, gives credit, and sees to the end. `pause_reading` withholds credit, so a slow reader slows the peer
down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pyiwarp import IwarpError
from pyiwarp.cm import FoldedLog
from pyiwarp.errors import WrongState
from pyiwarp.exports import public_names
from pyiwarp.sockets.delivery import Delivery
from pyiwarp.sockets.engine import End, Engine
from pyiwarp.sockets.errors import PeerViolation, StreamLost
from pyiwarp.sockets.flow import WriteBuffer
from pyiwarp.sockets.posting import INLINE
from pyiwarp.verbs import Completion, QueuePair, Status

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["StreamTransport"]

log = logging.getLogger(__name__)
_folded: Final = FoldedLog(log)

_OCTETS: Final = (bytes, bytearray, memoryview)
_SUCCESS: Final = Status.SUCCESS
_WRITES_INTO_NOTHING: Final = 5
_PROTOCOL_FAILED: Final = "Fatal error: a method of the protocol failed."
_INTERNAL: Final = frozenset({"begin"})


class StreamTransport(asyncio.Transport):
    """A stream as asyncio sees it; made by `create_connection` and `create_server`.

    `get_extra_info` knows `peername`, `sockname`, `socket` and `agreement`: what MPA startup has settled.
    """

    _start_tls_compatible: ClassVar[bool] = True  # asyncio asks for it by this name

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        qp: QueuePair,
        engine: Engine,
        protocol: asyncio.BaseProtocol,
        release: Callable[[], None],
        keepalive: float | None,
    ) -> None:
        super().__init__()
        self._info: dict[str, Any] = {}
        self._loop = loop
        self._qp = qp
        self._cq = qp.recv_cq  # for sends too
        self._engine = engine
        self._delivery = Delivery(engine, protocol, self._complain)
        self._release = release
        self._keepalive = keepalive
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = WriteBuffer(self._delivery.pause_writing, self._delivery.resume_writing)
        self._burst = False  # a large message was sent in this turn of the loop
        self._begun = False
        self._reading_paused = False
        self._eof_written = False
        self._eof_told = False
        self._closing = False
        self._lost = False  # `connection_lost` is called or will be
        self._ended = self._all_sent = False  # the queue pair; before that
        self._winding_up = False  # because this side closes, or the queue pair has ended
        self._advancing = False
        self._once_more = False
        self._waiting: list[asyncio.Future[None]] = []  # for room for direct writes
        self._writes_into_nothing = 0

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} with {self._info.get('peername')} {self._engine!r}>"

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def begin(self, info: dict[str, Any]) -> None:
        """The engine has begun: tell the protocol, and take what comes from now on."""
        self._info = info
        self._begun = True
        self._qp.on_ended = self._on_ended
        self._watch_peer()
        self._cq.taker = self._on_completion
        self._qp.take_small(self._take_alone)
        self._qp.flush_silently()
        try:
            self._delivery.protocol.connection_made(self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "protocol.connection_made() call failed.")
        self._ended = not self._qp.alive
        self._winding_up = self._winding_up or self._ended
        for completion in self._cq.poll():  # those that came before
            self._on_completion(completion)
        self._advance()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the stream by this name; see the class."""
        return self._info.get(name, default)

    # --- the contract: reading ---------------------------------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is given the octets."""
        return self._delivery.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the octets to another protocol from now on."""
        self._delivery.set(protocol)

    def is_reading(self) -> bool:
        """Whether octets are given to the protocol as they come."""
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        """Give the protocol no more octets, and the peer no more credit for those that are here."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Give the protocol octets again, those that wait first."""
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._advance)

    # --- the contract: writing ---------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send octets, when there is room for them; they may change after that."""
        if type(data) is bytes and not (self._winding_up or self._buffer.octets) and self._engine.send_small(data):
            return
        if not isinstance(data, _OCTETS):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        engine = self._engine
        if self._closing or self._lost or engine.writing is not End.OPEN:
            if data and self._writes_into_nothing >= _WRITES_INTO_NOTHING:
                log.warning("octets were written to a stream that has ended: %r", self)
            self._writes_into_nothing += bool(data)
        elif self._buffer.octets or engine.under_way or not self._qp.alive:
            if len(self._buffer) + len(data) > self._buffer.high and not engine.under_way:
                self._advance()  # so much is worth a message, whatever follows
            self._buffer.add(data)  # it goes together with what waits already, or when that is with TCP
        elif type(data) is bytes and len(data) <= INLINE:
            if (taken := engine.send(data)) < len(data):
                self._keep(data[taken:])
        elif self._burst and len(data) < self._buffer.high:
            self._buffer.add(data)
        elif data:
            self._burst = True
            self._loop.call_soon(self._end_burst)
            with memoryview(data).cast("B") as octets:
                if (taken := self._send(octets)) < len(octets):
                    self._keep(octets[taken:])

    def _end_burst(self) -> None:
        """What was written since the first large message of this turn goes together."""
        self._burst = False
        if self._buffer.octets:
            self._advance()

    def _send(self, octets: memoryview) -> int:
        engine = self._engine
        taken = engine.send_large(octets) if len(octets) > INLINE else 0
        if taken < len(octets) and not engine.under_way:
            taken += engine.send(octets[taken:])
        return taken

    def _keep(self, octets: bytes | memoryview) -> None:
        """The engine had no room for these."""
        self._buffer.add(octets)
        if not self._engine.under_way:
            self._advance()  # TCP has what went before them, so that no completion will come

    @property
    def takes_octets(self) -> bool:
        """Whether what is written now may still reach the peer: neither side has ended this direction."""
        return not (self._eof_written or self._closing) and self._engine.writing is End.OPEN

    def can_write_eof(self) -> bool:
        """A stream can be closed in one direction."""
        return True

    def write_eof(self) -> None:
        """Shut this direction down when everything written is sent; the other one goes on."""
        if not self._eof_written and not self._closing:
            self._eof_written = self._winding_up = True
            self._advance()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ask the protocol to pause at more than `high` octets that wait for room, to go on at `low`."""
        self._buffer.set_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high, in octets."""
        return self._buffer.low, self._buffer.high

    def get_write_buffer_size(self) -> int:
        """Octets that wait for room."""
        return len(self._buffer)

    # --- direct writes -----------------------------------------------------------------------------------------------

    async def iomap(self, buffer: Buffer, offset: int | None = None) -> int:
        """Let the peer write `buffer`, a writable one, under `offset`; None is its TO. Returns the offset.

        The peer knows of it before what is written next. It changes the buffer at any time until `iounmap` or the end
        of the stream. Raises `WrongState` if the peer has no room for it in its table (`StreamOptions.iomaps` there),
        if `offset` is taken, or if the stream has ended.
        """
        direct = self._engine.direct
        region = self._engine.register(buffer)
        try:
            if direct.room:
                await self._until(lambda: direct.offers_ready)
            offset = region.to if offset is None else offset
            direct.offer(region, offset)
        except BaseException:
            region.retire()
            raise
        return offset

    def iounmap(self, offset: int) -> None:
        """The buffer under `offset` is the program's alone again; a Write of the peer's into it ends the stream.

        Raises `WrongState` if there is none.
        """
        self._engine.direct.withdraw(offset)

    async def iowrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write `data` into the buffer that the peer offers under `offset`, or behind its beginning, by an RDMA Write.

        The peer's program is not told; it has the octets before what is written next. Returns when the Write is posted;
        `data` may change then. Raises `BadWorkRequest` if no one buffer of the peer's has all of these octets,
        `WrongState` if the stream has ended.
        """
        await self._until(lambda: self._engine.direct.ready)
        self._engine.direct.write(data if isinstance(data, bytes) else bytes(data), offset)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while True:
            if self._closing or self._ended or self._engine.writing is not End.OPEN:
                raise WrongState(f"{self!r} has ended, or is about to: there are no direct writes")
            if ready():
                return
            room: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(room)
            try:
                await room
            except asyncio.CancelledError:
                if room in self._waiting:
                    self._waiting.remove(room)  # a program may try again and again, and nothing else come
                raise

    def _wake(self) -> None:
        """What waits looks again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # --- the contract: the end ---------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether the stream is closed or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what was written, then end both directions; the protocol is given no more octets."""
        if not self._closing:
            self._closing = self._winding_up = True
            self._advance()

    def abort(self) -> None:
        """End at once: the peer's program sees that the connection was reset."""
        self._end(None)

    def _force_close(self, exc: Exception | None) -> None:
        """End at once because of `exc`; asyncio's TLS calls it by this name."""
        self._end(exc)

    # --- from the stack ----------------------------------------------------------------------------------------------

    def _on_ended(self) -> None:
        self._ended = self._winding_up = True
        self._loop.call_soon(self._advance)

    def _on_completion(self, completion: Completion) -> None:
        try:
            self._engine.on_completion(completion)
        except PeerViolation as error:
            self._violated(error)
        if completion.status is _SUCCESS:  # else the queue pair ends, which `_on_ended` tells
            self._advance()

    def _take_alone(self, word: memoryview) -> bool:
        """The fast way of `_on_completion`: the protocol takes what a small DATA word tells of, as it comes."""
        give, engine = self._delivery.give, self._engine
        if give is None or self._advancing or self._reading_paused or self._winding_up:
            return False
        octets = engine.take_alone(word)
        if octets is None:
            return False
        self._advancing = True
        try:
            give(octets)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, _PROTOCOL_FAILED)
        finally:
            self._advancing = False
        if self._once_more or self._buffer.octets or self._waiting or engine.owes:
            self._advance()
        return True

    def _advance(self) -> None:
        """Go on until nothing changes any more."""
        if self._advancing or not self._begun:
            self._once_more = True
            return
        engine = self._engine
        self._advancing = True
        try:
            self._once_more = True
            while self._once_more and not self._lost:
                self._once_more = False
                ending = self._winding_up or not engine.open
                if ending or engine.readable:
                    self._deliver()
                if ending or self._buffer.octets:
                    self._send_what_waits()
                if engine.owes and self._may_post and not self._lost:
                    engine.look()
                if ending:
                    self._see_to_the_end()
                if self._waiting:
                    self._wake()
        except PeerViolation as error:
            self._violated(error)
        finally:
            self._advancing = False

    def _violated(self, error: PeerViolation) -> None:
        _folded.say(logging.INFO, "a stream ends for what its peer has said", f"{self!r}: {error}")
        self._end(error)

    def _deliver(self) -> None:
        """Give the protocol what can be read, then the end."""
        engine = self._engine
        try:
            while engine.readable and not (self._reading_paused or self._closing or self._eof_told):
                self._delivery.some()
            if engine.reading is not End.OPEN and self.is_reading() and not self._eof_told and not self._lost:
                self._eof_told = True
                if not self._delivery.eof():
                    self.close()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, _PROTOCOL_FAILED)
        while engine.readable and (self._eof_told or self._closing):
            engine.consume(len(engine.peek()))  # nobody wants it, and the peer may have to send it before it reads

    @property
    def _may_post(self) -> bool:
        """Whether the queue pair takes work; that it has ended is told a moment after it has."""
        return not self._ended and self._qp.alive

    def _send_what_waits(self) -> None:
        engine = self._engine
        if self._lost or not self._may_post:
            return
        if engine.writing is End.OPEN:
            self._buffer.send(self._send)
            if not self._buffer.octets:
                if self._closing:
                    engine.disconnect()
                elif self._eof_written:
                    engine.shut_down()
        elif engine.writing is End.SHUT and self._closing:
            engine.disconnect()

    def _see_to_the_end(self) -> None:
        engine = self._engine
        if engine.finished and not self._ended:
            self._all_sent = True
            self._qp.disconnect()
        elif engine.writing is End.DISCONNECTED and not self._ended and self._qp.stream.muted:
            self._qp.disconnect()  # the peer has `Options.linger` to speak: before that DISCONNECT may not go
        if not self._ended or self._lost:
            return
        if engine.writing is not End.DISCONNECTED:
            cause = self._qp.error
            lost = StreamLost(
                str(cause or "the peer has closed the connection without a word (docs/sockets.md, §8 Ends)")
            )
            lost.__cause__ = cause
            self._end(lost)
        elif self._buffer.octets or (self._closing and not self._all_sent):
            self._end(StreamLost("the connection has ended before everything was sent"))
        elif self._closing or self._eof_told:
            self._end(None)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException, message: str) -> None:
        """The program's protocol has failed."""
        if not isinstance(error, OSError):
            self._complain(message, error)
        self._end(error if isinstance(error, Exception) else None)

    def _complain(self, message: str, error: BaseException) -> None:
        context = {"message": message, "exception": error, "transport": self, "protocol": self.get_protocol()}
        self._loop.call_exception_handler(context)

    def _end(self, error: Exception | None) -> None:
        """The stream ends now; what is left of the connection is reset."""
        self._closing = True
        if self._lost:
            return
        self._lost = self._winding_up = True
        self._buffer.clear()
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended:
            self._qp.abort(error if isinstance(error, IwarpError) else StreamLost("the program has aborted the stream"))
        self._loop.call_soon(self._tell_of_the_end, error)

    def _tell_of_the_end(self, error: Exception | None) -> None:
        try:
            self._delivery.protocol.connection_lost(error)
        finally:
            self._release()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _watch_peer(self) -> None:
        if self._keepalive is not None and not self._lost:
            if self._timer is not None and self._qp.alive:
                self._engine.keep_alive()
            self._timer = self._loop.call_later(self._keepalive, self._watch_peer)
