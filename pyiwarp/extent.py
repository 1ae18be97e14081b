"""Which octets of one message were placed: without it a hole would be delivered as what lay in the buffer before."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["MAX_PIECES", "Extent"]

MAX_PIECES: Final = 1024
"""Pieces of one message that may lie apart at a time. DDP's segments rise (RFC 5041 §5.3), so that there is one."""


class Extent:
    """The octets of one message that were placed, each of them once.

    `due` is the offset of the next octet as long as they came from 0 on without a hole, and -1 while pieces lie apart.
    Whoever places octets that begin there moves it on; `add` is for all others.
    """

    __slots__ = ("_pieces", "due")

    def __init__(self) -> None:
        self.due = 0
        self._pieces: list[tuple[int, int]] = []  # begin and end of each, in their order; only while `due` is -1

    def add(self, start: int, stop: int) -> str:
        """Note that the octets from `start` up to `stop` are placed: one at least, and not the next that are due.

        Returns why they may not be, and has then noted nothing; "" if they may. They may come in any order
        (DDP-5041-5.2-06).
        """
        pieces = self._pieces
        if self.due > 0:
            pieces = [(0, self.due)]
        at = bisect_left(pieces, (start, start))
        if (at and pieces[at - 1][1] > start) or (at < len(pieces) and pieces[at][0] < stop):
            return "octets of it came before"
        first, last = at, at  # those between are one piece with the new one
        if at and pieces[at - 1][1] == start:
            first, start = at - 1, pieces[at - 1][0]
        if at < len(pieces) and pieces[at][0] == stop:
            last, stop = at + 1, pieces[at][1]
        if first == last and len(pieces) >= MAX_PIECES:
            return f"more than {MAX_PIECES} pieces of it lie apart"
        pieces[first:last] = [(start, stop)]
        if len(pieces) == 1 and start == 0:
            self.due, self._pieces = stop, []
        else:
            self.due, self._pieces = -1, pieces
        return ""

    @property
    def placed(self) -> int:
        """How many octets were placed."""
        return self.due if self.due >= 0 else sum(stop - start for start, stop in self._pieces)
