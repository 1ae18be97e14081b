"""DDP segments, built with the formats of `wire` and nothing else: right ones and wrong ones alike."""

from __future__ import annotations

from typing import Final

from pyiwarp.wire import ReadRequestHeader, TaggedHeader, UntaggedHeader

__all__ = ["build_read_request", "build_tagged", "build_untagged"]

TO_MASK: Final = (1 << 64) - 1


def build_tagged(
    opcode: int,
    stag: int,
    to: int,
    payload: bytes = b"",
    *,
    last: bool = True,
    dv: int = 1,
    rv: int = 1,
    ddp_rsvd: int = 0,
    rdmap_rsvd: int = 0,
) -> bytes:
    """A tagged segment (RFC 5041 §4.2); a TO before the first or behind the last wraps, wherever the region lies."""
    header: bytes = TaggedHeader.build(
        {
            "ddp": {"tagged": True, "last": last, "rsvd": ddp_rsvd, "dv": dv},
            "rdmap": {"rv": rv, "rsvd": rdmap_rsvd, "opcode": opcode},
            "stag": stag,
            "to": to & TO_MASK,
        }
    )
    return header + payload


def build_untagged(
    opcode: int,
    qn: int,
    msn: int,
    payload: bytes = b"",
    *,
    mo: int = 0,
    last: bool = True,
    inval_stag: int = 0,
    dv: int = 1,
    rv: int = 1,
    ddp_rsvd: int = 0,
    rdmap_rsvd: int = 0,
) -> bytes:
    """An untagged segment (RFC 5041 §4.3)."""
    header: bytes = UntaggedHeader.build(
        {
            "ddp": {"tagged": False, "last": last, "rsvd": ddp_rsvd, "dv": dv},
            "rdmap": {"rv": rv, "rsvd": rdmap_rsvd, "opcode": opcode},
            "inval_stag": inval_stag,
            "qn": qn,
            "msn": msn,
            "mo": mo,
        }
    )
    return header + payload


def build_read_request(sink_stag: int, sink_to: int, read_size: int, source_stag: int, source_to: int) -> bytes:
    """The 28 octets that a Read Request carries (RFC 5040 §4.4); TOs wrap as in `build_tagged`."""
    fields = {
        "sink_stag": sink_stag,
        "sink_to": sink_to & TO_MASK,
        "read_size": read_size,
        "source_stag": source_stag,
        "source_to": source_to & TO_MASK,
    }
    octets: bytes = ReadRequestHeader.build(fields)
    return octets
