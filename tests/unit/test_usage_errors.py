"""Errors of use: each raises one documented exception, with the values in its message. docs/errors.md lists them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyiwarp.errors import (
    TERMS,
    BadMemory,
    BadWorkRequest,
    Closed,
    IwarpError,
    QueueFull,
    RegionInUse,
    UsageError,
    WrongState,
    WrongThread,
)
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.queues.attribution import STATUSES
from pyiwarp.queues.event_queues import AsyncEventType
from pyiwarp.queues.qp import QpCap, QpState, QueuePair
from pyiwarp.queues.srq import SharedReceiveQueue
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Recv, Send, Status, Write
from pyiwarp.verbs import Device
from tests.harness import Node, RawPeer

SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


class Scene:
    """A connected queue pair of small size, and things that do not belong to it."""

    def __init__(self) -> None:
        cap = QpCap(max_send_wr=2, max_recv_wr=2, max_sge=2, max_inline=16)
        self.node = Node(
            Device("small", max_cqe=8, max_qp_wr=4, max_sge=4, max_mr=9, debug=True).open(), depth=8, cap=cap
        )
        self.qp, self.pd, self.context = self.node.qp, self.node.pd, self.node.context
        self.peer = RawPeer(self.node)
        self.srq = self.pd.create_srq(2, 1)
        self.region = self.node.region(16)
        self.foreign = self.context.alloc_pd().register(bytearray(8))
        self.read_only = self.node.region(b"0123", Access.REMOTE_READ)

    def many(self, call: Callable[[], object], count: int) -> None:
        for _ in range(count):
            call()

    def in_another_thread(self, call: Callable[[], object]) -> None:
        raised: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except IwarpError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(10)
        raise raised[0]

    def in_two_loops(self, call: Callable[[], object]) -> None:
        async def use() -> None:
            call()

        for _ in range(2):
            asyncio.run(use())

    def node_without(self) -> Node:
        """A queue pair that was never connected."""
        return Node()

    def half_closed(self) -> QueuePair:
        peer = RawPeer(Node(half_close=True))
        peer.closes()
        return peer.node.qp

    def held(self) -> MemoryRegion:
        self.qp.post_recv(Recv((self.region[:],)))
        return self.region

    def shared(self) -> SharedReceiveQueue:
        srq = self.pd.create_srq(1, 1)
        self.pd.create_qp(self.node.send_cq, self.node.recv_cq, self.qp.cap, srq=srq)
        return srq

    def three_posted(self) -> SharedReceiveQueue:
        srq = self.pd.create_srq(4, 1)
        self.many(lambda: srq.post_recv(Recv()), 3)
        return srq

    def closed(self, thing: Any) -> Any:
        thing.close()
        return thing


class Row(NamedTuple):
    """One error: what was wrong, how it is provoked, what is raised, what the message says."""

    wrong: str
    call: Callable[[Scene], object]
    raised: type[UsageError]
    message: str


ROWS = [
    Row(
        "A work request names a region of another protection domain",
        lambda s: s.qp.post_send(Send((s.foreign[:],))),
        BadMemory,
        r"the region belongs to another protection domain: <MemoryRegion STag=0x",
    ),
    Row(
        "A work request would write memory that does not grant LOCAL_WRITE",
        lambda s: s.qp.post_recv(Recv((s.read_only[:],))),
        BadMemory,
        r"the region does not grant LOCAL_WRITE: <MemoryRegion",
    ),
    Row(
        "An SGE reaches outside its region",
        lambda s: s.qp.post_send(Send((s.region[:]._replace(offset=9),))),
        BadMemory,
        r"octets 9..25 lie outside <MemoryRegion",
    ),
    Row(
        "More SGEs than the queue pair takes",
        lambda s: s.qp.post_send(Send((s.region[:],) * 3)),
        BadWorkRequest,
        "3 SGEs; this queue pair takes 2",
    ),
    Row(
        "More octets inline than the queue pair takes",
        lambda s: s.qp.post_send(Send(inline=bytes(17))),
        BadWorkRequest,
        "17 octets inline and 0 SGEs; 16 may be",
    ),
    Row(
        "Remote memory that does not fit STag and TO",
        lambda s: s.qp.post_send(Write((s.region[:],), RemoteRegion((1 << 64) - 1, 0x77, 16))),
        BadWorkRequest,
        "16 octets cannot be named by STag 0x77 TO 0xffffffffffffffff",
    ),
    Row(
        "Immediate Data of another length than 8 octets",
        lambda s: s.qp.post_send(Immediate(b"1234567")),
        BadWorkRequest,
        "Immediate Data has 8 octets, not 7",
    ),
    Row(
        "An operand of an Atomic with more than 64 bits",
        lambda s: s.qp.post_send(FetchAdd(SOMEWHERE, 1 << 64)),
        BadWorkRequest,
        r"an operand of an Atomic is a number from 0 to 2\^64 - 1, not 18446744073709551616",
    ),
    Row(
        "A Read or Atomic, or a confirmed completion, where ORD is 0",
        lambda s: RawPeer(s.node_without(), ord=0).node.qp.post_send(Read(None, SOMEWHERE)),
        BadWorkRequest,
        "ORD is 0: the peer answers no Reads and no Atomics",
    ),
    Row(
        "A queue pair made with a completion queue of another context",
        lambda s: s.pd.create_qp(Device().open().create_cq(1), s.node.recv_cq, s.qp.cap),
        BadWorkRequest,
        "the completion queue belongs to another context: <CompletionQueue 0 of 1>",
    ),
    Row(
        "A queue pair made with a shared receive queue of another protection domain",
        lambda s: s.pd.create_qp(s.node.send_cq, s.node.recv_cq, s.qp.cap, srq=s.context.alloc_pd().create_srq(1, 1)),
        BadWorkRequest,
        "the shared receive queue belongs to another protection domain: <SharedReceiveQueue 0 of 1",
    ),
    Row(
        "A receive posted to a queue pair that has a shared receive queue",
        lambda s: s.pd.create_qp(s.node.send_cq, s.node.recv_cq, s.qp.cap, srq=s.pd.create_srq(1, 1)).post_recv(Recv()),
        BadWorkRequest,
        r"queue pair \d+ takes its receives from <SharedReceiveQueue 0 of 1, 1 queue pairs>: post them there",
    ),
    Row(
        "The send queue is full",
        lambda s: s.many(lambda: s.qp.post_send(Send()), 3),
        QueueFull,
        r"the send queue of queue pair \d+ holds 2 work requests already",
    ),
    Row(
        "The receive queue is full",
        lambda s: s.many(lambda: s.qp.post_recv(Recv()), 3),
        QueueFull,
        r"the receive queue of queue pair \d+ holds 2 work requests already",
    ),
    Row(
        "The shared receive queue is full",
        lambda s: s.many(lambda: s.srq.post_recv(Recv()), 3),
        QueueFull,
        "the shared receive queue holds 2 work requests already",
    ),
    Row(
        "A send posted before the connection",
        lambda s: s.node_without().qp.post_send(Send()),
        WrongState,
        r"a send is posted, but <QueuePair \d+ idle SQ 0 RQ 0>",
    ),
    Row(
        "A queue pair connected twice",
        lambda s: s.qp.connect(s.peer.agreement),
        WrongState,
        r"connected, but <QueuePair \d+ ready to send SQ 0 RQ 0>",
    ),
    Row(
        "`modify` to a state that a program cannot reach from there",
        lambda s: s.qp.modify(QpState.RTS),
        WrongState,
        r"a program cannot make it RTS: <QueuePair \d+ ready to send",
    ),
    Row(
        "A Read posted after the peer has closed its half",
        lambda s: s.half_closed().post_send(Read(None, SOMEWHERE)),
        WrongState,
        r"the peer has closed its half and can answer nothing: queue pair \d+",
    ),
    Row(
        "A region that was closed or invalidated",
        lambda s: s.qp.post_send(Send((s.closed(s.region)[:],))),
        Closed,
        r"the region was closed or invalidated: <MemoryRegion STag=0x.* closed>",
    ),
    Row(
        "A closed queue pair",
        lambda s: s.closed(s.qp).post_send(Send()),
        Closed,
        r"the queue pair is closed: <QueuePair \d+ error",
    ),
    Row(
        "A closed completion queue",
        lambda s: s.closed(s.context.create_cq(1)).poll(),
        Closed,
        "the completion queue is closed: <CompletionQueue 0 of 1 closed>",
    ),
    Row(
        "A closed shared receive queue",
        lambda s: s.closed(s.pd.create_srq(1, 1)).post_recv(Recv()),
        Closed,
        "the shared receive queue is closed: <SharedReceiveQueue 0 of 1, 0 queue pairs closed>",
    ),
    Row(
        "A closed completion channel",
        lambda s: s.closed(s.context.create_comp_channel()).get_cq_event(),
        Closed,
        "the queue of events is closed: <CompletionChannel 0 of 65536, 0 missed closed>",
    ),
    Row(
        "A closed protection domain",
        lambda s: s.closed(s.context.alloc_pd()).register(bytearray(1)),
        Closed,
        "the protection domain is closed: <ProtectionDomain 0 regions 0 queue pairs>",
    ),
    Row(
        "A closed context",
        lambda s: s.closed(s.context).create_cq(1),
        Closed,
        "the context is closed: <Context small",
    ),
    Row(
        "A region closed while work in flight uses it",
        lambda s: s.held().close(),
        RegionInUse,
        "1 pieces of work in flight use the memory: <MemoryRegion",
    ),
    Row(
        "A completion queue closed while queue pairs use it",
        lambda s: s.node.send_cq.close(),
        RegionInUse,
        "1 queue pairs use the completion queue: <CompletionQueue 0 of 8>",
    ),
    Row(
        "A shared receive queue closed while queue pairs use it",
        lambda s: s.shared().close(),
        RegionInUse,
        "1 queue pairs take receives from it: <SharedReceiveQueue",
    ),
    Row(
        "A protection domain closed with something in it",
        lambda s: s.pd.close(),
        RegionInUse,
        "regions, windows, queue pairs or shared receive queues are open: <ProtectionDomain",
    ),
    Row(
        "A queue made smaller than what is in it",
        lambda s: s.three_posted().modify(max_wr=2),
        RegionInUse,
        "3 receives do not fit into 2: <SharedReceiveQueue 3 of 4",
    ),
    Row(
        "More asked for than the device offers",
        lambda s: s.context.create_cq(9),
        UsageError,
        "9 completions; small offers 8",
    ),
    Row(
        "`request_notify` without a completion channel",
        lambda s: s.node.send_cq.request_notify(),
        UsageError,
        "the completion queue was made without a completion channel: <CompletionQueue 0 of 8>",
    ),
    Row(
        "A foreign thread (debug mode)",
        lambda s: s.in_another_thread(lambda: s.qp.post_send(Send())),
        WrongThread,
        r"thread 'Thread-.*' uses what belongs to thread 'MainThread': <QueuePair \d+",
    ),
    Row(
        "A foreign event loop (debug mode)",
        lambda s: s.in_two_loops(s.node.send_cq.poll),
        WrongThread,
        "the event loop <.*> uses what belongs to another one, <.*>: <CompletionQueue 0 of 8>",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.wrong)
def test_each_error_of_use(row: Row) -> None:
    scene = Scene()
    with pytest.raises(row.raised, match=row.message) as caught:
        row.call(scene)
    assert type(caught.value) is row.raised
    assert isinstance(caught.value, UsageError), "one clause catches them all"


# --- docs/errors.md --------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_page_lists_these_errors_and_no_others() -> None:
    assert [row[:2] for row in table("Errors of use")] == [[row.wrong, f"`{row.raised.__name__}`"] for row in ROWS]


def test_the_page_gives_each_terminate_its_status() -> None:
    listed = [[cell.strip("`") for cell in row] for row in table("What a Terminate means for a work request")]
    assert listed == [[str(term), TERMS[term][0], STATUSES[term].name] for term in TERMS]


def test_the_page_explains_every_status_and_every_event() -> None:
    for heading, names in (("Statuses", Status), ("Asynchronous events", AsyncEventType)):
        assert [row[0].strip("`") for row in table(heading)] == [each.name for each in names]
    assert not set(re.findall(r"`(IBV_EVENT_\w+)`", PAGE)) & {f"IBV_EVENT_{each.name}" for each in AsyncEventType}
