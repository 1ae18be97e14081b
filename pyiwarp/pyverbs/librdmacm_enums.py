"""The enumerations and numbers of librdmacm, by the names that pyverbs has for them.

Values are those of rdma-core's headers. As in pyverbs each member is a name of the module too.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the members, which are published below


class rdma_cm_event_type(IntEnum):
    """What can happen to an identifier."""

    RDMA_CM_EVENT_ADDR_RESOLVED = 0
    RDMA_CM_EVENT_ADDR_ERROR = 1
    RDMA_CM_EVENT_ROUTE_RESOLVED = 2
    RDMA_CM_EVENT_ROUTE_ERROR = 3
    RDMA_CM_EVENT_CONNECT_REQUEST = 4
    RDMA_CM_EVENT_CONNECT_RESPONSE = 5
    RDMA_CM_EVENT_CONNECT_ERROR = 6
    RDMA_CM_EVENT_UNREACHABLE = 7
    RDMA_CM_EVENT_REJECTED = 8
    RDMA_CM_EVENT_ESTABLISHED = 9
    RDMA_CM_EVENT_DISCONNECTED = 10
    RDMA_CM_EVENT_DEVICE_REMOVAL = 11
    RDMA_CM_EVENT_MULTICAST_JOIN = 12
    RDMA_CM_EVENT_MULTICAST_ERROR = 13
    RDMA_CM_EVENT_ADDR_CHANGE = 14
    RDMA_CM_EVENT_TIMEWAIT_EXIT = 15
    RDMA_CM_EVENT_ADDRINFO_RESOLVED = 16
    RDMA_CM_EVENT_ADDRINFO_ERROR = 17


class rdma_port_space(IntEnum):
    """Kinds of ports; iWARP has those of TCP."""

    RDMA_PS_IPOIB = 0x0002
    RDMA_PS_TCP = 0x0106
    RDMA_PS_UDP = 0x0111
    RDMA_PS_IB = 0x013F


class rdma_cm_join_mc_attr_mask(IntFlag):
    """What a `JoinMCAttrEx` says."""

    RDMA_CM_JOIN_MC_ATTR_ADDRESS = 1
    RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS = 2


class rdma_cm_mc_join_flags(IntEnum):
    """How a multicast group is joined."""

    RDMA_MC_JOIN_FLAG_FULLMEMBER = 0
    RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER = 1


RAI_PASSIVE = 0x01
RAI_NUMERICHOST = 0x02
RAI_NOROUTE = 0x04
RAI_FAMILY = 0x08
RAI_SA = 0x10
RAI_DNS = 0x20

RDMA_OPTION_ID = 0
RDMA_OPTION_ID_ACK_TIMEOUT = 3

for _each in (rdma_cm_event_type, rdma_port_space, rdma_cm_join_mc_attr_mask, rdma_cm_mc_join_flags):
    globals().update(_each.__members__)
