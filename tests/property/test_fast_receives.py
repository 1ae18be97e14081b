"""Receives that are posted in one go are what they are when each is posted by itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyiwarp.mr import Access, RegionSlice
from pyiwarp.queues.qp import QpCap
from pyiwarp.queues.work import Recv
from tests.harness import Node, RawPeer, send

KINDS = ("whole", "part", "empty", "two", "none", "read only", "another domain's", "beyond", "closed", "no request")
kinds = st.sampled_from(("whole", "part") * 8 + KINDS)


def posted(script: list[list[str]], *, together: bool, late: bool, room: int, connected: bool) -> list[object]:
    """What is told of each list, and what the receives, the memory and the peer's Sends show then."""
    node = Node(cap=QpCap(max_recv_wr=room, max_sge=2), judge_receives_late=late)
    region = node.region(64, Access.LOCAL_WRITE)
    closed = node.region(8, Access.LOCAL_WRITE)
    closed.close()
    sges: dict[str, tuple[Any, ...]] = {
        "whole": (region[:],),
        "part": (region[3:30],),
        "empty": (region[5:5],),
        "two": (region[:4], region[8:20]),
        "none": (),
        "read only": (node.region(8, Access.REMOTE_READ)[:],),
        "another domain's": (node.context.alloc_pd().register(bytearray(8), Access.LOCAL_WRITE)[:],),
        "beyond": (RegionSlice(region, 60, 5),),
        "closed": (RegionSlice(closed, 0, 8),),
    }
    peer = RawPeer(node) if connected else None
    seen: list[object] = []
    for number, kinds_ in enumerate(script):
        requests: list[Any] = [None if kind == "no request" else Recv(sges[kind], (number, kind)) for kind in kinds_]
        try:
            if together:
                node.qp.post_recv_many(requests)
            else:
                for request in requests:
                    node.qp.post_recv(request)
        except Exception as error:  # of any kind: what is no request has another one in the compiled build
            seen.append(type(error))
        seen += [node.qp.query().receives_posted, region.pins]
    if peer is not None:
        for size in (0, 4, 16, 27):
            if node.qp.alive:
                peer.sends(send(bytes(size)))
    node.qp.close()
    done = [(each.wr_id, each.status, each.nbytes) for each in node.received()]
    return [*seen, done, region.pins]


def test_receives_that_stay_are_let_go_without_a_word() -> None:
    """Their owner takes small messages as they come, so that it has no use for flushes."""
    node = Node()
    region, other = node.region(64, Access.LOCAL_WRITE), node.region(8, Access.LOCAL_WRITE)
    peer = RawPeer(node)
    taken: list[bytes] = []

    def take(octets: memoryview) -> bool:
        taken.append(bytes(octets))
        return len(taken) < 3

    node.qp.take_small(take)
    node.qp.flush_silently()
    receives = [region[:], region[3:30], other[:], region[8:20], region[:4]]
    node.qp.post_recv_many([Recv((each,), number) for number, each in enumerate(receives)])
    assert (region.pins, other.pins) == (4, 1)
    for size in (1, 2, 3):
        peer.sends(send(bytes(size)))
    assert [len(each) for each in taken] == [1, 2, 3]
    assert [(done.wr_id, done.nbytes) for done in node.received()] == [(0, 3)], "the last one was not taken"
    node.qp.close()
    assert (region.pins, other.pins, node.received()) == (0, 0, [])
    assert node.qp.counters().flushed == 4


@given(
    script=st.lists(st.lists(kinds, max_size=6), max_size=4),
    late=st.booleans(),
    room=st.sampled_from([1, 4, 100]),
    connected=st.booleans(),
)
def test_receives_posted_together_are_those_posted_one_by_one(
    script: list[list[str]], late: bool, room: int, connected: bool
) -> None:  # RDMAP-5040-5.3-05
    one_by_one, together = (
        posted(script, together=way, late=late, room=room, connected=connected) for way in (False, True)
    )
    assert together == one_by_one
