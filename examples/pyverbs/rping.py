"""rping: a client lends two pieces of memory, the server Reads one and Writes the other, again and again.

    pyiwarp run --pyverbs examples/pyverbs/rping.py -s ADDRESS PORT COUNT SIZE
    pyiwarp run --pyverbs examples/pyverbs/rping.py -c ADDRESS PORT COUNT SIZE

Each works with the rping of rdma-core at the other end. In a message of 16 octets one side says where its memory is;
the other's say that it has read, that it has written.
"""

from __future__ import annotations

import string
import struct
import sys

from pyverbs.cmid import CMID, AddrInfo, ConnParam
from pyverbs.cq import WC
from pyverbs.libibverbs_enums import (
    IBV_ACCESS_LOCAL_WRITE,
    IBV_ACCESS_REMOTE_READ,
    IBV_ACCESS_REMOTE_WRITE,
    IBV_QPT_RC,
    IBV_SEND_SIGNALED,
    IBV_WC_SUCCESS,
)
from pyverbs.librdmacm_enums import RAI_PASSIVE
from pyverbs.mr import MR
from pyverbs.qp import QPCap, QPInitAttr

INFO = struct.Struct("!QII")  # address, rkey, octets
LETTERS = string.ascii_letters.encode()


def done(wc: WC) -> WC:
    assert wc.status == IBV_WC_SUCCESS, wc
    return wc


class End:
    """A connection with memory for one message each way, and for the octets that are moved."""

    def __init__(self, cmid: CMID, size: int) -> None:
        self.cmid = cmid
        self.size = size
        self.inbox, self.outbox = cmid.reg_msgs(INFO.size), cmid.reg_msgs(INFO.size)
        lent = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE
        self.source, self.sink = MR(cmid, size, lent), MR(cmid, size, lent)
        cmid.post_recv(self.inbox)

    def tell(self, mr: MR) -> None:
        self.outbox.write(INFO.pack(mr.buf, mr.rkey, self.size), INFO.size)
        self.cmid.post_send(self.outbox)
        done(self.cmid.get_send_comp())

    def hear(self) -> tuple[int, int, int]:
        """The peer's next message: address, rkey and octets."""
        assert done(self.cmid.get_recv_comp()).byte_len == INFO.size
        address, rkey, octets = INFO.unpack(self.inbox.read(INFO.size, 0))
        self.cmid.post_recv(self.inbox)
        return address, rkey, octets

    def close(self) -> None:
        for each in (self.inbox, self.outbox, self.source, self.sink, self.cmid):
            each.close()


def serve(address: str, port: str, count: int, size: int) -> None:
    listener = CMID(creator=AddrInfo(src=address, src_service=port, flags=RAI_PASSIVE), qp_init_attr=attributes())
    listener.listen()
    print("listening", flush=True)
    peer = listener.get_request()
    end = End(peer, size)
    peer.accept(ConnParam())
    for _ in range(count):
        there, rkey, octets = end.hear()
        peer.post_read(end.sink, octets, there, rkey, IBV_SEND_SIGNALED)
        done(peer.get_send_comp())
        end.tell(end.sink)
        there, rkey, octets = end.hear()
        peer.post_write(end.sink, octets, there, rkey, IBV_SEND_SIGNALED)
        done(peer.get_send_comp())
        end.tell(end.sink)
    assert peer.get_recv_comp().status != IBV_WC_SUCCESS  # the client has left
    end.close()
    listener.close()
    print(f"served {count} pings")


def ping(address: str, port: str, count: int, size: int) -> None:
    peer = CMID(creator=AddrInfo(dst=address, dst_service=port), qp_init_attr=attributes())
    end = End(peer, size)
    peer.connect(ConnParam(retry=7))
    for number in range(count):
        text = f"rdma-ping-{number}: ".encode() + LETTERS * (size // len(LETTERS) + 1)
        text = text[: size - 1] + b"\0"  # the server of rdma-core writes a string
        end.source.write(text, size)
        end.tell(end.source)
        end.hear()  # the server has read it
        end.tell(end.sink)
        end.hear()  # the server has written it
        assert end.sink.read(size, 0) == text, "other octets came back"
    peer.disconnect()
    end.close()
    print(f"{count} pings of {size} octets came back whole")


def attributes() -> QPInitAttr:
    return QPInitAttr(qp_type=IBV_QPT_RC, cap=QPCap(max_send_wr=4, max_recv_wr=4))


if __name__ == "__main__":
    {"-s": serve, "-c": ping}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
