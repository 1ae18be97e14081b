"""DDP: messages cut into segments, segments placed into buffers (RFC 5041), without sockets and without memory rules.

`Outbound` cuts; `UntaggedQueue` checks and places what arrives for one queue number. Whose memory an STag names
is asked through callables that the owner gives; what a message means is the business of `rdmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from pyiwarp.buffers import Octets
from pyiwarp.codes import MAX_MESSAGE
from pyiwarp.errors import InvalidMo, MessageTooLong, MisplacedSegment, MsnOutOfRange, NoBufferForMsn, UsageError
from pyiwarp.extent import Extent
from pyiwarp.fastwire import (
    LAST,
    TAGGED,
    TAGGED_HEAD,
    TAGGED_SIZE,
    UNTAGGED_HEAD,
    UNTAGGED_SIZE,
    VERSION,
    Tagged,
    Untagged,
    build_tagged,
    build_untagged,
)

__all__ = ["Outbound", "TaggedOutbound", "UntaggedOutbound", "UntaggedQueue", "next_msn", "scatter"]

Payload = Sequence[Octets]

MSN_MASK: Final = 0xFFFF_FFFF
TO_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
FIRST_MSN: Final = 1  # DDP-5041-4.3-08

_TAGGED_BODY: Final = TAGGED_HEAD.size
_UNTAGGED_BODY: Final = UNTAGGED_HEAD.size
_TAGGED_MORE: Final = TAGGED | VERSION
_TAGGED_LAST: Final = TAGGED | VERSION | LAST  # DDP-5041-4.1-03
_UNTAGGED_LAST: Final = VERSION | LAST


def next_msn(msn: int) -> int:
    """The MSN after `msn`; they wrap to 0 (RFC 5041 §4.3)."""
    return (msn + 1) & MSN_MASK  # DDP-5041-4.3-09


class Outbound:
    """A DDP message on its way out: gives its segments one by one, each as large as the MULPDU of that moment.

    `payload` is a sequence of views whose octets belong to the message; `token` goes back to the owner when the
    message is sent.
    """

    __slots__ = ("_index", "_payload", "_used", "last_given", "nbytes", "rdmap", "sent", "single", "token")

    HEADER_SIZE: int
    volatile = False  # whether the payload may change before it has left

    def __init__(self, rdmap: int, payload: Payload, token: object = None) -> None:
        self.rdmap = rdmap
        self.token = token
        self.sent = 0  # octets of payload given out so far
        self.last_given = False
        if len(payload) == 1:
            self.single: Octets | None = payload[0]  # all of the payload, if it lies in one place
            self.nbytes = len(payload[0])
        else:
            self.single = None if payload else b""
            self.nbytes = sum(map(len, payload))
            self._payload = payload
            self._index = self._used = 0
        if self.nbytes > MAX_MESSAGE:  # DDP-5041-5.2-03
            raise UsageError(f"a message of {self.nbytes} octets; it must be shorter than 2^32 (RFC 5041 §5.2)")

    def next_segment(self, mulpdu: int) -> tuple[bytes, Payload, int]:
        """The next segment: its header, its payload as views, and how many octets those are.

        Segments come in the order of their offsets (DDP-5041-5.3-02), the last one with L set (DDP-5041-4.1-03);
        a message without payload is one segment (DDP-5041-5.2-10).
        """
        room = mulpdu - self.HEADER_SIZE  # DDP-5041-5.2-02
        offset = self.sent
        nbytes = min(self.nbytes - offset, room)
        self.sent = offset + nbytes
        self.last_given = self.sent == self.nbytes
        if self.single is None:
            payload: Payload = self._cut(nbytes)
        else:
            payload = (memoryview(self.single)[offset : offset + nbytes],)
        return self._header(offset), payload, nbytes

    def put_header(self, buffer: memoryview, at: int, nbytes: int) -> int:
        """Write how the FPDU begins that carries the next `nbytes` octets: MPA's length, and the segment's header.

        They come to lie at `at` of `buffer`; returns where they end. The fast twin of `next_segment`.
        """
        raise NotImplementedError

    def _header(self, offset: int) -> bytes:
        raise NotImplementedError

    def _cut(self, nbytes: int) -> list[Octets]:
        """Views of the next `nbytes` octets of the payload."""
        cut: list[Octets] = []
        while nbytes:
            view = memoryview(self._payload[self._index])
            take = min(nbytes, len(view) - self._used)
            if take:
                cut.append(view[self._used : self._used + take])
            self._used += take
            nbytes -= take
            if self._used == len(view):
                self._index += 1
                self._used = 0
        return cut


class TaggedOutbound(Outbound):
    """A message into a tagged buffer: the TO grows by what each segment carries (RFC 5041 §5.2)."""

    __slots__ = ("stag", "to")

    HEADER_SIZE = TAGGED_SIZE

    def __init__(self, rdmap: int, payload: Payload, stag: int, to: int, token: object = None) -> None:
        Outbound.__init__(self, rdmap, payload, token)
        self.stag = stag
        self.to = to

    def put_header(self, buffer: memoryview, at: int, nbytes: int) -> int:
        """As `Outbound.put_header`."""
        offset = self.sent
        self.sent = sent = offset + nbytes
        self.last_given = last = sent == self.nbytes
        control = _TAGGED_LAST if last else _TAGGED_MORE
        to = self.to + offset & TO_MASK
        TAGGED_HEAD.pack_into(buffer, at, TAGGED_SIZE + nbytes, control, self.rdmap, self.stag, to)
        return at + _TAGGED_BODY

    def lead(self, nbytes: int) -> int:
        """The eight octets before the TO in every FPDU that carries `nbytes` octets and is not the last."""
        return TAGGED_SIZE + nbytes << 48 | _TAGGED_MORE << 40 | self.rdmap << 32 | self.stag

    def _header(self, offset: int) -> bytes:
        # DDP-5041-5.2-09; a zero-length message may name any TO (DDP-5041-5.2-11). A Read Response goes where its
        # Request said, uninterpreted (RDMAP-5040-4.4-02): past 2^64 too, for the peer to refuse (DDP-5041-7.1-14)
        return build_tagged(Tagged(self.last_given, self.rdmap, self.stag, self.to + offset & TO_MASK))


class UntaggedOutbound(Outbound):
    """A message into the next buffer of a queue: the MO grows by what each segment carries (RFC 5041 §5.2)."""

    __slots__ = ("inval_stag", "msn", "qn")

    HEADER_SIZE = UNTAGGED_SIZE

    def __init__(
        self, rdmap: int, payload: Payload, qn: int, msn: int, inval_stag: int = 0, token: object = None
    ) -> None:
        Outbound.__init__(self, rdmap, payload, token)
        self.qn = qn
        self.msn = msn
        self.inval_stag = inval_stag

    def put_header(self, buffer: memoryview, at: int, nbytes: int) -> int:
        """As `Outbound.put_header`."""
        offset = self.sent
        self.sent = sent = offset + nbytes
        self.last_given = last = sent == self.nbytes
        control = _UNTAGGED_LAST if last else VERSION
        length = UNTAGGED_SIZE + nbytes
        UNTAGGED_HEAD.pack_into(buffer, at, length, control, self.rdmap, self.inval_stag, self.qn, self.msn, offset)
        return at + _UNTAGGED_BODY

    def _header(self, offset: int) -> bytes:
        # DDP-5041-4.3-10, DDP-5041-5.2-07
        return build_untagged(Untagged(self.last_given, self.rdmap, self.inval_stag, self.qn, self.msn, offset))


class UntaggedQueue:
    """The receiving end of one untagged queue: checks, placement, and in-order delivery (RFC 5041 §5.4, §7.1).

    `take_buffer` gives the next buffer as a sequence of writable views, or None if there is none.
    """

    __slots__ = ("_buffer", "_take_buffer", "due_msn", "extent", "qn", "size")

    def __init__(self, qn: int, take_buffer: Callable[[], Sequence[memoryview] | None]) -> None:
        self.qn = qn
        self.due_msn = FIRST_MSN
        self._take_buffer = take_buffer
        self._buffer: Sequence[memoryview] | None = None
        self.size = 0  # of the buffer of the message under way, in octets
        self.extent = Extent()  # of that message

    @property
    def underway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._buffer is not None

    def drop(self) -> None:
        """Let go of the buffer of a message that will never be whole."""
        self._buffer = None

    def provide(self, buffer: Sequence[memoryview]) -> None:
        """Let the message that is due have this buffer, instead of one that is taken; none has begun."""
        self._buffer = buffer
        self.size = sum(map(len, buffer))

    def open(self) -> Sequence[memoryview] | None:
        """The buffer of the message that is due, taken now if it begins; None if there is none."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._take_buffer()
            if buffer is not None:
                self._buffer = buffer
                self.size = len(buffer[0]) if len(buffer) == 1 else sum(map(len, buffer))
        return buffer

    def close(self) -> None:
        """The message that is due was delivered."""
        self.extent.due = 0
        self._buffer = None
        self.due_msn = self.due_msn + 1 & MSN_MASK  # DDP-5041-4.3-09

    def place(self, header: Untagged, payload: memoryview) -> int | None:
        """Check and place one segment; returns the message's length in octets if it delivers it (DDP-5041-5.4-01).

        Raises `MsnOutOfRange`, `NoBufferForMsn`, `InvalidMo`, `MessageTooLong` or `MisplacedSegment`, and then has
        placed nothing.
        """
        if header.msn != self.due_msn:  # DDP-5041-7.1-09; TCP keeps the order, so only one message can be due
            raise MsnOutOfRange(self.qn, header.msn, self.due_msn)
        buffer = self.open()
        if buffer is None:  # DDP-5041-7.1-02; a zero-length Send needs one too (RDMAP-5040-5.3-11)
            raise NoBufferForMsn(self.qn, header.msn)
        end = header.mo + len(payload)
        if end > self.size:
            self._refuse(header, end)
        if payload:
            if header.mo == self.extent.due:
                self.extent.due = end
            elif reason := self.extent.add(header.mo, end):
                raise MisplacedSegment(self.qn, header.msn, header.mo, reason)
            scatter(buffer, header.mo, payload)
        if not header.last:
            return None
        if self.extent.due != end:  # DDP-5041-5.4-02, EXT-7306-8.2-01: another's octets lie in the hole
            raise MisplacedSegment(self.qn, header.msn, header.mo, f"it ends a message of {end} octets with a hole")
        self.close()
        return end  # DDP-5041-5.4-04

    def _refuse(self, header: Untagged, end: int) -> NoReturn:
        """Say whether the MO itself lies outside the buffer or the message runs over its end (DDP-5041-7.2-05).

        A segment without payload is refused only when its MO would make the message longer than its buffer.
        """
        if header.mo >= self.size and header.mo:  # DDP-5041-7.1-07
            raise InvalidMo(self.qn, header.msn, header.mo, self.size)
        raise MessageTooLong(self.qn, header.msn, end, self.size)  # DDP-5041-7.1-08


def scatter(buffer: Sequence[memoryview], offset: int, payload: memoryview) -> None:
    """Copy `payload` to `offset` of the buffer that the views of `buffer` make up together."""
    if len(buffer) == 1:
        buffer[0][offset : offset + len(payload)] = payload
        return
    for view in buffer:
        if offset >= len(view):
            offset -= len(view)
            continue
        take = min(len(view) - offset, len(payload))
        view[offset : offset + take] = payload[:take]
        payload = payload[take:]
        offset = 0
        if not payload:
            return
