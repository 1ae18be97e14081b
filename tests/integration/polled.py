"""Two polled connections in one thread, and a peer in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from pyiwarp import blocking
from pyiwarp.blocking import Connection
from pyiwarp.cm import polling_cm
from pyiwarp.connections.options import Options
from pyiwarp.mr import RemoteRegion
from pyiwarp.verbs import Context, QueuePair
from tests.hosts import HOST, keep_little
from tests.integration.loops import open_sockets
from tests.patience import PATIENCE


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if what runs inside leaves sockets behind."""
    before = open_sockets()
    yield
    deadline = monotonic() + PATIENCE
    while open_sockets() - before and monotonic() < deadline:
        blocking.wait_until(lambda: False, 0.002)
    assert not open_sockets() - before, f"sockets were left: {open_sockets() - before}"


def queue_pair() -> QueuePair:
    """A queue pair of a context of its own, for `connect_qp` and `accept_qp`."""
    pd = Context().alloc_pd()
    return pd.create_qp(pd.context.create_cq(8), pd.context.create_cq(8))


@contextmanager
def pair(left: Options | None = None, right: Options | None = None) -> Iterator[tuple[Connection, Connection]]:
    """Two connections joined over loopback, both of this thread: whoever waits moves both."""
    left, right = left or Options(), right or Options()
    with nothing_left():
        with blocking.listen(HOST, options=right) as listener:
            one = Connection(Context().alloc_pd(), left, owns_pd=True)
            connecting = polling_cm.Connecting(one.poller, one.qp, HOST, listener.port, left.offer(b""))
            other = listener.get_request(timeout=PATIENCE).accept()
            assert blocking.wait_until(lambda: connecting.finished, PATIENCE)
            if connecting.error is not None:
                one.abort()
                other.abort()
                raise connecting.error
            assert connecting.driver is not None
            one.attach(connecting.driver)
        try:
            yield one, other
        finally:
            for conn in (one, other):
                conn.qp.disconnect()
            for conn in (one, other):
                conn.close()


def hold_little(*connections: Connection) -> None:
    """Let the kernel keep little of what they send each other: else it may hold all that a test sends."""
    for connection in connections:
        assert connection._llp is not None
        keep_little(connection._llp._socket)


def exchange_advertisement(region: blocking.Region, one: Connection, other: Connection) -> RemoteRegion:
    """Tell the other side of a region, as programs do."""
    one.send(region.advertise(), timeout=PATIENCE)
    return RemoteRegion.parse(other.recv(timeout=PATIENCE))


class Peer:
    """A program that runs beside the test, in a thread of its own; its error is the test's."""

    def __init__(self, program: Callable[..., Any], *arguments: object) -> None:
        self.error: BaseException | None = None
        self.result: Any = None
        self._thread = threading.Thread(target=self._run, args=(program, *arguments), daemon=True)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        deadline = monotonic() + PATIENCE
        while self._thread.is_alive() and monotonic() < deadline:
            blocking.progress()  # it may need an answer from here
            self._thread.join(0.001)
        if kind is None:
            assert not self._thread.is_alive(), "the peer's program has not ended"
            if self.error is not None:
                raise self.error

    def _run(self, program: Callable[..., Any], *arguments: object) -> None:
        try:
            self.result = program(*arguments)
        except BaseException as error:
            self.error = error


def soon(condition: Callable[[], object]) -> None:
    """Make progress until it holds, by this thread's doing or another's; the test fails if it never does."""
    deadline = monotonic() + PATIENCE
    while not blocking.wait_until(condition, 0.005):
        assert monotonic() < deadline, "it never came true"
