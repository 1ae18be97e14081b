"""Re-registration, rights, and how a region ends while work is in flight (RFC 5040 §3.2, RFC 5041 §8)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from pyiwarp.errors import (
    BadWorkRequest,
    Closed,
    InvalidStag,
    NoWriteRight,
    RegionInUse,
    StagNotAssociated,
)
from pyiwarp.mr import Access
from pyiwarp.verbs import Context, LocalInvalidate, Read, Recv, RegMr, Send, Write
from tests.harness import REMOTE, Node, Pair, octets_of


def test_other_memory() -> None:
    pair = Pair()
    old, new = bytearray(8), bytearray(b"0123456789")
    region = pair.right.pd.register(old, REMOTE)
    stag, to = region.stag, region.to
    region.reregister(new)
    old.clear()
    with pytest.raises(BufferError):
        new.clear()
    assert (region.nbytes, region.access, region.is_open) == (10, REMOTE, True)
    assert region.stag >> 8 == stag >> 8
    assert region.stag != stag
    assert region.to != to
    pair.left.post(Write(inline=b"xyz", remote=region[7:].remote()))
    pair.run()
    assert bytes(new) == b"0123456xyz"
    region.close()
    new.clear()


def test_the_old_stag_is_void() -> None:  # DDP-5041-7.1-10, SEC-5042-6.2.2-02
    pair = Pair()
    region = pair.right.region(8)
    remote = region[:].remote()
    region.reregister(access=REMOTE)
    pair.left.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert isinstance(pair.right.qp.error, InvalidStag)


def test_an_stag_that_is_kept_stands_for_the_new_memory() -> None:
    pair = Pair()
    old, new = bytearray(8), bytearray(8)
    region = pair.right.pd.register(old, REMOTE, to=0x8000)
    remote = region[:].remote()
    region.reregister(new, keep_stag=True, to=0x8000)
    assert region[:].remote() == remote
    pair.left.post(Write(inline=b"x", remote=remote))
    pair.run()
    assert old == bytes(8)
    assert new == b"x" + bytes(7)
    old.clear()
    region.reregister(keep_stag=True, to=0x9000)
    assert (region.stag, region.to) == (remote.stag, 0x9000)
    pair.left.post(Write(inline=b"y", remote=region[1:].remote()))
    pair.run()
    assert new[:2] == b"xy"
    assert pair.right.qp.error is None
    region.reregister(access=Access.LOCAL_WRITE, keep_stag=True)
    assert (region.stag, region.to) == (remote.stag, 0x9000)
    pair.left.post(Write(inline=b"z", remote=region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, NoWriteRight)
    assert new[:2] == b"xy"


def test_an_stag_that_is_kept_moves_to_another_protection_domain() -> None:  # DDP-5041-8.2-01
    pair = Pair()
    region, second = pair.right.region(8), pair.right.context.alloc_pd()
    stag = region.stag
    region.reregister(pd=second, keep_stag=True)
    assert (region.stag, second.regions) == (stag, [region])
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, StagNotAssociated)


@pytest.mark.parametrize("keep_stag", [False, True])
def test_a_to_that_cannot_be_changes_nothing(keep_stag: bool) -> None:  # DDP-5041-7.1-14
    pd = Pair().left.pd
    region = pd.register(bytearray(8), REMOTE, to=8)
    before = region[:].remote()
    with pytest.raises(BadWorkRequest, match=r"16 octets do not fit behind TO 0xfffffffffffffff8: .*\(RFC 5041 §3\)"):
        region.reregister(bytearray(16), access=Access(0), pd=pd.context.alloc_pd(), to=2**64 - 8, keep_stag=keep_stag)
    assert (region[:].remote(), region.access, region.pd) == (before, REMOTE, pd)


@pytest.mark.parametrize("keep_stag", [False, True])
def test_memory_in_use_is_not_exchanged(keep_stag: bool) -> None:
    node = Pair().left
    region = node.receive(8)
    with pytest.raises(RegionInUse):
        region.reregister(bytearray(8), keep_stag=keep_stag)


def test_other_rights() -> None:  # DDP-5041-7.1-11
    pair = Pair()
    region = pair.right.region(8)
    to = region.to
    region.reregister(access=Access.LOCAL_WRITE | Access.REMOTE_READ)
    assert region.to == to, "the same memory"
    region.reregister(access=region.access | Access.ZERO_BASED)
    assert region.to == 0
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, NoWriteRight)


def test_another_protection_domain() -> None:  # DDP-5041-8.2-01
    pair = Pair()
    region, second = pair.right.region(8), pair.right.context.alloc_pd()
    region.reregister(pd=second)
    assert (pair.right.pd.regions, second.regions) == ([], [region])
    assert region.pd is region.scope is second
    with pytest.raises(BadWorkRequest, match="another protection domain"):
        pair.right.post(Send((region[:],)))
    region.reregister(pd=second)
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    assert isinstance(pair.right.qp.error, StagNotAssociated)
    with pytest.raises(RegionInUse):
        second.close()
    second.close(force=True)
    assert not region.is_open


def test_what_cannot_be_reregistered_stays_as_it_was() -> None:
    # SEC-5041-8.3.2-05, SEC-5042-2.2.2-01, SEC-5042-7.3-01
    pair = Pair()
    node = pair.left
    region, own = node.region(8), node.pd.register(bytearray(8), qp=node.qp)
    before = region.stag, region.to, region.nbytes, region.access
    closed_pd = node.context.alloc_pd()
    closed_pd.close()
    attempts: list[tuple[Callable[[], None], type[Exception], str]] = [
        (lambda: region.reregister(b"constant"), BadWorkRequest, "read-only"),
        (lambda: region.reregister(memoryview(bytearray(8))[::2]), BadWorkRequest, "C-contiguous"),
        (lambda: region.reregister(pd=Context().alloc_pd()), BadWorkRequest, "another context"),
        (lambda: region.reregister(bytearray(1), pd=closed_pd), Closed, "protection domain is closed"),
        (lambda: own.reregister(pd=node.context.alloc_pd()), BadWorkRequest, "belongs to a queue pair"),
    ]
    for attempt, error, message in attempts:
        with pytest.raises(error, match=message):
            attempt()
    node.qp.post_recv(Recv((region[:],)))
    with pytest.raises(RegionInUse, match="1 pieces of work"):
        region.reregister(bytearray(1))
    assert (region.stag, region.to, region.nbytes, region.access) == before
    assert node.context.stags.get(region.stag) is region
    region.retire()
    with pytest.raises(Closed):
        region.reregister(bytearray(1))


def test_the_key_alone_changes_and_cannot_be_guessed() -> None:
    node = Node()
    region = node.region(1)
    stags = [region.stag]
    for _ in range(256):
        region.reregister()
        stags.append(region.stag)
    assert {stag >> 8 for stag in stags} == {region.stag >> 8}
    assert all(old != new for old, new in itertools.pairwise(stags)), "what a peer was told is void"
    steps = {(new - old) % 256 for old, new in itertools.pairwise(stags)}
    assert len(steps) > 64, "no step is the usual one"
    region.close()
    assert len(node.context.stags) == 0


@pytest.mark.parametrize("right", [Access.REMOTE_WRITE, Access.REMOTE_ATOMIC])
def test_remote_writing_does_not_ask_for_local_writing(right: Access) -> None:
    pair = Pair()
    region = pair.right.region(8, right)
    with pytest.raises(BadWorkRequest, match="LOCAL_WRITE"):
        pair.right.qp.post_recv(Recv((region[:],)))
    with pytest.raises(BadWorkRequest, match="LOCAL_WRITE"):
        pair.right.post(Read(region[:], pair.left.region(8)[:].remote()))
    if right is Access.REMOTE_WRITE:
        pair.left.post(Write(inline=b"mine", remote=region[:].remote()))
        pair.run()
        assert octets_of(region)[:4] == b"mine"


# --- the end of a region ---------------------------------------------------------------------------------------------


def test_closing_is_refused_and_retiring_waits() -> None:
    pair = Pair()
    buffer = bytearray(50_000)
    region, target = pair.left.pd.register(buffer), pair.right.region(50_000)
    pair.left_end.clogged = True
    pair.left.post(Write((region[:],), target[:].remote()))
    pair.run()
    with pytest.raises(RegionInUse, match="1 pieces of work in flight"):
        region.close()
    calls: list[str] = []
    region.when_released(lambda: calls.append("asked before"))
    assert (region.is_open, calls) == (True, []), "that closes nothing"
    region.retire(lambda: calls.append("retired"))
    with pytest.raises(BufferError):
        buffer.clear()
    assert calls == []
    pair.left_end.clogged = False
    pair.run()
    assert calls == ["asked before", "retired"]
    buffer.clear()
    region.when_released(lambda: calls.append("late"))
    assert calls[2:] == ["late"]


def test_the_next_key_cannot_be_predicted() -> None:  # SEC-5040-8.1.1-08
    node = Pair().right
    region, fast = node.pd.register(bytearray(8), REMOTE), node.pd.alloc_stag()
    registered, given = list[int](), list[int]()
    for _ in range(400):
        region.reregister()
        node.post(RegMr(fast, bytearray(8), REMOTE), LocalInvalidate(fast))
        registered.append(region.stag)
        given.append(fast.stag)
    for stags in (registered, given):
        steps = [(after - before) & 0xFF for before, after in itertools.pairwise(stags)]
        assert 0 not in steps, "the last key is void"
        assert len(set(steps)) > 100, "of 255; each comes as often as the others"
        assert {stag >> 8 for stag in stags} == {stags[0] >> 8}


def test_atomics_are_not_allowed_later_where_register_would_refuse_them() -> None:  # EXT-7306-8.2-04
    region = Pair().right.pd.register(bytearray(64), REMOTE, to=0x8003)
    with pytest.raises(BadWorkRequest, match="the same past a multiple of 8"):
        region.reregister(access=REMOTE | Access.REMOTE_ATOMIC)
    assert (region.access, region.to) == (REMOTE, 0x8003)
    region.reregister(access=REMOTE | Access.REMOTE_ATOMIC, to=0x8008)
    assert region.access & Access.REMOTE_ATOMIC
