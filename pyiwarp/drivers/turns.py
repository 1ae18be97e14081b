"""The turns of one loop: connections whose input does not fit into one turn have theirs one after the other.

Each does a bounded piece of work in its turn. If all of them did so between two looks of the loop at its sockets, a new
connection would wait for all; so one does (RFC 5042 §6.4.4). How much one does depends on who else is there: a `Share`.
`Turns` are those of a loop; a poller keeps its own queue of those that are `Behind`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary, ref

from pyiwarp.pump import SHARED_TURN_FPDUS, TURN_FPDUS

if TYPE_CHECKING:
    import asyncio

__all__ = ["Behind", "Share", "Turns", "turns_of"]


class Behind(Protocol):
    """A driver whose pump has input left for the next turn."""

    def next_turn(self, fpdus: int) -> None:
        """The turn has come; as much as `fpdus` of the fast way may be done in it."""


class Share:
    """How much is done in one turn, in FPDUs of the fast way.

    While others have news, a turn takes about as long as an ordinary message of theirs. When they have none, each turn
    is twice as long as the one before, up to `TURN_FPDUS`: looking at the sockets costs time too.
    """

    __slots__ = ("_fpdus",)

    def __init__(self) -> None:
        self._fpdus = SHARED_TURN_FPDUS

    def next(self, *, others: bool) -> int:
        """That of the next turn; `others` says whether there was something else to do since the last one."""
        self._fpdus = SHARED_TURN_FPDUS if others else min(2 * self._fpdus, TURN_FPDUS)
        return self._fpdus


class Turns:
    """Who waits for a turn on one loop, in the order of coming."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # it owns its turns, not they the loop
        self._waiting: deque[Behind] = deque()
        self._share = Share()
        self.news = 0
        """The `id` of the driver that was the last to receive something, or to have a turn."""

    def wait_for_one(self, driver: Behind) -> None:
        """Call `driver.next_turn` once, when those who came before have had their turns; it may have ended then."""
        self._waiting.append(driver)
        if len(self._waiting) == 1:
            self._schedule()

    def _next(self) -> None:
        """Let one have its turn, and the loop look at its sockets before the next."""
        driver = self._waiting.popleft()
        last, self.news = self.news, id(driver)
        if self._waiting:
            self._schedule()
        driver.next_turn(self._share.next(others=last != self.news))

    def _schedule(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.call_soon(self._next)


_of_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The turns of a loop."""
    turns = _of_loops.get(loop)
    if turns is None:
        turns = _of_loops[loop] = Turns(loop)
    return turns
