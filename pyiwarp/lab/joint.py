"""What stands for TCP: octets go to a pump and come from it when they are asked for, in memory."""

from __future__ import annotations

from pyiwarp.errors import UsageError
from pyiwarp.pump import Pump

__all__ = ["EMSS", "Joint"]

EMSS = 1448
"""TCP's segment size in octets, as on Ethernet with timestamps; MULPDU follows from it (RFC 5044 §4.5)."""


class Joint:
    """Drives one pump as a driver does, with octets in memory where a driver has a socket.

    `pump` may be exchanged: startup gives the connection to a queue pair.
    """

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.closed = False
        """Whether this end has closed TCP, both halves."""
        self.sent_fin = False
        """Whether this end has closed its half."""
        self.reset = False
        """Whether this end has reset TCP instead of closing it."""
        self._incoming = bytearray()
        self._fin_coming = False
        self._said = bytearray()

    def give(self, octets: bytes) -> None:
        """The other end sends these octets. What the pump does not read yet waits, as it would in a socket."""
        self._incoming += octets

    def end(self) -> None:
        """The other end closes its half."""
        self._fin_coming = True

    def take(self) -> bytes:
        """What this end has sent since the last time."""
        said = bytes(self._said)
        self._said.clear()
        return said

    def run(self) -> None:
        """Move octets until nothing moves any more."""
        while not self.closed and (self._write() or self._read() or self._settle()):
            pass

    def expire(self) -> str:
        """Let the time limit pass that this end has now; returns what it had waited for.

        Raises `UsageError` if it waits for nothing.
        """
        limit = None if self.closed else self.pump.time_limit()
        if limit is None:
            raise UsageError("the endpoint waits for nothing that has a time limit")
        self.pump.timed_out(limit)
        return limit.waiting_for

    def _write(self) -> bool:
        self.pump.set_emss(EMSS)
        self.pump.resume()
        octets = b"".join(self.pump.next_iov())
        if octets:
            self._said += octets
            self.pump.flushed()
        return bool(octets)

    def _read(self) -> bool:
        if self.pump.behind:
            self.pump.proceed()
            return True
        if not self.pump.wants_input:
            return False
        if self._incoming:
            view = self.pump.receive_view()
            nbytes = min(len(view), len(self._incoming))
            view[:nbytes] = self._incoming[:nbytes]
            del self._incoming[:nbytes]
            self.pump.received(nbytes)
            return True
        if self._fin_coming:
            self._fin_coming = False
            self.pump.received_eof()
            return True
        return False

    def _settle(self) -> bool:
        if self.pump.over:
            self.closed = self.sent_fin = True
            self.reset = self.pump.broken
            self.pump.lost(None)
            return True
        if self.pump.output_ended and not self.sent_fin:
            self.sent_fin = True
            return True
        return False
