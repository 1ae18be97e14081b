"""Fast ways and plain ways are twins: the same octets out of the same messages, the same fate for any input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyiwarp.access import REMOTE
from pyiwarp.buffers import give_buffer, take_buffer
from pyiwarp.codes import Opcode
from pyiwarp.engine.packing import LARGEST_COPY
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import (
    BadWorkRequest,
    ConnectionLost,
    InvalidStag,
    LocalCatastrophe,
    NoWriteRight,
    QueueFull,
    Term,
    WrongState,
)
from pyiwarp.fastwire import ReadRequest
from pyiwarp.mpa import INTACT
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
from pyiwarp.pump import HELD, NOT_NOW, TAKEN
from pyiwarp.queues.qp import QpCap
from pyiwarp.queues.work import BindMw, Completion, Read, Send, SendRequest, Status, WorkOpcode, Write
from tests.harness import Node, RawPeer, Segment, agreed, feed, octets_of, read, response, send, terminate, write

MANY = settings(max_examples=300)


# --- receiving -------------------------------------------------------------------------------------------------------

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


# --- sending ---------------------------------------------------------------------------------------------------------

sizes = st.integers(0, 700) | st.sampled_from([LARGEST_COPY - 1, LARGEST_COPY, LARGEST_COPY + 1, 20_000])
Message = tuple[str, list[int]]
kinds = st.sampled_from(["write", "write", "send", "send_se", "send_inval", "answer", "answer", "answer read-only"])
messages: st.SearchStrategy[Message] = st.tuples(kinds, st.lists(sizes, min_size=1, max_size=3) | st.just([]))


def said(
    script: list[Message], *, short: bool, mulpdu: int, crc: bool, markers: bool = False
) -> tuple[list[bytes], list[Any], int, int]:
    """The batches that a stream gives for these messages, the tokens that come back, and its counts."""
    node = Node(mulpdu=mulpdu)
    source = memoryview(bytearray(bytes(range(251)) * 300))
    table = node.context.stags
    for readonly, stag in ((False, 0x500), (True, 0x600)):
        region = node.pd.register(source.toreadonly() if readonly else source, Access.REMOTE_READ | Access.ZERO_BASED)
        table._regions[stag] = table._regions.pop(region.stag)
    stream = Stream(agreed(crc=crc, ird=100, send_markers=markers), table, node.pd, lambda: None, mulpdu=mulpdu)
    peer = RawPeer(Node())
    stream._packer._plain = not short
    for number, (kind, parts) in enumerate(script):
        at, payload = number, []
        for size in parts:
            payload.append(source[at : at + size])
            at += size
        if kind == "write":
            stream.write(payload, stag=7, to=1 << 63, token=number)
        elif kind.startswith("send"):
            inval = 9 if kind == "send_inval" else None
            stream.send(payload, token=number, solicited=kind == "send_se", inval_stag=inval)
        else:
            stag = 0x600 if kind == "answer read-only" else 0x500
            request = ReadRequest(3, (1 << 64) - 5, sum(parts), stag, number)
            asked = read(size=request.read_size, sink_stag=3, sink_to=request.sink_to, source_stag=stag)
            feed(stream, peer.frames(asked))
    batches, tokens = [], []
    while iov := stream.next_iov():
        batches.append(b"".join(iov))
        tokens += [stream.flushed()]
    return batches, tokens, stream.fpdus_sent, stream.octets_sent


@MANY
@example(script=[("write", [20_000])], mulpdu=5000, crc=True, markers=False)
@example(script=[("answer", [20_000])], mulpdu=5000, crc=True, markers=False)
@given(
    script=st.lists(messages, max_size=8),
    mulpdu=st.sampled_from([128, 129, 500, 5000, 64_768]),
    crc=st.booleans(),
    markers=st.booleans(),
)
def test_any_messages_become_the_same_octets(script: list[Message], mulpdu: int, crc: bool, markers: bool) -> None:
    # MPA-5044-4.1-01, -02, -03, -05, -06, MPA-5044-4.4-13, MPA-5044-3-03, DDP-5041-5.2-02, -07, -09, DDP-5041-4.1-03
    # MPA-5044-4.3-03, -04, -06, -09, -12
    plain = said(script, short=False, mulpdu=mulpdu, crc=crc, markers=markers)
    assert said(script, short=True, mulpdu=mulpdu, crc=crc, markers=markers) == plain


def test_small_messages_are_one_piece_and_large_payloads_are_not_copied() -> None:
    source = memoryview(bytearray(200_000))
    stream = Stream(agreed(), Node().context.stags, None, lambda: None, mulpdu=64_768)
    for number in range(20):
        stream.write([source[:100]], stag=1, to=0, token=number)
    assert [len(piece) for piece in stream.next_iov()] == [20 * (16 + 100 + 4)]
    stream.flushed()
    stream.send([source[:70_000]], token="large")
    pieces = stream.next_iov()
    assert [len(piece) for piece in pieces] == [20, 64_750, 2 + 4 + 20, 5250, 2 + 4]
    source[0] = 7
    assert pieces[1][0] == 7, "the user's memory itself"


# --- posting ---------------------------------------------------------------------------------------------------------

Posting = tuple[str, int, bool]
postings: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(
        ["write"] * 4
        + ["send"] * 3
        + ["send_se", "inline", "inline write", "send_inval", "read", "two", "bad", "wrapping"]
    ),
    st.integers(0, 200) | st.sampled_from([0, 110, 112, 114, LARGEST_COPY, LARGEST_COPY + 1]),
    st.booleans(),
)
ordinary: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["write", "write", "send", "inline"]), st.integers(0, 110), st.booleans()
)
batches = st.builds(lambda first, last: first + last, st.lists(ordinary, max_size=5), st.lists(postings, max_size=2))


def request_of(node: Node, region: MemoryRegion, posting: Posting, number: int) -> SendRequest:
    """A work request; "bad" and "wrapping" ones name octets that are not there."""
    kind, nbytes, signaled = posting
    sges, remote = (region[:nbytes],), RemoteRegion(0x1000 + number, 0x77, 1 << 20)
    match kind:
        case "write":
            return Write(sges, remote, number, None, signaled)
        case "inline write":
            return Write((), remote, number, b"w" * min(nbytes, 1000), signaled)
        case "inline":
            return Send((), number, b"i" * min(nbytes, 1000), None, False, signaled)
        case "send_inval":
            return Send(sges, number, None, 9, False, signaled)
        case "read":
            return Read(sges[0], remote, number, signaled)
        case "two":
            return Write((*sges, *sges), remote, number, None, signaled)
        case "wrapping":
            return Write(sges, RemoteRegion((1 << 64) - 50, 0x77, 1 << 20), number, None, signaled)
        case "bad":
            return Write((RegionSlice(region, 5000, 10),), remote, number, None, signaled)
    return Send(sges, number, None, None, kind == "send_se", signaled)


def posted(
    script: list[list[Posting]],
    *,
    fast: bool,
    mulpdu: int,
    takes: list[int],
    depth: int,
    ending: str,
    clogged: bool,
    complete_bad: bool,
) -> tuple[object, ...]:
    """What the peer hears and the program learns when lists are posted; `takes` says when the kernel takes a batch.

    At the end the transport may be `clogged`: it holds a batch that the kernel has not taken. A batch ends with its
    octets alone here: FPDUs that were framed when they were posted do not count in it, so by their number batches of
    the two ways end at different places of the same stream.
    """
    node = Node(cap=QpCap(max_send_wr=depth, max_recv_wr=4), mulpdu=mulpdu, complete_bad_sends=complete_bad)
    region = node.pd.register(bytearray(bytes(range(250)) * 20))
    table = node.context.stags
    table._regions[0x100] = table._regions.pop(region.stag)
    region.stag, region.to = 0x100, 0x1000
    peer = RawPeer(node)
    node.qp.stream._frames_early = fast
    node.qp.stream._batch_fpdus = 1 << 20
    pace = iter(takes)
    heard, learnt = bytearray(), list[object]()
    for number, batch in enumerate(script):
        try:
            node.qp.post_send_many([request_of(node, region, each, 100 * number + n) for n, each in enumerate(batch)])
        except (BadWorkRequest, QueueFull) as error:
            learnt.append((type(error), error.__notes__))
        learnt.append(len(node.qp._sq))
        for _ in range(next(pace, 1)):
            heard += b"".join(node.qp.next_iov())
            node.qp.flushed()
            learnt += [(c.wr_id, c.status, c.opcode, c.nbytes) for c in node.sent()]
    if clogged:
        heard += b"".join(node.qp.next_iov())
    {
        "violation": lambda: peer.sends(send(b"x", msn=9)),
        "terminate": lambda: peer.sends(terminate(InvalidStag.term)),
        "abort": lambda: node.qp.abort(ConnectionLost("gone")),
        "none": lambda: None,
    }[ending]()
    while clogged or (iov := node.qp.next_iov()):
        heard += b"" if clogged else b"".join(iov)
        node.qp.flushed()
        clogged = False
    learnt += [(c.wr_id, c.status, c.opcode, c.nbytes) for c in node.sent()]
    counts = node.qp.counters()._replace(octets_received=0)
    return bytes(heard), learnt, counts, node.qp.state, region.pins


@MANY
@example(
    script=[[("write", 0, False), ("two", 4096, False), ("two", 4096, False)]],
    mulpdu=128,
    takes=[0, 0, 0, 0],
    depth=3,
    ending="none",
    clogged=True,
    complete_bad=False,
)
@given(
    script=st.lists(batches, min_size=1, max_size=4),
    mulpdu=st.sampled_from([128, 1442, 64_768]),
    takes=st.lists(st.sampled_from([0, 0, 1, 1, 2]), min_size=4, max_size=4),
    depth=st.sampled_from([3, 8, 100]),
    ending=st.sampled_from(["none", "violation", "terminate", "abort"]),
    clogged=st.booleans(),
    complete_bad=st.booleans(),
)
def test_posting_the_fast_way_says_and_completes_the_same(
    script: list[list[Posting]], **options: Any
) -> None:  # DDP-5041-7.1-14, RDMAP-5040-5.5-11, RDMAP-5040-5.5-12, DDP-5041-4.3-09
    plain, short = (posted(script, fast=way, **options) for way in (False, True))
    assert short == plain


def test_what_is_for_this_side_alone_completes_behind_what_was_framed_before_it() -> None:  # RDMAP-5040-5.5-12
    node = Node()
    region = node.pd.register(bytearray(64), Access.REMOTE_WRITE | Access.WINDOW_BIND)
    window = node.pd.alloc_window()
    RawPeer(node)
    node.qp.post_send_many(
        [Write((region[:],), RemoteRegion(0, 7, 64), "write"), BindMw(window, region[:], wr_id="bind")]
    )
    assert node.sent() == []
    node.qp.next_iov()
    node.qp.flushed()
    assert [c.wr_id for c in node.sent()] == ["write", "bind"]


def test_small_requests_go_the_fast_way_and_pin_nothing() -> None:
    give_buffer(take_buffer())  # one is free, whoever held some before
    node = Node()
    region = node.pd.register(bytearray(5000))
    RawPeer(node)
    node.qp.post_send_many([Write((region[:64],), RemoteRegion(0, 7, 64), n) for n in range(3)])
    node.qp.post_send(Send((region[:64],), 3))
    assert (region.pins, len(node.qp._sq)) == (0, 4)
    region.view[:] = b"x" * 5000  # they were copied
    assert b"x" not in b"".join(node.qp.next_iov())
    node.qp.flushed()
    assert [c.wr_id for c in node.sent()] == [0, 1, 2, 3]
    node.qp.post_send(Send((region[:],), 4))
    assert region.pins == 1


# --- posting what is alone -------------------------------------------------------------------------------------------


class Kernel:
    """A driver whose kernel has room for so many octets; `alone` says whether small messages may pass the batches."""

    def __init__(self, node: Node, *, alone: bool) -> None:
        self.qp = node.qp
        self.room = 1 << 20
        self.heard = bytearray()
        self.passed = 0
        self._pending = b""
        self._busy = False
        self.qp.on_output = self.kick
        if alone:
            self.qp.write_small = self.write_small

    def kick(self) -> None:
        if self._busy:
            return
        self._busy = True
        while not self._pending and (iov := self.qp.next_iov()):
            self._write(b"".join(iov))
        self._busy = False

    def write_small(self, octets: bytes) -> int:
        if self._busy or self._pending or not self.room or not self.qp.steady:
            return NOT_NOW
        self.passed += 1
        self._pending = octets[self._take(octets) :]
        return HELD if self._pending else TAKEN

    def make_room(self, nbytes: int) -> None:
        self.room += nbytes
        if self._pending:
            self._write(self._pending)
        self.kick()

    def _write(self, octets: bytes) -> None:
        self._pending = octets[self._take(octets) :]
        if not self._pending:
            self.qp.flushed()

    def _take(self, octets: bytes) -> int:
        taken = min(self.room, len(octets))
        self.heard += octets[:taken]
        self.room -= taken
        return taken


Step = tuple[str, Any]
written: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["write", "inline write", "wrapping", "bad"]), st.integers(0, 250), st.booleans()
)
sent_behind: st.SearchStrategy[Posting] = st.tuples(
    st.sampled_from(["send", "inline", "send_se", "send_inval"]), st.integers(0, 250), st.booleans()
)
steps: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("post"), ordinary | postings)] * 4,
    st.tuples(st.just("room"), st.sampled_from([0, 1, 30, 100, 1 << 20])),
    st.tuples(st.just("fill"), st.sampled_from([0, 1, 10, 40])),
    st.tuples(st.just("input"), st.sampled_from(["send", "read", "violation", "terminate"])),
    st.tuples(st.just("many"), st.lists(ordinary, max_size=3)),
    st.tuples(st.just("many"), st.tuples(written, sent_behind)),
    st.tuples(st.just("small"), st.integers(0, 130)),
    st.tuples(st.just("end"), st.sampled_from(["disconnect", "abort", "lost"])),
)


def lived(
    script: list[Step], *, alone: bool, early: bool, crc: bool, mulpdu: int, depth: int, sq_sig_all: bool
) -> tuple[list[object], int]:
    """What was heard and learnt after each step, and how many messages passed the batches."""
    cap = QpCap(max_send_wr=depth, max_recv_wr=4, max_inline=200)
    node = Node(cap=cap, mulpdu=mulpdu, sq_sig_all=sq_sig_all)
    region = node.pd.register(bytearray(bytes(range(250)) * 20), Access.LOCAL_WRITE | Access.REMOTE_READ)
    table = node.context.stags
    table._regions[0x100] = table._regions.pop(region.stag)
    region.stag, region.to = 0x100, 0x1000
    peer = RawPeer(node, crc=crc)
    node.receive(64, "receive")
    node.qp.stream._frames_early = early
    kernel = Kernel(node, alone=alone)
    seen: list[object] = []
    for number, (kind, what) in enumerate(script):
        outcome: object = None
        try:
            match kind:
                case "post":
                    node.qp.post_send(request_of(node, region, what, number))
                case "many":
                    node.qp.post_send_many([request_of(node, region, each, number) for each in what])
                case "small":
                    if not node.qp.send_small(b"s" * what, solicited=False):
                        node.qp.post_send(Send(inline=b"s" * what, signaled=False))
                case "room":
                    kernel.make_room(what)
                case "fill":
                    kernel.room = min(kernel.room, what)
                case "input":
                    heard(node, peer, region, what)
                    kernel.kick()
                case "end":
                    end(node, what)
        except (BadWorkRequest, QueueFull, WrongState) as error:
            outcome = type(error)
        done = [(c.wr_id, c.status, c.opcode, c.nbytes, str(c.error)) for c in [*node.sent(), *node.received()]]
        seen += [outcome, done, bytes(kernel.heard), len(node.qp._sq), node.qp.state, node.qp.counters()]
    kernel.make_room(1 << 20)
    return [*seen, region.pins, bytes(kernel.heard)], kernel.passed


def end(node: Node, how: str) -> None:
    if how == "disconnect":
        node.qp.disconnect()
    elif how == "abort":
        node.qp.abort(ConnectionLost("gone"))
    elif node.qp.alive:
        node.qp.lost(ConnectionLost("cut"))


def heard(node: Node, peer: RawPeer, region: MemoryRegion, what: str) -> None:
    """The peer says something."""
    if node.qp.alive and not node.qp.stream.input_discarded:
        said = {
            "send": send(b"from the peer"),
            "read": read(region, size=100),
            "violation": send(b"x", msn=9),
            "terminate": terminate(InvalidStag.term),
        }
        feed(node.qp, peer.frames(said[what]))


@MANY
@example(
    script=[("post", ("read", 8, True)), ("post", ("send", 8, True)), ("post", ("inline", 8, True))],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("fill", 40), ("post", ("send", 64, True)), ("post", ("send", 8, True)), ("end", "lost")],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@example(
    script=[("many", [("write", 200, False), ("inline", 4, True)])], crc=True, mulpdu=128, depth=8, sq_sig_all=False
)
@example(
    script=[("post", ("send", 64, True)), ("fill", 1), ("small", 8), ("input", "terminate")],
    crc=True,
    mulpdu=1442,
    depth=8,
    sq_sig_all=False,
)
@given(
    script=st.lists(steps, max_size=10),
    crc=st.booleans(),
    mulpdu=st.sampled_from([128, 1442, 64_768]),
    depth=st.sampled_from([1, 3, 8]),
    sq_sig_all=st.booleans(),
)
def test_small_sends_past_the_batches_say_and_complete_the_same(
    script: list[Step], crc: bool, mulpdu: int, depth: int, sq_sig_all: bool
) -> None:
    """MPA-5044-4.1-01, MPA-5044-4.1-03, MPA-5044-4.1-06, MPA-5044-4.4-13, DDP-5041-4.3-09, DDP-5041-5.2-02.

    RDMAP-5040-5.5-11, RDMAP-5040-5.5-12, RDMAP-5040-7.1-05.
    """
    (plain, _), (alone, _) = (
        lived(script, alone=way, early=way, crc=crc, mulpdu=mulpdu, depth=depth, sq_sig_all=sq_sig_all)
        for way in (False, True)
    )
    assert alone == plain


def test_a_small_send_that_is_alone_passes_the_batches() -> None:
    script: list[Step] = [("post", ("send", 64, True)), ("small", 10), ("fill", 20), ("post", ("inline", 30, True))]
    seen, passed = lived(script, alone=True, early=True, crc=True, mulpdu=1442, depth=8, sq_sig_all=False)
    assert passed == 3
    assert seen[1] == [(0, Status.SUCCESS, WorkOpcode.SEND, 64, "None")]
    assert seen[-7] == [], "the kernel does not have all of the last one"


@pytest.mark.parametrize("what", ["write", "inline write"])
def test_a_small_write_and_the_send_behind_it_pass_the_batches_together(what: str) -> None:
    script: list[Step] = [("many", [(what, 64, False), ("inline", 4, True)]), ("fill", 20)]
    script.append(("many", [(what, 30, True), ("send", 9, False)]))
    seen, passed = lived(script, alone=True, early=True, crc=True, mulpdu=1442, depth=8, sq_sig_all=False)
    assert passed == 2, "two at a time"
    assert seen[1] == [(0, Status.SUCCESS, WorkOpcode.SEND, 4, "None")]
    assert seen[-7] == [], "the kernel does not have all of the last ones"


def test_what_waits_for_the_end_of_all_is_called_if_a_completion_of_two_asks_for_it() -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    seen: list[object] = []

    def on_completion(done: Completion) -> None:
        seen.append(done.wr_id)
        if done.wr_id == 1:
            node.qp.drain_sq(lambda: seen.append("drained"))

    node.send_cq.taker = on_completion
    node.qp.post_send_many([Write((), RemoteRegion(0x1000, 7, 8), 1, b"octets"), Send((), 2, b"done")])
    assert kernel.passed == 1
    assert seen == [1, 2, "drained"]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_program_may_post_from_each_completion_without_end(pairs: bool) -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    left = [2 * sys.getrecursionlimit()]

    def post() -> None:
        if not left[0]:
            return
        left[0] -= 1
        send = Send((), left[0], b"next")
        if pairs:
            node.qp.post_send_many([Write((), RemoteRegion(0x1000, 7, 8), None, b"octets", False), send])
        else:
            node.qp.post_send(send)

    node.send_cq.taker = lambda done: post()
    post()
    assert left == [0]
    assert node.qp.query().sends_posted == 0
    assert kernel.passed


def test_a_program_that_its_completion_calls_goes_the_plain_way() -> None:
    node = Node()
    RawPeer(node)
    kernel = Kernel(node, alone=True)
    node.send_cq.arm(lambda: None)
    node.send(b"with a completion")
    assert kernel.passed == 0
    node.send_cq.arm(lambda: None)
    node.send(b"without", signaled=False)
    assert kernel.passed == 1
