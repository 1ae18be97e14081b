"""How a stream is set up, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pyiwarp import Options, UsageError
from pyiwarp.bounds import check_count, check_seconds
from pyiwarp.sockets.wire import MAX_VALUE

__all__ = ["LEAST_QUEUE", "StreamOptions"]

LEAST_QUEUE: Final = 16
MOST_QUEUE: Final = 16_000
MOST_IOMAPS: Final = 0x7F00
LEAST_RING: Final = 512


def _usual() -> Options:
    """What librdmacm asks for: one Read, which nobody sends; an idle client is no error of a sockets program."""
    return Options(ird=1, ord=1, first_fpdu_timeout=None, extensions=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is set up; the two sides need not agree.

    `ring` is the memory that the peer writes, `send_memory` that from which this side writes, both in octets; of the
    ring one half is offered to the peer at a time. `recv_queue` messages may be unread, `send_queue` may be on
    their way. A message has `max_message` octets at most. `iomaps` is how many buffers the peer may offer for direct
    writes. With `keepalive` an empty Write is sent after so many seconds, again and again; `Options.keepalive` is
    another thing: when TCP itself probes a silent peer. `connection` has the options of the connection below; its
    `rtr`, `recv_depth`, `recv_size` and `send_depth` are not used.

    Raises `UsageError` for a value that is out of its bounds.
    """

    ring: int = 1 << 21
    send_memory: int = 1 << 19
    recv_queue: int = 384
    send_queue: int = 384
    max_message: int = 1 << 19
    iomaps: int = 0
    keepalive: float | None = None
    connection: Options = field(default_factory=_usual)

    def __post_init__(self) -> None:
        for name, least, most in (
            ("ring", LEAST_RING, 2 * MAX_VALUE),
            ("send_memory", LEAST_RING, MAX_VALUE),
            ("recv_queue", LEAST_QUEUE, MOST_QUEUE),
            ("send_queue", LEAST_QUEUE, MOST_QUEUE),
            ("max_message", 1, MAX_VALUE),
            ("iomaps", 0, MOST_IOMAPS),
        ):
            check_count(name, getattr(self, name), least, most, " (docs/sockets.md, §10 Limits)")
        if self.ring % 2:
            raise UsageError(f"ring is {self.ring}; it has two halves of the same size (docs/sockets.md, §5 Data)")
        if self.keepalive is not None:
            check_seconds("keepalive", self.keepalive, zero=False)
