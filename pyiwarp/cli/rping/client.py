"""The client of `pyiwarp ping`: pings until the count is reached or the user has enough, and sums up."""

from __future__ import annotations

import asyncio
import itertools
import json as jsonlib
from collections.abc import Iterable

import typer

from pyiwarp import Connection, Options, connect
from pyiwarp.cli.rping.protocol import Ping, Pinger
from pyiwarp.cli.running import Interrupted
from pyiwarp.cli.tasks import closing
from pyiwarp.cli.terminal import shown_whole

__all__ = ["PingClient"]


class PingClient:
    """Pings of `size` octets; each message of the server must come within `patience` seconds."""

    def __init__(self, size: int, patience: float, *, verify: bool, verbose: bool, json: bool) -> None:
        self._size = size
        self._patience = patience
        self._verify = verify
        self._verbose = verbose
        self._json = json
        self._times: list[float] = []

    async def run(self, host: str, port: int, options: Options, count: int) -> None:
        """Ping `count` times, or until cancelled if that is 0."""
        numbers: Iterable[int] = range(count) if count else itertools.count()
        try:
            async with closing(await connect(host, port, options=options)) as connection:
                await self._ping_all(connection, numbers)
        except asyncio.CancelledError:
            self._print_summary()
            if count:
                raise Interrupted(f"interrupted after {len(self._times)} of {count} pings") from None
            raise typer.Exit from None
        except BaseException:
            self._print_summary()
            raise
        self._print_summary()

    async def _ping_all(self, connection: Connection, numbers: Iterable[int]) -> None:
        pinger = Pinger(connection, self._size, self._patience)
        for number in numbers:
            ping = await pinger.ping(number, verify=self._verify)
            self._times.append(ping.seconds)
            self._print_ping(ping)

    def _print_ping(self, ping: Ping) -> None:
        """Print one round with --verbose."""
        if not self._verbose:
            return
        text = shown_whole(ping.data.partition(b"\0")[0])
        if self._json:
            microseconds = round(ping.seconds * 1e6, 3)
            print(jsonlib.dumps({"event": "ping", "number": ping.number, "usec": microseconds, "data": text}))
        else:
            print(f"ping data: {text}")

    def _print_summary(self) -> None:
        """Print all rounds in one line."""
        if not self._times:
            return
        times = [seconds * 1e6 for seconds in self._times]
        low, mean, high = min(times), sum(times) / len(times), max(times)
        if self._json:
            facts = {"event": "summary", "pings": len(times), "size": self._size, "verified": self._verify}
            usec = {"min": round(low, 3), "avg": round(mean, 3), "max": round(high, 3)}
            print(jsonlib.dumps(facts | {"usec": usec}), flush=True)
            return
        verified = ", every octet came back" if self._verify else ""
        plural = "" if len(times) == 1 else "s"
        figures = f"{low:.1f}/{mean:.1f}/{high:.1f} µs"
        print(f"{len(times)} ping{plural} of {self._size} octets{verified}; min/avg/max {figures}", flush=True)
