"""Booted guests kept in the cache beside their image, so that a fresh one costs a fraction of a second."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import TypeVar

from . import acceleration, host, qemu
from .acceleration import Answer, Memory
from .errors import GuestError, GuestStartError, SiwError
from .guest import Guest, Snapshot
from .image import Image
from .locks import locked_by_task
from .progress import Progress
from .smoke import smoke

TRIAL = 60.0
"""Seconds in which a guest under KVM must have booted, been saved, been restored and been used: most take three, but
a no that is due to a busy machine would be kept."""

_BOOT = {"kvm": TRIAL, "tcg": 300.0}  # seconds: six are enough, where little else is done
_LOCK_PATIENCE = 600.0
_DIGITS = 12

T = TypeVar("T")


async def choose(image: Image, progress: Progress | None = None) -> str:
    """The accelerator for guests of `image`: `kvm` where a guest works under it, else `tcg`.

    A guest is tried unless the environment decides or the answer is known. Raises `PreparationError` if the
    environment decides for what there is not.
    """
    progress = progress or Progress()
    if chosen := acceleration.decided():
        return chosen
    if reason := acceleration.obstacle():
        acceleration.tell(reason, progress)
        return "tcg"
    memory = await asyncio.to_thread(Memory, image)
    async with locked_by_task(image.directory / "kvm.lock", _LOCK_PATIENCE):
        answer = memory.recall()
        if answer is None:
            with progress.step("accel", "a guest under KVM"):
                answer = await _try_kvm(image)
            memory.keep(answer)
    if not answer.works:
        memory.tell(answer, progress)
    return "kvm" if answer.works else "tcg"


async def _try_kvm(image: Image) -> Answer:
    """Do with a guest under KVM all that the suite does with guests."""
    try:
        async with asyncio.timeout(TRIAL), await _restored(image, "siw", (), "kvm") as guest:
            await smoke(guest)
    except TimeoutError:
        reason = f"a guest under KVM did not work within {TRIAL:g} s"
    except (SiwError, AssertionError) as error:
        reason = f"a guest under KVM failed: {_first_line(error)}"
    else:
        return Answer(True)
    (await _place(image, "siw", "kvm")).file.unlink(missing_ok=True)
    return Answer(False, reason)


async def snapshot(image: Image, variant: str = "siw", *, accelerator: str | None = None) -> Snapshot:
    """The state of a guest right after its boot; boots one to save it if the cache has none. Errors as `Guest.boot`."""
    return await _saved(image, variant, accelerator or await choose(image))


async def fresh(
    image: Image, variant: str = "siw", *, ports: Iterable[int] = (), accelerator: str | None = None
) -> Guest:
    """A guest nobody has used, restored from `snapshot`. Errors as `Guest.boot`.

    All guests of a variant start equal to the bit: they draw the same random STags, ports and sequence numbers.
    """

    async def itself(guest: Guest) -> Guest:
        return guest

    return await fresh_for(image, variant, itself, ports=ports, accelerator=accelerator)


async def fresh_for(
    image: Image,
    variant: str,
    use: Callable[[Guest], Awaitable[T]],
    *,
    ports: Iterable[int] = (),
    accelerator: str | None = None,
) -> T:
    """What the first `use` of a fresh guest gives. Errors as `Guest.boot`, also for a guest that fails in that use.

    A guest that fails under KVM, which had worked when it was tried, is replaced by one under TCG, as are all later.
    """
    ports = tuple(ports)
    chosen = accelerator or await choose(image)
    try:
        return await _used(image, variant, ports, chosen, use)
    except GuestStartError as error:
        if chosen != "kvm" or accelerator or acceleration.decided():
            raise
        answer = Answer(False, f"a guest under KVM failed: {_first_line(error)}")
        memory = await asyncio.to_thread(Memory, image)
        memory.keep(answer)
        memory.tell(answer, Progress())
    return await _used(image, variant, ports, "tcg", use)


async def _used(
    image: Image, variant: str, ports: tuple[int, ...], accelerator: str, use: Callable[[Guest], Awaitable[T]]
) -> T:
    guest = await _restored(image, variant, ports, accelerator)
    try:
        return await use(guest)
    except GuestError as error:
        guest.kill()
        raise GuestStartError(f"its first use: {_first_line(error)}", guest.console) from error
    except BaseException:
        guest.kill()
        raise


async def _restored(image: Image, variant: str, ports: tuple[int, ...], accelerator: str) -> Guest:
    kept = await _saved(image, variant, accelerator)
    try:
        return await Guest.restore(kept, ports=ports)
    except GuestStartError:
        # a damaged state is not worth a failure: make it anew, once
        kept.file.unlink(missing_ok=True)
        return await Guest.restore(await _saved(image, variant, accelerator), ports=ports)


async def _saved(image: Image, variant: str, accelerator: str) -> Snapshot:
    kept = await _place(image, variant, accelerator)
    if kept.file.exists():
        return kept
    kept.file.parent.mkdir(exist_ok=True)
    async with locked_by_task(kept.file.with_name(f"{kept.file.name}.lock"), _LOCK_PATIENCE):
        if kept.file.exists():
            return kept
        async with await Guest.boot(image, variant, accelerator=accelerator, timeout=_BOOT[accelerator]) as guest:
            return await guest.save(kept.file)


async def _place(image: Image, variant: str, accelerator: str) -> Snapshot:
    """Where the state belongs: it fits only this version of QEMU and this machine."""
    host.require(host.RUN)
    arguments = tuple(qemu.arguments(image, variant, accelerator))
    version = await asyncio.to_thread(qemu.version)
    digest = sha256("\0".join([version, *arguments]).encode()).hexdigest()[:_DIGITS]
    return Snapshot(image.directory / "states" / f"{variant}-{digest}", variant, arguments)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
