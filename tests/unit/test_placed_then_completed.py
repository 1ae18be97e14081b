"""A completion that is seen means that the octets are in the memory, however TCP cuts the stream.

RFC 5040 §5.5 and RFC 5041 §5.3: placement is finished before delivery. Memory whose completion has not been seen may
hold a part of its octets, and none of another message.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.verbs import FetchAdd, Read, Recv, Send, Status, Write
from tests.harness import Pair, RawPeer, cut, octets_of, response, send
from tests.unit.stage import Stage, asked

OCTETS = bytes(range(1, 256)) * 23
CHUNKS = [1, 7, 1460, 4096]
AGREED: dict[str, dict[str, Any]] = {
    "plain": {},
    "markers": {"initiator": Offer(markers=True), "responder": Offer(markers=True)},
    "no CRC": {"initiator": Offer(crc=False), "responder": Offer(crc=False)},
}


def filled(region: MemoryRegion) -> int:
    """How many octets of it are there; all of those that are not are zero still."""
    octets = octets_of(region)
    count = len(octets.rstrip(b"\0"))
    assert octets[:count] == OCTETS[:count], "octets are placed where they belong"
    return count


@pytest.mark.parametrize("agreed", AGREED)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_receive(chunk: int, agreed: str) -> None:  # RDMAP-5040-5.3-05, DDP-5041-5.3-06
    pair = Pair(chunk=chunk, **AGREED[agreed])
    sinks = [pair.right.receive(len(OCTETS), number) for number in range(3)]
    for number in range(3):
        pair.left.post(Send((pair.left.region(OCTETS)[:],), number))
    seen = 0
    steps = 0
    while pair.step():
        steps += 1
        for completion in pair.right.received():
            assert (completion.wr_id, completion.status, completion.nbytes) == (seen, Status.SUCCESS, len(OCTETS))
            assert filled(sinks[seen]) == len(OCTETS)
            seen += 1
        for later in sinks[seen + 1 :]:
            assert filled(later) == 0, "a Send behind the present one has no octets yet"
    assert seen == 3
    assert steps > 3


@pytest.mark.parametrize("agreed", AGREED)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_read(chunk: int, agreed: str) -> None:  # RDMAP-5040-5.5-19, RDMAP-5040-5.2-01
    pair = Pair(chunk=chunk, **AGREED[agreed])
    source = pair.right.region(OCTETS)
    sinks = [pair.left.region(len(OCTETS)) for _ in range(3)]
    for number, sink in enumerate(sinks):
        pair.left.post(Read(sink[:], source[:].remote(), number))
    seen = 0
    while pair.step():
        for completion in pair.left.sent():
            assert (completion.wr_id, completion.status, completion.nbytes) == (seen, Status.SUCCESS, len(OCTETS))
            assert filled(sinks[seen]) == len(OCTETS)
            assert sinks[seen].pins == 0
            seen += 1
        for later in sinks[seen + 1 :]:
            assert filled(later) == 0
    assert seen == 3


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_write_and_the_send_behind_it(chunk: int) -> None:  # RDMAP-5040-5.5-06: what the Send tells of is there
    pair = Pair(chunk=chunk)
    target = pair.right.region(len(OCTETS))
    pair.right.receive(8, "told")
    pair.left.post(Write((pair.left.region(OCTETS)[:],), target[:].remote()), Send(inline=b"look"))
    told = False
    while pair.step():
        if pair.right.received():
            told = True
            assert filled(target) == len(OCTETS)
    assert told


@pytest.mark.parametrize("chunk", CHUNKS)
def test_an_atomic_s_answer_is_in_its_sink(chunk: int) -> None:
    pair = Pair(chunk=chunk)
    word = pair.right.region((7).to_bytes(8, sys.byteorder), Access.LOCAL_WRITE | Access.REMOTE_ATOMIC)
    sink = pair.left.region(8)
    pair.left.post(FetchAdd(word[:].remote(), 5, sge=sink[:], wr_id="add"))
    seen = []
    while pair.step():
        for completion in pair.left.sent():
            seen.append(completion.value)
            assert int.from_bytes(octets_of(sink), sys.byteorder) == 7
        if not seen:
            assert octets_of(sink) == bytes(8)
    assert seen == [7]


@pytest.mark.parametrize("size", [1, 600, 1400])
def test_all_but_the_last_segment_completes_nothing(size: int) -> None:
    """Nor does an octet less than the whole last FPDU: the CRC of what is placed must have been right."""
    stage = Stage()
    sink = asked(stage, 3 * size)
    payload = OCTETS[: 3 * size]
    segments = cut(response(sink.stag, sink.to, payload), size, size)
    for segment in segments[:-1]:
        stage.peer.sends(segment)
        assert stage.node.sent() == []
    frame = stage.peer.frames(segments[-1])
    stage.peer.sends(frame[:-1])
    assert stage.node.sent() == []
    assert octets_of(sink)[: 2 * size] == payload[: 2 * size]
    stage.peer.sends(frame[-1:])
    (completion,) = stage.node.sent()
    assert (completion.status, completion.nbytes) == (Status.SUCCESS, 3 * size)
    assert octets_of(sink) == payload


def test_a_receive_completes_with_its_last_octet_and_not_before() -> None:  # DDP-5041-5.3-06
    stage = Stage()
    first, last = cut(send(OCTETS[:40]), 32)
    stage.peer.sends(first)
    assert stage.node.received() == []
    frame = stage.peer.frames(last)
    for at in range(len(frame) - 1):
        stage.peer.sends(frame[at : at + 1])
        assert stage.node.received() == []
    stage.peer.sends(frame[-1:])
    assert [completion.nbytes for completion in stage.node.received()] == [40]
    assert octets_of(stage.receive) == OCTETS[:40]


def test_a_completion_s_callback_finds_the_octets() -> None:
    """Whoever is called by the completion sees the memory full already."""
    peer = RawPeer()
    sink = peer.node.region(8, Access.LOCAL_WRITE)
    found = []
    peer.node.recv_cq.taker = lambda completion: found.append((completion.nbytes, octets_of(sink)))
    peer.node.qp.post_recv(Recv((sink[:],)))
    peer.sends(send(b"complete"))
    assert found == [(8, b"complete")]
    into = peer.node.region(8, Access.LOCAL_WRITE)
    peer.node.send_cq.taker = lambda completion: found.append((completion.nbytes, octets_of(into)))
    peer.node.post(Read(into[:], RemoteRegion(0x1000, 0x77, 8)))
    peer.hears()
    peer.sends(response(into.stag, into.to, b"answered"))
    assert found[1:] == [(8, b"answered")]
