"""The work request of each operation of a connection, checked before it is posted.

Each function returns what makes the request, once the connection has a `wr_id` for it. Awaitable and blocking
connections post the same requests; they differ in how one waits for the completion.
"""

from __future__ import annotations

from collections.abc import Callable

from pyiwarp.codes import ATOMIC_SIZE
from pyiwarp.errors import BadWorkRequest, WorkFailed
from pyiwarp.mr import RegionSlice, RemoteRegion
from pyiwarp.queues.checks import check_immediate
from pyiwarp.queues.work import CompareSwap, Completion, FetchAdd, Immediate, Read, SendRequest, Write

__all__ = [
    "MakeRequest",
    "make_compare_swap",
    "make_fetch_add",
    "make_immediate",
    "make_read",
    "make_write",
    "successful",
    "value_of",
]

MakeRequest = Callable[[object], SendRequest]
"""Makes a work request with the `wr_id` that it is given."""


def make_write(sges: tuple[RegionSlice, ...], remote: RemoteRegion) -> MakeRequest:
    """An RDMA Write; raises `BadWorkRequest` if the octets do not fit `remote`."""
    _check_fits(sges[0].nbytes, remote)
    return lambda wr_id: Write(sges, remote, wr_id)


def make_read(local: RegionSlice, remote: RemoteRegion, *, invalidate_sink: bool) -> MakeRequest:
    """An RDMA Read; raises `BadWorkRequest` if `remote` has fewer octets than `local`."""
    _check_fits(local.nbytes, remote)
    return lambda wr_id: Read(local, remote, wr_id, invalidate_sink=invalidate_sink)


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
