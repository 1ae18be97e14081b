"""The fast way and the plain one of receiving are twins: the same fate for any input."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from pyiwarp.access import REMOTE
from pyiwarp.codes import Opcode
from pyiwarp.errors import LocalCatastrophe, NoWriteRight, Term
from pyiwarp.mpa import INTACT
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.work import Read
from tests.harness import Node, RawPeer, Segment, feed, octets_of, read, response, send, terminate, write

MANY = settings(max_examples=300)


Deed = Callable[["Side"], Segment | bytes]


class Side:
    """A queue pair with memory of every kind; `short` says which way it takes."""

    def __init__(self, *, short: bool, crc: bool, markers: bool = False, **qp_options: Any) -> None:
        self.node = Node(mulpdu=128, pause_when_starved=False, **qp_options)
        self.peer = RawPeer(self.node, crc=crc, send_markers=markers, receive_markers=markers)
        self.regions = {
            "open": self.node.region(600),
            "small": self.node.region(24),
            "read only": self.node.region(64, Access.REMOTE_READ),
            "local": self.node.region(64, Access.LOCAL_WRITE),
            "another domain's": self.node.context.alloc_pd().register(bytearray(64), Access.REMOTE_WRITE),
        }
        self.sinks = [self.node.region(300, Access.LOCAL_WRITE) for _ in range(2)]
        for number, (name, region) in enumerate([*self.regions.items(), *enumerate(self.sinks)]):
            table = self.node.context.stags if name != "another domain's" else region.table
            table._regions[0x100 + number] = table._regions.pop(region.stag)
            region.stag, region.to = 0x100 + number, 0x1000
        self.inbox = [self.node.receive(size, number) for number, size in enumerate((40, 300, 40, 0, 40))]
        for number, sink in enumerate(self.sinks):
            self.node.post(Read(sink[: 100 + number], RemoteRegion(0, 5, 100 + number), f"read {number}"))
        if qp_options.get("judge_receives_late"):
            self.inbox[2].close()
            self.inbox[2].stag, self.inbox[2].to = 0x900, 0x1000  # the same in every message
        if not short:
            self.node.qp.stream._fast_receive = None
            self.node.qp.stream._awaits_alone = False

    def outcome(self) -> object:
        """All that can be seen of what happened."""
        heard = [frame.ulpdu for frame in self.peer.hears()]
        done = [
            (c.wr_id, c.status, c.nbytes, c.solicited, c.inval_stag, str(c.error))
            for c in [*self.node.sent(), *self.node.received()]
        ]
        memory = [octets_of(region) for region in [*self.regions.values(), *self.sinks, *self.inbox] if region.is_open]
        stream = self.node.qp.stream
        return heard, done, memory, self.node.qp.state, str(self.node.qp.error), stream.fpdus_received, stream.muted


payloads = st.binary(max_size=48)
lasts = st.booleans()
names = st.sampled_from(["open"] * 20 + ["small", "read only", "local", "another domain's"])
offsets = st.integers(0, 40) | st.integers(0, 500) | st.sampled_from([-1, 552, 560, 599, 600])


def writes() -> st.SearchStrategy[Deed]:
    return st.builds(
        lambda name, at, payload, last: lambda s: write(s.regions[name].stag, 0x1000 + at, payload, last=last),
        names,
        offsets,
        payloads,
        lasts,
    )


def responses() -> st.SearchStrategy[Deed]:
    return st.builds(
        lambda n, at, payload, last: lambda s: response(s.sinks[n].stag, 0x1000 + at, payload, last=last),
        st.sampled_from([0, 0, 0, 1]),
        st.integers(0, 60),
        payloads,
        st.sampled_from([False, False, False, True]),
    )


def sends() -> st.SearchStrategy[Deed]:
    return st.builds(
        lambda payload, last, mo, opcode: lambda s: send(payload, last=last, mo=mo, opcode=opcode),
        payloads,
        lasts | st.just(True),
        st.just(0) | st.integers(0, 30),
        st.sampled_from([Opcode.SEND] * 3 + [Opcode.SEND_SE]),
    )


def oddities() -> st.SearchStrategy[Deed]:
    """What the fast way leaves alone."""
    odd: list[Deed] = [
        lambda s: send(opcode=Opcode.SEND_INVAL, inval_stag=s.regions["open"].stag),
        lambda s: send(b"12345678", opcode=Opcode.IMMEDIATE),
        lambda s: read(s.regions["open"], size=9),
        lambda s: send(b"abc", msn=7),
        lambda s: write(s.regions["open"].stag, 0x1000, b"abc", dv=2),
        lambda s: write(s.regions["open"].stag, 0x1000, b"abc", rv=2),
        lambda s: write(s.regions["open"].stag, 0x1000, b"abc", ddp_rsvd=9, rdmap_rsvd=3),
        lambda s: send(b"abc", ddp_rsvd=9, rdmap_rsvd=3, inval_stag=77),
        lambda s: send(b"abc", qn=3, msn=1),
        lambda s: b"\xff\xff" + bytes(40),
        lambda s: bytes(30),
    ]
    return st.sampled_from(odd)


@MANY
@given(
    script=st.lists(st.one_of(*[writes()] * 4, *[responses()] * 4, *[sends()] * 4, oddities()), max_size=14),
    chunks=st.lists(st.integers(1, 300), max_size=30),
    crc=st.booleans(),
    damage=st.none() | st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
    apart=st.sampled_from([0, 1, 2]),
    markers=st.booleans(),
    access=st.sampled_from([REMOTE, REMOTE, Access.REMOTE_READ]),
    judge_receives_late=st.booleans(),
    immediate_apart=st.sampled_from([0, 1]),
    shared=st.booleans(),
)
def test_any_input_has_the_same_fate(
    script: list[Deed], chunks: list[int], crc: bool, damage: tuple[float, int] | None, apart: int, **options: Any
) -> None:  # MPA-5044-6-01, MPA-5044-4.4-18, DDP-5041-7.1-12, DDP-5041-7.1-09, MPA-5044-3-08, MPA-5044-4.3-14
    assert_same_fate(script, chunks, crc=crc, damage=damage, apart=apart, **options)


def test_a_send_that_comes_by_itself_is_delivered_by_itself() -> None:
    side = Side(short=True, crc=True)
    qp = side.node.qp
    for nbytes in (39, 300, 1):
        octets = side.peer.frames(send(bytes(nbytes), opcode=Opcode.SEND_SE))
        qp.receive_view()[: len(octets)] = octets
        assert qp.stream.receive_alone(len(octets), qp._rq)
    assert [(done.nbytes, done.solicited) for done in side.node.received()] == [(39, True), (300, True), (1, True)]


Message = tuple[bytes, bool, int | None]


def taken(script: list[Segment], wants: list[bool] | None, pieces: list[int]) -> tuple[list[Message], int, object]:
    """The messages that were received, how many of them were read directly, and what is left."""
    node = Node()
    peer = RawPeer(node)
    exposed = node.region(64)
    boxes = [node.receive(64, number) for number in range(len(script) + 1)]
    messages: list[Message] = []
    given = 0
    asked = iter(wants or ())

    def read_directly(octets: memoryview) -> bool:
        nonlocal given
        if not next(asked, True):
            return False
        given += 1
        messages.append((bytes(octets), False, None))
        return True

    if wants is not None:
        node.qp.take_small(read_directly)
    for number, segment in enumerate(script):
        named = replace(segment, inval_stag=exposed.stag) if segment.inval_stag else segment
        feed(node.qp, peer.frames(named), pieces[number : number + 1])
        for done in node.received():
            if done.ok:
                assert isinstance(done.wr_id, int)
                invalidated = None if done.inval_stag is None else 1
                messages.append((octets_of(boxes[done.wr_id])[: done.nbytes], done.solicited, invalidated))
    counters = node.qp.counters()
    left = node.qp.query().receives_posted + counters.flushed - given
    return messages, given, (node.qp.state, left, counters._replace(flushed=0))


@given(
    script=st.lists(
        st.builds(
            lambda payload, opcode: send(payload, opcode=opcode, inval_stag=int(opcode is Opcode.SEND_INVAL)),
            payloads,
            st.sampled_from([Opcode.SEND] * 4 + [Opcode.SEND_SE, Opcode.SEND_INVAL]),
        ),
        max_size=8,
    ),
    wants=st.lists(st.booleans(), max_size=8),
    pieces=st.lists(st.integers(1, 80), max_size=8),
)
def test_octets_that_are_read_directly_are_those_of_the_receives(
    script: list[Segment], wants: list[bool], pieces: list[int]
) -> None:  # RDMAP-5040-5.3-05
    messages, _, left = taken(script, None, pieces)
    directly, _, left_then = taken(script, wants, pieces)
    assert directly == messages
    assert left_then == left


def test_a_small_send_that_nobody_has_to_be_told_of_is_read_directly() -> None:
    script = [send(b"one"), send(b"two", opcode=Opcode.SEND_SE), send(b"three")]
    messages, given, _ = taken(script, [], [])
    assert [octets for octets, _, _ in messages] == [b"one", b"two", b"three"]
    assert given == 2


@pytest.mark.parametrize("crc", [False, True])
def test_a_write_and_the_send_behind_it_that_come_together_are_delivered_at_once(crc: bool) -> None:
    side = Side(short=True, crc=crc)
    qp, region = side.node.qp, side.regions["open"]
    for number, nbytes in enumerate((40, 500, 3)):
        both = write(region.stag, 0x1000 + number, bytes([number + 1]) * nbytes), send(b"done")
        octets = b"".join(side.peer.frames(segment) for segment in both)
        qp.receive_view()[: len(octets)] = octets
        assert qp.stream.receive_alone(len(octets), qp._rq)
    assert octets_of(region)[:4] == b"\1\2\3\3"
    assert [done.nbytes for done in side.node.received()] == [4, 4, 4]
    assert qp.stream.fpdus_received == 6


@pytest.mark.parametrize("behind", [[send(b"late")], [write(0, 0x1000, b"late"), send(b"later")]])
def test_what_comes_behind_a_terminate_is_discarded(behind: list[Segment]) -> None:  # MPA-5044-8-09
    side = Side(short=True, crc=True)
    node, peer, region = side.node, side.peer, side.regions["open"]
    peer.end.clogged = True
    node.send(b"on its way")
    peer._pump()
    peer.sends(terminate(Term(0, 0, 0x00)))
    octets = b"".join(peer.frames(replace(each, stag=region.stag) if each.tagged else each) for each in behind)
    node.qp.receive_view()[: len(octets)] = octets
    node.qp.received(len(octets))
    assert node.received() == []
    assert octets_of(region)[:4] == bytes(4)


def assert_same_fate(
    script: list[Deed],
    chunks: list[int],
    *,
    crc: bool = True,
    damage: tuple[float, int] | None = None,
    apart: int = 0,
    markers: bool = False,
    **qp_options: Any,
) -> Side:
    """Play the script to both; returns the side that took the fast way. So many FPDUs come at once if it is not 0."""
    sides = []
    for short in (False, True):
        side = Side(short=short, crc=crc, markers=markers, **qp_options)
        octets, sizes = bytearray(), []
        for deed in script:
            deeds = deed(side)
            fpdu = deeds if isinstance(deeds, bytes) else side.peer.frames(deeds)
            octets += fpdu
            sizes.append(len(fpdu))
        if damage is not None and octets:
            octets[int(damage[0] * len(octets))] ^= damage[1]
        side.peer.hears()
        together = [sum(sizes[at : at + apart]) for at in range(0, len(sizes), apart)] if apart else chunks
        feed(side.node.qp, octets, together)
        sides.append(side)
    plain, shortened = sides
    assert shortened.outcome() == plain.outcome()
    return shortened


def to_open(at: int, nbytes: int, **fields: Any) -> Deed:
    return lambda s: write(s.regions["open"].stag, 0x1000 + at, bytes([1 + at % 250]) * nbytes, **fields)


def answered(at: int, nbytes: int) -> Deed:
    return lambda s: response(s.sinks[0].stag, 0x1000 + at, bytes([1 + at % 250]) * nbytes, last=False)


def sent(mo: int, nbytes: int, **fields: Any) -> Deed:
    return lambda s: send(bytes([1 + mo % 250]) * nbytes, mo=mo, **fields)


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([to_open(600 - n, n) for n in (1, 40, 600)], ""),
        ([to_open(500, 40), to_open(560, 40), to_open(561, 40)], "outside the region"),  # DDP-5041-7.1-13
        ([to_open(0, 40), to_open(-1, 40)], "outside the region"),  # DDP-5041-7.1-12
        ([to_open(0, 40), to_open(0, 601)], "outside the region"),
        ([to_open(560, 40), sent(0, 4), to_open(561, 40), sent(0, 4)], "outside the region"),  # DDP-5041-7.1-13
        ([to_open(0, 40), sent(0, 4), to_open(-1, 40), sent(0, 4)], "outside the region"),  # DDP-5041-7.1-12
        ([answered(0, 50), answered(50, 50)], ""),
        ([answered(0, 40), answered(40, 40), answered(60, 40)], "came before"),  # RDMAP-5040-5.2.2-08
        ([answered(0, 40), answered(60, 40), answered(40, 20)], ""),
        ([answered(0, 40), answered(60, 40), answered(50, 10)], ""),
        ([answered(0, 40), answered(60, 40), answered(30, 20)], "came before"),
        ([answered(20, 40), answered(0, 20), answered(0, 1)], "came before"),
        ([answered(0, 40), answered(61, 40)], "outside the region"),
        ([sent(0, 39), sent(0, 300), sent(0, 41)], "41 octets"),  # DDP-5041-7.1-08
        ([lambda s: send(bytes(39), qn=1, msn=1)], "queue 1"),
        ([lambda s: send(bytes(39)), lambda s: send(bytes(39), dv=0)], "version"),
        ([lambda s: write(s.regions["another domain's"].stag, 0x1000, b"abc")], "not associated"),
        ([lambda s: write(s.regions["read only"].stag, 0x1000, b"abc")], "does not allow"),
        ([sent(0, 2, last=False), sent(2, 2), sent(0, 1)], ""),
        ([sent(0, 0), sent(0, 2, last=False), sent(5, 0, last=False), sent(2, 0)], ""),
        ([sent(4, 2, last=False), sent(2, 2, last=False), sent(0, 2, last=False), sent(6, 4), sent(0, 9)], ""),
        ([sent(0, 9), sent(9, 0)], "with a hole"),  # DDP-5041-5.4-02
        ([sent(0, 9), sent(3, 4)], "with a hole"),
        ([sent(0, 9), sent(0, 3, last=False), sent(4, 3)], "with a hole"),
        ([sent(0, 3, last=False), sent(0, 0)], "with a hole"),
        ([sent(0, 3, last=False), sent(2, 3)], "came before"),
        ([sent(0, 3, last=False), sent(0, 3)], "came before"),
        ([sent(3, 3, last=False), sent(0, 4, last=False)], "came before"),
        ([sent(2, 0, opcode=Opcode.SEND_INVAL)], "with a hole"),
        ([sent(2, 0, opcode=Opcode.SEND_SE)], "with a hole"),
        ([sent(0, 2, last=False), lambda s: send(b"12345678", opcode=Opcode.IMMEDIATE)], "with a hole"),
    ],
)
def test_what_is_allowed_up_to_the_last_octet_and_what_is_not(script: list[Deed], error: str, crc: bool) -> None:
    for chunks, apart in (([], 0), ([], 1), ([], 2), ([1] * 1500, 0), ([37] * 60, 0)):
        side = assert_same_fate(script, chunks, crc=crc, apart=apart)
        assert error in str(side.node.qp.error)
        assert (side.node.qp.error is None) is (error == "")


def test_a_receive_whose_memory_went_ends_both_ways_alike() -> None:
    for chunks, apart in (([], 0), ([], 1), ([37] * 60, 0)):
        side = assert_same_fate([sent(0, 9)] * 4, chunks, apart=apart, judge_receives_late=True)
        assert isinstance(side.node.qp.error, LocalCatastrophe)
        assert side.node.qp.stream.fpdus_received == 3


def test_a_queue_pair_that_grants_no_writes_grants_none_the_fast_way() -> None:  # DDP-5041-7.1-11
    side = assert_same_fate([to_open(0, 40)], [], access=Access.REMOTE_READ)
    assert isinstance(side.node.qp.error, NoWriteRight)
    assert octets_of(side.regions["open"]) == bytes(600)


@pytest.mark.parametrize("deed", [to_open(0, 40), answered(0, 40), lambda s: send(bytes(40))])
def test_a_damaged_octet_anywhere_is_noticed_before_anything_is_placed(deed: Deed) -> None:
    """MPA-5044-6-01, MPA-5044-4.4-18."""
    script = [deed, deed]
    for at, apart in itertools.product(range(100, 200), (0, 1)):
        side = assert_same_fate(script, [], damage=(at / 200, 0x40), apart=apart)
        assert side.node.qp.stream.fpdus_received == 1


def test_a_damaged_octet_of_a_write_that_comes_with_its_send_is_noticed() -> None:
    """MPA-5044-6-01, MPA-5044-4.4-18."""
    for at in range(60):
        side = assert_same_fate([to_open(0, 40), sent(0, 4)], [], damage=((at + 0.5) / 88, 0x40), apart=2)
        assert side.node.qp.stream.fpdus_received == 0
        assert octets_of(side.regions["open"])[:40] == bytes(40), "nothing is placed"


@given(octets=st.binary(max_size=200))
def test_octets_with_their_crc_behind_them_have_one_crc(octets: bytes) -> None:
    assert crc32c(octets + crc32c(octets).to_bytes(4, "little")) == INTACT


def test_memory_that_was_withdrawn_is_not_reached_the_fast_way() -> None:  # SEC-5042-6.2.2-02
    side = Side(short=True, crc=True)
    region = side.regions["open"]
    frames = b"".join(side.peer.frames(write(region.stag, 0x1000 + n, b"x")) for n in range(4))
    feed(side.node.qp, frames[: len(frames) // 2])
    region.retire()
    feed(side.node.qp, frames[len(frames) // 2 :])
    assert "names no region" in str(side.node.qp.error)
