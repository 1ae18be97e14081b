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
    page.end(await PerfSession(plan, options, patience, page.begin).run_client(place.host, place.port))


async def serve_once(plan: Plan, options: Options, patience: float, host: str, port: int, *, json: bool) -> None:
    """Be the server for one client."""
    page = _Page(plan, "server", json=json)
    session = PerfSession(plan, options, patience, page.begin)
    listener = await cm.listen(host, port, options.offer(b""), make_tap=lambda: options.tap(initiator=False))
    async with listener:
        page.announce(Address(host, listener.port))
        page.end(await session.run_server(listener))


class _Page:
    """The output of one session: perftest's page, or a line of JSON for each event."""

    def __init__(self, plan: Plan, role: str, *, json: bool) -> None:
        self._plan = plan
        self._role = role
        self._json = json
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

    def end(self, result: Result) -> None:
        """The figures; the server of read_lat has none."""
        if self._json:
            self._tell({"event": "result", **self._facts, **(result.data() if result else {})})
        else:
            print("\n".join([*([str(result)] if result else []), LINE]), flush=True)

    def _tell(self, facts: dict[str, object]) -> None:
        print(jsonlib.dumps(facts), flush=True)
