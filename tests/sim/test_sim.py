"""Worlds of a simulated network: all is as it must be, the same seed tells the same story, and faults are noticed."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Closed, ConnectionLost, ProtocolViolation, TerminatedByPeer
from pyiwarp.queues.cq import CompletionQueue
from tests.sim.loop import SimulatedLoop, Stuck
from tests.sim.world import World

SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world(seed: int) -> None:
    World(seed).run()


def story(seed: int) -> tuple[Any, ...]:
    """What happened in a world."""
    world = World(seed)
    world.run()
    sides = [side for connection in world.connections for side in connection.sides]
    return world.loop.time(), [(side.received, side.completed, side.failed) for side in sides]


def test_a_seed_repeats_its_world() -> None:
    assert story(3) == story(3)
    assert story(3) != story(4)


def test_worlds_meet_each_kind_of_end() -> None:
    ends: set[type[BaseException]] = set()
    for seed in SEEDS:
        world = World(seed)
        world.run()
        ends |= {type(side.node.qp.error) for one in world.connections for side in one.sides if side.node.qp.error}
    for kind in (ProtocolViolation, TerminatedByPeer, ConnectionLost, Closed):
        assert any(issubclass(end, kind) for end in ends), f"no connection ended with {kind.__name__}"


def test_a_lost_connection_that_nobody_is_told_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncioDriver, "connection_lost", lambda self, exc: None)
    with pytest.raises(Stuck, match="seed 5"):
        World(5).run()


def test_a_completion_that_comes_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = CompletionQueue.poll
    monkeypatch.setattr(CompletionQueue, "poll", lambda self, *count: poll(self, *count) * 2)
    with pytest.raises(AssertionError, match="seed 5: a callback raised"):
        World(5).run()


def test_octets_out_of_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.sim.network import End

    def deliver(self: End) -> None:
        self.peer._arrive(self._travelling.pop())

    monkeypatch.setattr(End, "_deliver", deliver)
    with pytest.raises(AssertionError):
        World(45).run()


def test_time_passes_only_when_nothing_else_happens() -> None:
    loop = SimulatedLoop()
    seen: list[float] = []
    loop.call_later(500, lambda: seen.append(loop.time()))
    loop.call_soon(lambda: seen.append(loop.time()))
    loop.run_until(lambda: len(seen) == 2)
    assert seen == [0, 500]
    with pytest.raises(Stuck, match="no timer and no connection"):
        loop.run_until(lambda: False)
    loop.close()
