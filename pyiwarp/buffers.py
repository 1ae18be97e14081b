"""Octets, and the working memory that all streams share: one that is idle owns none of it.

A stream needs a buffer while octets of an unfinished FPDU are there, or while a batch is on its way. Buffers that
many streams use in turn stay in the processor's cache, and a thousand idle connections cost nothing here.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUFFER_SIZE", "NO_BUFFER", "Octets", "give_buffer", "spare_buffer", "take_buffer"]

Octets = bytes | bytearray | memoryview
"""What holds octets that are only read."""

BUFFER_SIZE: Final = 512 * 1024
"""Octets of one buffer. Larger ones were measured: they leave the second-level cache and gain nothing."""

NO_BUFFER: Final = memoryview(b"")
"""What stands where a buffer was given back."""

_KEPT: Final = 8  # as many wait for the next user; more than that are in use at once only for moments
_free: Final[list[memoryview]] = []
_first: Final = iter(range(_KEPT))  # one for each that `spare_buffer` may make


def take_buffer() -> memoryview:
    """A buffer of `BUFFER_SIZE` octets, for the caller alone until it is given back; its content is arbitrary."""
    try:
        return _free.pop()  # pop and append are atomic: streams of different threads may share the pool
    except IndexError:
        return memoryview(bytearray(BUFFER_SIZE))


def spare_buffer() -> memoryview:
    """As `take_buffer`, but `NO_BUFFER` where one would have to be made beyond the few that are kept anyway.

    It is for those who can do without, and who might hold it for longer than a moment, many at once.
    """
    try:
        return _free.pop()
    except IndexError:
        return NO_BUFFER if next(_first, None) is None else memoryview(bytearray(BUFFER_SIZE))


def give_buffer(buffer: memoryview) -> None:
    """Let others use `buffer`; nobody may look at it any more, neither this side nor a transport."""
    if len(_free) < _KEPT:
        _free.append(buffer)
