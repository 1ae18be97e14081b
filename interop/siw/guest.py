"""A running siw guest: boot it or restore a saved one, run commands in it, reach its ports, stop it."""

import asyncio
import shlex
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from . import control, host, qemu
from .control import Job, Result
from .errors import CommandFailed, GuestDied, GuestError, GuestStartError, GuestTimeout
from .image import Image
from .machine import Machine
from .qmp import MonitorError
from .variants import NAMES

ADDRESS = "10.0.2.15"
"""The guest's own address, where siw listens."""

HOST_ADDRESS = "10.0.2.2"
"""The host as the guest sees it: what listens on the host's 127.0.0.1 is reached here."""

_READY, _FAILED = "PEER-READY", "PEER-FAILED"
_GLANCE = 0.02  # seconds between two looks at something that tells nobody when it changes
_DYING = 10.0  # seconds from a broken connection to the end of QEMU when a crash of the guest's kernel broke it

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """A saved guest: the file with its state, and the machine that state fits."""

    file: Path
    variant: str
    arguments: tuple[str, ...]


class Guest:
    """A machine with siw in it, made by `boot` or `restore`; also an asynchronous context manager that stops it.

    A guest is bound to no event loop, so one may serve several after each other; its jobs are bound to theirs. It
    must be made on a thread that lives as long as it does, or QEMU ends with the thread.
    """

    def __init__(self, machine: Machine, variant: str, arguments: tuple[str, ...]) -> None:
        """Made by `boot` and `restore`."""
        self.machine = machine
        self.variant = variant
        self.seconds = 0.0
        self._arguments = arguments
        self._jobs: weakref.WeakSet[Job] = weakref.WeakSet()

    @classmethod
    async def boot(
        cls,
        image: Image,
        variant: str = "siw",
        *,
        accelerator: str,
        ports: Iterable[int] = (),
        timeout: float = 180.0,
    ) -> Self:
        """Boot `image` with this variant of siw and forward `ports` of it to the host.

        `accelerator` is "kvm" or "tcg"; `snapshots.choose` finds which. Raises `GuestStartError`, also when the guest
        is not ready after `timeout` seconds, and `PreparationError` if QEMU is not installed.
        """
        if variant not in NAMES:
            raise ValueError(f"siw has no variant {variant!r}: choose one of {', '.join(NAMES)}")
        host.require(host.RUN)
        arguments = tuple(qemu.arguments(image, variant, accelerator))
        guest = cls(Machine(arguments), variant, arguments)
        await guest._come_up(guest._booted, ports, timeout)
        return guest

    @classmethod
    async def restore(cls, snapshot: Snapshot, *, ports: Iterable[int] = (), timeout: float = 30.0) -> Self:
        """Start one more guest in the state that `save` kept, and forward `ports` of it; errors as `boot`."""
        host.require(host.RUN)
        with snapshot.file.open("rb") as state:
            machine = Machine(snapshot.arguments, state.fileno())
        guest = cls(machine, snapshot.variant, snapshot.arguments)
        await guest._come_up(guest._loaded, ports, timeout)
        return guest

    async def _come_up(self, stage: Callable[[float], Awaitable[None]], ports: Iterable[int], timeout: float) -> None:
        """Go through `stage` in `timeout` seconds and forward the ports, or stop the guest and say why not."""
        start = time.monotonic()
        try:
            await stage(timeout)
            for port in (control.PORT, *ports):
                await self.forward(port)
            await self.run("true")
        except GuestStartError:
            self.kill()
            raise
        except (GuestError, MonitorError) as error:
            self.kill()
            raise GuestStartError(str(error).partition("\n")[0], self.console) from error
        except BaseException:
            self.kill()
            raise
        self.seconds = time.monotonic() - start

    async def _booted(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while _READY not in (console := self.console):
            if _FAILED in console:
                raise self.error(GuestStartError, "siw did not come up in the guest")
            if not self.alive:
                raise self.error(GuestStartError, "QEMU ended before the guest was ready")
            if time.monotonic() > end:
                raise self.error(GuestStartError, f"the guest was not ready after {timeout:g} s")
            await asyncio.sleep(_GLANCE)

    async def _loaded(self, timeout: float) -> None:
        await asyncio.to_thread(self.machine.load, timeout)

    async def save(self, file: Path, timeout: float = 60.0) -> Snapshot:
        """Keep the guest's state in `file` (about 120 MB) for `restore`; the guest goes on afterwards.

        No command may be running in it. The file is complete or absent.
        """
        if running := [job.command for job in self._jobs if job.running]:
            raise ValueError(f"cannot save a guest in which commands run: {running}")
        partial = file.with_name(f"{file.name}.partial-{self.machine.pid}")
        try:
            await self._ask(lambda: self.machine.save(partial, timeout))
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
        return Snapshot(file, self.variant, self._arguments)

    # -- state

    @property
    def accelerator(self) -> str:
        """What it runs under: "kvm" or "tcg"."""
        return qemu.accelerator(self._arguments)

    @property
    def alive(self) -> bool:
        """Whether QEMU runs; it ends when the guest's kernel crashes."""
        return self.machine.alive

    @property
    def console(self) -> str:
        """What the guest wrote to its console; readable after its end, too."""
        return self.machine.console

    def kill(self) -> None:
        """End the guest at once, without a wait for its jobs; may be called twice and from anywhere."""
        self.machine.kill()

    async def stop(self) -> None:
        """End the guest and close its jobs."""
        self.kill()
        await asyncio.gather(*(job.close() for job in self._jobs), return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def error(self, kind: type[GuestError], message: str) -> GuestError:
        """An error that quotes the console; `GuestDied` whatever the `kind` if the guest is no more."""
        return (kind if self.alive or kind is GuestStartError else GuestDied)(message, self.console)

    async def lost(self, message: str) -> GuestError:
        """The error for a broken connection, after a short wait for the crash that may have broken it."""
        for _ in range(round(_DYING / _GLANCE)):  # and not on a thread: a wait there could not be cancelled
            if not self.alive:
                break
            await asyncio.sleep(_GLANCE)
        return self.error(GuestError, message)

    # -- commands

    async def spawn(self, command: str) -> Job:
        """Start a shell command in the guest. Its input stays open until `Job.end_input`."""
        job = await Job.start(self, command, await self.forward(control.PORT))
        self._jobs.add(job)
        return job

    async def run(self, command: str, *, stdin: bytes = b"", timeout: float = 60.0, check: bool = True) -> Result:
        """Run a shell command to its end.

        Raises `GuestTimeout` after `timeout` seconds (the command is killed), `GuestDied`, and, with `check`,
        `CommandFailed` if its status is not 0.
        """
        async with await self.spawn(command) as job:
            if stdin:
                await job.write(stdin)
            await job.end_input()
            result = await job.wait(timeout)
        if check and result.status:
            raise self.error(CommandFailed, f"{command!r} ended with status {result.status}\n{result.text}")
        return result

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write `data` to the file `path` in the guest."""
        name = shlex.quote(path)
        await self.run(f"cat > {name} && chmod {mode:o} {name}", stdin=data)

    async def get(self, path: str) -> bytes:
        """The content of the file `path` in the guest."""
        return (await self.run(f"cat {shlex.quote(path)}")).stdout

    # -- ports

    async def forward(self, port: int) -> int:
        """The port on the host's 127.0.0.1 that leads to `port` of the guest.

        Connecting to it succeeds even if nothing listens in the guest, and then the connection ends: wait for the
        listener with `wait_listen`.
        """
        return await self._ask(lambda: self.machine.forward(port))

    async def wait_listen(self, port: int, timeout: float = 60.0) -> None:
        """Wait until something listens on `port` in the guest, siw included; `GuestTimeout` after `timeout` s."""
        # siw listens with a socket of the kernel, which shows in this file like any other; 0A is TCP_LISTEN
        pattern = f":{port:04X} [0-9A-F]*:0000 0A"
        look = f"until grep -q '{pattern}' /proc/net/tcp /proc/net/tcp6; do usleep 20000; done"
        try:
            await self.run(look, timeout=timeout)
        except GuestTimeout:
            raise self.error(GuestTimeout, f"nothing listens on port {port} after {timeout:g} s") from None

    async def _ask(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except MonitorError as error:
            raise await self.lost(str(error)) from error
