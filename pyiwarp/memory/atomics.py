"""Atomic operations on 64 bits of memory, as a peer asks for them (RFC 7306 §5.1)."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from pyiwarp.codes import ATOMIC_SIZE, AtomicOpcode, Opcode
from pyiwarp.errors import UnexpectedOpcode

if TYPE_CHECKING:
    from pyiwarp.wire import AtomicRequest

__all__ = ["ALL_ONES", "compare_swap", "fetch_add", "perform", "stored"]

ALL_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
_BYTE_ORDER: Final = "little" if memoryview(b"\x01\x00").cast("H")[0] == 1 else "big"

_one_at_a_time = Lock()  # EXT-7306-5-01, EXT-7306-5.4-02: also among contexts whose loops run in different threads


def fetch_add(original: int, add: int, mask: int) -> int:
    """Add field by field: each 1 in `mask` is the top bit of a field, whose carry is dropped (EXT-7306-5.1.1-05).

    The bits below the top bits are added as one number, in which no carry can leave its field; then each top bit
    takes its own two bits and the carry that has come to it.
    """
    below = ~mask & ALL_ONES
    return (((original & below) + (add & below)) ^ ((original ^ add) & mask)) & ALL_ONES


def compare_swap(original: int, *, compare: int, compare_mask: int, swap: int, swap_mask: int) -> int:
    """Swap the bits of `swap_mask` if the bits of `compare_mask` are those of `compare` (EXT-7306-5.1.2-01)."""
    if (compare ^ original) & compare_mask:
        return original
    return (original & ~swap_mask & ALL_ONES) | (swap & swap_mask)


def perform(request: AtomicRequest, memory: memoryview) -> int:
    """Do what an Atomic Request asks for to the eight octets of `memory`; returns what was there before.

    The memory is in the host's byte order (EXT-7306-5.1.1-07). Raises `UnexpectedOpcode` for an operation that is
    not registered (EXT-7306-5.2.1-14); the memory is unchanged then.
    """
    with _one_at_a_time:
        original = int.from_bytes(memory, _BYTE_ORDER)
        if request.atomic_opcode == AtomicOpcode.FETCH_ADD:
            changed = fetch_add(original, request.data, request.mask)
        elif request.atomic_opcode == AtomicOpcode.COMPARE_SWAP:
            changed = compare_swap(
                original,
                compare=request.compare_data,
                compare_mask=request.compare_mask,
                swap=request.data,
                swap_mask=request.mask,
            )
        else:
            raise UnexpectedOpcode(Opcode.ATOMIC_REQUEST, f"atomic operation {request.atomic_opcode} is not registered")
        memory[:] = changed.to_bytes(ATOMIC_SIZE, _BYTE_ORDER)
        return original


def stored(value: int) -> bytes:
    """The eight octets in which a value lies in this host's memory."""
    return value.to_bytes(ATOMIC_SIZE, _BYTE_ORDER)
