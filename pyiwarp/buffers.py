"""Octets, and the pool of buffers that all streams share; an idle stream holds none.

A stream needs a buffer while octets of an unfinished FPDU are there, or while a batch is on its way. Buffers that
many streams use in turn stay in the processor's cache, and a thousand idle connections cost nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, Union
from weakref import ref

if TYPE_CHECKING:
    import typing_extensions  # collections.abc has Buffer from 3.12 on

__all__ = ["BUFFER_SIZE", "NO_BUFFER", "Array", "Buffer", "Octets", "give_buffer", "spare_buffer", "take_buffer"]

Octets = bytes | bytearray | memoryview
"""Any object with octets that the stack only reads."""


class Array(Protocol):
    """An array whose memory is a buffer, as NumPy's are: before Python 3.12 their types do not say so."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's array interface; it is not used."""


Buffer: TypeAlias = Union["typing_extensions.Buffer", Array]
"""What programs may give as memory: any object with the buffer protocol."""

BUFFER_SIZE: Final = 512 * 1024
"""Octets of one buffer. Larger ones were measured: they leave the second-level cache and gain nothing."""

NO_BUFFER: Final = memoryview(b"")
"""The value of a buffer attribute while no buffer is held."""

_KEPT: Final = 8  # buffers in the pool at most; more are rarely in use at once
_free: Final[list[memoryview]] = []
_spares: Final[list[ref[memoryview]]] = []  # those that `spare_buffer` made; dead ones went with their streams


def take_buffer() -> memoryview:
    """A buffer of `BUFFER_SIZE` octets, for the caller alone until it is given back; its content is arbitrary."""
    try:
        return _free.pop()  # pop and append are atomic: streams of different threads may share the pool
    except IndexError:
        return memoryview(bytearray(BUFFER_SIZE))


def spare_buffer() -> memoryview:
    """As `take_buffer`, but `NO_BUFFER` where one would have to be made beyond the few that are kept anyway.

    For callers that can do without a buffer, and that may hold it for a turn of the loop, many at once.
    """
    try:
        return _free.pop()
    except IndexError:
        if len(_spares) == _KEPT:
            _spares[:] = [spare for spare in _spares if spare() is not None]
        if len(_spares) == _KEPT:
            return NO_BUFFER
        buffer = memoryview(bytearray(BUFFER_SIZE))
        _spares.append(ref(buffer))
        return buffer


def give_buffer(buffer: memoryview) -> None:
    """Return `buffer` to the pool; neither this side nor a transport may use it any more."""
    if len(_free) < _KEPT:
        _free.append(buffer)
