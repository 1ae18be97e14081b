"""The fast way of posting: small Sends and Writes are framed by the call that posts them, without a `Posted`.

It takes requests of one element, or with inline data, that fit one FPDU, while nothing else waits to be sent. It copies
the octets, so it pins no memory. All other requests go the plain way of `request_kinds`, which alone judges and raises.
Both ways give the same octets and completions; `tests/property/test_fast_posting.py` holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from pyiwarp.access import TO_LIMIT
from pyiwarp.engine.stream import Stream
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.work import Send, Write

__all__ = ["FAST_POST", "payload_size"]


class Asker(Protocol):
    """The send queue that a request is posted to."""

    @property
    def pd(self) -> Any:
        """Whose memory may be used."""

    @property
    def cap(self) -> QpCap:
        """How much may be asked."""


Requests = Sequence[Any]


def _writes(requests: Requests, first: int, asker: Asker, stream: Stream) -> int:
    pd = asker.pd
    messages = []
    for index in range(first, len(requests)):
        request = requests[index]
        if type(request) is not Write:
            break
        sges, remote, _, inline, _, _ = request
        if len(sges) != 1 or inline is not None:
            break
        region, start, nbytes = sges[0]
        to, stag = remote.to, remote.stag
        if stag >> 32 or to < 0 or to >= TO_LIMIT or to + nbytes > TO_LIMIT:
            break
        octets = region.source_view(pd, start, nbytes)
        if octets is None:
            break
        messages.append((stag, to, octets, nbytes))
    return stream.write_now(messages)


def _send(requests: Requests, first: int, asker: Asker, stream: Stream) -> int:
    sges, _, inline, inval_stag, solicited, _, _ = requests[first]
    if inval_stag is not None:
        return 0
    if type(inline) is bytes:
        nbytes = len(inline)
        return 0 if sges or nbytes > asker.cap.max_inline else stream.send_now(inline, nbytes, solicited=solicited)
    if len(sges) != 1 or inline is not None:
        return 0
    region, start, nbytes = sges[0]
    octets = region.source_view(asker.pd, start, nbytes)
    return 0 if octets is None else stream.send_now(octets, nbytes, solicited=solicited)


FAST_POST: Final[Mapping[type, Callable[[Requests, int, Asker, Stream], int]]] = {Send: _send, Write: _writes}
"""How one of a list of requests is framed at once, and others of its kind behind it; returns how many were."""


def payload_size(request: Send | Write) -> int:
    """Octets of the payload of a request that was framed when it was posted."""
    return request.sges[0][2] if request.sges else len(request.inline or b"")
