"""Answers to the peer: Read Responses and Atomic Responses on their way (RFC 5040 §5.2.2, RFC 7306 §5.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.ddp import TO_MASK, Payload, TaggedOutbound, UntaggedOutbound
from pyiwarp.fastwire import ReadRequest
from pyiwarp.mr import MemoryRegion
from pyiwarp.rdmap import control_octet

__all__ = ["Answer", "AtomicAnswer", "ReadAnswer"]


class ReadAnswer(TaggedOutbound):
    """A Read Response; it pins the region that it reads. One IRD entry is held until its last segment has left.

    `header` is the DDP header of the Request, in case that it must be quoted.
    Segments of memory that can change are copied when they are made: the peer may write what it reads, or the program
    may, while the transport still holds the segment, and its CRC must stay true. Read-only memory is never copied.
    """

    __slots__ = ("header", "region", "request", "volatile")

    def __init__(
        self, request: ReadRequest, payload: Sequence[memoryview], region: MemoryRegion | None, header: bytes = b""
    ) -> None:
        # RDMAP-5040-4.4-02, RDMAP-5040-4.4-03: the sink comes back as it was named
        super().__init__(control_octet(Opcode.READ_RESPONSE), payload, stag=request.sink_stag, to=request.sink_to)
        self.volatile = any(not view.readonly for view in payload)
        self.request = request
        self.header = header
        self.region = region
        if region is not None:
            region.pin()

    @property
    def revoked(self) -> bool:
        """Whether the memory was withdrawn before all of it was read."""
        return self.region is not None and self.region.revoked

    @property
    def unanswered(self) -> ReadRequest:
        """The Request advanced by what has been sent (RDMAP-5040-4.8-16)."""
        request, sent = self.request, self.sent
        return ReadRequest(
            request.sink_stag,
            request.sink_to + sent & TO_MASK,
            request.read_size - sent,
            request.source_stag,
            request.source_to + sent,
        )

    def next_segment(self, mulpdu: int) -> tuple[bytes, Payload, int]:
        """As `Outbound.next_segment`, with octets that stay as they are."""
        header, payload, nbytes = super().next_segment(mulpdu)
        return header, [bytes(view) for view in payload] if self.volatile else payload, nbytes

    def done(self) -> None:
        """Unpin the region."""
        if self.region is not None:
            region, self.region = self.region, None
            self.single = b""
            region.unpin()


class AtomicAnswer(UntaggedOutbound):
    """An Atomic Response; the operation was done when it was made (EXT-7306-5.2.2-04)."""

    __slots__ = ()

    def __init__(self, octets: bytes, msn: int) -> None:
        super().__init__(control_octet(Opcode.ATOMIC_RESPONSE), (octets,), qn=QueueNumber.ATOMIC_RESPONSE, msn=msn)

    def done(self) -> None:
        """The octets are no longer needed: they are its own."""


Answer = ReadAnswer | AtomicAnswer
