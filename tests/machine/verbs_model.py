"""What a program believes of its verbs objects: the model that `test_verbs_model` holds the stack against.

A batch is what was posted since both devices were last at rest. Of each work request the model knows its `Fate` in
advance, of each octet of memory who may have written it. What depends on the order in which streams happen to be
served it does not pretend to know: such work is `MAYBE`, and the whole connection with it, until all is at rest.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QpCap, QpState, QueuePair
from pyiwarp.queues.work import Completion, Status, WorkOpcode
from pyiwarp.verbs import Access, Context, Device, ProtectionDomain, SharedReceiveQueue
from tests.harness import Node, Pair

GUARD: Final = bytes(range(0xA0, 0xE0))
WORDS: Final = 16  # octets at the beginning of a memory that Atomics alone change
DEPTH: Final = 8
SHARED_SIZE: Final = 40
CAP: Final = QpCap(max_send_wr=DEPTH, max_recv_wr=DEPTH, max_sge=3, max_inline=64)
ANSWERED: Final = frozenset({WorkOpcode.READ, WorkOpcode.FETCH_ADD, WorkOpcode.COMPARE_SWAP})
NOTHING: Final = Access(0)
ENDS: Final = frozenset(Status) - {Status.LOC_LEN_ERR, Status.FATAL_ERR, Status.BAD_RESP_ERR, Status.SUCCESS}


class Fate(Enum):
    """What becomes of a work request."""

    SURE = "sure to be done"
    REFUSED = "refused by the peer"
    CUT = "behind one that is refused"
    MAYBE = "perhaps done"


@dataclass(eq=False, slots=True)
class Note:
    """Octets that a stream puts into a memory, surely or perhaps."""

    stream: object
    start: int
    octets: bytes
    sure: bool
    barred: bool = False  # it must not be placed

    def covers(self, at: int) -> bool:
        return not self.barred and self.start <= at < self.start + len(self.octets)


class Memory:
    """Buffers between guards, and what may be in them; of `free` memory only the guards are looked at."""

    def __init__(self, *sizes: int, free: bool = False) -> None:
        self.buffers = [bytearray(GUARD + bytes(size) + GUARD) for size in sizes]
        self.nbytes = sum(sizes)
        self.free = free
        self.base = bytearray(self.nbytes)  # what was there at the last rest
        self.notes: list[Note] = []
        self.adds: dict[int, list[tuple[Op, int]]] = {}

    def parts(self) -> list[memoryview]:
        """What is registered of each buffer."""
        return [memoryview(buffer)[len(GUARD) : -len(GUARD)] for buffer in self.buffers]

    def octets(self) -> bytes:
        return b"".join(bytes(buffer[len(GUARD) : -len(GUARD)]) for buffer in self.buffers)

    def check(self) -> None:
        """No octet outside is touched, and none inside has a value that nobody gave it."""
        for buffer in self.buffers:
            guards = bytes(buffer[: len(GUARD)]), bytes(buffer[-len(GUARD) :])
            assert guards == (GUARD, GUARD), "an octet outside the region has changed"
        now = self.octets()
        if self.free or now == self.base:
            return
        for at in range(WORDS if self.adds else 0, self.nbytes):
            if now[at] != self.base[at]:
                allowed = {note.octets[at - note.start] for note in self.notes if note.covers(at)}
                assert now[at] in allowed, f"octet {at} is {now[at]}, not one of {allowed}"

    def settle(self) -> None:
        """All is at rest: the last word of each stream counts, and only what was perhaps said is open."""
        now = self.octets()
        for at in range(0 if self.notes and not self.free else self.nbytes, self.nbytes):
            if self.adds and at < WORDS:
                continue
            candidates, may_be_old = set(), True
            for stream in {note.stream for note in self.notes if note.covers(at)}:
                last = self._last(stream, at)
                candidates |= {note.octets[at - note.start] for note in last}
                may_be_old &= not last[0].sure
            if may_be_old:
                candidates.add(self.base[at])
            assert now[at] in candidates, f"octet {at} is {now[at]}, not one of {candidates}"
        for word in self.adds:
            found = int.from_bytes(now[word : word + 8], sys.byteorder)
            assert found in self.sums(word, all_done=True), "each FetchAdd is done once"
        self.base[:] = now
        self.notes.clear()
        self.adds.clear()

    def _last(self, stream: object, at: int) -> list[Note]:
        """What a stream has said of an octet, from its last sure word on."""
        own = [note for note in self.notes if note.stream is stream and note.covers(at)]
        sure = [index for index, note in enumerate(own) if note.sure]
        return own[sure[-1] :] if sure else own

    def sums(self, word: int, *, all_done: bool = False) -> set[int]:
        """What a word may hold now, or have held since the last rest."""
        totals = {int.from_bytes(self.base[word : word + 8], sys.byteorder)}
        for op, add in self.adds.get(word, ()):
            more = {(total + add) % (1 << 64) for total in totals}
            totals = more if all_done and op.fate is Fate.SURE else totals | more
        return totals

    def possible(self, at: int, reader: Half) -> set[int]:
        """What a Read of this stream that is posted now may see at once: nothing older than its last sure Write."""
        own = self._last(reader, at)
        others = [note for note in self.notes if note.stream is not reader and note.covers(at)]
        seen = {note.octets[at - note.start] for note in [*own, *others]}
        return seen if own and own[0].sure else seen | {self.base[at]}

    def since(self, at: int, reader: Half, noted: int) -> set[int]:
        """What a Read may have seen too that was posted after the first `noted` notes.

        All that was written since, for a moment too, and what other streams wrote before that may have come later.
        """
        later = [note for note in self.notes[:noted] if note.stream is not reader] + self.notes[noted:]
        return {note.octets[at - note.start] for note in later if note.covers(at)}


@dataclass(eq=False, slots=True)
class Op:
    """A work request in a send queue; `status` is that of one that is refused."""

    wr_id: int
    opcode: WorkOpcode
    signaled: bool
    fate: Fate
    status: Status = Status.REM_ACCESS_ERR
    target: Target | None = None
    notes: list[Note] = field(default_factory=list)
    check: Callable[[Completion | None], None] | None = None
    release: Callable[[], None] | None = None


@dataclass(eq=False, slots=True)
class Target:
    """Something with an STag that peers may name: a region, a window, a fast region."""

    kind: str
    obj: Any
    side: Side
    pd: ProtectionDomain
    memory: Memory | None = None
    start: int = 0
    nbytes: int = 0
    access: Access = NOTHING
    scope: QueuePair | None = None
    remote: RemoteRegion | None = None  # None: it stands for nothing
    parent: Target | None = None
    wish: Callable[[], None] | None = None  # what a change that was posted makes of it when its turn has come
    wisher: Half | None = None
    before: object = None

    def void(self) -> None:
        """The STag stands for nothing any more, nor do those of windows onto it."""
        if self.remote is not None:
            self.side.stale.append(self.remote)
        self.remote = self.parent = None
        for window in self.windows:
            window.void()

    @property
    def windows(self) -> list[Target]:
        return [window for window in self.side.targets if window.parent is self]

    @property
    def uncertain(self) -> bool:
        """Whether a change waits for its turn, here or where this window looks."""
        return self.wish is not None or (self.parent is not None and self.parent.uncertain)

    @property
    def actual(self) -> tuple[bool, int]:
        """What the stack believes: whether the STag stands for something, and which it is."""
        memory = self.obj if self.kind == "region" else self.obj.performed_memory
        valid = memory is not None and memory.is_open
        return valid, memory.stag if valid else 0


@dataclass(eq=False, slots=True)
class Message:
    """A Send or Immediate Data on its way."""

    octets: bytes
    solicited: bool = False
    inval_stag: int | None = None
    immediate: bytes | None = None


class Half:
    """One end of a connection: a queue pair, what it has posted, and what its peer has sent it."""

    def __init__(self, side: Side, pd: ProtectionDomain, *, confirm: bool = False, shared: bool = False) -> None:
        self.side, self.pd, self.confirm = side, pd, confirm
        self.srq = side.srq if shared else None
        self.peer: Half
        self.link: Link
        self.posted: deque[Op] = deque()
        self.receives: deque[tuple[int, Memory, Any]] = deque()
        self.expected: deque[Message] = deque()
        self.barred: deque[Message] = deque()  # what must not come
        self.too_long: bool | None = False  # whether a message comes that is longer than its receive; None: perhaps
        self.renew()

    def renew(self) -> None:
        """A queue pair of its own, not yet connected."""
        self.node = Node.__new__(Node)
        self.node.context, self.node.pd = self.side.context, self.pd
        self.node.send_cq, self.node.recv_cq = self.side.send_cq, self.side.recv_cq
        self.qp = self.node.qp = self.pd.create_qp(
            self.side.send_cq, self.side.recv_cq, CAP, mulpdu=128, srq=self.srq, confirm=self.confirm
        )
        self.side.halves[self.qp.qp_num] = self
        self.closed = False

    @property
    def up(self) -> bool:
        """Whether what is posted now is begun."""
        return not self.closed and self.qp.state is QpState.RTS

    def credit(self) -> int:
        """Receives that no message on its way will take."""
        if self.srq is not None:
            takers = [half for half in self.side.sharers if half.link.live]
            return len(self.side.shared) - sum(len(half.expected) + bool(half.too_long) for half in takers)
        return len(self.receives) - len(self.expected)

    def doubt(self, *, placed: bool) -> None:
        """It is no longer sure what becomes of what this half has posted; its octets are `placed` all the same."""
        for op in self.posted:
            op.fate = Fate.MAYBE
            for note in op.notes:
                note.sure = note.sure and placed
                note.barred = note.barred and placed

    # --- completions -------------------------------------------------------------------------------------------------

    def sent(self, completion: Completion) -> None:
        while self.posted and self.posted[0].wr_id != completion.wr_id:
            self.silent(self.posted.popleft())
        assert self.posted, "what completes was posted and had not completed"
        op = self.posted.popleft()
        assert completion.opcode is op.opcode
        if completion.ok:
            assert op.signaled, "an unsignaled success is not told"
            self.done(op, completion)
        else:
            assert completion.error is not None
            allowed = {Fate.SURE: (), Fate.REFUSED: {op.status}, Fate.CUT: {Status.WR_FLUSH_ERR}, Fate.MAYBE: ENDS}
            assert completion.status in allowed[op.fate], f"{completion}, but it was {op.fate.value}"
        if op.release is not None:
            op.release()

    def silent(self, op: Op) -> None:
        """One that is behind us and was not told of: an unsignaled success."""
        assert not op.signaled, "work requests complete in order, each once"
        self.done(op, None)
        if op.release is not None:
            op.release()

    def done(self, op: Op, completion: Completion | None) -> None:
        told = op.opcode in ANSWERED or self.confirm
        assert op.fate in (Fate.SURE, Fate.MAYBE) or not told, f"{op.opcode} succeeds, but it was {op.fate.value}"
        if op.check is not None and op.fate is Fate.SURE:
            op.check(completion)

    def received(self, completion: Completion) -> None:
        if self.srq is not None:
            older = list(self.side.shared).index(completion.wr_id)
            assert older < len(self.side.sharers), (
                "the oldest is taken; others hold one each whose message is not whole"
            )
            memory, region = self.side.shared.pop(completion.wr_id)
        else:
            wr_id, memory, region = self.receives.popleft()
            assert completion.wr_id == wr_id, "receives complete in order, each once"
        if completion.ok:
            message = self.expected.popleft()
            assert memory.octets().startswith(message.octets), "messages arrive in order and whole"
            assert completion.nbytes == len(message.octets)
            assert (completion.solicited, completion.inval_stag) == (message.solicited, message.inval_stag)
            assert completion.immediate == message.immediate
        else:
            status = Status.LOC_LEN_ERR if self.too_long else Status.WR_FLUSH_ERR
            assert completion.status is status or (self.too_long is None and completion.status is Status.LOC_LEN_ERR)
            self.too_long = False if completion.status is Status.LOC_LEN_ERR else self.too_long
        memory.check()
        assert region.pins == 0, "what has completed pins nothing"
        region.close()


class Side:
    """A device with two protection domains, one pair of completion queues, a shared receive queue, and targets."""

    def __init__(self, name: str) -> None:
        self.context = Context(Device(name, max_mr=4096))
        self.events = self.context.async_events
        self.pds = [self.context.alloc_pd(), self.context.alloc_pd()]
        self.send_cq, self.recv_cq = self.context.create_cq(4096), self.context.create_cq(4096)
        self.srq: SharedReceiveQueue = self.pds[0].create_srq(DEPTH, 2)
        self.shared: dict[object, tuple[Memory, Any]] = {}
        self.halves: dict[int, Half] = {}
        self.targets: list[Target] = []
        self.stale: list[RemoteRegion] = []
        self.memories: list[Memory] = []

    @property
    def sharers(self) -> list[Half]:
        return [half for half in set(self.halves.values()) if half.srq is not None]

    def collect(self) -> None:
        for completion in self.send_cq.poll():
            self.halves[completion.qp_num].sent(completion)
        for completion in self.recv_cq.poll():
            self.halves[completion.qp_num].received(completion)

    def memory(self, *sizes: int, free: bool = False) -> Memory:
        """Memory that is looked at after each step."""
        self.memories.append(Memory(*sizes, free=free))
        return self.memories[-1]


class Link:
    """Two halves, and the connection between them while there is one."""

    def __init__(self, left: Half, right: Half) -> None:
        self.halves = (left, right)
        left.peer, right.peer = right, left
        left.link = right.link = self
        self.join()

    def join(self) -> None:
        """A new connection. `refused` is the half whose peer will refuse something."""
        offer = Offer(ird=2, ord=2)
        self.pair = Pair(initiator=offer, responder=offer, nodes=(self.halves[0].node, self.halves[1].node))
        assert not self.pair.failures
        self.live = True
        self.refused: Half | None = None
        self.murky = False

    def cloud(self) -> None:
        """Until all is at rest nobody knows how far this connection comes."""
        self.murky, self.refused = True, None
        for half in self.halves:
            half.doubt(placed=False)
            half.too_long = None
            half.expected += half.barred
            half.barred.clear()

    def fate(self, half: Half) -> Fate:
        """Of what `half` posts now, if it is lawful."""
        if self.murky or self.refused is half.peer:
            return Fate.MAYBE
        return Fate.CUT if self.refused is half else Fate.SURE

    def refuse(self, half: Half, op: Op) -> None:
        """The peer will refuse what `half` is posting, and drop what it still owes."""
        if self.murky or self.refused is half.peer:
            self.cloud()
            op.fate = Fate.MAYBE
        elif self.refused is None:
            self.refused = half
            half.doubt(placed=True)
            half.peer.doubt(placed=False)
            half.too_long = None
            op.fate = Fate.REFUSED
        else:
            op.fate = Fate.CUT

    def settle(self) -> None:
        """At rest the two ends agree on what has become of the connection."""
        if not self.live:
            return
        ups = [half.up for half in self.halves]
        assert ups[0] == ups[1], "one side is up and the other is not"
        self.live = ups[0]
        assert not self.live or self.refused is None, "the peer refuses what is unlawful"
        self.murky = False
        for half in self.halves:
            if self.live:
                assert half.qp.query().sends_posted == 0, "at rest all work is complete"
                assert not half.expected, "at rest all messages have arrived"
            else:
                assert not half.receives, "nothing waits on a connection that has ended"
                half.expected.clear()
                half.barred.clear()
            while half.posted:
                half.silent(half.posted.popleft())
            assert not half.too_long, "the receive that was too short is told"
            half.too_long = False


def disturb(links: Iterable[Link], target: Target) -> None:
    """What `target` stands for changes while others may be on their way to it."""
    family = [target, *target.windows]
    for link in links:
        if any(op.target in family for half in link.halves for op in half.posted):
            link.cloud()
