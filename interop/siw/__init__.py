"""Linux soft-iWARP (siw) in a QEMU guest, as a peer to talk to: prepare it, boot it, drive it.

image = prepare_image()
async with await fresh(image, "siw") as guest, await VerbPeer.start(guest) as peer:
    ...
"""

from .errors import (
    CommandFailed,
    GuestDied,
    GuestError,
    GuestStartError,
    GuestTimeout,
    PreparationError,
    SiwError,
    VerbError,
)
from .guest import ADDRESS, HOST_ADDRESS, Guest, Snapshot
from .image import Image
from .prepare import prepare_image
from .snapshots import choose, fresh, fresh_for, snapshot
from .verbpeer import VerbPeer

__all__ = [
    "ADDRESS",
    "HOST_ADDRESS",
    "CommandFailed",
    "Guest",
    "GuestDied",
    "GuestError",
    "GuestStartError",
    "GuestTimeout",
    "Image",
    "PreparationError",
    "SiwError",
    "Snapshot",
    "VerbError",
    "VerbPeer",
    "choose",
    "fresh",
    "fresh_for",
    "prepare_image",
    "snapshot",
]
