"""A Send that waits for its receive lies in memory that streams share: nobody else may have it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp.mr import Access
from pyiwarp.queues.work import Recv, Status
from tests.harness import Node, RawPeer, cut, ended, octets_of, send, write

SIZES = [1, 100, 1400, 2000, 2047, 2048, 2049, 5000, 60_000]


def starved(**agreement: Any) -> RawPeer:
    return RawPeer(Node(pause_when_starved=True), **agreement)


def others_come_and_go(count: int = 12) -> None:
    """Streams that use, one after the other and side by side, whatever memory is free."""
    peers = [RawPeer() for _ in range(count)]
    for peer in peers:
        target = peer.node.region(40_000)
        peer.node.receive(40_000)
        noise = b"\xee" * 40_000
        frame = peer.frames(send(noise))
        peer.sends(peer.frames(write(target.stag, target.to, noise)), frame[:30_000])
    for peer in peers:
        peer.end.lose()


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_starved_send_keeps_its_octets(size: int, markers: bool, crc: bool) -> None:  # DDP-5041-7.1-06
    peer = starved(crc=crc, receive_markers=markers)
    octets = bytes(number * 7 % 251 for number in range(size))
    peer.sends(send(octets))  # the last octets that came are those of the Send
    assert not peer.node.qp.wants_input
    others_come_and_go()
    region = peer.node.receive(size, "late")
    peer._pump()
    assert ended(peer.node.received()) == [("late", Status.SUCCESS)]
    assert octets_of(region) == octets
    assert peer.node.qp.wants_input


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_what_has_come_behind_it_is_kept_too(size: int) -> None:
    peer = starved()
    octets = [bytes([number]) * size for number in range(1, 5)]
    *whole, last = (peer.frames(send(each)) for each in octets)
    peer.sends(b"".join(whole) + last[: size // 2])
    regions = []
    for number in range(3):
        others_come_and_go()
        regions.append(peer.node.receive(size, number))
        peer._pump()
    others_come_and_go()
    regions.append(peer.node.receive(size, 3))
    peer._pump()
    peer.sends(last[size // 2 :])
    assert [completion.wr_id for completion in peer.node.received()] == [0, 1, 2, 3]
    assert [octets_of(region) for region in regions] == octets


def test_segments_of_one_message_around_the_pause() -> None:
    """A message of which one segment came while there was no receive."""
    peer = starved()
    octets = bytes(range(250)) * 30
    pieces = cut(send(octets), 2500, 2500)
    peer.sends(pieces[0])
    others_come_and_go()
    region = peer.node.pd.register(bytearray(len(octets)), Access.LOCAL_WRITE)
    peer.node.qp.post_recv(Recv((region[:],), "one"))
    peer._pump()
    assert peer.node.received() == []
    peer.sends(pieces[1], pieces[2])
    assert ended(peer.node.received()) == [("one", Status.SUCCESS)]
    assert octets_of(region) == octets
