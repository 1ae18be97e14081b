"""The target's two ports: for MPA connections, and for commands that say what shall become of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Final

from pyiwarp import cm
from pyiwarp.errors import Closed, IwarpError
from pyiwarp.negotiation import Offer
from pyiwarp.target.commands import Commands
from pyiwarp.target.listener import MpaListener
from pyiwarp.target.session import Session
from pyiwarp.target.settings import Settings
from pyiwarp.target.watch import Watch
from pyiwarp.target.words import Refused, bad, reply

__all__ = ["Target"]

log = logging.getLogger(__name__)

LINE: Final = 4 << 20  # the longest command: a poke of a whole region, in hexadecimal digits, has room in it
MAX_CONTROLS: Final = 8
MAX_UNASKED: Final = 32


class Target:
    """The target program on two ports of `host`; all of it ends with `close`.

    A connection to the MPA port belongs to the session that has waited longest. Without one it becomes a session of
    its own, with the plain settings, that nobody asks about.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._listener = MpaListener()
        self._control: asyncio.Server | None = None
        self._waiting: deque[Session] = deque()
        self._own: dict[Session, MpaListener] = {}
        self._unasked = 0
        self._controls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Target:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """Where MPA connections are taken."""
        return self._listener.port

    @property
    def control_port(self) -> int:
        """Where commands are taken."""
        if self._control is None or not self._control.sockets:
            return 0
        port: int = self._control.sockets[0].getsockname()[1]
        return port

    async def start(self, port: int = 0, control_port: int = 0) -> None:
        """Begin to listen; 0 lets the system choose. Raises `OSError`."""
        self._listener = await MpaListener.open(self._host, port, Offer())
        self._spawn(self._serve_mpa(self._listener))
        self._control = await asyncio.start_server(self._on_control, self._host, control_port, limit=LINE)

    async def close(self) -> None:
        """End everything at once. Twice does nothing."""
        self._listener.close()
        if self._control is not None:
            self._control.close()
        while self._tasks:
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- MPA connections ---------------------------------------------------------------------------------------------

    async def admit(self, session: Session) -> int:
        """Let the next connection be that of `session`, on a port of its own if it wants one; returns the port."""
        if not session.settings.own_port:
            self._waiting.append(session)
            return self.port
        listener = await MpaListener.open(self._host, 0, session.offer)
        self._own[session] = listener
        self._spawn(self._serve_one(session, listener))
        return listener.port

    def dismiss(self, session: Session) -> None:
        """`session` takes no connection from now on."""
        with suppress(ValueError):
            self._waiting.remove(session)
        if session in self._own:
            self._own.pop(session).close()

    async def _serve_mpa(self, listener: MpaListener) -> None:
        while True:
            request, watch = await listener.next_request()
            if self._waiting:
                self._spawn(self._waiting.popleft().take(request, watch))
            else:
                self._spawn(self._serve_unasked(request, watch))

    async def _serve_one(self, session: Session, listener: MpaListener) -> None:
        with suppress(Closed):  # the session was dropped before anybody came
            request, watch = await listener.next_request()
            self.dismiss(session)
            await session.take(request, watch)

    async def _serve_unasked(self, request: cm.ConnectRequest, watch: Watch) -> None:
        if self._unasked >= MAX_UNASKED:
            with suppress(IwarpError):  # it has left
                request.reject()
            return
        self._unasked += 1
        session = Session(Settings())
        try:
            await session.take(request, watch)
            await session.wait_closed()
        finally:
            session.close()
            self._unasked -= 1

    # --- control connections -----------------------------------------------------------------------------------------

    def _on_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve_control(reader, writer))

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = Commands(self)
        self._controls += 1
        try:
            if self._controls > MAX_CONTROLS:
                await _answer(writer, Refused("full", f"{MAX_CONTROLS} control connections are there").line)
                return
            await _converse(commands, reader, writer)
        except ConnectionError as error:
            log.info("a control connection broke: %s", error.strerror or error)
        finally:
            self._controls -= 1
            commands.close()
            writer.close()


async def _converse(commands: Commands, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry out commands until `bye` or the end; one that waits is broken off when the connection ends."""
    coming = asyncio.ensure_future(reader.readline())
    try:
        while True:
            try:
                line = await coming
            except ValueError:  # what asyncio makes of a line that is too long
                await _answer(writer, bad(f"a command has at most {LINE} octets").line)
                return
            if not line.endswith(b"\n"):
                return
            coming = asyncio.ensure_future(reader.readline())
            words = line.decode("ascii", "replace").split()
            if words == ["bye"]:
                await _answer(writer, reply())
                return
            if not words:
                continue
            answer = await _unless_ended(commands.carry_out(line.decode("ascii", "replace")), coming)
            if answer is None:
                return
            await _answer(writer, answer)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _unless_ended(work: Coroutine[object, object, str], coming: asyncio.Future[bytes]) -> str | None:
    """The result of `work`; None, and it is cancelled, if the connection ends before."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, coming), return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not coming.exception() and coming.result():
            await asyncio.wait((task,))  # the next command is here already
        return task.result() if task.done() else None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _answer(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(line.encode() + b"\n")
    await writer.drain()
