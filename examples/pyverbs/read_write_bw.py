"""A benchmark of Reads and Writes, as `ib_read_bw` and `ib_write_bw` are: one side lends memory, the other moves it.

    pyiwarp run --pyverbs examples/pyverbs/read_write_bw.py          # lends, and prints its port
    pyiwarp run --pyverbs examples/pyverbs/read_write_bw.py HOST PORT

The side that lends does nothing but wait for the end: one-sided operations are served while its program sleeps.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from pyverbs.addr import GID, AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context, get_device_list
from pyverbs.libibverbs_enums import (
    IBV_ACCESS_LOCAL_WRITE,
    IBV_ACCESS_REMOTE_READ,
    IBV_ACCESS_REMOTE_WRITE,
    IBV_QPT_RC,
    IBV_SEND_SIGNALED,
    IBV_WC_SUCCESS,
    IBV_WR_RDMA_READ,
    IBV_WR_RDMA_WRITE,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

SIZE, MESSAGES, DEPTH = 64 * 1024, 256, 16
ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE


class Side:
    def __init__(self, sock: socket.socket) -> None:
        self.ctx = Context(name=get_device_list()[0].name.decode())
        self.pd = PD(self.ctx)
        self.mr = MR(self.pd, SIZE, ACCESS)
        self.cq = CQ(self.ctx, 2 * DEPTH)
        init = QPInitAttr(qp_type=IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=QPCap(max_send_wr=DEPTH))
        self.qp = QP(self.pd, init, QPAttr(port_num=1, qp_access_flags=ACCESS))
        self.sge = SGE(self.mr.buf, SIZE, self.mr.lkey)
        self.stream = sock.makefile("rw")  # what it has read ahead is read from it alone
        mine = {"gid": str(self.ctx.query_gid(1, 0)), "qpn": self.qp.qp_num, "addr": self.mr.buf, "rkey": self.mr.rkey}
        print(json.dumps(mine), file=self.stream, flush=True)
        self.peer = json.loads(self.stream.readline())
        attr = QPAttr(port_num=1, dest_qp_num=self.peer["qpn"], max_rd_atomic=DEPTH, max_dest_rd_atomic=DEPTH)
        attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=GlobalRoute(dgid=GID(self.peer["gid"])))
        self.qp.to_rts(attr)

    def move(self, opcode: int) -> float:
        """Post `MESSAGES` work requests, `DEPTH` at once; MB/s."""
        request = SendWR(opcode=opcode, num_sge=1, sg=[self.sge], send_flags=IBV_SEND_SIGNALED)
        request.set_wr_rdma(self.peer["rkey"], self.peer["addr"])
        began, posted, done = time.perf_counter(), 0, 0
        while done < MESSAGES:
            while posted < MESSAGES and posted - done < DEPTH:
                self.qp.post_send(request)
                posted += 1
            found, completions = self.cq.poll(DEPTH)
            assert all(wc.status == IBV_WC_SUCCESS for wc in completions), completions
            done += found
        return MESSAGES * SIZE / (time.perf_counter() - began) / 1e6

    def close(self) -> None:
        for each in (self.qp, self.cq, self.mr, self.pd, self.ctx):
            each.close()


def lend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"port {listener.getsockname()[1]}", flush=True)
        sock, _ = listener.accept()
    with sock:
        side = Side(sock)
        side.mr.write(b"lent", 4)
        print("lent", file=side.stream, flush=True)
        side.stream.read()  # the other side leaves when it is done
        print("in the end there is", side.mr.read(7, 0).decode())
        side.close()


def measure(host: str, port: int) -> None:
    with socket.create_connection((host, port)) as sock:
        side = Side(sock)
        side.stream.readline()
        rate = side.move(IBV_WR_RDMA_READ)
        assert side.mr.read(4, 0) == b"lent"
        print(f"Read:  {rate:.0f} MB/s, {MESSAGES} messages of {SIZE} octets")
        side.mr.write(b"written", 7)
        print(f"Write: {side.move(IBV_WR_RDMA_WRITE):.0f} MB/s")
        side.close()


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        lend()
