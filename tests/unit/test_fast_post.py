"""Requests that are framed where they are posted: what programs do meanwhile, and what they must not notice of it."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp import buffers
from pyiwarp.buffers import NO_BUFFER
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import BindMw, Send, SendRequest, Status, Write
from tests.harness import Node, RawPeer, ended, feed, send

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 7, 1 << 20)


def sends(region: MemoryRegion, count: int) -> list[SendRequest]:
    return [Send((region[:8],), number) for number in range(count)]


def drain(node: Node) -> list[bytes]:
    """What the queue pair says until it has no more to say."""
    heard = []
    while iov := node.qp.next_iov():
        heard.append(b"".join(iov))
        node.qp.flushed()
    return heard


def test_any_sequence_of_requests_may_be_posted() -> None:
    node = Node()
    RawPeer(node)
    region = node.pd.register(bytearray(5000))
    node.qp.post_send_many(deque([*sends(region, 3), Send((region[:],), 3), Send((region[:8],), 4)]))
    drain(node)
    assert ended(node.sent()) == [(number, OK) for number in range(5)]


@pytest.mark.parametrize("malformed", [Write(None, SOMEWHERE), Write((), None), Send((None,)), None])  # type: ignore[arg-type]
def test_what_was_framed_before_a_malformed_request_is_posted(malformed: Any) -> None:
    node = Node()
    RawPeer(node)
    region = node.pd.register(bytearray(64))
    told: list[int] = []
    node.qp.on_output = lambda: told.append(len(node.qp._sq))
    with pytest.raises((TypeError, KeyError, AttributeError)) as caught:
        node.qp.post_send_many([*sends(region, 2), malformed, *sends(region, 1)])
    assert caught.value.__notes__ == ["2 of 4 work requests were posted before it"]
    assert told == [2]
    drain(node)
    assert ended(node.sent()) == [(0, OK), (1, OK)]


@pytest.mark.parametrize("short", [False, True])
def test_what_a_callback_posts_on_a_stream_that_has_failed_is_never_sent(short: bool) -> None:
    # RDMAP-5040-7.1-05, RDMAP-5040-5.4-09
    node = Node(pause_when_starved=False)
    peer = RawPeer(node)
    node.qp.stream._frames_early = short
    region = node.pd.register(bytearray(8))
    node.receive(40)
    node.qp.recv_cq.arm(lambda: node.qp.post_send(Send((region[:],), "an answer")))
    feed(node.qp, peer.frames(send(b"asked")) + peer.frames(send(b"a violation", msn=9)))
    drain(node)
    assert ended(node.sent()) == [("an answer", FLUSHED)]
    counts = node.qp.counters()
    assert (counts.fpdus_sent, counts.terminates_sent, counts.flushed) == (1, 1, 1)


Deed = Callable[[Node, MemoryRegion, list[object]], object]


def _bind(node: Node, region: MemoryRegion, told: list[object]) -> None:
    node.qp.post_send(BindMw(node.pd.alloc_window(), region[:], wr_id="bind"))


DEEDS: list[tuple[str, Deed, list[object]]] = [
    ("close", lambda node, region, told: node.qp.close(), [(0, OK), (1, FLUSHED), (2, FLUSHED), (3, FLUSHED)]),
    (
        "terminate",
        lambda node, region, told: node.qp.modify(QpState.TERMINATE),
        [(0, OK), (1, FLUSHED), (2, FLUSHED), (3, FLUSHED)],
    ),
    ("bind", _bind, [(0, OK), (1, OK), (2, OK), ("bind", OK)]),
    ("drain", lambda node, region, told: node.qp.drain_sq(lambda: told.append("drained")), []),
    (
        "post",
        lambda node, region, told: node.qp.post_send_many([Send((region[:8],), 8), Send((region[:8],), 9)]),
        [(0, OK), (1, OK), (2, OK), (8, OK), (9, OK)],
    ),
]


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("name", "deed", "expected"), DEEDS, ids=[name for name, _, _ in DEEDS])
def test_a_completion_may_call_a_program_that_acts(
    name: str, deed: Deed, expected: list[object], short: bool
) -> None:  # RDMAP-5040-5.5-12
    node = Node()
    RawPeer(node)
    node.qp.stream._frames_early = short
    region = node.pd.register(bytearray(64), Access.REMOTE_WRITE | Access.WINDOW_BIND)
    told: list[object] = []
    todo = [deed]

    def on_completion() -> None:
        told.extend(ended(node.qp.send_cq.poll()))
        node.qp.send_cq.arm(on_completion)
        if todo:
            todo.pop()(node, region, told)

    node.qp.send_cq.arm(on_completion)
    requests = sends(region, 3)
    if name in ("close", "terminate"):
        requests.append(Send((region[:8], region[8:16]), 3))
    node.qp.post_send_many(requests)
    drain(node)
    assert told == (expected or [(0, OK), (1, OK), (2, OK), "drained"])
    assert len(node.qp._sq) == region.pins == 0


def test_a_callback_that_raises_costs_no_completion() -> None:
    node = Node()
    RawPeer(node)
    region = node.pd.register(bytearray(8))

    def fail() -> None:
        raise RuntimeError("a bug of the program's")

    node.qp.send_cq.arm(fail)
    node.qp.post_send_many(sends(region, 3))
    node.qp.next_iov()
    with pytest.raises(RuntimeError, match="a bug"):
        node.qp.flushed()
    node.qp.post_send(Send((region[:],), 3))
    drain(node)
    assert ended(node.sent()) == [(number, OK) for number in range(4)]


def test_buffers_of_streams_that_were_dropped_are_made_anew() -> None:
    """Nobody gives them back; without them small messages would never again be framed where they are posted."""

    def all_spares() -> int:
        return len(list(iter(buffers.spare_buffer, NO_BUFFER)))

    gc.collect()
    all_spares()
    again = [all_spares() for _ in range(2)]
    assert again[0] == again[1] > 0


def test_many_streams_with_something_to_send_hold_few_buffers() -> None:
    nodes = [Node() for _ in range(3 * buffers._KEPT)]
    for number, node in enumerate(nodes):
        RawPeer(node)
        node.qp.post_send(Send((), number, b"a few octets"))
    held = sum(len(node.qp.stream._packer._buffer) > 0 for node in nodes)
    assert 0 < held <= 2 * buffers._KEPT, "those that are kept anyway, and as many that may be made"
    for number, node in enumerate(nodes):
        assert [len(batch) for batch in drain(node)] == [2 + 18 + 12 + 4]
        assert ended(node.sent()) == [(number, OK)]
