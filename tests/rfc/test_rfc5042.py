"""RFC 5042, RFC 5040 §8.1, RFC 5041 §8.3: what a peer cannot reach, cannot know, and cannot use up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from pyiwarp import Options, blocking, errors
from pyiwarp.codes import Opcode
from pyiwarp.connections.awaitable import Connection
from pyiwarp.errors import BadWorkRequest, ProtocolViolation, UsageError
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.queues.work import Read, Recv, Status
from pyiwarp.verbs import Context, Device, QpCap
from tests.harness import Node, RawPeer, Segment, cut, ended, octets_of, read, response, send, write
from tests.rfc.scene import ALL_RIGHTS, Scene, atomic, compare_swap, fetch_add, page, sibling

SIZE = 64


@pytest.fixture
def scene() -> Scene:
    return Scene(nbytes=SIZE)


# --- the bounds of a region ------------------------------------------------------------------------------------------

REACHES: dict[str, Callable[[MemoryRegion, int, int], Segment]] = {
    "Write": lambda region, offset, nbytes: write(region.stag, region.to + offset, b"!" * nbytes),
    "Read": lambda region, offset, nbytes: read(region, size=nbytes, offset=offset),
}


@pytest.mark.parametrize("kind", REACHES)
@pytest.mark.parametrize("nbytes", [1, 2, 8, SIZE, SIZE + 1])
def test_every_octet_at_the_edges(kind: str, nbytes: int) -> None:
    # SEC-5041-8.3.1-01, -04, SEC-5040-8.1.1-03, SEC-5042-6.2.1-01, SEC-5042-6.3.4-01: the region is part of a buffer
    # DDP-5041-8.3-01
    for offset in (-nbytes - 1, -nbytes, -1, 0, 1, SIZE - nbytes - 1, SIZE - nbytes, SIZE - nbytes + 1, SIZE - 1, SIZE):
        scene = Scene(nbytes=SIZE)
        scene.peer.sends(REACHES[kind](scene.region, offset, nbytes))
        inside = 0 <= offset <= SIZE - nbytes
        assert (scene.error is None) is inside
        assert scene.guarded
        if kind == "Write":
            expected = b"." * offset + b"!" * nbytes + b"." * (SIZE - offset - nbytes) if inside else b"." * SIZE
            assert octets_of(scene.region) == expected
        else:
            assert [each.opcode for each in scene.peer.hears()] == [
                Opcode.READ_RESPONSE if inside else Opcode.TERMINATE
            ]


@pytest.mark.parametrize("offset", [-8, -4, 60, 64, 1 << 32])
def test_atomics_at_the_edges(scene: Scene, offset: int) -> None:  # SEC-5040-8.1.1-03, EXT-7306-8.2-06
    scene.peer.sends(fetch_add(scene.region, offset))
    scene.peer.expects_terminate(errors.ReadBounds.term)
    assert scene.guarded
    assert octets_of(scene.region) == b"." * SIZE


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("last", [True, False])
def test_a_response_beside_its_sink(shift: int, last: bool) -> None:  # SEC-5042-6.2.1-01, RDMAP-5040-5.2.2-05
    scene = Scene(nbytes=SIZE)
    scene.node.post(Read(scene.region[8:16], RemoteRegion(0, 5, 8), "read"))
    scene.peer.expects(Opcode.READ_REQUEST)
    scene.peer.sends(response(scene.region.stag, scene.region.to + 8 + shift, b"!" * 8, last=last))
    scene.peer.expects_terminate(errors.BaseOrBounds.term)
    assert octets_of(scene.region) == b"." * SIZE
    assert ended(scene.node.sent()) == [("read", Status.WR_FLUSH_ERR)]


# --- rights ----------------------------------------------------------------------------------------------------------

RIGHTS = [Access(0), Access.REMOTE_READ, Access.REMOTE_WRITE, Access.REMOTE_READ | Access.REMOTE_WRITE, ALL_RIGHTS]


@pytest.mark.parametrize("access", RIGHTS)
def test_only_what_was_granted_works(access: Access) -> None:
    # RDMAP-5040-3.2-07
    # SEC-5041-8.3.1-06, SEC-5040-8.1.1-05, SEC-5042-6.3.5-01, SEC-5041-8.3.1-05, SEC-5040-8.1.1-04
    needed: list[tuple[Callable[[MemoryRegion], Segment], Access, type[ProtocolViolation]]] = [
        (lambda region: write(region.stag, region.to, b"!"), Access.REMOTE_WRITE, errors.NoWriteRight),
        (lambda region: read(region, size=1), Access.REMOTE_READ, errors.ReadAccessRights),
        (lambda region: fetch_add(region), Access.REMOTE_ATOMIC, errors.ReadAccessRights),
        (lambda region: compare_swap(region, compare=0, swap=1), Access.REMOTE_ATOMIC, errors.ReadAccessRights),
    ]
    for make, right, violation in needed:
        scene = Scene()
        region = scene.node.pd.register(page(8), access)
        scene.peer.sends(make(region))
        if access & right:
            assert scene.error is None
        else:
            assert type(scene.error) is violation
            assert octets_of(region) == bytes(8)
        gone = Scene(node=Node(scene.node.context, mulpdu=1442))
        region.close()
        gone.peer.sends(make(region))
        assert isinstance(gone.error, errors.InvalidStag | errors.ReadInvalidStag), "revoked for everybody"


def test_an_empty_read_needs_no_right(scene: Scene) -> None:  # SEC-5042-6.3.5-02
    scene.peer.sends(read(scene.write_only, size=0))
    scene.peer.expects(Opcode.READ_RESPONSE, payload=b"")


def test_memory_that_may_not_be_written_cannot_be_offered_for_it() -> None:
    # SEC-5041-8.3.2-05, SEC-5040-8.1.2-04, SEC-5042-2.2.2-01, SEC-5042-7.3-01
    pd = Context().alloc_pd()
    for access in (Access.LOCAL_WRITE, Access.REMOTE_WRITE, Access.REMOTE_ATOMIC, ALL_RIGHTS):
        with pytest.raises(BadWorkRequest, match="read-only"):
            pd.register(b"read-only", access)
    with pytest.raises(BadWorkRequest):
        pd.register(12345, Access(0))  # type: ignore[arg-type]
    assert pd.register(b"read-only", Access.REMOTE_READ).is_open


# --- revocation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["close", "retire", "peer"])
def test_revoked_memory_is_not_changed_any_more(scene: Scene, by: str) -> None:
    # SEC-5041-8.3.1-07, SEC-5040-8.1.1-06, SEC-5042-6.2.2-02, DDP-5041-8.3-01, -02: in the middle of a Write
    memory = bytearray(b"." * 12)
    region = scene.node.pd.register(memory, Access.REMOTE_WRITE)
    first, second, third = cut(write(region.stag, region.to, b"!" * 12), 4, 4)
    scene.peer.sends(first)
    if by == "peer":
        scene.peer.sends(send(b"", opcode=Opcode.SEND_INVAL, inval_stag=region.stag))
    else:
        getattr(region, by)()
    scene.peer.sends(second, third)
    scene.peer.expects_terminate(errors.InvalidStag.term, quoted=second.octets(0)[:14])
    assert memory == b"!" * 4 + b"." * 8


def test_what_several_streams_share_no_peer_can_take_away() -> None:  # SEC-5040-8.1.1-07
    node = Node(mulpdu=1442)
    other = sibling(node)
    one, two = RawPeer(node), RawPeer(other)
    shared = node.region(8)
    node.receive(8, "recv")
    one.sends(send(b"", opcode=Opcode.SEND_INVAL, inval_stag=shared.stag))
    one.expects_terminate(errors.CannotInvalidate.term, mdr="110")
    assert shared.is_open
    two.sends(write(shared.stag, shared.to, b"alive"))
    assert octets_of(shared)[:5] == b"alive"


def test_what_belongs_to_one_stream_its_peer_may_give_back() -> None:  # SEC-5040-8.1.1-07, RDMAP-5040-5.3-13
    node = Node(mulpdu=1442)
    RawPeer(sibling(node))
    peer = RawPeer(node)
    region = node.pd.register(bytearray(8), Access.REMOTE_WRITE, qp=node.qp)
    node.receive(8)
    peer.sends(send(b"", opcode=Opcode.SEND_INVAL, inval_stag=region.stag))
    assert not region.is_open
    assert node.qp.error is None


# --- STags -----------------------------------------------------------------------------------------------------------


def test_stags_are_hard_to_guess() -> None:
    # SEC-5040-8.1.1-08, -09, SEC-5042-6.1.1-04: no order, no stride, no early return, all bits used
    pd = Context().alloc_pd()
    stags = []
    for _ in range(2000):
        with pd.register(bytearray(1)) as region:
            stags.append(region.stag)
    assert len(set(stags)) > 1995
    strides = Counter((b - a) & 0xFFFF_FFFF for a, b in pairwise(stags))
    assert strides.most_common(1)[0][1] < 5
    for bit in range(32):
        ones = sum(stag >> bit & 1 for stag in stags)
        assert 800 < ones < 1200, f"bit {bit} is set in {ones} of 2000"


@pytest.mark.parametrize("kind", [Connection, blocking.Connection])
def test_memory_is_in_a_protection_domain_of_its_connection(
    kind: type[Connection] | type[blocking.Connection],
) -> None:  # SEC-5042-6.1.1-01, SEC-5042-2.2.4-01
    """Two connections of one program that share nothing: what one registers is void on the other."""
    assert kind.of(None, Options()).pd is not kind.of(None, Options()).pd
    context = Context()
    first, second = (kind(context.alloc_pd(), Options(), owns_pd=True) for _ in range(2))
    region = first.register(bytearray(8), Access.REMOTE_WRITE)
    stranger = RawPeer(type("Side", (Node,), {"__init__": lambda self: None, "qp": second.qp})())
    stranger.sends(write(region.stag, region.to, b"x"))
    stranger.expects_terminate(errors.StagNotAssociated.term)
    assert octets_of(region) == bytes(8)


@pytest.mark.parametrize("kind", [Connection, blocking.Connection])
def test_a_connection_may_keep_memory_from_those_that_share_its_domain(
    kind: type[Connection] | type[blocking.Connection],
) -> None:  # SEC-5042-6.1.1-03, DDP-5041-8.3-03
    pd = Context().alloc_pd()
    first, second = (kind(pd, Options(), owns_pd=False) for _ in range(2))
    mine = first.register(bytearray(8), Access.REMOTE_WRITE, shared=False)
    ours = first.register(bytearray(8), Access.REMOTE_WRITE)
    assert (mine.scope, ours.scope) == (first.qp, pd)
    peer = RawPeer(type("Side", (Node,), {"__init__": lambda self: None, "qp": second.qp})())
    peer.sends(write(ours.stag, ours.to, b"ours"), write(mine.stag, mine.to, b"mine"))
    assert (octets_of(ours)[:4], octets_of(mine)) == (b"ours", bytes(8))
    assert type(second.qp.error) is errors.StagNotAssociated


# --- limits ----------------------------------------------------------------------------------------------------------


def test_reads_of_one_stream_cost_another_nothing() -> None:
    # SEC-5040-8.1.2-07, SEC-5042-6.4.3.3-01, DDP-5041-7.1-02
    one = Scene(ird=2)
    one.peer.end.clogged = True
    one.node.send(b"in the way")
    one.peer.sends()
    one.peer.sends(*[read(one.region, size=8)] * 2)
    other = RawPeer(sibling(one.node), ird=2)
    for _ in range(3):
        other.sends(*[read(one.region, size=8)] * 2)
        assert [each.opcode for each in other.hears()] == [Opcode.READ_RESPONSE] * 2
    one.peer.sends(read(one.region, size=8))
    assert isinstance(one.error, errors.NoBufferForMsn)
    other.sends(read(one.region, size=8))
    other.expects(Opcode.READ_RESPONSE)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_the_number_of_reads_is_capped(limit: int) -> None:  # SEC-5040-8.1.1-12, SEC-5042-6.4.3.3-02
    scene = Scene(ird=limit, ord=limit)
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends()
    scene.peer.sends(*[read(scene.region, size=8)] * limit)
    assert scene.node.qp.alive
    if limit:
        asking = Scene(ord=limit)
        asking.node.post(*[Read(asking.region[:8], RemoteRegion(0, 5, 8))] * 5)
        assert [each.opcode for each in asking.peer.hears()] == [Opcode.READ_REQUEST] * limit
    scene.peer.sends(atomic(0, scene.region))
    assert isinstance(scene.error, errors.NoBufferForMsn)


def test_receives_are_not_shared_so_that_no_peer_takes_another_s() -> None:
    # SEC-5040-8.1.2-08: whoever sends too much is found out at its own queue
    node = Node(mulpdu=1442)
    other = sibling(node)
    greedy, modest = RawPeer(node), RawPeer(other)
    for number in range(3):
        node.receive(8, number)
        other.receive(8, number)
    greedy.sends(*[send(b"more")] * 5)
    assert isinstance(node.qp.error, errors.NoBufferForMsn)
    modest.sends(*[send(b"x")] * 3)
    assert ended(other.received()) == [(n, Status.SUCCESS) for n in range(3)]


@pytest.mark.parametrize("shared", [False, True], ids=["another protection domain", "the same protection domain"])
def test_a_completion_queue_that_overflows_hurts_only_its_own(shared: bool) -> None:
    # SEC-5042-6.4.6-01, SEC-5040-8.1.1-11, SEC-5040-8.1.2-05
    node = Node(depth=1, mulpdu=1442)
    other = sibling(node) if shared else Node(node.context, mulpdu=1442)
    flood, bystander = RawPeer(node), RawPeer(other)
    for number in range(3):
        node.receive(8, number)
        other.receive(8, number)
    flood.sends(*[send(b"x")] * 3)  # in one delivery: the third finds the queue pair ended
    assert node.recv_cq.overflowed
    assert flood.end.closed
    region = other.region(b"data")
    bystander.sends(send(b"x"), read(region, size=4))
    bystander.expects(Opcode.READ_RESPONSE, payload=b"data")
    assert ended(other.received()) == [(0, Status.SUCCESS)]


def test_a_connection_s_completion_queues_hold_all_that_can_end() -> None:  # SEC-5042-6.4.3.2-02
    pd = Context().alloc_pd()
    first, second = (Connection(pd, Options(send_depth=7, recv_depth=5), owns_pd=False) for _ in range(2))
    for connection in (first, second):
        qp = connection.qp
        assert qp.send_cq.capacity >= qp.cap.max_send_wr == 7
        assert qp.recv_cq.capacity >= qp.cap.max_recv_wr == 5
    queues = {id(queue) for each in (first, second) for queue in (each.qp.send_cq, each.qp.recv_cq)}
    assert len(queues) == 4, "none is shared"


def test_a_device_gives_no_more_than_it_has() -> None:
    # SEC-5041-8.3.2-03, -06, SEC-5040-8.1.2-02, -05, -06, SEC-5042-3-02, SEC-5042-6.4.1-01, SEC-5042-6.4.3.2-01
    # SEC-5042-7.2-02
    context = Device(max_qp_wr=4, max_cqe=8, max_mr=2).open()
    pd, cq = context.alloc_pd(), context.create_cq(8)
    for cap in (QpCap(max_send_wr=5, max_recv_wr=4), QpCap(max_send_wr=4, max_recv_wr=5)):
        with pytest.raises(UsageError, match="offers 4"):
            pd.create_qp(cq, cq, cap)
    with pytest.raises(UsageError, match="offers 8"):
        context.create_cq(9)
    qp = pd.create_qp(cq, cq, QpCap(max_send_wr=4, max_recv_wr=4))
    for number in range(4):
        qp.post_recv(Recv((), number))
    with pytest.raises(errors.QueueFull):
        qp.post_recv(Recv())
    regions = [pd.register(bytearray(1)) for _ in range(2)]
    for take in (
        lambda: context.alloc_pd().register(bytearray(1)),
        lambda: pd.alloc_window(),
        lambda: pd.alloc_stag(),
    ):
        with pytest.raises(UsageError, match="holds no more"):
            take()
    with pytest.raises(UsageError, match="offers 1 to"):
        Device(max_pieces=4).open().alloc_pd().alloc_stag(5)
    srq = pd.create_srq(1)
    srq.post_recv(Recv())
    with pytest.raises(errors.QueueFull):
        srq.post_recv(Recv())
    assert all(region.is_open for region in regions)
