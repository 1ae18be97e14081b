"""Which error each failed check of memory is, by the layer that makes the check (RFC 5041 §7.1, RFC 5040 §7.2)."""

from __future__ import annotations

from typing import Final, NamedTuple

from pyiwarp.errors import (
    BaseOrBounds,
    InvalidStag,
    NoWriteRight,
    ProtocolViolation,
    ReadAccessRights,
    ReadBounds,
    ReadInvalidStag,
    ReadStagNotAssociated,
    ReadWrap,
    StagNotAssociated,
    TaggedOffsetWrap,
)

__all__ = ["DDP_ERRORS", "RDMAP_ERRORS", "CheckErrors"]


class CheckErrors(NamedTuple):
    """The error of each check, as one layer raises them."""

    invalid: type[ProtocolViolation]
    association: type[ProtocolViolation]
    wrap: type[ProtocolViolation]
    bounds: type[ProtocolViolation]
    rights: type[ProtocolViolation]


DDP_ERRORS: Final = CheckErrors(InvalidStag, StagNotAssociated, TaggedOffsetWrap, BaseOrBounds, NoWriteRight)
RDMAP_ERRORS: Final = CheckErrors(ReadInvalidStag, ReadStagNotAssociated, ReadWrap, ReadBounds, ReadAccessRights)
