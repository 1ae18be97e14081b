"""Two engines at random, against a small model of memory and completions.

Both sides post what they like, octets move in odd pieces, transports clog, connections are closed, broken and
corrupted. Whatever happens: every posted work request completes exactly once and in order, messages arrive in order
and whole, memory holds what the model says, and each side says at most one Terminate, as its last word.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyiwarp.codes import Opcode
from pyiwarp.errors import IwarpError, QueueFull
from pyiwarp.mr import MemoryRegion, RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Completion, Read, Recv, Send, SendRequest, Status, Write
from tests.harness import End, Heard, Node, Pair, unframe

SIZE = 96  # of each side's memory
LARGEST = 160  # Send, in octets

sides = st.sampled_from(["left", "right"])
contents = st.binary(max_size=LARGEST)
spots = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)


class Asked(NamedTuple):
    """A Read that was posted: where its octets go, and how old each of them may be."""

    sink: MemoryRegion
    start: int
    ages: list[int]


class Side:
    """One end, what it has posted, and what the model knows of its memory."""

    def __init__(self, node: Node, end: End) -> None:
        self.node, self.end = node, end
        self.memory = node.region(SIZE)
        self.history: list[list[int]] = [[0] for _ in range(SIZE)]  # every value that the peer gave to each octet
        self.posted: deque[tuple[object, bool]] = deque()  # and whether its success is told
        self.receives: deque[tuple[int, MemoryRegion]] = deque()
        self.reads: dict[object, Asked] = {}
        self.expected: deque[tuple[bytes, bool, int | None]] = deque()  # messages on their way here
        self.invalidated: dict[int, MemoryRegion] = {}
        self.flushed = False

    @property
    def live(self) -> bool:
        return self.node.qp.state is QpState.RTS


class TwoEndpoints(RuleBasedStateMachine):
    @initialize(
        markers=st.booleans(),
        crc=st.booleans(),
        mulpdu=st.sampled_from([128, 131, 300, 64_768]),
        depths=st.integers(1, 3),
    )
    def join(self, markers: bool, crc: bool, mulpdu: int, depths: int) -> None:
        offer = Offer(markers=markers, crc=crc, ird=depths, ord=depths)
        self.markers, self.crc = markers, crc
        self.chunk = 1 << 20
        self.pair = Pair(
            initiator=offer,
            responder=offer,
            chunk=lambda: self.chunk,
            mulpdu=mulpdu,
            pause_when_starved=True,
            opened=False,
        )
        self.ids = itertools.count()
        self.left = Side(self.pair.left, self.pair.left_end)
        self.right = Side(self.pair.right, self.pair.right_end)
        self.heads = [len(end.said) for end in self.pair.ends]
        self.damaged = False

    def side(self, name: str) -> tuple[Side, Side]:
        return (self.left, self.right) if name == "left" else (self.right, self.left)

    # --- what programs do --------------------------------------------------------------------------------------------

    def post(self, side: Side, request: SendRequest) -> bool:
        """Post it; whether it was taken into a live queue."""
        live = side.live
        try:
            side.node.qp.post_send(request)
        except QueueFull:
            return False
        except IwarpError:
            assert side.node.qp.state is QpState.IDLE, "only there a post is refused"
            return False
        side.posted.append((request.wr_id, request.signaled))
        return live

    @rule(name=sides, size=st.integers(LARGEST, LARGEST + 9))
    def receive(self, name: str, size: int) -> None:
        side, _ = self.side(name)
        region, wr_id = side.node.region(size), next(self.ids)
        try:
            side.node.qp.post_recv(Recv((region[:3], region[3:]), wr_id))
        except QueueFull:
            return
        side.receives.append((wr_id, region))

    @rule(name=sides, octets=contents, solicited=st.booleans(), fence=st.booleans(), signaled=st.booleans())
    def send(self, name: str, octets: bytes, solicited: bool, fence: bool, signaled: bool) -> None:
        side, peer = self.side(name)
        region = side.node.region(octets)
        request = Send((region[:],), next(self.ids), None, None, solicited, signaled, fence)
        if self.post(side, request):
            peer.expected.append((octets, solicited, None))

    @rule(name=sides)
    def send_with_invalidate(self, name: str) -> None:
        side, peer = self.side(name)
        region = peer.node.region(8)
        if self.post(side, Send(wr_id=next(self.ids), inline=b"done", inval_stag=region.stag)):
            peer.expected.append((b"done", False, region.stag))
            peer.invalidated[region.stag] = region

    @rule(name=sides, spot=spots, seed=st.integers(1, 255), fence=st.booleans())
    def write(self, name: str, spot: list[int], seed: int, fence: bool) -> None:
        side, peer = self.side(name)
        start, stop = spot
        octets = bytes((seed + n) % 256 for n in range(stop - start))
        request = Write((), peer.memory[start:stop].remote(), next(self.ids), octets, fence=fence)
        if self.post(side, request):
            for history, octet in zip(peer.history[start:stop], octets, strict=True):
                history.append(octet)

    @rule(name=sides, spot=spots)
    def read(self, name: str, spot: list[int]) -> None:
        side, peer = self.side(name)
        start, stop = spot
        sink = side.node.region(stop - start)
        request = Read(sink[:], peer.memory[start:stop].remote(), next(self.ids))
        ages = [len(history) - 1 for history in peer.history[start:stop]]
        if self.post(side, request):
            side.reads[request.wr_id] = Asked(sink, start, ages)

    # --- what the network does ---------------------------------------------------------------------------------------

    @rule(chunk=st.integers(1, 2000), steps=st.integers(1, 60))
    def move(self, chunk: int, steps: int) -> None:
        self.chunk = chunk
        for _ in range(steps):
            if not self.pair.step():
                break
        self.collect()

    @rule(name=sides, clogged=st.booleans())
    def clog(self, name: str, clogged: bool) -> None:
        self.side(name)[0].end.clogged = clogged

    # --- how it ends -------------------------------------------------------------------------------------------------

    @rule(name=sides)
    def disconnect(self, name: str) -> None:
        self.side(name)[0].node.qp.disconnect()

    @rule(name=sides)
    @precondition(lambda self: self.left.live and self.right.live)
    def break_a_rule(self, name: str) -> None:
        side, _ = self.side(name)
        self.post(side, Write((), RemoteRegion(0, 1, 1), next(self.ids), b"!"))

    @rule(name=sides, at=st.integers(0, 60))
    @precondition(lambda self: self.crc and not self.damaged)
    def damage(self, name: str, at: int) -> None:
        """Flip a bit of what is on the way."""
        _, peer = self.side(name)
        incoming = peer.end.incoming
        if incoming:
            incoming[at % len(incoming)] ^= 0x20
            self.damaged = True

    @rule(name=sides)
    def lose(self, name: str) -> None:
        """One side's TCP breaks; the other hears of it as a reset too."""
        for side in self.side(name):
            if not side.end.closed:
                side.end.lose()
        self.collect()

    @rule(name=sides)
    @precondition(lambda self: self.left.node.qp.time_limit() or self.right.node.qp.time_limit())
    def expire(self, name: str) -> None:
        side, _ = self.side(name)
        if side.node.qp.time_limit() is not None:
            side.end.expire()
        self.collect()

    # --- what must hold ----------------------------------------------------------------------------------------------

    def collect(self) -> None:
        for name in ("left", "right"):
            side, peer = self.side(name)
            for completion in side.node.sent():
                while side.posted and side.posted[0][0] != completion.wr_id:
                    assert not side.posted.popleft()[1], "sends complete in order, each once"
                assert side.posted, "what completes was posted and had not completed"
                assert side.posted.popleft()[1] or not completion.ok, "an unsignaled success is not told"
                if completion.ok and completion.wr_id in side.reads:
                    self.check_read(side.reads.pop(completion.wr_id), peer)
            for completion in side.node.received():
                self.check_receive(side, completion)

    def check_read(self, asked: Asked, peer: Side) -> None:
        for offset, octet in enumerate(asked.sink.view):
            history = peer.history[asked.start + offset]
            assert octet in history[asked.ages[offset] :], "a Read sees what was written before it, or later"

    def check_receive(self, side: Side, completion: Completion) -> None:
        wr_id, region = side.receives.popleft()
        assert completion.wr_id == wr_id, "receives complete in order, each once"
        if not completion.ok:
            assert completion.status is Status.WR_FLUSH_ERR
            side.flushed = True
            return
        octets, solicited, inval_stag = side.expected.popleft()
        assert bytes(region.view)[: completion.nbytes] == octets, "messages arrive in order and whole"
        assert (completion.solicited, completion.inval_stag) == (solicited, inval_stag)
        if inval_stag is not None:
            assert not side.invalidated.pop(inval_stag).is_open

    @invariant()
    def memory_is_what_the_model_says(self) -> None:
        if not hasattr(self, "pair"):
            return
        for side in (self.left, self.right):
            for octet, history in zip(side.memory.view, side.history, strict=True):
                assert octet in history

    @invariant()
    def queues_agree_with_the_model(self) -> None:
        if hasattr(self, "pair"):
            self.collect()
            for side in (self.left, self.right):
                assert len(side.receives) <= side.node.qp.cap.max_recv_wr

    def teardown(self) -> None:
        """Let everything come to its end; then all that was posted has completed."""
        if not hasattr(self, "pair"):
            return
        self.chunk = 1 << 20
        for side in (self.left, self.right):
            side.end.clogged = False
        intact = all(side.live for side in (self.left, self.right)) and not self.damaged
        self.pair.run()
        self.collect()
        if intact and all(side.live for side in (self.left, self.right)):
            self.check_rest()
        for side in (self.left, self.right):
            side.node.qp.disconnect()
        self.pair.run()
        for side in (self.left, self.right):
            if not side.end.closed and side.node.qp.time_limit() is not None:
                side.end.expire()
        self.pair.run()
        for side in (self.left, self.right):
            side.node.qp.close()
        self.collect()
        for side, head in zip((self.left, self.right), self.heads, strict=True):
            assert not any(signaled for _, signaled in side.posted), "everything that was posted has completed"
            assert not side.receives
            assert all(region.pins == 0 for region in side.node.pd.regions)
            self.check_words(bytes(side.end.said[head:]))

    def check_rest(self) -> None:
        """Nothing was broken, and nobody waits for a receive, which holds up Reads too: every octet is in its place."""
        if any(not side.node.qp.wants_input or side.node.qp.stream.muted for side in (self.left, self.right)):
            return
        for side in (self.left, self.right):
            assert not any(signaled for _, signaled in side.posted), "all work is complete"
            assert not side.expected, "all messages have arrived"
            assert all(octet == history[-1] for octet, history in zip(side.memory.view, side.history, strict=True))

    def check_words(self, said: bytes) -> None:
        """Whole FPDUs, and a Terminate only as the last of them."""
        offset, frames = 0, list[Heard]()
        while offset < len(said):
            ulpdu, size = unframe(said[offset : offset + 65_400], offset, markers=self.markers, crc=self.crc)
            frames.append(Heard(ulpdu))
            offset += size
        assert all(frame.opcode is not Opcode.TERMINATE for frame in frames[:-1])


TestTwoEndpoints: Any = TwoEndpoints.TestCase
TestTwoEndpoints.settings = settings(max_examples=100, stateful_step_count=40)
