"""One direction of a connection as units, while its octets come; two of them are a session.

What was agreed in startup decides how FPDUs are read: CRCs are in use if either side asked for them, a direction has
markers if the other side asked for them (RFC 5044 §7.1.1). So octets of Full Operation wait until both frames are
known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pyiwarp.codes import REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE
from pyiwarp.decode.above.naming import Naming
from pyiwarp.decode.frames import startup_size
from pyiwarp.decode.framing import Deframer
from pyiwarp.decode.joining import place_of_fpdu
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.wire import StartupHeader

__all__ = ["Direction", "Session", "Settings"]

_ENOUGH: Final = 280_000
"""Octets behind a gap in which an FPDU is found if there is one: four of the largest."""


class Settings(NamedTuple):
    """How the FPDUs of one direction are to be read."""

    crc: bool
    markers: bool


_EITHER: Final = [Settings(crc, markers) for crc in (True, False) for markers in (True, False)]
"""What may have been agreed, what is the hardest to find by chance first."""


class Direction:
    """Takes the octets of one direction; `joined` says that its beginning may be missing."""

    def __init__(self, *, joined: bool = False) -> None:
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first octet
        self._joined = joined
        self._startup: StartupUnit | None = None
        self._deframer: Deframer | None = None
        self._begin = 0  # where Full Operation begins, or what is known of it
        self._number = 0
        self.settings = Settings(crc=True, markers=False)

    @property
    def startup(self) -> StartupUnit | None:
        """Its startup frame, None before it is whole."""
        return self._startup

    @property
    def ready(self) -> bool:
        """Whether it waits for `begin`, and has what that takes: its startup frame, or enough to find an FPDU."""
        return self._deframer is None and (self._startup is not None or len(self._buffer) > _ENOUGH)

    @property
    def in_midstream(self) -> bool:
        """Whether what came first is no startup frame, and may be an FPDU's middle."""
        head = bytes(self._buffer[: len(REQUEST_KEY)])
        known = REQUEST_KEY.startswith(head) or REPLY_KEY.startswith(head)
        return self._joined and self._startup is None and bool(head) and not known

    @property
    def waiting(self) -> int:
        """Octets that wait for `begin`, 0 behind it."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> list[Unit]:
        """These octets come next; the units that they make whole."""
        if self._deframer is not None:
            self._deframer.buffer += octets
            return list(self._fpdus())
        self._buffer += octets
        return list(self._take_startup())

    def begin(self, settings: Settings, *, sure: bool = True) -> list[Unit]:
        """Startup is over: what follows are FPDUs. The units that had waited for that.

        Where a beginning is missing and `settings` are not `sure`, they are found out with the first FPDU.
        """
        units: list[Unit] = []
        if self._startup is None and self._buffer:  # joined in mid-stream
            settings, skipped = self._join(_EITHER if not sure else [settings])
            units += skipped
        self.settings = settings
        self._deframer = Deframer(settings.markers)
        self._deframer.offset = self._joined_at
        self._deframer.buffer += self._buffer
        self._begin = self._offset - self._joined_at
        self._offset += len(self._buffer)
        self._buffer.clear()
        return units + list(self._fpdus())

    def lost(self, nbytes: int) -> list[Unit]:
        """So many octets come next that nobody has: an FPDU is looked for behind them (RFC 5044 §5.2)."""
        units = self.finish()
        left = sum(len(unit.octets) for unit in units)
        at = self._offset if self._deframer is None else self._begin + self._deframer.offset
        self._offset = at + left + nbytes
        self._buffer.clear()
        self._deframer = None
        self._startup = None
        self._joined = True
        return units

    def finish(self) -> list[Unit]:
        """No more octets come: what is left, if anything is."""
        rest = bytes(self._buffer if self._deframer is None else self._deframer.buffer)
        offset = self._offset if self._deframer is None else self._begin + self._deframer.offset
        if not rest:
            return []
        if self._startup is None and self._deframer is None:
            return [StartupUnit(offset, rest, "no whole startup frame")]
        return [Unit(offset, rest, "no whole FPDU")]

    _joined_at = 0  # how far the first FPDU that was found is from the beginning of Full Operation, modulo 512

    def _join(self, candidates: Sequence[Settings]) -> tuple[Settings, list[Unit]]:
        """Find the first FPDU: how it and those behind it are to be read, and what is before it."""
        octets, chosen, place, why = bytes(self._buffer), candidates[0], len(self._buffer), "no FPDU is found in them"
        for settings in candidates:
            found = place_of_fpdu(octets, settings.markers, crc=settings.crc)
            if found and found[0] < place:
                chosen, why = settings, "before the first FPDU that was found"
                place, self._joined_at = found
        del self._buffer[:place]
        self._offset += place
        return chosen, [Unit(self._offset - place, octets[:place], why)] if place else []

    def _take_startup(self) -> Iterator[Unit]:
        size = None if self._startup else startup_size(bytes(self._buffer[:STARTUP_HEADER_SIZE]))
        if size is None or len(self._buffer) < size or self.in_midstream:
            return
        self._startup = StartupUnit(self._offset, bytes(self._buffer[:size]))
        del self._buffer[:size]
        self._offset += size
        yield self._startup

    def _fpdus(self) -> Iterator[Unit]:
        assert self._deframer is not None
        while (fpdu := self._deframer.next()) is not None:
            self._number += 1
            yield FpduUnit(self._begin + fpdu.offset, fpdu.octets, "", fpdu, self._number, self.settings.crc)


class Session:
    """Both directions of one connection; direction 0 is what the side that opened it sends, 1 the other's.

    With `joined` the beginning may be missing. `feed` and `finish` give pairs of direction and unit in the order in
    which the units became whole.
    """

    def __init__(self, *, joined: bool = False) -> None:
        self.directions = (Direction(joined=joined), Direction(joined=joined))
        self._naming = Naming()
        self._begun = False
        self._sure = False  # whether a startup frame said how FPDUs are read

    @property
    def settings(self) -> tuple[Settings, Settings] | None:
        """How the FPDUs of each direction are read, None before that is known."""
        opener, other = self.directions
        return (opener.settings, other.settings) if self._begun else None

    def feed(self, direction: int, octets: bytes) -> list[tuple[int, Unit]]:
        """These octets of a direction come next."""
        each = self.directions[direction]
        units = [(direction, unit) for unit in each.feed(octets)]
        enough = each.waiting > _ENOUGH
        if not self._begun and (enough or all(each.startup is not None for each in self.directions)):
            units += self._begin()
        elif self._begun and each.ready:
            units += self._join(direction)
        return self._named(units)

    def lost(self, direction: int, nbytes: int) -> list[tuple[int, Unit]]:
        """So many octets of a direction come next that nobody has."""
        self._naming.lost()
        return [(direction, unit) for unit in self.directions[direction].lost(nbytes)]

    def finish(self) -> list[tuple[int, Unit]]:
        """The connection has ended, or nothing more was captured: what is left."""
        units = []
        if not self._begun and any(each.startup or each.in_midstream for each in self.directions):
            units += self._begin()
        for direction, each in enumerate(self.directions):
            if self._begun and each.waiting:
                units += self._join(direction)
            units += [(direction, unit) for unit in each.finish()]
        return self._named(units)

    def _named(self, units: list[tuple[int, Unit]]) -> list[tuple[int, Unit]]:
        """The units, with what the protocol above reads in them."""
        named = []
        for direction, unit in units:
            above = None
            if isinstance(unit, StartupUnit):
                above = self._naming.hello(direction, unit.private_data)
            elif isinstance(unit, FpduUnit) and unit.segment is not None:
                above = self._naming.read(direction, unit.segment)
            named.append((direction, unit if above is None else replace(unit, above=above)))
        return named

    def _join(self, direction: int) -> list[tuple[int, Unit]]:
        each = self.directions[direction]
        return [(direction, unit) for unit in each.begin(each.settings, sure=self._sure)]

    def _begin(self) -> list[tuple[int, Unit]]:
        """Startup is over, or was not seen. A direction that has too little to find an FPDU in waits for more."""
        self._begun = True
        self._sure = any(each.startup is not None for each in self.directions)
        for direction, settings in zip(self.directions, self._settle(), strict=True):
            direction.settings = settings
        return [
            unit for number, direction in enumerate(self.directions) if direction.ready for unit in self._join(number)
        ]

    def _settle(self) -> tuple[Settings, Settings]:
        """What was agreed; CRCs and no markers where a frame was not seen."""
        units = [each.startup for each in self.directions]
        flags = [StartupHeader.parse(unit.octets).flags if unit else None for unit in units]
        crc = any(each is None or each.crc for each in flags)
        opener, other = (bool(each and each.markers) for each in flags)
        return Settings(crc, other), Settings(crc, opener)
