"""Connections that are behind have their turns one after the other: between two the loop looks at its sockets."""

from __future__ import annotations

import asyncio
import gc
import weakref

from pyiwarp.drivers.turns import Turns, turns_of


class Busy:
    """A driver that is behind for some turns."""

    def __init__(self, name: str, turns: int, turned: list[str]) -> None:
        self.name = name
        self.left = turns
        self.turned = turned
        self.wait()

    def wait(self) -> None:
        turns_of(asyncio.get_running_loop()).wait_for_one(self)

    def next_turn(self) -> None:
        self.turned.append(self.name)
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
