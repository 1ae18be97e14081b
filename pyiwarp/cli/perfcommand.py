"""What `pyiwarp perf` does and prints: perftest's title, columns and figures, or JSON."""

from __future__ import annotations

import json as jsonlib
from typing import Final

from pyiwarp import cm
from pyiwarp.cli.address import Address
from pyiwarp.cli.measure import Bandwidth, Latency
from pyiwarp.cli.perfruns import Plan
from pyiwarp.cli.perfsession import PerfSession, Result
from pyiwarp.connection import Options

__all__ = ["measure", "serve_once"]

LINE: Final = "-" * 87


async def measure(plan: Plan, options: Options, patience: float, place: Address, *, json: bool) -> None:
    """Be the client, once."""
    session = PerfSession(plan, options, patience)
    result = await session.run_client(place.host, place.port)
    _tell(plan, session, result, "client", json=json)


async def serve_once(plan: Plan, options: Options, patience: float, host: str, port: int, *, json: bool) -> None:
    """Be the server for one client."""
    session = PerfSession(plan, options, patience)
    offer = options.offer(b"")
    listener = await cm.listen(host, port, offer, make_tap=lambda: options.tap(initiator=False))
    async with listener:
        place = Address(host, listener.port)
        if json:
            print(jsonlib.dumps({"event": "listening", "host": place.host, "port": place.port}), flush=True)
        else:
            print(f"{plan.test.caption}: waiting for a client at {place}", flush=True)
        result = await session.run_server(listener)
    _tell(plan, session, result, "server", json=json)


def _tell(plan: Plan, session: PerfSession, result: Result, role: str, *, json: bool) -> None:
    """The figures; the server of read_lat has none."""
    if json:
        facts = {"event": "result", "test": plan.test.value, "role": role, "peer": session.peername}
        print(jsonlib.dumps(facts | (result.data() if result else {})), flush=True)
        return
    kind = Latency if plan.test.is_latency else Bandwidth
    row = [LINE, kind.HEADER, str(result)] if result else []
    print("\n".join([LINE, f"{'':20}{plan.test.caption}", f" {role} with {session.peername}", *row, LINE]), flush=True)
