"""Booted guests kept in the cache beside their image, so that a fresh one costs a fraction of a second."""

import asyncio
from collections.abc import Iterable
from hashlib import sha256

from . import host, qemu
from .errors import GuestStartError
from .guest import Guest, Snapshot
from .image import Image

_DIGITS = 12


async def snapshot(image: Image, variant: str = "siw", *, accelerator: str | None = None) -> Snapshot:
    """The state of a guest right after its boot; boots one to save it if the cache has none. Errors as `Guest.boot`."""
    kept = await _place(image, variant, accelerator)
    if kept.file.exists():
        return kept
    kept.file.parent.mkdir(exist_ok=True)
    async with await Guest.boot(image, variant, accelerator=accelerator) as guest:
        return await guest.save(kept.file)


async def fresh(
    image: Image, variant: str = "siw", *, ports: Iterable[int] = (), accelerator: str | None = None
) -> Guest:
    """A guest nobody has used, restored from `snapshot`. Errors as `Guest.boot`.

    All guests of a variant start equal to the bit: they draw the same random STags, ports and sequence numbers.
    """
    ports = tuple(ports)
    kept = await snapshot(image, variant, accelerator=accelerator)
    try:
        return await Guest.restore(kept, ports=ports)
    except GuestStartError:
        # a damaged state is not worth a failure: make it anew, once
        kept.file.unlink(missing_ok=True)
        return await Guest.restore(await snapshot(image, variant, accelerator=accelerator), ports=ports)


async def _place(image: Image, variant: str, accelerator: str | None) -> Snapshot:
    """Where the state belongs: it fits only this version of QEMU and this machine."""
    host.require(host.RUN)
    if accelerator is None:
        accelerator = await asyncio.to_thread(qemu.accelerator)
    arguments = tuple(qemu.arguments(image, variant, accelerator))
    version = await asyncio.to_thread(qemu.version)
    digest = sha256("\0".join([version, *arguments]).encode()).hexdigest()[:_DIGITS]
    return Snapshot(image.directory / "states" / f"{variant}-{digest}", variant, arguments)
