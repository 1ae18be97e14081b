"""Work requests of pyverbs as those of this package, and completions the other way.

RDMAP's Send has no immediate data and neither has its Write (RFC 7306 has a message of its own). A Write with immediate
data is a Write and Immediate Data behind it, whose eight octets are the length and the four octets; it takes the
receive. A Send with immediate data is Immediate Data whose top bit is set, which takes none, and the Send behind it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pyiwarp import Access, RegionSlice, RemoteRegion
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import invalid
from pyiwarp.pyverbs.device_attr import MAX_MESSAGE
from pyiwarp.pyverbs.pd import Domain
from pyiwarp.pyverbs.wr import Element, RecvWR, SendWR
from pyiwarp.verbs import (
    BindMw,
    CompareSwap,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    LocalSge,
    MemoryRegion,
    Read,
    Recv,
    Send,
    SendRequest,
    Status,
    Write,
)

if TYPE_CHECKING:
    from pyiwarp.pyverbs.mr import MW, MWBindInfo

__all__ = ["AHEAD", "STATUSES", "Work", "bind_request", "imm_of", "length_and_imm", "receive", "requests_of"]

AHEAD: Final = 1 << 63
"""The bit of Immediate Data that belongs to the Send behind it, as `immediate_apart` wants to know it."""

STATUSES: Final = {status: e.ibv_wc_status[f"IBV_WC_{status.name}"] for status in Status}

_IMMEDIATE: Final = struct.Struct("!I4s")
_PREFIX: Final = 0x8000_0000
_IMM_MASK: Final = 0xFFFF_FFFF
_ALL_ONES: Final = (1 << 64) - 1
_ATOMIC_SIZE: Final = 8
_OF_WINDOWS: Final = 0x2E
"""The access flags of a window; the local one that programs for InfiniBand pass means nothing."""
_KEY: Final = 0xFF
_FAILED: Final = "Failed to post send"
_SOLICITED: Final = int(e.ibv_send_flags.IBV_SEND_SOLICITED)  # as numbers: arithmetic with flags takes calls
_FENCE: Final = int(e.ibv_send_flags.IBV_SEND_FENCE)
_INLINE: Final = int(e.ibv_send_flags.IBV_SEND_INLINE)
_SIGNALED: Final = int(e.ibv_send_flags.IBV_SEND_SIGNALED)


class Work:
    """A work request of the program, which one or two of this package stand for; `last` is that which ends it."""

    __slots__ = ("last", "nbytes", "opcode", "settled", "signaled", "wr_id")

    def __init__(self, wr_id: int, opcode: int, nbytes: int, *, signaled: bool) -> None:
        self.wr_id = wr_id
        self.opcode = opcode
        self.nbytes = nbytes
        self.signaled = signaled
        self.settled = False
        self.last = 1


class Part:
    """The first of two work requests that stand for one."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        self.work = work


def receive(wr: RecvWR) -> Recv:
    """A receive, whose memory is looked up when a message takes it."""
    return Recv(tuple(LocalSge(*element) for element in wr.elements), int(wr.wr_id))


class _Asked:
    """A work request of the send queue as its translation needs it."""

    __slots__ = ("fence", "inline", "nbytes", "remote", "sges", "solicited", "work", "wr")

    def __init__(self, wr: SendWR, domain: Domain, max_inline: int, *, all_signaled: bool) -> None:
        flags = int(wr.send_flags)
        self.wr = wr
        self.nbytes = sum(element[1] for element in wr.elements)
        self.inline: bytes | None = None
        self.sges: tuple[RegionSlice, ...] = ()
        if self.nbytes > MAX_MESSAGE:
            invalid(_FAILED)
        if flags & _INLINE:
            if self.nbytes > max_inline:
                invalid(_FAILED)
            self.inline = b"".join(ctypes.string_at(address, nbytes) for address, nbytes, _ in wr.elements)
        else:
            self.sges = _slices(wr.elements, domain)
        self.fence = bool(flags & _FENCE)
        self.solicited = bool(flags & _SOLICITED)
        self.remote = RemoteRegion(wr.remote_addr, wr.rkey, self.nbytes)
        signaled = all_signaled or bool(flags & _SIGNALED)
        self.work = Work(wr.wr_id, OPCODES[wr.opcode], self.nbytes, signaled=signaled)

    @property
    def imm(self) -> bytes:
        """The four octets of immediate data; pyverbs has them as a number that lies in memory in their order."""
        return (int(self.wr.imm_data) & _IMM_MASK).to_bytes(4, "little")

    @property
    def sge(self) -> RegionSlice | None:
        """The one element that an answer of the peer is placed in."""
        if len(self.sges) > 1:
            invalid(_FAILED)
        return self.sges[0] if self.sges else None


def _slices(elements: list[Element], domain: Domain) -> tuple[RegionSlice, ...]:
    """Elements as slices of regions; of a key that stands for none, as a slice of one that is closed."""
    regions, void = domain.opened.regions, domain.void
    found = []
    for address, nbytes, lkey in elements:
        if nbytes:
            region: MemoryRegion = regions.get(lkey, void)
            found.append(RegionSlice(region, address - region.to, nbytes))
    return tuple(found)


def _send(asked: _Asked) -> list[SendRequest]:
    return [Send(asked.sges, asked.work, asked.inline, None, asked.solicited, True, asked.fence)]


def _send_with_invalidate(asked: _Asked) -> list[SendRequest]:
    key = int(asked.wr.imm_data) & _IMM_MASK
    return [Send(asked.sges, asked.work, asked.inline, key, asked.solicited, True, asked.fence)]


def _send_with_immediate(asked: _Asked) -> list[SendRequest]:
    ahead = Immediate(_IMMEDIATE.pack(_PREFIX, asked.imm), Part(asked.work), False, False, asked.fence)
    return [ahead, Send(asked.sges, asked.work, asked.inline, None, asked.solicited)]


def _write(asked: _Asked) -> list[SendRequest]:
    return [Write(asked.sges, asked.remote, asked.work, asked.inline, True, asked.fence)]


def _write_with_immediate(asked: _Asked) -> list[SendRequest]:
    first = Write(asked.sges, asked.remote, Part(asked.work), asked.inline, False, asked.fence)
    return [first, Immediate(_IMMEDIATE.pack(asked.nbytes, asked.imm), asked.work, asked.solicited)]


def _atomic_write(asked: _Asked) -> list[SendRequest]:
    remote = RemoteRegion(asked.remote.to, asked.remote.stag, _ATOMIC_SIZE)
    return [Write((), remote, asked.work, asked.wr.octets, True, asked.fence)]


def _read(asked: _Asked) -> list[SendRequest]:
    return [Read(asked.sge, asked.remote, asked.work, True, asked.fence)]


def _fetch_add(asked: _Asked) -> list[SendRequest]:
    return [FetchAdd(asked.remote, asked.wr.compare_add & _ALL_ONES, 0, asked.sge, asked.work, True, asked.fence)]


def _compare_swap(asked: _Asked) -> list[SendRequest]:
    compare, swap = asked.wr.compare_add & _ALL_ONES, asked.wr.swap & _ALL_ONES
    return [CompareSwap(asked.remote, compare, swap, sge=asked.sge, wr_id=asked.work, fence=asked.fence)]


def _local_invalidate(asked: _Asked) -> list[SendRequest]:
    return [LocalInvalidate(int(asked.wr.imm_data) & _IMM_MASK, asked.work, True, asked.fence)]


def _bind(asked: _Asked) -> list[SendRequest]:
    if asked.wr.window is None:
        invalid(_FAILED)
    mw, rkey, info = asked.wr.window
    return [bind_request(asked.work, mw, info, rkey & _KEY, fence=asked.fence)]


def bind_request(work: Work, mw: MW, info: MWBindInfo, key: int | None, *, fence: bool = False) -> BindMw:
    """Bind a window; `key` is None for one of type 1."""
    region = info.mr.region
    sge = RegionSlice(region, info.addr - region.to, info.length) if info.length else None
    return BindMw(mw.window, sge, Access(int(info.mw_access_flags) & _OF_WINDOWS), key, work, True, fence)


_OP, _DONE = e.ibv_wr_opcode, e.ibv_wc_opcode
_KINDS: Final[Mapping[int, tuple[int, Callable[[_Asked], list[SendRequest]]]]] = {
    _OP.IBV_WR_SEND: (_DONE.IBV_WC_SEND, _send),
    _OP.IBV_WR_SEND_WITH_IMM: (_DONE.IBV_WC_SEND, _send_with_immediate),
    _OP.IBV_WR_SEND_WITH_INV: (_DONE.IBV_WC_SEND, _send_with_invalidate),
    _OP.IBV_WR_RDMA_WRITE: (_DONE.IBV_WC_RDMA_WRITE, _write),
    _OP.IBV_WR_RDMA_WRITE_WITH_IMM: (_DONE.IBV_WC_RDMA_WRITE, _write_with_immediate),
    _OP.IBV_WR_RDMA_READ: (_DONE.IBV_WC_RDMA_READ, _read),
    _OP.IBV_WR_ATOMIC_CMP_AND_SWP: (_DONE.IBV_WC_COMP_SWAP, _compare_swap),
    _OP.IBV_WR_ATOMIC_FETCH_AND_ADD: (_DONE.IBV_WC_FETCH_ADD, _fetch_add),
    _OP.IBV_WR_LOCAL_INV: (_DONE.IBV_WC_LOCAL_INV, _local_invalidate),
    _OP.IBV_WR_BIND_MW: (_DONE.IBV_WC_BIND_MW, _bind),
    _OP.IBV_WR_ATOMIC_WRITE: (_DONE.IBV_WC_RDMA_WRITE, _atomic_write),
}
OPCODES: Final[Mapping[int, int]] = {opcode: done for opcode, (done, _) in _KINDS.items()}


def requests_of(
    wr: SendWR, domain: Domain, max_sge: int, max_inline: int, *, all_signaled: bool
) -> tuple[Work, list[SendRequest]]:
    """What a work request asks of the stack. Raises EINVAL for what no queue pair here does."""
    if wr.opcode not in _KINDS or len(wr.elements) > max_sge:
        invalid(_FAILED)
    asked = _Asked(wr, domain, max_inline, all_signaled=all_signaled)
    _, translate = _KINDS[wr.opcode]
    return asked.work, translate(asked)


def length_and_imm(immediate: bytes) -> tuple[int, int]:
    """The octets of the Write that Immediate Data tells of, and the immediate data as pyverbs has it."""
    nbytes, octets = _IMMEDIATE.unpack(immediate)
    return nbytes, int.from_bytes(octets, "little")


def imm_of(immediate: bytes) -> int:
    """The immediate data of the Send that comes next."""
    return length_and_imm(immediate)[1]
