"""Runs cells of the matrix: some at a time, each in bounded time, none harmed by the failure of another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from . import decode
from .deviations import Deviation, judge
from .errors import PeerUnavailable
from .matrix import Cell, Outcome, Result, cannot
from .peer import Peer, PeerKind
from .stage import Difference, Stage
from .transcript import Recording, Transcript

CLEANUP = 10.0
"""Seconds that the end of a run may take beyond the scenario's own."""

_LINES = 6  # frames in the message of a failure


class PeerPool(Protocol):
    """Makes the peers of one worker; it may keep a guest for the next scenario."""

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        """A peer that no scenario has used; with `alone` nothing of it is shared with any other.

        Takes bounded time. Raises `PeerUnavailable` if there can be none of this kind, now or later.
        """

    async def close(self, peer: Peer, *, damaged: bool) -> None:
        """End a peer; `damaged` if what it lives on may be damaged."""

    async def failed(self, peer: Peer) -> None:
        """A scenario with this peer failed; it is closed next."""

    async def stop(self) -> None:
        """End everything."""


class Runner:
    """Runs cells with a number of workers, each with a separate pool.

    `timeout` overrides the scenarios' own, in seconds. With `stop_at_failure` no cell begins after one that failed.
    `on_start` and `on_result` are told of each cell. `pcapng` is a directory for one capture of each cell.
    """

    def __init__(
        self,
        deviations: Sequence[Deviation],
        new_pool: Callable[[], PeerPool],
        *,
        jobs: int = 1,
        timeout: float | None = None,
        pcapng: Path | None = None,
        stop_at_failure: bool = False,
        on_start: Callable[[Cell], None] = lambda cell: None,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self._deviations = deviations
        self._new_pool = new_pool
        self._jobs = jobs
        self._timeout = timeout
        self._pcapng = pcapng
        self._stop_at_failure = stop_at_failure
        self._on_start, self._on_result = on_start, on_result

    async def run(self, cells: Iterable[Cell]) -> list[Result]:
        """The result of each cell, in the order of the cells.

        Raises `PeerUnavailable` as soon as a peer cannot be had: the cells that are left would fail one by one.
        """
        cells = list(cells)
        results = {cell: result for cell in cells if (result := cannot(cell)) is not None}
        for result in results.values():
            self._on_result(result)
        left = [cell for cell in cells if cell not in results]
        # the longest first, so that no worker is left alone with one at the end
        left.sort(key=lambda cell: -cell.scenario.timeout)
        busy: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._jobs):
                    group.create_task(self._work(left, busy, results))
        except* PeerUnavailable as errors:
            raise errors.exceptions[0] from None
        return [results[cell] for cell in cells if cell in results]

    async def _work(self, left: list[Cell], busy: list[str], results: dict[Cell, Result]) -> None:
        pool = self._new_pool()
        peer = ""
        try:
            while left:
                cell = _next(left, peer, busy)
                if cell.peer.name != peer:
                    busy[:] = [name for name in busy if name != peer] + [cell.peer.name]
                    peer = cell.peer.name
                self._on_start(cell)
                results[cell] = await self._run_cell(cell, pool)
                self._on_result(results[cell])
                if self._stop_at_failure and results[cell].outcome is Outcome.FAIL:
                    left.clear()
        finally:
            await pool.stop()

    async def _run_cell(self, cell: Cell, pool: PeerPool) -> Result:
        start = time.monotonic()
        limit = self._timeout or cell.scenario.timeout
        declared = [each for each in self._deviations if each.concerns(cell.peer.name, cell.scenario.name, cell.role)]
        async with _recording(cell, self._pcapng) as recording:
            run = _Run(cell, pool, recording, limit)
            failure = await run.run()
            differences = run.differences
        happened, undeclared, absent = judge(declared, differences)
        complaints = [failure] if failure else []
        complaints += [f"differs: {difference}" for difference in undeclared]
        if not failure:
            complaints += [f"no longer differs as declared: {each.aspect}: {each.seen}" for each in absent]
        seconds = time.monotonic() - start
        if complaints:
            message = "\n".join([f"{cell}:", *complaints, *_evidence(recording)])
            return Result(cell, Outcome.FAIL, message, tuple(happened), seconds)
        return Result(cell, Outcome.DIFFERS if happened else Outcome.PASS, "", tuple(happened), seconds)


class _Run:
    """One scenario's run, from a new peer to its end."""

    def __init__(self, cell: Cell, pool: PeerPool, recording: Recording, limit: float) -> None:
        self._cell, self._pool, self._recording, self._limit = cell, pool, recording, limit
        self._stage: Stage | None = None

    @property
    def differences(self) -> list[Difference]:
        """What the scenario saw to be different."""
        return [] if self._stage is None else [*self._stage.differences]

    async def run(self) -> str:
        """Why it failed, or nothing."""
        try:
            # its time is not the scenario's: the first guest of a kind boots
            peer = await self._pool.open(self._cell.peer, alone=self._cell.scenario.alone)
        except PeerUnavailable:
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        failure = ""
        try:
            self._stage = Stage(self._cell.role, peer, self._recording)
            async with asyncio.timeout(self._limit):
                await self._cell.scenario.run(self._stage)
        except TimeoutError as error:
            failure = f"it did not end within {self._limit:g} s" + (f" ({error})" if str(error) else "")
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        if failure and (crash_report := peer.crash_report()):
            failure += f"\n{crash_report}"
        unclosed = await self._close(peer, failure)
        return failure or unclosed

    async def _close(self, peer: Peer, failure: str) -> str:
        try:
            if failure:
                await self._pool.failed(peer)
            async with asyncio.timeout(CLEANUP):
                await self._pool.close(peer, damaged=bool(failure) or self._cell.scenario.alone)
        except Exception as error:
            return f"the peer was not ended: {type(error).__name__}: {error}"
        return ""


def _next(left: list[Cell], peer: str, busy: Sequence[str]) -> Cell:
    """The next cell for a worker whose guest runs `peer`: one of the same, else one that no other is busy with."""
    for wanted in (lambda cell: cell.peer.name == peer, lambda cell: cell.peer.name not in busy, lambda cell: True):
        for cell in left:
            if wanted(cell):
                left.remove(cell)
                return cell
    raise AssertionError("there is one left")


@asynccontextmanager
async def _recording(cell: Cell, directory: Path | None) -> AsyncIterator[Recording]:
    name = f"{cell.scenario.name}-{cell.peer.name}-{cell.role.value.replace(' ', '-')}.pcapng"
    with Recording(None if directory is None else directory / name) as recording:
        yield recording


def _evidence(recording: Recording) -> list[str]:
    """The last frames of the connection that the scenario used last."""
    lines: list[str] = []
    for transcript in recording.transcripts[-1:]:
        lines += ["the last frames:", *_lines(transcript)]
    return lines


def _lines(transcript: Transcript) -> list[str]:
    try:
        return decode.last_lines(transcript, _LINES)
    except Exception as error:  # evidence must never hide the failure
        return [f"(not decodable: {error!r})"]
