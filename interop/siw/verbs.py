"""The words of verbs and of rdma_cm, typed: rights, flags, states, events, completions."""

import functools
from dataclasses import dataclass
from enum import Enum, Flag, IntEnum, IntFlag, auto
from typing import NamedTuple

from .errors import SiwError

_PERIOD = 65521


class Access(Flag):
    """Rights of a memory region."""

    NONE = 0
    LOCAL_WRITE = auto()
    REMOTE_WRITE = auto()
    REMOTE_READ = auto()
    ALL = LOCAL_WRITE | REMOTE_WRITE | REMOTE_READ


class SendFlags(Flag):
    """Flags of a work request on the send queue; without SIGNALED it completes only in error."""

    NONE = 0
    SIGNALED = auto()
    SOLICITED = auto()
    FENCE = auto()
    INLINE = auto()


class Status(IntEnum):
    """How a work request ended (enum ibv_wc_status)."""

    SUCCESS = 0
    LOCAL_LENGTH_ERROR = 1
    LOCAL_QP_OPERATION_ERROR = 2
    LOCAL_EE_CONTEXT_OPERATION_ERROR = 3
    LOCAL_PROTECTION_ERROR = 4
    FLUSHED = 5
    MEMORY_WINDOW_BIND_ERROR = 6
    BAD_RESPONSE = 7
    LOCAL_ACCESS_ERROR = 8
    REMOTE_INVALID_REQUEST = 9
    REMOTE_ACCESS_ERROR = 10
    REMOTE_OPERATION_ERROR = 11
    RETRY_EXCEEDED = 12
    RNR_RETRY_EXCEEDED = 13
    LOCAL_RDD_VIOLATION = 14
    REMOTE_INVALID_READ_REQUEST = 15
    REMOTE_ABORTED = 16
    INVALID_EE_CONTEXT_NUMBER = 17
    INVALID_EE_CONTEXT_STATE = 18
    FATAL = 19
    RESPONSE_TIMEOUT = 20
    GENERAL_ERROR = 21


class Opcode(IntEnum):
    """What completed (enum ibv_wc_opcode); means something only if it succeeded."""

    SEND = 0
    WRITE = 1
    READ = 2
    COMPARE_AND_SWAP = 3
    FETCH_AND_ADD = 4
    BIND = 5
    LOCAL_INVALIDATE = 6
    RECEIVE = 128
    RECEIVE_WITH_IMMEDIATE = 129


class WcFlags(IntFlag):
    """Flags of a completion (enum ibv_wc_flags)."""

    GRH = 1
    IMMEDIATE = 2
    CHECKSUM_OK = 4
    INVALIDATED = 8


class AsyncEvent(IntEnum):
    """An event of the device (enum ibv_event_type)."""

    CQ_ERROR = 0
    QP_FATAL = 1
    QP_REQUEST_ERROR = 2
    QP_ACCESS_ERROR = 3
    COMMUNICATION_ESTABLISHED = 4
    SQ_DRAINED = 5
    PATH_MIGRATED = 6
    PATH_MIGRATION_ERROR = 7
    DEVICE_FATAL = 8
    PORT_ACTIVE = 9
    PORT_ERROR = 10
    LID_CHANGE = 11
    PKEY_CHANGE = 12
    SM_CHANGE = 13
    SRQ_ERROR = 14
    SRQ_LIMIT_REACHED = 15
    QP_LAST_WQE_REACHED = 16
    CLIENT_REREGISTER = 17
    GID_CHANGE = 18


class CmKind(Enum):
    """Kind of a connection event, named as rdma_cm names it; TIMEOUT if none came."""

    TIMEOUT = "timeout"
    ADDR_RESOLVED = "RDMA_CM_EVENT_ADDR_RESOLVED"
    ADDR_ERROR = "RDMA_CM_EVENT_ADDR_ERROR"
    ROUTE_RESOLVED = "RDMA_CM_EVENT_ROUTE_RESOLVED"
    ROUTE_ERROR = "RDMA_CM_EVENT_ROUTE_ERROR"
    CONNECT_REQUEST = "RDMA_CM_EVENT_CONNECT_REQUEST"
    CONNECT_RESPONSE = "RDMA_CM_EVENT_CONNECT_RESPONSE"
    CONNECT_ERROR = "RDMA_CM_EVENT_CONNECT_ERROR"
    UNREACHABLE = "RDMA_CM_EVENT_UNREACHABLE"
    REJECTED = "RDMA_CM_EVENT_REJECTED"
    ESTABLISHED = "RDMA_CM_EVENT_ESTABLISHED"
    DISCONNECTED = "RDMA_CM_EVENT_DISCONNECTED"
    DEVICE_REMOVAL = "RDMA_CM_EVENT_DEVICE_REMOVAL"
    MULTICAST_JOIN = "RDMA_CM_EVENT_MULTICAST_JOIN"
    MULTICAST_ERROR = "RDMA_CM_EVENT_MULTICAST_ERROR"
    ADDR_CHANGE = "RDMA_CM_EVENT_ADDR_CHANGE"
    TIMEWAIT_EXIT = "RDMA_CM_EVENT_TIMEWAIT_EXIT"


@dataclass(frozen=True)
class CmEvent:
    """A connection event: its kind, status (0 or a negative errno), IRD and ORD, and private data."""

    kind: CmKind
    status: int = 0
    ird: int = 0
    ord: int = 0
    private_data: bytes = b""


@dataclass(frozen=True)
class Completion:
    """A completed work request."""

    wr_id: int
    status: Status
    opcode: Opcode | None  # None unless it succeeded
    length: int
    flags: WcFlags


@dataclass(frozen=True)
class Region:
    """A registered memory region: where it is in the guest, and its keys (`rkey` is its STag)."""

    name: str
    address: int
    length: int
    rkey: int
    lkey: int


class Sge(NamedTuple):
    """A piece of a region. Neither side checks it here, so it may lie outside; `lkey` replaces the region's own."""

    region: Region
    offset: int
    length: int
    lkey: int | None = None


class UnexpectedEvent(SiwError):
    """Another connection event came than the one waited for, or none in time."""

    def __init__(self, wanted: CmKind, event: CmEvent) -> None:
        """Keep the `event` that came."""
        self.event = event
        super().__init__(f"wanted {wanted.name}, got {event}")


@functools.lru_cache(maxsize=64)
def _period(seed: int) -> bytes:
    return bytes(((x * x >> 3) + x * 7 + seed * 131) & 255 for x in range(_PERIOD))


def pattern(length: int, seed: int) -> bytes:
    """What `VerbPeer.fill` writes: octets that differ for each seed and repeat only after 65521, a prime."""
    return (_period(seed) * (length // _PERIOD + 1))[:length]
