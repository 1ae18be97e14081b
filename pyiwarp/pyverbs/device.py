"""Devices, contexts and device memory."""

from __future__ import annotations

import errno
import os
from typing import Any, ClassVar, Final

from pyiwarp.blocking import waiting_module
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import GID
from pyiwarp.pyverbs.base import Owner, PyverbsObject, Record, invalid, unsupported
from pyiwarp.pyverbs.core import Core
from pyiwarp.pyverbs.device_attr import (
    DM_SIZE,
    GID_ENTRIES,
    GUID,
    PORT_SPEED,
    AsyncEvent,
    CompCntrCaps,
    CQModerationCaps,
    DeviceAttr,
    DeviceAttrEx,
    GIDEntry,
    ODPCaps,
    PacketPacingCaps,
    PCIAtomicCaps,
    PortAttr,
    QueryDeviceExInput,
    RSSCaps,
    TMCaps,
    TSOCaps,
    guid_format,
    guid_to_hex,
    network_order,
    phys_state_to_str,
    port_state_to_str,
    speed_to_str,
    str_from_flags,
    translate_device_caps,
    translate_event_type,
    translate_gid_type,
    translate_link_layer,
    translate_mtu,
    translate_node_type,
    translate_port_cap_flags,
    translate_port_cap_flags2,
    translate_transport_type,
    width_to_str,
)
from pyiwarp.pyverbs.memory import Memory, implicit_is_allowed
from pyiwarp.pyverbs.opened import Opened, hosts, imported
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.rendezvous import gid_of

__all__ = [
    "DM",
    "AllocDmAttr",
    "AsyncEvent",
    "CQModerationCaps",
    "CompCntrCaps",
    "Context",
    "Device",
    "DeviceAttr",
    "DeviceAttrEx",
    "FdArr",
    "GIDEntry",
    "ODPCaps",
    "PCIAtomicCaps",
    "PacketPacingCaps",
    "PortAttr",
    "QueryDeviceExInput",
    "RSSCaps",
    "TMCaps",
    "TSOCaps",
    "get_device_list",
    "guid_format",
    "guid_to_hex",
    "phys_state_to_str",
    "port_state_to_str",
    "rdma_get_devices",
    "speed_to_str",
    "str_from_flags",
    "translate_device_caps",
    "translate_event_type",
    "translate_gid_type",
    "translate_link_layer",
    "translate_mtu",
    "translate_node_type",
    "translate_port_cap_flags",
    "translate_port_cap_flags2",
    "translate_transport_type",
    "width_to_str",
]

waiting_module(__name__)

_PORT: Final = 1
_NO_GID: Final = bytes(16)
_WORD: Final = 4


class Device(PyverbsObject):
    """A device that may be opened."""

    def __init__(self, name: bytes, guid: int, node_type: int, transport_type: int, index: int) -> None:
        super().__init__()
        self.name = name
        self.guid = guid
        self.node_type = node_type
        self.transport_type = transport_type
        self.index = index

    def __str__(self) -> str:
        return (
            f"Device {self.name.decode()}, node type {translate_node_type(self.node_type)}, transport type "
            f"{translate_transport_type(self.transport_type)}, guid {guid_to_hex(self.guid)}, index {self.index}"
        )


def get_device_list() -> list[Device]:
    """The devices of this machine: those of the environment's PYIWARP_VERBS, or iw0 on the loopback interface."""
    node, transport = e.ibv_node_type.IBV_NODE_RNIC, e.ibv_transport_type.IBV_TRANSPORT_IWARP
    return [Device(name.encode(), GUID + index, node, transport, index) for index, name in enumerate(hosts())]


def rdma_get_devices() -> list[Device]:
    """The devices, as librdmacm knows them: the same."""
    return get_device_list()


class Context(Owner):
    """An open device: `name`, or `cmd_fd` of a context of this process, or the device of a `cmid`.

    A context that is made from a `cmd_fd` closes that descriptor with itself; a program passes a copy (`os.dup`).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.name: str | None = kwargs.get("name")
        cmid, descriptor = kwargs.get("cmid"), kwargs.get("cmd_fd")
        self._is_imported = False
        self._descriptor: int | None = None
        if descriptor is not None:
            self.opened = imported(descriptor)
            self.name = self.opened.context.device.name
            if descriptor != self.opened.descriptor:
                self._descriptor = descriptor
                self.on_drop(os.close, descriptor)
            self._is_imported = True
            return
        if cmid is not None:
            self.name = cmid.dev_name
            cmid.ctx = self
        if self.name is None:
            raise PyverbsUserError("Device name must be provided")
        if kwargs.get("attr") is not None:
            unsupported(f"Failed to open device {self.name}")
        host = hosts().get(self.name)
        if host is None:
            raise PyverbsRDMAError(f"Failed to find device {self.name}")
        self.opened = Opened(self.name, host)
        self.on_drop(self.opened.core.soon, self.opened.close)

    @property
    def core(self) -> Core:
        """The progress of the process."""
        return self.opened.core

    @property
    def context(self) -> int:
        """A number for the context, as an address would be."""
        return id(self)

    @property
    def num_comp_vectors(self) -> int:
        """As many as there are processors."""
        return os.cpu_count() or 1

    @property
    def cmd_fd(self) -> int:
        """A descriptor by which this process may import the context."""
        return self.opened.descriptor

    def query_device(self) -> DeviceAttr:
        """The limits of the device."""
        attributes = DeviceAttr()
        attributes.node_guid = network_order(self._guid)
        return attributes

    def query_device_ex(self, ex_input: QueryDeviceExInput | None = None) -> DeviceAttrEx:
        """More of them."""
        attributes = DeviceAttrEx(implicit=implicit_is_allowed())
        attributes.orig_attr = self.query_device()
        return attributes

    @property
    def _guid(self) -> int:
        return next((device.guid for device in get_device_list() if device.name.decode() == self.name), GUID)

    def query_port(self, port_num: int) -> PortAttr:
        """The one port."""
        _check_port(port_num, f"Failed to query port {port_num}")
        return PortAttr()

    def query_port_speed(self, port_num: int) -> int:
        """The speed of the port, in units of 100 Mbit/s."""
        _check_port(port_num, f"Failed to query port speed for port {port_num}")
        return PORT_SPEED

    def query_gid(self, port_num: int, index: int) -> GID:
        """An entry of the table of GIDs; the first is the address of the device."""
        text = f"Failed to query gid {index} of port {port_num}"
        _check_port(port_num, text)
        if not 0 <= index < GID_ENTRIES:
            invalid(text)
        return GID(raw=_NO_GID if index else gid_of(self.opened.host))

    def query_gid_type(self, port_num: int, index: int) -> int:
        """What the kernel says of a GID that is no RoCE GID."""
        text = f"Failed to query gid type of port {port_num} and gid index {index}"
        _check_port(port_num, text)
        if not 0 <= index < GID_ENTRIES:
            invalid(text)
        return e.ibv_gid_type_sysfs.IBV_GID_TYPE_SYSFS_IB_ROCE_V1

    def query_gid_table(self, max_entries: int, flags: int = 0) -> list[GIDEntry]:
        """The GIDs that are in use."""
        if max_entries < 1:
            raise PyverbsRDMAError("Failed to query gid tables of the device", -errno.EINVAL)
        return [self._gid_entry()]

    def query_gid_ex(self, port_num: int, gid_index: int, flags: int = 0) -> GIDEntry:
        """A GID that is in use."""
        text = f"Failed to query gid table of port {port_num} in index {gid_index}"
        if port_num != _PORT or not 0 <= gid_index < GID_ENTRIES:
            invalid(text)
        if gid_index:
            raise PyverbsRDMAError(text, errno.ENODATA)
        return self._gid_entry()

    def _gid_entry(self) -> GIDEntry:
        gid = gid_of(self.opened.host)
        prefix, interface = (int.from_bytes(half, "little") for half in (gid[:8], gid[8:]))
        return GIDEntry(prefix, interface, 0, _PORT, e.ibv_gid_type.IBV_GID_TYPE_IB, 0)

    def query_pkey(self, port_num: int, index: int) -> int:
        """There are no partitions."""
        raise PyverbsRDMAError(f"Failed to query pkey {index} of port {port_num}")

    def get_pkey_index(self, port_num: int, pkey: int) -> int:
        """There are no partitions."""
        raise PyverbsRDMAError(f"Failed to get pkey index of pkey = {pkey} of port {port_num}")

    def query_rt_values_ex(self, comp_mask: int = e.ibv_values_mask.IBV_VALUES_MASK_RAW_CLOCK) -> tuple[int, int]:
        """There is no clock."""
        unsupported("Failed to query real time values")

    def query_comp_cntr_caps(self) -> CompCntrCaps:
        """There are no completion counters."""
        unsupported("Failed to query comp_cntr caps")

    def get_async_event(self) -> AsyncEvent:
        """Wait for the next asynchronous event."""
        found: list[e.ibv_event_type] = []

        def look() -> bool:
            event = self.opened.take_event()
            if event is not None:
                found.append(event)
            return bool(found)

        self.opened.core.wait(look)
        return AsyncEvent(found[0])

    def _let_go(self) -> None:
        if not self._is_imported:
            self.opened.close()
        elif self._descriptor is not None:
            os.close(self._descriptor)


def _check_port(port_num: int, what: str) -> None:
    if port_num != _PORT:
        invalid(what)


class AllocDmAttr(Record):
    """How much device memory is wanted."""

    FIELDS: ClassVar[dict[str, Any]] = {"length": 0, "log_align_req": 0, "comp_mask": 0}


class DM(Owner):
    """Device memory. It is emulated: memory of the process like any other, which programs see by copies alone."""

    rank = 2

    def __init__(self, context: Context, dm_attr: AllocDmAttr | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.context = context
        handle = kwargs.get("handle")
        self._is_imported = handle is not None
        if handle is not None:
            self.memory: Memory = _imported_memory(context, handle)
            self.handle: int = handle
        else:
            attr = dm_attr or AllocDmAttr()
            size = int(attr.length)
            if attr.comp_mask or not 0 < size <= DM_SIZE:
                invalid(f"Failed to allocate device memory of size {size}. Max available size {DM_SIZE}.")
            self.memory = Memory(size)
            self.handle = context.opened.add_handle(self.memory)
            self.on_drop(context.opened.forget_handle, self.handle)
        context.add_ref(self)

    @property
    def size(self) -> int:
        """Octets."""
        return self.memory.nbytes

    def unimport(self) -> None:
        """Give the import up."""
        self.close()

    def copy_to_dm(self, dm_offset: int, data: bytes, length: int) -> None:
        """Put octets into it."""
        self._check("Failed to copy to dm", dm_offset, length)
        self.memory.view[dm_offset : dm_offset + length] = data[:length]

    def copy_from_dm(self, dm_offset: int, length: int) -> bytes:
        """Octets of it."""
        self._check("Failed to copy from dm", dm_offset, length)
        return bytes(self.memory.view[dm_offset : dm_offset + length])

    def export_dmabuf_fd(self) -> int:
        """There is no DMA buffer."""
        unsupported("Failed to export dmabuf FD for DM")

    def _let_go(self) -> None:
        if not self._is_imported:
            self.context.opened.forget_handle(self.handle)

    def _check(self, what: str, offset: int, length: int) -> None:
        """Devices are written word by word."""
        if offset % _WORD or length % _WORD or offset < 0 or length < 0 or offset + length > self.size:
            invalid(what)


def _imported_memory(context: Context, handle: int) -> Memory:
    memory = context.opened.handles.get(handle)
    if not isinstance(memory, Memory):
        invalid("Failed to import DM")
    return memory


class FdArr(PyverbsObject):
    """An array of descriptors."""

    def __init__(self, arr: list[int] | None = None, count: int = 0) -> None:
        super().__init__()
        self.arr = list(arr or ())[:count]
        self.count = count

    def close(self) -> None:
        """The descriptors stay open."""
