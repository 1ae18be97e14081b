"""Connecting and listening for programs that wait at a pair: in the engine thread, until a `Bridge` takes over."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from pyiwarp import IwarpError, cm
from pyiwarp.sockets.connecting import accept, create_connection, reject
from pyiwarp.sockets.family.bridge import Bridge
from pyiwarp.sockets.family.enginethread import EngineThread
from pyiwarp.sockets.family.iwarpsock import IwarpSock
from pyiwarp.sockets.family.socketclass import failed
from pyiwarp.sockets.family.streamsock import pair
from pyiwarp.sockets.options import StreamOptions

__all__ = ["NEWS_SIZE", "Dialing", "Listening"]

log = logging.getLogger(__name__)

NEWS_SIZE: Final = 1024
"""Octets of what a listener's pair tells of one connection, at most."""

_FOR_ONE: Final = 4096
"""Octets that the system counts for one connection that waits in a listener's pair, about."""


class Dialing:
    """One attempt to connect `sk`: TCP on `carrier`, then MPA and the stream."""

    def __init__(
        self,
        thread: EngineThread,
        sk: IwarpSock,
        carrier: socket.socket,
        address: tuple[Any, ...],
        options: StreamOptions,
    ) -> None:
        self._thread = thread
        self._sk = sk
        self.near = sk.take_near()
        self._carrier = carrier
        self._address = address
        self._options = options
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the program sees at its end when this is over."""
        self._thread.watch(self)
        self._task = self._thread.loop.create_task(self._run())
        self._task.add_done_callback(self._over)

    async def _run(self) -> None:
        await self._tcp()
        await create_connection(self._bridge, sock=self._carrier, options=self._options)

    def _over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._failed(failed(errno.ECONNABORTED))
        elif (error := task.exception()) is None:
            self._thread.count("connected")
        elif isinstance(error, OSError):
            self._failed(error if error.errno is not None else _with_number(error))
        else:
            self._failed(OSError(errno.EPROTO, str(error)))

    async def _tcp(self) -> None:
        limit = self._options.connection.timeout
        self._carrier.setblocking(False)
        try:
            async with asyncio.timeout(limit):
                await self._thread.loop.sock_connect(self._carrier, self._address)
                self._sk.sockname = self._carrier.getsockname()
        except TimeoutError as error:
            raise TimeoutError(errno.ETIMEDOUT, f"TCP was not established within {limit:g} s") from error

    def _bridge(self) -> Bridge:
        self._thread.unwatch(self)
        return Bridge(self._thread, self._sk, self.near)

    def _failed(self, error: OSError) -> None:
        self._thread.count("refused")
        self._carrier.close()
        self._thread.unwatch(self)
        self._sk.failed(self.near, error)

    def on_hang_up(self) -> None:
        """The program does not wait any more."""
        if self._task is not None:
            self._task.cancel()

    leave = on_hang_up

    def waiting(self) -> int:
        """Nothing was sent yet."""
        return 0


def _with_number(error: OSError) -> OSError:
    return OSError(errno.ETIMEDOUT if isinstance(error, TimeoutError) else errno.ECONNRESET, str(error))


class Listening:
    """A listener: it takes streams, and hands each one's descriptor to the program through the pair of `sk`.

    So whoever has the program's end may accept, a forked child too; and what nobody accepts is closed by the system.
    """

    def __init__(
        self,
        thread: EngineThread,
        sk: IwarpSock,
        carrier: socket.socket,
        accepted: Callable[[int], IwarpSock],
    ) -> None:
        self._thread = thread
        self._sk = sk
        self.near = sk.take_near()
        self._carrier = carrier
        self._accepted = accepted
        self._task: asyncio.Task[None] | None = None
        self._listener: cm.Listener | None = None
        self._log = cm.FoldedLog(log)

    def set_backlog(self, backlog: int) -> None:
        """So many connections wait for the program, about; more wait in the system's queue."""
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(backlog, 1) * _FOR_ONE)

    def start(self) -> None:
        """Take peers until the program hangs up."""
        self._thread.watch(self)
        self._task = self._thread.loop.create_task(self._run())

    async def _run(self) -> None:
        connection = self._sk.options.connection
        try:
            self._listener = await cm.listen(
                None,
                0,
                connection.offer(b""),
                sock=self._carrier,
                make_tap=lambda: connection.tap(initiator=False),
            )
            await self._room()
            async for request in self._listener:
                self._take(request)
                await self._room()
        except OSError as error:
            log.error("%r listens no more: %s", self._carrier, error)
        finally:
            self._close()

    def _take(self, request: cm.ConnectRequest) -> None:
        try:
            far, near = pair()
        except OSError as error:
            self._log.say(logging.INFO, "a peer is not served", f"{request!r}: {error}")
            reject(request)  # which may have left: that ends nobody else's
            return
        with far:
            sk = self._accepted(os.fstat(far.fileno()).st_ino)
            if sk.sndbuf is not None:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sk.sndbuf)
            try:
                transport = accept(request, self._sk.stream_options(), lambda: Bridge(self._thread, sk, near))
            except (IwarpError, OSError) as error:
                near.close()
                self._log.say(logging.INFO, f"a peer is not served, {type(error).__name__}", f"{request!r}: {error}")
                return
            self._thread.count("accepted")
            news = json.dumps([transport.get_extra_info(name) for name in ("sockname", "peername")]).encode()
            try:
                socket.send_fds(self.near, [news], [far.fileno()])
            except OSError as error:  # the program has left
                log.info("%r is not accepted: %s", request, error)

    async def _room(self) -> None:
        """Wait until one more connection may wait for the program."""
        loop, free = self._thread.loop, asyncio.Event()
        loop.add_writer(self.near, free.set)
        try:
            await free.wait()
        finally:
            if self.near.fileno() >= 0:
                loop.remove_writer(self.near)

    def on_hang_up(self) -> None:
        """No process has the listening socket any more."""
        if self._task is not None:
            self._task.cancel()
        self._close()

    leave = on_hang_up

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._carrier.close()
        if self.near.fileno() >= 0:
            self._thread.loop.remove_writer(self.near)
            self._thread.unwatch(self)
            self.near.close()

    def waiting(self) -> int:
        """A listener sends nothing."""
        return 0
