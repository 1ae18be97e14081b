"""Work requests."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyiwarp.pyverbs.base import PyverbsCM, inc_rkey
from pyiwarp.pyverbs.libibverbs_enums import ibv_send_flags, ibv_wr_opcode
from pyiwarp.pyverbs.pyverbs_error import PyverbsUserError

if TYPE_CHECKING:
    from pyiwarp.pyverbs.mr import MW, MWBindInfo

__all__ = ["SGE", "Element", "RecvWR", "SendWR", "send_flags_to_str"]

Element = tuple[int, int, int]
"""An SGE as a work request has copied it: address, octets, key."""

_WITHOUT_MEMORY: Final = (
    ibv_wr_opcode.IBV_WR_LOCAL_INV,
    ibv_wr_opcode.IBV_WR_BIND_MW,
    ibv_wr_opcode.IBV_WR_SEND_WITH_INV,
)


class SGE(PyverbsCM):
    """Octets of memory: where they begin, how many, and the key of their region."""

    def __init__(self, addr: int, length: int, lkey: int) -> None:
        super().__init__()
        self.addr = addr
        self.length = length
        self.lkey = lkey

    def read(self, length: int, offset: int) -> bytes:
        """Octets of the memory."""
        return ctypes.string_at(self.addr + offset, length)

    def __str__(self) -> str:
        return (
            f"{'Address':22}: {hex(self.addr):<20}\n{'Length':22}: {self.length:<20}\n"
            f"{'Key':22}: {hex(self.lkey):<20}\n"
        )


def _copied(sg: Sequence[SGE] | None, num_sge: int) -> list[Element]:
    return [(each.addr, each.length, each.lkey) for each in (sg or ())[:num_sge]]


class RecvWR(PyverbsCM):
    """A receive; `next_wr` is posted behind it."""

    def __init__(
        self, wr_id: int = 0, num_sge: int = 0, sg: Sequence[SGE] | None = None, next_wr: RecvWR | None = None
    ) -> None:
        super().__init__()
        self.wr_id = wr_id
        self.num_sge = num_sge
        self.next_wr = next_wr
        self.elements = _copied(sg, num_sge)

    def __str__(self) -> str:
        return f"{'WR ID':<22}: {self.wr_id:<20}\n{'Num SGE':<22}: {self.num_sge:<20}\n"


class SendWR(PyverbsCM):
    """A work request of the send queue; `next_wr` is posted behind it."""

    def __init__(
        self,
        wr_id: int = 0,
        opcode: int = ibv_wr_opcode.IBV_WR_SEND,
        num_sge: int = 0,
        imm_data: int = 0,
        sg: Sequence[SGE] | None = None,
        send_flags: int = ibv_send_flags.IBV_SEND_SIGNALED,
        next_wr: SendWR | None = None,
    ) -> None:
        super().__init__()
        if opcode not in _WITHOUT_MEMORY and (num_sge < 1 or sg is None):
            raise PyverbsUserError("A WR needs at least one SGE")
        self.wr_id = wr_id
        self.opcode = opcode
        self.num_sge = num_sge
        self.imm_data = imm_data
        self.send_flags = send_flags
        self.next_wr = next_wr
        self.elements = _copied(sg, num_sge)
        self.remote_addr = 0
        self.rkey = 0
        self.compare_add = 0
        self.swap = 0
        self.octets = b""
        """Of an atomic Write."""
        self.window: tuple[MW, int, MWBindInfo] | None = None
        """What is bound: a window, its new key, and to what."""

    def set_wr_ud(self, ah: object, rqpn: int, rqkey: int) -> None:
        """For UD, which iWARP has not: the queue pair is refused when it is made."""

    def set_wr_rdma(self, rkey: int, addr: int) -> None:
        """Say where the peer's memory is."""
        self.rkey = rkey
        self.remote_addr = addr

    def set_wr_atomic(self, rkey: int, addr: int, compare_add: int, swap: int = 0) -> None:
        """Say where the peer's eight octets are, and what to do."""
        self.set_wr_rdma(rkey, addr)
        self.compare_add = compare_add
        self.swap = swap

    def set_bind_wr(self, mw: MW, bind_info: MWBindInfo) -> None:
        """Say what is bound to what; the window's key becomes the next one."""
        self.rkey = inc_rkey(mw.rkey)
        self.window = mw, self.rkey, bind_info

    def set_qp_type_xrc(self, remote_srqn: int) -> None:
        """For XRC, which iWARP has not: the queue pair is refused when it is made."""

    def __str__(self) -> str:
        fields = {
            "WR ID": self.wr_id,
            "Num SGE": self.num_sge,
            "Opcode": int(self.opcode),
            "Send flags": send_flags_to_str(self.send_flags),
            "Imm Data": self.imm_data,
        }
        return "".join(f"{name:22}: {value:<20}\n" for name, value in fields.items())


def send_flags_to_str(flags: int) -> str:
    """The names of the flags, each with a blank behind it."""
    return "".join(f"{each.name} " for each in ibv_send_flags if flags & each)
