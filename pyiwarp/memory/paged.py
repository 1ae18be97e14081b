"""Regions over several buffers: one STag, one run of TOs, memory in pieces (the page list of fast registration).

A class of its own, so that memory in one piece is not slowed by the search for the piece.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import cast

from pyiwarp.access import Access, AccessNotes, page_offset
from pyiwarp.codes import ATOMIC_SIZE
from pyiwarp.ddp import scatter
from pyiwarp.errors import BadWorkRequest, Closed
from pyiwarp.mr import MemoryRegion, StagTable

__all__ = ["PagedRegion", "Spread", "contiguous"]


class Spread:
    """Octets that lie in several pieces, written as if they lay in one: all that placing does to a `memoryview`."""

    __slots__ = ("_nbytes", "pieces")

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self.pieces = pieces
        self._nbytes = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._nbytes

    def __setitem__(self, where: slice, octets: memoryview | bytes) -> None:
        start, stop, _ = where.indices(self._nbytes)
        if stop - start != len(octets):
            raise ValueError(f"{len(octets)} octets do not fill {stop - start}")
        scatter(self.pieces, start, memoryview(octets))


def contiguous(memory: Sequence[memoryview]) -> Sequence[memoryview]:
    """The views of a list in which some may be spread, each in one piece."""
    for view in memory:
        if type(view) is not memoryview:
            return [piece for view in memory for piece in (view.pieces if isinstance(view, Spread) else (view,))]
    return memory


class PagedRegion(MemoryRegion):
    """A region over several buffers, each contiguous; the peer sees one run of TOs."""

    __slots__ = ("_pieces", "_starts")

    def __init__(
        self,
        table: StagTable,
        pd: object,
        pieces: Sequence[memoryview],
        access: Access,
        to: int,
        stag: int,
        log: AccessNotes | None = None,
    ) -> None:
        super().__init__(table, pd, pieces[0], access, to, stag, log)
        self._pieces = tuple(pieces)
        sizes = [0, *accumulate(map(len, pieces))]
        self.nbytes = sizes.pop()
        self._starts = sizes

    def __repr__(self) -> str:
        return f"<PagedRegion of {len(self._pieces)} pieces, {super().__repr__()[1:]}"

    @property
    def view(self) -> memoryview:
        """Memory in pieces has no single view: raises `BadWorkRequest`; see `views`."""
        raise BadWorkRequest(f"the memory lies in {len(self._pieces)} pieces, ask for its views: {self!r}")

    @property
    def views(self) -> Sequence[memoryview]:
        """The pieces, in order; `Closed` once the region was closed or invalidated."""
        if not self._open:
            raise Closed(f"the region is closed: {self!r}")
        return [piece[:] for piece in self._pieces]

    def pinned_view(self, offset: int, nbytes: int) -> memoryview:
        """As of any region; what lies in several pieces is a `Spread`, which is placed into as a view is."""
        index = bisect_right(self._starts, offset) - 1
        start = offset - self._starts[index]
        piece = self._pieces[index]
        if start + nbytes <= len(piece):
            return piece[start : start + nbytes]
        pieces = []
        while nbytes:
            part = self._pieces[index][start : start + nbytes]
            pieces.append(part)
            nbytes -= len(part)
            index, start = index + 1, 0
        return cast("memoryview", Spread(pieces))

    def fill(self, offset: int, octets: memoryview) -> None:
        """As of any region."""
        self.pinned_view(offset, len(octets))[:] = octets
        self.unpin()

    def source_view(self, pd: object, offset: int, nbytes: int) -> memoryview | None:
        """None: memory in pieces goes the plain way."""
        return None

    def pieces(self, memory: memoryview) -> Sequence[memoryview]:
        """The contiguous views that make up what `pinned_view` gave."""
        return contiguous((memory,))

    def misalignment(self, offset: int) -> int:
        """How far past a multiple of eight, in octets, the octet at `offset` lies in its piece.

        Eight octets that lie in two pieces count as misaligned: no host changes them in one step.
        """
        index = bisect_right(self._starts, offset) - 1
        piece, start = self._pieces[index], offset - self._starts[index]
        misaligned = (page_offset(piece) + start) % ATOMIC_SIZE
        return misaligned or (len(piece) - start if start + ATOMIC_SIZE > len(piece) else 0)

    def _let_go(self) -> None:
        for piece in self._pieces:
            piece.release()
