"""The real side of the laboratory: a queue pair with memory and receives, that answers as it would over TCP."""

from __future__ import annotations

from typing import Final

from pyiwarp.errors import UsageError
from pyiwarp.lab.joint import Joint
from pyiwarp.negotiation import Offer, Role
from pyiwarp.startup import Startup, StartupState
from pyiwarp.verbs import Access, Completion, Context, MemoryRegion, QueuePair, Recv, SendRequest

__all__ = ["RECEIVES", "RECEIVE_SIZE", "REGION_SIZE", "RIGHTS", "Endpoint"]

RIGHTS: Final = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC
"""What the peer may do with the endpoint's region."""

REGION_SIZE: Final = 64
"""Octets of the endpoint's region."""

RECEIVES: Final = 4
"""Receives that are posted when the endpoint is made, `recv 1` and so on."""

RECEIVE_SIZE: Final = 64
"""Octets of one of them."""

_TRIES: Final = 100_000
_OF_RECEIVES: Final = 0x80_0000  # the STags of receives, which no peer may use
_SPACING: Final = 0x1000  # between the TOs of regions


class Endpoint:
    """One end of an RDMA connection, made of the verbs that programs use.

    `role` says which startup frame it sends, `offer` what it offers there. Its STags are 0x00000100, 0x00000200 and so
    on, its TOs 0x1000, 0x2000 and so on, so that a session can be repeated octet by octet; elsewhere they are hard to
    guess (RFC 5040 §8.1.1).
    """

    def __init__(self, role: Role, offer: Offer) -> None:
        self._index = 0  # the upper 24 bits of the next STag
        self.context = Context(random_index=lambda: self._index)
        self.pd = self.context.alloc_pd()
        self.cq = self.context.create_cq()
        self.qp: QueuePair = self.pd.create_qp(self.cq, self.cq)
        self._offer = offer
        self.startup = Startup(role, offer, self._on_outcome)
        self.joint = Joint(self.startup)
        self.regions: list[MemoryRegion] = []
        """Those that `register` made, in order."""
        self.receives: dict[object, MemoryRegion] = {}
        """The memory of the receives that `receive` posted, by `wr_id`."""
        self.region = self.register(bytearray(b"." * REGION_SIZE))
        for number in range(1, RECEIVES + 1):
            self.receive(wr_id=f"recv {number}")

    def __repr__(self) -> str:
        return f"<Endpoint {self.state}>"

    def _on_outcome(self, startup: Startup) -> None:
        if startup.state is StartupState.DECIDING:
            agreement, reply = startup.accept(self._offer)
            self.qp.connect(agreement, reply)
            self.joint.pump = self.qp
        elif startup.state is StartupState.ACCEPTED and startup.agreement is not None:
            self.qp.connect(startup.agreement)
            self.joint.pump = self.qp

    @property
    def state(self) -> str:
        """The state that it is in: of startup (RFC 5044 §7.1.2), then of the queue pair."""
        if self.joint.pump is self.startup:
            return f"startup: {self.startup.state.value}"
        return f"queue pair: {self.qp.state.name}"

    @property
    def error(self) -> Exception | None:
        """Why the connection ended, None if it did not, or did so in good order."""
        return self.startup.error or self.qp.error

    def register(self, memory: bytearray, access: Access = RIGHTS, *, qp: QueuePair | None = None) -> MemoryRegion:
        """Register memory with the next STag and TO; `qp` as in `ProtectionDomain.register`.

        Raises `UsageError` when no STag can be had.
        """
        number = len(self.regions) + 1
        self._index = number
        for _ in range(_TRIES):  # only the upper 24 bits of an STag can be chosen, the key is random
            region = self.pd.register(memory, access, qp=qp, to=number * _SPACING)
            if not region.stag & 0xFF:
                self.regions.append(region)
                return region
            region.close()
        raise UsageError(f"no STag with the key 0 was found in {_TRIES} tries")

    def receive(self, size: int = RECEIVE_SIZE, wr_id: object = None) -> MemoryRegion:
        """Post a receive with memory of its own, which is returned."""
        self._index = _OF_RECEIVES + len(self.receives)
        memory = self.pd.register(bytearray(size), Access.LOCAL_WRITE)
        self.qp.post_recv(Recv((memory[:],), wr_id))
        self.receives[wr_id] = memory
        return memory

    def post(self, *requests: SendRequest) -> None:
        """Post work requests; raises what `QueuePair.post_send` raises."""
        for request in requests:
            self.qp.post_send(request)

    def completions(self) -> list[Completion]:
        """The completions that have come since the last time."""
        return self.cq.poll()
