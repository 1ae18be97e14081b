"""The engine's promises as properties: chunking does not matter, garbage gives one violation, octets arrive whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyiwarp.buffers import BUFFER_SIZE
from pyiwarp.codes import Opcode
from pyiwarp.errors import ConnectionLost, ProtocolViolation, StartupError, Term
from pyiwarp.mpa import Deframer, Framer, MarkedDeframer, MarkedFramer
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.negotiation import Offer, Role
from pyiwarp.pump import TURN_FPDUS
from pyiwarp.queues.work import Read, Recv, Send, Status, Write
from pyiwarp.startup import Startup, StartupState
from tests.harness import (
    REMOTE,
    Node,
    Pair,
    RawPeer,
    Segment,
    cut,
    ended,
    feed,
    fpdu,
    octets_of,
    read,
    response,
    send,
    terminate,
    write,
)

QUICK = settings(max_examples=200)
SLOW = settings(max_examples=120)

chunkings = st.lists(st.integers(1, 80), max_size=60)
offsets = st.integers(0, 600).map(lambda words: 4 * words)


# --- MPA -------------------------------------------------------------------------------------------------------------


class Sink:
    """Takes octets for a deframer and keeps the ULPDUs."""

    behind = False

    def __init__(self, deframer: Deframer) -> None:
        self.deframer = deframer
        self.ulpdus: list[bytes] = []
        self.receive_view = deframer.receive_view

    def proceed(self, fpdus: int = TURN_FPDUS) -> None: ...

    def received(self, nbytes: int) -> None:
        self.deframer.received(nbytes)
        while (ulpdu := self.deframer.next_ulpdu()) is not None:
            self.ulpdus.append(bytes(ulpdu))


@QUICK
@given(
    ulpdus=st.lists(st.binary(max_size=700), max_size=6),
    offset=offsets,
    chunks=chunkings,
    markers=st.booleans(),
    crc=st.booleans(),
)
def test_deframing_undoes_framing(
    ulpdus: list[bytes], offset: int, chunks: list[int], markers: bool, crc: bool
) -> None:  # MPA-5044-5.1-05, MPA-5044-A.4-01, MPA-5044-6-02, MPA-5044-6-03
    framer, deframer = (MarkedFramer, MarkedDeframer) if markers else (Framer, Deframer)
    source, sink = framer(crc=crc), Sink(deframer(crc=crc))
    source.octets = sink.deframer.octets = offset
    out: list[bytes | bytearray | memoryview] = []
    for ulpdu in ulpdus:
        source.frame(ulpdu[:14], [ulpdu[14:20], b"", ulpdu[20:]], len(ulpdu[14:]), out)
    feed(sink, b"".join(out), chunks)
    assert sink.ulpdus == ulpdus
    assert sink.deframer.octets == source.octets


@QUICK
@given(ulpdu=st.binary(max_size=1500), offset=offsets)
def test_the_framers_agree_with_the_rfc_s_pseudo_code(ulpdu: bytes, offset: int) -> None:
    framer = MarkedFramer(crc=True)
    framer.octets = offset
    out: list[bytes | bytearray | memoryview] = []
    framer.frame(ulpdu[:18], [ulpdu[18:]], len(ulpdu[18:]), out)
    assert b"".join(out) == fpdu(ulpdu, offset, markers=True)


@QUICK
@given(views=st.lists(st.binary(max_size=99)), size=st.integers(1, 64))
def test_chained_crc_equals_plain_crc(views: list[bytes], size: int) -> None:
    whole = b"".join(views)
    chained = pieces = 0
    for view in views:
        chained = crc32c(memoryview(view), chained)
    for at in range(0, len(whole), size):
        pieces = crc32c(whole[at : at + size], pieces)
    assert chained == pieces == crc32c(whole)


@QUICK
@given(octets=st.binary(max_size=3000), markers=st.booleans(), crc=st.booleans(), chunks=chunkings)
def test_a_deframer_knows_no_other_exception(octets: bytes, markers: bool, crc: bool, chunks: list[int]) -> None:
    sink = Sink((MarkedDeframer if markers else Deframer)(crc=crc))
    try:
        feed(sink, octets, chunks)
    except ProtocolViolation:
        return
    assert sum(map(len, sink.ulpdus)) <= len(octets)


# --- startup ---------------------------------------------------------------------------------------------------------


def startup_frames() -> st.SearchStrategy[bytes]:
    """Frames that are nearly right, and some that are."""
    keys = st.sampled_from([b"MPA ID Req Frame", b"MPA ID Rep Frame", b"MPA ID Rex Frame"])
    revisions = st.sampled_from([0, 1, 2, 3])
    lengths = st.sampled_from([0, 3, 4, 8, 512, 513])
    return st.builds(
        lambda key, flags, revision, length, data: key + bytes([flags, revision]) + length.to_bytes(2, "big") + data,
        keys,
        st.integers(0, 255),
        revisions,
        lengths,
        st.binary(max_size=520),
    )


READING = (StartupState.AWAIT_REPLY, StartupState.AWAIT_REQUEST, StartupState.DECIDING)
"""A Responder that decides reads on, as nothing may follow a Request before the Reply (MPA-5044-7.1.2-11)."""


@QUICK
@given(octets=st.binary(max_size=60) | startup_frames(), role=st.sampled_from(Role), chunks=chunkings)
@example(octets=b"MPA ID Req Frame" + bytes([0, 1, 0, 0]) + b"!", role=Role.RESPONDER, chunks=[1, 19])
def test_startup_takes_any_octets_in_any_chunks(octets: bytes, role: Role, chunks: list[int]) -> None:
    def outcome(chunks: Sequence[int]) -> object:
        told: list[StartupState] = []
        startup = Startup(role, Offer(), lambda startup: told.append(startup.state))
        rest = octets
        while rest and startup.state in READING:
            size = min(len(startup.receive_view()), len(rest), chunks[0] if chunks else 1 << 20)
            feed(startup, rest[:size])
            rest, chunks = rest[size:], chunks[1:]
        assert startup.error is None or isinstance(startup.error, StartupError)
        # a Request that is whole before octets follow it is told; one that they follow at once never is
        # repr: a fault in the agreement is equal to itself alone
        return told[-1:], type(startup.error), repr(startup.agreement), startup.state

    assert outcome(chunks) == outcome(())


# --- a peer that may say anything ------------------------------------------------------------------------------------


class Stage:
    """An engine with memory between guards, which no peer may touch."""

    def __init__(self, **agreement: Any) -> None:
        self.node = Node(mulpdu=128)
        self.memory = bytearray(b"#" * 192)
        view = memoryview(self.memory)
        self.region = self.node.pd.register(view[64:128], REMOTE | Access.ZERO_BASED)
        self.secret = self.node.pd.register(view[:64], Access.REMOTE_READ | Access.ZERO_BASED)
        self.sink = self.node.pd.register(view[128:160], Access.LOCAL_WRITE | Access.ZERO_BASED)
        self.peer = RawPeer(self.node, **agreement)
        for number in range(4):
            self.node.receive(64, number)
        self.node.post(Read(self.sink[:8], RemoteRegion(0, 5, 8), "read"))

    def outcome(self) -> object:
        """All that can be seen of what happened."""
        heard = [frame.ulpdu for frame in self.peer.hears()]
        done = [(c.wr_id, c.status, c.nbytes, type(c.error)) for c in [*self.node.sent(), *self.node.received()]]
        return heard, done, bytes(self.memory), self.node.qp.state, type(self.node.qp.error)

    def check(self) -> None:
        """No octet outside what was granted has changed, and at most one Terminate was said."""
        assert self.memory[:64] == b"#" * 64
        assert self.memory[136:] == b"#" * 56
        heard = self.peer.hears()
        ends = [frame.opcode for frame in heard].count(Opcode.TERMINATE)
        assert ends <= 1
        assert not ends or heard[-1].opcode is Opcode.TERMINATE
        assert len(self.node.qp.receive_view()) <= BUFFER_SIZE


Script = list[Callable[[Stage], Segment]]

small = st.binary(max_size=40)
tos = st.integers(-3, 70) | st.just((1 << 64) - 2)


def deeds() -> st.SearchStrategy[Callable[[Stage], Segment]]:
    """What a peer may do, right and wrong."""
    lasts = st.booleans() | st.just(True)

    def known(kind: str) -> Callable[[Stage], int]:
        return lambda stage: {"region": stage.region, "secret": stage.secret, "sink": stage.sink}[kind].stag

    stags = st.sampled_from(["region", "region", "region", "secret", "sink"]).map(known)
    return st.one_of(
        st.builds(lambda g, to, p, last: lambda s: write(g(s), to % (1 << 64), p, last=last), stags, tos, small, lasts),
        st.builds(
            lambda p, last, mo: lambda s: send(p, last=last, mo=mo), small, lasts, st.just(0) | st.integers(0, 70)
        ),
        st.builds(
            lambda g, size, at: lambda s: read(size=size, source_stag=g(s), source_to=at),
            stags,
            st.integers(0, 70),
            st.integers(0, 64),
        ),
        st.builds(
            lambda g, at, p, last: lambda s: response(g(s), at, p, last=last),
            stags,
            st.integers(0, 9),
            st.binary(max_size=9),
            lasts,
        ),
        st.builds(lambda g: lambda s: send(opcode=Opcode.SEND_INVAL, inval_stag=g(s)), stags),
        st.builds(
            lambda f: lambda s: Segment(**f),
            st.fixed_dictionaries(
                {
                    "opcode": st.integers(0, 15),
                    "tagged": st.booleans(),
                    "qn": st.integers(0, 4),
                    "payload": small,
                    "dv": st.sampled_from([1, 1, 0]),
                    "rv": st.sampled_from([1, 1, 3]),
                    "msn": st.none() | st.integers(0, 3),
                }
            ),
        ),
        st.just(lambda s: terminate(Term(2, 0, 1))),
    )


@SLOW
@given(script=st.lists(deeds(), max_size=12), chunks=chunkings, markers=st.booleans(), crc=st.booleans())
def test_chunking_does_not_matter(script: Script, chunks: list[int], markers: bool, crc: bool) -> None:
    outcomes = []
    for sizes in ([], [1] * 5000, chunks):
        stage = Stage(receive_markers=markers, crc=crc, send_markers=markers)
        stages_stags(stage)
        octets = b"".join(stage.peer.frames(deed(stage)) for deed in script)
        stage.peer.hears()
        feed(stage.node.qp, octets, sizes)
        outcomes.append(stage.outcome())
    assert outcomes[0] == outcomes[1] == outcomes[2]


def stages_stags(stage: Stage) -> None:
    """The same STags in every run, so that what is said can be compared."""
    for region, stag in ((stage.region, 0x100), (stage.secret, 0x200), (stage.sink, 0x300)):
        stage.node.context.stags._regions[stag] = stage.node.context.stags._regions.pop(region.stag)
        for outstanding in stage.node.qp.stream.reads._reads:
            if getattr(outstanding, "sink_stag", None) == region.stag:
                outstanding.sink_stag = stag  # type: ignore[union-attr]
        region.stag = stag


@SLOW
@given(script=st.lists(deeds(), max_size=12), crc=st.booleans())
def test_a_peer_that_does_anything_touches_nothing_it_may_not(script: Script, crc: bool) -> None:
    stage = Stage(crc=crc)
    for deed in script:
        stage.peer.sends(deed(stage))
    stage.check()
    stage.peer.closes()


@QUICK
@given(octets=st.binary(max_size=400), chunks=chunkings, crc=st.booleans(), markers=st.booleans())
def test_garbage_gives_one_violation(octets: bytes, chunks: list[int], crc: bool, markers: bool) -> None:
    stage = Stage(crc=crc, receive_markers=markers)
    stage.peer.hears()
    feed(stage.node.qp, octets, chunks)
    error = stage.node.qp.error
    assert error is None or isinstance(error, ProtocolViolation) or type(error).__name__ == "TerminatedByPeer"
    stage.check()


@QUICK
@given(ulpdus=st.lists(st.binary(max_size=90), max_size=5), chunks=chunkings)
def test_well_framed_garbage_gives_one_violation(ulpdus: list[bytes], chunks: list[int]) -> None:
    stage = Stage()
    stage.peer.hears()
    feed(stage.node.qp, b"".join(fpdu(ulpdu) for ulpdu in ulpdus), chunks)
    stage.check()


@SLOW
@given(
    script=st.lists(deeds(), min_size=1, max_size=6),
    position=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_damage_anywhere_is_noticed_before_it_does_harm(script: Script, position: float, flip: int) -> None:
    stage = Stage()
    octets = bytearray(b"".join(stage.peer.frames(deed(stage)) for deed in script))
    octets[int(position * len(octets))] ^= flip
    stage.peer.hears()
    feed(stage.node.qp, octets)
    stage.check()


# --- octets arrive whole ---------------------------------------------------------------------------------------------

sge_lists = st.lists(st.integers(0, 3000), max_size=6)


@SLOW
@given(
    source=sge_lists,
    sink=sge_lists,
    mulpdu=st.integers(128, 64_768),
    chunk=st.integers(1, 5000),
    markers=st.booleans(),
    seed=st.integers(0, 99),
)
def test_segmenting_then_placing_is_the_identity(
    source: list[int], sink: list[int], mulpdu: int, chunk: int, markers: bool, seed: int
) -> None:  # DDP-5041-5.2-04, DDP-5041-5.2-05, MPA-5041-3-04
    offer = Offer(markers=markers)
    pair = Pair(initiator=offer, responder=offer, chunk=chunk, mulpdu=mulpdu)
    octets = random.Random(seed).randbytes(sum(source))
    missing = max(0, sum(source) - sum(sink))
    sinks = [pair.right.region(size) for size in [*sink, missing]]
    pair.right.qp.post_recv(Recv(tuple(region[:] for region in sinks), "r"))
    target, back = pair.right.region(len(octets)), pair.left.region(len(octets))
    whole = pair.left.region(octets)
    at, sges = 0, []
    for size in source:
        sges.append(whole[at : at + size])
        at += size
    pair.left.post(
        Send(tuple(sges), "s"), Write(tuple(sges), target[:].remote(), "w"), Read(back[:], target[:].remote(), "r")
    )
    pair.run()
    assert ended(pair.left.sent()) == [(name, Status.SUCCESS) for name in "swr"]
    assert pair.right.received()[0].nbytes == len(octets)
    assert b"".join(octets_of(region) for region in sinks)[: len(octets)] == octets
    assert octets_of(target) == octets_of(back) == octets


@SLOW
@given(nbytes=st.integers(0, 600), sizes=st.lists(st.integers(0, 200), max_size=5), order=st.randoms())
def test_segments_of_any_size_and_order_are_placed(nbytes: int, sizes: list[int], order: random.Random) -> None:
    """DDP-5041-5.2-06: L comes last, the others in any order."""
    octets = bytes(n % 251 for n in range(nbytes))
    kept, total = [], 0
    for size in sizes:
        if total + size <= nbytes:
            kept.append(size)
            total += size
    *early, last = cut(send(octets), *kept)
    order.shuffle(early)
    peer = RawPeer()
    region = peer.node.receive(600)
    peer.sends(*early, last)
    assert octets_of(region)[:nbytes] == octets
    assert [completion.nbytes for completion in peer.node.received()] == [nbytes]


@pytest.mark.parametrize("markers", [False, True])
def test_memory_stays_bounded_however_long_the_stream(markers: bool) -> None:
    """A hundred megabytes of Writes: the staging buffer is all that there is."""
    peer = RawPeer(receive_markers=markers)
    region = peer.node.region(60_000)
    frame = peer.frames(write(region.stag, region.to, bytes(60_000)))
    views = set()
    for turn in range(150 if not markers else 20):
        octets = frame if not markers else peer.frames(write(region.stag, region.to, bytes(60_000)))
        if markers and turn == 0:
            octets = frame + octets
        feed(peer.node.qp, octets)
        views.add(len(peer.node.qp.receive_view()))
    assert max(views) <= BUFFER_SIZE
    assert peer.node.qp.error is None


def test_a_fin_at_every_octet_is_an_end_without_surprises() -> None:
    peer = RawPeer()
    frames = peer.frames(write(5, 0)) + b"".join(peer.frames(piece) for piece in cut(send(bytes(50)), 20))
    boundaries = {0, 20, len(frames)}
    for size in range(len(frames) + 1):
        stage = RawPeer()
        stage.node.receive(64, "r")
        feed(stage.node.qp, frames[:size])
        stage.closes()
        assert stage.end.closed
        assert (stage.node.qp.error is None) is (size in boundaries), size
        assert stage.node.qp.error is None or isinstance(stage.node.qp.error, ConnectionLost)
        assert len(stage.node.received()) == 1
