"""The memory that the bench has shown to a peer which knows of no other: its Writes and Reads stay within it."""

from __future__ import annotations

from collections.abc import Iterator

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.breaches import Breach
from pyiwarp.conformance.bench.control import Region
from pyiwarp.decode.segments import Segment
from pyiwarp.wire import ReadRequestHeader

__all__ = ["Shown"]


class Shown:
    """The regions of the bench that the peer has been told of on one stream."""

    def __init__(self) -> None:
        self._regions: list[Region] = []

    def add(self, region: Region) -> None:
        """The peer is told of `region`."""
        self._regions.append(region)

    def breaches(self, segment: Segment) -> Iterator[Breach]:
        """A Write or a Read Request of the peer's that names other memory. Those of no octets may name any."""
        if segment.opcode == Opcode.WRITE and segment.payload:
            yield from self._place_breaches("a Write", segment.stag, segment.to, len(segment.payload))
        elif segment.opcode == Opcode.READ_REQUEST and len(segment.payload) == ReadRequestHeader.sizeof():
            header = ReadRequestHeader.parse(segment.payload)
            if header.read_size:
                yield from self._place_breaches("a Read", header.source_stag, header.source_to, header.read_size)

    def _place_breaches(self, what: str, stag: int, to: int, nbytes: int) -> Iterator[Breach]:
        inside = (
            region.stag == stag and region.to <= to and to + nbytes <= region.to + region.length
            for region in self._regions
        )
        if not any(inside):
            regions = " or ".join(f"STag {each.stag:#x}, TO {each.to:#x}, {each.length}" for each in self._regions)
            came = f"{nbytes} octets at STag {stag:#x}, TO {to:#x}"
            yield Breach("DDP-5041-4.2-05", f"{what} within memory that was shown: {regions or 'none'}", came)
