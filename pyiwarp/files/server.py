"""The file server: accepts clients up to a limit, each with a session in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType

from pyiwarp import Listener, Request, listen
from pyiwarp.errors import IwarpError
from pyiwarp.files.messages import HELLO
from pyiwarp.files.report import Report
from pyiwarp.files.root import Root
from pyiwarp.files.session import ServerSettings, ServerState, Session

__all__ = ["FileServer", "ServerSettings"]

log = logging.getLogger(__name__)


class FileServer:
    """Serves `root`; `on_report` is called once for each transfer, when it has succeeded or failed.

    `start` listens; `close`, or leaving the `async with` block, interrupts the transfers that are going on.
    """

    def __init__(
        self,
        root: Root,
        settings: ServerSettings | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._shared = ServerState(root, settings or ServerSettings(), on_report)
        self._listener: Listener | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._sessions: dict[asyncio.Task[None], Session | None] = {}

    async def __aenter__(self) -> FileServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return 0 if self._listener is None else self._listener.port

    @property
    def transfers(self) -> int:
        """The number of transfers going on."""
        return sum(session is not None and session.transferring for session in self._sessions.values())

    async def start(self, host: str | None = None, port: int = 0) -> None:
        """Listen; raises `OSError` if the address cannot be had."""
        self._listener = await listen(host, port, options=self._shared.settings.options)
        self._acceptor = asyncio.get_running_loop().create_task(self._accept_all(self._listener))

    async def wait_closed(self) -> None:
        """Wait until the server is closed."""
        if self._acceptor is not None:
            await asyncio.wait({self._acceptor})

    async def close(self) -> None:
        """Stop listening and interrupt the transfers that are going on. Closing twice does nothing."""
        if self._listener is not None:
            self._listener.close()
        tasks = [task for task in (*self._sessions, self._acceptor) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept_all(self, listener: Listener) -> None:
        async for request in listener:
            task = asyncio.get_running_loop().create_task(self._answer(request))
            self._sessions[task] = None
            task.add_done_callback(self._sessions.pop)

    async def _answer(self, request: Request) -> None:
        """One client from its Request to its end; its errors end no other session."""
        peer = request.peername
        try:
            if request.private_data != HELLO:
                await request.reject(b"this is a file server; it serves clients of " + HELLO)
            elif len(self._sessions) > self._shared.settings.clients:
                await request.reject(b"the server is full")
            else:
                await self._serve(request)
        except (IwarpError, OSError) as error:
            log.info("%s: %s", peer, error)
        except Exception:
            log.exception("%s: the session failed", peer)

    async def _serve(self, request: Request) -> None:
        connection = await request.accept(HELLO)
        session = Session(connection, self._shared)
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._sessions[task] = session
        try:
            await session.run()
        except BaseException as error:
            connection.abort()
            if error is session.reported:
                return
            raise
        await connection.close()
