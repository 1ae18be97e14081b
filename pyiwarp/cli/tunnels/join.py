"""A client of a tunnel: its stream and the one to the target, each of which gets what the other one brings.

What comes is written at the other end. A slow reader at one end makes the writer at the other wait, in both directions
apart. The end of one direction goes on alone, a reset ends both at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from pyiwarp.cli.address import Address
from pyiwarp.cli.tunnels.place import TCP
from pyiwarp.drivers.tcp import limit_silence, reset_at_end

__all__ = ["End", "Join", "Patience"]


class Patience(NamedTuple):
    """Seconds: both ends are reset after `idle` ones without an octet, a silent TCP peer is probed after `keepalive`.

    When one direction has ended, `half_closed` ones without an octet are enough. None is for ever.
    """

    idle: float | None
    half_closed: float | None
    keepalive: float | None


class End(asyncio.Protocol):
    """One end of a join, of TCP or of iWARP. `nbytes` octets have come here, `eof` is whether there will be more."""

    def __init__(self, join: Join, kind: str) -> None:
        self._join = join
        self._tcp = kind == TCP
        self._full = False
        self._held = bytearray()  # came before there was an other end; asyncio reads once before it pauses
        self.transport: Any = None
        self.nbytes = 0
        self.eof = False
        self.lost = False

    @property
    def other(self) -> End:
        """The other end of the join."""
        return self._join.far if self is self._join.near else self._join.near

    @property
    def peer(self) -> str:
        """The address of who speaks here."""
        peername = self.transport and self.transport.get_extra_info("peername")
        return str(Address(*peername[:2])) if peername else "a client that has left"

    @property
    def open(self) -> bool:
        """Whether this end takes octets and requests."""
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """This end is there."""
        self.transport = transport
        if self._tcp:
            limit_silence(transport.get_extra_info("socket"), self._join.patience.keepalive, None)
        self._join.made(self)

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self.nbytes += len(data)
        self._join.moved()
        if self.other.transport is None:
            self._held += data
            self.pause()
        elif self.other.open:
            self.other.transport.write(data)

    def pass_on(self) -> None:
        """The other end is there now: give it what has come before."""
        held, self._held = self._held, bytearray()
        if held and self.other.open:
            self.other.transport.write(bytes(held))
        if self.eof:
            self.other.shut_down()
        elif not self.other._full:
            self.resume()

    def eof_received(self) -> bool:
        """No more octets will come here; the other direction goes on."""
        self.eof = True
        if self.other.transport is not None:
            self.other.shut_down()
        self._join.moved()
        self._join.watch()
        self._join.check_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """This end has ended: so does the other one, in the same way."""
        self.lost = True
        self._join.ended(self, exc)

    def pause_writing(self) -> None:
        """This end takes no more for now."""
        self._full = True
        self.other.pause()

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        self.other.resume()

    def pause(self) -> None:
        """Let no more come here."""
        if self.open:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Let octets come here again."""
        if self.open:
            self.transport.resume_reading()

    def shut_down(self) -> None:
        """Tell this end's peer that the octets which were written are the last ones."""
        if self.open:
            self.transport.write_eof()

    def close(self) -> None:
        """End gracefully, behind what was written."""
        if self.open:
            self.transport.close()

    def reset(self) -> None:
        """End at once; the peer sees a reset, not the end."""
        if self.transport is not None and not self.lost:
            if self._tcp:
                with suppress(OSError):  # it is over as it is
                    reset_at_end(self.transport.get_extra_info("socket"))
            self.transport.abort()


class Join:
    """The end of a client, `near`, and that of the target, `far`.

    `kinds` are those of the two. `on_client` is called once the client is there, `on_over` when both have ended.
    """

    def __init__(
        self,
        kinds: tuple[str, str],
        on_client: Callable[[Join], None],
        on_over: Callable[[Join], None],
        patience: Patience,
    ) -> None:
        self.patience = patience
        self.near, self.far = (End(self, kind) for kind in kinds)
        self.error: Exception | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.client = ""
        self._on_client, self._on_over = on_client, on_over
        self._over = False
        self._loop = asyncio.get_running_loop()
        self.began = self._moved = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """How long it has been there."""
        return self._loop.time() - self.began

    def made(self, end: End) -> None:
        """An end is there."""
        if end is self.near:
            self.client = end.peer
            end.pause()
            self.watch()
            self._on_client(self)
        elif self.near.lost:
            end.reset()
        else:
            self.near.pass_on()
            self.check_eof()

    def moved(self) -> None:
        """Octets have come, or the end of one direction."""
        self._moved = self._loop.time()

    def check_eof(self) -> None:
        """Both directions may have ended."""
        if self.near.eof and self.far.eof:
            self.near.close()
            self.far.close()

    def undial(self, error: Exception) -> None:
        """The target cannot be reached: a transport that is there already ends, perhaps without telling so."""
        self.far.transport = None
        self.fail(error)

    def fail(self, error: Exception | None) -> None:
        """End both at once, because of `error`."""
        self.error = self.error or error
        self.far.reset()
        self.near.reset()

    def ended(self, end: End, error: Exception | None) -> None:
        """An end has ended, because of `error` if there is one."""
        if self.dialing is not None and self.far.transport is None:  # else uvloop would tell no end of the far one
            self.dialing.cancel()
        if error is not None:
            self.error = self.error or error
            end.other.reset()
        else:
            end.other.close()
        if self.near.lost and (self.far.lost or self.far.transport is None) and not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self._on_over(self)

    def watch(self) -> None:
        """Look at how long nothing has come, and once more when that may be too long."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        limit = self._limit
        if limit is None or self._over:
            return
        left = self._moved + limit - self._loop.time()
        if left <= 0:
            self.fail(TimeoutError(f"no octet has come for {limit:g} s{self._half}"))
        else:
            self._timer = self._loop.call_later(left, self.watch)

    @property
    def _limit(self) -> float | None:
        limits = (self.patience.idle, self.patience.half_closed if self.near.eof or self.far.eof else None)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def _half(self) -> str:
        """Which direction has ended, in words."""
        if not (self.near.eof or self.far.eof):
            return ""
        return f" since the {'client' if self.near.eof else 'target'} has ended its direction"
