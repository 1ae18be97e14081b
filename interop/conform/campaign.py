"""Every case against siw, in both directions, in guests that are replaced when they may be damaged.

Cases share a guest while all goes as declared. Whatever does not runs once more in a guest of its own, so that no case
fails for what another has left behind, and with more time, so that none fails on a slow machine; that verdict counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.profiles import Profile
from pyiwarp.conformance.results import Result

from ..siw import GuestError, GuestStartError, Image
from .target_guest import TargetGuest

PATIENT: Final = 10
"""How many times longer a reaction may take when a case runs again: no verdict depends on how busy the machine is."""

_NAT = "the guest is behind QEMU's NAT, whose TCP has a segment size of its own on the guest's side"
HIDDEN: Final[Mapping[str, str]] = {"MPA-5044-3-03": _NAT}
"""Cases that this way of reaching siw hides, and why."""


@dataclass(frozen=True)
class Outcome:
    """A result in one direction; `confirmed` says that it was seen in a guest of its own."""

    direction: Direction
    result: Result
    confirmed: bool = False

    def as_data(self) -> dict[str, object]:
        """For JSON."""
        return {"direction": self.direction.value, "confirmed": self.confirmed, **self.result.as_data()}


class Campaign:
    """Runs cases in one direction, one after the other; `ended` is called with each outcome."""

    def __init__(
        self,
        image: Image,
        direction: Direction,
        *,
        timeout: float,
        profile: Profile,
        ended: Callable[[Outcome], None],
    ) -> None:
        self._image = image
        self._direction = direction
        self._timeout = timeout
        self._profile = profile
        self._ended = ended
        self._guest: TargetGuest | None = None
        self.outcomes: list[Outcome] = []

    async def run(self, cases: Sequence[Case]) -> list[Outcome]:
        """Run all of `cases` that concern this direction. Raises `GuestStartError` if no guest comes up."""
        try:
            for case in cases:
                if self._direction in case.directions:
                    await self._run_one(case)
        finally:
            await self._end_guest()
        return self.outcomes

    async def _run_one(self, case: Case) -> None:
        result = await self._attempt(case, self._timeout)
        confirmed = False
        if result.verdict.bad:
            await self._end_guest()
            result, confirmed = await self._attempt(case, PATIENT * self._timeout), True
            await self._end_guest()
        self.outcomes.append(Outcome(self._direction, result, confirmed))
        self._ended(self.outcomes[-1])

    async def _attempt(self, case: Case, timeout: float) -> Result:
        """The verdict, in view of what is declared."""
        if case.id in HIDDEN:
            return Result(case, Verdict.CANNOT, reason=HIDDEN[case.id])
        try:
            if self._guest is None:
                self._guest = await TargetGuest.open(self._image, self._direction)
            result = await self._guest.run_case(case, timeout, self._profile.allowances)
        except GuestStartError:
            raise  # no other case would find a guest either
        except GuestError as error:
            await self._end_guest()
            return Result(case, Verdict.ERROR, reason=str(error))
        if not self._guest.guest.alive:
            await self._end_guest()
        return self._profile.judge(result, self._direction)

    async def _end_guest(self) -> None:
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.close()


async def run_campaigns(campaigns: Sequence[tuple[Campaign, Sequence[Case]]]) -> list[Outcome]:
    """Run several at the same time, each with cases and guests of its own."""
    done = await asyncio.gather(*(campaign.run(cases) for campaign, cases in campaigns))
    return [outcome for outcomes in done for outcome in outcomes]
