"""Records the Terminate messages of one connection, octet for octet as they were on the wire.

The engine reports what a Terminate means. A conformance test needs its octets, so they are parsed here a second time,
from what the driver sends to TCP and receives from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pyiwarp.buffers import Octets
from pyiwarp.capture import Address
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.errors import IwarpError
from pyiwarp.fastwire import TAGGED, UNTAGGED_SIZE, parse_untagged
from pyiwarp.mpa import Deframer, MarkedDeframer

__all__ = ["Watch"]

_HEADER: Final = 20  # of a startup frame (RFC 5044 §7.1.1)
_FLAGS: Final = 16
_LENGTH: Final = slice(18, 20)
_MARKERS: Final = 0x80
_OPCODE: Final = 0x0F


class _Direction:
    """The octets of one direction: a startup frame, then FPDUs."""

    def __init__(self) -> None:
        self.markers = False  # whether the other direction shall have markers
        self.terminate = b""
        self._startup: bytearray | None = bytearray()
        self._fpdus: Deframer | None = None

    def feed(self, octets: Octets, *, marked: bool) -> None:
        """More octets went by; `marked` says whether FPDUs have markers."""
        view = memoryview(octets)
        if self._startup is not None:
            view = self._feed_startup(self._startup, view)
        if not view:
            return
        if self._fpdus is None:
            self._fpdus = (MarkedDeframer if marked else Deframer)(crc=False)
        try:
            self._feed_fpdus(self._fpdus, view)
        except IwarpError:  # no FPDU can be found behind this: the engine has noticed, and says so
            self._fpdus = _DiscardingDeframer(crc=False)

    def _feed_startup(self, frame: bytearray, view: memoryview) -> memoryview:
        """Take what belongs to the startup frame; returns what is left."""
        while True:
            size = _HEADER if len(frame) < _HEADER else _HEADER + int.from_bytes(frame[_LENGTH], "big")
            taken = view[: size - len(frame)]
            frame += taken
            view = view[len(taken) :]
            if len(frame) < size:
                return view
            if size > _HEADER or not any(frame[_LENGTH]):
                self.markers = bool(frame[_FLAGS] & _MARKERS)
                self._startup = None
                return view

    def _feed_fpdus(self, fpdus: Deframer, view: memoryview) -> None:
        while view:
            room = fpdus.receive_view()
            taken = view[: len(room)]
            room[: len(taken)] = taken
            fpdus.received(len(taken))
            view = view[len(taken) :]
            while (ulpdu := fpdus.next_ulpdu()) is not None:
                self._inspect(ulpdu)

    def _inspect(self, ulpdu: memoryview) -> None:
        if len(ulpdu) < UNTAGGED_SIZE or ulpdu[0] & TAGGED:
            return
        header = parse_untagged(ulpdu)
        if header.qn == QueueNumber.TERMINATE and header.rdmap & _OPCODE == Opcode.TERMINATE:
            self.terminate += bytes(ulpdu[UNTAGGED_SIZE:])


class _DiscardingDeframer(Deframer):
    """Finds nothing more."""

    __slots__ = ()

    def received(self, nbytes: int) -> None:
        """Forget them."""


class Watch:
    """A tap for one connection; the calls tell when TCP begins, and with whom, and when it ends."""

    def __init__(
        self,
        on_opened: Callable[[Address], object] = lambda peer: None,
        on_closed: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._sent = _Direction()
        self._received = _Direction()

    @property
    def sent_terminate(self) -> bytes:
        """The Terminate message that was given to TCP, without its DDP header; empty if there was none."""
        return self._sent.terminate

    @property
    def received_terminate(self) -> bytes:
        """The Terminate message that came, without its DDP header; empty if there was none."""
        return self._received.terminate

    def opened(self, local: Address, peer: Address) -> None:
        """TCP is established."""
        self._on_opened(peer)

    def sent(self, octets: Iterable[Octets]) -> None:
        """These octets were given to TCP."""
        for piece in octets:
            self._sent.feed(piece, marked=self._received.markers)

    def received(self, octets: Octets) -> None:
        """These octets came from TCP."""
        self._received.feed(octets, marked=self._sent.markers)

    def closed(self) -> None:
        """TCP has ended."""
        self._on_closed()
