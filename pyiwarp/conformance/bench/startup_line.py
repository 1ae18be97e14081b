"""A TCP connection before Full Operation: startup frames, right and wrong, and what the peer answers."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pyiwarp.conformance.bench.allowances import PLAIN, Allowances
from pyiwarp.conformance.bench.observed import Closed, Frame, Message, Observation, Octets, Reset, Silence
from pyiwarp.conformance.bench.patterns import Pattern, silence
from pyiwarp.conformance.bench.sent import SentRecord
from pyiwarp.conformance.bench.tcp import Tcp
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY, EnhancedWord, StartupHeader

__all__ = ["Line", "build_startup_frame", "build_word"]

HEADER: Final = StartupHeader.sizeof()
MAX_PRIVATE_DATA: Final = 512


def build_word(
    *,
    peer_to_peer: bool = False,
    rtr_send: bool = False,
    rtr_write: bool = False,
    rtr_read: bool = False,
    ird: int = 4,
    ord: int = 4,
) -> bytes:
    """An enhanced word, lawful or not (RFC 6581 §9)."""
    octets: bytes = EnhancedWord.build(
        {
            "peer_to_peer": peer_to_peer,
            "rtr_send": rtr_send,
            "ird": ird,
            "rtr_write": rtr_write,
            "rtr_read": rtr_read,
            "ord": ord,
        }
    )
    return octets


def build_startup_frame(
    key: bytes,
    private_data: bytes = b"",
    *,
    revision: int = 1,
    markers: bool = False,
    crc: bool = True,
    rejected: bool = False,
    enhanced: bool = False,
    rsvd: int = 0,
    private_data_length: int | None = None,
) -> bytes:
    """A startup frame, lawful or not (RFC 5044 §7.1.1); `private_data` is what follows, an enhanced word included."""
    header: bytes = StartupHeader.build(
        {
            "key": key,
            "flags": {"markers": markers, "crc": crc, "rejected": rejected, "enhanced": enhanced, "rsvd": rsvd},
            "revision": revision,
            "private_data_length": len(private_data) if private_data_length is None else private_data_length,
        }
    )
    return header + private_data


class Line:
    """One TCP connection of the bench; `timeout` is how long a reaction may take, `quiet` how long silence is awaited.

    Both are in seconds. `allowances` are allowances for the peer. An expectation that is not met raises `Failed`.
    """

    def __init__(self, tcp: Tcp, timeout: float, quiet: float, allowances: Allowances = PLAIN) -> None:
        self.allowances = allowances
        self.tcp = tcp
        self.timeout = timeout
        self.quiet = quiet
        self.last: Frame | Message | None = None  # what came last of all that was whole
        self.sent = SentRecord()

    async def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.sent.add(octets)
        await self.tcp.send(octets, self.timeout)

    def begin_full_operation(self, *, markers: bool) -> None:
        """What this side sends from now on are FPDUs; with `markers` if the peer asked for them."""
        self.sent.begin_full_operation(markers=markers)

    async def send_slowly(self, octets: bytes, pieces: int, gap: float = 0.01) -> None:
        """Send octets in that many pieces of about the same size, `gap` seconds apart."""
        size = max(1, -(-len(octets) // pieces))
        for start in range(0, len(octets), size):
            await self.send(octets[start : start + size])
            await asyncio.sleep(gap)

    async def request(self, private_data: bytes = b"", *, key: bytes = REQUEST_KEY, **fields: Any) -> bytes:
        """Send an MPA Request; `fields` are those of `build_startup_frame`. Returns its octets."""
        octets = build_startup_frame(key, private_data, **fields)
        await self.send(octets)
        return octets

    async def reply(self, private_data: bytes = b"", *, key: bytes = REPLY_KEY, **fields: Any) -> bytes:
        """Send an MPA Reply; `fields` are those of `build_startup_frame`. Returns its octets."""
        octets = build_startup_frame(key, private_data, **fields)
        await self.send(octets)
        return octets

    async def observe(self, seconds: float | None = None) -> Observation:
        """The next startup frame, or what else happens within `seconds` (by default `timeout`)."""
        seen = await self._next(self.timeout if seconds is None else seconds)
        if isinstance(seen, Frame):
            self.last = seen
        if isinstance(seen, Frame) and seen.is_reply:
            await asyncio.sleep(self.allowances.settle)
        return seen

    async def _next(self, seconds: float) -> Observation:
        try:
            async with asyncio.timeout(seconds):
                while (came := self._here()) is None:
                    await self.tcp.more()
                return came
        except TimeoutError:  # what came in the turn of the loop in which the time ran out is no silence
            return self._here() or Silence(seconds, bytes(self.tcp.buffer))

    def _here(self) -> Observation | None:
        """What there is to see now."""
        if (frame := self._take_frame()) is not None:
            return frame
        return self._end() if self.tcp.over else None

    async def expect(self, pattern: Pattern, seconds: float | None = None) -> Observation:
        """The next observation, which must fit."""
        seen = await self.observe(seconds)
        if not pattern.fits(seen):
            raise pattern.missed(seen)
        return seen

    async def expect_frame(self, pattern: Pattern, seconds: float | None = None) -> Frame:
        """The next observation, which must be a startup frame that fits."""
        seen = await self.expect(pattern, seconds)
        assert isinstance(seen, Frame), "the pattern admits frames alone"
        return seen

    async def expect_quiet(self, seconds: float | None = None) -> None:
        """Nothing may come, and the connection may not end, for `seconds` (by default `quiet`)."""
        await self.expect(silence(), self.quiet if seconds is None else seconds)

    def _take_frame(self) -> Frame | Octets | None:
        buffer = self.tcp.buffer
        if not buffer:
            return None
        due = min(len(buffer), len(REQUEST_KEY))
        if buffer[:due] not in (REQUEST_KEY[:due], REPLY_KEY[:due]):
            if len(buffer) < HEADER and not self.tcp.over:
                return None
            return self._take_octets()
        if len(buffer) < HEADER:
            return None
        length = StartupHeader.parse(buffer).private_data_length
        if length > MAX_PRIVATE_DATA:
            return self._take_octets()
        if len(buffer) < HEADER + length:
            return None
        octets = bytes(buffer[: HEADER + length])
        del buffer[: len(octets)]
        return Frame(octets)

    def _take_octets(self) -> Octets:
        octets = bytes(self.tcp.buffer)
        self.tcp.buffer.clear()
        return Octets(octets)

    def _end(self) -> Closed | Reset:
        rest = bytes(self.tcp.buffer)
        return Reset(rest) if self.tcp.rst else Closed(rest)

    def finish(self) -> None:
        """Send FIN."""
        self.tcp.finish()

    def reset(self) -> None:
        """Send RST."""
        self.tcp.reset()
