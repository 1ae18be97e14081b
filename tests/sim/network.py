"""Connections without sockets: what one end writes reaches the other late, in pieces, and perhaps not at all.

A `Cable` is a TCP connection: two `End`s that are transports of the simulated loop. Octets arrive in order, after a
delay that differs each time; a receiver takes as many at once as chance says; a sender's buffer is small, so that it is
full at times. `stall` holds octets back for a while, `cut` breaks the connection.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from pyiwarp.buffers import Octets
from tests.sim.loop import SimulatedLoop

__all__ = ["Cable", "End", "Manners"]

FIN: Final = None


@dataclass(frozen=True, slots=True)
class Manners:
    """How an end behaves: `delay` and `pause` between two reads in seconds, `window` and `gulp` in octets."""

    delay: float
    window: int
    gulp: int
    pause: float

    @classmethod
    def of(cls, rng: random.Random) -> Manners:
        """Quick or slow, with large or small buffers."""
        return cls(
            delay=rng.choice((0.0, 1e-4, 0.01, 0.3)),
            window=rng.choice((64, 1500, 65_536, 1 << 20)),
            gulp=rng.choice((1, 100, 1500, 1 << 20)),
            pause=rng.choice((0.0, 0.0, 1e-4, 0.002)),
        )


class End(asyncio.Transport):
    """One end of a cable, as the loop's transports are."""

    def __init__(self, cable: Cable, name: str, manners: Manners) -> None:
        super().__init__()
        self._cable, self._name, self._manners = cable, name, manners
        self._loop, self._rng = cable.loop, cable.rng
        self.peer: End = self
        self.protocol: asyncio.BufferedProtocol | None = None
        self._unsent = bytearray()
        self._travelling: deque[bytes | None] = deque()
        self._arrived: deque[bytes | None] = deque()
        self._held = 0  # octets that are on the way to the peer, or wait there
        self._last = 0.0  # when what was sent last arrives
        self.stalled_until = 0.0
        self._writing_paused = self._reading_paused = self._closing = self._gone = False
        self._fin_due = self._fin_sent = self._reading_due = False
        self.damage = 0  # how many of the next octets are changed on the way

    # --- what the loop's transports have -----------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Names of both ends; there is no socket."""
        return {"sockname": (self._name, 1), "peername": (self.peer._name, 1)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The first octet that stays behind pauses the writer."""

    def get_write_buffer_size(self) -> int:
        """Octets that the cable has not taken."""
        return len(self._unsent)

    def is_closing(self) -> bool:
        """Whether this end is closed."""
        return self._closing

    def write(self, data: Octets) -> None:
        """Send octets; what finds no room waits here."""
        assert not self._fin_due, "octets behind the FIN"
        if self._closing:
            return
        self._unsent += data
        self._send()
        if self._unsent and not self._writing_paused and self.protocol is not None:
            self._writing_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Octets]) -> None:
        """As one write."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Close this half behind what was written."""
        self._fin_due = True
        self._send()

    def pause_reading(self) -> None:
        """Take nothing until `resume_reading`."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Take again what comes."""
        self._reading_paused = False
        self._look()

    def close(self) -> None:
        """Send what waits and the FIN, and end."""
        if not self._closing:
            self._closing = True
            if not self._unsent:
                self._loop.call_soon(self._finish)

    def abort(self) -> None:
        """Reset the connection."""
        self._closing = True
        self._unsent.clear()
        self._loop.call_soon(self.lose, None)
        self._loop.call_later(self._delay(), self.peer.lose, ConnectionResetError("reset by the peer"))

    # --- the cable ---------------------------------------------------------------------------------------------------

    def begin(self, make_protocol: Callable[[], asyncio.BufferedProtocol]) -> None:
        """TCP is established."""
        self.protocol = make_protocol()
        self.protocol.connection_made(self)
        self._look()

    def lose(self, cause: Exception | None) -> None:
        """TCP has ended at this end."""
        if self._gone:
            return
        self._gone = self._closing = True
        if self.protocol is not None:
            self.protocol.connection_lost(cause)

    def _finish(self) -> None:
        self._fin_due = True
        self._send()
        self.lose(None)

    def _delay(self) -> float:
        return self._manners.delay * self._rng.uniform(0.5, 2)

    def _send(self) -> None:
        room = self._manners.window - self._held
        if self._unsent and room > 0:
            octets = bytes(self._unsent[:room])
            del self._unsent[:room]
            self._held += len(octets)
            self._on_the_way(self._damaged(octets))
        if not self._unsent and self._fin_due and not self._fin_sent:
            self._fin_sent = True
            self._on_the_way(FIN)

    def _damaged(self, octets: bytes) -> bytes:
        if not self.damage:
            return octets
        self.damage -= 1
        changed = bytearray(octets)
        changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _on_the_way(self, octets: bytes | None) -> None:
        due = max(self._loop.time() + self._delay(), self._last, self.stalled_until)
        self._last = due
        self._travelling.append(octets)
        self._loop.call_at(due, self._deliver)  # of timers that are due at once any may be called first

    def _deliver(self) -> None:
        self.peer._arrive(self._travelling.popleft())

    def _arrive(self, octets: bytes | None) -> None:
        if self._gone:
            if octets is not FIN:  # the kernel answers octets for a closed socket with a reset
                self._loop.call_later(self._delay(), self.peer.lose, ConnectionResetError("the peer is closed"))
            return
        self._arrived.append(octets)
        self._look()

    def _look(self) -> None:
        if not self._reading_due and self._arrived and self.protocol is not None:
            self._reading_due = True
            self._loop.call_later(self._manners.pause, self._read)

    def _read(self) -> None:
        self._reading_due = False
        if self._reading_paused or self._closing or not self._arrived or self.protocol is None:
            return
        octets = self._arrived.popleft()
        if octets is FIN:
            if not self.protocol.eof_received():
                self.close()
        else:
            self._take(octets)
        self._look()

    def _take(self, octets: bytes) -> None:
        assert self.protocol is not None
        view = cast("memoryview", self.protocol.get_buffer(-1))
        nbytes = min(len(view), len(octets), self._rng.randint(1, self._manners.gulp))
        view[:nbytes] = octets[:nbytes]
        if nbytes < len(octets):
            self._arrived.appendleft(octets[nbytes:])
        self.peer._taken(nbytes)
        self.protocol.buffer_updated(nbytes)

    def _taken(self, nbytes: int) -> None:
        """The peer's reader has made room."""
        self._held -= nbytes
        self._loop.call_later(self._delay(), self._room)

    def _room(self) -> None:
        if self._gone:
            return
        self._send()
        if self._unsent:
            return
        if self._closing:
            self._finish()
        elif self._writing_paused and self.protocol is not None:
            self._writing_paused = False
            self.protocol.resume_writing()


class Cable:
    """A TCP connection between two protocols, which begins after a delay."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random) -> None:
        self.loop, self.rng = loop, rng
        self.ends = End(self, "initiator", Manners.of(rng)), End(self, "responder", Manners.of(rng))
        self.ends[0].peer, self.ends[1].peer = self.ends[1], self.ends[0]

    def connect(self, *protocols: Callable[[], asyncio.BufferedProtocol]) -> None:
        """Establish it: each end gets its protocol, not at the same moment."""
        for end, protocol in zip(self.ends, protocols, strict=True):
            self.loop.call_later(self.rng.uniform(0, 0.01), end.begin, protocol)

    def stall(self, seconds: float) -> None:
        """Octets of one direction are held back for a while."""
        self.rng.choice(self.ends).stalled_until = self.loop.time() + seconds

    def damage(self) -> None:
        """One bit changes on the way, in what one end writes next."""
        self.rng.choice(self.ends).damage = 1

    def cut(self) -> None:
        """The connection breaks: each end learns it in its own time."""
        for end in self.ends:
            self.loop.call_later(self.rng.uniform(0, 0.5), end.lose, ConnectionResetError("the cable is cut"))
