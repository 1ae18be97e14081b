"""A server that sleeps until something happens: events of rdma_cm, and a completion channel that `select` waits for.

    pyiwarp run --pyverbs examples/pyverbs/events.py PORT            # answers two clients, one after the other
    pyiwarp run --pyverbs examples/pyverbs/events.py PORT HOST

A program of this kind asks for the next event before it polls the queue empty, so that none is missed.
"""

from __future__ import annotations

import select
import sys

from pyverbs.cmid import CMID, AddrInfo, CMEvent, CMEventChannel, ConnParam
from pyverbs.cq import CQ, CompChannel
from pyverbs.libibverbs_enums import IBV_QPT_RC, IBV_WC_SUCCESS
from pyverbs.librdmacm_enums import (
    RAI_PASSIVE,
    RDMA_CM_EVENT_ADDR_RESOLVED,
    RDMA_CM_EVENT_CONNECT_REQUEST,
    RDMA_CM_EVENT_DISCONNECTED,
    RDMA_CM_EVENT_ESTABLISHED,
    RDMA_CM_EVENT_ROUTE_RESOLVED,
)
from pyverbs.qp import QPCap, QPInitAttr

CLIENTS, SIZE, PATIENCE = 2, 64, 30_000


def expect(events: CMEventChannel, kind: int) -> CMEvent:
    event = CMEvent(events)
    assert event.event_type == kind, event.event_str()
    return event


class Conversation:
    """A connection whose completions are told by a channel."""

    def __init__(self, cmid: CMID) -> None:
        self.cmid = cmid
        self.channel = CompChannel(cmid.context)
        self.cq = CQ(cmid.context, 8, None, self.channel, 0)
        self.cq.req_notify()
        cap = QPCap(max_send_wr=4, max_recv_wr=4)
        cmid.create_qp(QPInitAttr(qp_type=IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap))
        self.mr = cmid.reg_msgs(SIZE)
        cmid.post_recv(self.mr)

    def completion(self) -> None:
        """Sleep until there is one, and take it."""
        while True:
            found, completions = self.cq.poll(1)
            if found:
                assert completions[0].status == IBV_WC_SUCCESS, completions[0]
                return
            sleeping = select.poll()
            sleeping.register(self.channel.fd, select.POLLIN)
            assert sleeping.poll(PATIENCE), "nothing happened"
            self.channel.get_cq_event(self.cq)
            self.cq.ack_events(1)
            self.cq.req_notify()

    def close(self) -> None:
        for each in (self.mr, self.cmid, self.cq, self.channel):
            each.close()


def serve(port: str) -> None:
    events = CMEventChannel()
    listener = CMID(creator=events)
    listener.bind_addr(AddrInfo(src="127.0.0.1", src_service=port, flags=RAI_PASSIVE))
    listener.listen(CLIENTS)
    print("listening", flush=True)
    for number in range(CLIENTS):
        asked = expect(events, RDMA_CM_EVENT_CONNECT_REQUEST)
        print(f"client {number} says {asked.private_data.decode()}")
        talk = Conversation(CMID(creator=asked, listen_id=listener))
        talk.cmid.accept(ConnParam())
        expect(events, RDMA_CM_EVENT_ESTABLISHED)
        talk.completion()  # a message
        talk.mr.write(talk.mr.read(SIZE, 0).upper(), SIZE)
        talk.cmid.post_send(talk.mr)
        talk.completion()
        expect(events, RDMA_CM_EVENT_DISCONNECTED)
        talk.close()
    listener.close()
    events.close()


def ask(host: str, port: str) -> None:
    events = CMEventChannel()
    cmid = CMID(creator=events)
    cmid.resolve_addr(AddrInfo(dst=host, dst_service=port))
    expect(events, RDMA_CM_EVENT_ADDR_RESOLVED)
    cmid.resolve_route()
    expect(events, RDMA_CM_EVENT_ROUTE_RESOLVED)
    talk = Conversation(cmid)
    param = ConnParam(data_len=5)
    param.set_private_data(b"hello")
    cmid.connect(param)
    expect(events, RDMA_CM_EVENT_ESTABLISHED)
    message = cmid.reg_msgs(SIZE)
    message.write(b"wake up", 7)
    cmid.post_send(message)
    talk.completion()
    talk.completion()  # the message is sent, the answer is here, in either order
    print(talk.mr.read(7, 0).decode())
    cmid.disconnect()
    expect(events, RDMA_CM_EVENT_DISCONNECTED)
    message.close()
    talk.close()
    events.close()


if __name__ == "__main__":
    if sys.argv[2:]:
        ask(sys.argv[2], sys.argv[1])
    else:
        serve(sys.argv[1])
