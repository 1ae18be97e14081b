"""Ping-pong between two queue pairs that two programs connect themselves, as `ibv_rc_pingpong` does.

    pyiwarp run --pyverbs examples/pyverbs/rc_pingpong.py            # waits for a peer, and prints its port
    pyiwarp run --pyverbs examples/pyverbs/rc_pingpong.py HOST PORT

The two tell each other GID and queue pair number over a socket. It is a program for pyverbs like any other: with
hardware and rdma-core, `python rc_pingpong.py` runs it.
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
    IBV_QPT_RC,
    IBV_SEND_SIGNALED,
    IBV_WC_RECV,
    IBV_WC_SUCCESS,
    IBV_WR_SEND,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

ROUNDS, SIZE, DEPTH = 200, 1024, 8
PORT, GID_INDEX = 1, 0


class Side:
    """A queue pair with memory for one message."""

    def __init__(self) -> None:
        self.ctx = Context(name=get_device_list()[0].name.decode())
        self.pd = PD(self.ctx)
        self.mr = MR(self.pd, SIZE, IBV_ACCESS_LOCAL_WRITE)
        self.cq = CQ(self.ctx, 2 * DEPTH)
        cap = QPCap(max_send_wr=DEPTH, max_recv_wr=DEPTH)
        init = QPInitAttr(qp_type=IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap)
        self.qp = QP(self.pd, init, QPAttr(port_num=PORT))  # in INIT
        self.sge = SGE(self.mr.buf, SIZE, self.mr.lkey)

    def meet(self, sock: socket.socket) -> None:
        """Tell the peer where this queue pair is, hear the same of it, and go to RTS."""
        stream = sock.makefile("rw")
        print(
            json.dumps({"gid": str(self.ctx.query_gid(PORT, GID_INDEX)), "qpn": self.qp.qp_num}),
            file=stream,
            flush=True,
        )
        peer = json.loads(stream.readline())
        route = GlobalRoute(dgid=GID(peer["gid"]), sgid_index=GID_INDEX)
        attr = QPAttr(port_num=PORT)
        attr.ah_attr = AHAttr(port_num=PORT, is_global=1, gr=route)
        attr.dest_qp_num = peer["qpn"]
        attr.timeout, attr.retry_cnt, attr.rnr_retry = 14, 7, 7
        self.qp.to_rts(attr)

    def receive(self) -> None:
        self.qp.post_recv(RecvWR(sg=[self.sge], num_sge=1))

    def send(self, text: bytes) -> None:
        self.mr.write(text, len(text))
        self.qp.post_send(SendWR(opcode=IBV_WR_SEND, num_sge=1, sg=[self.sge], send_flags=IBV_SEND_SIGNALED))

    def wait(self, completions: int) -> None:
        while completions:
            found, wcs = self.cq.poll(completions)
            completions -= found
            for wc in wcs:
                assert wc.status == IBV_WC_SUCCESS, wc
                assert wc.opcode != IBV_WC_RECV or wc.byte_len == SIZE, wc

    def close(self) -> None:
        for each in (self.qp, self.cq, self.mr, self.pd, self.ctx):
            each.close()


def serve() -> None:
    side = Side()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"port {listener.getsockname()[1]}", flush=True)
        sock, _ = listener.accept()
    with sock:
        side.receive()
        side.meet(sock)
        for _ in range(ROUNDS):
            side.wait(1)  # the ping
            word = side.mr.read(5, 0)
            side.receive()
            side.send(word.replace(b"ping", b"pong"))
            side.wait(1)
        sock.recv(1)  # the peer has taken the last one
    side.close()
    print(f"answered {ROUNDS} times")


def play(host: str, port: int) -> None:
    side = Side()
    with socket.create_connection((host, port)) as sock:
        side.receive()
        side.meet(sock)
        began = time.perf_counter()
        for _ in range(ROUNDS):
            side.send(b"ping!")
            side.wait(2)  # the ping is sent, the pong is here
            assert side.mr.read(5, 0) == b"pong!"
            side.receive()
        passed = time.perf_counter() - began
    side.close()
    print(f"{ROUNDS} round trips of {SIZE} octets, {passed / ROUNDS * 1e6:.0f} microseconds each")


if __name__ == "__main__":
    if sys.argv[1:]:
        play(sys.argv[1], int(sys.argv[2]))
    else:
        serve()
