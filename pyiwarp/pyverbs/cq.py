"""Completion queues and channels."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from pyiwarp.blocking import waiting_module
from pyiwarp.pyverbs.base import Owner, PyverbsObject, Record, invalid, unsupported
from pyiwarp.pyverbs.libibverbs_enums import (
    IBV_WC_STANDARD_FLAGS,
    ibv_event_type,
    ibv_wc_opcode,
    ibv_wc_status,
)
from pyiwarp.pyverbs.opened import LIMITS, Opened
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError

if TYPE_CHECKING:
    from pyiwarp.pyverbs.device import Context

__all__ = [
    "CQ",
    "CQEX",
    "WC",
    "CompChannel",
    "CqInitAttrEx",
    "PollCqAttr",
    "WcQueue",
    "WcTmInfo",
    "cqe_flags_to_str",
    "cqe_opcode_to_str",
    "cqe_status_to_str",
]

waiting_module(__name__)

_SUCCESS: Final = ibv_wc_status.IBV_WC_SUCCESS
_SINGLE_THREADED: Final = 1

# pyverbs' words: programs print them, and look for them in what they print
_STATUSES: Final[dict[int, str]] = {
    ibv_wc_status.IBV_WC_SUCCESS: "success",
    ibv_wc_status.IBV_WC_LOC_LEN_ERR: "local length error",
    ibv_wc_status.IBV_WC_LOC_QP_OP_ERR: "local QP op error",
    ibv_wc_status.IBV_WC_LOC_EEC_OP_ERR: "local EEC op error",
    ibv_wc_status.IBV_WC_LOC_PROT_ERR: "local protection error",
    ibv_wc_status.IBV_WC_WR_FLUSH_ERR: "WR flush error",
    ibv_wc_status.IBV_WC_MW_BIND_ERR: "memory window bind error",
    ibv_wc_status.IBV_WC_BAD_RESP_ERR: "bad response error",
    ibv_wc_status.IBV_WC_LOC_ACCESS_ERR: "local access error",
    ibv_wc_status.IBV_WC_REM_INV_REQ_ERR: "remote invalidate request error",
    ibv_wc_status.IBV_WC_REM_ACCESS_ERR: "remote access error",
    ibv_wc_status.IBV_WC_REM_OP_ERR: "remote op error",
    ibv_wc_status.IBV_WC_RETRY_EXC_ERR: "retry exceeded error",
    ibv_wc_status.IBV_WC_RNR_RETRY_EXC_ERR: "RNR retry exceeded",
    ibv_wc_status.IBV_WC_LOC_RDD_VIOL_ERR: "local RDD violation error",
    ibv_wc_status.IBV_WC_REM_INV_RD_REQ_ERR: "remote invalidate RD request error",
    ibv_wc_status.IBV_WC_REM_ABORT_ERR: "remote abort error",
    ibv_wc_status.IBV_WC_INV_EECN_ERR: "invalidate EECN error",
    ibv_wc_status.IBV_WC_INV_EEC_STATE_ERR: "invalidate EEC state error",
    ibv_wc_status.IBV_WC_FATAL_ERR: "WC fatal error",
    ibv_wc_status.IBV_WC_RESP_TIMEOUT_ERR: "response timeout error",
    ibv_wc_status.IBV_WC_GENERAL_ERR: "general error",
}
_OPCODES: Final[dict[int, str]] = {
    ibv_wc_opcode.IBV_WC_SEND: "Send",
    ibv_wc_opcode.IBV_WC_RDMA_WRITE: "RDMA write",
    ibv_wc_opcode.IBV_WC_RDMA_READ: "RDMA read",
    ibv_wc_opcode.IBV_WC_COMP_SWAP: "Compare and swap",
    ibv_wc_opcode.IBV_WC_FETCH_ADD: "Fetch and add",
    ibv_wc_opcode.IBV_WC_BIND_MW: "Bind Memory window",
    ibv_wc_opcode.IBV_WC_LOCAL_INV: "Local invalidate",
    ibv_wc_opcode.IBV_WC_RECV: "Receive",
    ibv_wc_opcode.IBV_WC_RECV_RDMA_WITH_IMM: "Receive RDMA with immediate",
}
_FLAGS: Final[dict[int, str]] = {1: "GRH", 2: "With immediate", 8: "With invalidate"}


class WC(PyverbsObject):
    """A work completion."""

    __slots__ = (
        *("wr_id", "status", "opcode", "vendor_err", "byte_len", "qp_num", "src_qp", "imm_data", "wc_flags"),
        *("pkey_index", "slid", "sl", "dlid_path_bits"),
    )

    def __init__(
        self,
        wr_id: int = 0,
        status: int = 0,
        opcode: int = 0,
        vendor_err: int = 0,
        byte_len: int = 0,
        qp_num: int = 0,
        src_qp: int = 0,
        imm_data: int = 0,
        wc_flags: int = 0,
        pkey_index: int = 0,
        slid: int = 0,
        sl: int = 0,
        dlid_path_bits: int = 0,
    ) -> None:
        self.wr_id = wr_id
        self.status = status
        self.opcode = opcode
        self.vendor_err = vendor_err
        self.byte_len = byte_len
        self.qp_num = qp_num
        self.src_qp = src_qp
        self.imm_data = imm_data
        self.wc_flags = wc_flags
        self.pkey_index = pkey_index
        self.slid = slid
        self.sl = sl
        self.dlid_path_bits = dlid_path_bits

    def __str__(self) -> str:
        fields = {
            "WR ID": self.wr_id,
            "status": cqe_status_to_str(self.status),
            "opcode": cqe_opcode_to_str(self.opcode),
            "vendor error": self.vendor_err,
            "byte length": self.byte_len,
            "QP num": self.qp_num,
            "source QP": self.src_qp,
            "WC flags": cqe_flags_to_str(self.wc_flags),
            "pkey index": self.pkey_index,
            "slid": self.slid,
            "sl": self.sl,
            "imm_data": self.imm_data,
            "dlid path bits": self.dlid_path_bits,
        }
        return "".join(f"{name:22}: {value:<20}\n" for name, value in fields.items())


class PollCqAttr(Record):
    """How an extended completion queue is polled."""

    FIELDS: ClassVar[dict[str, Any]] = {"comp_mask": 0}


class WcTmInfo(Record):
    """What a completion of tag matching would tell."""

    FIELDS: ClassVar[dict[str, Any]] = {"tag": 0, "priv": 0}


class User(Protocol):
    """A queue pair whose work completes in a queue."""

    def fail(self) -> None:
        """End: its completions are lost."""


class Events:
    """The completion events of a channel, and a descriptor that is readable while there are any."""

    def __init__(self) -> None:
        self.queues: deque[WcQueue] = deque()
        self._open = True
        self.fd, self._bell = os.pipe()
        for end in (self.fd, self._bell):
            os.set_blocking(end, False)

    def put(self, queue: WcQueue) -> None:
        """A queue has a completion."""
        if not self._open:
            return
        self.queues.append(queue)
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def take(self) -> WcQueue:
        """The oldest event."""
        queue = self.queues.popleft()
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1)
        return queue

    def close(self) -> None:
        """Close the descriptors."""
        self._open = False
        self.queues.clear()
        for end in (self.fd, self._bell):
            os.close(end)


class WcQueue:
    """The completions of a queue; it is used while the poller is held."""

    def __init__(self, opened: Opened, capacity: int, events: Events | None) -> None:
        self.opened = opened
        self.capacity = capacity
        self.events = events
        self.users: set[User] = set()
        self.completions: deque[WC] = deque()
        self._armed = False
        self._solicited_only = False
        self._overflowed = False

    def push(self, wc: WC, *, solicited: bool = False) -> None:
        """Add a completion; a queue that is full takes none any more, and its queue pairs end."""
        if self._overflowed:
            return
        if len(self.completions) >= self.capacity:
            self._overflowed = True
            self.opened.tell(ibv_event_type.IBV_EVENT_CQ_ERR)
            for user in list(self.users):
                user.fail()
            return
        self.completions.append(wc)
        if self._armed and (not self._solicited_only or solicited or wc.status != _SUCCESS):
            self._armed = False
            assert self.events is not None, "only a queue with a channel is armed"
            self.events.put(self)

    def arm(self, *, solicited_only: bool) -> None:
        """Tell the channel of the next completion, or of the next that is solicited or failed."""
        if self.events is not None:
            self._solicited_only = solicited_only and (not self._armed or self._solicited_only)
            self._armed = True

    def drop(self, qp_num: int) -> None:
        """Forget the completions of a queue pair that was reset."""
        self.completions = deque(wc for wc in self.completions if wc.qp_num != qp_num)


class CompChannel(Owner):
    """Tells of completions; `fd` may be waited for."""

    rank = 4

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.events = Events()
        self.on_drop(context.opened.core.soon, self.events.close)
        context.add_ref(self)

    def get_cq_event(self, expected_cq: CQ | CQEX) -> None:
        """Wait for the next event, which must be of that queue."""
        taken: list[WcQueue] = []

        def look() -> bool:
            if self.events.queues:
                taken.append(self.events.take())
            return bool(taken)

        self.context.opened.core.wait(look)
        if taken[0] is not expected_cq.queue:
            raise PyverbsRDMAError("Received event on an unexpected CQ")
        expected_cq.num_events += 1

    @property
    def fd(self) -> int:
        """A descriptor that is readable while there are events."""
        self.context.opened.core.start()
        return self.events.fd

    def _let_go(self) -> None:
        with self.context.opened.core.poller:
            self.events.close()


class _Queue(Owner):
    FAILED: ClassVar[str] = "Failed to create a CQ"
    rank = 3

    def __init__(self, context: Context, cqe: int, channel: CompChannel | None, comp_vector: int) -> None:
        super().__init__()
        cqe = int(cqe)
        if not 1 <= cqe <= LIMITS.max_cqe or not 0 <= comp_vector < context.num_comp_vectors:
            invalid(self.FAILED)
        self.context = context
        self.channel = channel
        self.num_events = 0
        self.queue = WcQueue(context.opened, cqe, None if channel is None else channel.events)
        context.add_ref(self)
        if channel is not None:
            channel.add_ref(self)

    @property
    def cqe(self) -> int:
        """How many completions it holds."""
        return self.queue.capacity

    @property
    def comp_channel(self) -> CompChannel | None:
        """The channel that it tells."""
        return self.channel

    def req_notify(self, solicited_only: bool = False) -> None:
        """Let the channel tell of the next completion."""
        with self.context.opened.core.poller:
            self.queue.arm(solicited_only=bool(solicited_only))

    def ack_events(self, num_events: int) -> None:
        """The program is done with so many events."""
        self.num_events -= num_events

    def resize(self, cqe: int) -> None:
        """Hold so many completions from now on."""
        with self.context.opened.core.poller:
            if not max(1, len(self.queue.completions)) <= cqe <= LIMITS.max_cqe:
                invalid("Failed to resize CQ")
            self.queue.capacity = int(cqe)


class CQ(_Queue):
    """A completion queue."""

    def __init__(
        self,
        context: Context,
        cqe: int,
        cq_context: object = None,
        channel: CompChannel | None = None,
        comp_vector: int = 0,
    ) -> None:
        super().__init__(context, cqe, channel, comp_vector)
        self.cq_context = cq_context

    def poll(self, num_entries: int = 1) -> tuple[int, list[WC]]:
        """Take up to so many completions; returns how many, and them. Never waits."""
        core = self.context.opened.core
        core.progress()
        completions = self.queue.completions
        if not completions:
            core.rest()
            return 0, []
        with core.poller:
            completions = self.queue.completions
            taken = [completions.popleft() for _ in range(min(num_entries, len(completions)))]
        return len(taken), taken

    @property
    def cq(self) -> int:
        """A number for the queue, as an address would be."""
        return id(self)

    def __str__(self) -> str:
        return f"CQ\n{'Handle':<22}: {self.cq:<20}\n{'CQEs':<22}: {self.cqe:<20}\n"


class CqInitAttrEx(Record):
    """What an extended completion queue is made of."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "cqe": 100,
        "channel": None,
        "comp_vector": 0,
        "wc_flags": 0,
        "comp_mask": 0,
        "flags": 0,
        "parent_domain": None,
    }

    @property
    def comp_channel(self) -> CompChannel | None:
        """The channel."""
        channel: CompChannel | None = self.channel
        return channel

    @comp_channel.setter
    def comp_channel(self, val: CompChannel) -> None:
        self.channel = val


class CQEX(_Queue):
    """An extended completion queue: completions are looked at one by one."""

    FAILED = "Failed to create extended CQ"

    def __init__(self, context: Context, init_attr: CqInitAttrEx | None = None) -> None:
        attr = init_attr or CqInitAttrEx()
        if int(attr.wc_flags) & ~int(IBV_WC_STANDARD_FLAGS) or int(attr.flags) & ~_SINGLE_THREADED:
            unsupported(self.FAILED)
        super().__init__(context, attr.cqe, attr.channel, attr.comp_vector)
        self._now = WC()

    def start_poll(self, attr: PollCqAttr) -> int:
        """Take the first completion; ENOENT if there is none."""
        if attr.comp_mask:
            return errno.EINVAL
        core = self.context.opened.core
        core.progress()
        if not self.queue.completions:
            core.rest()
        return self.poll_next()

    def poll_next(self) -> int:
        """Take the next one."""
        with self.context.opened.core.poller:
            completions = self.queue.completions
            if not completions:
                return errno.ENOENT
            self._now = completions.popleft()
            return 0

    def end_poll(self) -> None:
        """The program is done with what it took."""

    @property
    def status(self) -> int:
        """How the work request ended."""
        return self._now.status

    @property
    def wr_id(self) -> int:
        """Which work request it was."""
        return self._now.wr_id

    @property
    def cq(self) -> int:
        """A number for the queue, as an address would be."""
        return id(self)

    def read_opcode(self) -> int:
        """What the work request was."""
        return self._now.opcode

    def read_vendor_err(self) -> int:
        """Always 0."""
        return self._now.vendor_err

    def read_byte_len(self) -> int:
        """Octets received or read."""
        return self._now.byte_len

    def read_imm_data(self) -> int:
        """Immediate data, in the order of the network."""
        return self._now.imm_data

    def read_qp_num(self) -> int:
        """Of which queue pair it is."""
        return self._now.qp_num

    def read_src_qp(self) -> int:
        """The peer's queue pair."""
        return self._now.src_qp

    def read_wc_flags(self) -> int:
        """What else it carries."""
        return self._now.wc_flags

    def read_slid(self) -> int:
        """Always 0: there are no LIDs."""
        return self._now.slid

    def read_sl(self) -> int:
        """Always 0: there are no service levels."""
        return self._now.sl

    def read_dlid_path_bits(self) -> int:
        """Always 0: there are no LIDs."""
        return self._now.dlid_path_bits

    def read_timestamp(self) -> int:
        """Refused when the queue is made: there are no timestamps."""
        unsupported("Failed to read timestamp")

    def read_cvlan(self) -> int:
        """There are no VLANs here."""
        unsupported("Failed to read cvlan")

    def read_flow_tag(self) -> int:
        """There are no flows here."""
        unsupported("Failed to read flow tag")

    def read_tm_info(self, info: WcTmInfo) -> None:
        """There is no tag matching here."""
        unsupported("Failed to read tag matching info")

    def read_completion_wallclock_ns(self) -> int:
        """There are no timestamps here."""
        unsupported("Failed to read wallclock")


def cqe_status_to_str(status: int) -> str:
    """What a status means, in pyverbs' words."""
    return _STATUSES.get(status, "Unknown CQE status")


def cqe_opcode_to_str(opcode: int) -> str:
    """What a work request was, in pyverbs' words."""
    return _OPCODES.get(opcode, f"Unknown CQE opcode {opcode}")


def cqe_flags_to_str(flags: int) -> str:
    """What else a completion carries, in pyverbs' words."""
    return "".join(f"{name} " for flag, name in _FLAGS.items() if flags & flag)
