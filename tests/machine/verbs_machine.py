"""The machine of the verbs model: its sides and links, what a rule may choose from, and how a rule posts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from pyiwarp.access import REMOTE
from pyiwarp.errors import Closed, QueueFull, WrongState
from pyiwarp.mr import RemoteRegion
from pyiwarp.queues.qp import QpState, QueuePair
from pyiwarp.queues.work import (
    SendRequest,
    Status,
    WorkOpcode,
)
from pyiwarp.verbs import Access, WindowType
from tests.machine.verbs_model import (
    DEPTH,
    Fate,
    Half,
    Link,
    Op,
    Side,
    Target,
)

SIZE = 200
LARGEST = 60

REFUSALS = {Access.REMOTE_WRITE: "write", Access.REMOTE_READ: "read", Access.REMOTE_ATOMIC: "atomic"}


class VerbsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count(1)
        self.sides = left, right = Side("left"), Side("right")
        self.links = [
            Link(Half(left, left.pds[0]), Half(right, right.pds[0], shared=True)),
            Link(Half(left, left.pds[0], confirm=True), Half(right, right.pds[0], shared=True)),
            Link(Half(left, left.pds[1], confirm=True), Half(right, right.pds[1], confirm=True)),
        ]
        for side in self.sides:
            for pd in side.pds:
                self.new_region(side, pd, Access.LOCAL_WRITE | REMOTE | Access.WINDOW_BIND, None)
                for kind in WindowType:
                    side.targets.append(Target(kind.value, pd.alloc_window(kind), side, pd))
                side.targets.append(Target("fast", pd.alloc_stag(3), side, pd))

    # --- choosing ----------------------------------------------------------------------------------------------------

    def half(self, number: int) -> Half:
        """One of the six; mostly of a connection that lives: on dead ones all ends alike."""
        link, end = divmod(number % 6, 2)
        if number >= 6:
            self.revive(link)
        return self.links[link].halves[end]

    def aim(self, half: Half, pick: int, right: Access) -> Target:
        """A target of the peer's: mostly one that this half may use so, if there is any."""
        every = half.peer.side.targets
        fit = [
            target
            for target in every
            if target.remote is not None and target.access & right and target.pd is half.peer.pd
            if target.scope in (None, half.peer.qp)
        ]
        return fit[pick % len(fit)] if fit and pick % 8 else every[pick % len(every)]

    def new_region(self, side: Side, pd: Any, access: Access, scope: QueuePair | None) -> Target:
        memory = side.memory(SIZE)
        region = pd.register(memory.parts()[0], access, qp=scope)
        target = Target("region", region, side, pd, memory, 0, SIZE, access, scope, region[:].remote())
        side.targets.append(target)
        return target

    def target(self, side: Side, pick: int, kinds: tuple[str, ...] = ()) -> Target:
        found = [target for target in side.targets if not kinds or target.kind in kinds]
        return found[pick % len(found)]

    # --- posting -----------------------------------------------------------------------------------------------------

    def post(self, half: Half, request: SendRequest, op: Op) -> bool:
        """Post it; whether the queue has taken it, on a stream that lives."""
        assert half.qp.state is not QpState.IDLE or not half.up
        if half.closed or half.qp.state is QpState.IDLE:
            self.refused(half, Closed if half.closed else WrongState, lambda: half.qp.post_send(request))
            return False
        outstanding = half.qp.query().sends_posted
        try:
            half.qp.post_send(request)
        except QueueFull:
            assert outstanding >= DEPTH
            return False
        assert outstanding < DEPTH, "a full queue takes nothing"
        half.posted.append(op)
        if half.up:
            return True
        op.fate = Fate.CUT
        if not half.link.live:
            self.collect()
            assert not half.posted, "what is posted too late is flushed at once"
        return False

    def op(self, half: Half, opcode: WorkOpcode, signaled: bool) -> Op:
        return Op(next(self.ids), opcode, signaled, half.link.fate(half))

    def refused(self, half: Half, error: type[Exception], call: Callable[[], object]) -> None:
        """The call raises, and changes nothing."""

        def figures() -> object:
            pins = [memory.octets() for memory in half.side.memories]
            stags = len(half.side.context.stags)
            held = [] if half.closed else [half.qp.query()]
            return pins, stags, held, [target.obj.stag for target in half.side.targets]

        before = figures()
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value), "the message says something"
        assert type(caught.value) is error
        assert figures() == before, "nothing has changed"

    def judge(self, half: Half, op: Op, target: Target, offset: int, nbytes: int, right: Access) -> RemoteRegion:
        """Foresee what the peer says to a request for this memory; returns the name to use."""
        stale = half.peer.side.stale[-8:]
        remote = target.remote or (stale[offset % len(stale)] if stale else RemoteRegion(0x1000, 0x77_0001, SIZE))
        named = RemoteRegion(remote.to + offset, remote.stag, nbytes)
        op.target = target
        if not nbytes:
            return named
        lawful = (
            target.remote is not None
            and (target.scope is half.peer.qp if target.scope is not None else target.pd is half.peer.pd)
            and offset + nbytes <= target.nbytes
            and bool(target.access & right)
        )
        if lawful and right is Access.REMOTE_ATOMIC and self.misaligned(target, offset):
            lawful, op.status = False, Status.REM_OP_ERR
        if target.uncertain:
            half.link.cloud()
            op.fate = Fate.MAYBE
        elif not lawful and op.fate is not Fate.CUT:
            op.fate = Fate.REFUSED
        return named

    @staticmethod
    def misaligned(target: Target, offset: int) -> bool:
        memory = target.obj if target.kind == "region" else target.obj.memory
        return bool(memory.misalignment(offset))

    def follow(self, half: Half, op: Op, taken: bool) -> None:
        """If it was posted, and the peer will refuse it, so does the model."""
        if taken and op.fate is Fate.REFUSED:
            half.posted.pop()
            half.link.refuse(half, op)
            half.posted.append(op)

    # --- coming to rest ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything moves until nothing does; then the model knows again."""
        while any([link.pair.step() for link in self.links]):
            pass
        self.collect()
        for link in self.links:
            link.settle()
        for side in self.sides:
            for target in side.targets:
                self.grant(target)
            for memory in side.memories:
                memory.settle()
            side.memories = [memory for memory in side.memories if any(t.memory is memory for t in side.targets)]

    def grant(self, target: Target) -> None:
        """What waited behind a fence is done, unless its connection has ended before."""
        if target.wish is not None and target.wisher is not None:
            done = target.actual != target.before
            assert done or not target.wisher.link.live, "a change whose turn has come is made"
            wish, target.wish = target.wish, None
            if done:
                wish()

    def revive(self, number: int) -> None:
        link = self.links[number]
        if link.live:
            return
        self.settle()
        for half in link.halves:
            if half.closed:
                half.renew()
            elif half.qp.state is QpState.ERROR:
                half.qp.modify(QpState.IDLE)
            assert not half.posted
        link.join()

    def collect(self) -> None:
        for side in self.sides:
            side.collect()
