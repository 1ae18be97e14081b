"""Runs cases one after the other, each on connections of its own and within a time limit, and gives verdicts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from pyiwarp.conformance.bench.abilities import Cannot, Direction
from pyiwarp.conformance.bench.control import ControlLost, ControlRefused, Target
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.testbench import Bench, Door, NobodyConnects, Settings, Unreachable
from pyiwarp.conformance.case import Case, Strictness, Verdict
from pyiwarp.conformance.probe import NoEndpoint, become_acquainted
from pyiwarp.conformance.results import Report, Result
from pyiwarp.errors import IwarpError

__all__ = ["Judge", "Runner"]

PER_CASE: Final = 8  # time limits of single reactions that a whole case may take
LOST_IN_A_ROW: Final = 3  # cases that find no peer before the run is given up


class Judge(Protocol):
    """Who has the last word on a result: a profile of declared deviations."""

    def judge(self, result: Result, direction: Direction) -> Result:
        """The result, perhaps with another verdict."""


class Runner:
    """Runs cases against one peer; `strict` is whether to run SHOULDs too.

    `control` is where the target program takes commands. `begun` is called with each case before it runs, `ended` with
    its result. `judge` may change a verdict.
    """

    def __init__(
        self,
        settings: Settings,
        control: tuple[str, int] | None = None,
        *,
        strict: bool = False,
        judge: Judge | None = None,
        begun: Callable[[Case], None] = lambda case: None,
        ended: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self._settings = settings
        self._control_address = control
        self._strict = strict
        self._judge = judge
        self._begun = begun
        self._ended = ended
        self._control: Target | None = None
        self._door: Door | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the run behind the case at hand, which takes its time limit at most."""
        self._stopped = True

    async def run(self, cases: Iterable[Case]) -> Report:
        """Run `cases` in order. Returns a report in any case; a peer that is no iWARP endpoint is `abandoned`."""
        settings = self._settings
        report = Report(f"{settings.host} port {settings.port}", settings.direction.value, settings.level.word)
        started = time.perf_counter()
        try:
            await self.open()
            if settings.direction is Direction.LISTEN:
                report.peer = f"whoever connects to {settings.host} port {self.port}"
            settings.needs |= await become_acquainted(Bench(settings, self._control, self._door))
            await self._run_all(cases, report)
        except (NoEndpoint, Unreachable, NobodyConnects, ControlLost, OSError) as error:
            report.abandoned = str(error)
        finally:
            self.close()
        report.seconds = time.perf_counter() - started
        return report

    async def open(self) -> None:
        """Reach the target program, if there is one, and listen, if the peer is to connect."""
        await self._reach_control()
        if self._settings.direction is Direction.LISTEN:
            self._door = Door(self._settings)
            await self._door.open()

    def close(self) -> None:
        """Let go of both."""
        if self._door is not None:
            self._door.close()
        if self._control is not None:
            self._control.close()

    @property
    def port(self) -> int:
        """Where the bench listens, 0 if it does not."""
        return self._door.port if self._door else 0

    async def _reach_control(self) -> None:
        """Open the control connection, anew if there was one."""
        if self._control_address is None:
            return
        if self._control is not None:
            self._control.close()
        self._control = await Target.connect(*self._control_address, self._settings.timeout)

    async def _run_all(self, cases: Iterable[Case], report: Report) -> None:
        lost = 0
        for case in cases:
            if self._stopped:
                report.abandoned = "interrupted"
                return
            why_not = self._why_not(case)
            if why_not is not None:
                result = Result(case, why_not[0], reason=why_not[1])
            else:
                self._begun(case)
                result = await self.run_case(case)
                lost = lost + 1 if result.verdict is Verdict.ERROR else 0
            if self._judge is not None:
                result = self._judge.judge(result, self._settings.direction)
            report.results.append(result)
            self._ended(result)
            if lost == LOST_IN_A_ROW:
                report.abandoned = f"the peer was lost: {result.reason}"
                return

    def _why_not(self, case: Case) -> tuple[Verdict, str] | None:
        settings = self._settings
        if settings.direction not in case.directions:
            role = "Initiator" if settings.direction is Direction.CONNECT else "Responder"
            return Verdict.SKIPPED, f"it does not concern a peer to which the bench is {role}"
        if case.level > settings.level:
            return Verdict.SKIPPED, f"it takes the level {case.level.word}"
        if case.strictness is Strictness.SHOULD and not self._strict:
            return Verdict.SKIPPED, "a SHOULD: --strict runs it"
        if missing := sorted(case.needs - settings.needs):
            return Verdict.CANNOT, f"it takes a peer with {', '.join(missing)}"
        return None

    async def run_case(self, case: Case) -> Result:
        """One case on connections of its own, between `open` and `close`."""
        bench = Bench(self._settings, self._control, self._door)
        limit = self._settings.timeout * PER_CASE
        started = time.perf_counter()
        result = Result(case, Verdict.PASSED)
        try:
            async with asyncio.timeout(limit):
                await case.run(bench)
        except Failed as error:
            octets = tuple(error.octets or bench.last_seen())
            result = replace(result, verdict=Verdict.FAILED, expected=error.expected, seen=error.seen, octets=octets)
        except ControlRefused as error:
            expected = "that the target's program can do what it is told"
            result = replace(result, verdict=Verdict.FAILED, expected=expected, seen=str(error))
        except Cannot as error:
            result = replace(result, verdict=Verdict.CANNOT, reason=str(error))
        except TimeoutError:
            result = replace(result, verdict=Verdict.FAILED, expected="an end", seen=f"none within {limit:g} s")
        except (IwarpError, OSError) as error:
            result = replace(result, verdict=Verdict.ERROR, reason=str(error) or type(error).__name__)
            await self._recover(error)
        finally:
            await bench.close()
        return replace(result, seconds=time.perf_counter() - started)

    async def _recover(self, error: Exception) -> None:
        """A control connection that failed is made anew, so that one bad case does not spoil the next."""
        if isinstance(error, ControlLost | OSError) and self._control_address is not None:
            await self._reach_control()
