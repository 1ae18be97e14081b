"""The server of `pyiwarp ping`: answers one client, or with `persistent` any number at once."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Callable

from pyiwarp import Listener, Options, Request, listen
from pyiwarp.cli.address import Address
from pyiwarp.cli.rping.protocol import Ping, answer_pings
from pyiwarp.cli.running import complain
from pyiwarp.cli.tasks import closing
from pyiwarp.cli.terminal import explain, shown_whole
from pyiwarp.errors import IwarpError

__all__ = ["PingServer"]


class PingServer:
    """Answers pings; each message of a client must come within `patience` seconds."""

    def __init__(self, options: Options, patience: float, *, verbose: bool, json: bool) -> None:
        self._options = options
        self._patience = patience
        self._verbose = verbose
        self._json = json
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int, *, persistent: bool) -> None:
        """Serve one client and raise what went wrong, or with `persistent` all until this is cancelled."""
        async with await listen(host, port, options=self._options) as listener:
            self._announce(Address(host, listener.port))
            if persistent:
                await self._serve_all(listener)
                return
            await self._serve(await anext(listener), listener.close)

    async def _serve_all(self, listener: Listener) -> None:
        try:
            async for request in listener:
                task = asyncio.get_running_loop().create_task(self._serve_one_of_many(request))
                self._clients.add(task)
                task.add_done_callback(self._clients.discard)
        except asyncio.CancelledError:
            pass  # the way to stop it
        finally:
            clients = [*self._clients]
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _serve_one_of_many(self, request: Request) -> None:
        """Its errors are its own."""
        peer = request.peername
        try:
            await self._serve(request)
        except (IwarpError, OSError) as error:
            complain(f"{peer}: {explain(error)}")

    async def _serve(self, request: Request, once_accepted: Callable[[], None] = lambda: None) -> None:
        peer = request.peername
        async with closing(await request.accept()) as connection:
            once_accepted()
            count = await answer_pings(connection, self._patience, self._print_ping)
        self._print_client(peer, count)

    def _announce(self, place: Address) -> None:
        if self._json:
            print(jsonlib.dumps({"event": "listening", "host": place.host, "port": place.port}), flush=True)
        else:
            print(f"answering pings at {place}; Ctrl-C stops", flush=True)

    def _print_ping(self, ping: Ping) -> None:
        if not self._verbose:
            return
        text = shown_whole(ping.data.partition(b"\0")[0])
        if self._json:
            print(jsonlib.dumps({"event": "ping", "number": ping.number, "data": text}), flush=True)
        else:
            print(f"server ping data: {text}", flush=True)

    def _print_client(self, peer: str, count: int) -> None:
        if self._json:
            print(jsonlib.dumps({"event": "client", "peer": peer, "pings": count}), flush=True)
        else:
            print(f"{peer}: {count} ping{'' if count == 1 else 's'} answered", flush=True)
