"""The tunnel: listens at one place, and joins every client with a connection to the other place."""

from __future__ import annotations

import asyncio
import json as jsonlib
import time
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

from pyiwarp.cli.address import Address
from pyiwarp.cli.running import complain, end_server
from pyiwarp.cli.terminal import counts_text, explain
from pyiwarp.cli.tunnels.join import Join, Patience
from pyiwarp.cli.tunnels.place import Place, Startup, TcpServer
from pyiwarp.errors import IwarpError
from pyiwarp.sockets import StreamOptions, StreamServer

__all__ = ["Tunnel", "TunnelSettings"]


class TunnelSettings(NamedTuple):
    """What a tunnel allows: so many `clients` at once, and so many seconds of `dial_timeout` to reach the target."""

    clients: int
    startup: Startup
    dial_timeout: float
    patience: Patience
    options: StreamOptions


class Tunnel:
    """Joins the clients that come to `listen` with `target`; one of the two is iWARP, the other one TCP."""

    def __init__(self, listen: Place, target: Place, settings: TunnelSettings, *, json: bool) -> None:
        self._listen, self._target = listen, target
        self._settings = settings
        self._json = json
        self._joins: set[Join] = set()
        self._all_over = asyncio.Event()
        self._counts: Counter[str] = Counter({"joined": 0, "there": 0, "back": 0})

    async def run(self) -> None:
        """Until it is cancelled: exit code 0 if no client was there then, 1 if one was interrupted."""
        most = self._settings.clients
        server = await self._listen.listen(self._make_end, self._settings.options, self._settings.startup, most)
        try:
            self._announce(server.port)
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            interrupted = len(self._joins)
            await self._end_all()
        self._end(server, interrupted)

    # --- clients -----------------------------------------------------------------------------------------------------

    def _make_end(self) -> asyncio.Protocol:
        kinds = self._listen.kind, self._target.kind
        return Join(kinds, self._on_client, self._on_over, self._settings.patience).near

    def _on_client(self, join: Join) -> None:
        self._joins.add(join)
        if len(self._joins) > self._settings.clients:
            self._counts["over_limit"] += 1
            join.fail(ConnectionRefusedError(f"the tunnel has {self._settings.clients} clients"))
        else:
            join.dialing = asyncio.get_running_loop().create_task(self._dial(join))

    async def _dial(self, join: Join) -> None:
        """Connect to the target; if that fails, the client is reset."""
        limit = asyncio.timeout(self._settings.dial_timeout)
        try:
            async with limit:
                await self._target.connect(lambda: join.far, self._settings.options)
        except (IwarpError, OSError, UnicodeError) as error:  # the last is for a name that no host can have
            self._counts["unreachable"] += 1
            late = f"it did not answer within {self._settings.dial_timeout:g} s"
            why = late if limit.expired() else explain(error)
            join.undial(ConnectionError(f"{self._target} cannot be reached: {why}"))
        else:
            self._counts["joined"] += 1

    def _on_over(self, join: Join) -> None:
        self._joins.discard(join)
        self._counts["there"] += join.near.nbytes
        self._counts["back"] += join.far.nbytes
        if join.error is not None:
            self._counts["broken"] += 1
        self._print_join(join)
        if not self._joins:
            self._all_over.set()

    async def _end_all(self) -> None:
        """Reset every client and its connection to the target."""
        self._all_over.clear()
        for join in list(self._joins):
            join.fail(ConnectionAbortedError("the tunnel was stopped"))
        dialing = [join.dialing for join in self._joins if join.dialing is not None]
        if self._joins:
            await self._all_over.wait()
        await asyncio.gather(*dialing, return_exceptions=True)

    # --- what is printed ---------------------------------------------------------------------------------------------

    def _announce(self, port: int) -> None:
        place = self._listen._replace(address=Address(self._listen.address.host, port))
        if self._json:
            facts = {"event": "listening", "kind": place.kind, "host": place.address.host, "port": port}
            print(jsonlib.dumps(facts | {"target": str(self._target)}), flush=True)
        else:
            print(f"a tunnel from {place} to {self._target}; Ctrl-C stops", flush=True)

    def _print_join(self, join: Join) -> None:
        there, back = join.near.nbytes, join.far.nbytes
        if self._json:
            facts: dict[str, object] = {"event": "client", "peer": join.client, "there": there, "back": back}
            facts["seconds"] = round(join.seconds, 6)
            print(jsonlib.dumps(facts | ({"error": explain(join.error)} if join.error else {})), flush=True)
            return
        moved = f"{join.client}: {there:,} octets there, {back:,} back in {join.seconds:.2f} s"
        if join.error is not None:
            complain(f"{moved}; {explain(join.error)}")
        else:
            print(f"{time.strftime('%H:%M:%S')}  {moved}", flush=True)

    def _end(self, server: TcpServer | StreamServer, interrupted: int) -> None:
        counts = Counter(self._counts)
        if isinstance(server, StreamServer):
            counts.update(server.counters.refusals)
        end_server(interrupted, "client", counts_text(counts), {"counters": counts} if self._json else None)
