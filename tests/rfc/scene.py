"""What the transcripts of this folder play with: a raw peer, and the program that has given it memory.

Also the messages of RFC 7306, which `tests.harness` does not know.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any, Final, Literal

from pyiwarp import wire
from pyiwarp.codes import AtomicOpcode, Opcode, QueueNumber
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.mr import Access, MemoryRegion
from tests.harness import Heard, Node, RawPeer, Segment, octets_of

GUARD: Final = 16
WORD: Final = 8
BYTE_ORDER: Final[Literal["little", "big"]] = sys.byteorder
ALL_RIGHTS: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ | Access.REMOTE_ATOMIC


def page(nbytes: int, shift: int = 0) -> memoryview:
    """Memory whose address is `shift` past a page's beginning."""
    return memoryview(mmap.mmap(-1, shift + nbytes))[shift:]


def word(value: int) -> bytes:
    """Eight octets as this host's memory holds a number."""
    return value.to_bytes(WORD, BYTE_ORDER)


class Scene:
    """A raw peer before a program with one region for each purpose, guard octets around the first, and two receives."""

    def __init__(self, *, receives: int = 2, nbytes: int = 64, **peer: Any) -> None:
        self.peer = RawPeer(**peer)
        self.node = self.peer.node
        self._guarded = page(nbytes + 2 * GUARD)
        self._guarded[:] = b"#" * len(self._guarded)
        self._guarded[GUARD : GUARD + nbytes] = b"." * nbytes
        self.region = self.node.pd.register(self._guarded[GUARD : GUARD + nbytes], ALL_RIGHTS)
        self.read_only = self.node.region(b"r" * 64, Access.REMOTE_READ)
        self.write_only = self.node.region(b"w" * 64, Access.REMOTE_WRITE)
        self.foreign = self.node.context.alloc_pd().register(bytearray(b"f" * 64), ALL_RIGHTS)
        self.receives = [self.node.receive(40, f"recv {number + 1}") for number in range(receives)]

    @property
    def error(self) -> Exception | None:
        return self.node.qp.error

    @property
    def guarded(self) -> bool:
        """Whether nothing around the region was touched."""
        return bytes(self._guarded[:GUARD]) == bytes(self._guarded[-GUARD:]) == b"#" * GUARD

    def memory(self) -> list[bytes]:
        return [octets_of(region) for region in (self.region, self.read_only, self.write_only, self.foreign)]

    def value(self, offset: int = 0) -> int:
        """The number in eight octets of the region."""
        return int.from_bytes(self.region.view[offset : offset + WORD], BYTE_ORDER)

    def holds(self, value: int, offset: int = 0) -> None:
        """Put a number there."""
        self.region.view[offset : offset + WORD] = word(value)


def sibling(node: Node) -> Node:
    """Another queue pair of the same protection domain, with completion queues of its own."""
    other = Node(node.context, mulpdu=1442)
    other.qp.close()
    other.pd.close()
    other.pd = node.pd
    other.qp = node.pd.create_qp(other.send_cq, other.recv_cq, mulpdu=1442)
    return other


# --- RFC 7306 --------------------------------------------------------------------------------------------------------


def atomic(
    operation: int,
    region: MemoryRegion | None = None,
    offset: int = 0,
    *,
    data: int = 0,
    mask: int = 0,
    compare: int = 0,
    compare_mask: int = ALL_ONES,
    request_id: int = 0,
    rsvd: int = 0,
    **fields: Any,
) -> Segment:
    """An Atomic Request for eight octets of `region`; `stag` and `to` may be given by name."""
    header = wire.AtomicRequestHeader.build(
        {
            "operation": {"rsvd": rsvd, "atomic_opcode": operation},
            "request_id": request_id,
            "stag": fields.pop("stag", 0 if region is None else region.stag),
            "to": fields.pop("to", 0 if region is None else region.to + offset),
            "data": data,
            "mask": mask,
            "compare_data": compare,
            "compare_mask": compare_mask,
        }
    )
    usual: dict[str, Any] = {"opcode": Opcode.ATOMIC_REQUEST, "qn": QueueNumber.READ_REQUEST, "payload": header}
    return Segment(**usual | fields)


def fetch_add(region: MemoryRegion | None = None, offset: int = 0, add: int = 1, **fields: Any) -> Segment:
    return atomic(AtomicOpcode.FETCH_ADD, region, offset, data=add, **fields)


def compare_swap(
    region: MemoryRegion | None = None,
    offset: int = 0,
    *,
    compare: int,
    swap: int,
    swap_mask: int = ALL_ONES,
    **fields: Any,
) -> Segment:
    operation = AtomicOpcode.COMPARE_SWAP
    return atomic(operation, region, offset, compare=compare, data=swap, mask=swap_mask, **fields)


def atomic_response(request_id: int, value: int, **fields: Any) -> Segment:
    payload = wire.AtomicResponseHeader.build({"request_id": request_id, "original_value": value})
    usual: dict[str, Any] = {"opcode": Opcode.ATOMIC_RESPONSE, "qn": QueueNumber.ATOMIC_RESPONSE, "payload": payload}
    return Segment(**usual | fields)


def immediate(payload: bytes = b"01234567", **fields: Any) -> Segment:
    usual: dict[str, Any] = {"opcode": Opcode.IMMEDIATE, "payload": payload}
    return Segment(**usual | fields)


def answer(heard: Heard) -> tuple[int, int]:
    """Request identifier and original value of an Atomic Response."""
    assert heard.opcode is Opcode.ATOMIC_RESPONSE, heard
    fields = wire.AtomicResponseHeader.parse(heard.payload)
    return fields.request_id, fields.original_value
