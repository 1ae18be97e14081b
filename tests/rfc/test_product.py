"""Two ends of the stack in every way in which they can be joined, with octets that arrive in pieces of any size.

Revision, CRC, markers of either direction, the way of opening, the size of FPDUs: every scenario runs in all
combinations. What goes over the wire is parsed strictly on the way.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest

from pyiwarp.codes import Opcode, Rtr
from pyiwarp.errors import ConnectionLost, InvalidStag, MessageTooLong, ProtocolViolation, TerminatedByPeer
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import CompareSwap, FetchAdd, Immediate, Read, Send, SendRequest, Status, Write
from tests.harness import End, Heard, Node, Pair, ended, octets_of, unframe
from tests.rfc.scene import ALL_RIGHTS, page, word

NO_RTR = Rtr(0)


class Case(NamedTuple):
    """One way in which two ends are joined; the markers are those of the Initiator's and of the Responder's octets."""

    revision: int
    crc: bool
    markers: tuple[bool, bool]
    rtr: Rtr
    mulpdu: int

    def __str__(self) -> str:
        marked = "".join("m" if each else "-" for each in self.markers)
        way = f"rtr-{self.rtr.name}".lower() if self.rtr else "plain"
        return f"rev{self.revision}-{'crc' if self.crc else 'nocrc'}-{marked}-{way}-{self.mulpdu}"


CASES = [
    Case(revision, crc, markers, rtr, mulpdu)
    for revision, crc, markers, rtr, mulpdu in itertools.product(
        (1, 2),
        (True, False),
        ((False, False), (False, True), (True, False), (True, True)),
        (NO_RTR, *Rtr),
        (128, 1_442, 64_768),
    )
    if revision == 2 or not rtr
]
OPENING = {Rtr.SEND: Opcode.SEND, Rtr.WRITE: Opcode.WRITE, Rtr.READ: Opcode.READ_REQUEST}

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def joined(case: Case) -> Pair:
    """Two ends after startup; whoever opened with a Send had a receive for it."""
    chance = random.Random(str(case))
    sizes = (1, 2, 3, 7, 61, 509, 4_096, 100_000) if case.mulpdu < 10_000 else (3, 509, 9_001, 50_000, 100_000)

    def offer(mine: bool) -> Offer:
        return Offer(revision=case.revision, crc=case.crc, markers=mine, rtr=case.rtr, private_data=b"from either side")

    def prepare(left: Node, right: Node) -> None:
        if case.rtr is Rtr.SEND:
            right.receive(0, "opening")

    pair = Pair(
        initiator=offer(case.markers[1]),  # who asks for markers is who receives them
        responder=offer(case.markers[0]),
        chunk=lambda: chance.choice(sizes),
        mulpdu=case.mulpdu,
        opened=False,
        prepare=prepare,
    )
    assert pair.failures == []
    for node, sends, receives in ((pair.left, *case.markers), (pair.right, *case.markers[::-1])):
        agreement = node.qp.stream.agreement
        assert (agreement.revision, agreement.crc) == (case.revision, case.crc)
        assert (agreement.send_markers, agreement.receive_markers) == (sends, receives)
        assert agreement.private_data == b"from either side"
        assert agreement.peer_to_peer is bool(case.rtr)
    assert pair.right.qp.stream.muted is not bool(case.rtr), "an opening message opens the Responder's mouth"
    opening = [done.wr_id for done in pair.right.received()]
    assert opening == (["opening"] if case.rtr is Rtr.SEND else [])
    return pair


def heard(case: Case, end: End, *, initiator: bool) -> list[Heard]:
    """Every FPDU that an end has said,, parsed strictly."""
    stream = memoryview(bytes(end.said))[20 + int.from_bytes(end.said[18:20], "big") :]
    found: list[Heard] = []
    at = 0
    while at < len(stream):
        ulpdu, size = unframe(stream[at:], at, markers=case.markers[0 if initiator else 1], crc=case.crc)
        assert len(ulpdu) <= case.mulpdu
        found.append(Heard(ulpdu))
        at += size
    return found


# --- what is said in one direction -----------------------------------------------------------------------------------


class Talk:
    """All that `one` can ask of `other`, and what must come of it."""

    def __init__(self, case: Case, one: Node, other: Node, mark: int) -> None:
        self.one, self.other = one, other
        large = case.mulpdu > 10_000
        self.sends = [0, 1, case.mulpdu - 17] if large else [0, 1, case.mulpdu - 18, case.mulpdu - 17, 400]
        self.written = [0, case.mulpdu - 13] if large else [0, 3, case.mulpdu - 14, case.mulpdu - 13, 900]
        self.read = list(itertools.accumulate(self.written, initial=5))
        self.source = one.region(bytes((n + mark) % 251 for n in range(70_000)))
        self.sink = one.region(70_000, Access.LOCAL_WRITE)
        self.target = other.region(70_000)
        self.asked = other.region(bytes((n * 3 + mark) % 253 for n in range(70_000)), Access.REMOTE_READ)
        self.counter = other.pd.register(page(8), ALL_RIGHTS)
        self.void = [other.region(1) for _ in range(2)]
        self.receives = [other.receive(66_000 if large else 2_000, number) for number in range(len(self.sends) + 6)]
        self.requests = self._requests()
        one.post(*self.requests)

    def _requests(self) -> list[SendRequest]:
        counter = self.counter[:].remote()
        requests: list[SendRequest] = [Send((self.source[:nbytes],)) for nbytes in self.sends]
        requests += [Write((self.source[:n],), self.target[:n].remote()) for n in self.written]
        requests += [
            Send(inline=b"solicited", solicited=True),
            Read(self.sink[:5], self.asked[:5].remote()),
            FetchAdd(counter, 41),
            Send(inline=b"invalidate", inval_stag=self.void[0].stag),
            CompareSwap(counter, compare=41, swap=7),
            Send(inline=b"both", inval_stag=self.void[1].stag, solicited=True),
            Immediate(b"01234567"),
            *[Read(self.sink[start:stop], self.asked[start:stop].remote()) for start, stop in pairwise(self.read)],
            Immediate(b"76543210", solicited=True),
            Send(inline=b"the end", fence=True),
        ]
        return [request._replace(wr_id=number) for number, request in enumerate(requests)]

    def check(self) -> None:
        done = self.one.sent()
        assert ended(done) == [(number, Status.SUCCESS) for number in range(len(self.requests))]
        assert [each.value for each in done if each.value is not None] == [0, 41]
        assert octets_of(self.counter) == word(7)
        longest = max(self.written)
        assert octets_of(self.target)[: longest + 1] == octets_of(self.source)[:longest] + b"\0"
        whole = self.read[-1]
        assert octets_of(self.sink)[: whole + 1] == octets_of(self.asked)[:whole] + b"\0"
        assert [region.is_open for region in self.void] == [False, False]
        self._check_received()

    def _check_received(self) -> None:
        stags = [region.stag for region in self.void]
        expected: list[tuple[bytes, bool, int | None, bytes | None]] = [
            (octets_of(self.source)[:nbytes], False, None, None) for nbytes in self.sends
        ]
        expected += [
            (b"solicited", True, None, None),
            (b"invalidate", False, stags[0], None),
            (b"both", True, stags[1], None),
            (b"", False, None, b"01234567"),
            (b"", True, None, b"76543210"),
            (b"the end", False, None, None),
        ]
        done = self.other.received()
        assert [each.wr_id for each in done] == list(range(len(expected)))
        for each, region, (octets, solicited, stag, immediate) in zip(done, self.receives, expected, strict=True):
            assert (each.solicited, each.inval_stag, each.immediate) == (solicited, stag, immediate)
            assert immediate is not None or octets_of(region)[: each.nbytes] == octets


# --- scenarios -------------------------------------------------------------------------------------------------------


@every_case
def test_everything_in_both_directions_and_a_graceful_end(case: Case) -> None:
    # MPA-5044-7.1.1-07, MPA-5044-4.4-07, MPA2-6581-9.2-18
    pair = joined(case)
    talks = [Talk(case, pair.left, pair.right, 1), Talk(case, pair.right, pair.left, 2)]
    pair.run()
    for talk in talks:
        talk.check()
    pair.nodes[case.mulpdu == 128].qp.disconnect()
    pair.run()
    assert [node.qp.state for node in pair.nodes] == [QpState.IDLE] * 2
    assert [node.qp.error for node in pair.nodes] == [None] * 2
    assert all(end.closed and end.got_fin for end in pair.ends)
    said = heard(case, pair.left_end, initiator=True)
    if case.rtr:
        assert (said[0].opcode, said[0].payload if case.rtr is not Rtr.READ else b"") == (OPENING[case.rtr], b"")
    for each in (said, heard(case, pair.right_end, initiator=False)):
        kinds = {one.opcode for one in each}
        assert kinds == set(Opcode) - {Opcode.TERMINATE}
        for qn in (0, 1, 3):
            msns = [one.msn for one in each if one.qn == qn and one.last]
            assert msns == list(range(1, len(msns) + 1))


def broken_by(
    case: Case,
    *,
    initiator: bool,
    request: Callable[[MemoryRegion], SendRequest],
    receive: Status = Status.WR_FLUSH_ERR,
) -> Pair:
    """One side breaks a rule, behind something good and before more; the other says so, and both end."""
    pair = joined(case)
    if pair.right.qp.stream.muted:
        pair.left.post(Write(signaled=False))
        pair.run()
    bad, good = pair.nodes if initiator else pair.nodes[::-1]
    region = good.region(b"." * 100)
    good.receive(10, "first")
    good.receive(10, "second")
    source = bad.region(200)
    bad.post(
        Send(inline=b"good", wr_id=1), request(source)._replace(wr_id=2), Write((source[:9],), region[:9].remote(), 3)
    )
    bad.post(Read(source[:4], region[:4].remote(), 4))
    pair.run()
    assert ended(good.received()) == [("first", Status.SUCCESS), ("second", receive)]
    assert [done.wr_id for done in bad.sent()] == [1, 2, 3, 4]
    assert octets_of(region) == b"." * 100
    assert all(end.closed for end in pair.ends)
    assert [node.qp.state for node in pair.nodes] == [QpState.ERROR] * 2
    terminates = [one for one in heard(case, pair.right_end if initiator else pair.left_end, initiator=not initiator)]
    assert [one.opcode for one in terminates if one.opcode is Opcode.TERMINATE] == [Opcode.TERMINATE]
    assert isinstance(bad.qp.error, TerminatedByPeer)
    assert isinstance(good.qp.error, ProtocolViolation)
    assert bad.qp.error.term == terminates[-1].term == good.qp.error.term
    return pair


@every_case
def test_a_write_to_nowhere(case: Case) -> None:
    pair = broken_by(case, initiator=True, request=lambda source: Write((source[:],), RemoteRegion(0, 5, 200)))
    assert type(pair.right.qp.error) is InvalidStag


@every_case
def test_a_message_that_is_too_long(case: Case) -> None:
    pair = broken_by(case, initiator=False, request=lambda source: Send((source[:],)), receive=Status.LOC_LEN_ERR)
    assert type(pair.left.qp.error) is MessageTooLong


@every_case
def test_tcp_breaks_in_the_middle(case: Case) -> None:
    pair = joined(case)
    talks = [Talk(case, pair.left, pair.right, 1), Talk(case, pair.right, pair.left, 2)]
    for _ in range(random.Random(str(case)).randrange(40)):
        pair.step()
    for end in pair.ends:
        end.lose()
    for talk in talks:
        done = [*talk.one.sent()]
        assert [each.wr_id for each in done] == list(range(len(talk.requests))), "each once, in order"
        flushed = [each.status is not Status.SUCCESS for each in done]
        assert flushed == sorted(flushed), "nothing succeeds behind what was flushed"
        assert [each.wr_id for each in talk.other.received()] == list(range(len(talk.receives)))
        assert talk.source.pins == talk.sink.pins == talk.asked.pins == 0
    assert all(isinstance(node.qp.error, ConnectionLost) for node in pair.nodes)
