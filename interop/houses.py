"""Where peers live: this stack's need nothing, siw's need guests, which are kept from one scenario to the next."""

from __future__ import annotations

from interop.peer import Peer, PeerKind
from interop.peers.pyiwarp import PyiwarpPeer
from interop.peers.siw import SiwPeer
from interop.siw import Guest, Image, fresh

from .peers import pyiwarp


class Home:
    """One worker's: at most one guest at a time."""

    def __init__(self, image: Image | None) -> None:
        self._image = image
        self._guest: Guest | None = None

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        """A new peer; a guest that another kind of peer, or a scenario before, has left is used if it can be."""
        if kind.name == pyiwarp.KIND.name:
            return PyiwarpPeer()
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
        elif isinstance(peer, PyiwarpPeer):
            await peer.kill()

    async def leave(self) -> None:
        """End the guest."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.kill()
            await guest.stop()
