"""Work requests and completions: the values that go into queue pairs and come out of completion queues."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyiwarp.access import TO_LIMIT
from pyiwarp.codes import AtomicOpcode
from pyiwarp.errors import BadWorkRequest
from pyiwarp.fastwire import ReadRequest
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.memory.fastreg import RegMr
from pyiwarp.memory.handles import LocalInvalidate
from pyiwarp.memory.windows import BindMw
from pyiwarp.mr import RegionSlice, RemoteRegion

if TYPE_CHECKING:
    from pyiwarp.wire import AtomicRequest

__all__ = [
    "Atomic",
    "BindMw",
    "CompareSwap",
    "Completion",
    "FetchAdd",
    "Immediate",
    "LocalInvalidate",
    "LocalRequest",
    "LocalSge",
    "Read",
    "Recv",
    "RegMr",
    "Send",
    "SendRequest",
    "Sge",
    "Status",
    "WorkOpcode",
    "Write",
    "atomic_request_of",
    "check_remote",
    "is_named",
    "new",
    "read_request_of",
]

new: Final[Any] = tuple.__new__
"""Makes a named tuple, for each message: calling its class takes nearly twice as long."""

Sge = RegionSlice
"""A scatter/gather element: octets of a region, made by `region[a:b]`."""


class LocalSge(NamedTuple):
    """Octets of this side's memory as `ibv_sge` names them: TO of the first, how many, and the STag of their region.

    A receive may have such elements instead of slices of regions: what the STag stands for is looked up when the
    receive is judged.
    """

    to: int
    """The TO of the first octet: in a region that began at an address, an address."""
    nbytes: int
    """How many octets; 0 are dropped, whatever the STag is."""
    lkey: int
    """The STag of a region of this side."""


class WorkOpcode(Enum):
    """What a completed work request was."""

    SEND = "send"
    WRITE = "write"
    READ = "read"
    FETCH_ADD = "fetch and add"
    COMPARE_SWAP = "compare and swap"
    IMMEDIATE = "immediate data"
    BIND_MW = "bind memory window"
    REG_MR = "register memory"
    LOCAL_INV = "local invalidate"
    RECV = "recv"


class Status(Enum):
    """How a work request ended; the names are those of libibverbs' `ibv_wc_status`."""

    SUCCESS = "success"
    LOC_LEN_ERR = "local length error"
    LOC_PROT_ERR = "local protection error"
    BAD_RESP_ERR = "bad response error"
    REM_ACCESS_ERR = "remote access error"
    REM_INV_REQ_ERR = "remote invalid request error"
    REM_OP_ERR = "remote operation error"
    WR_FLUSH_ERR = "work request flushed"
    FATAL_ERR = "fatal error"
    MW_BIND_ERR = "memory window bind error"


class Send(NamedTuple):
    """Send the octets of `sges`, or of `inline`, to the peer's next receive (RFC 5040 §5.3).

    `inline` octets are copied when the work request is posted. `inval_stag` asks the peer to invalidate an STag of
    its own on delivery, `solicited` asks for an event there. `fence` waits until all earlier Reads are complete.
    """

    sges: tuple[Sge, ...] = ()
    wr_id: object = None
    inline: bytes | bytearray | memoryview | None = None
    inval_stag: int | None = None
    solicited: bool = False
    signaled: bool = True
    fence: bool = False


class Write(NamedTuple):
    """Write the octets of `sges`, or of `inline`, to the memory that `remote` names (RFC 5040 §5.1)."""

    sges: tuple[Sge, ...] = ()
    remote: RemoteRegion = RemoteRegion(0, 0, 0)
    wr_id: object = None
    inline: bytes | bytearray | memoryview | None = None
    signaled: bool = True
    fence: bool = False


class Read(NamedTuple):
    """Read as many octets as `sge` has from the memory that `remote` names (RFC 5040 §5.2).

    There is one `sge`: a Read Request names one sink STag, so a Read cannot be scattered over several; a region of
    several buffers (`RegMr`) is one sink. With `invalidate_sink` the STag of the sink is void when the octets are here,
    as by a `LocalInvalidate`: the verbs' Read with Local Invalidate.
    """

    sge: Sge | None = None
    remote: RemoteRegion = RemoteRegion(0, 0, 0)
    wr_id: object = None
    signaled: bool = True
    fence: bool = False
    invalidate_sink: bool = False


class FetchAdd(NamedTuple):
    """Add to eight octets of the peer's memory, which must lie at a multiple of eight (RFC 7306 §5.1.1).

    `mask` cuts the number into fields: each 1 is the top bit of one. What was there before comes back in the
    completion's `value`, and in `sge` if one is given, in this host's byte order.
    """

    remote: RemoteRegion
    add: int
    """What is added: 64 bits; the sum wraps."""
    mask: int = 0
    sge: Sge | None = None
    wr_id: object = None
    signaled: bool = True
    fence: bool = False


class CompareSwap(NamedTuple):
    """Exchange eight octets of the peer's memory if they are what they should be (RFC 7306 §5.1.2).

    The masks say which bits are compared and which are exchanged. What was there before comes back as with `FetchAdd`.
    """

    remote: RemoteRegion
    compare: int
    """What should be there: 64 bits."""
    swap: int
    """What is put there then: 64 bits."""
    compare_mask: int = ALL_ONES
    """Which bits are compared."""
    swap_mask: int = ALL_ONES
    """Which bits are put."""
    sge: Sge | None = None
    """Eight octets of this side for what was there, if wanted."""
    wr_id: object = None
    signaled: bool = True
    fence: bool = False


class Immediate(NamedTuple):
    """Send eight octets to the peer's next receive; they come in its completion (RFC 7306 §6)."""

    data: bytes
    """Eight octets."""
    wr_id: object = None
    solicited: bool = False
    signaled: bool = True
    fence: bool = False


class Recv(NamedTuple):
    """Let one Send of the peer be placed into `sges`."""

    sges: tuple[Sge | LocalSge, ...] = ()
    wr_id: object = None


Atomic = FetchAdd | CompareSwap
LocalRequest = BindMw | RegMr | LocalInvalidate
"""What concerns this side's memory alone; it is done in the order of the send queue, and sends nothing."""

SendRequest = Send | Write | Read | FetchAdd | CompareSwap | Immediate | BindMw | RegMr | LocalInvalidate
"""What a send queue takes."""


class Completion(NamedTuple):
    """The end of one work request.

    `nbytes` counts the octets received or read. `inval_stag` is the STag that a received Send invalidated here,
    `solicited` whether it asked for an event. `immediate` holds the eight octets of received Immediate Data, `value`
    what an Atomic found. `error` is the cause when `status` is not SUCCESS.
    """

    wr_id: object
    status: Status
    opcode: WorkOpcode
    """Of which operation it is."""
    nbytes: int = 0
    qp_num: int = 0
    inval_stag: int | None = None
    solicited: bool = False
    error: Exception | None = None
    immediate: bytes | None = None
    value: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the work request succeeded."""
        return self.status is Status.SUCCESS

    def __str__(self) -> str:
        cause = f": {self.error}" if self.error is not None else ""
        which = f" {self.wr_id!r}" if isinstance(self.wr_id, int | str) else ""
        return f"{self.opcode.value}{which} {self.status.value}, {self.nbytes} octets{cause}"


def is_named(remote: RemoteRegion, nbytes: int) -> bool:
    """Whether a header can name so many octets there, and they do not wrap (DDP-5041-7.1-14)."""
    to = remote.to
    return not remote.stag >> 32 and 0 <= to < TO_LIMIT and to + nbytes <= TO_LIMIT


def check_remote(remote: RemoteRegion, nbytes: int) -> None:
    """Refuse what cannot be named, before anything is queued."""
    to, stag = remote.to, remote.stag
    if not is_named(remote, nbytes):
        raise BadWorkRequest(
            f"{nbytes} octets cannot be named by STag {stag:#x} TO {to:#x}: an STag is below 2^32, and the octets lie "
            "from TO 0 to 2^64 - 1 (RFC 5041 §4.2)"
        )


def read_request_of(request: Read) -> ReadRequest:
    """The Read Request that asks for what a Read wants; without octets the sink STag is 0."""
    sge = request.sge
    if sge is None or not sge.nbytes:
        return ReadRequest(0, 0, 0, request.remote.stag, request.remote.to)
    region = sge.region
    return ReadRequest(region.stag, region.to + sge.offset, sge.nbytes, request.remote.stag, request.remote.to)


def atomic_request_of(request: Atomic) -> AtomicRequest:
    """The Atomic Request that asks for what a FetchAdd or CompareSwap wants; the stream sets its identifier."""
    from pyiwarp import wire

    stag, to = request.remote.stag, request.remote.to
    if isinstance(request, FetchAdd):
        return wire.AtomicRequest(AtomicOpcode.FETCH_ADD, 0, stag, to, request.add, request.mask)
    return wire.AtomicRequest(
        AtomicOpcode.COMPARE_SWAP,
        0,
        stag,
        to,
        request.swap,
        request.swap_mask,
        request.compare,
        request.compare_mask,
    )
