"""What the stand-in for pyverbs costs: a confirmed Send beside that of `pyiwarp.blocking`; Reads from who sleeps.

The programs are written as those of pyverbs are. They tell each other GID and queue pair number over a socket.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from benchmarks.pairs import HOST, Job, Sample, filled
from benchmarks.timing import whole
from pyiwarp import blocking
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import GID, AHAttr, GlobalRoute
from pyiwarp.pyverbs.cq import CQ
from pyiwarp.pyverbs.device import Context, get_device_list
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR
from pyiwarp.verbs import Context as Opened
from pyiwarp.verbs import QpCap, QueuePair, Recv, Send

__all__ = [
    "polling_server",
    "read_client",
    "send_client",
    "send_client_blocking",
    "send_server",
    "send_server_blocking",
    "sleeping_server",
]

DEPTH: Final = 64
ACCESS: Final = e.ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | e.ibv_access_flags.IBV_ACCESS_REMOTE_READ


class Side:
    """One program of pyverbs: a queue pair that is in RTS, and memory that the peer may read."""

    def __init__(self, job: Job, sock: socket.socket) -> None:
        self.ctx = Context(name=get_device_list()[0].name.decode())
        self.pd = PD(self.ctx)
        self.mr = MR(self.pd, job.size, ACCESS)
        self.mr.write(bytes(filled(job.size)), job.size)
        self.cq = CQ(self.ctx, 2 * DEPTH)
        cap = QPCap(max_send_wr=DEPTH, max_recv_wr=DEPTH)
        init = QPInitAttr(e.ibv_qp_type.IBV_QPT_RC, None, self.cq, self.cq, None, cap)
        self.qp = QP(self.pd, init, QPAttr(qp_access_flags=int(ACCESS)))  # in INIT
        self.sge = SGE(self.mr.buf, job.size, self.mr.lkey)
        self.peer = self._meet(sock)

    def _meet(self, sock: socket.socket) -> dict[str, Any]:
        mine = {"gid": str(self.ctx.query_gid(1, 0)), "qpn": self.qp.qp_num, "addr": self.mr.buf, "rkey": self.mr.rkey}
        sock.sendall(json.dumps(mine).encode() + b"\n")
        with sock.makefile() as lines:
            peer: dict[str, Any] = json.loads(lines.readline())
        attr = QPAttr(dest_qp_num=peer["qpn"])
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=GID(peer["gid"])))
        for _ in range(DEPTH):
            self.receive()
        self.qp.to_rts(attr)
        return peer

    def receive(self) -> None:
        """Post a receive."""
        self.qp.post_recv(RecvWR(0, 1, [self.sge]))

    def post(self, opcode: int) -> None:
        """Post a Send or a Read."""
        request = SendWR(0, opcode, 1, 0, [self.sge], e.ibv_send_flags.IBV_SEND_SIGNALED)
        request.set_wr_rdma(self.peer["rkey"], self.peer["addr"])
        self.qp.post_send(request)

    def done(self) -> None:
        """Wait for one completion."""
        while not (taken := self.cq.poll(1))[0]:
            pass
        (completion,) = taken[1]
        if completion.status != e.ibv_wc_status.IBV_WC_SUCCESS:
            raise RuntimeError(f"a work request failed: {completion}")

    def serve(self) -> None:
        """Poll, and post receives again, until the peer leaves."""
        while True:
            count, completions = self.cq.poll(DEPTH)
            if any(each.status != e.ibv_wc_status.IBV_WC_SUCCESS for each in completions):
                return
            for _ in range(count):
                self.receive()

    def close(self) -> None:
        """Close everything."""
        self.ctx.close()


def _server(job: Job, announce: Callable[[int], None], serve: Callable[[Side, socket.socket], None]) -> None:
    with socket.create_server((HOST, 0)) as listener:
        announce(listener.getsockname()[1])
        sock, _ = listener.accept()
    with sock:
        side = Side(job, sock)
        serve(side, sock)
        side.close()


def send_server(job: Job, announce: Callable[[int], None]) -> None:
    """Take Sends."""
    _server(job, announce, lambda side, sock: side.serve())


polling_server = send_server
"""Let itself be read, and poll meanwhile."""


def sleeping_server(job: Job, announce: Callable[[int], None]) -> None:
    """Let itself be read, and sleep in a call that knows nothing of it."""
    _server(job, announce, lambda side, sock: _until_closed(sock))


def _until_closed(sock: socket.socket) -> None:
    """Sleep until the peer has closed the socket."""
    while sock.recv(1):
        pass


def _client(job: Job, port: int, opcode: int) -> Sample:
    with socket.create_connection((HOST, port)) as sock:
        side = Side(job, sock)

        def one() -> None:
            side.post(opcode)
            side.done()

        sample = whole(job, one)
        side.close()
    return sample


def send_client(job: Job, port: int) -> Sample:
    """Send, and wait for the completion, which says that the peer has it."""
    return _client(job, port, e.ibv_wr_opcode.IBV_WR_SEND)


def read_client(job: Job, port: int) -> Sample:
    """Read, and wait for the completion."""
    return _client(job, port, e.ibv_wr_opcode.IBV_WR_RDMA_READ)


# --- pyiwarp.blocking ------------------------------------------------------------------------------------------------


class BlockingSide:
    """A queue pair of the stack that confirms what it sends, as those of the stand-in do."""

    def __init__(self, job: Job) -> None:
        self.pd = Opened().alloc_pd()
        self.cq = self.pd.context.create_cq(2 * DEPTH + 2)
        cap = QpCap(max_send_wr=DEPTH, max_recv_wr=DEPTH)
        self.qp: QueuePair = self.pd.create_qp(self.cq, self.cq, cap, confirm=True, pause_when_starved=True)
        self.sge = self.pd.register(filled(job.size))[:]
        for _ in range(DEPTH):
            self.qp.post_recv(Recv((self.sge,)))

    def done(self) -> None:
        """Wait for one completion."""
        while not (taken := self.cq.poll(1)):
            pass
        if not taken[0].ok:
            raise RuntimeError(f"a work request failed: {taken[0]}")

    def serve(self) -> None:
        """Poll, and post receives again, until the peer leaves."""
        while True:
            for completion in self.cq.poll(DEPTH):
                if not completion.ok:
                    return
                self.qp.post_recv(Recv((self.sge,)))


def send_server_blocking(job: Job, announce: Callable[[int], None]) -> None:
    """Take Sends."""
    side = BlockingSide(job)
    with blocking.listen(HOST) as listener:
        announce(listener.port)
        listener.get_request().accept_qp(side.qp)
    side.serve()
    side.pd.context.close()


def send_client_blocking(job: Job, port: int) -> Sample:
    """Send, and wait for the completion, which says that the peer has it."""
    side = BlockingSide(job)
    blocking.connect_qp(side.qp, HOST, port)

    def one() -> None:
        side.qp.post_send(Send((side.sge,)))
        side.done()

    sample = whole(job, one)
    side.pd.context.close()
    return sample
