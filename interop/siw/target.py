"""The target program of conformance tests in the guest: target.c, started and reachable."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from .guest import Guest

PORT: Final = 4421
CONTROL: Final = 4422


class TargetPlace(NamedTuple):
    """Where on the host a guest's target is reached: iWARP on `port`, commands on `control_port`."""

    host: str
    port: int
    control_port: int


@asynccontextmanager
async def siw_target(guest: Guest) -> AsyncIterator[TargetPlace]:
    """The target program in `guest`, until the end of the block. Errors as `Guest.run`.

    docs/target.md tells its protocol. For it the host is `HOST_ADDRESS`.
    """
    async with await guest.spawn(f"target {PORT} {CONTROL} {guest.variant}") as job:
        await job.expect("listening")
        yield TargetPlace("127.0.0.1", await guest.forward(PORT), await guest.forward(CONTROL))
