"""What `pyiwarp perf` prints: perftest's title, columns and figures, or JSON."""

from __future__ import annotations

import json as jsonlib
from typing import Final

from pyiwarp import Options, cm
from pyiwarp.cli.address import Address
from pyiwarp.cli.perftest.figures import Bandwidth, Latency
from pyiwarp.cli.perftest.runs import Plan
from pyiwarp.cli.perftest.session import PerfSession, Result

__all__ = ["measure", "serve_once"]

LINE: Final = "-" * 79


async def measure(plan: Plan, options: Options, patience: float, place: Address, *, json: bool) -> None:
    """Be the client, once."""
    page = _Page(plan, "client", json=json)
    await PerfSession(plan, options, patience, page.begin, page.row).run_client(place.host, place.port)
    page.end()


async def serve_once(plan: Plan, options: Options, patience: float, host: str, port: int, *, json: bool) -> None:
    """Be the server for one client."""
    page = _Page(plan, "server", json=json)
    session = PerfSession(plan, options, patience, page.begin, page.row)
    listener = await cm.listen(host, port, options.offer(b""), make_tap=lambda: options.tap(initiator=False))
    async with listener:
        page.announce(Address(host, listener.port))
        await session.run_server(listener)
        page.end()


class _Page:
    """The output of one session: perftest's page, or a line of JSON for each event."""

    def __init__(self, plan: Plan, role: str, *, json: bool) -> None:
        self._plan = plan
        self._role = role
        self._json = json
        self._rows = 0
        self._facts: dict[str, object] = {"test": plan.test.value, "role": role}

    def announce(self, place: Address) -> None:
        """A server waits."""
        if self._json:
            self._tell({"event": "listening", "host": place.host, "port": place.port})
        else:
            print(f"{self._plan.test.caption}: waiting for a client at {place}", flush=True)

    def begin(self, peer: str) -> None:
        """Both sides are ready."""
        if self._json:
            self._tell({"event": "connected", **self._facts, "peer": peer})
            return
        header = (Latency if self._plan.test.is_latency else Bandwidth).HEADER
        title = f"{'':20}{self._plan.test.caption}" + (", microseconds" if self._plan.test.is_latency else "")
        print("\n".join([LINE, title, f" {self._role} with {peer}", LINE, header]), flush=True)

    def row(self, result: Result) -> None:
        """The figures of one size."""
        self._rows += 1
        if self._json:
            self._tell({"event": "result", **self._facts, **(result.data() if result else {})})
        else:
            print(result, flush=True)

    def end(self) -> None:
        """The test is over; the server of read_lat has no figures."""
        if not self._json:
            print(LINE, flush=True)
        elif not self._rows:
            self._tell({"event": "result", **self._facts})

    def _tell(self, facts: dict[str, object]) -> None:
        print(jsonlib.dumps(facts), flush=True)
