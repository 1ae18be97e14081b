"""What one end has posted to its send queue: messages, words, and how many of each are on their way.

A few completions stand for all: only one of several messages is signaled.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pyiwarp import MemoryRegion, RemoteRegion
from pyiwarp.errors import QueueFull
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.ring import Outbox
from pyiwarp.sockets.wire import Op, Order
from pyiwarp.verbs import QueuePair, Send, SendRequest, Write

__all__ = ["MAX_ASIDES", "MAX_CONTROLS", "Posting"]

MAX_CONTROLS: Final = 4
"""Control messages on their way at once; an SGL word with its entry counts as two."""

MAX_ASIDES: Final = 8
"""Direct writes, offers of buffers and keep-alives on their way at once."""

SIGNAL_EACH: Final = 16
"""Every so many messages one has a completion at least, which stands for those before it."""


class _Sent(NamedTuple):
    """What a completion stands for: messages and octets of DATA, control messages, and what else was posted."""

    messages: int = 0
    octets: int = 0
    controls: int = 0
    asides: int = 0


_NOTHING: Final = _Sent()


class Posting:
    """The send queue of `qp` as one end uses it; messages are copied to `memory`, which is that of `source`."""

    def __init__(
        self, qp: QueuePair, order: Order, options: StreamOptions, source: MemoryRegion, memory: memoryview
    ) -> None:
        self._qp = qp
        self._order = order
        self._source = source
        self._outbox = Outbox(memory)
        self._max_message = options.max_message
        self._max_messages = options.send_queue
        self._signal_messages = min(SIGNAL_EACH, options.send_queue // 4)
        self._signal_octets = options.send_memory // 4
        self._unsaid = _NOTHING  # what the next completion will stand for
        self._signaled = 0  # requests that will have a completion
        self._messages = 0  # on their way, or not known to be with TCP
        self._controls = 0
        self._asides = 0

    @property
    def room(self) -> int:
        """Octets that the next message may have; 0 if there is no room for one."""
        return min(self._outbox.room, self._max_message) if self._messages < self._max_messages else 0

    @property
    def control_room(self) -> int:
        """Control messages that may be sent now."""
        return MAX_CONTROLS - self._controls

    @property
    def asides(self) -> int:
        """Direct writes, offers and keep-alives on their way."""
        return self._asides

    @property
    def idle(self) -> bool:
        """Whether everything is with TCP that was posted up to the last control message."""
        return not self._signaled

    def message(self, octets: memoryview, place: RemoteRegion) -> tuple[Write, Send]:
        """One message to be posted: a Write, and the word that tells of it."""
        nbytes = len(octets)
        source = self._source[self._outbox.put(octets)]
        self._messages += 1
        messages, waiting, _, _ = self._unsaid
        self._unsaid = _Sent(messages + 1, waiting + nbytes)
        write = Write((source,), place, signaled=False)
        if messages + 1 < self._signal_messages and waiting + nbytes < self._signal_octets:
            return write, Send(inline=self._order.word(Op.DATA, nbytes), signaled=False)
        return write, self.word(Op.DATA, nbytes)

    def word(self, op: Op, value: int, *, controls: int = 0, asides: int = 0) -> Send:
        """A word to be posted, whose completion stands for all before it."""
        return Send(inline=self._order.word(op, value), wr_id=self._stands_for(controls, asides))

    def aside(self, sges: tuple[MemoryRegion, ...], place: RemoteRegion) -> Write:
        """A Write to be posted that no word tells of; `check_asides` has found room for it."""
        return Write(tuple(region[:] for region in sges), place, wr_id=self._stands_for(0, 1))

    def check_asides(self) -> None:
        """Raises `QueueFull` if there is no room for one more."""
        if self._asides >= MAX_ASIDES:
            raise QueueFull(f"{self._asides} direct writes and offers are on their way")

    def post(self, *requests: SendRequest) -> None:
        """Post what the other methods have made, in this order."""
        if requests:
            self._qp.post_send_many(requests)

    def done(self, wr_id: object) -> None:
        """A request is complete, or was flushed."""
        if isinstance(wr_id, _Sent):  # else it was not signaled, and is flushed
            self._signaled -= 1
            self._messages -= wr_id.messages
            self._outbox.release(wr_id.octets)
            self._controls -= wr_id.controls
            self._asides -= wr_id.asides

    def _stands_for(self, controls: int, asides: int) -> _Sent:
        done, self._unsaid = self._unsaid._replace(controls=controls, asides=asides), _NOTHING
        self._signaled += 1
        self._controls += controls
        self._asides += asides
        return done
