"""Memory regions and windows."""

from __future__ import annotations

import ctypes
import errno
from typing import Any, ClassVar, Final

from pyiwarp import Access
from pyiwarp.errors import BadWorkRequest, Closed, RegionInUse, UsageError
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import Owner, PyverbsCM, PyverbsObject, Record, invalid, unsupported
from pyiwarp.pyverbs.device import DM, Context
from pyiwarp.pyverbs.memory import EVERYTHING, Memory, implicit_is_allowed, view_of
from pyiwarp.pyverbs.opened import Opened
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from pyiwarp.verbs import MemoryRegion, MemoryWindow, WindowType

__all__ = [
    "DMMR",
    "MR",
    "MW",
    "Buf",
    "BufMR",
    "DMAHandle",
    "DmaBufMR",
    "DmaHandleInitAttr",
    "MREx",
    "MWBind",
    "MWBindInfo",
    "mwtype2str",
]

_FLAGS: Final = e.ibv_access_flags
_KNOWN: Final = sum(_FLAGS)
_REFUSED: Final = _FLAGS.IBV_ACCESS_FLUSH_GLOBAL | _FLAGS.IBV_ACCESS_FLUSH_PERSISTENT
_WRITTEN: Final = _FLAGS.IBV_ACCESS_REMOTE_WRITE | _FLAGS.IBV_ACCESS_REMOTE_ATOMIC
_OF_REGIONS: Final = 0x1F
"""The access flags that the stack knows by the same numbers; others, as ZERO_BASED and ON_DEMAND, change nothing."""


def rights(access: int, failed: str) -> Access:
    """The rights of a region; raises for access flags that cannot be."""
    if access & ~_KNOWN or access & _REFUSED:
        invalid(failed)
    if access & _WRITTEN and not access & _FLAGS.IBV_ACCESS_LOCAL_WRITE:
        invalid(failed)
    return Access(access & _OF_REGIONS)


def _give_up(opened: Opened, region: MemoryRegion) -> None:
    """Deregister; memory that work in flight uses is released when that is done."""
    opened.regions.pop(region.stag, None)
    if not opened.core.left_behind:
        with opened.core.poller:
            region.retire()


class MR(Owner):
    """Registered memory of its own, or that at `address`; `handle` imports a region.

    Its TOs are addresses: programs name a peer's memory by its address.
    """

    FAILED: ClassVar[str] = "Failed to register a MR. length: {}, access flags: {}"
    rank = 2

    def __init__(
        self,
        creator: Any,
        length: int = 0,
        access: int = 0,
        address: int | None = None,
        implicit: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.region: MemoryRegion
        self.handle: int
        self.memory: Memory | None = None
        self.address = address or 0
        self.is_imported = "handle" in kwargs and kwargs["handle"] is not None
        if isinstance(creator, PD):
            self.pd = creator
        else:  # an identifier of rdma_cm, whose functions for this let the program itself write
            access |= _FLAGS.IBV_ACCESS_LOCAL_WRITE
            creator.add_ref(self)
            self.pd = creator.pd
        if self.is_imported:
            self.region, self.handle = self._imported(kwargs["handle"])
        else:
            self._register(int(length), int(access), implicit)
        self.pd.add_ref(self)

    def _imported(self, handle: int) -> tuple[MemoryRegion, int]:
        found = self.pd.ctx.opened.handles.get(handle)
        if not isinstance(found, MemoryRegion):
            invalid("Failed to import MR")
        return found, handle

    def _register(self, length: int, access: int, implicit: bool) -> None:
        failed = self.FAILED.format(length, access)
        if implicit and not implicit_is_allowed():
            unsupported(failed)
        if not self.address and length > 0:
            try:
                self.memory = Memory(length, huge=bool(access & _FLAGS.IBV_ACCESS_HUGETLB))
            except (OSError, ValueError):
                raise PyverbsError(f"Failed to allocate MR buffer of size {length}") from None
            self.address = self.memory.address
        if implicit:
            self.publish(view_of(0, EVERYTHING), access, 0, failed)
            return
        view = view_of(self.address, length) if self.memory is None else self.memory.view
        self.publish(view, access, self.address, failed)

    def publish(self, view: memoryview, access: int, to: int, failed: str) -> None:
        """Register memory whose first octet has that TO."""
        granted, opened = rights(access, failed), self.pd.ctx.opened
        with self.pd.core.poller:
            try:
                self.region = self.pd.domain.verbs.register(view, granted, to=to)
            except (BadWorkRequest, Closed) as error:
                raise PyverbsRDMAError(f"{failed}: {error}", errno.EINVAL) from error
            except UsageError as error:
                raise PyverbsRDMAError(f"{failed}: {error}", errno.ENOMEM) from error
        opened.regions[self.region.stag] = self.region
        self.handle = opened.add_handle(self.region)
        self.on_drop(self.pd.core.soon, _Registered(opened, self.region, self.handle).give_up)

    def unimport(self) -> None:
        """Give the import up."""
        self.close()

    def _let_go(self) -> None:
        if not self.is_imported:
            _Registered(self.pd.ctx.opened, self.region, self.handle).give_up()
        self.address = 0
        self.memory = None

    def _check(self, length: int) -> None:
        if not self.address or length < 0:
            raise PyverbsUserError(f"The MR buffer isn't allocated or length {length} is invalid")

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put octets into the memory."""
        self._check(length)
        octets = data.encode() if isinstance(data, str) else bytes(data)
        ctypes.memmove(self.address + offset, octets, length)

    def read(self, length: int, offset: int) -> bytes:
        """Octets of the memory."""
        if offset < 0:
            raise PyverbsUserError(f"Invalid offset {offset}")
        self._check(length)
        return ctypes.string_at(self.address + offset, length)

    def rereg(self, flags: int, pd: PD | None = None, addr: int = 0, length: int = 0, access: int = 0) -> None:
        """Give the region other memory, another protection domain, other rights; its keys stay."""
        changes, failed = e.ibv_rereg_mr_flags, "Failed to rereg MR"
        moves = bool(flags & changes.IBV_REREG_MR_CHANGE_TRANSLATION)
        domain = pd if flags & changes.IBV_REREG_MR_CHANGE_PD else None
        granted = rights(int(access), failed) if flags & changes.IBV_REREG_MR_CHANGE_ACCESS else None
        with self.pd.core.poller:
            try:
                self.region.reregister(
                    view_of(addr, length) if moves else None,
                    access=granted,
                    pd=None if domain is None else domain.domain.verbs,
                    to=addr if moves else None,
                    keep_stag=True,
                )
            except (RegionInUse, Closed) as error:
                raise PyverbsRDMAError(f"{failed}: {error}", errno.EBUSY) from error
            except UsageError as error:
                raise PyverbsRDMAError(f"{failed}: {error}", errno.EINVAL) from error
        if moves:
            self.address, self.memory = addr, None
        if domain is not None:
            self.pd.remove_ref(self)
            self.pd = domain
            domain.add_ref(self)

    @property
    def buf(self) -> int:
        """The address of the memory."""
        return self.address

    @property
    def lkey(self) -> int:
        """The key by which work requests of this side name it."""
        return self.region.stag

    @property
    def rkey(self) -> int:
        """The key by which the peer names it."""
        return self.region.stag

    @property
    def length(self) -> int:
        """Octets."""
        return self.region.nbytes

    def __str__(self) -> str:
        names = ("lkey", "rkey", "length", "buf", "handle")
        return "MR:\n" + "".join(f"{name:<22}: {getattr(self, name):<20}\n" for name in names)


class _Registered:
    """What is given up when a region is dropped; it does not hold on to the MR."""

    def __init__(self, opened: Opened, region: MemoryRegion, handle: int) -> None:
        self._opened = opened
        self._region = region
        self._handle = handle

    def give_up(self) -> None:
        """Deregister."""
        self._opened.handles.pop(self._handle, None)
        _give_up(self._opened, self._region)


class MREx(MR):
    """Registered memory, with an `iova` of the program's choice, or of a `Buf`."""

    FAILED = "Failed to register MR using extended API"

    def __init__(
        self,
        pd: PD,
        length: int = 0,
        access: int = 0,
        address: int | None = None,
        iova: int | None = None,
        fd: int | None = None,
        fd_offset: int = 0,
        dmah: object = None,
        implicit: bool = False,
        buf: Buf | None = None,
        **kwargs: Any,
    ) -> None:
        if fd is not None and implicit:
            invalid(self.FAILED)
        if fd is not None or dmah is not None:
            unsupported(self.FAILED)
        if buf is not None:
            address = buf.addr if address is None else address
            buf.check(pd, address, int(length), self.FAILED)
        self._iova = iova
        super().__init__(pd, length, access, address, implicit)
        if buf is not None:
            self.memory = buf.memory

    def publish(self, view: memoryview, access: int, to: int, failed: str) -> None:
        """Register memory; `iova` counts instead of its address."""
        super().publish(view, access, to if self._iova is None else self._iova, failed)


class Buf(Owner):
    """Memory of a protection domain."""

    rank = 3

    def __init__(self, pd: PD, size: int) -> None:
        super().__init__()
        self.pd = pd
        self.size = size
        self.memory = Memory(size)
        pd.add_ref(self)

    @property
    def addr(self) -> int:
        """Where it begins."""
        return self.memory.address

    def check(self, pd: PD, address: int, length: int, failed: str) -> None:
        """Raises for octets that are no part of it, or another protection domain."""
        if pd is not self.pd or address < self.addr or address + length > self.addr + self.size:
            invalid(failed)

    def export_dmabuf_fd(self) -> int:
        """There is no DMA buffer."""
        raise PyverbsRDMAError("Failed to export dmabuf FD for Buf", errno.ENODATA)


class BufMR(MR):
    """A part of a `Buf`, registered."""

    def __init__(self, pd: PD, buf: Buf, length: int = 0, access: int = 0, offset: int = 0) -> None:
        address = buf.addr + offset
        buf.check(pd, address, int(length), f"Failed to register a buf MR. length: {length}, access flags: {access}")
        super().__init__(pd, length, access, address)
        self.memory = buf.memory
        buf.add_ref(self)


class DMMR(MR):
    """Device memory, registered: its TOs begin at 0."""

    def __init__(self, pd: PD, length: int, access: int, dm: DM, offset: int) -> None:
        self.dm = dm
        self.offset = int(offset)
        super().__init__(pd, length, access)
        dm.add_ref(self)

    def _register(self, length: int, access: int, implicit: bool) -> None:
        failed = f"Failed to register a device MR. length: {length}, access flags: {access}"
        if self.offset < 0 or self.offset + length > self.dm.size:
            invalid(failed)
        self.memory = self.dm.memory
        self.publish(self.memory.view[self.offset : self.offset + length], access, 0, failed)

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put octets into the device memory."""
        self.dm.copy_to_dm(offset, data.encode() if isinstance(data, str) else data, length)

    def read(self, length: int, offset: int) -> bytes:
        """Octets of the device memory."""
        return self.dm.copy_from_dm(offset, length)


class DmaBufMR(MR):
    """There are no DMA buffers."""

    def __init__(
        self, pd: PD, length: int, access: int, dmabuf: object = None, offset: int = 0, gpu: int = 0, gtt: int = 0
    ) -> None:
        unsupported(f"Failed to register a dma-buf MR. length: {length}, access flags: {access}")


class DmaHandleInitAttr(Record):
    """What a DMA handle would be made of."""

    FIELDS: ClassVar[dict[str, Any]] = {"comp_mask": 0, "cpu_id": 0, "ph": 0, "tph_mem_type": 0}


class DMAHandle(PyverbsCM):
    """There are no DMA handles."""

    def __init__(self, ctx: Context, init_attr: DmaHandleInitAttr) -> None:
        unsupported("Failed to create DMA Handle")


class MWBindInfo(PyverbsObject):
    """To what a window is bound, and with which rights."""

    def __init__(self, mr: MR, addr: int, length: int, mw_access_flags: int) -> None:
        super().__init__()
        self.mr = mr
        self.addr = addr
        self.length = length
        self.mw_access_flags = mw_access_flags


class MWBind(PyverbsObject):
    """How a window of type 1 is bound."""

    def __init__(self, info: MWBindInfo, send_flags: int, wr_id: int = 0) -> None:
        super().__init__()
        self.info = info
        self.send_flags = send_flags
        self.wr_id = wr_id


_KINDS: Final = {
    e.ibv_mw_type.IBV_MW_TYPE_1: WindowType.TYPE_1,
    e.ibv_mw_type.IBV_MW_TYPE_2: WindowType.TYPE_2B,
}


class MW(Owner):
    """A memory window, of type 1 or 2B."""

    rank = 1

    def __init__(self, pd: PD, mw_type: int) -> None:
        super().__init__()
        kind = next((kind for number, kind in _KINDS.items() if number == mw_type), None)
        if kind is None:
            invalid("Failed to allocate MW")
        self.type = mw_type
        self.pd = pd
        with pd.core.poller:
            self.window: MemoryWindow = pd.domain.verbs.alloc_window(kind)
        self.handle: int = pd.ctx.opened.add_handle(self.window)
        self.on_drop(pd.core.soon, _Window(pd.ctx.opened, self.window, self.handle).give_up)
        pd.add_ref(self)

    @property
    def rkey(self) -> int:
        """The key by which the peer names it."""
        return self.window.stag

    def _let_go(self) -> None:
        _Window(self.pd.ctx.opened, self.window, self.handle).give_up()

    def __str__(self) -> str:
        return f"MW:\n{'Rkey':<22}: {self.rkey:<20}\n{'Handle':<22}: {self.handle:<20}\n{'MW type':<22}: {self.type}\n"


class _Window:
    """What is given up when a window is dropped."""

    def __init__(self, opened: Opened, window: MemoryWindow, handle: int) -> None:
        self._opened = opened
        self._window = window
        self._handle = handle

    def give_up(self) -> None:
        """Close the window."""
        self._opened.handles.pop(self._handle, None)
        if not self._opened.core.left_behind:
            with self._opened.core.poller:
                self._window.close()


def mwtype2str(mw_type: int) -> str:
    """The name of a type of windows."""
    return {1: "IBV_MW_TYPE_1", 2: "IBV_MW_TYPE_2"}.get(int(mw_type), f"Unknown MW type ({mw_type})")
