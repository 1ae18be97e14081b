"""TCP to a host of several addresses, polled: they race, each with a head start over the next (RFC 8305)."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from pyiwarp.cm.addresses import ATTEMPT_DELAY, Address, TcpSocket, check_port, in_turns, local_end, not_connected
from pyiwarp.cm.handshake import not_established
from pyiwarp.drivers.poller import NEVER, Poller
from pyiwarp.drivers.readiness import WRITABLE

__all__ = ["Dialer", "resolve"]

_UNDER_WAY: Final = 0, errno.EINPROGRESS, errno.EWOULDBLOCK  # the last on Windows


def resolve(host: str | None, port: int, flags: int = 0) -> list[Address]:
    """The addresses of `host`; takes the resolver's time. Raises `OSError` if there is none."""
    check_port(port)
    return Address.each_of(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


class _Attempt:
    """TCP to one address, under way."""

    def __init__(self, address: Address, sock: socket.socket, dialer: Dialer) -> None:
        self.address = address
        self.sock = sock
        self.deadline = NEVER
        self._dialer = dialer

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self.sock.fileno()

    def ready(self, happened: int) -> None:
        """It has come to its end."""
        self._dialer.ended(self, self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def expired(self) -> None:
        """It is time for the next attempt, or for none."""
        self.deadline = NEVER
        self._dialer.on_time()


class Dialer:
    """Connects to the first of the `addresses` of `target` that answers; tells `done` of the socket or of the error.

    All together have `timeout` seconds; None is as long as TCP tries.
    """

    def __init__(
        self,
        poller: Poller,
        target: tuple[str, int],
        addresses: Sequence[Address],
        local_host: str | None,
        timeout: float | None,
        done: Callable[[socket.socket | None, Exception | None], None],
    ) -> None:
        self._poller = poller
        self._target = target
        self._locals = None if local_host is None else resolve(local_host, 0)
        self._timeout = timeout
        self._done = done
        self._left = deque(in_turns(addresses))
        self._attempts: list[_Attempt] = []
        self._errors: list[OSError] = []
        self._deadline = NEVER if timeout is None else monotonic() + timeout

    def next(self) -> None:
        """Begin with the next address, if one is left; `done` may be called before this returns."""
        while self._left:
            attempt = self._begin(self._left.popleft())
            if attempt is not None:
                self._attempts.append(attempt)
                break
        if self._attempts:
            self._watch_time()
        else:
            self._done(None, not_connected(*self._target, self._errors))

    def ended(self, attempt: _Attempt, code: int) -> None:
        """An attempt has succeeded, or failed with the error number `code`."""
        self._release(attempt)
        if code:
            attempt.sock.close()
            self._errors.append(OSError(code, os.strerror(code)))
            self.next()
        else:
            self.cancel()
            self._done(attempt.sock, None)

    def on_time(self) -> None:
        """The newest attempt had its head start, or all of them their time."""
        if monotonic() < self._deadline:
            self.next()
        else:
            self.cancel()
            assert self._timeout is not None, "only a limit can be over"
            self._done(None, not_established(*self._target, self._timeout))

    def cancel(self) -> None:
        """Stop trying; `done` is not called."""
        self._left.clear()
        for attempt in list(self._attempts):
            self._release(attempt)
            attempt.sock.close()

    def _begin(self, address: Address) -> _Attempt | None:
        try:
            sock = TcpSocket(address.family, address.kind, address.protocol)
        except OSError as error:
            self._errors.append(error)
            return None
        try:
            sock.setblocking(False)
            if self._locals is not None:
                sock.bind(local_end(self._locals, address.family))
            code = sock.connect_ex(address.address)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code not in _UNDER_WAY:
            sock.close()
            self._errors.append(OSError(code, os.strerror(code)))
            return None
        attempt = _Attempt(address, sock, self)
        self._poller.watch(attempt, WRITABLE)  # which reports it, even if it is established at once
        return attempt

    def _watch_time(self) -> None:
        """The newest attempt keeps the time for all."""
        newest = self._attempts[-1]
        before = newest.deadline
        newest.deadline = min(self._deadline, monotonic() + ATTEMPT_DELAY) if self._left else self._deadline
        self._poller.look_at_time(newest.deadline, before)

    def _release(self, attempt: _Attempt) -> None:
        self._poller.forget(attempt)
        self._attempts.remove(attempt)
