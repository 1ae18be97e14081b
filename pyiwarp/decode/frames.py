"""Startup frames, FPDUs and DDP segments as fields: each octet belongs to one field.

Nothing is refused: what is too short, has a version that nobody speaks or a CRC that is wrong is shown with what is
wrong and the clause that it breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pyiwarp.codes import ENHANCED_SIZE, MAX_PRIVATE_DATA, REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE
from pyiwarp.decode.fields import Bits, Field, Span, through, walk
from pyiwarp.decode.formats import ENHANCED, MESSAGES, READ_REQUEST, STARTUP, TAGGED, TERMINATE, UNTAGGED
from pyiwarp.decode.framing import CRC_SIZE, LENGTH_SIZE, MARKER_SIZE, Fpdu, MarkerSeen
from pyiwarp.decode.terminates import in_rfc_layout

__all__ = ["fields_of_fpdu", "fields_of_octets", "fields_of_startup", "fields_of_ulpdu", "startup_size"]

_TAGGED: Final = 0x80
_OPCODE: Final = 0x0F
_FLAGS, _REVISION, _LENGTH = 16, 17, 18  # where these stand in a startup frame
_ENHANCED: Final = 0x10
_FIRST_ENHANCED: Final = 2  # the revision from which on S means something
_VERSIONS: Final = {"DV": "DDP-5041-4.1-11", "RV": "RDMAP-5040-4.1-07"}


def startup_size(octets: bytes) -> int | None:
    """How long the startup frame is that begins with `octets`, in octets; None while its header is not all there."""
    if len(octets) < STARTUP_HEADER_SIZE:
        return None
    return STARTUP_HEADER_SIZE + int.from_bytes(octets[_LENGTH:STARTUP_HEADER_SIZE], "big")


def fields_of_startup(octets: bytes, at: int = 0) -> list[Field]:
    """The fields of an MPA Request or Reply, whole or cut (RFC 5044 §7.1.1, RFC 6581 §9)."""
    walked, used = walk(STARTUP, octets, at)
    found = [_judged_startup(field, octets) for field in walked]
    if used > STARTUP_HEADER_SIZE - 1 and _has_word(octets):
        word, size = walk(ENHANCED, octets[used:], at + used)
        found += word
        used += size
    return found + fields_of_octets(octets[used:], "Private Data", at + used, "RFC 5044 §7.1.1")


def _judged_startup(field: Field, octets: bytes) -> Field:
    """A field of a startup frame's header, with what is wrong with it."""
    if field.name == "Key" and field.octets not in (REQUEST_KEY, REPLY_KEY):
        return replace(field, wrong="neither the Key of a Request nor that of a Reply (RFC 5044 §7.1.1)")
    if field.name == "M, C, R, S" and len(octets) > _REVISION and octets[_REVISION] < _FIRST_ENHANCED:
        bits = tuple(each._replace(words="") if each.name == "S" else each for each in field.bits)
        return replace(field, bits=bits, words=", ".join(each.words for each in bits if each.words))
    if field.name != "PD_Length" or not isinstance(field.value, int):
        return field
    if field.value > MAX_PRIVATE_DATA:
        return replace(field, wrong=f"{field.value} octets, {MAX_PRIVATE_DATA} at most (MPA-5044-7.1.1-23)")
    if _has_word(octets) and field.value < ENHANCED_SIZE:
        return replace(field, wrong=f"S is set, and {ENHANCED_SIZE} octets for it are not there (MPA2-6581-6-08)")
    return field


def _has_word(octets: bytes) -> bool:
    """Whether S is set in a revision that has it: in revision 1 the bit is reserved."""
    return bool(octets[_FLAGS] & _ENHANCED) and octets[_REVISION] >= _FIRST_ENHANCED


def fields_of_octets(octets: bytes, name: str, at: int = 0, clause: str = "", format: str = "") -> list[Field]:
    """One field of octets that no figure divides; none for no octets."""
    if not octets:
        return []
    words = f"{len(octets):,} octets"
    return [Field(format, name, (Span(at, at + len(octets)),), octets, octets, words, clause)]


def fields_of_ulpdu(ulpdu: bytes, at: int = 0) -> list[Field]:
    """The fields of a DDP segment: its header, the RDMAP header behind it, and the payload."""
    if not ulpdu:
        return []
    tagged = ulpdu[0] >= _TAGGED
    header, used = walk(TAGGED if tagged else UNTAGGED, ulpdu, at)
    found = [_judged(field) for field in header]
    figure = None if tagged or used >= len(ulpdu) else MESSAGES.get(ulpdu[1] & _OPCODE)
    if figure is not None:
        message = ulpdu[used:]
        meant = in_rfc_layout(message) if figure is TERMINATE else message
        more, size = walk(figure, meant, at + used)
        if meant is not message:
            more[0] = _as_bitfields(more[0], message)
        found += [each for field in more for each in _opened(field)]
        used += size
    return found + fields_of_octets(ulpdu[used:], "Payload", at + used, "RFC 5041 §4.4", "ULP")


def _as_bitfields(control: Field, message: bytes) -> Field:
    """The control field of a Terminate by what it means, with the octets that it has."""
    words = f"{control.words}; as C bitfields, which the RFC has in another order"
    return replace(control, octets=message[: len(control.octets)], words=words)


def _judged(field: Field) -> Field:
    """A control octet, with its version judged."""
    for bits in field.bits:
        if (rule := _VERSIONS.get(bits.name)) and bits.value != 1:
            return replace(field, wrong=f"{bits.name} is {bits.value}, 1 is due ({rule})")
    return field


def _opened(field: Field) -> list[Field]:
    """The headers that a Terminate quotes, by their own fields."""
    start = field.spans[0].start
    if field.name == "Terminated DDP Header" and not field.wrong:
        quoted, _ = walk(TAGGED if field.octets[0] >= _TAGGED else UNTAGGED, field.octets, start)
    elif field.name == "Terminated RDMA Header" and not field.wrong:
        quoted, _ = walk(READ_REQUEST, field.octets, start)
    else:
        return [field]
    return [replace(each, name=f"{field.name}: {each.name}") for each in quoted]


def fields_of_fpdu(fpdu: Fpdu, *, crc: bool = True) -> list[Field]:
    """The fields of an FPDU in the order of its octets, markers at their places; `crc` says whether CRCs are in use.

    Offsets count from the beginning of the FPDU, with a marker right before it.
    """
    length = len(fpdu.ulpdu)
    size = length.to_bytes(LENGTH_SIZE, "big")
    found = [Field("MPA", "ULPDU_Length", (Span(0, LENGTH_SIZE),), size, length, f"{length:,} octets", "RFC 5044 §4.1")]
    found[0] = replace(found[0], rules=("MPA-5044-4.1-02",))
    found += fields_of_ulpdu(fpdu.ulpdu, LENGTH_SIZE)
    end = LENGTH_SIZE + length
    if fpdu.pad:
        found.append(_pad(fpdu.pad, end))
    found.append(_crc(fpdu, end + len(fpdu.pad), crc=crc))
    if not fpdu.markers:
        return found
    runs = list(_runs(fpdu))
    moved = [field.moved(through(runs, field.spans[0])) for field in found]
    return sorted(moved + [_marker(seen) for seen in fpdu.markers], key=lambda field: field.spans[0].start)


def _pad(pad: bytes, at: int) -> Field:
    wrong = "a pad is zero (MPA-5044-4.1-03)" if any(pad) else ""
    span = Span(at, at + len(pad))
    return Field(
        "MPA",
        "PAD",
        (span,),
        pad,
        pad,
        "to a multiple of four octets",
        "RFC 5044 §4.1",
        ("MPA-5044-4.1-03",),
        (),
        wrong,
    )


def _crc(fpdu: Fpdu, at: int, *, crc: bool) -> Field:
    octets = fpdu.crc.to_bytes(CRC_SIZE, "little")
    words, wrong = f"CRC32C {fpdu.crc:#010x}", ""
    if not crc:
        words = "no CRC is in use: any value"
    elif fpdu.crc_right:
        words += ", right"
    else:
        wrong = f"{fpdu.computed:#010x} is right (MPA-5044-4.4-12)"
    span = Span(at, at + CRC_SIZE)
    return Field("MPA", "CRC", (span,), octets, fpdu.crc, words, "RFC 5044 §4.4", ("MPA-5044-4.1-06",), (), wrong)


def _marker(seen: MarkerSeen) -> Field:
    rsvd, pointer = seen.marker
    words = f"the FPDU begins {pointer} octets before" if pointer else "the FPDU begins behind it"
    wrong = "" if pointer & ~3 == seen.due else f"FPDUPTR {seen.due} is due (MPA-5044-4.3-04)"
    bits = (Bits("RESERVED", 16, rsvd, ""), Bits("FPDUPTR", 16, pointer, words))
    span = Span(seen.position, seen.position + MARKER_SIZE)
    rules = ("MPA-5044-4.2-01", "MPA-5044-4.3-04")
    value = rsvd << 16 | pointer
    return Field("MPA", "Marker", (span,), seen.marker.build(), value, words, "RFC 5044 §4.2", rules, bits, wrong)


def _runs(fpdu: Fpdu) -> Iterator[Span]:
    """The octets of an FPDU between its markers."""
    start = 0
    for seen in fpdu.markers:
        if seen.position > start:
            yield Span(start, seen.position)
        start = seen.position + MARKER_SIZE
    if start < len(fpdu.octets):
        yield Span(start, len(fpdu.octets))
