"""Connections that are behind have their turns one after the other: between two the loop looks at its sockets."""

from __future__ import annotations

import asyncio
import gc
import weakref

from pyiwarp.drivers.turns import Share, Turns, turns_of
from pyiwarp.pump import SHARED_TURN_FPDUS, TURN_FPDUS


class Busy:
    """A driver that is behind for some turns."""

    def __init__(self, name: str, turns: int, turned: list[str]) -> None:
        self.name = name
        self.left = turns
        self.turned = turned
        self.fpdus: list[int] = []
        self.wait()

    def wait(self) -> None:
        turns_of(asyncio.get_running_loop()).wait_for_one(self)

    def next_turn(self, fpdus: int) -> None:
        self.turned.append(self.name)
        self.fpdus.append(fpdus)
        self.left -= 1
        if self.left:
            self.wait()


async def test_one_has_a_turn_in_each_turn_of_the_loop_and_all_have_the_same_share() -> None:
    turned: list[str] = []
    for name, turns in (("a", 3), ("b", 1), ("c", 2)):
        Busy(name, turns, turned)
    seen = []
    for _ in range(7):
        await asyncio.sleep(0)
        seen.append("".join(turned))
    assert seen == ["a", "ab", "abc", "abca", "abcac", "abcaca", "abcaca"]
    Busy("d", 1, turned)
    await asyncio.sleep(0)
    assert turned[-1] == "d", "it begins again after a rest"


def test_a_loop_that_is_gone_leaves_nothing_behind() -> None:
    loop = asyncio.new_event_loop()
    turns: weakref.ref[Turns] = weakref.ref(turns_of(loop))
    assert turns_of(loop) is turns()
    loop.close()
    del loop
    gc.collect()
    assert turns() is None


def test_a_turn_is_short_while_others_have_news_and_then_twice_as_long_each_time() -> None:
    share, longest = Share(), TURN_FPDUS // SHARED_TURN_FPDUS
    alone = [share.next(others=False) // SHARED_TURN_FPDUS for _ in range(5)]
    assert alone == [2, 4, longest, longest, longest]
    assert [share.next(others=True), share.next(others=True)] == [SHARED_TURN_FPDUS] * 2
    assert share.next(others=False) == 2 * SHARED_TURN_FPDUS


async def test_whoever_waits_alone_has_long_turns_until_another_has_news() -> None:
    turned: list[str] = []
    one, turns = Busy("a", 9, turned), turns_of(asyncio.get_running_loop())
    for turn in range(9):
        if turn == 7:
            turns.news = id(turned)  # as a driver that has received something
        await asyncio.sleep(0)
    assert one.fpdus[1:] == [128, 256, 512, 512, 512, 512, 64, 128]


async def test_those_who_wait_together_have_short_turns() -> None:
    turned: list[str] = []
    waiting = [Busy(name, 4, turned) for name in "ab"]
    for _ in range(8):
        await asyncio.sleep(0)
    assert [each.fpdus for each in waiting] == [[SHARED_TURN_FPDUS] * 4] * 2
