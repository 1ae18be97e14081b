"""What a device and its port say of themselves, and the texts for it; `device` publishes all of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import PyverbsObject, Record
from pyiwarp.pyverbs.opened import LIMITS
from pyiwarp.pyverbs.utils import gid_str

__all__ = [
    "AsyncEvent",
    "CQModerationCaps",
    "CompCntrCaps",
    "DeviceAttr",
    "DeviceAttrEx",
    "GIDEntry",
    "ODPCaps",
    "PCIAtomicCaps",
    "PacketPacingCaps",
    "PortAttr",
    "QueryDeviceExInput",
    "RSSCaps",
    "TMCaps",
    "TSOCaps",
    "guid_format",
    "guid_to_hex",
    "phys_state_to_str",
    "port_state_to_str",
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

DM_SIZE: Final = 128 * 1024
"""Octets of a device's memory, which is emulated."""
GID_ENTRIES: Final = 2
GUID: Final = 0x0200_5E00_0000_0001
"""Of the first device, as `Device.guid` has it: in the order of this host."""
MAX_MESSAGE: Final = (1 << 31) - 1
"""Octets of one message: beside immediate data 31 bits tell of them."""
PORT_SPEED: Final = 400
"""Of the port, in units of 100 Mbit/s: four lanes of 10 Gbit/s. It is said, and bounds nothing."""


def network_order(guid: int) -> int:
    """A GUID as `ibv_query_device` gives it: its octets are in the order of the network."""
    return int.from_bytes(guid.to_bytes(8, "big"), sys.byteorder)


_MANY: Final = 1 << 16
_CAPS: Final = (
    e.ibv_device_cap_flags.IBV_DEVICE_MEM_WINDOW
    | e.ibv_device_cap_flags.IBV_DEVICE_MEM_MGT_EXTENSIONS
    | e.ibv_device_cap_flags.IBV_DEVICE_MEM_WINDOW_TYPE_2B
    | e.ibv_device_cap_flags.IBV_DEVICE_SRQ_RESIZE
)


class DeviceAttr(Record):
    """What `query_device` tells: the limits of the device; what iWARP has not is 0."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "fw_version": "0",
        "node_guid": network_order(GUID),
        "sys_image_guid": network_order(GUID),
        "max_mr_size": 1 << 47,
        "page_size_cap": 0xFFFF_F000,
        "vendor_id": 0x70_79_69,
        "vendor_part_id": 1,
        "hw_ver": 0,
        "max_qp": _MANY,
        "max_qp_wr": LIMITS.max_qp_wr,
        "device_cap_flags": _CAPS,
        "max_sge": LIMITS.max_sge,
        "max_sge_rd": 1,
        "max_cq": _MANY,
        "max_cqe": LIMITS.max_cqe,
        "max_mr": LIMITS.max_mr,
        "max_pd": _MANY,
        "max_qp_rd_atom": LIMITS.max_ird,
        "max_ee_rd_atom": 0,
        "max_res_rd_atom": LIMITS.max_ird,
        "max_qp_init_rd_atom": LIMITS.max_ord,
        "max_ee_init_rd_atom": 0,
        "atomic_caps": e.ibv_atomic_cap.IBV_ATOMIC_HCA,
        "max_ee": 0,
        "max_rdd": 0,
        "max_mw": _MANY,
        "max_raw_ipv6_qp": 0,
        "max_raw_ipv6_qps": 0,
        "max_raw_ethy_qp": 0,
        "max_mcast_grp": 0,
        "max_mcast_qp_attach": 0,
        "max_ah": 0,
        "max_fmr": 0,
        "max_map_per_fmr": 0,
        "max_srq": _MANY,
        "max_srq_wr": LIMITS.max_qp_wr,
        "max_srq_sge": LIMITS.max_sge,
        "max_pkeys": 0,
        "local_ca_ack_delay": 0,
        "phys_port_cnt": 1,
    }


class ODPCaps(Record):
    """On-demand paging: all memory of a process is, so it is said to be there; nothing is pinned here."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "general_caps": 0,
        "rc_odp_caps": 0,
        "uc_odp_caps": 0,
        "ud_odp_caps": 0,
        "xrc_odp_caps": 0,
    }


class PCIAtomicCaps(Record):
    """There is no PCI bus."""

    FIELDS: ClassVar[dict[str, Any]] = {"fetch_add": 0, "swap": 0, "compare_swap": 0}


class TSOCaps(Record):
    """There is no segmentation offload."""

    FIELDS: ClassVar[dict[str, Any]] = {"max_tso": 0, "supported_qpts": 0}


class RSSCaps(Record):
    """There is no receive-side scaling."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "supported_qpts": 0,
        "max_rwq_indirection_tables": 0,
        "rx_hash_fields_mask": 0,
        "rx_hash_function": 0,
        "max_rwq_indirection_table_size": 0,
    }


class PacketPacingCaps(Record):
    """There is no packet pacing."""

    FIELDS: ClassVar[dict[str, Any]] = {"qp_rate_limit_min": 0, "qp_rate_limit_max": 0, "supported_qpts": 0}


class TMCaps(Record):
    """There is no tag matching."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "max_rndv_hdr_size": 0,
        "max_num_tags": 0,
        "flags": 0,
        "max_ops": 0,
        "max_sge": 0,
    }


class CQModerationCaps(Record):
    """Completions are not moderated."""

    FIELDS: ClassVar[dict[str, Any]] = {"max_cq_count": 0, "max_cq_period": 0}


class CompCntrCaps(Record):
    """There are no completion counters."""

    FIELDS: ClassVar[dict[str, Any]] = {"max_comp_cntrs": 0}


class QueryDeviceExInput(Record):
    """What `query_device_ex` is asked for."""

    FIELDS: ClassVar[dict[str, Any]] = {"comp_mask": 0}


class DeviceAttrEx(Record):
    """What `query_device_ex` tells."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "orig_attr": None,
        "comp_mask": 0,
        "odp_caps": None,
        "completion_timestamp_mask": 0,
        "hca_core_clock": 0,
        "device_cap_flags_ex": 0,
        "tso_caps": None,
        "pci_atomic_caps": None,
        "rss_caps": None,
        "max_wq_type_rq": 0,
        "packet_pacing_caps": None,
        "raw_packet_caps": 0,
        "tm_caps": None,
        "cq_mod_caps": None,
        "max_dm_size": DM_SIZE,
        "phys_port_cnt_ex": 1,
        "xrc_odp_caps": 0,
    }

    def __init__(self, *, implicit: bool = False) -> None:
        super().__init__()
        self.orig_attr = DeviceAttr()
        self.odp_caps = _odp_caps(implicit=implicit)
        self.tso_caps, self.rss_caps, self.tm_caps = TSOCaps(), RSSCaps(), TMCaps()
        self.pci_atomic_caps, self.packet_pacing_caps = PCIAtomicCaps(), PacketPacingCaps()
        self.cq_mod_caps = CQModerationCaps()


def _odp_caps(*, implicit: bool) -> ODPCaps:
    bits, general = e.ibv_odp_transport_cap_bits, e.ibv_odp_general_caps.IBV_ODP_SUPPORT
    if implicit:
        general |= e.ibv_odp_general_caps.IBV_ODP_SUPPORT_IMPLICIT
    served = (
        *(bits.IBV_ODP_SUPPORT_SEND, bits.IBV_ODP_SUPPORT_RECV, bits.IBV_ODP_SUPPORT_WRITE),
        *(bits.IBV_ODP_SUPPORT_READ, bits.IBV_ODP_SUPPORT_ATOMIC, bits.IBV_ODP_SUPPORT_SRQ_RECV),
        bits.IBV_ODP_SUPPORT_ATOMIC_WRITE,
    )
    return ODPCaps(general_caps=general, rc_odp_caps=sum(served))


class PortAttr(Record):
    """What `query_port` tells of the one port."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "state": e.ibv_port_state.IBV_PORT_ACTIVE,
        "max_mtu": e.ibv_mtu.IBV_MTU_4096,
        "active_mtu": e.ibv_mtu.IBV_MTU_4096,
        "gid_tbl_len": GID_ENTRIES,
        "port_cap_flags": e.ibv_port_cap_flags.IBV_PORT_IP_BASED_GIDS,
        "max_msg_sz": MAX_MESSAGE,
        "bad_pkey_cntr": 0,
        "qkey_viol_cntr": 0,
        "pkey_tbl_len": 0,
        "lid": 0,
        "sm_lid": 0,
        "lmc": 0,
        "max_vl_num": 0,
        "sm_sl": 0,
        "subnet_timeout": 0,
        "init_type_reply": 0,
        "active_width": 2,
        "active_speed": 4,
        "phys_state": 5,
        "link_layer": e.IBV_LINK_LAYER_ETHERNET,
        "flags": 0,
        "port_cap_flags2": 0,
        "active_speed_ex": 0,
    }


class GIDEntry(Record):
    """An entry of the table of GIDs."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "subnet_prefix": 0,
        "interface_id": 0,
        "gid_index": 0,
        "port_num": 0,
        "gid_type": 0,
        "ndev_ifindex": 0,
    }

    @property
    def gid_subnet_prefix(self) -> int:
        """The upper eight octets, as a number in the order of this host."""
        prefix: int = self.subnet_prefix
        return prefix

    @property
    def gid_interface_id(self) -> int:
        """The lower eight octets, as a number in the order of this host."""
        interface: int = self.interface_id
        return interface

    def gid_str(self) -> str:
        """The GID as text."""
        return gid_str(self.subnet_prefix, self.interface_id)


class AsyncEvent(PyverbsObject):
    """An asynchronous event."""

    def __init__(self, event_type: int = 0) -> None:
        super().__init__()
        self.event_type = event_type

    def ack(self) -> None:
        """The program is done with it."""

    def __str__(self) -> str:
        return f"Event Type : {translate_event_type(self.event_type)}"


# --- texts -----------------------------------------------------------------------------------------------------------

_GID_TYPES: Final = {
    e.ibv_gid_type.IBV_GID_TYPE_IB: "IB",
    e.ibv_gid_type.IBV_GID_TYPE_ROCE_V1: "RoCEv1",
    e.ibv_gid_type.IBV_GID_TYPE_ROCE_V2: "RoCEv2",
}
_TRANSPORTS: Final = {0: "IB", 1: "IWARP", 2: "USNIC", 3: "USNIC UDP"}
_NODES: Final = {1: "CA", 2: "Switch", 3: "Router", 4: "RNIC", 5: "USNIC", 6: "USNIC UDP"}
_PORT_STATES: Final = {0: "NOP", 1: "Down", 2: "Init", 3: "Armed", 4: "Active", 5: "Defer"}
_MTUS: Final = {1: "256", 2: "512", 3: "1024", 4: "2048", 5: "4096"}
_LINK_LAYERS: Final = {0: "Unspecified", 1: "InfiniBand", 2: "Ethernet"}
_PHYSICAL: Final = {
    1: "Sleep",
    2: "Polling",
    3: "Disabled",
    4: "Port configuration training",
    5: "Link up",
    6: "Link error recovery",
    7: "Phy test",
}
_WIDTHS: Final = {1: "1X", 2: "4X", 4: "8X", 8: "12X", 16: "2X"}
_SPEEDS: Final = {
    0: "0.0 Gbps",
    1: "2.5 Gbps",
    2: "5.0 Gbps",
    4: "10.0 Gbps",
    8: "10.0 Gbps",
    16: "14.0 Gbps",
    32: "25.0 Gbps",
    64: "50.0 Gbps",
    128: "100.0 Gbps",
    256: "200.0 Gbps",
}


def translate_gid_type(gid_type: int) -> str:
    """The name of a kind of GID."""
    return _GID_TYPES.get(e.ibv_gid_type(gid_type), f"Unknown gid_type ({gid_type})")


def guid_format(num: int) -> str:
    """A GUID that is given in the order of the network, as text."""
    octets = num.to_bytes(8, sys.byteorder).hex()
    return ":".join(octets[i : i + 4] for i in range(0, 16, 4))


def guid_to_hex(node_guid: int) -> str:
    """A GUID as a hexadecimal number."""
    return f"{node_guid:x}"


def translate_transport_type(transport_type: int) -> str:
    """The name of a transport."""
    return _TRANSPORTS.get(int(transport_type), "Unknown")


def translate_node_type(node_type: int) -> str:
    """The name of a kind of node."""
    return _NODES.get(int(node_type), "Unknown")


def _numbered(names: Mapping[int, str], number: int, otherwise: str) -> str:
    return f"{names[int(number)]} ({int(number)})" if int(number) in names else otherwise


def port_state_to_str(port_state: int) -> str:
    """The name of a port's state."""
    return _numbered(_PORT_STATES, port_state, f"Invalid state ({port_state})")


def translate_mtu(mtu: int) -> str:
    """The octets of an MTU."""
    return _numbered(_MTUS, mtu, f"Invalid MTU ({mtu})")


def translate_link_layer(ll: int) -> str:
    """The name of a link layer."""
    return _LINK_LAYERS.get(int(ll), f"Invalid link layer ({ll})")


def phys_state_to_str(phys: int) -> str:
    """The name of a physical state."""
    return _numbered(_PHYSICAL, phys, "Invalid physical state")


def width_to_str(width: int) -> str:
    """How many lanes a port has."""
    return _numbered(_WIDTHS, width, "Invalid width")


def speed_to_str(active_speed: int, active_speed_ex: int = 0) -> str:
    """The speed of a lane."""
    return _numbered(_SPEEDS, active_speed_ex or active_speed, "Invalid speed")


def translate_event_type(event_type: int) -> str:
    """The name of an asynchronous event."""
    try:
        return e.ibv_event_type(event_type).name
    except ValueError:
        return f"Unknown event_type ({event_type})"


def str_from_flags(flags: int, dictionary: Mapping[int, str]) -> str:
    """The names of the bits that are set, each on a line."""
    return "\n  " + "".join(f"{name}\n  " for bit, name in dictionary.items() if flags & bit)


def _names(members: Any) -> dict[int, str]:
    return {int(each): each.name for each in members}


def translate_port_cap_flags(flags: int) -> str:
    """What a port can."""
    return str_from_flags(flags, _names(e.ibv_port_cap_flags))


def translate_port_cap_flags2(flags: int) -> str:
    """What a port can, the second part."""
    return str_from_flags(flags, _names(e.ibv_port_cap_flags2))


def translate_device_caps(flags: int) -> str:
    """What a device can."""
    return str_from_flags(flags, _names(e.ibv_device_cap_flags))
