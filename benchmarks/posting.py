"""How work requests are posted: as one list where the queue pair takes lists, else one by one."""

from __future__ import annotations

from collections.abc import Sequence

from pyiwarp.verbs import QueuePair, SendRequest

__all__ = ["post_all"]


def post_all(qp: QueuePair, requests: Sequence[SendRequest]) -> None:
    """Post all of `requests` to the send queue, in order."""
    many = getattr(qp, "post_send_many", None)
    if many is not None:
        many(requests)
        return
    for request in requests:
        qp.post_send(request)
