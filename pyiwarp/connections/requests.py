"""The work request of each operation of a connection, checked before it is posted.

Each function returns what makes the request, once the connection has a `wr_id` for it. Awaitable and blocking
connections post the same requests; they differ in how one waits for the completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyiwarp.codes import ATOMIC_SIZE
from pyiwarp.errors import BadWorkRequest, WorkFailed
from pyiwarp.mr import RegionSlice, RemoteRegion
from pyiwarp.queues.checks import check_immediate
from pyiwarp.queues.work import CompareSwap, Completion, FetchAdd, Immediate, Read, SendRequest, Status, Write

__all__ = [
    "MakeRequest",
    "make_compare_swap",
    "make_fetch_add",
    "make_immediate",
    "make_read",
    "make_write",
    "pair_of",
    "succeeded",
    "successful",
    "value_of",
]

MakeRequest = Callable[[object], SendRequest]
"""Makes a work request with the `wr_id` that it is given."""


def make_write(sges: tuple[RegionSlice, ...], remote: RemoteRegion) -> MakeRequest:
    """An RDMA Write; raises `BadWorkRequest` if the octets do not fit `remote`."""
    _check_fits(sges[0].nbytes, remote)
    return lambda wr_id: Write(sges, remote, wr_id)


def make_read(sges: tuple[RegionSlice], remote: RemoteRegion, *, invalidate_sink: bool = False) -> MakeRequest:
    """An RDMA Read; raises `BadWorkRequest` if `remote` has fewer octets than the memory that it fills."""
    (sink,) = sges
    _check_fits(sink.nbytes, remote)
    return lambda wr_id: Read(sink, remote, wr_id, invalidate_sink=invalidate_sink)


def make_fetch_add(remote: RemoteRegion, add: int, mask: int) -> MakeRequest:
    """A FetchAdd; raises `BadWorkRequest` if `remote` has fewer than eight octets."""
    _check_fits(ATOMIC_SIZE, remote)
    return lambda wr_id: FetchAdd(remote, add, mask, wr_id=wr_id)


def make_compare_swap(remote: RemoteRegion, compare: int, swap: int, compare_mask: int, swap_mask: int) -> MakeRequest:
    """A CompareSwap; raises `BadWorkRequest` if `remote` has fewer than eight octets."""
    _check_fits(ATOMIC_SIZE, remote)
    return lambda wr_id: CompareSwap(remote, compare, swap, compare_mask, swap_mask, wr_id=wr_id)


def make_immediate(data: bytes, *, solicited: bool) -> MakeRequest:
    """Immediate Data; raises `BadWorkRequest` unless there are eight octets (EXT-7306-6.3-05).

    It is checked here, not when it is posted, because it may follow a Write that must not be sent without it.
    """
    octets = check_immediate(Immediate(bytes(data)))
    return lambda wr_id: Immediate(octets, wr_id, solicited)


def successful(completion: Completion) -> Completion:
    """The completion of a work request that succeeded; raises the cause if it failed."""
    if not completion.ok:
        raise completion.error or WorkFailed(completion)
    return completion


def succeeded(completions: Sequence[Completion]) -> None:
    """Look at the completions of a list of work requests; raises the cause if one failed, and notes which.

    The one that the error belongs to is named if there is one; the others were flushed.
    """
    failed = [n for n, completion in enumerate(completions) if not completion.ok]
    if not failed:
        return
    causes = [n for n in failed if completions[n].status is not Status.WR_FLUSH_ERR]
    n = (causes or failed)[0]
    try:
        successful(completions[n])
    except Exception as error:
        what = "is the one that failed" if causes else "is the first that was not completed"
        error.add_note(f"item {n} of the list (counted from 0) {what}")
        raise


def pair_of(item: object) -> tuple[Any, Any]:
    """An item of a list of Writes or Reads; raises `BadWorkRequest` unless it is a pair."""
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BadWorkRequest(f"an item is a pair of local memory and a RemoteRegion, not {item!r}")
    return item[0], item[1]


def value_of(completion: Completion) -> int:
    """What an Atomic that succeeded found in the peer's memory."""
    assert completion.value is not None, "an Atomic that succeeded has its answer"
    return completion.value


def _check_fits(nbytes: int, remote: RemoteRegion) -> None:
    """A Write or Read past what was advertised would end the connection, so it is refused here."""
    if not isinstance(remote, RemoteRegion):
        raise BadWorkRequest(
            f"memory of the peer is named by a RemoteRegion, not by {remote!r}; see RemoteRegion.parse"
        )
    if nbytes > remote.nbytes:
        raise BadWorkRequest(f"{nbytes} octets do not fit the advertised memory: {remote}")
