"""What a peer can be seen to do: send a startup frame or a message, end the stream, or stay silent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from construct import ConstructError

from pyiwarp.conformance.bench.allowances import PLAIN, Allowances
from pyiwarp.conformance.bench.annotate import annotate_fpdu, annotate_octets, annotate_startup
from pyiwarp.decode.framing import Fpdu
from pyiwarp.decode.segments import Segment, parse_segment
from pyiwarp.errors import MalformedMessage, Term
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY, EnhancedWord, StartupHeader, Terminate, parse_terminate

__all__ = ["Closed", "Frame", "Message", "Observation", "Octets", "Reset", "Silence"]


@dataclass(frozen=True)
class Frame:
    """A startup frame; `octets` are all of it."""

    octets: bytes

    @cached_property
    def header(self) -> Any:
        """The 20 octets by their names (RFC 5044 §7.1.1)."""
        return StartupHeader.parse(self.octets)

    @property
    def is_request(self) -> bool:
        """Whether its Key is that of a Request."""
        return self.octets.startswith(REQUEST_KEY)

    @property
    def is_reply(self) -> bool:
        """Whether its Key is that of a Reply."""
        return self.octets.startswith(REPLY_KEY)

    @property
    def enhanced(self) -> bool:
        """Whether it says that Private Data begins with the enhanced word (RFC 6581 §6)."""
        return bool(self.header.flags.enhanced and self.header.revision > 1)

    @cached_property
    def word(self) -> Any:
        """The enhanced word by its names (RFC 6581 §9), None if there is none."""
        try:
            return EnhancedWord.parse(self.private_data) if self.enhanced else None
        except ConstructError:
            return None

    @property
    def private_data(self) -> bytes:
        """The whole field, an enhanced word included."""
        return self.octets[20:]

    @property
    def program_data(self) -> bytes:
        """The Private Data of the peer's program: without an enhanced word."""
        return self.octets[24:] if self.enhanced else self.octets[20:]

    def __str__(self) -> str:
        flags = self.header.flags
        bits = "".join(
            f" {letter}={int(bool(value))}"
            for letter, value in zip("MCRS", (flags.markers, flags.crc, flags.rejected, flags.enhanced), strict=True)
        )
        kind = "Request" if self.is_request else "Reply" if self.is_reply else "a frame with a wrong Key:"
        return f"{kind} Rev={self.header.revision}{bits} PD_Length={self.header.private_data_length}"

    def annotated(self) -> list[str]:
        """The octets by their fields."""
        return annotate_startup(self.octets)


@dataclass(frozen=True)
class Octets:
    """Octets where a startup frame or an FPDU was due, and which are none."""

    octets: bytes

    def __str__(self) -> str:
        return f"{len(self.octets)} octets that are no whole frame"

    def annotated(self) -> list[str]:
        """The octets as they are."""
        return annotate_octets(self.octets)


@dataclass(frozen=True)
class Message:
    """An FPDU and the DDP segment in it; `allowances` are how the peer's Terminates are read."""

    fpdu: Fpdu
    allowances: Allowances = PLAIN

    @cached_property
    def segment(self) -> Segment | None:
        """The DDP segment, None if the ULPDU is too short for one."""
        return parse_segment(self.fpdu.ulpdu)

    @cached_property
    def terminate(self) -> Terminate | None:
        """The Terminate header, None if this is no Terminate that can be read."""
        if self.segment is None or not self.segment.is_terminate:
            return None
        try:
            return parse_terminate(self.allowances.read_terminate(self.segment.payload))
        except MalformedMessage:
            return None

    def __str__(self) -> str:
        if self.segment is None:
            return f"a ULPDU of {len(self.fpdu.ulpdu)} octets"
        if self.terminate is not None:
            return f"Terminate {self.terminate.term} ({Term(*self.terminate.term).describe()})"
        return f"{self.segment.name} of {len(self.segment.payload)} octets"

    def annotated(self) -> list[str]:
        """The octets by their fields."""
        lines = annotate_fpdu(self.fpdu)
        if self.allowances.little_endian_terminates and self.terminate is not None:
            lines.append(f"      (in the layout of this peer that is Terminate {self.terminate.term})")
        return lines


@dataclass(frozen=True)
class Closed:
    """The peer closed its half (FIN); `rest` are octets before it that make nothing whole."""

    rest: bytes = b""

    def __str__(self) -> str:
        return f"close behind {len(self.rest)} octets of something cut" if self.rest else "close"

    def annotated(self) -> list[str]:
        """The octets before it."""
        return annotate_octets(self.rest) if self.rest else []


@dataclass(frozen=True)
class Reset:
    """The peer reset the connection (RST)."""

    rest: bytes = b""

    def __str__(self) -> str:
        return "reset"

    def annotated(self) -> list[str]:
        """The octets before it."""
        return annotate_octets(self.rest) if self.rest else []


@dataclass(frozen=True)
class Silence:
    """Nothing whole came for so many seconds; `rest` are octets that came and make nothing whole."""

    seconds: float
    rest: bytes = b""

    def __str__(self) -> str:
        behind = f" behind {len(self.rest)} octets of something cut" if self.rest else ""
        return f"silence{behind}"

    def annotated(self) -> list[str]:
        """The octets before it."""
        return annotate_octets(self.rest) if self.rest else []


Observation = Frame | Octets | Message | Closed | Reset | Silence
