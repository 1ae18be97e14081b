"""Fast registration: RegMr, LocalInvalidate, Read with Local Invalidate, and memory in pieces (RFC 5040 §3.2, §5.2)."""

from __future__ import annotations

import mmap
from typing import Any

import pytest

from pyiwarp.errors import (
    BadWorkRequest,
    BaseOrBounds,
    Closed,
    InvalidStag,
    ReadInvalidStag,
    RegionInUse,
    TerminatedByPeer,
    UsageError,
    WrongState,
)
from pyiwarp.memory.paged import Spread
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
from pyiwarp.verbs import (
    CompareSwap,
    Device,
    FastRegion,
    FetchAdd,
    LocalInvalidate,
    QpState,
    Read,
    Recv,
    RegMr,
    Send,
    Status,
    WorkOpcode,
    Write,
)
from tests.harness import REMOTE, Node, Pair, ended, octets_of

EVERYTHING = REMOTE | Access.REMOTE_ATOMIC


def registered(node: Node, buffers: Any, access: Access = REMOTE, **fields: Any) -> FastRegion:
    region = node.pd.alloc_stag()
    node.post(RegMr(region, buffers, access, wr_id="reg", **fields))
    assert ended(node.sent()) == [("reg", Status.SUCCESS)]
    return region


# --- one buffer ------------------------------------------------------------------------------------------------------


def test_from_nothing_to_memory_and_back() -> None:
    pair = Pair()
    region, buffer = pair.right.pd.alloc_stag(), bytearray(b"0123456789")
    assert not region.is_valid
    assert repr(region) == f"<FastRegion STag={region.stag:#010x} invalid>"
    before = region.stag
    pair.right.post(RegMr(region, buffer, REMOTE, wr_id=1))
    (completion,) = pair.right.sent()
    assert (completion.wr_id, completion.status, completion.opcode) == (1, Status.SUCCESS, WorkOpcode.REG_MR)
    assert region.is_valid
    assert region.stag >> 8 == before >> 8
    assert region.stag != before, "another key of the same index"
    pair.left.post(Write(inline=b"abc", remote=region[2:5].remote()))
    pair.run()
    assert buffer == b"01abc56789"
    pair.right.post(LocalInvalidate(region, 2))
    assert [(c.wr_id, c.opcode) for c in pair.right.sent()] == [(2, WorkOpcode.LOCAL_INV)]
    assert not region.is_valid
    buffer.clear()  # nothing holds it any more
    region.close()
    assert repr(region).endswith(" closed>")


def test_the_peer_is_refused_after_a_local_invalidate() -> None:
    # SEC-5042-6.2.2-02, DDP-5041-7.1-10, DDP-5041-8.3-02, SEC-5041-8.3.1-07
    pair = Pair()
    buffer = bytearray(10)
    region = registered(pair.right, buffer)
    remote = region[:].remote()
    pair.right.post(LocalInvalidate(region))
    pair.left.post(Write(inline=b"late", remote=remote))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)
    assert isinstance(pair.left.qp.error, TerminatedByPeer)
    assert buffer == bytes(10)


@pytest.mark.parametrize("target", ["region", "memory", "stag"])
def test_what_can_be_named_to_invalidate(target: str) -> None:
    node = Pair().left
    region = registered(node, bytearray(4))
    targets: dict[str, FastRegion | MemoryRegion | int] = {
        "region": region,
        "memory": region.memory,
        "stag": region.stag,
    }
    node.post(LocalInvalidate(targets[target], 1))
    assert ended(node.sent()) == [(1, Status.SUCCESS)]
    assert not region.is_valid
    for again in (region, region.stag):
        with pytest.raises((Closed, BadWorkRequest)):
            node.post(LocalInvalidate(again))


def test_a_plain_region_is_closed_by_a_local_invalidate() -> None:
    node = Pair().left
    buffer = bytearray(4)
    region = node.pd.register(buffer)
    for target in (region.stag, region):
        if region.is_open:
            node.post(LocalInvalidate(target, "inv"))
    assert ended(node.sent()) == [("inv", Status.SUCCESS)]
    assert not region.is_open
    buffer.clear()
    with pytest.raises(Closed, match="invalidated"):
        node.post(LocalInvalidate(region))


def test_keys() -> None:
    node = Pair().left
    region = node.pd.alloc_stag()
    index = region.stag >> 8
    node.post(RegMr(region, bytearray(1), key=0x7F))
    assert region.stag == index << 8 | 0x7F
    with pytest.raises(WrongState, match="invalidate it first"):
        region.update_key(1)
    node.post(LocalInvalidate(region))
    node.sent()
    region.update_key(0xFF)
    assert region.stag == index << 8 | 0xFF
    node.post(RegMr(region, bytearray(1)))
    assert region.stag == index << 8 | 0xFF, "the key that was chosen"
    node.post(LocalInvalidate(region), RegMr(region, bytearray(1)))
    assert region.stag >> 8 == index
    assert region.stag & 0xFF != 0xFF, "another key, whichever"
    node.post(LocalInvalidate(region))
    node.sent()
    for key in (-1, 256):
        with pytest.raises(BadWorkRequest, match="8 bits"):
            region.update_key(key)
        with pytest.raises(BadWorkRequest, match="8 bits"):
            node.post(RegMr(region, bytearray(1), key=key))


def test_an_old_key_is_void() -> None:  # DDP-5041-7.1-10
    pair = Pair()
    region = registered(pair.right, bytearray(8))
    old = region[:].remote()
    pair.right.post(LocalInvalidate(region), RegMr(region, bytearray(8), REMOTE, to=old.to))
    pair.left.post(Write(inline=b"x", remote=old))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)


def test_where_the_tos_begin() -> None:  # DDP-5041-8.3-01
    node = Pair().left
    assert registered(node, bytearray(8), REMOTE | Access.ZERO_BASED).to == 0
    assert registered(node, bytearray(8), to=0x1234_5678).to == 0x1234_5678
    assert registered(node, bytearray(8), to=(1 << 64) - 8).to == (1 << 64) - 8
    assert registered(node, bytearray(8)).to >= 1 << 46
    region = node.pd.alloc_stag()
    for to in (-1, (1 << 64) - 7):
        with pytest.raises(BadWorkRequest, match="do not fit behind TO"):
            node.post(RegMr(region, bytearray(8), to=to))
    with pytest.raises(BadWorkRequest, match="zero based"):
        node.post(RegMr(region, bytearray(8), Access.ZERO_BASED, to=8))


def test_what_cannot_be_registered() -> (
    None
):  # SEC-5041-8.3.2-05, SEC-5042-2.2.2-01, SEC-5042-7.3-01, SEC-5042-6.4.1-01
    pair = Pair()
    node = pair.left
    region = node.pd.alloc_stag(2, max_octets=10)
    for request, message in [
        (RegMr(region, bytearray(11)), "11 octets; .* takes 10"),
        (RegMr(region, [bytearray(1)] * 3), "3 buffers; .* takes 2"),
        (RegMr(region, [bytearray(1), b"constant"]), "read-only"),
        (RegMr(pair.right.pd.alloc_stag(), bytearray(1)), "another protection domain"),
        (RegMr(region, memoryview(bytearray(8))[::2]), "C-contiguous"),
    ]:
        with pytest.raises(BadWorkRequest, match=message):
            node.post(request)
    node.post(RegMr(region, bytearray(1)))
    with pytest.raises(WrongState, match="has memory"):
        node.post(RegMr(region, bytearray(1)))
    assert len(node.sent()) == 1, "nothing else was posted"
    for pieces in (0, 1 << 20):
        with pytest.raises(UsageError, match="buffers in one region"):
            node.pd.alloc_stag(pieces)


def test_a_region_of_one_queue_pair_alone() -> None:  # DDP-5041-8.2-02, -04, SEC-5041-8.3.1-03
    pair = Pair()
    node = pair.left
    other = node.pd.create_qp(node.send_cq, node.recv_cq)
    region = node.pd.alloc_stag(qp=other)
    with pytest.raises(BadWorkRequest, match="another queue pair"):
        node.post(RegMr(region, bytearray(1)))
    own = node.pd.alloc_stag(qp=node.qp)
    node.post(RegMr(own, bytearray(1), REMOTE))
    assert own.memory.scope is node.qp
    with pytest.raises(BadWorkRequest, match="another protection domain"):
        node.pd.alloc_stag(qp=pair.right.qp)


def test_closing() -> None:
    context = Device(max_mr=2).open()
    node = Node(context)
    region, second = node.pd.alloc_stag(), node.pd.alloc_stag()
    with pytest.raises(UsageError, match="holds no more"):
        node.pd.alloc_stag()
    node.qp.close()
    with pytest.raises(RegionInUse):
        node.pd.close()
    with region:
        pass
    region.close()
    assert node.pd.fast_regions == [second]
    node.pd.close(force=True)
    assert not second.is_open
    assert len(context.stags) == 0


def test_only_work_requests_register_it() -> None:
    node = Pair().left
    region = registered(node, bytearray(4))
    with pytest.raises(BadWorkRequest, match="by work requests"):
        region.memory.reregister(bytearray(1))


def test_a_closed_region_takes_no_memory() -> None:
    node = Pair().left
    region = node.pd.alloc_stag()
    region.close()
    with pytest.raises(Closed):
        node.post(RegMr(region, bytearray(1)))
    with pytest.raises(Closed):
        _ = region[:]


# --- order in the send queue -----------------------------------------------------------------------------------------


def held(**options: Any) -> tuple[Pair, FastRegion, bytearray]:
    """A pair whose left queue waits for a Read, with a fast region of the left side and a buffer for it."""
    pair = Pair(**options)
    sink, source = pair.left.region(8), pair.right.region(b"distant!")
    pair.left.post(Read(sink[:], source[:].remote(), "read"))
    return pair, pair.left.pd.alloc_stag(), bytearray(b"fenced memory")


def test_requests_behind_a_registration_that_a_fence_holds() -> None:  # RDMAP-5040-5.5-10
    pair, region, buffer = held()
    target = pair.right.region(6)
    pair.left.post(RegMr(region, buffer, REMOTE, wr_id="reg", fence=True))
    pair.left.post(
        Write((region[:6],), target[:].remote(), "write"),
        Send(inline=region.advertise(), wr_id="send"),
    )
    assert region.is_valid
    assert pair.left.context.stags.get(region.stag) is None, "not for peers before its turn"
    with pytest.raises(RegionInUse, match="1 work requests"):
        region.close()
    received = pair.right.receive(16)
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in ("read", "reg", "write", "send")]
    assert octets_of(target) == b"fenced"
    remote = RemoteRegion.parse(received.view[:16])
    pair.right.post(Write(inline=b"FENCED", remote=remote))
    pair.run()
    assert bytes(buffer) == b"FENCED memory"


def test_an_invalidation_that_a_fence_holds() -> None:
    pair, region, buffer = held()
    pair.left.post(RegMr(region, buffer, REMOTE, wr_id="other"))
    old, remote = region[:], region[:].remote()
    pair.left.post(LocalInvalidate(region, "inv", fence=True))
    assert not region.is_valid
    with pytest.raises(Closed):
        pair.left.post(Send((old,)))  # judged as if what was posted before it were done
    with pytest.raises(Closed):
        pair.left.post(LocalInvalidate(old.region))
    assert pair.left.context.stags.get(remote.stag) is old.region, "peers reach it until its turn"
    pair.left.post(RegMr(region, bytearray(4), REMOTE, wr_id="anew"))
    assert region.is_valid
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in ("read", "other", "inv", "anew")]
    assert pair.left.context.stags.get(remote.stag) is None
    assert pair.left.context.stags.get(region.stag) is region.memory
    buffer.clear()


def test_memory_that_is_given_and_taken_behind_one_fence() -> None:
    pair, region, buffer = held()
    pair.left.post(RegMr(region, buffer, REMOTE, wr_id="reg", fence=True), LocalInvalidate(region, "inv"))
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in ("read", "reg", "inv")]
    assert pair.left.context.stags.get(region.stag) is None
    buffer.clear()


def test_a_read_under_way_is_placed_though_its_sink_is_invalidated() -> None:
    pair = Pair()
    buffer, source = bytearray(8), pair.right.region(b"distant!")
    region = registered(pair.left, buffer)
    pair.left.post(Read(region[:], source[:].remote(), "read"), LocalInvalidate(region, "inv"))
    assert pair.left.context.stags.get(region.stag) is None, "nothing holds it back"
    assert pair.left.sent() == []
    pair.run()
    assert ended(pair.left.sent()) == [("read", Status.SUCCESS), ("inv", Status.SUCCESS)]
    assert buffer == b"distant!"
    buffer.clear()


def test_a_slice_from_before_stays_void() -> None:
    node = Pair().left
    region = registered(node, bytearray(4))
    old = region[:]
    node.post(LocalInvalidate(region), RegMr(region, bytearray(4)))
    with pytest.raises(Closed):
        node.post(Send((old,)))
    with pytest.raises(Closed):
        node.qp.post_recv(Recv((old,)))


def test_the_memory_of_earlier_work_is_kept_until_it_is_complete() -> None:
    pair = Pair()
    buffer, target = bytearray(b"x" * 50_000), pair.right.region(50_000)
    region = registered(pair.left, buffer)
    pair.left_end.clogged = True
    pair.left.post(Write((region[:],), target[:].remote(), "write"), LocalInvalidate(region, "inv"))
    pair.run()
    assert pair.left.sent() == [], "in the order of the queue"
    with pytest.raises(BufferError):
        buffer.clear()
    pair.left_end.clogged = False
    pair.run()
    assert ended(pair.left.sent()) == [("write", Status.SUCCESS), ("inv", Status.SUCCESS)]
    assert octets_of(target) == b"x" * 50_000
    buffer.clear()


def test_what_a_flush_finds_is_undone() -> None:  # RDMAP-5040-6.2.1-02
    pair, region, buffer = held()
    kept, keeping = pair.left.pd.alloc_stag(), bytearray(4)
    pair.left.post(RegMr(kept, keeping, REMOTE))
    stags = region.stag, kept.stag
    plain = pair.left.region(4)
    pair.left.post(
        RegMr(region, buffer, REMOTE, wr_id="reg", fence=True),
        LocalInvalidate(kept, "inv"),
        RegMr(kept, bytearray(2), wr_id="anew"),
        LocalInvalidate(plain, "plain"),
    )
    assert (kept.is_valid, plain.is_open) == (True, False)
    pair.left_end.lose()
    assert [name for name, status in ended(pair.left.sent()) if status is Status.WR_FLUSH_ERR] == [
        *("read", None, "reg", "inv", "anew", "plain")
    ]
    assert (region.stag, kept.stag) == stags
    assert (region.is_valid, kept.is_valid, plain.is_open) == (False, True, True)
    assert kept.view == keeping
    assert pair.left.context.stags.get(kept.stag) is kept.memory
    buffer.clear()
    for handle in (region, kept, plain):
        handle.close()
    keeping.clear()


def test_what_was_done_before_a_flush_stays_done() -> None:
    pair = Pair()
    region, buffer = pair.left.pd.alloc_stag(), bytearray(4)
    pair.left_end.clogged = True
    pair.left.post(Write(inline=b"x", remote=pair.right.region(1)[:].remote(), wr_id="write"))
    pair.left.post(RegMr(region, buffer, REMOTE, wr_id="reg"))
    pair.run()
    assert pair.left.context.stags.get(region.stag) is region.memory, "nothing holds it back"
    pair.left_end.lose()
    assert ended(pair.left.sent()) == [("write", Status.WR_FLUSH_ERR), ("reg", Status.WR_FLUSH_ERR)]
    assert region.is_valid
    region.close()
    buffer.clear()


def test_one_queue_pair_at_a_time_changes_a_region() -> None:
    pair, region, buffer = held()
    pair.left.post(RegMr(region, buffer, fence=True))
    other = Pair()
    node = other.left
    with pytest.raises(BadWorkRequest, match="another protection domain"):
        node.post(LocalInvalidate(region))
    second = pair.left.pd.create_qp(pair.left.send_cq, pair.left.recv_cq)
    second.connect(node.qp.stream.agreement)
    with pytest.raises(WrongState, match="another queue pair"):
        second.post_send(LocalInvalidate(region))
    pair.run()
    second.post_send(LocalInvalidate(region, "second"))
    assert ended(pair.left.sent())[-1] == ("second", Status.SUCCESS)


def test_local_requests_of_a_queue_pair_that_ended_are_flushed() -> None:
    pair = Pair()
    region = pair.left.pd.alloc_stag()
    pair.left_end.lose()
    pair.left.sent()
    pair.left.post(RegMr(region, bytearray(1), wr_id="late"))
    assert ended(pair.left.sent()) == [("late", Status.WR_FLUSH_ERR)]
    assert not region.is_valid
    idle = Node()
    with pytest.raises(WrongState):
        idle.post(RegMr(idle.pd.alloc_stag(), bytearray(1)))


def test_unsignaled_ones_complete_silently() -> None:
    node = Pair().left
    region = node.pd.alloc_stag()
    node.post(RegMr(region, bytearray(1), signaled=False), LocalInvalidate(region, signaled=False))
    assert node.sent() == []
    assert len(node.qp._sq) == 0


def test_the_peer_s_read_ends_with_a_local_invalidate() -> None:  # RDMAP-5040-7.2-09
    pair = Pair()
    region = registered(pair.right, bytearray(1 << 20))
    sink = pair.left.region(1 << 20)
    pair.right_end.clogged = True
    pair.left.post(Read(sink[:], region[:].remote()))
    pair.run()
    pair.right.post(LocalInvalidate(region))
    pair.right_end.clogged = False
    pair.run()
    assert isinstance(pair.right.qp.error, ReadInvalidStag)


# --- by the peer -----------------------------------------------------------------------------------------------------


def test_a_send_with_invalidate_and_memory_anew() -> None:  # RDMAP-5040-5.3-14
    pair = Pair()
    region = registered(pair.right, bytearray(8))
    for turn in range(3):
        pair.right.receive()
        pair.left.post(
            Write(inline=bytes([turn]) * 8, remote=region[:].remote()), Send(inline=b"", inval_stag=region.stag)
        )
        pair.run()
        assert pair.right.received()[0].inval_stag == region.stag
        assert not region.is_valid
        pair.right.post(RegMr(region, bytearray(8), REMOTE))
    assert pair.left.qp.state is QpState.RTS


# --- Read with Local Invalidate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_a_read_that_invalidates_its_sink(fast: bool) -> None:  # SEC-5042-6.2.2-02
    pair = Pair()
    source = pair.right.region(b"0123456789")
    buffer = bytearray(10)
    region = registered(pair.left, buffer) if fast else pair.left.pd.register(buffer, REMOTE)
    sge = region[:]
    remote = sge.remote()
    pair.left.post(Read(sge, source[:].remote(), "read", invalidate_sink=True))
    assert sge.region.is_open, "not before it is complete"
    pair.run()
    assert [(c.wr_id, c.opcode, c.nbytes) for c in pair.left.sent()] == [("read", WorkOpcode.READ, 10)]
    assert buffer == b"0123456789"
    assert not sge.region.is_open
    pair.right.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert isinstance(pair.left.qp.error, InvalidStag)
    buffer.clear()


def test_a_read_that_fails_leaves_its_sink_valid() -> None:
    pair = Pair()
    region = registered(pair.left, bytearray(10))
    pair.left.post(Read(region[:], RemoteRegion(0, 0x1234, 10), "read", invalidate_sink=True))
    pair.run()
    assert ended(pair.left.sent()) == [("read", Status.REM_ACCESS_ERR)]
    assert region.is_valid


def test_a_sink_that_cannot_be_invalidated() -> None:
    pair = Pair()
    with pytest.raises(BadWorkRequest, match="needs one"):
        pair.left.post(Read(None, RemoteRegion(0, 1, 0), invalidate_sink=True))


# --- memory in pieces ------------------------------------------------------------------------------------------------

SIZES = (5, 1, 8, 30, 2)


def pieces(fill: bytes = b"\0") -> list[bytearray]:
    return [bytearray(fill * size) for size in SIZES]


def test_a_peer_sees_one_run_of_tos() -> None:
    pair = Pair(mulpdu=128)
    buffers = [bytearray(size) for size in (100, 7, 1, 0, 250)]
    region = registered(pair.right, buffers)
    assert len(region) == 358
    octets = bytes(range(256)) + bytes(range(102))
    pair.left.post(Write(inline=octets, remote=region[:].remote()))
    sink = pair.left.region(358)
    pair.left.post(Read(sink[:], region[:].remote()))
    pair.run()
    assert b"".join(buffers) == octets == octets_of(sink)
    assert repr(region.memory).startswith("<PagedRegion of 4 pieces, MemoryRegion STag=")
    with pytest.raises(BadWorkRequest, match="4 pieces"):
        _ = region.view


@pytest.mark.parametrize("shift", range(8))
def test_alignment_is_that_of_the_address_in_its_piece(shift: int) -> None:  # EXT-7306-5.2.1-07
    page = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
    memory = registered(Pair().right, [page[shift:40], page[64:80]]).memory
    assert memory is not None
    for offset in range(40 - shift - 7):
        assert memory.misalignment(offset) == (shift + offset) % 8
    assert memory.misalignment(40 - shift) == 0, "the second piece begins at a multiple of eight"
    assert memory.misalignment(40 - shift - 4) == 4, "eight octets in two pieces"


@pytest.mark.parametrize("start", range(sum(SIZES) + 1))
def test_every_span_of_a_region_in_pieces(start: int) -> None:  # DDP-5041-7.1-12, DDP-5041-7.1-13
    pair = Pair()
    total = sum(SIZES)
    for stop in range(start, total + 1):
        buffers = pieces()
        region = registered(pair.right, buffers)
        source = bytes(range(1, stop - start + 1))
        sink = pair.left.region(stop - start)
        pair.left.post(Write(inline=source, remote=region[start:stop].remote()))
        pair.left.post(Read(sink[:], region[start:stop].remote()))
        pair.run()
        assert b"".join(buffers) == bytes(start) + source + bytes(total - stop)
        assert octets_of(sink) == source
        pair.left.sent()


def test_the_bounds_of_a_region_in_pieces() -> None:
    for offset, nbytes in [(sum(SIZES), 1), (sum(SIZES) - 1, 2), (-1, 1)]:
        pair = Pair()
        buffers = pieces()
        region = registered(pair.right, buffers)
        remote = RemoteRegion(region.to + offset, region.stag, nbytes)
        pair.left.post(Write(inline=b"xy"[:nbytes], remote=remote))
        pair.run()
        assert isinstance(pair.right.qp.error, BaseOrBounds)
        assert b"".join(buffers) == bytes(sum(SIZES))


def test_pieces_as_local_memory_of_every_request() -> None:
    pair = Pair()
    buffers = pieces(b"a")
    region = registered(pair.left, buffers)
    target, received = pair.right.region(46), pair.right.receive(46)
    pair.left.post(Write((region[:],), target[:].remote()), Send((region[3:20], region[40:]), "send"))
    pair.run()
    assert octets_of(target) == b"a" * 46
    assert octets_of(received)[:24] == b"a" * 23 + b"\0"
    source = pair.right.region(bytes(range(46)))
    pair.left.post(Read(region[:], source[:].remote()))
    pair.run()
    assert b"".join(buffers) == bytes(range(46))
    pair.left.qp.post_recv(Recv((region[2:12], region[12:40])))
    pair.right.post(Send(inline=b"z" * 38))
    pair.run()
    assert b"".join(buffers) == bytes((0, 1)) + b"z" * 38 + bytes(range(40, 46))
    with pytest.raises(BadWorkRequest, match="one piece"):
        pair.left.post(FetchAdd(source[:8].remote(), 1, sge=region[:8]))


def test_atomics_in_pieces() -> None:  # EXT-7306-8.2-04, EXT-7306-5.2.1-07
    pair = Pair()
    buffers = [bytearray(16), bytearray(12), bytearray(8)]
    region = registered(pair.right, buffers, EVERYTHING)
    for offset, buffer in ((8, buffers[0]), (16, buffers[1]), (28, buffers[2])):
        pair.left.post(FetchAdd(RemoteRegion(region.to + offset, region.stag, 8), 5))
        pair.left.post(CompareSwap(RemoteRegion(region.to + offset, region.stag, 8), 5, 9))
        pair.run()
        assert [completion.value for completion in pair.left.sent()] == [0, 5]
        assert 9 in buffer
    pair.left.post(FetchAdd(RemoteRegion(region.to + 24, region.stag, 8), 5))  # four octets here, four there
    pair.run()
    assert pair.left.qp.state is not QpState.RTS
    assert "multiple of 8" in str(pair.right.qp.error)


def test_pieces_can_be_read_as_views_and_are_let_go() -> None:
    node = Pair().left
    buffers = pieces(b"v")
    region = registered(node, buffers)
    memory = region.memory
    assert b"".join(getattr(memory, "views")) == b"v" * 46  # noqa: B009  # a PagedRegion
    node.post(LocalInvalidate(region))
    with pytest.raises(Closed):
        _ = getattr(memory, "views")  # noqa: B009
    for buffer in buffers:
        buffer.clear()


def test_a_scatter_list_by_hand_names_the_present_memory() -> None:
    node = Pair().left
    region = registered(node, bytearray(4))
    assert region[1:3] == RegionSlice(region.memory, 1, 2)
    assert region.advertise() == bytes(region[:].remote())
    assert region.remote() == region[:].remote()


@pytest.mark.parametrize("octets", [b"abc", b"abcde"])
def test_memory_in_pieces_takes_as_many_octets_as_are_meant_or_none(octets: bytes) -> None:
    """As a view does."""
    pieces = [memoryview(bytearray(3)), memoryview(bytearray(3))]
    spread = Spread(pieces)
    with pytest.raises(ValueError, match="do not fill 4"):
        spread[1:5] = octets
    assert [bytes(piece) for piece in pieces] == [bytes(3), bytes(3)]
    spread[1:5] = b"abcd"
    assert [bytes(piece) for piece in pieces] == [b"\0ab", b"cd\0"]
