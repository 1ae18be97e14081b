"""How octets and the end come to a protocol of asyncio's, of either kind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import ClassVar, Final

from pyiwarp.sockets.engine import Engine

__all__ = ["Delivery", "KeepsNothing", "ReaderProtocol"]

LARGEST: Final = 256 * 1024
"""Octets that `data_received` gets at once at most, as from asyncio's own transports."""


class KeepsNothing(asyncio.Protocol):
    """A protocol that is given octets where they lie, as a view that is good for the call of `data_received` only."""

    AT_ONCE: ClassVar[int] = LARGEST
    """So many octets at most."""


class ReaderProtocol(asyncio.StreamReaderProtocol, KeepsNothing):
    """asyncio's protocol of readers: its reader copies what it is given at once."""

    AT_ONCE: ClassVar[int] = sys.maxsize


class Delivery:
    """Gives what the engine has to a protocol, which may be exchanged at any time by `set`.

    `complain` is told of what a protocol raises when it is asked to pause or to go on.
    """

    def __init__(
        self, engine: Engine, protocol: asyncio.BaseProtocol, complain: Callable[[str, BaseException], None]
    ) -> None:
        self._engine = engine
        self._complain = complain
        self.set(protocol)

    def set(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the octets to `protocol` from now on."""
        self.protocol = protocol
        self.some: Callable[[], None] = self._to_protocol
        """Gives the protocol some of what can be read; raises what its method raises."""
        self.give: Callable[[memoryview], None] | None = None
        """Gives the protocol octets that were taken already, as many as come at once; None if it may take fewer."""
        if isinstance(protocol, asyncio.BufferedProtocol):
            self.some = self._to_buffer
        elif isinstance(protocol, KeepsNothing):
            self.some = self._lend
            self.give = protocol.data_received  # type: ignore[assignment]  # as in `_lend`
        else:
            self.give = self._copy_to_protocol

    def _to_buffer(self) -> None:
        protocol = self.protocol
        assert isinstance(protocol, asyncio.BufferedProtocol)
        octets = self._engine.peek()
        buffer = memoryview(protocol.get_buffer(-1))
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        nbytes = min(len(octets), buffer.nbytes)
        buffer.cast("B")[:nbytes] = octets[:nbytes]
        self._engine.consume(nbytes)
        protocol.buffer_updated(nbytes)

    def _to_protocol(self) -> None:
        protocol = self.protocol
        assert isinstance(protocol, asyncio.Protocol), "a stream needs a protocol that takes octets"
        data = bytes(self._engine.peek()[:LARGEST])
        self._engine.consume(len(data))
        protocol.data_received(data)

    def _copy_to_protocol(self, octets: memoryview) -> None:
        protocol = self.protocol
        assert isinstance(protocol, asyncio.Protocol), "a stream needs a protocol that takes octets"
        protocol.data_received(bytes(octets))

    def _lend(self) -> None:
        protocol = self.protocol
        assert isinstance(protocol, KeepsNothing)
        octets = self._engine.peek()[: protocol.AT_ONCE]
        protocol.data_received(octets)  # type: ignore[arg-type]  # asyncio says bytes; this one takes any octets
        self._engine.consume(len(octets))

    def eof(self) -> bool:
        """Tell the protocol that nothing more comes; returns whether it goes on writing."""
        protocol = self.protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        return bool(protocol.eof_received())

    def pause_writing(self) -> None:
        """Ask the protocol to write no more for now."""
        self._ask("pause_writing", self.protocol.pause_writing)

    def resume_writing(self) -> None:
        """Ask the protocol to go on."""
        self._ask("resume_writing", self.protocol.resume_writing)

    def _ask(self, name: str, method: Callable[[], None]) -> None:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._complain(f"protocol.{name}() failed", error)
