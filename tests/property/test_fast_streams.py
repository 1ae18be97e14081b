"""Small messages of a stream, written and taken the fast ways: the same octets, the same events of the programs."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, SupportsIndex, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyiwarp.buffers import Octets
from pyiwarp.mpa import fpdu_size
from pyiwarp.pump import HELD, NOT_NOW, TAKEN
from pyiwarp.queues.work import Send
from pyiwarp.sockets.connecting import Stream
from pyiwarp.sockets.delivery import ReaderProtocol
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.posting import INLINE
from pyiwarp.sockets.transport import StreamTransport
from pyiwarp.sockets.wire import LITTLE, Op
from tests.harness import EVERYTHING, Heard, Node, Pair, unframe
from tests.property.test_fast_alone import Kernel
from tests.property.test_fast_receiving import MANY

Step = tuple[str, int, int]
LEFT, RIGHT = 0, 1
OPTIONS: Final = st.builds(
    StreamOptions,
    ring=st.sampled_from([512, 4096, 1 << 16]),
    send_memory=st.sampled_from([512, 1 << 16]),
    recv_queue=st.integers(16, 24),
    send_queue=st.integers(16, 24),
    max_message=st.sampled_from([7, 300, 1 << 16]),
)
SIDES: Final = st.sampled_from([LEFT, RIGHT])
LENGTHS: Final = st.one_of(st.integers(0, 100), st.sampled_from([INLINE, INLINE + 1, 5000]))
STEPS: Final = st.one_of(
    *[st.tuples(st.just("write"), SIDES, LENGTHS)] * 4,
    *[st.tuples(st.just("move"), SIDES, st.sampled_from([EVERYTHING, EVERYTHING, 1, 40, 200]))] * 4,
    st.tuples(st.sampled_from(["write view", "answer"]), SIDES, LENGTHS),
    st.tuples(st.sampled_from(["pause", "resume", "eof", "close", "abort", "fail"]), SIDES, st.just(0)),
    st.tuples(st.just("fill"), SIDES, st.sampled_from([0, 1, 50, 150])),
    st.tuples(st.just("room"), SIDES, st.sampled_from([1, 100, 1 << 20])),
    st.tuples(st.just("turn"), SIDES, st.just(0)),
    st.tuples(st.just("say"), SIDES, st.sampled_from([0, 3, 5000, 1 << 29, 4 << 29 | 20, 7 << 29, 7 << 29 | 1])),
)


class Loop:
    """What a transport asks of an event loop; the test makes its turns."""

    def __init__(self, seen: list[object]) -> None:
        self.calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.seen = seen

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self.calls.append((call, arguments))

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> Future[None]:
        return Future()  # nobody awaits it

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.seen.append(("complained", context["message"]))

    def turn(self) -> None:
        while self.calls:
            call, arguments = self.calls.popleft()
            call(*arguments)


class Line(Kernel):
    """A kernel to which large messages may go too, past the batches."""

    def __init__(self, side: Side, *, large: bool) -> None:
        super().__init__(cast("Node", side), alone=True)
        if large:
            self.qp.write_pieces = self.write_pieces

    def write_pieces(self, pieces: list[Octets]) -> int:
        if self._pending or not self.qp.steady:
            return NOT_NOW
        octets = b"".join(pieces)
        self.passed += 1
        self._pending = octets[self._take(octets) :]
        return HELD if self._pending else TAKEN


class Takes:
    """What all the protocols of this test do: they note what they hear, and may answer it or fail."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen
        self.answer = 0
        self.fails = False
        self.transport: StreamTransport | None = None

    def heard(self, octets: bytes) -> None:
        self.seen.append(octets)
        if self.fails:
            raise ValueError("the program fails")
        if self.answer and self.transport is not None:
            self.transport.write(bytes(self.answer))


class Listener(asyncio.Protocol):
    def __init__(self, takes: Takes) -> None:
        self.takes = takes

    def data_received(self, data: bytes) -> None:
        self.takes.heard(bytes(data))

    def eof_received(self) -> bool:
        self.takes.seen.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.takes.seen.append(("lost", str(exc)))

    def pause_writing(self) -> None:
        self.takes.seen.append("pause")

    def resume_writing(self) -> None:
        self.takes.seen.append("resume")


class Buffered(Listener, asyncio.BufferedProtocol):
    def __init__(self, takes: Takes) -> None:
        super().__init__(takes)
        self.buffer = bytearray(50)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.takes.heard(bytes(self.buffer[:nbytes]))


class Reader(asyncio.StreamReader):
    def __init__(self, takes: Takes, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=1 << 20, loop=loop)
        self.takes = takes

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.takes.heard(bytes(data))

    def feed_eof(self) -> None:
        self.takes.seen.append("eof")


class Side:
    """One end: its transport, the kernel below it, and what its program has heard."""

    def __init__(self, options: StreamOptions, *, large: bool) -> None:
        self.seen: list[object] = []
        self.stream = Stream(options)
        self.qp = self.stream.qp
        self.takes = Takes(self.seen)
        self.loop = Loop(self.seen)
        self.kernel = Line(self, large=large)
        self.moved = 0

    def begin(self, peer: Side, kind: str, *, fast: bool) -> None:
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        protocol: asyncio.BaseProtocol
        if kind == "reader":
            self.reader = Reader(self.takes, loop)  # which the protocol does not hold
            protocol = ReaderProtocol(self.reader, loop=loop)
        else:
            protocol = (Buffered if kind == "buffered" else Listener)(self.takes)
        engine = self.stream.engine
        engine.begin(peer.stream.engine.hello)
        if not fast:
            engine.send_small = lambda octets: False  # type: ignore[method-assign]
            engine.take_alone = lambda word: None  # type: ignore[method-assign]
        self.transport = StreamTransport(loop, self.qp, engine, protocol, lambda: None, None)
        self.transport.begin({})
        self.takes.transport = self.transport

    def move(self, nbytes: int, peer: Side) -> None:
        """The peer hears up to so many octets of what this side's kernel has, in one read."""
        octets = bytes(self.kernel.heard[self.moved : self.moved + nbytes])
        self.moved += len(octets)
        if octets and peer.qp.alive:
            peer.hear(octets)
            peer.kernel.kick()

    def hear(self, octets: bytes) -> None:
        """As a driver gives octets to its pump. Of what is changed by a callback the pump tells the driver itself."""
        while octets:
            view = self.qp.receive_view()
            nbytes = min(len(view), len(octets))
            view[:nbytes] = octets[:nbytes]
            octets = octets[nbytes:]
            self.qp.received(nbytes)
            while self.qp.behind:
                self.qp.proceed()


def joined(
    options: tuple[StreamOptions, StreamOptions], kind: str, *, fast: bool, large: bool = False
) -> tuple[Side, Side]:
    sides = Side(options[LEFT], large=large), Side(options[RIGHT], large=large)
    Pair(nodes=cast("tuple[Node, Node]", sides), opened=False)
    for side, peer in (sides, sides[::-1]):
        side.begin(peer, kind, fast=fast)
    return sides


def said(octets: bytearray) -> list[object]:
    """The FPDUs that a kernel has, without STags and TOs, which no two runs share; and how many octets follow them."""
    frames: list[object] = []
    at = 0
    while len(octets) - at >= 2 and len(octets) - at >= (size := fpdu_size(int.from_bytes(octets[at : at + 2], "big"))):
        heard = Heard(unframe(octets[at : at + size], 0, markers=False)[0])
        frames.append(len(heard.payload) if heard.tagged else (heard.opcode, heard.msn, heard.payload))
        at += size
    return [*frames, len(octets) - at]


def lived(steps: list[Step], options: tuple[StreamOptions, StreamOptions], kind: str, *, fast: bool) -> list[object]:
    """What was heard and learnt after each step, on both sides."""
    sides = joined(options, kind, fast=fast)
    learnt: list[object] = []
    for number, (what, which, amount) in enumerate(steps):
        side, peer = sides[which], sides[1 - which]
        act(what, amount, number, side, peer)
        for each in sides:
            engine = repr(each.stream.engine)
            learnt += [
                list(each.seen),
                said(each.kernel.heard),
                len(each.transport._buffer),
                engine,
                each.qp.counters(),
            ]
    return learnt


def act(what: str, amount: int, number: int, side: Side, peer: Side) -> None:
    transport = side.transport
    match what:
        case "write" | "write view" if not transport._eof_written:
            octets = bytes([number % 251]) * amount
            transport.write(octets if what == "write" else memoryview(octets))
        case "move":
            side.move(amount, peer)
        case "answer":
            side.takes.answer = amount % 100
        case "fail":
            side.takes.fails = True
        case "pause":
            transport.pause_reading()
        case "resume":
            transport.resume_reading()
        case "eof":
            transport.write_eof()
        case "close":
            transport.close()
        case "abort":
            transport.abort()
        case "fill":
            side.kernel.room = min(side.kernel.room, amount)
        case "room" if side.qp.alive:
            side.kernel.make_room(amount)
        case "turn":
            side.loop.turn()
        case "say" if side.qp.alive:
            side.qp.post_send(Send((), None, amount.to_bytes(4, sys.byteorder), signaled=False))


BOTH: Final = StreamOptions(ring=4096, send_memory=4096, recv_queue=16, send_queue=16)


@MANY
@given(
    steps=st.lists(STEPS, max_size=30),
    options=st.tuples(OPTIONS, OPTIONS),
    kind=st.sampled_from(["octets", "reader", "buffered"]),
)
@example(steps=[("write", LEFT, 64), ("move", LEFT, EVERYTHING)] * 40, options=(BOTH, BOTH), kind="reader")
@example(steps=[("write", LEFT, 200), ("move", LEFT, EVERYTHING)] * 40, options=(BOTH, BOTH), kind="octets")
def test_small_messages_say_and_tell_the_same_the_fast_ways(
    steps: list[Step], options: tuple[StreamOptions, StreamOptions], kind: str
) -> None:
    """RDMAP-5040-5.5-11, DDP-5041-4.3-09."""
    assert lived(steps, options, kind, fast=True) == lived(steps, options, kind, fast=False)


QUIET: Final = ("abort", "fail", "answer", "say")
"""What makes a difference of when octets arrive: a reset, and what a program does for each piece of them."""


def arrived(steps: list[Step], options: tuple[StreamOptions, StreamOptions], kind: str, *, large: bool) -> list[object]:
    """What both programs have heard when everything has come to rest: the octets, and the rest."""
    sides = joined(options, kind, fast=large, large=large)
    for number, (what, which, amount) in enumerate(steps):
        act(what, amount, number, sides[which], sides[1 - which])
    for side in sides:
        side.transport.resume_reading()
        side.kernel.make_room(1 << 24)
    rest = [0, 0]
    for _ in range(10_000):
        before, rest = rest, [len(each.kernel.heard) for each in sides]
        if rest == before and all(each.moved == len(each.kernel.heard) and not each.loop.calls for each in sides):
            break
        for side, peer in (sides, sides[::-1]):
            side.move(EVERYTHING, peer)
            side.loop.turn()
    else:
        raise AssertionError("the ends never come to rest")
    learnt: list[object] = []
    for side in sides:
        octets = b"".join(each for each in side.seen if isinstance(each, bytes))
        learnt += [octets, [each for each in side.seen if each == "eof"], len(side.transport._buffer)]
    return learnt


@MANY
@given(
    steps=st.lists(STEPS.filter(lambda step: step[0] not in QUIET), max_size=30),
    options=st.tuples(OPTIONS, OPTIONS),
    kind=st.sampled_from(["octets", "reader", "buffered"]),
)
@example(steps=[("write view", LEFT, 5000), ("turn", LEFT, 0)] * 5, options=(StreamOptions(), BOTH), kind="reader")
@example(steps=[("fill", LEFT, 50), ("write", LEFT, 5000), ("eof", LEFT, 0)], options=(BOTH, BOTH), kind="octets")
def test_large_messages_arrive_the_same_past_the_batches(
    steps: list[Step], options: tuple[StreamOptions, StreamOptions], kind: str
) -> None:
    """RDMAP-5040-5.5-11: whatever the kernel takes of them at once."""
    assert arrived(steps, options, kind, large=True) == arrived(steps, options, kind, large=False)


def test_a_large_message_passes_the_batches_and_what_the_kernel_did_not_take_is_copied() -> None:
    left, right = joined((StreamOptions(), StreamOptions()), "octets", fast=True, large=True)
    left.move(EVERYTHING, right)
    right.move(EVERYTHING, left)
    left.stream.engine.send = None  # type: ignore[assignment, method-assign]
    passed = left.kernel.passed
    left.kernel.room = 3000
    octets = bytearray(bytes(range(250)) * 40)
    left.transport.write(octets)
    expected, octets[:] = bytes(octets), bytes(10_000)
    assert left.kernel.passed == passed + 1
    left.kernel.make_room(1 << 20)
    left.move(EVERYTHING, right)
    assert b"".join(each for each in right.seen if isinstance(each, bytes)) == expected


@pytest.mark.parametrize("kind", ["octets", "reader"])
def test_small_messages_go_the_fast_ways(kind: str) -> None:
    """Both sides take them: one piece to write for each, and no completion."""
    left, right = joined((BOTH, BOTH), kind, fast=True)
    left.move(EVERYTHING, right)
    right.move(EVERYTHING, left)
    right.stream.engine.on_completion = None  # type: ignore[assignment, method-assign]
    left.stream.engine.send = None  # type: ignore[assignment, method-assign]
    for number in range(7):
        passed = left.kernel.passed
        left.transport.write(bytes([number]) * 64)
        left.move(EVERYTHING, right)
        assert left.kernel.passed == passed + 1
    assert right.seen == [bytes([number]) * 64 for number in range(7)]
    assert LITTLE.data(64) == LITTLE.word(Op.DATA, 64)
