"""Two devices and everything that verbs offer, at random, lawful and not, against a model (`verbs_model`).

Whatever is called: each work request completes exactly once and in the order of its queue, with the status that the
model foresaw; memory holds what the model says and no octet outside a region ever changes; a call that is refused
raises the documented exception and changes nothing; and when all is closed no buffer is held.

PYIWARP_MODEL_EXAMPLES makes it search longer (docs/verbs.md).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from pyiwarp.access import REMOTE
from pyiwarp.errors import BadMemory, BadWorkRequest, Closed, QueueFull, RegionInUse, WrongState
from pyiwarp.mr import RegionSlice, RemoteRegion
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import (
    BindMw,
    CompareSwap,
    Completion,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    Read,
    Recv,
    RegMr,
    Send,
    SendRequest,
    Status,
    WorkOpcode,
    Write,
)
from pyiwarp.verbs import Access, WindowType
from tests.machine.verbs_machine import LARGEST, SIZE, VerbsMachine
from tests.machine.verbs_model import (
    ANSWERED,
    DEPTH,
    SHARED_SIZE,
    WORDS,
    Fate,
    Half,
    Memory,
    Message,
    Note,
    Op,
    Target,
    disturb,
)

EXAMPLES = int(os.environ.get("PYIWARP_MODEL_EXAMPLES", "100"))
STEPS = 50

halves = st.integers(0, 23)
picks = st.integers(0, 63)
flags = st.booleans()
lengths = st.one_of(st.integers(0, LARGEST), st.sampled_from([0, 30, LARGEST]))
rooms = st.one_of(st.sampled_from([None, 30, LARGEST, LARGEST]), st.integers(0, LARGEST))
offsets = st.one_of(st.sampled_from([0, WORDS, 120, SIZE]), st.integers(0, SIZE + 8))
rights = st.sampled_from(
    [
        Access.LOCAL_WRITE | REMOTE | Access.WINDOW_BIND,
        Access.LOCAL_WRITE | REMOTE,
        Access.LOCAL_WRITE | REMOTE | Access.ZERO_BASED,
        Access.LOCAL_WRITE | Access.WINDOW_BIND,
        Access.REMOTE_READ | Access.WINDOW_BIND,
        Access.REMOTE_WRITE,
    ]
)
shown = st.sampled_from([REMOTE, Access.REMOTE_WRITE, Access.REMOTE_READ, REMOTE | Access.ZERO_BASED])


class VerbsModel(VerbsMachine):
    @rule(
        number=halves,
        pick=picks,
        offset=offsets,
        size=st.sampled_from([0, 1, 5, 20, 50, 150]),
        seed=picks,
        signaled=flags,
        fence=flags,
    )
    def write(self, number: int, pick: int, offset: int, size: int, seed: int, signaled: bool, fence: bool) -> None:
        half = self.half(number)
        target = self.aim(half, pick, Access.REMOTE_WRITE)
        offset = max(offset % (SIZE if pick % 3 else SIZE + 9), WORDS - target.start)
        op = self.op(half, WorkOpcode.WRITE, signaled)
        named = self.judge(half, op, target, offset, size, Access.REMOTE_WRITE)
        octets = bytes((seed + at) % 251 for at in range(size))
        source = half.pd.register(bytearray(octets), Access(0))
        cut = size // 3
        request = Write((source[:cut], source[cut:]), named, op.wr_id, None, signaled, fence)
        taken = self.post(half, request, op)
        source.retire()
        self.follow(half, op, taken)
        within = octets[: max(0, target.nbytes - offset)]
        barred = op.fate is Fate.CUT or (op.fate is Fate.REFUSED and len(within) == size)
        if taken and within and target.memory is not None:
            note = Note(half, target.start + offset, within, op.fate is Fate.SURE, barred)
            op.notes.append(note)
            target.memory.notes.append(note)

    @rule(
        number=halves,
        pick=picks,
        offset=offsets,
        size=st.sampled_from([0, 1, 5, 20, 50, 150]),
        void=flags,
        signaled=flags,
        fence=flags,
    )
    def read(self, number: int, pick: int, offset: int, size: int, void: bool, signaled: bool, fence: bool) -> None:
        half = self.half(number)
        target = self.aim(half, pick, Access.REMOTE_READ)
        offset = max(offset % (SIZE if pick % 3 else SIZE + 9), WORDS - target.start)
        op = self.op(half, WorkOpcode.READ, signaled)
        named = self.judge(half, op, target, offset, size, Access.REMOTE_READ)
        sink = half.side.memory(size or 1, free=True)
        region = half.pd.register(sink.parts()[0], Access.LOCAL_WRITE)
        memory, start = target.memory, target.start + offset
        seen = (
            [memory.possible(at, half) for at in range(start, start + size)] if memory and op.fate is Fate.SURE else []
        )

        noted = len(memory.notes) if memory else 0

        def check(completion: Completion | None) -> None:
            assert completion is None or completion.nbytes == size
            assert region.is_open is not void, "the sink is void if that was asked for"
            late = [memory.since(at, half, noted) for at in range(start, start + size)] if memory else []
            for octet, early, later in zip(sink.octets(), seen, late, strict=False):
                assert octet in early | later, "a Read sees what was written before it, or later"

        op.check, op.release = check, region.retire
        sge = region[:size]
        taken = self.post(half, Read(sge, named, op.wr_id, signaled, fence, void), op)
        if not taken:
            region.retire()
            half.side.memories.remove(sink)
        self.follow(half, op, taken)

    @rule(number=halves, pick=picks, word=st.integers(0, 3), add=st.integers(0, 1 << 64), odd=flags, fence=flags)
    def fetch_add(self, number: int, pick: int, word: int, add: int, odd: bool, fence: bool) -> None:
        half = self.half(number)
        target = self.aim(half, pick, Access.REMOTE_ATOMIC)
        if target.kind not in ("region", "fast"):
            target = self.target(half.peer.side, pick, ("region", "fast"))
        op = self.op(half, WorkOpcode.FETCH_ADD, True)
        offset = word % 2 * 8 + (odd and word == 3)
        add %= 1 << 64
        remote = self.judge(half, op, target, offset, 8, Access.REMOTE_ATOMIC)
        memory = target.memory

        def check(completion: Completion | None) -> None:
            assert completion is not None
            assert memory is not None
            assert completion.value in memory.sums(offset)

        op.check = check
        taken = self.post(half, FetchAdd(remote, add, wr_id=op.wr_id, fence=fence), op)
        self.follow(half, op, taken)
        if taken and memory is not None and op.fate in (Fate.SURE, Fate.MAYBE):
            memory.adds.setdefault(offset // 8 * 8, []).append((op, add))

    @rule(number=halves, pick=picks, hit=flags)
    def compare_swap_alone(self, number: int, pick: int, hit: bool) -> None:
        self.settle()
        half = self.half(number)
        target = self.aim(half, pick, Access.REMOTE_ATOMIC)
        if target.kind not in ("region", "fast"):
            target = self.target(half.peer.side, pick, ("region", "fast"))
        op = self.op(half, WorkOpcode.COMPARE_SWAP, True)
        remote = self.judge(half, op, target, 8, 8, Access.REMOTE_ATOMIC)
        memory = target.memory
        before = 0 if memory is None else int.from_bytes(memory.octets()[8:16], sys.byteorder)
        expected = before if hit else before ^ 1

        def check(completion: Completion | None) -> None:
            assert completion is not None
            assert completion.value == before
            if hit and memory is not None:
                memory.base[8:16] = (7).to_bytes(8, sys.byteorder)

        assert not half.posted
        op.check = check
        taken = self.post(half, CompareSwap(remote, expected, 7, wr_id=op.wr_id), op)
        self.follow(half, op, taken)
        self.settle()

    # --- messages ----------------------------------------------------------------------------------------------------

    def welcome(self, half: Half, size: int) -> None:
        """Let the peer have a receive for what `half` sends next: without one most connections would end here."""
        peer = half.peer
        if half.up and not half.link.murky and half.link.refused is None and peer.credit() < 1:
            self.give(peer, size)

    @rule(number=halves, size=lengths)
    def receive(self, number: int, size: int) -> None:
        self.give(self.half(number), size)

    def give(self, half: Half, size: int) -> None:
        """Post a receive for `size` octets, to the shared queue if the half takes its receives from there."""
        size = SHARED_SIZE if half.srq is not None else size
        memory = Memory(size or 1, free=True)
        region = half.pd.register(memory.parts()[0], Access.LOCAL_WRITE)
        wr_id = next(self.ids)
        request = Recv((region[:7], region[7:]) if size else (), wr_id)
        short = half.credit() < 0 or half.link.refused is half.peer
        try:
            if half.srq is not None:
                half.srq.post_recv(request)
            else:
                half.qp.post_recv(request)
        except QueueFull:
            assert len(half.side.shared if half.srq else half.receives) == DEPTH
            region.close()
            return
        except Closed:
            assert half.closed
            return
        if half.srq is not None:
            half.side.shared[wr_id] = memory, region
        else:
            half.receives.append((wr_id, memory, region))
        if short:
            for sharer in half.side.sharers if half.srq else [half]:
                sharer.link.cloud()
        if not half.link.live:
            self.collect()

    def tell(self, half: Half, op: Op, request: SendRequest, message: Message) -> None:
        """Post what takes a receive of the peer's; foresee whether there is one, and whether it suits."""
        peer = half.peer
        short = False
        full = peer.srq is not None and peer.credit() < 1
        if full:
            for sharer in peer.side.sharers:
                sharer.link.cloud()
            op.fate = Fate.MAYBE
        elif op.fate is Fate.SURE:
            if peer.credit() < 1:
                op.fate, op.status = Fate.REFUSED, Status.REM_INV_REQ_ERR
            else:
                size = SHARED_SIZE
                if peer.srq is None:
                    _, memory, region = peer.receives[len(peer.expected)]
                    size = memory.nbytes if region.pins else 0  # or the list was empty
                short = message.immediate is None and len(message.octets) > size
                if short:
                    op.fate, op.status = Fate.REFUSED, Status.REM_INV_REQ_ERR
        taken = self.post(half, request, op)
        if not taken:
            return
        self.follow(half, op, taken)
        if op.fate is Fate.REFUSED:
            peer.too_long = short
        (peer.expected if op.fate in (Fate.SURE, Fate.MAYBE) else peer.barred).append(message)
        if op.fate is Fate.MAYBE and not half.link.murky:
            half.link.cloud()

    @rule(number=halves, size=lengths, seed=picks, room=rooms, solicited=flags, signaled=flags, fence=flags)
    def send(
        self, number: int, size: int, seed: int, room: int | None, solicited: bool, signaled: bool, fence: bool
    ) -> None:
        half = self.half(number)
        if room is not None:
            self.welcome(half, room)
        octets = bytes((seed + at) % 251 for at in range(size))
        op = self.op(half, WorkOpcode.SEND, signaled)
        request = Send((), op.wr_id, octets, None, solicited, signaled, fence)
        self.tell(half, op, request, Message(octets, solicited, None, None))

    @rule(number=halves, data=st.binary(min_size=8, max_size=8), room=rooms, solicited=flags, fence=flags)
    def immediate(self, number: int, data: bytes, room: int | None, solicited: bool, fence: bool) -> None:
        half = self.half(number)
        if room is not None:
            self.welcome(half, room)
        op = self.op(half, WorkOpcode.IMMEDIATE, True)
        self.tell(half, op, Immediate(data, op.wr_id, solicited, True, fence), Message(b"", solicited, None, data))

    @rule(number=halves, pick=picks)
    def send_with_invalidate_alone(self, number: int, pick: int) -> None:
        self.settle()
        half = self.half(number)
        peer = half.peer
        target = self.target(peer.side, pick)
        op = self.op(half, WorkOpcode.SEND, True)
        stag = 0x77_0001 if target.remote is None else target.remote.stag
        others = sum(
            h.qp.state is not QpState.IDLE for h in peer.side.halves.values() if h.pd is peer.pd and not h.closed
        )
        lawful = (
            target.remote is not None
            and (target.scope is peer.qp if target.scope is not None else target.pd is peer.pd and others < 2)
            and bool(target.access & REMOTE)
            and not target.windows
            and target.kind != WindowType.TYPE_1.value
        )
        live = half.link.live
        if live and op.fate is Fate.SURE and not lawful and peer.credit() > 0:
            op.fate, op.status = Fate.REFUSED, Status.REM_ACCESS_ERR
        self.tell(half, op, Send((), op.wr_id, b"", stag), Message(b"", False, stag, None))
        self.settle()
        if live and half.link.live:
            assert lawful
            target.void()
            assert not target.actual[0]

    # --- memory ------------------------------------------------------------------------------------------------------

    @rule(number=halves, access=rights, mine=flags)
    def register(self, number: int, access: Access, mine: bool) -> None:
        half = self.half(number)
        if len(half.side.targets) < 24 and not (mine and half.closed):
            self.new_region(half.side, half.pd, access, half.qp if mine else None)

    @rule(number=halves, pick=picks)
    def close_region(self, number: int, pick: int) -> None:
        side = self.half(number).side
        target = self.target(side, pick, ("region",))
        if any(other.uncertain for other in side.targets):
            return
        if target.windows:
            self.refused(self.half(number), RegionInUse, target.obj.close)
            return
        if target.obj.pins:  # an answer is under way, or a change is posted
            with pytest.raises(RegionInUse):
                target.obj.close()
            return
        disturb(self.links, target)
        target.obj.close()
        target.void()

    @rule(number=halves, pick=picks, access=rights, move=flags)
    def reregister(self, number: int, pick: int, access: Access, move: bool) -> None:
        self.settle()
        half = self.half(number)
        target = self.target(half.side, pick, ("region",))
        region = target.obj
        wrong: type[Exception] | None = RegionInUse if target.windows or region.pins else None
        if target.remote is None:
            wrong = Closed
        if wrong is None and target.scope is not None and move and target.pd is not half.pd:
            wrong = BadWorkRequest
        if wrong is not None:
            self.refused(half, wrong, lambda: region.reregister(access=access, pd=half.pd if move else None))
            return
        target.void()
        region.reregister(access=access, pd=half.pd if move else None)
        target.pd = half.pd if move else target.pd
        target.access, target.remote = access, region[:].remote()

    def change(self, half: Half, target: Target, request: SendRequest, op: Op, wish: Callable[[], None]) -> None:
        """Post what changes a target of this side: at once, or when its turn has come, which a fence may put off."""
        waits = any(other.opcode in ANSWERED for other in half.posted)
        target.before = target.actual
        if not self.post(half, request, op):
            return
        disturb(self.links, target)
        if waits:
            target.wish, target.wisher = wish, half
        else:
            wish()

    @rule(number=halves, pick=picks, fence=flags, signaled=flags)
    def local_invalidate(self, number: int, pick: int, fence: bool, signaled: bool) -> None:
        half = self.half(number)
        target = self.target(half.side, pick)
        if target.uncertain or not half.up:
            return
        wrong: type[Exception] | None = None
        if target.pd is not half.pd and (target.remote is not None or target.kind != "region"):
            wrong = BadWorkRequest
        elif target.remote is None:
            wrong = Closed
        elif target.kind == WindowType.TYPE_1.value or (
            target.kind != WindowType.TYPE_2A.value and target.scope not in (None, half.qp)
        ):
            wrong = BadWorkRequest
        elif target.windows:
            wrong = RegionInUse
        elif any(window.uncertain for window in half.side.targets):
            return
        op = self.op(half, WorkOpcode.LOCAL_INV, signaled)
        request = LocalInvalidate(target.obj, op.wr_id, signaled, fence)
        if wrong is not None:
            if half.qp.send_room:
                self.refused(half, wrong, lambda: half.qp.post_send(request))
            return
        self.change(half, target, request, op, target.void)

    @rule(
        number=halves,
        sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
        pick=picks,
        access=rights,
        fence=flags,
    )
    def reg_mr(self, number: int, sizes: list[int], pick: int, access: Access, fence: bool) -> None:
        half = self.half(number)
        target = self.target(half.side, pick, ("fast",))
        if target.uncertain or not half.up or not half.qp.send_room:
            return
        memory = half.side.memory(WORDS, *sizes)
        op = self.op(half, WorkOpcode.REG_MR, True)
        request = RegMr(target.obj, memory.parts(), access, wr_id=op.wr_id, fence=fence)
        wrong: type[Exception] | None = None
        if target.pd is not half.pd or (target.remote is None and len(sizes) > 2):
            wrong = BadWorkRequest
        elif target.remote is not None:
            wrong = WrongState
        if wrong is not None:
            half.side.memories.pop()
            self.refused(half, wrong, lambda: half.qp.post_send(request))
            return

        def wish() -> None:
            target.memory, target.start, target.nbytes, target.access = memory, 0, memory.nbytes, access
            target.scope, target.remote = None, target.obj.remote()

        self.change(half, target, request, op, wish)

    @rule(number=halves, pick=picks, region_pick=picks, spot=st.integers(WORDS, SIZE), access=shown, fence=flags)
    def bind(self, number: int, pick: int, region_pick: int, spot: int, access: Access, fence: bool) -> None:
        half = self.half(number)
        target = self.target(half.side, pick, tuple(kind.value for kind in WindowType))
        region = self.target(half.side, region_pick, ("region",))
        if target.uncertain or region.uncertain or not half.up or not half.qp.send_room:
            return
        nbytes = min(50, SIZE - spot)
        first = target.kind == WindowType.TYPE_1.value
        op = self.op(half, WorkOpcode.BIND_MW, True)
        request = BindMw(target.obj, RegionSlice(region.obj, spot, nbytes), access, None, op.wr_id, True, fence)
        wrong = self.why_not_bound(half, target, region, nbytes, access)
        if wrong is not None:
            self.refused(half, wrong, lambda: half.qp.post_send(request))
            return

        def wish() -> None:
            target.void()
            if nbytes:
                target.memory, target.start, target.nbytes, target.access = region.memory, spot, nbytes, access
                target.scope = region.scope if first else half.qp
                target.parent, target.remote = region, target.obj.remote()

        self.change(half, target, request, op, wish)

    def why_not_bound(
        self, half: Half, target: Target, region: Target, nbytes: int, access: Access
    ) -> type[Exception] | None:
        first = target.kind == WindowType.TYPE_1.value
        if target.pd is not half.pd:
            return BadWorkRequest
        if not first and target.remote is not None:
            return WrongState
        if first and access & Access.ZERO_BASED:
            return BadWorkRequest
        if not nbytes:
            return None if first else BadWorkRequest
        if region.remote is None:
            return Closed
        writes = access & (Access.REMOTE_WRITE | Access.REMOTE_ATOMIC)
        lets = Access.LOCAL_WRITE in region.access or not writes & ~region.access
        foreign = region.pd is not half.pd or region.scope not in (None, half.qp)
        return None if not foreign and Access.WINDOW_BIND in region.access and lets else BadWorkRequest

    # --- calls that are never lawful ---------------------------------------------------------------------------------

    @rule(number=halves, which=st.integers(0, 11))
    def misuse(self, number: int, which: int) -> None:
        half = self.half(number)
        if not half.up or not half.qp.send_room:
            return
        own = half.pd.register(bytearray(16), Access.LOCAL_WRITE)
        plain = half.pd.register(bytearray(16), Access.REMOTE_READ)
        gone = half.pd.register(bytearray(16))
        gone.close()
        foreign = half.side.pds[half.pd is half.side.pds[0]].register(bytearray(16))
        remote, post = RemoteRegion(0, 1, 16), half.qp.post_send
        receive = half.qp.post_recv if half.srq is None else half.srq.post_recv
        room = len(half.side.shared if half.srq else half.receives) < DEPTH
        calls: list[tuple[type[Exception], Callable[[], object]]] = [
            (BadMemory, lambda: post(Send((foreign[:],)))),
            (Closed, lambda: post(Write((RegionSlice(gone, 0, 4),), remote))),
            (BadMemory, lambda: post(Send((own[:4], RegionSlice(own, 10, 7))))),
            (BadMemory, lambda: post(Send((RegionSlice(own, -1, 4),)))),
            (BadMemory, lambda: post(Read(plain[:], remote))),
            (BadWorkRequest, lambda: post(Send(inline=bytes(65)))),
            (BadWorkRequest, lambda: post(Immediate(b"seven!!"))),
            (BadMemory if room else QueueFull, lambda: receive(Recv((plain[:],)))),
            (BadWorkRequest, lambda: post(Send((own[:1], own[1:2], own[2:3], own[3:4])))),
            (BadWorkRequest, lambda: post(FetchAdd(remote, 1, sge=own[:7]))),
            (BadWorkRequest, lambda: post(Write((own[:],), RemoteRegion((1 << 64) - 8, 1, 16)))),
            (RegionInUse, half.pd.close),
        ]
        self.refused(half, *calls[which])
        for region in (own, plain, foreign):
            region.close()  # nothing holds them

    # --- the network, and ends ---------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 2), steps=st.integers(1, 6))
    def move(self, number: int, steps: int) -> None:
        for _ in range(steps):
            self.links[number].pair.step()
        self.collect()

    @rule(number=halves, how=st.sampled_from(["disconnect", "abort", "error", "terminate", "close"]), now=flags)
    def end(self, number: int, how: str, now: bool) -> None:
        half = self.half(number)
        link = half.link
        if half.closed or not link.live:
            return
        if now or half.qp.error is not None:  # an error may be there of which no completion has told yet
            self.settle()
        if not link.live:
            return
        link.cloud()
        if how == "disconnect":
            half.qp.disconnect()
        elif how == "abort":
            half.qp.abort(Closed("enough"))
        elif how == "close":
            half.qp.close()
            half.closed = True
        else:
            half.qp.modify(QpState.ERROR if how == "error" else QpState.TERMINATE)
        if how in ("abort", "error", "close"):
            self.collect()
            assert not any(op.signaled for op in half.posted), "all of it is flushed at once"
        self.settle()
        assert not link.live
        wanted = QpState.IDLE if how == "disconnect" else QpState.ERROR
        for each in link.halves:
            assert each.qp.state in (wanted, QpState.ERROR)
        if now and how == "disconnect":
            assert [each.qp.state for each in link.halves] == [wanted, wanted]

    @rule()
    def rest(self) -> None:
        self.settle()

    @rule(number=st.integers(0, 2))
    def connect_again(self, number: int) -> None:
        self.revive(number)

    @rule()
    def repair(self) -> None:
        """All connections are there again, each half with a receive that takes any Send."""
        for number, link in enumerate(self.links):
            self.revive(number)
            for half in link.halves:
                self.give(half, LARGEST)

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_what_the_model_says(self) -> None:
        self.collect()
        for side in self.sides:
            for memory in side.memories:
                memory.check()

    def teardown(self) -> None:
        self.settle()
        for side in self.sides:
            side.context.close()
            self.collect()
            assert len(side.context.stags) == 0
            for half in side.halves.values():
                assert not half.receives, "every receive has completed"
            for memory in [*side.memories, *(target.memory for target in side.targets)]:
                for buffer in () if memory is None else memory.buffers:
                    buffer.append(0)  # which a buffer that anything holds would refuse


TestVerbsModel: Any = VerbsModel.TestCase
TestVerbsModel.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_read_may_see_what_stood_there_for_a_moment() -> None:
    """What a Write after the Read has placed, and what another that waited for the Read has placed over it."""
    machine = VerbsModel()
    place = {"pick": 1, "offset": WORDS, "signaled": True}
    machine.read(number=15, size=5, void=False, fence=False, **place)
    machine.write(number=15, size=50, seed=7, fence=False, **place)
    machine.write(number=9, size=5, seed=90, fence=True, **place)
    machine.settle()  # the Read Response carries the first Write, the memory holds the second
    machine.teardown()
