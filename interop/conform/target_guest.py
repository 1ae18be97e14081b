"""A guest with a target program in it, and the tester that is pointed at it: one case at a time."""

from __future__ import annotations

import contextlib
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, Self

from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.allowances import Allowances
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.results import Result
from pyiwarp.conformance.runner import Runner

from ..siw import HOST_ADDRESS, Guest, GuestError, Image, fresh_for
from ..siw.errors import console_tail
from ..siw.target import TargetPlace, siw_target

HOST: Final = "127.0.0.1"
CONSOLE_LINES: Final = 9
STAMP: Final = re.compile(r"^\[ *[0-9.]+\] ")
CRASH: Final = "a crash of the kernel"


class TargetGuest:
    """One guest for cases in `direction`, made by `open`."""

    def __init__(self, direction: Direction, guest: Guest, place: TargetPlace, stack: AsyncExitStack) -> None:
        self._direction = direction
        self._place = place
        self._stack = stack
        self.guest = guest

    @classmethod
    async def open(cls, image: Image, direction: Direction, variant: str = "siw") -> Self:
        """A fresh guest in which the target runs; errors as `Guest.boot`."""

        async def begin(guest: Guest) -> Self:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(guest)
                await guest.run("echo 8 > /proc/sys/kernel/printk")  # for the kernel's last words, should it crash
                place = await stack.enter_async_context(siw_target(guest))
                return cls(direction, guest, place, stack.pop_all())

        return await fresh_for(image, variant, begin)

    async def close(self) -> None:
        """End the guest."""
        self.guest.kill()
        with contextlib.suppress(GuestError):  # it ended in the middle of something, as it was meant to
            await self._stack.aclose()

    async def run_case(self, case: Case, timeout: float, allowances: Allowances) -> Result:
        """Run one case; a guest that it crashes is a failure, and tells its last words."""
        settings = self._settings(timeout, allowances)
        report = await Runner(settings, (HOST, self._place.control_port), strict=True).run([case])
        result = report.results[0] if report.results else Result(case, Verdict.ERROR)
        if report.abandoned:
            result = replace(result, verdict=Verdict.ERROR, reason=report.abandoned)
        if result.verdict.bad and await self._died():
            return self.crashed(result)
        return result

    def crashed(self, result: Result) -> Result:
        """The failure of a case in which the guest's kernel crashed."""
        lines = [STAMP.sub("", line).strip() for line in console_tail(self.guest.console).splitlines()[:CONSOLE_LINES]]
        seen = f"{CRASH}: {lines[0] if lines else 'the guest ended'}"
        expected = result.case.accepts
        return replace(result, verdict=Verdict.FAILED, expected=expected, seen=seen, octets=tuple(lines), reason="")

    def _settings(self, timeout: float, allowances: Allowances) -> Settings:
        port = self._place.port if self._direction is Direction.CONNECT else 0
        settings = Settings(self._direction, Level.TARGET, HOST, port, timeout)
        settings.allowances = allowances
        if self._direction is Direction.LISTEN:
            settings.reachable_at = (HOST_ADDRESS, 0)
        return settings

    async def _died(self) -> bool:
        """Whether the guest's kernel crashed: one that did answers no command, and ends QEMU."""
        with contextlib.suppress(GuestError):
            await self.guest.run("true")
        return not self.guest.alive
