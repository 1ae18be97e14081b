"""A work request that is refused when it is posted pins nothing: its memory can be closed at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp.errors import IwarpError, QueueFull
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.queues.work import SendRequest, Status
from pyiwarp.verbs import BindMw, CompareSwap, FetchAdd, LocalInvalidate, QpCap, Read, Recv, RegMr, Send, Write
from tests.harness import Node, RawPeer, ended, send
from tests.unit.stage import Stage

OK = Status.SUCCESS
THERE = RemoteRegion(0x1000, 0x77, 64)
RIGHTS = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.WINDOW_BIND


class Memory:
    """A region that is good for everything, and some that are not."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.good = node.region(64, RIGHTS)
        self.other = node.region(64, RIGHTS)
        self.unwritable = node.region(64, Access.REMOTE_READ)
        self.foreign = node.context.alloc_pd().register(bytearray(64), RIGHTS)
        self.closed = node.region(64)
        self.gone = self.closed[:8]
        self.closed.close()
        self.window = node.pd.alloc_window()

    @property
    def regions(self) -> list[MemoryRegion]:
        return [self.good, self.other, self.unwritable, self.foreign]

    def check_free(self) -> None:
        """Nothing holds any of it: each region closes."""
        assert [region.pins for region in self.regions] == [0] * 4
        for region in self.regions:
            region.close()


def beyond(region: MemoryRegion) -> Any:
    return region[:]._replace(nbytes=region.nbytes + 1)


BAD_ELEMENTS: dict[str, Callable[[Memory], Any]] = {
    "out of bounds": lambda memory: beyond(memory.good),
    "before the beginning": lambda memory: memory.good[:]._replace(offset=-1),
    "of another protection domain": lambda memory: memory.foreign[:],
    "closed": lambda memory: memory.gone,
}

Ask = Callable[[Memory], SendRequest]
SENDS: dict[str, Ask] = {
    "Send inline and of memory": lambda memory: Send((memory.good[:],), inline=b"x"),
    "Send of too many elements": lambda memory: Send((memory.good[:],) * 17),
    "Send that invalidates 33 bits": lambda memory: Send((memory.good[:],), inval_stag=1 << 32),
    "Send of two that invalidates 33 bits": lambda memory: Send((memory.good[:], memory.other[:]), inval_stag=1 << 32),
    "Write beyond the last TO": lambda memory: Write((memory.good[:],), RemoteRegion((1 << 64) - 8, 1, 64)),
    "Write to 33 bits": lambda memory: Write((memory.good[:],), RemoteRegion(0, 1 << 32, 64)),
    "Write of two to 33 bits": lambda memory: Write((memory.good[:], memory.other[:]), RemoteRegion(0, 1 << 32, 128)),
    "Write of too many elements": lambda memory: Write((memory.good[:],) * 17, THERE),
    "Read from 33 bits": lambda memory: Read(memory.good[:], RemoteRegion(0, 1 << 32, 64)),
    "Read into what may not be written": lambda memory: Read(memory.unwritable[:], THERE),
    "Read of another length": lambda memory: Read(beyond(memory.good), THERE),
    "FetchAdd of 65 bits": lambda memory: FetchAdd(THERE, 1 << 64, sge=memory.good[:8]),
    "FetchAdd into too little": lambda memory: FetchAdd(THERE, 1, sge=memory.good[:4]),
    "FetchAdd into what may not be written": lambda memory: FetchAdd(THERE, 1, sge=memory.unwritable[:8]),
    "FetchAdd at 33 bits": lambda memory: FetchAdd(RemoteRegion(0, 1 << 32, 8), 1, sge=memory.good[:8]),
    "CompareSwap of less than nothing": lambda memory: CompareSwap(THERE, -1, 0, sge=memory.good[:8]),
    "CompareSwap into too little": lambda memory: CompareSwap(THERE, 1, 2, sge=memory.good[:4]),
    "bind what may not be bound": lambda memory: BindMw(memory.window, memory.unwritable[:]),
    "bind out of bounds": lambda memory: BindMw(memory.window, beyond(memory.good)),
    "bind another protection domain's": lambda memory: BindMw(memory.window, memory.foreign[:]),
    "invalidate another protection domain's": lambda memory: LocalInvalidate(memory.foreign),
}


def _with_a_bad_element(make: Callable[[Any], SendRequest], what: str) -> Ask:
    return lambda memory: make((memory.good[:], memory.other[:], BAD_ELEMENTS[what](memory)))


for _what in BAD_ELEMENTS:
    SENDS[f"Send with an element {_what}"] = _with_a_bad_element(Send, _what)
    SENDS[f"Write with an element {_what}"] = _with_a_bad_element(lambda sges: Write(sges, THERE), _what)


@pytest.mark.parametrize("name", SENDS)
def test_a_refused_request_pins_nothing(name: str) -> None:
    stage = Stage()
    memory = Memory(stage.node)
    with pytest.raises(IwarpError):
        stage.node.post(SENDS[name](memory))
    assert memory.good.windows == 0
    assert stage.peer.hears() == []
    assert stage.node.sent() == []
    memory.check_free()
    assert stage.error is None


@pytest.mark.parametrize("what", BAD_ELEMENTS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_refused_receive_pins_nothing(what: str, shared: bool) -> None:
    node = Node()
    memory = Memory(node)
    post = node.pd.create_srq(4).post_recv if shared else node.qp.post_recv
    for sges in ((memory.good[:], BAD_ELEMENTS[what](memory)), (memory.good[:], memory.unwritable[:])):
        with pytest.raises(IwarpError):
            post(Recv(sges))
    memory.check_free()


KINDS: dict[str, Ask] = {
    "Send": lambda memory: Send((memory.good[:],)),
    "Send of two": lambda memory: Send((memory.good[:], memory.other[:])),
    "Write": lambda memory: Write((memory.good[:],), THERE),
    "Read": lambda memory: Read(memory.good[:], THERE),
    "FetchAdd": lambda memory: FetchAdd(THERE, 1, sge=memory.good[:8]),
    "CompareSwap": lambda memory: CompareSwap(THERE, 1, 2, sge=memory.good[:8]),
    "bind": lambda memory: BindMw(memory.window, memory.good[:]),
    "invalidate": lambda memory: LocalInvalidate(memory.good),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_full_queue_refuses_pins_nothing(kind: str) -> None:
    node = Node(cap=QpCap(max_send_wr=2, max_recv_wr=2))
    peer = RawPeer(node)
    peer.end.clogged = True
    memory = Memory(node)
    node.send(b"one")
    node.send(b"two")
    with pytest.raises(QueueFull):
        node.post(KINDS[kind](memory))
    assert memory.good.is_open
    assert memory.good.windows == 0
    memory.check_free()


def test_what_a_full_receive_queue_refuses_pins_nothing() -> None:
    node = Node(cap=QpCap(max_send_wr=2, max_recv_wr=2))
    memory = Memory(node)
    srq = node.pd.create_srq(2)
    for post in (node.qp.post_recv, srq.post_recv):
        post(Recv((memory.other[:],)))
        post(Recv((memory.other[:],)))
        with pytest.raises(QueueFull):
            post(Recv((memory.good[:],)))
    assert memory.good.pins == 0
    assert memory.other.pins == 4
    memory.good.close()


ASKING = {name: KINDS[name] for name in ("Read", "FetchAdd", "CompareSwap")}


@pytest.mark.parametrize("kind", ASKING)
@pytest.mark.parametrize("why", ["ORD is 0", "the peer has closed its half"])
def test_what_the_peer_cannot_answer_pins_nothing(kind: str, why: str) -> None:
    peer = RawPeer(Node(half_close=True), ord=0 if why == "ORD is 0" else 4)
    memory = Memory(peer.node)
    if why != "ORD is 0":
        peer.closes()
    with pytest.raises(IwarpError):
        peer.node.post(ASKING[kind](memory))
    memory.check_free()


def test_the_good_ones_before_a_refused_one_are_posted_and_it_pins_nothing() -> None:
    stage = Stage()
    memory = Memory(stage.node)
    requests = [
        Send((memory.good[:],), 1),
        Send((memory.good[:], memory.other[:]), 2),
        Send((memory.other[:], memory.gone)),
    ]
    with pytest.raises(IwarpError) as caught:
        stage.node.qp.post_send_many([*requests, Send((memory.other[:],), 4)])
    assert caught.value.__notes__ == ["2 of 4 work requests were posted before it"]
    assert len(stage.peer.hears()) == 2
    assert [completion.wr_id for completion in stage.node.sent()] == [1, 2]
    memory.check_free()


@pytest.mark.parametrize("buffers", [b"read only", [bytearray(8)] * 3], ids=["read-only", "too many pieces"])
def test_memory_that_a_fast_region_may_not_have_stays_the_program_s(buffers: Any) -> None:
    stage = Stage()
    region = stage.node.pd.alloc_stag(2)
    own = bytearray(8)
    with pytest.raises(IwarpError):
        stage.node.post(RegMr(region, buffers))
    with pytest.raises(IwarpError):
        stage.node.post(RegMr(region, own, key=256))
    own.append(1)  # nobody holds a view of it
    assert not region.is_valid
    region.close()


def test_flushed_work_pins_nothing_either() -> None:
    stage = Stage()
    memory = Memory(stage.node)
    stage.peer.end.clogged = True
    stage.node.send(b"in the way")
    for number, ask in enumerate(KINDS.values()):
        if number < 6:
            stage.node.post(ask(memory))
    stage.node.qp.post_recv(Recv((memory.good[:],)))
    stage.node.qp.close()
    stage.peer.end.lose()
    assert len(ended(stage.node.sent())) == 7
    memory.check_free()


def test_an_element_that_is_a_plain_tuple_is_taken_in_every_way() -> None:
    peer = RawPeer()
    memory = Memory(peer.node)
    plain: Any = (memory.good, 0, 8)
    for sges in (plain,), (memory.other[:], plain):
        peer.node.qp.post_recv(Recv(sges))
    peer.node.post(Send((plain,), "one"), Send((memory.other[:], plain), "two"))
    peer.hears()
    sent = peer.node.sent()
    assert [(done.wr_id, done.status, done.nbytes) for done in sent] == [("one", OK, 8), ("two", OK, 72)]
    peer.sends(send(b"8 octets"), send(bytes(72), msn=2))
    assert [(done.status, done.nbytes) for done in peer.node.received()] == [(OK, 8), (OK, 72)]
    memory.check_free()
