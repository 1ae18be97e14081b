"""A prompt for the guest of a scenario that failed."""

from __future__ import annotations

import asyncio
import sys

from .siw import Guest
from .siw.errors import GuestError


async def take_commands(guest: Guest) -> None:
    """Run the lines of standard input in `guest` until they end."""
    print("the guest is kept: shell commands for it, end of input to go on", file=sys.stderr)
    while guest.alive:
        print("guest$ ", end="", flush=True, file=sys.stderr)
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            break
        try:
            print((await guest.run(line, check=False)).text)
        except GuestError as error:
            print(error)
