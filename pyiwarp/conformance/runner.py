"""Runs cases one after the other, each on connections of its own and within a time limit, and gives verdicts."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from pyiwarp.conformance.bench.abilities import Cannot, Direction
from pyiwarp.conformance.bench.control import ControlLost, ControlRefused, Target
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.testbench import Bench, Listener, NobodyConnects, Settings, Unreachable
from pyiwarp.conformance.case import Case, Strictness, Verdict
from pyiwarp.conformance.probe import NoEndpoint, probe_peer
from pyiwarp.conformance.results import INTERRUPTED, Report, Result
from pyiwarp.errors import IwarpError

__all__ = ["Judge", "Runner"]

PER_CASE: Final = 8  # time limits of single reactions that a whole case may take
LOST_IN_A_ROW: Final = 3  # cases that find no peer before the run is given up


class Judge(Protocol):
    """Who has the last word on a result: a profile of declared deviations."""

    def judge(self, result: Result, direction: Direction) -> Result:
        """The result, perhaps with another verdict."""


class Runner:
    """Runs cases against one peer; `strict` is whether to run SHOULDs too, `fail_fast` whether a failure ends the run.

    `control` is where the target program takes commands. `begun` is called with each case before it runs, `ended` with
    its result, `listening` with the port at which the peer may connect. `judge` may change a verdict.
    """

    def __init__(
        self,
        settings: Settings,
        control: tuple[str, int] | None = None,
        *,
        strict: bool = False,
        fail_fast: bool = False,
        judge: Judge | None = None,
        begun: Callable[[Case], None] = lambda case: None,
        ended: Callable[[Result], None] = lambda result: None,
        listening: Callable[[int], None] = lambda port: None,
    ) -> None:
        self._settings = settings
        self._control_address = control
        self._strict = strict
        self._fail_fast = fail_fast
        self._judge = judge
        self._begun = begun
        self._ended = ended
        self._listening = listening
        self._control: Target | None = None
        self._listener: Listener | None = None
        self._work: asyncio.Task[None] | None = None
        self._stopped = False
        self._lost = 0  # cases in a row that found no peer

    def stop(self) -> None:
        """End the run now: the case that is running gets no verdict, and `run` returns the results so far."""
        self._stopped = True
        if self._work is not None:
            self._work.cancel()

    async def run(self, cases: Iterable[Case]) -> Report:
        """Run `cases` in order. Returns a report in any case; a peer that is no iWARP endpoint is `abandoned`."""
        settings = self._settings
        report = Report(f"{settings.host} port {settings.port}", settings.direction.value, settings.level.word)
        started = time.perf_counter()
        self._work = asyncio.get_running_loop().create_task(self._probe_and_run(cases, report))
        if self._stopped:
            self._work.cancel()
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            report.abandoned = INTERRUPTED
        except (NoEndpoint, Unreachable, NobodyConnects, ControlLost, OSError) as error:
            report.abandoned = str(error)
        finally:
            self.close()
        report.seconds = time.perf_counter() - started
        return report

    async def _probe_and_run(self, cases: Iterable[Case], report: Report) -> None:
        settings = self._settings
        await self.open()
        if settings.direction is Direction.LISTEN:
            report.peer = f"whoever connects to {settings.host} port {self.port}"
            self._listening(self.port)
        settings.needs |= await probe_peer(Bench(settings, self._control, self._listener))
        for case in cases:
            await self._run_and_judge(case, report)
            if report.abandoned or (self._fail_fast and report.results[-1].verdict.bad):
                return

    async def open(self) -> None:
        """Reach the target program, if there is one, and listen, if the peer is to connect."""
        await self._reach_control()
        if self._settings.direction is Direction.LISTEN:
            self._listener = Listener(self._settings)
            await self._listener.open()

    def close(self) -> None:
        """Close both."""
        if self._listener is not None:
            self._listener.close()
        if self._control is not None:
            self._control.close()

    @property
    def port(self) -> int:
        """Where the bench listens, 0 if it does not."""
        return self._listener.port if self._listener else 0

    async def _reach_control(self) -> None:
        """Open the control connection, anew if there was one."""
        if self._control_address is None:
            return
        if self._control is not None:
            self._control.close()
        self._control = await Target.connect(*self._control_address, self._settings.timeout)

    async def _run_and_judge(self, case: Case, report: Report) -> None:
        """Add the case's result to `report`; so many cases in a row that find no peer end the run."""
        not_run = self._reason_not_to_run(case)
        if not_run is not None:
            result = Result(case, not_run[0], reason=not_run[1])
        else:
            self._begun(case)
            result = await self.run_case(case)
        if self._judge is not None:
            result = self._judge.judge(result, self._settings.direction)
        report.results.append(result)
        self._ended(result)
        if self._lost == LOST_IN_A_ROW:
            report.abandoned = f"the peer was lost: {result.reason}"

    def _reason_not_to_run(self, case: Case) -> tuple[Verdict, str] | None:
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
        bench = Bench(self._settings, self._control, self._listener)
        limit = self._settings.timeout * PER_CASE
        started = time.perf_counter()
        result = Result(case, Verdict.PASSED)
        lost = 0
        try:
            async with asyncio.timeout(limit):
                await case.run(bench)
            bench.judge_rest()
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
            lost = self._lost + 1
            await self._recover(error)
        except Exception as error:  # a fault of the case or of the bench, which must not end the run
            result = _internal_error(result, error)
        finally:
            sent = tuple(bench.last_sent())
            await bench.close()
        if result.verdict is Verdict.FAILED:
            result = replace(result, sent=sent)
        self._lost = lost
        return replace(result, seconds=time.perf_counter() - started)

    async def _recover(self, error: Exception) -> None:
        """Open a failed control connection again, so that one bad case does not affect the next."""
        if isinstance(error, ControlLost | OSError) and self._control_address is not None:
            await self._reach_control()


def _internal_error(result: Result, error: Exception) -> Result:
    """The result of a case that raised `error`, with the traceback where a failure shows octets."""
    lines = tuple("".join(traceback.format_exception(error)).splitlines())
    reason = f"the case ended with {type(error).__name__}: {error}, which is a fault of this tester"
    return replace(result, verdict=Verdict.ERROR, octets=lines, reason=" ".join(reason.split()))
