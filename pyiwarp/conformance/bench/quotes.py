"""What a Terminate of the peer's says and quotes, held against what the bench has sent (RFC 5040 §4.8, §5.4).

What a Terminate should quote is left to the cases; what it does quote must be a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyiwarp.codes import Layer, Opcode
from pyiwarp.conformance.bench.breaches import Breach
from pyiwarp.conformance.bench.segments import TO_MASK
from pyiwarp.conformance.bench.terminates import READ_SIZE, TAGGED_SIZE, UNTAGGED_SIZE, Said
from pyiwarp.errors import TERMS
from pyiwarp.wire import ReadRequestHeader

__all__ = ["Quotes"]

REMEMBERED: Final = UNTAGGED_SIZE + READ_SIZE  # octets of each segment: all that can be quoted
CATASTROPHE: Final = (Layer.RDMAP, 0)  # with any code (RDMAP-5040-4.8-17)


class Quotes:
    """The segments that the bench has sent, as far as a Terminate can quote them."""

    def __init__(self) -> None:
        self._sent: set[tuple[bytes, int]] = set()
        self._known = True

    def sent(self, ulpdu: bytes) -> None:
        """The bench sends this segment; one that ends inside its header makes every quote possible."""
        if not ulpdu or len(ulpdu) < (TAGGED_SIZE if ulpdu[0] & 0x80 else UNTAGGED_SIZE):
            self._known = False
        self._sent.add((ulpdu[:REMEMBERED], len(ulpdu)))

    def sent_octets(self) -> None:
        """The bench sends octets that are no right FPDU: nobody can say which segments the peer finds in them."""
        self._known = False

    def breaches(self, said: Said) -> Iterator[Breach]:
        """What is wrong with a Terminate."""
        if said.term not in TERMS and said.term[:2] != CATASTROPHE:
            yield Breach("RDMAP-5040-4.8-03", "a registered code", str(said.term))
        if said.reserved:
            yield Breach("RDMAP-5040-4.8-07", "reserved bits of zero in the Terminate", f"{said.reserved:#06x}")
        if any(said.rest):
            yield Breach("RDMAP-5040-4.8-01", f"nothing after what {said.bits} announces", said.rest.hex(" "))
        if said.term.layer == Layer.LLP and said.bits != "000":
            yield Breach("RDMAP-5040-4.8-18", "M, D, R = 000 in an error of MPA's", said.bits)
        if said.term[:2] == CATASTROPHE and said.d:
            yield Breach("RDMAP-5040-4.8-12", "no DDP header in a local catastrophic error", said.bits)
        if said.d and self._known:
            yield from self._copy_breaches(said)

    def _copy_breaches(self, said: Said) -> Iterator[Breach]:
        header = said.ddp_header
        quoted = [each for each in self._sent if each[0].startswith(header)]
        if not quoted:
            yield Breach("RDMAP-5040-4.8-11", "the DDP header of a segment that was sent", header.hex(" "))
            return
        lengths = sorted({size for _, size in quoted})
        if said.m and said.length not in lengths:
            expected = "DDP Segment Length " + " or ".join(map(str, lengths))
            yield Breach("RDMAP-5040-4.8-09", expected, f"{said.length}")
        if said.r and header[1] & 0xF != Opcode.READ_REQUEST:
            yield Breach("RDMAP-5040-4.8-14", "an RDMA header with a Read Request alone", said.bits)
        elif said.r and not any(_advanced(octets[UNTAGGED_SIZE:], said.rdma_header) for octets, _ in quoted):
            yield Breach("RDMAP-5040-4.8-15", "the header of the Read Request", said.rdma_header.hex(" "))


def _advanced(sent: bytes, quoted: bytes) -> bool:
    """Whether `quoted` is the Read Request `sent`, less what was answered already (RDMAP-5040-4.8-16)."""
    if len(sent) < READ_SIZE:
        return True  # the rest of what is quoted was never sent
    was, now = ReadRequestHeader.parse(sent), ReadRequestHeader.parse(quoted)
    done = was.read_size - now.read_size
    return (now.sink_stag, now.source_stag) == (was.sink_stag, was.source_stag) and all(
        (have - had) & TO_MASK == done & TO_MASK
        for had, have in ((was.sink_to, now.sink_to), (was.source_to, now.source_to))
    )
