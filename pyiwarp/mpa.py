"""MPA: framing ULPDUs for a TCP stream (RFC 5044), without sockets and without time.

`Framer` turns a ULPDU into the octets of an FPDU, `Deframer` and `MarkedDeframer` turn octets back into ULPDUs.
The agreement that they work under is reached by `startup.Startup`. MPA knows ULPDUs as opaque octets: what a DDP
segment is, `ddp` knows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from struct import Struct
from typing import Final

from pyiwarp.buffers import BUFFER_SIZE, NO_BUFFER, Octets, give_buffer, take_buffer
from pyiwarp.codes import MAX_MULPDU, MIN_MULPDU
from pyiwarp.crc import crc32c
from pyiwarp.errors import CrcMismatch, MalformedFrame, MarkerMismatch

__all__ = [
    "MARKER_SPACING",
    "Deframer",
    "Discarder",
    "Framer",
    "MarkedDeframer",
    "MarkedFramer",
    "fpdu_size",
    "markers_within",
    "mulpdu_for",
    "pad_length",
]


MARKER_SPACING: Final = 512
"""A marker begins at every 512th octet of the stream, counted from Full Operation (RFC 5044 §4.3)."""

MARKER_SIZE: Final = 4
CRC_SIZE: Final = 4
LENGTH_SIZE: Final = 2
LARGEST_FPDU: Final = 65_288
"""The FPDU of the largest ULPDU with 128 markers in it, in octets."""

BETWEEN_MARKERS: Final = MARKER_SPACING - MARKER_SIZE
_WORD: Final = "I"  # an item of an `array` that is as large as a marker
_WORDS_BETWEEN: Final = MARKER_SPACING // MARKER_SIZE
_LENGTH: Final = Struct(">H")
_CRC: Final = Struct("<I")  # the only little-endian field: RFC 5044 figure 5 shows it, no sentence says it
INTACT: Final = 0x4867_4BC7
"""The CRC32C of any octets that are followed by their own CRC32C, least significant octet first."""

PADS: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_NO_CRC_TRAILERS: Final = tuple(pad + bytes(CRC_SIZE) for pad in PADS)


def fpdu_size(ulpdu_length: int) -> int:
    """Octets of the FPDU of such a ULPDU, without markers (RFC 5044 §4.1)."""
    return ((ulpdu_length + LENGTH_SIZE + 3) & ~3) + CRC_SIZE


def pad_length(ulpdu_length: int) -> int:
    """Octets of zero that bring length field and ULPDU to a multiple of four (RFC 5044 §4.1)."""
    return -(ulpdu_length + LENGTH_SIZE) % 4


def mulpdu_for(emss: int, *, markers: bool) -> int:
    """The largest ULPDU, in octets, whose FPDU fits one TCP segment of `emss` octets (RFC 5044 §4.5).

    Never less than 128 nor more than 64,768, whatever TCP says (RFC 5044 §3).
    """
    overhead = LENGTH_SIZE + CRC_SIZE + emss % 4  # MPA-5044-4.5-02
    if markers:
        overhead += MARKER_SIZE * -(-emss // MARKER_SPACING)  # MPA-5044-4.5-01
    return max(MIN_MULPDU, min(emss - overhead, MAX_MULPDU))  # MPA-5044-3-04, MPA-5044-4.5-07


def markers_within(offset: int, nbytes: int) -> int:
    """How many markers split `nbytes` octets that start at stream offset `offset`, which is no marker's place.

    A marker that would follow the last octet is not counted: it belongs to the next FPDU (MPA-5044-4.3-06).
    """
    before_first = MARKER_SPACING - offset % MARKER_SPACING
    if nbytes <= before_first:
        return 0
    return 1 + (nbytes - before_first - 1) // BETWEEN_MARKERS


def markers_between(first: int, nbytes: int) -> int:
    """How many markers lie in front of the last of `nbytes` octets if the first one lies in front of octet `first`."""
    return (nbytes - 1 - first + BETWEEN_MARKERS) // BETWEEN_MARKERS


class Framer:
    """Makes FPDUs for a direction in which the peer wants no markers (RFC 5044 §4.1)."""

    __slots__ = ("_crc", "fpdus", "octets")

    marks = False  # whether it sends markers

    def __init__(self, *, crc: bool) -> None:
        self._crc = crc
        self.fpdus = 0
        self.octets = 0

    def frame(self, header: bytes, payload: Iterable[Octets], nbytes: int, out: list[Octets]) -> int:
        """Append to `out` the FPDU whose ULPDU is `header` and the `nbytes` octets of `payload`.

        Views are appended as they are, never copied. Returns the FPDU's size in octets.
        """
        length = len(header) + nbytes
        head = _LENGTH.pack(length) + header
        pad = -(length + LENGTH_SIZE) & 3
        out.append(head)
        if self._crc:
            crc = crc32c(head)
            for view in payload:
                crc = crc32c(view, crc)
                out.append(view)
            if pad:
                crc = crc32c(PADS[pad], crc)  # MPA-5044-4.4-13: the pad is covered too
            out.append(PADS[pad] + _CRC.pack(crc))
        else:
            out.extend(payload)
            out.append(_NO_CRC_TRAILERS[pad])  # MPA-5044-4.1-06: present, its content free
        size = LENGTH_SIZE + length + pad + CRC_SIZE
        self.fpdus += 1
        self.octets += size
        return size


class MarkedFramer(Framer):
    """Makes FPDUs with a marker at every 512th octet, because the peer asked for them (RFC 5044 §4.3)."""

    __slots__ = ()

    marks = True

    def frame(self, header: bytes, payload: Iterable[Octets], nbytes: int, out: list[Octets]) -> int:
        """As `Framer.frame`, with the markers that fall before and inside the FPDU (MPA-5044-4.3-03, -09)."""
        length = len(header) + nbytes
        pieces: list[Octets] = [_LENGTH.pack(length) + header, *payload, PADS[pad_length(length)]]
        body = LENGTH_SIZE + length + pad_length(length)
        marked = self._with_markers(pieces, body)
        crc = 0
        for piece in marked:
            crc = crc32c(piece, crc)  # MPA-5044-4.4-13..15: every marker up to the CRC field is covered
        marked.append(_CRC.pack(crc if self._crc else 0))
        out.extend(marked)
        size = sum(map(len, marked))
        self.fpdus += 1
        self.octets += size
        return size

    def _with_markers(self, pieces: Sequence[Octets], body: int) -> list[Octets]:
        """The `body` octets of `pieces`, cut where markers fall; one that falls before the CRC field comes last."""
        marked: list[Octets] = []
        offset = self.octets
        if offset % MARKER_SPACING == 0:
            marked.append(bytes(MARKER_SIZE))  # MPA-5044-4.3-06: between FPDUs, FPDUPTR is zero
            offset += MARKER_SIZE
        start, left = offset, body
        for piece in pieces:
            view = memoryview(piece)
            while len(view) > (room := MARKER_SPACING - offset % MARKER_SPACING):
                marked += (view[:room], _marker(offset + room - start))
                view = view[room:]
                offset += room + MARKER_SIZE
                left -= room
            if len(view):
                marked.append(view)
                offset += len(view)
                left -= len(view)
            if offset % MARKER_SPACING == 0:  # the piece ends on a marker's place; more follows, if only the CRC
                marked.append(_marker(offset - start))
                offset += MARKER_SIZE
        assert left == 0, "the pieces are the body"
        return marked


def _marker(fpduptr: int) -> bytes:
    """Sixteen reserved bits and FPDUPTR: how far back the FPDU's ULPDU_Length lies (MPA-5044-4.3-04)."""
    return fpduptr.to_bytes(MARKER_SIZE, "big")


@cache
def markers_from(fpduptr: int) -> list[bytes]:
    """As many markers as an FPDU can have, of which the first has this FPDUPTR; 0 is one in front of its length field.

    The fast ways make and compare all markers of an FPDU at once with these.
    """
    lead = [] if fpduptr else [bytes(MARKER_SIZE)]
    inside = range(fpduptr or BETWEEN_MARKERS, LARGEST_FPDU, MARKER_SPACING)
    return lead + [each.to_bytes(MARKER_SIZE, "big") for each in inside]  # MPA-5044-4.2-01, -02, -04


@cache
def _marker_words(fpduptr: int) -> array[int]:
    """`markers_from` as an array with an item for each marker, as `array` reads it from the stream."""
    return array(_WORD, b"".join(markers_from(fpduptr)))


_LOBBY_SIZE: Final = 2048
"""A stream that gets little at once keeps its octets in a buffer of this size, not in a shared large one."""

_GROWTH: Final = 8  # a buffer is so many times as large as what came last: memory follows what is received
_LITTLE: Final = _LOBBY_SIZE // _GROWTH  # what is said is said in little: octets that came at once
_BULK: Final = 64 * 1024  # a stream that gets so much at once receives into a shared buffer
_LARGEST_OWN: Final = 128 * 1024  # has room for the largest FPDU


class Deframer:
    """Finds FPDUs in a stream without markers, verifies them, and shows their ULPDUs as views (RFC 5044 §6).

    Octets are received into a staging buffer: `view[start:end]` are those that no FPDU has been made of yet. A ULPDU's
    view is good until the next `receive_view` or `release`; who wants the octets longer copies them. The result does
    not depend on how TCP cut the stream.
    """

    __slots__ = ("_lobby", "_room", "alone", "crc", "end", "fpdus", "last", "octets", "resting", "start", "view")

    def __init__(self, *, crc: bool) -> None:
        self.crc = crc
        self.alone = True  # whether FPDUs that come by themselves may be taken straight from `view`
        self.start = self.end = 0
        self.fpdus = 0
        self.octets = 0  # stream offset of the octet at `start`
        self.view = NO_BUFFER
        self.resting = False  # whether `view` is the lobby, with nothing in it: where the next octets shall land
        self._lobby = NO_BUFFER  # small, and the stream's own: a transport may ask long before anything comes
        self.last = 0  # octets that came at once
        self._room = 0  # and that could have come

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty. Views given earlier are void from now on."""
        if self.resting:
            return self.view
        lobby = self._lobby
        if self.view is NO_BUFFER and self.last <= _LITTLE and lobby is not NO_BUFFER:
            self.view = lobby
            self.start = self.end = 0
            self._room = _LOBBY_SIZE
            return lobby
        left = self.end - self.start
        if not self.view:
            self.view = self._buffer_for(self.last * _GROWTH)
        elif len(self.view) == BUFFER_SIZE:
            if left and (BUFFER_SIZE - self.end < LARGEST_FPDU or self.start > BUFFER_SIZE // 2):
                self._move_to(self.view)
        elif left >= LARGEST_FPDU:  # whole FPDUs that wait for their turn
            self._move_to(take_buffer())
        elif left:
            roomy = len(self.view) - left >= min(left, LARGEST_FPDU - left) and self.last < _BULK
            if self.last == self._room:  # the last read filled its room: more waits in TCP
                self._move_to(self._buffer_for(max(left, self.last) * _GROWTH))
            else:
                self._move_to(self.view if roomy else self._buffer_for(left * _GROWTH))
        if not left:
            self.start = self.end = 0
        room = self.view[self.end : self._good_end()] if len(self.view) == BUFFER_SIZE else self.view[self.end :]
        self._room = len(room)
        return room

    def received(self, nbytes: int) -> None:
        """`nbytes` octets now lie in the view that `receive_view` gave."""
        self.resting = False
        self.end += nbytes
        self.last = nbytes

    def rest(self, nbytes: int) -> None:
        """The octets that have come, instead of `received`: `nbytes` of them, which are used up.

        Their view stays good until the next octets come.
        """
        self.last = nbytes
        self.resting = self.view is self._lobby and nbytes <= _LITTLE
        if not self.resting:
            self.view = NO_BUFFER

    def _buffer_for(self, nbytes: int) -> memoryview:
        """A buffer for about so many octets: a shared one only for a stream that gets many at once."""
        if self.last >= _BULK:
            return take_buffer()
        if nbytes <= _LOBBY_SIZE:
            self._lobby = self._lobby or memoryview(bytearray(_LOBBY_SIZE))
            return self._lobby
        return memoryview(bytearray(min(_LARGEST_OWN, 1 << (nbytes - 1).bit_length())))

    def _good_end(self) -> int:
        """Where to stop receiving if all FPDUs are as long as the present one: between two, so that none is moved."""
        view, start, end = self.view, self.start, self.end
        if end - start < LENGTH_SIZE:
            return len(view)
        size = fpdu_size((view[start] << 8) | view[start + 1])
        return max(end + 1, len(view) - (len(view) - start) % size)

    def release(self) -> None:
        """Let others use the staging buffer, unless more octets wait in TCP. Views given earlier are void from now on.

        What an unfinished FPDU takes up until then depends on what was received of it, not on its length.
        """
        left = self.end - self.start
        if not self.view or (left and (len(self.view) != BUFFER_SIZE or left >= LARGEST_FPDU)):
            return
        if not left:
            if len(self.view) == BUFFER_SIZE:
                give_buffer(self.view)
            self.view = NO_BUFFER
            self.resting = False
            self.start = self.end = 0
        elif self.last < self._room:  # all that had come was taken: nobody knows when the rest will come
            self._leave_pool()

    def wait(self, taken: int) -> None:
        """What is left waits for the stream's next turn; in the last one `taken` octets were taken.

        A stream that takes few in a turn receives few at once, so that what it holds is what it soon will process.
        """
        if taken < self.last:
            self.last, self._room = taken, taken + 1
        if taken < _BULK and len(self.view) == BUFFER_SIZE:
            self._leave_pool()

    def hold(self, ulpdu: memoryview) -> memoryview:
        """Keep a ULPDU for long, and what is left behind it: in memory of the stream's own, if that is not much.

        Returns the view to use from now on.
        """
        if len(self.view) != BUFFER_SIZE or self.end - self.start > _LARGEST_OWN:
            return ulpdu
        copy = memoryview(bytes(ulpdu))
        self._leave_pool()
        return copy

    def _leave_pool(self) -> None:
        """Move what is left out of the buffer that streams share."""
        shared = self.view
        self._move_to(memoryview(bytearray(max(_LOBBY_SIZE, self.end - self.start))))
        give_buffer(shared)

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two FPDUs: the only place where a FIN may come."""
        return self.start == self.end

    def next_ulpdu(self) -> memoryview | None:
        """The next whole, verified ULPDU, or None if its octets are not all here (MPA-5044-6-01, MPA-5044-6-04).

        Raises `MalformedFrame` or `CrcMismatch`; nothing may be taken from the stream after that.
        """
        start, view = self.start, self.view
        have = self.end - start
        if have < LENGTH_SIZE:
            return None
        length = (view[start] << 8) | view[start + 1]
        if length > MAX_MULPDU:
            raise MalformedFrame(self.octets, length, "longer than the 64,768 that an FPDU may hold")
        size = fpdu_size(length)
        if have < size:
            return None
        if self.crc:
            self._verify(start, start + size - CRC_SIZE)
        self.advance(size, 1)
        return view[start + LENGTH_SIZE : start + LENGTH_SIZE + length]

    def unmarked(self, most: int) -> Deframer:
        """Where the fast way of receiving finds the next FPDUs without markers; it takes `most` of them."""
        return self

    def advance(self, nbytes: int, fpdus: int) -> None:
        """`fpdus` whole FPDUs, of `nbytes` octets together, were taken from the staging buffer."""
        self.start += nbytes
        self.octets += nbytes
        self.fpdus += fpdus

    def _verify(self, start: int, end: int) -> None:
        """Compare the CRC behind `end` with that of the octets from `start` (MPA-5044-4.4-17)."""
        computed = crc32c(self.view[start:end])
        (received,) = _CRC.unpack_from(self.view, end)
        if computed != received:
            raise CrcMismatch(self.octets, received, computed)  # MPA-5044-4.4-18

    def _move_to(self, buffer: memoryview) -> None:
        """Move the octets of the unfinished FPDU to the front of a buffer, which may be the one that they lie in."""
        left = self.end - self.start
        buffer[:left] = self.view[self.start : self.end]
        self.view, self.start, self.end = buffer, 0, left


class Discarder(Deframer):
    """Swallows what comes after an error: no later FPDU is looked at (DDP-5041-7.1-18, MPA-5044-8-09)."""

    __slots__ = ()

    def __init__(self, fpdus: int) -> None:
        super().__init__(crc=False)
        self.fpdus = fpdus
        self.alone = False

    def received(self, nbytes: int) -> None:
        """Forget them."""


_AHEAD: Final = 256 * 1024  # octets that markers are taken out of at once


class MarkedDeframer(Deframer):
    """Finds FPDUs in a stream with markers; each ULPDU is a copy without them (RFC 5044 §4.3).

    The fast way of receiving looks ahead: `unmarked` verifies many FPDUs and takes out their markers at once. They
    stay in the staging buffer, too, until they are taken.
    """

    __slots__ = ("_ahead", "_sizes")

    def __init__(self, *, crc: bool) -> None:
        super().__init__(crc=crc)
        self.alone = False
        self._ahead = Deframer(crc=False)  # FPDUs that were verified, without their markers
        self._sizes: list[int] = []  # and how many octets each has with them

    def unmarked(self, most: int) -> Deframer:
        """Whole FPDUs that were verified, without their markers, in a deframer of their own; `follow` takes them.

        They end in front of the first that is not whole, is damaged, or whose markers are not written in the usual way.
        """
        ahead = self._ahead
        if ahead.start == ahead.end:
            self._look_ahead(ahead, most)
        return ahead

    def follow(self, fpdus: int) -> None:
        """So many FPDUs were taken from those that `unmarked` gave."""
        self.advance(sum(self._sizes[:fpdus]), fpdus)
        del self._sizes[:fpdus]

    def _look_ahead(self, ahead: Deframer, most: int) -> None:
        """The fast twin of `_without_markers`: for many FPDUs at once."""
        staged = self.view[self.start : min(self.end, self.start + _AHEAD)]
        words = array(_WORD)
        words.frombytes(staged[: len(staged) & ~3])  # FPDUs and markers have multiples of four octets
        first = -self.octets % MARKER_SPACING  # where the first marker lies
        markers = words[first // MARKER_SIZE :: _WORDS_BETWEEN]
        del words[first // MARKER_SIZE :: _WORDS_BETWEEN]
        octets = memoryview(words).cast("B")
        enough, crc, sizes = len(octets) - LENGTH_SIZE - CRC_SIZE, self.crc, self._sizes
        begin = start = behind = 0  # of the FPDU: with markers, without them, and the markers in front of it
        while start <= enough and len(sizes) < most:
            length = (octets[start] << 8) | octets[start + 1]
            end = start + (length + LENGTH_SIZE + 3 & ~3) + CRC_SIZE
            if end > len(octets) or length > MAX_MULPDU:
                break
            # MPA-5044-4.3-06: a marker behind the last octet belongs to the next FPDU
            before = markers_between(first, end)
            stop = end + MARKER_SIZE * before
            if crc and crc32c(staged[begin:stop]) != INTACT:  # MPA-5044-4.4-15
                break
            if before > behind:
                usual = _marker_words(first + MARKER_SPACING * behind - begin)
                if markers[behind:before] != usual[: before - behind]:  # MPA-5044-8-03
                    break
            sizes.append(stop - begin)
            begin, start, behind = stop, end, before
        ahead.view, ahead.start, ahead.end = octets, 0, start

    def release(self) -> None:
        """As `Deframer.release`; what was looked at is forgotten, and looked at again in the next turn."""
        self._forget()
        super().release()

    def hold(self, ulpdu: memoryview) -> memoryview:
        """As `Deframer.hold`, without the octets that were looked at with this ULPDU."""
        copy = memoryview(bytes(ulpdu))
        self._forget()
        return super().hold(copy)

    def _forget(self) -> None:
        ahead = self._ahead
        ahead.view, ahead.start, ahead.end = NO_BUFFER, 0, 0
        self._sizes.clear()

    def next_ulpdu(self) -> memoryview | None:
        """As `Deframer.next_ulpdu`; raises `MarkerMismatch` too."""
        if self._sizes:
            self.follow(1)
            return self._ahead.next_ulpdu()
        have = self.end - self.start
        lead = MARKER_SIZE if self.octets % MARKER_SPACING == 0 else 0  # MPA-5044-4.3-06
        if have < lead + LENGTH_SIZE:
            return None
        start = self.start + lead
        (length,) = _LENGTH.unpack_from(self.view, start)
        if length > MAX_MULPDU:
            raise MalformedFrame(self.octets, length, "longer than the 64,768 that an FPDU may hold")
        body = LENGTH_SIZE + length + pad_length(length)
        offset = self.octets + lead
        size = body + CRC_SIZE + MARKER_SIZE * markers_within(offset, body + CRC_SIZE)
        if have < lead + size:
            return None
        if self.crc:
            self._verify(self.start, start + size - CRC_SIZE)  # MPA-5044-4.4-15: from the leading marker on
        ulpdu = self._without_markers(start, offset, size - CRC_SIZE, lead)
        self.start = start + size
        self.octets = offset + size
        self.fpdus += 1
        return ulpdu[LENGTH_SIZE : LENGTH_SIZE + length]

    def _without_markers(self, start: int, offset: int, nbytes: int, lead: int) -> memoryview:
        """The octets of the FPDU up to its CRC, markers taken out and checked."""
        if lead:
            self._check_marker(start - lead, offset - lead, 0)
        body = bytearray()
        position, end = start, start + nbytes
        while position < end:
            stream_offset = offset + position - start
            if stream_offset % MARKER_SPACING == 0:
                self._check_marker(position, stream_offset, position - start)
                position += MARKER_SIZE
                continue
            stop = min(position + MARKER_SPACING - stream_offset % MARKER_SPACING, end)
            body += self.view[position:stop]
            position = stop
        return memoryview(body)

    def _check_marker(self, position: int, offset: int, expected: int) -> None:
        """FPDUPTR leads back to ULPDU_Length; its low bits and the reserved half are not looked at."""
        fpduptr = _LENGTH.unpack_from(self.view, position + 2)[0] & 0xFFFC  # MPA-5044-4.2-03, 4.2-05
        if fpduptr != expected:
            raise MarkerMismatch(offset, fpduptr, expected)  # MPA-5044-8-03
