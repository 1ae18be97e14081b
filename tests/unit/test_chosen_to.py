"""TOs that the program chooses when it registers memory (RFC 5041 §3, §7.1; RFC 7306 §8.2)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pyiwarp.access import TO_LIMIT, check_aligned, page_offset
from pyiwarp.errors import BadWorkRequest
from pyiwarp.mr import Access
from pyiwarp.verbs import FetchAdd, Read, Write
from tests.harness import REMOTE, Pair, octets_of

ATOMIC = Access.LOCAL_WRITE | Access.REMOTE_ATOMIC


def test_a_peer_reaches_memory_by_the_to_that_was_chosen() -> None:
    pair = Pair()
    memory = bytearray(b"0123456789")
    region = pair.right.pd.register(memory, REMOTE, to=0x7F00_0000_0003)
    assert (region.to, region[4:].remote().to) == (0x7F00_0000_0003, 0x7F00_0000_0007)
    local = pair.left.region(3)
    pair.left.post(Write(inline=b"xyz", remote=region[7:].remote()), Read(local[:], region[6:9].remote()))
    pair.run()
    assert (bytes(memory), octets_of(local)) == (b"0123456xyz", b"6xy")


@pytest.mark.parametrize("to", [0, 1, TO_LIMIT - 8])
def test_the_first_and_the_last_tos(to: int) -> None:  # DDP-5041-7.1-14
    pair = Pair()
    region = pair.right.pd.register(bytearray(8), REMOTE, to=to)
    pair.left.post(Write(inline=b"x", remote=region[7:].remote()))
    pair.run()
    assert (pair.right.qp.error, octets_of(region)) == (None, bytes(7) + b"x")
    pair.left.pd.register(bytearray(8), REMOTE | Access.ZERO_BASED, to=0)


@pytest.mark.parametrize("to", [-1, TO_LIMIT - 7, TO_LIMIT, 1 << 80])
def test_memory_that_would_pass_the_last_to(to: int) -> None:  # DDP-5041-7.1-14
    pd = Pair().left.pd
    with pytest.raises(BadWorkRequest, match=rf"8 octets do not fit behind TO {to:#x}: .*\(RFC 5041 §3\)"):
        pd.register(bytearray(8), to=to)
    with pytest.raises(BadWorkRequest, match="zero based begins at TO 0, not 0x8"):
        pd.register(bytearray(8), Access.ZERO_BASED, to=8)
    wrong: Any = "8"
    expected = (BadWorkRequest, TypeError)  # the compiled package looks at types first
    with pytest.raises(expected, match=r"not of type 'str' \(RFC 5041 §3\)|got str"):
        pd.register(bytearray(8), to=wrong)
    assert (len(pd.stags), pd.regions) == (0, [])


def test_tos_for_atomics_are_aligned_as_the_memory_is() -> None:  # EXT-7306-8.2-04
    pair = Pair()
    memory = bytearray(24)
    base = page_offset(memoryview(memory)) % 8
    region = pair.right.pd.register(memory, ATOMIC, to=0x10_0000 + base)
    aligned = -base % 8
    pair.left.post(FetchAdd(region[aligned : aligned + 8].remote(), 5))
    pair.run()
    assert pair.right.qp.error is None
    assert int.from_bytes(memory[aligned : aligned + 8], sys.byteorder) == 5
    for off in range(1, 8):
        with pytest.raises(BadWorkRequest, match=rf"lies {off} octets past .*\(RFC 7306 §8.2\)"):
            pair.right.pd.register(memory, ATOMIC, to=0x10_0000 + base + off)
        check_aligned(base + off, memoryview(memory), REMOTE)
    assert pair.right.pd.regions == [region], "memory without Atomics may begin anywhere"
