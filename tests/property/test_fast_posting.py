"""The fast way and the plain one of posting are twins: the same octets and completions for any lists of requests."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pyiwarp.engine.packing import LARGEST_COPY
from pyiwarp.errors import BadWorkRequest, ConnectionLost, InvalidStag, QueueFull
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
from pyiwarp.queues.qp import QpCap
from pyiwarp.queues.work import BindMw, Read, Send, SendRequest, Write
from tests.harness import Node, RawPeer, send, terminate
from tests.property.test_fast_receiving import MANY

Posting = tuple[str, int, bool]
postings: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(
        ["write"] * 4
        + ["send"] * 3
        + ["send_se", "inline", "inline write", "send_inval", "read", "two", "bad", "wrapping"]
    ),
    st.integers(0, 200) | st.sampled_from([0, 110, 112, 114, LARGEST_COPY, LARGEST_COPY + 1]),
    st.booleans(),
)
ordinary: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["write", "write", "send", "inline"]), st.integers(0, 110), st.booleans()
)
batches = st.builds(lambda first, last: first + last, st.lists(ordinary, max_size=5), st.lists(postings, max_size=2))


def request_of(node: Node, region: MemoryRegion, posting: Posting, number: int) -> SendRequest:
    """A work request; "bad" and "wrapping" ones name octets that are not there."""
    kind, nbytes, signaled = posting
    sges, remote = (region[:nbytes],), RemoteRegion(0x1000 + number, 0x77, 1 << 20)
    match kind:
        case "write":
            return Write(sges, remote, number, None, signaled)
        case "inline write":
            return Write((), remote, number, b"w" * min(nbytes, 1000), signaled)
        case "inline":
            return Send((), number, b"i" * min(nbytes, 1000), None, False, signaled)
        case "send_inval":
            return Send(sges, number, None, 9, False, signaled)
        case "read":
            return Read(sges[0], remote, number, signaled)
        case "two":
            return Write((*sges, *sges), remote, number, None, signaled)
        case "wrapping":
            return Write(sges, RemoteRegion((1 << 64) - 50, 0x77, 1 << 20), number, None, signaled)
        case "bad":
            return Write((RegionSlice(region, 5000, 10),), remote, number, None, signaled)
    return Send(sges, number, None, None, kind == "send_se", signaled)


def posted(
    script: list[list[Posting]],
    *,
    fast: bool,
    mulpdu: int,
    takes: list[int],
    depth: int,
    ending: str,
    clogged: bool,
    complete_bad: bool,
) -> tuple[object, ...]:
    """What the peer hears and the program learns when lists are posted; `takes` says when the kernel takes a batch.

    At the end the transport may be `clogged`: it holds a batch that the kernel has not taken. A batch ends with its
    octets alone here: FPDUs that were framed when they were posted do not count in it, so by their number batches of
    the two ways end at different places of the same stream.
    """
    node = Node(cap=QpCap(max_send_wr=depth, max_recv_wr=4), mulpdu=mulpdu, complete_bad_sends=complete_bad)
    region = node.pd.register(bytearray(bytes(range(250)) * 20))
    table = node.context.stags
    table._regions[0x100] = table._regions.pop(region.stag)
    region.stag, region.to = 0x100, 0x1000
    peer = RawPeer(node)
    node.qp.stream._frames_early = fast
    node.qp.stream._batch_fpdus = 1 << 20
    pace = iter(takes)
    heard, learnt = bytearray(), list[object]()
    for number, batch in enumerate(script):
        try:
            node.qp.post_send_many([request_of(node, region, each, 100 * number + n) for n, each in enumerate(batch)])
        except (BadWorkRequest, QueueFull) as error:
            learnt.append((type(error), error.__notes__))
        learnt.append(len(node.qp._sq))
        for _ in range(next(pace, 1)):
            heard += b"".join(node.qp.next_iov())
            node.qp.flushed()
            learnt += [(c.wr_id, c.status, c.opcode, c.nbytes) for c in node.sent()]
    if clogged:
        heard += b"".join(node.qp.next_iov())
    {
        "violation": lambda: peer.sends(send(b"x", msn=9)),
        "terminate": lambda: peer.sends(terminate(InvalidStag.term)),
        "abort": lambda: node.qp.abort(ConnectionLost("gone")),
        "none": lambda: None,
    }[ending]()
    while clogged or (iov := node.qp.next_iov()):
        heard += b"" if clogged else b"".join(iov)
        node.qp.flushed()
        clogged = False
    learnt += [(c.wr_id, c.status, c.opcode, c.nbytes) for c in node.sent()]
    counts = node.qp.counters()._replace(octets_received=0)
    return bytes(heard), learnt, counts, node.qp.state, region.pins


@MANY
@example(
    script=[[("write", 0, False), ("two", 4096, False), ("two", 4096, False)]],
    mulpdu=128,
    takes=[0, 0, 0, 0],
    depth=3,
    ending="none",
    clogged=True,
    complete_bad=False,
)
@given(
    script=st.lists(batches, min_size=1, max_size=4),
    mulpdu=st.sampled_from([128, 1442, 64_768]),
    takes=st.lists(st.sampled_from([0, 0, 1, 1, 2]), min_size=4, max_size=4),
    depth=st.sampled_from([3, 8, 100]),
    ending=st.sampled_from(["none", "violation", "terminate", "abort"]),
    clogged=st.booleans(),
    complete_bad=st.booleans(),
)
def test_posting_the_fast_way_says_and_completes_the_same(
    script: list[list[Posting]], **options: Any
) -> None:  # DDP-5041-7.1-14, RDMAP-5040-5.5-11, RDMAP-5040-5.5-12, DDP-5041-4.3-09
    plain, short = (posted(script, fast=way, **options) for way in (False, True))
    assert short == plain


def test_what_is_for_this_side_alone_completes_behind_what_was_framed_before_it() -> None:  # RDMAP-5040-5.5-12
    node = Node()
    region = node.pd.register(bytearray(64), Access.REMOTE_WRITE | Access.WINDOW_BIND)
    window = node.pd.alloc_window()
    RawPeer(node)
    node.qp.post_send_many(
        [Write((region[:],), RemoteRegion(0, 7, 64), "write"), BindMw(window, region[:], wr_id="bind")]
    )
    assert node.sent() == []
    node.qp.next_iov()
    node.qp.flushed()
    assert [c.wr_id for c in node.sent()] == ["write", "bind"]


def test_small_requests_go_the_fast_way_and_pin_nothing() -> None:
    node = Node()
    region = node.pd.register(bytearray(5000))
    RawPeer(node)
    node.qp.post_send_many([Write((region[:64],), RemoteRegion(0, 7, 64), n) for n in range(3)])
    node.qp.post_send(Send((region[:64],), 3))
    assert (region.pins, len(node.qp._sq)) == (0, 4)
    region.view[:] = b"x" * 5000  # they were copied
    assert b"x" not in b"".join(node.qp.next_iov())
    node.qp.flushed()
    assert [c.wr_id for c in node.sent()] == [0, 1, 2, 3]
    node.qp.post_send(Send((region[:],), 4))
    assert region.pins == 1
