"""The short way of posting: small Sends and Writes are framed where they are posted, and need no record of their own.

It takes what comes most and comes often: one element, or octets inline, into one FPDU, while nothing else waits to be
sent. The octets are copied, so nothing is pinned. Whatever is not ordinary is left to the plain way of `kinds`, which
alone judges and raises. The two ways give the same octets and completions; a property test holds them to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from pyiwarp.admission import QpCap
from pyiwarp.memory import TO_LIMIT
from pyiwarp.stream import Stream
from pyiwarp.work import Send, Write

__all__ = ["PROMPT", "payload_size"]


class Asker(Protocol):
    """The send queue that a request is posted to."""

    @property
    def pd(self) -> Any:
        """Whose memory may be used."""

    @property
    def cap(self) -> QpCap:
        """How much may be asked."""


def _write(request: Write, asker: Asker, stream: Stream) -> bool:
    sges, remote, _, inline, _, _ = request
    if len(sges) != 1 or inline is not None:
        return False
    region, start, nbytes = sges[0]
    to, stag, _ = remote
    if stag >> 32 or to < 0 or to >= TO_LIMIT or to + nbytes > TO_LIMIT:
        return False
    octets = region.glance(asker.pd, start, nbytes)
    return octets is not None and stream.write_now(octets, nbytes, stag, to)


def _send(request: Send, asker: Asker, stream: Stream) -> bool:
    sges, _, inline, inval_stag, solicited, _, _ = request
    if inval_stag is not None:
        return False
    if type(inline) is bytes:
        nbytes = len(inline)
        return not sges and nbytes <= asker.cap.max_inline and stream.send_now(inline, nbytes, solicited=solicited)
    if len(sges) != 1 or inline is not None:
        return False
    region, start, nbytes = sges[0]
    octets = region.glance(asker.pd, start, nbytes)
    return octets is not None and stream.send_now(octets, nbytes, solicited=solicited)


PROMPT: Final[Mapping[type, Callable[[Any, Asker, Stream], bool]]] = {Send: _send, Write: _write}
"""How each kind that can be framed at once is; False, and nothing done, if a request must go the plain way."""


def payload_size(request: Send | Write) -> int:
    """Octets of a request that was framed so."""
    return request.sges[0].nbytes if request.sges else len(request.inline or b"")
