"""Where peers live: this stack's need nothing, siw's need guests, which are kept from one scenario to the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .peer import Peer, PeerKind
from .peers import pyiwarp
from .peers.siw import SiwPeer
from .siw import Guest, Image, fresh


def needs_image(kind: PeerKind) -> bool:
    """Whether peers of this kind live in guests."""
    return kind.name != pyiwarp.KIND.name


class Home:
    """One worker's: at most one guest at a time. `on_spoilt` is given a guest before it is thrown away."""

    def __init__(self, image: Image | None, *, on_spoilt: Callable[[Guest], Awaitable[None]] | None = None) -> None:
        self._image = image
        self._on_spoilt = on_spoilt
        self._guest: Guest | None = None

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        """A new peer; a guest that a scenario before has left is used if it can be."""
        if not needs_image(kind):
            return pyiwarp.PyiwarpPeer()
        guest = self._guest
        if guest is not None and (alone or guest.variant != kind.name or not guest.alive):
            await self.leave()
            guest = None
        if guest is None:
            assert self._image is not None, "there is an image if there are peers that need one"
            guest = self._guest = await fresh(self._image, kind.name)
        return await SiwPeer.start(kind, guest)

    async def close(self, peer: Peer, *, spoilt: bool) -> None:
        """End a peer, and the guest with it if it may be damaged."""
        if isinstance(peer, SiwPeer):
            if spoilt:
                await self.leave()
            await peer.close()
        else:
            await peer.kill()

    async def failed(self, peer: Peer) -> None:
        """A scenario failed: its guest, if there is one, may be looked at."""
        if self._on_spoilt is not None and isinstance(peer, SiwPeer):
            await self._on_spoilt(peer.guest)

    async def leave(self) -> None:
        """End the guest."""
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.stop()
