"""One connection of pyiwarp that streams messages: memory, receives and work requests, whoever drives it.

Control messages are solicited Sends, so that they are told from data. Both sides advertise their memory, then for each
phase the client says for how long, both stream if it goes both ways, the client says "end" behind its last message,
and the server's answer, which counts what it sent, stops the clock.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from benchmarks.pairs import Job, filled
from pyiwarp import Options
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.verbs import Completion, ProtectionDomain, QueuePair, Read, Recv, Send, SendRequest, Write

__all__ = ["COUNT", "END", "SECONDS", "Lane", "depth_of", "memory_of", "options_of"]

CONTROL: Final = 16
FEW: Final = 4
MANY_SIZE: Final = 1 << 16
REMOTE: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
COUNT: Final = struct.Struct("!Q")
SECONDS: Final = struct.Struct("!d")
END: Final = b"end"


def options_of(job: Job) -> Options:
    """How the job's connections are set up."""
    return Options(crc=job.crc, markers=job.markers, mulpdu=job.mulpdu, linger=0.5)


def memory_of(job: Job) -> bytearray:
    """The memory of one side: all messages are the same octets of it, on all connections."""
    return filled(max(job.size, CONTROL))


def receives_of(job: Job) -> int:
    """How many receives are posted."""
    return FEW + (2 * job.outstanding if job.kind == "send" else 0)


def depth_of(job: Job) -> int:
    """Work requests that a queue holds."""
    return max(receives_of(job), 2 * job.outstanding, 16)


class Lane:
    """One connection of either side; `batch` is what it posts again and again, `room` how often before it waits."""

    def __init__(self, pd: ProtectionDomain, qp: QueuePair, job: Job, memory: bytearray) -> None:
        self.job = job
        self.qp = qp
        self.region = pd.register(memory, REMOTE)
        self.batch: list[SendRequest] = []
        self.batch_octets = job.batch * job.size
        self.room = max(1, job.outstanding // job.batch)
        sends = job.kind == "send"
        self._slot_size = max(job.size if sends else 0, CONTROL)
        # large receives share memory: what arrives lands where the last message did, as Writes do
        slots = receives_of(job) if self._slot_size <= MANY_SIZE else FEW
        self._inbox = pd.register(bytearray(self._slot_size * slots))
        for number in range(receives_of(job)):
            self._post_receive(number % slots)

    def meet(self, advertisement: bytes) -> None:
        """Know the peer's memory, and prepare the batch."""
        job, remote, local = self.job, RemoteRegion.parse(advertisement), self.region[: self.job.size]
        last = job.batch - 1
        makers: dict[str, Callable[[int], SendRequest]] = {
            "write": lambda n: Write((local,), remote, signaled=n == last),
            "read": lambda n: Read(local, remote, signaled=n == last),
            "send": lambda n: Send((local,), signaled=n == last),
        }
        self.batch = [makers[job.kind](number) for number in range(job.batch)]

    def post_control(self, octets: bytes) -> None:
        """Send a control message."""
        self.qp.post_send(Send(inline=octets, solicited=True))

    def control_in(self, completions: Iterable[Completion]) -> Iterator[bytes]:
        """The control messages among what was received; every receive is posted again."""
        for completion in completions:
            if not completion.ok:
                raise completion.error or RuntimeError(f"a receive failed: {completion}")
            slot = cast("int", completion.wr_id)
            if completion.solicited:
                start = slot * self._slot_size
                yield bytes(self._inbox.view[start : start + completion.nbytes])
            self._post_receive(slot)

    def _post_receive(self, slot: int) -> None:
        start = slot * self._slot_size
        self.qp.post_recv(Recv((self._inbox[start : start + self._slot_size],), slot))
