"""One try after the other to connect a queue pair to its peer, until the peer is there or nobody wants it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyiwarp import blocking
from pyiwarp.codes import Rtr
from pyiwarp.pyverbs.core import Core, Timer
from pyiwarp.verbs import QueuePair

__all__ = ["Attempts", "offer", "patience"]

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25
_ACK_TIMEOUT: Final = 4.096e-6
"""Seconds: the unit of a queue pair's timeout, which counts its doublings."""
_LEAST_PATIENCE: Final = 5.0
"""Seconds: a peer has so long at least; one that is another process may only be starting."""


def offer(private_data: bytes, ird: int, ord: int) -> blocking.Offer:
    """What a queue pair brings to MPA startup: one Read more than asked for, which confirms completions."""
    return blocking.Offer(
        private_data=private_data,
        ird=max(2, ird + 1),
        ord=max(2, ord + 1),
        rtr=Rtr.WRITE | Rtr.READ,
        open_at_once=True,
        timeout=None,
        first_fpdu_timeout=None,
    )


def patience(timeout: int, retry_cnt: int) -> float | None:
    """For how many seconds a peer may be absent; None, if the timeout is 0, is for ever."""
    if not timeout:
        return None
    return max(_LEAST_PATIENCE, _ACK_TIMEOUT * (1 << timeout) * (retry_cnt + 1))


class Attempts:
    """Tries to connect `qp` from `local_host` to `host` and `port`; `on_connected` is called when that is done.

    It is made, cancelled, and goes on while the poller is held.
    """

    def __init__(
        self,
        core: Core,
        qp: QueuePair,
        local_host: str,
        host: str,
        port: int,
        offered: blocking.Offer,
        on_connected: Callable[[], None],
    ) -> None:
        self._core = core
        self._qp = qp
        self._local_host = local_host
        self._place = host, port
        self._offer = offered
        self._on_connected = on_connected
        self._over = False
        self._pause = _FIRST_PAUSE
        self._connecting: blocking.Connecting | None = None
        self._timer: Timer | None = None
        self._try()

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()

    def _try(self) -> None:
        if self._over:
            return
        host, port = self._place
        try:
            self._connecting = blocking.start_connect_qp(
                self._qp, host, port, self._offer, local_host=self._local_host, on_finished=self._finished
            )
        except OSError:
            self._again()

    def _finished(self, connecting: blocking.Connecting) -> None:
        if self._over:
            return
        if connecting.error is None:
            self._over = True
            self._on_connected()
        else:
            self._again()

    def _again(self) -> None:
        self._timer = self._core.later(self._pause, self._try)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
