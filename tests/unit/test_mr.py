"""Memory: what can be registered, what an STag stands for, and who may reach it (RFC 5041 §7.1, §8, RFC 5042 §6)."""

from __future__ import annotations

import array
import itertools
import mmap
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import pytest

from pyiwarp.errors import (
    BadWorkRequest,
    BaseOrBounds,
    CannotInvalidate,
    Closed,
    InvalidStag,
    NoWriteRight,
    ProtocolViolation,
    ReadAccessRights,
    ReadBounds,
    ReadInvalidStag,
    ReadStagNotAssociated,
    ReadWrap,
    RegionInUse,
    StagNotAssociated,
    TaggedOffsetWrap,
    UsageError,
)
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion, StagTable
from pyiwarp.queues.work import FetchAdd
from tests.harness import Pair

PD = object()
REMOTE = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ


def registered(buffer: Any, access: Access = REMOTE, table: StagTable | None = None, pd: object = PD) -> MemoryRegion:
    return (StagTable() if table is None else table).register(pd, buffer, access, MemoryRegion)


# --- what can be registered ------------------------------------------------------------------------------------------

BUFFERS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(64),
    "memoryview": lambda: memoryview(bytearray(80))[8:72],
    "mmap": lambda: mmap.mmap(-1, 64),
    "array": lambda: array.array("q", range(8)),
    "numpy": lambda: np.arange(8, dtype="<f8").reshape(2, 4),
    "numpy structured": lambda: np.zeros(4, dtype=[("a", "<u8"), ("b", "<u8")]),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_any_contiguous_buffer_is_registered_without_copying(kind: str) -> None:
    buffer = BUFFERS[kind]()
    region = registered(buffer)
    assert region.nbytes == len(region) == 64
    region.view[:4] = b"\x01\x02\x03\x04"
    assert memoryview(buffer).cast("B")[:4].tobytes() == b"\x01\x02\x03\x04"
    region.close()


def test_shared_memory() -> None:
    shared = SharedMemory(create=True, size=64)
    try:
        region = registered(shared.buf)
        region.view[:2] = b"hi"
        assert shared.buf is not None
        assert bytes(shared.buf[:2]) == b"hi"
        region.close()
    finally:
        shared.close()
        shared.unlink()


def test_read_only_buffers_need_rights_that_do_not_write() -> None:
    # SEC-5042-7.3-01, SEC-5042-2.2.2-01, SEC-5041-8.3.2-05, SEC-5040-8.1.2-04
    for access in (Access.LOCAL_WRITE, Access.REMOTE_WRITE, Access.REMOTE_ATOMIC | Access.REMOTE_READ):
        with pytest.raises(BadWorkRequest, match="read-only"):
            registered(b"constant", access)
    region = registered(b"constant", Access.REMOTE_READ)
    assert bytes(region.view) == b"constant"
    region.close()


@pytest.mark.parametrize(
    "buffer",
    [memoryview(bytearray(8))[::2], np.zeros((4, 4))[:, :2], np.asfortranarray(np.zeros((3, 2))), "text", 5, None],
)
def test_what_is_not_contiguous_memory_is_refused(buffer: Any) -> None:
    with pytest.raises(BadWorkRequest, match="C-contiguous"):
        registered(buffer)


@pytest.mark.parametrize("buffer", [bytearray(), b"", np.zeros(0), memoryview(b"abc")[3:]])
def test_empty_memory(buffer: Any) -> None:
    region = registered(buffer, Access(0))
    assert (region.nbytes, bytes(region.view)) == (0, b"")
    region.close()


def test_registered_memory_cannot_be_resized() -> None:
    buffer = bytearray(8)
    region = registered(buffer)
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    region.close()
    buffer.extend(b"more")


def test_registered_memory_is_kept_alive() -> None:
    region = registered(bytearray(b"alone"))
    assert bytes(region.view) == b"alone"
    region.close()


# --- STags and TOs ---------------------------------------------------------------------------------------------------


def test_stags_are_unique_and_hard_to_predict() -> None:
    # SEC-5040-8.1.1-08
    table = StagTable()
    regions = [registered(bytearray(1), table=table) for _ in range(2000)]
    stags = [region.stag for region in regions]
    assert len(set(stags)) == len(table) == 2000
    assert all(0 < stag < 1 << 32 and stag >> 8 for stag in stags)
    steps = {later - earlier for earlier, later in itertools.pairwise(stags)}
    assert len(steps) > 1990, "the distance between two says nothing"
    assert len({stag & 0xFF for stag in stags}) > 200
    for region in regions:
        region.close()
    assert len(table) == 0


def test_a_source_of_stags_that_runs_dry_is_noticed() -> None:
    table = StagTable(lambda: 0)
    with pytest.raises(UsageError, match="no free STag"):
        registered(bytearray(1), table=table)


def test_a_taken_index_is_not_given_twice() -> None:
    indices = iter([5, 5, 5, 6])
    table = StagTable(lambda: next(indices, 7))
    regions = [registered(bytearray(1), table=table) for _ in range(3)]
    assert len({region.stag for region in regions}) == 3


def test_zero_based_and_address_like_offsets() -> None:  # DDP-5041-8.3-01
    table = StagTable()
    assert registered(bytearray(8), REMOTE | Access.ZERO_BASED, table).to == 0
    regions = [registered(bytearray(size), table=table) for size in (8, 5000, 1, 100_000)]
    spans = sorted((region.to, region.to + region.nbytes) for region in regions)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans)), "none overlap"
    assert all(start >= 1 << 46 and end < 1 << 63 for start, end in spans)


def test_the_base_has_the_alignment_of_the_memory() -> None:
    memory = mmap.mmap(-1, 8192)
    view = memoryview(memory)
    for offset in (0, 1, 8, 100):
        region = registered(view[offset : offset + 64])
        assert region.to % 4096 == offset
        region.close()
    view.release()
    memory.close()


# --- who may reach it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_based", [False, True])
def test_sink_and_source(zero_based: bool) -> None:  # DDP-5041-7.1-10, DDP-5041-7.1-13, RDMAP-5040-7.2-11, -12
    # RDMAP-5040-3.2-07
    table = StagTable()
    region = registered(bytearray(b"0123456789"), REMOTE | (Access.ZERO_BASED if zero_based else Access(0)), table)
    for offset, nbytes in [(0, 10), (9, 1), (0, 1), (10, 0), (3, 4)]:
        to = region.to + offset
        assert table.sink(region.stag, to, nbytes, PD, Access.REMOTE_WRITE) == region.view[offset : offset + nbytes]
        view, owner = table.source(region.stag, to, nbytes, PD)
        assert (view, owner) == (region.view[offset : offset + nbytes], region)


OUTSIDE = [(-1, 1), (10, 1), (0, 11), (9, 2), (1 << 20, 1), (0, 1 << 32)]


@pytest.mark.parametrize(("offset", "nbytes"), OUTSIDE)
def test_octets_outside_the_region(offset: int, nbytes: int) -> None:
    # RDMAP-5040-3.2-07
    # DDP-5041-7.1-12, DDP-5041-7.1-13, RDMAP-5040-7.2-11, RDMAP-5040-7.2-12
    table = StagTable()
    region = registered(bytearray(10), table=table)
    with pytest.raises(BaseOrBounds, match=f"{region.stag:#010x}"):
        table.sink(region.stag, region.to + offset, nbytes, PD, Access.REMOTE_WRITE)
    with pytest.raises(ReadBounds):
        table.source(region.stag, region.to + offset, nbytes, PD)


@pytest.mark.parametrize(("to", "nbytes"), [((1 << 64) - 1, 2), ((1 << 64) - 10, 1 << 31)])
def test_octets_past_the_end_of_the_world(to: int, nbytes: int) -> None:  # DDP-5041-7.1-14, RDMAP-5040-7.2-13
    table = StagTable()
    region = registered(bytearray(10), REMOTE | Access.ZERO_BASED, table)
    with pytest.raises(TaggedOffsetWrap):
        table.sink(region.stag, to, nbytes, PD, Access.REMOTE_WRITE)
    with pytest.raises(ReadWrap):
        table.source(region.stag, to, nbytes, PD)


def refused_by(table: StagTable, region: MemoryRegion, pd: object) -> list[type[ProtocolViolation]]:
    """How a Write and a Read of the peer fail."""
    found: list[type[ProtocolViolation]] = []
    for reach in (
        lambda: table.sink(region.stag, region.to, 1, pd, Access.REMOTE_WRITE),
        lambda: table.source(region.stag, region.to, 1, pd),
    ):
        with pytest.raises(ProtocolViolation) as caught:
            reach()
        found.append(type(caught.value))
    return found


def test_an_stag_that_names_nothing() -> None:  # DDP-5041-7.1-10, RDMAP-5040-7.2-09, DDP-5041-8.3-02, DDP-5041-8.3-04
    # RDMAP-5040-3.2-07
    # SEC-5041-8.3.1-05, SEC-5040-8.1.1-04
    table = StagTable()
    region = registered(bytearray(10), table=table)
    region.close()
    assert refused_by(table, region, PD) == [InvalidStag, ReadInvalidStag]


def test_an_stag_of_another_protection_domain() -> None:  # DDP-5041-8.2-01, DDP-5041-7.2-02, RDMAP-5040-7.2-10
    table = StagTable()
    region = registered(bytearray(10), table=table)
    assert refused_by(table, region, object()) == [StagNotAssociated, ReadStagNotAssociated]


def test_rights() -> None:  # DDP-5041-7.1-11, RDMAP-5040-7.2-14, RDMAP-5040-3.2-07
    # SEC-5041-8.3.1-06, SEC-5040-8.1.1-05, SEC-5042-6.3.5-01
    table = StagTable()
    writable = registered(bytearray(10), Access.REMOTE_WRITE, table)
    readable = registered(bytearray(10), Access.REMOTE_READ, table)
    local = registered(bytearray(10), Access.LOCAL_WRITE, table)
    assert refused_by(table, local, PD) == [NoWriteRight, ReadAccessRights]
    table.sink(writable.stag, writable.to, 1, PD, Access.REMOTE_WRITE)
    table.source(readable.stag, readable.to, 1, PD)
    with pytest.raises(NoWriteRight):
        table.sink(readable.stag, readable.to, 1, PD, Access.REMOTE_WRITE)
    with pytest.raises(ReadAccessRights):
        table.source(writable.stag, writable.to, 1, PD)


def test_invalidation() -> None:  # RDMAP-5040-5.3-14, RDMAP-5040-5.3-15, RDMAP-5040-7.2-04, RDMAP-5040-7.2-05
    table = StagTable()
    region = registered(bytearray(10), table=table)
    with pytest.raises(CannotInvalidate, match="not associated"):
        table.invalidate(region.stag, object())
    with pytest.raises(CannotInvalidate, match="names no region"):
        table.invalidate(region.stag ^ 1, PD)
    assert region.is_open
    table.invalidate(region.stag, PD)
    assert not region.is_open
    assert refused_by(table, region, PD) == [InvalidStag, ReadInvalidStag]
    with pytest.raises(CannotInvalidate):
        table.invalidate(region.stag, PD)


def test_the_peer_cannot_invalidate_what_it_was_never_given() -> None:
    table = StagTable()
    region = registered(bytearray(10), Access.LOCAL_WRITE, table)
    with pytest.raises(CannotInvalidate, match="no access"):
        table.invalidate(region.stag, PD)
    assert region.is_open


# --- pins ------------------------------------------------------------------------------------------------------------


def test_a_pinned_region_cannot_be_closed() -> None:
    region = registered(bytearray(10))
    region.pin()
    region.pin()
    with pytest.raises(RegionInUse, match="2 pieces of work"):
        region.close()
    assert region.is_open
    region.unpin()
    region.unpin()
    with region:
        assert region.pins == 0
    region.close()
    assert not region.is_open


def test_a_retired_region_is_let_go_by_the_last_unpin() -> None:
    buffer, calls = bytearray(b"0123456789"), list[str]()
    region = registered(buffer)
    region.pin()
    region.pin()
    region.retire(lambda: calls.append("first"))
    assert not region.is_open
    with pytest.raises(Closed, match="closed"):
        _ = region.view
    region.retire(lambda: calls.append("second"))
    with pytest.raises(RegionInUse):
        region.close()
    region.unpin()
    assert region.pinned_view(3, 2).tobytes() == b"34", "work in flight still has its memory"
    assert calls == []
    region.unpin()
    assert calls == ["first", "second"]
    buffer.clear()
    region.retire(lambda: calls.append("third"))
    assert calls == ["first", "second", "third"]
    region.close()


def test_views_of_the_user_s_do_not_stand_in_the_way() -> None:
    region = registered(bytearray(8))
    mine = np.frombuffer(region.view, dtype=np.uint8)
    region.pin()
    region.retire()
    region.unpin()
    assert mine.sum() == 0


# --- slices and advertisements ---------------------------------------------------------------------------------------


def test_slices() -> None:
    region = registered(bytearray(b"0123456789"))
    assert [bytes(region[a:b].view) for a, b in [(0, 3), (-2, None), (5, 2)]] == [b"012", b"89", b""]
    assert bytes(region[:].view) == b"0123456789"
    assert region[4:99].nbytes == 6
    with pytest.raises(BadWorkRequest, match="step of 2"):
        region[::2]


def test_an_advertisement_is_what_rping_sends() -> None:  # SEC-5042-6.3.4-01
    region = registered(bytearray(100))
    octets = region[10:30].advertise()
    assert octets == (region.to + 10).to_bytes(8, "big") + region.stag.to_bytes(4, "big") + (20).to_bytes(4, "big")
    remote = RemoteRegion.parse(octets)
    assert remote == region[10:30].remote() == RemoteRegion(region.to + 10, region.stag, 20)
    assert bytes(remote) == octets
    assert remote.at(5) == remote[5:] == RemoteRegion(region.to + 15, region.stag, 15)
    assert region.advertise() == region[:].advertise()
    assert str(remote) == f"STag={region.stag:#010x} TO={region.to + 10:#x} [20 octets]"


@pytest.mark.parametrize("offset", [-1, 21])
def test_a_part_outside_an_advertisement(offset: int) -> None:
    with pytest.raises(BadWorkRequest, match=f"not {offset}: STag"):
        RemoteRegion(0, 1, 20).at(offset)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_advertisement_has_16_octets(size: int) -> None:
    with pytest.raises(BadWorkRequest, match=f"not {size}"):
        RemoteRegion.parse(bytes(size))


def test_more_than_an_advertisement_can_say() -> None:
    memory = mmap.mmap(-1, 1 << 32)
    region = registered(memory)
    with pytest.raises(BadWorkRequest, match="advertise a part"):
        region.advertise()
    assert RemoteRegion.parse(region[1:].advertise()).nbytes == (1 << 32) - 1
    region.close()
    memory.close()


def test_a_region_prints_itself_in_one_line() -> None:
    region = registered(bytearray(4), Access.REMOTE_READ)
    text = repr(region)
    assert f"STag={region.stag:#010x}" in text
    assert "4 octets" in text
    region.close()
    assert "closed" in repr(region)


def test_memory_is_let_go_though_the_error_that_ended_the_stream_is_kept() -> None:
    buffer = bytearray(24)
    pair = Pair()
    region = pair.right.pd.register(buffer, Access.REMOTE_ATOMIC)
    pair.left.post(FetchAdd(region[1:9].remote(), 1))  # its address is not a multiple of eight
    pair.run()
    assert pair.right.qp.error is not None
    region.close()
    buffer.append(0)


def test_a_slice_of_a_slice() -> None:
    memory = bytearray(range(200))
    region = StagTable().register(object(), memory, Access.LOCAL_WRITE, MemoryRegion)
    half: Any = region[50:150]  # type checkers take a slice of a named tuple for a plain tuple
    first: Any = region[:100]
    part = half[10:20]
    assert part == RegionSlice(region, 60, 10)
    assert bytes(part.view) == memory[60:70]
    assert first[95:] == region[95:100]
    assert first[:200] == first
    assert first[-5:-1] == region[95:99]
    assert first[10:10].nbytes == 0
    assert part[1] == 60  # the fields by number, as those of any tuple
    with pytest.raises(BadWorkRequest, match="step"):
        first[::2]


def test_an_stag_that_is_reserved_is_given_to_nobody_else() -> None:
    indices = iter([5, 5, 5, 6, 5])
    table = StagTable(lambda: next(indices))
    reserved = table.reserve("its owner")
    assert reserved >> 8 == 5
    region = table.register(PD, bytearray(8), Access.LOCAL_WRITE, MemoryRegion)
    assert region.stag >> 8 == 6
    table.unreserve(reserved)
    again = table.register(PD, bytearray(8), Access.LOCAL_WRITE, MemoryRegion)
    assert again.stag >> 8 == 5
