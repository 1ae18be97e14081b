"""Ping-pong by rdma_cm: identifiers find each other by address and port, as `rping` does.

    pyiwarp run --pyverbs examples/pyverbs/cm_pingpong.py PORT
    pyiwarp run --pyverbs examples/pyverbs/cm_pingpong.py PORT HOST

The identifiers are synchronous: each step returns when it is over.
"""

from __future__ import annotations

import sys
import time

from pyverbs.cmid import CMID, AddrInfo
from pyverbs.cq import WC
from pyverbs.libibverbs_enums import IBV_QPT_RC, IBV_WC_SUCCESS
from pyverbs.librdmacm_enums import RAI_PASSIVE, RDMA_PS_TCP
from pyverbs.qp import QPCap, QPInitAttr

ROUNDS, SIZE = 200, 1024


def attributes() -> QPInitAttr:
    return QPInitAttr(qp_type=IBV_QPT_RC, cap=QPCap(max_send_wr=4, max_recv_wr=4))


def taken(wc: WC) -> None:
    assert wc.status == IBV_WC_SUCCESS, wc


def serve(port: str) -> None:
    listener = CMID(
        creator=AddrInfo(src="127.0.0.1", src_service=port, port_space=RDMA_PS_TCP, flags=RAI_PASSIVE),
        qp_init_attr=attributes(),
    )
    listener.listen()
    print("listening", flush=True)
    peer = listener.get_request()
    mr = peer.reg_msgs(SIZE)
    peer.post_recv(mr)
    peer.accept()
    for _ in range(ROUNDS):
        taken(peer.get_recv_comp())
        word = mr.read(5, 0)
        peer.post_recv(mr)
        mr.write(word.replace(b"ping", b"pong"), 5)
        peer.post_send(mr)
        taken(peer.get_send_comp())
    taken(peer.get_recv_comp())  # the client has the last one, and leaves
    peer.disconnect()
    for each in (mr, peer, listener):
        each.close()
    print(f"answered {ROUNDS} times")


def play(host: str, port: str) -> None:
    peer = CMID(creator=AddrInfo(dst=host, dst_service=port, port_space=RDMA_PS_TCP), qp_init_attr=attributes())
    mr = peer.reg_msgs(SIZE)
    peer.connect()
    began = time.perf_counter()
    for _ in range(ROUNDS):
        peer.post_recv(mr)
        mr.write(b"ping!", 5)
        peer.post_send(mr)
        taken(peer.get_send_comp())
        taken(peer.get_recv_comp())
        assert mr.read(5, 0) == b"pong!"
    passed = time.perf_counter() - began
    peer.post_send(mr)  # the server waits for it: who leaves at once leaves the server's last Send without an answer
    taken(peer.get_send_comp())
    peer.disconnect()
    for each in (mr, peer):
        each.close()
    print(f"{ROUNDS} round trips of {SIZE} octets, {passed / ROUNDS * 1e6:.0f} microseconds each")


if __name__ == "__main__":
    if sys.argv[2:]:
        play(sys.argv[2], sys.argv[1])
    else:
        serve(sys.argv[1])
