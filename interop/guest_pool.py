"""Makes peers: those of this stack run in this process, those of siw in guests, which scenarios reuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .errors import PeerUnavailable
from .peer import Peer, PeerKind
from .peers import pyiwarp
from .peers.siw import SiwPeer
from .siw import Guest, GuestError, GuestStartError, Image, fresh_for


def needs_image(kind: PeerKind) -> bool:
    """Whether peers of this kind run in guests."""
    return kind.name != pyiwarp.KIND.name


class GuestPool:
    """The guests of one worker, at most one at a time; `on_failure` is called with the guest of a failed scenario."""

    def __init__(self, image: Image | None, *, on_failure: Callable[[Guest], Awaitable[None]] | None = None) -> None:
        self._image = image
        self._on_failure = on_failure
        self._guest: Guest | None = None

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        """A new peer; a guest that a scenario before has left is used if it can be.

        Raises `PeerUnavailable` if no guest comes up in which the peer's program runs.
        """
        if not needs_image(kind):
            return pyiwarp.PyiwarpPeer()
        if self._guest is not None and not alone and self._guest.variant == kind.name and self._guest.alive:
            try:
                return await SiwPeer.start(kind, self._guest)
            except GuestError:
                pass  # what the scenario before has left of the guest is of no use
        await self.stop()
        assert self._image is not None, "there is an image if there are peers that need one"
        try:
            peer = await fresh_for(self._image, kind.name, lambda guest: SiwPeer.start(kind, guest))
        except GuestStartError as error:
            raise PeerUnavailable(f"no guest with {kind.name} comes up: {error}") from error
        self._guest = peer.guest
        return peer

    async def close(self, peer: Peer, *, damaged: bool) -> None:
        """End a peer, and the guest with it if it may be damaged."""
        if isinstance(peer, SiwPeer):
            if damaged:
                await self.stop()
            await peer.close()
        else:
            await peer.kill()

    async def failed(self, peer: Peer) -> None:
        """A scenario failed: its guest, if there is one, may be looked at."""
        if self._on_failure is not None and isinstance(peer, SiwPeer):
            await self._on_failure(peer.guest)

    async def stop(self) -> None:
        """End the guest."""
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.stop()
