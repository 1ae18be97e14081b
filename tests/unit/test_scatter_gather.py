"""Lists of elements, inline octets and nothing at all, for each kind of work request (RFC 5040 §5, RFC 5041 §5.2)."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp.errors import BadWorkRequest
from pyiwarp.mr import Access, MemoryRegion
from pyiwarp.queues.work import SendRequest
from pyiwarp.verbs import CompareSwap, FetchAdd, Immediate, QpState, Read, Recv, Send, Status, Write
from tests.harness import REMOTE, Pair, ended, octets_of


def regions(pair: Pair) -> list[MemoryRegion]:
    return [pair.left.region(octets) for octets in (b"one ", b"", b"two ", b"three")]


@pytest.mark.parametrize("mulpdu", [None, 128])
def test_many_regions_are_gathered_and_scattered(mulpdu: int | None) -> None:
    pair = Pair(mulpdu=mulpdu)
    sources = [pair.left.region(bytes([number]) * (37 * number)) for number in range(16)]
    sges = tuple(region[:] for region in sources)
    octets = b"".join(map(octets_of, sources))
    target = pair.right.region(len(octets))
    sinks = [pair.right.region(size) for size in (1, 0, 200, 3, len(octets) - 204)]
    pair.right.qp.post_recv(Recv(tuple(sink[:] for sink in sinks), "recv"))
    pair.left.post(Write(sges, target[:].remote(), "write"), Send(sges, "send"))
    pair.run()
    assert octets_of(target) == octets
    assert b"".join(map(octets_of, sinks)) == octets
    assert [completion.nbytes for completion in pair.right.received()] == [len(octets)]
    assert ended(pair.left.sent()) == [("write", Status.SUCCESS), ("send", Status.SUCCESS)]
    assert {region.pins for region in (*sources, *sinks)} == {0}


@pytest.mark.parametrize("solicited", [False, True])
def test_lists_of_every_kind_of_send(solicited: bool) -> None:
    pair = Pair()
    sges = tuple(region[:] for region in regions(pair))
    for inval in (None, pair.right.region(1).stag):
        received = pair.right.receive(13)
        pair.left.post(Send(sges, solicited=solicited, inval_stag=inval))
        pair.run()
        assert octets_of(received) == b"one two three"
        assert pair.right.received()[0].solicited == solicited


def test_the_same_octets_twice_in_one_list() -> None:
    pair = Pair()
    region, received = pair.left.region(b"abc"), pair.right.receive(7)
    pair.left.post(Send((region[:], region[1:], region[:2])))
    pair.run()
    assert octets_of(received) == b"abcbcab"


NOTHING: dict[str, Any] = {
    "no element": lambda pair: ((), None),
    "an empty element": lambda pair: ((pair.left.region(4)[2:2],), None),
    "an empty region": lambda pair: ((pair.left.region(0)[:],), None),
    "inline": lambda pair: ((), b""),
}


@pytest.mark.parametrize("case", NOTHING)
def test_messages_of_no_octets(case: str) -> None:  # DDP-5041-5.2-10, DDP-5041-5.2-12, RDMAP-5040-5.2.1-15
    pair = Pair()
    sges, inline = NOTHING[case](pair)
    target = pair.right.region(4)
    pair.right.receive(0)
    pair.left.post(Send(sges, "send", inline), Write(sges, target[4:].remote(), "write", inline))
    if inline is None:
        pair.left.post(Read(sges[0] if sges else None, target[:].remote(), "read"))
    pair.run()
    assert all(completion.ok and completion.nbytes == 0 for completion in pair.left.sent())
    assert [completion.nbytes for completion in pair.right.received()] == [0]
    assert pair.left.qp.state is pair.right.qp.state is QpState.RTS


def test_inline_octets_of_each_kind() -> None:
    pair = Pair()
    target, received = pair.right.region(8), pair.right.receive(8)
    octets = bytearray(b"in line!")
    pair.left.post(Write(inline=octets, remote=target[:].remote()), Send(inline=memoryview(octets)))
    octets[:] = bytes(8)
    pair.run()
    assert octets_of(target) == octets_of(received) == b"in line!"
    region = pair.left.region(4)
    for request in (Send((region[:],), inline=b"x"), Write((region[:],), target[:].remote(), inline=b"x")):
        with pytest.raises(BadWorkRequest, match="inline"):
            pair.left.post(request)
    with pytest.raises(BadWorkRequest, match="8 octets"):
        pair.left.post(Immediate(b"four"))


@pytest.mark.parametrize("kind", ["read", "fetch and add", "compare and swap"])
def test_an_answer_goes_to_one_element(kind: str) -> None:  # RDMAP-5040-5.2.1-09
    pair = Pair()
    one, two = pair.left.region(8), pair.left.region(8)
    remote = pair.right.region(16, REMOTE | Access.REMOTE_ATOMIC)[:].remote()
    many: Any = (one[:4], two[:4])
    requests: dict[str, SendRequest] = {
        "read": Read(many, remote),
        "fetch and add": FetchAdd(remote, 1, sge=many),
        "compare and swap": CompareSwap(remote, 1, 2, sge=many),
    }
    with pytest.raises(BadWorkRequest, match=r"one SGE.*RFC 5040 §5.2.1"):
        pair.left.post(requests[kind])
    assert (one.pins, two.pins) == (0, 0)


def test_a_list_that_is_too_long() -> None:
    pair = Pair()
    region = pair.left.region(4)
    many = (region[:],) * 17
    for request in (Send(many), Write(many, pair.right.region(99)[:].remote())):
        with pytest.raises(BadWorkRequest, match="17 SGEs; this queue pair takes 16"):
            pair.left.post(request)
    with pytest.raises(BadWorkRequest, match="17 SGEs"):
        pair.left.qp.post_recv(Recv(many))
