"""How long TCP lets a peer be silent: what programs may say, for connections and identifiers alike."""

from __future__ import annotations

from pyiwarp.bounds import check_seconds
from pyiwarp.drivers import tcp
from pyiwarp.errors import UsageError

__all__ = ["check_silence"]


def check_silence(keepalive: float | None, user_timeout: float | None) -> None:
    """Raises `UsageError` for a time out of bounds, and for what the platform's sockets cannot do."""
    for name, seconds, most in (
        ("keepalive", keepalive, tcp.LONGEST_KEEPALIVE),
        ("user_timeout", user_timeout, tcp.LONGEST_USER_TIMEOUT),
    ):
        if seconds is not None:
            check_seconds(name, seconds, zero=False)
            if seconds > most:
                raise UsageError(f"{name} is {seconds} seconds; TCP takes {most} at most")
    tcp.check_silence(keepalive, user_timeout)
