"""What is below an open device: the context of this package, its asynchronous events, memory by its keys, handles."""

from __future__ import annotations

import errno
import os
from collections import deque
from ipaddress import ip_address
from typing import Any, Final

from pyiwarp import Device
from pyiwarp.errors import UsageError
from pyiwarp.profile import PeerProfile, profile_named
from pyiwarp.pyverbs.core import core
from pyiwarp.pyverbs.libibverbs_enums import ibv_event_type
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.verbs import AsyncEventType, MemoryRegion

__all__ = ["LIMITS", "PEER_VARIABLE", "Opened", "hosts", "imported", "peer_profile"]

LIMITS: Final = Device(max_mr=1 << 20)
"""What the device offers."""

_EVENTS: Final = {each: ibv_event_type[f"IBV_EVENT_{each.name}"] for each in AsyncEventType}
_HOSTS: Final = "PYIWARP_VERBS"
PEER_VARIABLE: Final = "PYIWARP_VERBS_PEER"
_DEFAULT: Final = "iw0=127.0.0.1"


def hosts() -> dict[str, str]:
    """The devices, each with its address, as the environment's PYIWARP_VERBS says: `iw0=10.0.0.1,iw1=10.0.0.2`.

    Raises `UsageError` for what is not a name with an IP address.
    """
    found: dict[str, str] = {}
    for item in os.environ.get(_HOSTS, _DEFAULT).split(","):
        name, _, host = item.strip().partition("=")
        try:
            address = str(ip_address(host))
        except ValueError:
            address = ""
        if not (name and address):
            raise UsageError(f"{_HOSTS} has {item!r}; write NAME=ADDRESS with an IP address, and commas between")
        found[name] = address
    return found


def peer_profile() -> PeerProfile:
    """How to get on with peers, by the name that the environment's PYIWARP_VERBS_PEER says: `rfc` or `siw`."""
    return profile_named(os.environ.get(PEER_VARIABLE, "rfc"))


class Opened:
    """An open device; its objects are used while `core.poller` is held."""

    def __init__(self, name: str, host: str) -> None:
        self.core = core()
        self.host = host
        self.context = Device(name=name, max_mr=LIMITS.max_mr, max_qp_wr=2 * LIMITS.max_qp_wr + 2).open()
        self.regions: dict[int, MemoryRegion] = {}
        """By their keys, as work requests name them."""
        self.handles: dict[int, Any] = {}
        """What another process of the program may import, by number."""
        self._next_handle = 0
        self._events: deque[ibv_event_type] = deque()
        self._reported = self.context.async_events
        self._descriptor: int | None = None
        self._open = True
        self.core.open_contexts += 1
        self.core.start()  # who drops it without closing it leaves it to the thread

    def tell(self, event: ibv_event_type) -> None:
        """Add an asynchronous event; the poller is held."""
        self._events.append(event)

    def take_event(self) -> ibv_event_type | None:
        """The next asynchronous event, if there is one; the poller is held."""
        while (reported := self._reported.get()) is not None:
            self._events.append(_EVENTS[reported.type])
        return self._events.popleft() if self._events else None

    def add_handle(self, obj: Any) -> int:
        """A number by which the object may be imported."""
        self._next_handle += 1
        self.handles[self._next_handle] = obj
        return self._next_handle

    def forget_handle(self, handle: int) -> None:
        """The object is gone."""
        self.handles.pop(handle, None)

    @property
    def descriptor(self) -> int:
        """A descriptor by which this process may import it."""
        if self._descriptor is None:
            self._descriptor = os.memfd_create("pyiwarp.pyverbs")
            _shared[_file_of(self._descriptor)] = self
        return self._descriptor

    def close(self) -> None:
        """Close the device and what is left in it."""
        if not self._open:
            return
        self._open = False
        self.core.open_contexts -= 1
        if not self.core.left_behind:
            with self.core.poller:
                self.context.close()
            self.core.wake()
        if self._descriptor is not None:
            _shared.pop(_file_of(self._descriptor), None)
            os.close(self._descriptor)
        self.regions.clear()
        self.handles.clear()


_shared: Final[dict[tuple[int, int], Opened]] = {}
"""What may be imported, by the file of its descriptor, which a descriptor that was passed on has too."""


def imported(descriptor: int) -> Opened:
    """What is open here by that descriptor, or by a copy of it."""
    try:
        return _shared[_file_of(descriptor)]
    except (KeyError, OSError):
        raise PyverbsRDMAError("Failed to import device", errno.EINVAL) from None


def _file_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
