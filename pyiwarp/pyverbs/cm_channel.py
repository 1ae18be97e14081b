"""Channels of rdma_cm's events, and the events as pyverbs has them."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from pyiwarp import blockingcm
from pyiwarp.blocking import waiting_module
from pyiwarp.blockingcm import CmEventType, CmId
from pyiwarp.pyverbs import librdmacm_enums as ce
from pyiwarp.pyverbs.base import Owner, PyverbsCM
from pyiwarp.pyverbs.core import core
from pyiwarp.pyverbs.libibverbs_enums import ibv_qp_state
from pyiwarp.pyverbs.link import Link

__all__ = ["CMEvent", "CMEventChannel", "Channel"]

waiting_module(__name__)

_TYPES: Final = {each: ce.rdma_cm_event_type[f"RDMA_CM_EVENT_{each.name}"] for each in CmEventType}


class Channel(blockingcm.EventChannel):
    """The events of identifiers; it tells the queue pairs of `connecting` when they are connected.

    `external` are identifiers that connect queue pairs which none has made: the program moves these to RTS itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.core = core()
        self.connecting: WeakKeyDictionary[CmId, Link] = WeakKeyDictionary()
        self.external: WeakSet[CmId] = WeakSet()

    def post(self, event: blockingcm.CmEvent[CmId]) -> None:
        """Add an event; for identifiers."""
        if event.type is CmEventType.ESTABLISHED:
            link = self.connecting.pop(event.id, None)
            if link is not None:
                if event.id not in self.external:
                    link.move(ibv_qp_state.IBV_QPS_RTS)
                link.now_up()
        super().post(event)

    def next(self) -> blockingcm.CmEvent[CmId]:
        """Wait for the next event."""
        self.core.wait(lambda: self.waiting)
        with self.core.poller:
            return self.get_event()

    def type_of(self, event: blockingcm.CmEvent[CmId]) -> ce.rdma_cm_event_type:
        """Its type as the program sees it: who completes a connection itself is told of a response."""
        if event.type is CmEventType.ESTABLISHED and event.id in self.external and event.listen_id is None:
            return ce.rdma_cm_event_type.RDMA_CM_EVENT_CONNECT_RESPONSE
        return _TYPES[event.type]


class CMEventChannel(Owner):
    """Where the events of identifiers go."""

    rank = 2

    def __init__(self) -> None:
        super().__init__()
        with core().poller:
            self.below = Channel()
        self.on_drop(core().soon, self.below.close)

    def _let_go(self) -> None:
        if not self.below.core.left_behind:
            with self.below.core.poller:
                self.below.close()


class CMEvent(PyverbsCM):
    """The next event of a channel, which is waited for."""

    def __init__(self, channel: CMEventChannel) -> None:
        super().__init__()
        self.below = channel.below.next()
        self.event_type: ce.rdma_cm_event_type = channel.below.type_of(self.below)
        """What has happened."""

    @property
    def private_data(self) -> bytes:
        """What the peer has sent along."""
        param = self.below.param
        return b"" if param is None else param.private_data

    def ack_cm_event(self) -> None:
        """Events are values: nothing is to be freed."""

    def event_str(self) -> str:
        """The name of what has happened."""
        return self.event_type.name
