"""A program of pyverbs in a process of its own, and strangers that ask at its listener octet by octet.

    python -m tests.hostile.pyverbspeers

It has a few queue pairs. It reads orders, one JSON array in a line, and answers each with a line.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import GID, AHAttr, GlobalRoute
from pyiwarp.pyverbs.cq import CQ
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR
from tests.children import first_line, started
from tests.hostile.server import ROOT, Faults, Figures, held_by
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["Program", "Side", "Stranger", "hello", "running"]

SIZE: Final = 64
HEADER: Final = 20
_REJECTED: Final = 0x20


class Side:
    """Queue pairs of one device, each in INIT and with one receive."""

    def __init__(self) -> None:
        self.ctx = Context(name="iw0")
        self.pd = PD(self.ctx)
        self.mr = MR(self.pd, SIZE, e.ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        self.gid = str(self.ctx.query_gid(1, 0))
        self.qps: dict[int, tuple[QP, CQ]] = {}

    def make(self) -> int:
        """One more; its number."""
        cq = CQ(self.ctx, 16)
        init = QPInitAttr(e.ibv_qp_type.IBV_QPT_RC, None, cq, cq, None, QPCap(max_send_wr=4, max_recv_wr=4))
        qp = QP(self.pd, init, QPAttr())
        qp.post_recv(RecvWR(0, 1, [SGE(self.mr.buf, SIZE, self.mr.lkey)]))
        self.qps[qp.qp_num] = qp, cq
        return qp.qp_num

    def meet(self, number: int, gid: str, peer: int) -> None:
        """Move one to RTS, with that peer."""
        attr = QPAttr(dest_qp_num=peer)
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=GID(gid)))
        self.qps[number][0].to_rts(attr)

    def send(self, number: int) -> int:
        """Send, and wait until the peer has it; the status."""
        qp, cq = self.qps[number]
        flags = e.ibv_send_flags.IBV_SEND_SIGNALED
        sge = SGE(self.mr.buf, SIZE, self.mr.lkey)
        qp.post_send(SendWR(1, e.ibv_wr_opcode.IBV_WR_SEND, 1, 0, [sge], flags))
        self.ctx.core.wait(lambda: cq.queue.completions, PATIENCE)
        _, (completion,) = cq.poll(1)
        return int(completion.status)

    def received(self, number: int) -> int:
        """Wait for what its receive has come to; the status."""
        _, cq = self.qps[number]
        self.ctx.core.wait(lambda: cq.queue.completions, PATIENCE)
        _, (completion,) = cq.poll(1)
        return int(completion.status)

    def drop(self, number: int) -> None:
        """Close one."""
        qp, cq = self.qps.pop(number)
        qp.close()
        cq.close()

    def close(self) -> None:
        """Close all."""
        self.ctx.close()


def main() -> None:
    faults, side = Faults(), Side()

    orders: dict[str, Callable[..., object]] = {
        "make": side.make,
        "meet": side.meet,
        "received": side.received,
        "drop": side.drop,
        "figures": lambda: (threading.active_count(), faults.count),
    }
    print(json.dumps(side.gid), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(orders[name](*arguments)), flush=True)
    side.close()


# --- in the process of the tests -------------------------------------------------------------------------------------


class Program:
    """The program in the other process; `gid` is its address."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.gid: str = json.loads(first_line(child))

    def order(self, *words: Any) -> Any:
        """Have something done; the answer."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(words) + "\n")
        self.child.stdin.flush()
        return json.loads(first_line(self.child))

    def figures(self) -> Figures:
        """What it has now."""
        tasks, faults = self.order("figures")
        return Figures(0, tasks, faults, *held_by(self.child.pid))

    def at_rest(self, before: Figures) -> Figures:
        """What it has when no more is open than before; after a while, what it has then."""
        until = time.monotonic() + PATIENCE
        while (now := self.figures()).descriptors > before.descriptors and time.monotonic() < until:
            time.sleep(0.02)
        return now


@contextmanager
def running() -> Iterator[Program]:
    """The program while the block runs; what it writes to standard error is shown."""
    command = [sys.executable, "-m", "tests.hostile.pyverbspeers"]
    with started(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield Program(child)


def raw(gid: str) -> bytes:
    return bytes.fromhex(gid.replace(":", ""))


def hello(caller: tuple[str, int], callee: tuple[str, int]) -> bytes:
    """What a caller says, written here by hand: who asks for whom."""
    return b"pyv1" + raw(caller[0]) + struct.pack(">I", caller[1]) + raw(callee[0]) + struct.pack(">I", callee[1])


def request_of(private_data: bytes) -> bytes:
    """An MPA Request of revision 2 that asks for CRC."""
    data = struct.pack(">HH", 2, 2) + private_data
    return b"MPA ID Req Frame" + struct.pack(">BBH", 0x50, 2, len(data)) + data


class Stranger:
    """A TCP peer of the listener that `number` names, who sends `octets`."""

    def __init__(self, number: int, octets: bytes) -> None:
        self.sock = socket.create_connection((HOST, number >> 8), PATIENCE)
        self.sock.sendall(octets)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def answer(self) -> str:
        """What becomes of the Request: accepted, rejected, or closed without a Reply."""
        with suppress(ConnectionError):
            header = self.sock.recv(HEADER, socket.MSG_WAITALL)
            if len(header) == HEADER:
                return "rejected" if header[16] & _REJECTED else "accepted"
        return "closed"


if __name__ == "__main__":
    main()
