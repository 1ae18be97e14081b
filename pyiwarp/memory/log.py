"""Remote accesses to a region: a bounded log and plain counters, for regions that ask for one.

A region without a log pays nothing: it has no counters either. With one, each segment costs about five times the checks
of a plain region, some microseconds; so a region has a log only if the program asks for one. There is no clock here;
records are numbered, and `stamp` may put the program's own time on each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pyiwarp.access import AccessKind
from pyiwarp.errors import UsageError

__all__ = ["AccessLog", "AccessRecord", "RegionCounters"]


_WRITE: Final = AccessKind.WRITE


class AccessRecord(NamedTuple):
    """One access: number, what, by which queue pair and peer, through which STag, and which octets.

    `offset` counts octets from the beginning of the region, also when the peer came through a window. `segments` says
    in how many steps the octets came: the segments of a Write that follow one another make one record. `stamp` is
    what the log's `stamp` gave for the first of them.
    """

    seq: int
    """Its number in the log."""
    kind: AccessKind
    """What the peer did."""
    qp_num: int
    peer: str
    """The peer's address; empty if it is not known."""
    stag: int
    to: int
    """The tagged offset that the peer named."""
    offset: int
    nbytes: int
    segments: int = 1
    stamp: object = None

    def __str__(self) -> str:
        who = f"QP {self.qp_num}" + (f" {self.peer}" if self.peer else "")
        where = f"STag={self.stag:#010x} TO={self.to:#x} offset {self.offset} [{self.nbytes} octets]"
        return f"#{self.seq} {self.kind.value} by {who}: {where}"


class RegionCounters(NamedTuple):
    """How often peers have reached a region, and how many octets they moved.

    Reads, atomics and invalidations are messages; Writes are counted in DDP segments, as they are placed.
    """

    write_segments: int = 0
    """DDP segments of Writes."""
    octets_written: int = 0
    """Octets of Writes."""
    reads: int = 0
    """Read Requests."""
    octets_read: int = 0
    """Octets that they asked for."""
    atomics: int = 0
    """Atomic Requests."""
    invalidations: int = 0
    """Sends with Invalidate."""


_COUNTED: Final[Mapping[str, tuple[int, int | None]]] = {
    "write": (0, 1),
    "read": (2, 3),
    "atomic": (4, None),
    "invalidate": (5, None),
}
"""Which of the counters an access adds to: how often, how many octets."""


class AccessLog:
    """The last `maxlen` accesses of peers to the regions that were registered with it, and counters of all.

    With `maxlen` 0 only the counters are kept. Only what was granted is noted: a refused access ends the stream, and
    the queue pair's error tells of it. `stamp` is called for each new record.
    """

    __slots__ = ("_counts", "_records", "_seq", "_stamp", "maxlen")

    def __init__(self, maxlen: int = 1024, *, stamp: Callable[[], object] | None = None) -> None:
        if maxlen < 0:
            raise UsageError(f"an access log holds 0 records or more, not {maxlen}")
        self.maxlen = maxlen
        """How many records are kept; the oldest make room."""
        self._stamp = stamp
        self._records: deque[list[Any]] = deque(maxlen=maxlen)  # as lists: the last one may still grow
        self._seq = 0
        self._counts = [0] * len(RegionCounters._fields)

    def __repr__(self) -> str:
        return f"<AccessLog {len(self._records)} of {self.maxlen} records, {self._seq} noted>"

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[AccessRecord]:
        return iter([AccessRecord(*fields) for fields in self._records])

    @property
    def counters(self) -> RegionCounters:
        """What was counted since the log was made; `clear` leaves it as it is."""
        return RegionCounters(*self._counts)

    def clear(self) -> None:
        """Forget the records; the numbers go on."""
        self._records.clear()

    def note(self, kind: AccessKind, stream: object, stag: int, to: int, offset: int, nbytes: int) -> None:
        """Note an access that was granted; `stream` is the queue pair it came by, if it is known."""
        times, octets = _COUNTED[kind.value]
        self._counts[times] += 1
        if octets is not None:
            self._counts[octets] += nbytes
        records = self._records
        qp_num = getattr(stream, "qp_num", 0)
        if records and kind is _WRITE:
            last = records[-1]
            if last[1] is kind and last[5] + last[7] == to and last[4] == stag and last[2] == qp_num:
                last[7] += nbytes
                last[8] += 1
                return
        self._seq += 1
        if self.maxlen:
            stamp = None if self._stamp is None else self._stamp()
            records.append([self._seq, kind, qp_num, getattr(stream, "peer", ""), stag, to, offset, nbytes, 1, stamp])
