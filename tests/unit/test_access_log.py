"""Access logs: who wrote, read, changed or invalidated what, and the counters (RFC 5042 §6)."""

from __future__ import annotations

import itertools

import pytest

from pyiwarp.errors import NoWriteRight, UsageError
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.verbs import AccessLog, BindMw, FetchAdd, LocalInvalidate, Read, RegionCounters, Send, Write
from tests.harness import REMOTE, Pair, octets_of

ALL = REMOTE | Access.REMOTE_ATOMIC | Access.WINDOW_BIND


def logged(maxlen: int = 100, size: int = 4096) -> tuple[Pair, MemoryRegion, AccessLog]:
    pair, log = Pair(mulpdu=512), AccessLog(maxlen, stamp=itertools.count(100).__next__)
    return pair, pair.right.pd.register(bytearray(size), ALL, log=log), log


def test_what_is_noted() -> None:
    pair, region, log = logged()
    pair.right.qp.peer = "192.0.2.7:4420"
    sink = pair.left.region(2000)
    remote = region[:].remote()
    pair.left.post(
        Write(inline=b"12", remote=remote.at(8)),
        Read(sink[:], remote.at(4)),
        FetchAdd(remote.at(16), 5),
        Write(remote=remote),
        Send(inline=b"", inval_stag=region.stag),
    )
    pair.right.receive()
    pair.run()
    qp, stag, to = pair.right.qp.qp_num, region.stag, region.to
    assert [tuple(record)[1:] for record in log] == [
        (log_kind, qp, "192.0.2.7:4420", stag, to + offset, offset, nbytes, 1, stamp)
        for log_kind, offset, nbytes, stamp in zip(
            [record.kind for record in log], [8, 4, 16, 0], [2, 2000, 8, 0], itertools.count(100), strict=False
        )
    ]
    assert [record.kind.value for record in log] == ["write", "read", "atomic", "invalidate"]
    assert [record.seq for record in log] == [1, 2, 3, 4]
    assert log.counters == RegionCounters(1, 2, 1, 2000, 1, 1), "a Write of nothing reaches nothing"
    first = next(iter(log))
    assert str(first) == (f"#1 write by QP {qp} 192.0.2.7:4420: STag={stag:#010x} TO={to + 8:#x} offset 8 [2 octets]")
    assert repr(log) == "<AccessLog 4 of 100 records, 4 noted>"
    assert octets_of(sink)[4:6] == b"12"


def test_the_segments_of_a_write_make_one_record() -> None:
    pair, region, log = logged()
    pair.left.post(Write(inline=bytes(1000), remote=region[:].remote()), Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    long, short = log
    assert (long.nbytes, long.segments, long.stamp) == (1000, 3, 100)
    assert (short.nbytes, short.segments, short.offset) == (1, 1, 0)
    assert log.counters == RegionCounters(write_segments=4, octets_written=1001)


def test_a_log_is_bounded() -> None:
    pair, region, log = logged(2)
    for offset in (0, 100, 200):
        pair.left.post(Write(inline=b"x", remote=region[offset:].remote()))
    pair.run()
    assert [(record.seq, record.offset) for record in log] == [(2, 100), (3, 200)]
    assert len(log) == 2
    log.clear()
    assert (len(log), log.counters.write_segments) == (0, 3)
    with pytest.raises(UsageError, match="-1"):
        AccessLog(-1)


def test_counters_alone() -> None:
    pair, region, log = logged(0)
    pair.left.post(Write(inline=b"xy", remote=region[:].remote()), Write(inline=b"z", remote=region[2:].remote()))
    pair.run()
    assert list(log) == []
    assert log.counters == RegionCounters(write_segments=2, octets_written=3)


def test_what_comes_through_a_window_is_noted_in_the_region_s_log() -> None:
    pair, region, log = logged()
    window = pair.right.pd.alloc_window()
    pair.right.post(BindMw(window, region[100:200], Access.REMOTE_WRITE | Access.ZERO_BASED))
    pair.left.post(Write(inline=b"x", remote=RemoteRegion(5, window.stag, 1)))
    pair.run()
    (record,) = log
    assert (record.stag, record.to, record.offset) == (window.stag, 5, 105)
    pair.right.post(LocalInvalidate(window))
    assert len(log) == 1, "this side's own doing is not noted"


def test_what_is_refused_is_not_noted() -> None:  # DDP-5041-7.1-11
    pair, log = Pair(), AccessLog()
    region = pair.right.pd.register(bytearray(8), Access.LOCAL_WRITE | Access.REMOTE_READ, log=log)
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, NoWriteRight)
    assert list(log) == []
    assert octets_of(region) == bytes(8)


def test_a_region_without_a_log_is_found_the_fast_way() -> None:
    pair, region, _ = logged()
    plain = pair.right.region(8, ALL)
    assert plain.log is None
    assert plain.rights == int(ALL)
    assert region.rights == int(ALL & ~(Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC))
    assert region.access == ALL


def test_this_side_may_use_a_region_with_a_log_as_any_other() -> None:
    pair, region, log = logged()
    source = pair.left.region(b"local")
    pair.right.post(Read(region[:5], source[:].remote()))
    pair.run()
    assert octets_of(region)[:5] == b"local"
    region.reregister(access=ALL)
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    assert len(log) == 1
