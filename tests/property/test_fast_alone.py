"""What is posted alone passes the batches: the same octets and completions as by way of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyiwarp.errors import BadWorkRequest, ConnectionLost, InvalidStag, QueueFull, WrongState
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.pump import HELD, NOT_NOW, TAKEN
from pyiwarp.queues.qp import QpCap
from pyiwarp.queues.work import Completion, Send, Status, WorkOpcode, Write
from tests.harness import Node, RawPeer, feed, read, send, terminate
from tests.property.test_fast_posting import Posting, ordinary, postings, request_of
from tests.property.test_fast_receiving import MANY


class Kernel:
    """A driver whose kernel has room for so many octets; `alone` says whether small messages may pass the batches."""

    def __init__(self, node: Node, *, alone: bool) -> None:
        self.qp = node.qp
        self.room = 1 << 20
        self.broken = False  # whether the next write fails
        self._told = False  # the queue pair, of a write that has failed
        self.heard = bytearray()
        self.passed = 0
        self._pending = b""
        self._busy = False
        self.qp.on_output = self.kick
        if alone:
            self.qp.write_small = self.write_small

    def kick(self) -> None:
        if self._busy:
            return
        self._busy = True
        while not self._pending and (iov := self.qp.next_iov()):
            self._write(b"".join(iov))
        self._busy = False

    def write_small(self, octets: bytes) -> int:
        if self._busy or self._pending or not self.room or self.broken or not self.qp.steady:
            return NOT_NOW
        self.passed += 1
        self._pending = octets[self._take(octets) :]
        return HELD if self._pending else TAKEN

    def make_room(self, nbytes: int) -> None:
        self.room += nbytes
        if self._pending:
            self._write(self._pending)
        self.kick()

    def _write(self, octets: bytes) -> None:
        if self.broken:
            if not self._told:  # as a driver does, also when the stream has ended before: it holds memory until then
                self._told = True
                self.qp.lost(ConnectionLost("the write has failed"))
            return
        self._pending = octets[self._take(octets) :]
        if not self._pending:
            self.qp.flushed()

    def _take(self, octets: bytes) -> int:
        taken = min(self.room, len(octets))
        self.heard += octets[:taken]
        self.room -= taken
        return taken


Step = tuple[str, Any]
written: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["write", "inline write", "wrapping", "bad"]), st.integers(0, 250), st.booleans()
)
sent_behind: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["send", "inline", "send_se", "send_inval"]), st.integers(0, 250), st.booleans()
)
steps: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("post"), ordinary | postings)] * 4,
    st.tuples(st.just("room"), st.sampled_from([0, 1, 30, 100, 1 << 20])),
    st.tuples(st.just("fill"), st.sampled_from([0, 1, 10, 40])),
    st.tuples(st.just("break"), st.none()),
    st.tuples(st.just("input"), st.sampled_from(["send", "read", "violation", "terminate"])),
    st.tuples(st.just("many"), st.lists(ordinary, max_size=3)),
    st.tuples(st.just("many"), st.tuples(written, sent_behind)),
    st.tuples(st.just("small"), st.integers(0, 130)),
    st.tuples(st.just("end"), st.sampled_from(["disconnect", "abort", "lost"])),
)


def lived(
    script: list[Step], *, alone: bool, early: bool, crc: bool, mulpdu: int, depth: int, sq_sig_all: bool
) -> tuple[list[object], int]:
    """What was heard and learnt after each step, and how many messages passed the batches."""
    cap = QpCap(max_send_wr=depth, max_recv_wr=4, max_inline=200)
    node = Node(cap=cap, mulpdu=mulpdu, sq_sig_all=sq_sig_all)
    region = node.pd.register(bytearray(bytes(range(250)) * 20), Access.LOCAL_WRITE | Access.REMOTE_READ)
    table = node.context.stags
    table._regions[0x100] = table._regions.pop(region.stag)
    region.stag, region.to = 0x100, 0x1000
    peer = RawPeer(node, crc=crc)
    node.receive(64, "receive")
    node.qp.stream._frames_early = early
    kernel = Kernel(node, alone=alone)
    seen: list[object] = []
    for number, (kind, what) in enumerate(script):
        outcome: object = None
        try:
            match kind:
                case "post":
                    node.qp.post_send(request_of(node, region, what, number))
                case "many":
                    node.qp.post_send_many([request_of(node, region, each, number) for each in what])
                case "small":
                    if not node.qp.send_small(b"s" * what, solicited=False):
                        node.qp.post_send(Send(inline=b"s" * what, signaled=False))
                case "room":
                    kernel.make_room(what)
                case "fill":
                    kernel.room = min(kernel.room, what)
                case "break":
                    kernel.broken = True
                case "input":
                    heard(node, peer, region, what)
                    kernel.kick()
                case "end":
                    end(node, what)
        except (BadWorkRequest, QueueFull, WrongState) as error:
            outcome = type(error)
        done = [(c.wr_id, c.status, c.opcode, c.nbytes, str(c.error)) for c in [*node.sent(), *node.received()]]
        seen += [outcome, done, bytes(kernel.heard), len(node.qp._sq), node.qp.state, node.qp.counters()]
    kernel.make_room(1 << 20)
    return [*seen, region.pins, bytes(kernel.heard)], kernel.passed


def end(node: Node, how: str) -> None:
    if how == "disconnect":
        node.qp.disconnect()
    elif how == "abort":
        node.qp.abort(ConnectionLost("gone"))
    elif node.qp.alive:
        node.qp.lost(ConnectionLost("cut"))


def heard(node: Node, peer: RawPeer, region: MemoryRegion, what: str) -> None:
    """The peer says something."""
    if node.qp.alive and not node.qp.stream.input_discarded:
        said = {
            "send": send(b"from the peer"),
            "read": read(region, size=100),
            "violation": send(b"x", msn=9),
            "terminate": terminate(InvalidStag.term),
        }
        feed(node.qp, peer.frames(said[what]))


@MANY
@example(
    script=[("post", ("read", 8, True)), ("post", ("send", 8, True)), ("post", ("inline", 8, True))],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("fill", 40), ("post", ("send", 64, True)), ("post", ("send", 8, True)), ("end", "lost")],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("many", [("write", 200, False), ("inline", 4, True)])], crc=True, mulpdu=128, depth=8, sq_sig_all=False
)
@example(
    script=[("post", ("send", 64, True)), ("fill", 1), ("small", 8), ("input", "terminate")],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("post", ("send", 64, True)), ("break", None), ("post", ("send", 8, False)), ("small", 8)],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("fill", 0), ("post", ("send", 64, True)), ("end", "disconnect"), ("break", None)],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@given(
    script=st.lists(steps, max_size=10),
    crc=st.booleans(),
    mulpdu=st.sampled_from([128, 1442, 64_768]),
    depth=st.sampled_from([1, 3, 8]),
    sq_sig_all=st.booleans(),
)
def test_small_sends_past_the_batches_say_and_complete_the_same(
    script: list[Step], crc: bool, mulpdu: int, depth: int, sq_sig_all: bool
) -> None:
    """MPA-5044-4.1-01, MPA-5044-4.1-03, MPA-5044-4.1-06, MPA-5044-4.4-13, DDP-5041-4.3-09, DDP-5041-5.2-02.

    RDMAP-5040-5.5-11, RDMAP-5040-5.5-12, RDMAP-5040-7.1-05.
    """
    (plain, _), (alone, _) = (
        lived(script, alone=way, early=way, crc=crc, mulpdu=mulpdu, depth=depth, sq_sig_all=sq_sig_all)
        for way in (False, True)
    )
    assert alone == plain


def test_a_small_send_that_is_alone_passes_the_batches() -> None:
    script: list[Step] = [("post", ("send", 64, True)), ("small", 10), ("fill", 20), ("post", ("inline", 30, True))]
    seen, passed = lived(script, alone=True, early=True, crc=True, mulpdu=1442, depth=8, sq_sig_all=False)
    assert passed == 3
    assert seen[1] == [(0, Status.SUCCESS, WorkOpcode.SEND, 64, "None")]
    assert seen[-7] == [], "the kernel does not have all of the last one"


@pytest.mark.parametrize("what", ["write", "inline write"])
def test_a_small_write_and_the_send_behind_it_pass_the_batches_together(what: str) -> None:
    script: list[Step] = [("many", [(what, 64, False), ("inline", 4, True)]), ("fill", 20)]
    script.append(("many", [(what, 30, True), ("send", 9, False)]))
    seen, passed = lived(script, alone=True, early=True, crc=True, mulpdu=1442, depth=8, sq_sig_all=False)
    assert passed == 2, "two at a time"
    assert seen[1] == [(0, Status.SUCCESS, WorkOpcode.SEND, 4, "None")]
    assert seen[-7] == [], "the kernel does not have all of the last ones"


def test_what_waits_for_the_end_of_all_is_called_if_a_completion_of_two_asks_for_it() -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    seen: list[object] = []

    def on_completion(done: Completion) -> None:
        seen.append(done.wr_id)
        if done.wr_id == 1:
            node.qp.drain_sq(lambda: seen.append("drained"))

    node.send_cq.taker = on_completion
    node.qp.post_send_many([Write((), RemoteRegion(0x1000, 7, 8), 1, b"octets"), Send((), 2, b"done")])
    assert kernel.passed == 1
    assert seen == [1, 2, "drained"]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_program_may_post_from_each_completion_without_end(pairs: bool) -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    left = [2 * sys.getrecursionlimit()]

    def post() -> None:
        if not left[0]:
            return
        left[0] -= 1
        send = Send((), left[0], b"next")
        if pairs:
            node.qp.post_send_many([Write((), RemoteRegion(0x1000, 7, 8), None, b"octets", False), send])
        else:
            node.qp.post_send(send)

    node.send_cq.taker = lambda done: post()
    post()
    assert left == [0]
    assert node.qp.query().sends_posted == 0
    assert kernel.passed


def test_a_program_that_its_completion_calls_goes_the_plain_way() -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    node.send_cq.arm(lambda: None)
    node.send(b"with a completion")
    assert kernel.passed == 0
    node.send_cq.arm(lambda: None)
    node.send(b"without", signaled=False)
    assert kernel.passed == 1
