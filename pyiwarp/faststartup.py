"""The frames of MPA startup as values, and with `struct`: the fast twins of the functions in `wire`.

A function gives what its twin gives, or None where it is in doubt: the twin then decides, and it alone refuses. A
property test holds them to that (RFC 5044 §7.1.1, RFC 6581 §6, §9).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from pyiwarp.buffers import Octets
from pyiwarp.codes import ENHANCED_SIZE, MAX_PRIVATE_DATA, REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE, UNNEGOTIATED

__all__ = ["Enhanced", "StartupFrame", "build_enhanced", "build_startup", "parse_enhanced", "parse_startup_header"]

_HEADER: Final = Struct(">16sBBH")
_WORD: Final = Struct(">HH")

_MARKERS: Final = 0x80  # M
_CRC: Final = 0x40  # C
_REJECTED: Final = 0x20  # R
_ENHANCED: Final = 0x10  # S: MPA2-6581-6-01; what is below it is reserved: MPA-5044-7.1.1-15

_FIRST: Final = 0x8000  # A of the IRD's half, C of the ORD's
_SECOND: Final = 0x4000  # B, D
_DEPTH: Final = UNNEGOTIATED  # and the 14 bits of either depth


class StartupFrame(NamedTuple):
    """An MPA Request or Reply (RFC 5044 §7.1.1, RFC 6581 §6): flags M, C, R and S, Rev, Private Data.

    `private_data` is the whole field: with `enhanced` it begins with the enhanced word.
    """

    reply: bool
    markers: bool
    crc: bool
    rejected: bool
    enhanced: bool
    revision: int
    private_data: bytes


class Enhanced(NamedTuple):
    """The enhanced word A, B, IRD, C, D, ORD (RFC 6581 §9); `ird` and `ord` are those of the frame's sender."""

    peer_to_peer: bool
    rtr_send: bool
    ird: int
    rtr_write: bool
    rtr_read: bool
    ord: int


def build_startup(frame: StartupFrame) -> bytes | None:
    """The octets of a frame of revision 1 or 2 that the RFCs allow."""
    reply, markers, crc, rejected, enhanced, revision, private_data = frame
    nbytes = len(private_data)
    if nbytes > MAX_PRIVATE_DATA or (rejected and not reply) or not 1 <= revision <= 2:
        return None
    if enhanced and (revision == 1 or nbytes < ENHANCED_SIZE):  # MPA2-6581-6-04, MPA2-6581-6-08
        return None
    flags = (
        (_MARKERS if markers else 0)
        | (_CRC if crc else 0)
        | (_REJECTED if rejected else 0)
        | (_ENHANCED if enhanced else 0)
    )
    return _HEADER.pack(REPLY_KEY if reply else REQUEST_KEY, flags, revision, nbytes) + private_data


def parse_startup_header(octets: Octets, *, reply: bool) -> tuple[StartupFrame, int] | None:
    """The frame that 20 octets begin, without its Private Data, and how long that will be."""
    if len(octets) < STARTUP_HEADER_SIZE:
        return None
    key, flags, revision, nbytes = _HEADER.unpack_from(octets)
    if key != (REPLY_KEY if reply else REQUEST_KEY) or nbytes > MAX_PRIVATE_DATA or not 1 <= revision <= 2:
        return None
    rejected = reply and flags & _REJECTED != 0  # MPA-5044-7.1.1-12
    enhanced = revision == 2 and flags & _ENHANCED != 0  # MPA2-6581-6-06
    return StartupFrame(reply, flags & _MARKERS != 0, flags & _CRC != 0, rejected, enhanced, revision, b""), nbytes


def build_enhanced(word: Enhanced) -> bytes | None:
    """The four octets of a word whose RTR bits have the A that they need, and whose depths fit."""
    peer_to_peer, rtr_send, ird, rtr_write, rtr_read, order = word
    if not (0 <= ird <= _DEPTH and 0 <= order <= _DEPTH and (peer_to_peer or not (rtr_send or rtr_write or rtr_read))):
        return None
    first = (_FIRST if peer_to_peer else 0) | (_SECOND if rtr_send else 0) | ird
    return _WORD.pack(first, (_FIRST if rtr_write else 0) | (_SECOND if rtr_read else 0) | order)


def parse_enhanced(private_data: Octets) -> Enhanced | None:
    """The word with which `private_data` begins, if it is whole; without A the RTR bits read as False."""
    if len(private_data) < ENHANCED_SIZE:
        return None
    first, second = _WORD.unpack_from(private_data)
    there = first & _FIRST != 0  # MPA2-6581-9.2-16
    return Enhanced(
        there,
        there and first & _SECOND != 0,
        first & _DEPTH,
        there and second & _FIRST != 0,
        there and second & _SECOND != 0,
        second & _DEPTH,
    )
