"""What ends a stream, as the `OSError` that a sockets program expects.

The sections that the texts name are those of `docs/sockets.md`.
"""

from __future__ import annotations

import errno

from pyiwarp.errors import IwarpError

__all__ = ["NotSpoken", "PeerViolation", "StreamLost"]


class PeerViolation(IwarpError, ConnectionResetError):
    """The peer broke a rule of rsockets; the text has the value, the rule and its section."""

    def __init__(self, said: str, rule: str, section: str) -> None:
        super().__init__(errno.ECONNRESET, f"{said}: {rule} (docs/sockets.md, {section})")


class NotSpoken(IwarpError, ConnectionRefusedError):
    """No stream came to be: the peer rejects it, or speaks no MPA or no rsockets that this side knows."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ECONNREFUSED, why)


class StreamLost(IwarpError, ConnectionResetError):
    """The stream ended, and the peer had not said that it ends; `__cause__` is what the stack knows of it."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ECONNRESET, why)
