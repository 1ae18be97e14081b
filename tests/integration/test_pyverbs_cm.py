"""Identifiers of rdma_cm as programs of pyverbs use them: synchronous ones, and those with a channel of events."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyiwarp.pyverbs.addr import AH, GID, GRH, AHAttr, GlobalRoute
from pyiwarp.pyverbs.cmid import CMID, AddrInfo, CMEvent, CMEventChannel, ConnParam, JoinMCAttrEx, UDParam
from pyiwarp.pyverbs.cq import CQ
from pyiwarp.pyverbs.libibverbs_enums import (
    ibv_access_flags,
    ibv_qp_attr_mask,
    ibv_qp_state,
    ibv_qp_type,
    ibv_send_flags,
    ibv_wc_status,
)
from pyiwarp.pyverbs.librdmacm_enums import (
    RAI_NUMERICHOST,
    RAI_PASSIVE,
    RDMA_OPTION_ID,
    RDMA_OPTION_ID_ACK_TIMEOUT,
    rdma_cm_event_type,
    rdma_port_space,
)
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.qp import QP, QPCap, QPInitAttr
from tests.children import finished
from tests.hosts import HOST
from tests.integration.socketrig import within
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
EVENT = rdma_cm_event_type
RC = ibv_qp_type.IBV_QPT_RC
OK = ibv_wc_status.IBV_WC_SUCCESS


def attributes() -> QPInitAttr:
    return QPInitAttr(cap=QPCap(max_send_wr=4, max_recv_wr=4))  # UD says the default, RC the port space


def listening(init: QPInitAttr | None = None) -> CMID:
    listener = CMID(AddrInfo(src=HOST, src_service="0", flags=RAI_PASSIVE), init)
    listener.listen()
    return listener


def port_of(listener: CMID) -> str:
    assert listener.id.local_addr is not None
    return str(listener.id.local_addr[1])


@contextmanager
def beside(run: Callable[[], None]) -> Iterator[None]:
    """Run in another thread; what it raises is raised here."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def close(*objects: Any) -> None:
    for each in objects:
        each.close()


def test_synchronous_identifiers_send_read_and_write() -> None:
    listener = listening(attributes())
    told: list[tuple[int, int]] = []
    is_told, is_done = threading.Event(), threading.Event()

    def serve() -> None:
        peer = within(listener.get_request)
        inbox, shared = peer.reg_msgs(16), peer.reg_write(16)
        readable = peer.reg_read(16)
        readable.write(b"to be read", 10)
        peer.post_recv(inbox)
        peer.accept()
        told.extend([(shared.buf, shared.rkey), (readable.buf, readable.rkey)])
        is_told.set()
        received = within(peer.get_recv_comp)
        assert received is not None
        assert (received.status, received.byte_len) == (OK, 5)
        assert inbox.read(5, 0) == b"hello"
        assert shared.read(7, 0) == b"written"
        assert is_done.wait(PATIENCE)
        peer.disconnect()
        close(inbox, shared, readable, peer)

    with beside(serve):
        one = CMID(AddrInfo(dst=HOST, dst_service=port_of(listener)), attributes())
        assert one.dev_name == "iw0"
        assert one.context is one.ctx
        one.connect()
        assert is_told.wait(PATIENCE)
        mr = one.reg_msgs(16)
        mr.write(b"written", 7)
        one.post_write(mr, 7, *told[0])
        written = within(one.get_send_comp)
        assert written is not None
        assert written.status == OK
        one.post_read(mr, 10, *told[1], flags=ibv_send_flags.IBV_SEND_SIGNALED)
        read = within(one.get_send_comp)
        assert read is not None
        assert (read.status, mr.read(10, 0)) == (OK, b"to be read")
        mr.write(b"hello", 5)
        one.post_send(mr, length=5)
        sent = within(one.get_send_comp)
        assert sent is not None
        assert sent.status == OK
        is_done.set()
    close(mr, one, listener)


class Asynchronous:
    """An identifier with a channel of its own; `expect` takes its events."""

    def __init__(self) -> None:
        self.channel = CMEventChannel()
        self.cmid = CMID(self.channel)

    def expect(self, kind: int) -> CMEvent:
        event = within(lambda: CMEvent(self.channel))
        assert event.event_type == kind, event.event_str()
        event.ack_cm_event()
        return event

    def resolve(self, port: str) -> None:
        self.cmid.resolve_addr(AddrInfo(src=HOST, dst=HOST, dst_service=port))
        self.expect(EVENT.RDMA_CM_EVENT_ADDR_RESOLVED)
        self.cmid.resolve_route()
        self.expect(EVENT.RDMA_CM_EVENT_ROUTE_RESOLVED)

    def close(self) -> None:
        close(self.cmid, self.channel)


def asynchronous_listener() -> Asynchronous:
    there = Asynchronous()
    there.cmid.bind_addr(AddrInfo(src=HOST, src_service="0", flags=RAI_PASSIVE))
    there.cmid.listen()
    return there


def init_attr(**queues: Any) -> QPInitAttr:
    return QPInitAttr(qp_type=RC, cap=QPCap(max_send_wr=4, max_recv_wr=4), **queues)


def test_events_tell_of_a_connection_from_its_beginning_to_its_end() -> None:
    here, there = Asynchronous(), asynchronous_listener()
    here.resolve(port_of(there.cmid))
    here.cmid.set_option(RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, 17, 1)
    here.cmid.create_qp(init_attr())
    param = ConnParam(data_len=8)
    param.set_private_data(b"who asks, cut off")
    here.cmid.connect(param)
    asked = there.expect(EVENT.RDMA_CM_EVENT_CONNECT_REQUEST)
    assert asked.private_data == b"who asks"
    child = CMID(asked, listen_id=there.cmid)
    child.create_qp(init_attr())
    answer = ConnParam(data_len=6)
    answer.set_private_data(b"answer")
    child.accept(answer)
    there.expect(EVENT.RDMA_CM_EVENT_ESTABLISHED)
    assert here.expect(EVENT.RDMA_CM_EVENT_ESTABLISHED).private_data == b"answer"
    attr, _ = here.cmid.query_qp(ibv_qp_attr_mask.IBV_QP_STATE)
    assert (attr.qp_state, attr.timeout) == (ibv_qp_state.IBV_QPS_RTS, 17)
    assert here.cmid.qpn != child.qpn
    child.disconnect()
    here.expect(EVENT.RDMA_CM_EVENT_DISCONNECTED)
    there.expect(EVENT.RDMA_CM_EVENT_DISCONNECTED)
    close(child, here, there)


def test_a_rejection_brings_octets_along() -> None:
    here, there = Asynchronous(), asynchronous_listener()
    here.resolve(port_of(there.cmid))
    here.cmid.create_qp(init_attr())
    here.cmid.connect()
    child = CMID(there.expect(EVENT.RDMA_CM_EVENT_CONNECT_REQUEST), listen_id=there.cmid)
    child.reject(b"not today")
    assert here.expect(EVENT.RDMA_CM_EVENT_REJECTED).private_data == b"not today"
    close(child, here, there)


def test_queue_pairs_that_no_identifier_has_made_are_connected_by_number() -> None:
    here, there = Asynchronous(), asynchronous_listener()
    here.resolve(port_of(there.cmid))

    def made(cmid: CMID) -> QP:
        assert cmid.context is not None
        assert cmid.pd is not None
        cq = CQ(cmid.context, 8)
        return QP(cmid.pd, init_attr(scq=cq, rcq=cq))

    def move(cmid: CMID, qp: QP) -> None:
        for state in (ibv_qp_state.IBV_QPS_INIT, ibv_qp_state.IBV_QPS_RTR, ibv_qp_state.IBV_QPS_RTS):
            qp.modify(*cmid.init_qp_attr(state))

    mine = made(here.cmid)
    with pytest.raises(PyverbsRDMAError, match="Failed to Connect"):
        here.cmid.connect()  # it names no queue pair
    here.cmid.connect(ConnParam(qp_num=mine.qp_num))
    child = CMID(there.expect(EVENT.RDMA_CM_EVENT_CONNECT_REQUEST), listen_id=there.cmid)
    theirs = made(child)
    move(child, theirs)
    child.accept(ConnParam(qp_num=theirs.qp_num))
    here.expect(EVENT.RDMA_CM_EVENT_CONNECT_RESPONSE)
    move(here.cmid, mine)
    here.cmid.establish()
    there.expect(EVENT.RDMA_CM_EVENT_ESTABLISHED)
    with pytest.raises(PyverbsRDMAError, match="Failed to Post Send"):
        here.cmid.post_send(MR(here.cmid, 8, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE))  # it has none of its own
    assert (mine.qp_state, theirs.qp_state) == (ibv_qp_state.IBV_QPS_RTS,) * 2
    here.cmid.disconnect()
    here.expect(EVENT.RDMA_CM_EVENT_DISCONNECTED)
    close(mine, theirs, child, here, there)


def test_a_listener_that_is_gone_refuses() -> None:
    listener = listening()
    port = port_of(listener)
    listener.close()
    one = CMID(AddrInfo(dst=HOST, dst_service=port), attributes())
    with pytest.raises(PyverbsRDMAError, match="Failed to Connect") as refused:
        one.connect()
    assert refused.value.error_code == errno.ECONNREFUSED
    one.close()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PyverbsRDMAError, match="Failed to get Address Info"):
        AddrInfo(dst="nobody.invalid", dst_service="1", flags=RAI_NUMERICHOST)
    with pytest.raises(PyverbsRDMAError) as unsupported:
        CMID(CMEventChannel(), port_space=rdma_port_space.RDMA_PS_UDP)
    assert unsupported.value.error_code == errno.EOPNOTSUPP
    wrong: Any = "a name"
    with pytest.raises(PyverbsError, match="Cannot create CM ID"):
        CMID(wrong)
    with CMID(CMEventChannel()) as cmid:
        for call, code in (
            (lambda: cmid.connect(), errno.EINVAL),
            (lambda: cmid.disconnect(), errno.EINVAL),
            (lambda: cmid.reject(), errno.EINVAL),
            (lambda: cmid.resolve_route(), errno.EINVAL),
            (lambda: cmid.create_qp(init_attr()), errno.EINVAL),
            (lambda: cmid.create_qp(QPInitAttr()), errno.EOPNOTSUPP),
            (lambda: cmid.get_send_comp(), errno.EINVAL),
            (lambda: cmid.get_request(), errno.EINVAL),
            (lambda: cmid.join_multicast(), errno.EOPNOTSUPP),
            (lambda: cmid.set_local_ece(None), errno.EOPNOTSUPP),
            (lambda: cmid.set_option(RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, 1, 2), errno.EINVAL),
            (lambda: UDParam(None), errno.EOPNOTSUPP),
        ):
            with pytest.raises(PyverbsRDMAError) as refused:
                call()
            assert refused.value.error_code == code
        with pytest.raises(PyverbsUserError, match="ACK_TIMEOUT"):
            cmid.set_option(RDMA_OPTION_ID, 1, 1, 1)
    with pytest.raises(PyverbsRDMAError, match="closed"):
        cmid.listen()


def test_an_identifier_that_is_dropped_ends_its_connection() -> None:
    listener = listening(attributes())
    with beside(lambda: CMID(AddrInfo(dst=HOST, dst_service=port_of(listener)), attributes()).connect()):
        peer = within(listener.get_request)
        mr = peer.reg_msgs(8)
        peer.post_recv(mr)
        peer.accept()
    flushed = within(peer.get_recv_comp)
    assert flushed is not None
    assert flushed.status != OK
    close(mr, peer, listener)


def test_addresses_are_values() -> None:
    gid = GID("0000:0000:0000:0000:0000:ffff:7f00:0001")
    assert gid.raw == bytes(10) + b"\xff\xff\x7f\x00\x00\x01"
    route = GlobalRoute(dgid=gid, sgid_index=3, hop_limit=7)
    attr = AHAttr(is_global=1, gr=route, port_num=1, sl=2)
    assert (attr.dgid, attr.sgid_index, attr.hop_limit, attr.sl) == (str(gid), 3, 7, 2)
    attr.dgid = "fe80:0000:0000:0000:0000:0000:0000:0001"
    assert attr.raw == b"\xfe\x80" + bytes(13) + b"\x01"
    assert route.dgid == gid.gid
    local = AHAttr(dlid=5)
    assert (local.dlid, local.dgid, local.flow_label) == (5, None, None)
    assert "hop limit" in str(attr)
    assert "hop limit" not in str(local)
    assert "traffic class" in str(route)
    assert "next header           : 27" in str(GRH(gid, gid, next_hdr=27))
    with pytest.raises(PyverbsUserError, match="Invalid GID"):
        GID("127.0.0.1")
    with pytest.raises(PyverbsUserError, match="gr parameter is None"):
        AHAttr(is_global=1)
    with pytest.raises(PyverbsRDMAError) as unsupported:
        AH(None, attr=attr)
    assert unsupported.value.error_code == errno.EOPNOTSUPP


def test_parameters_are_printed() -> None:
    assert "responder resources: 3" in str(ConnParam(resources=3))
    assert JoinMCAttrEx(comp_mask=1).comp_mask == 1


INTERRUPTED = """
import os, signal, threading
from tests.integration.test_pyverbs_cm import CMEvent, asynchronous_listener, attributes, close, listening
there, listener = asynchronous_listener(), listening(attributes())
for wait in (lambda: CMEvent(there.channel), listener.get_request):
    pressing = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    try:
        wait()
    except KeyboardInterrupt:
        pressing.join()
    else:
        raise AssertionError("it was not interrupted")
close(there, listener)
print("interrupted twice")
"""


def test_ctrl_c_ends_a_wait_for_events() -> None:
    run = finished([sys.executable, "-c", INTERRUPTED], cwd=ROOT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "interrupted twice\n", "")
