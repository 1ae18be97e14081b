"""What one end has posted to its send queue: messages, words, and how many of each are on their way."""

from __future__ import annotations

from typing import Final, NamedTuple

from pyiwarp import MemoryRegion, RemoteRegion
from pyiwarp.errors import QueueFull
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.ring import Outbox
from pyiwarp.sockets.wire import Op, Order
from pyiwarp.verbs import QueuePair, Send, SendRequest, Sge, Write

__all__ = ["INLINE", "MAX_ASIDES", "MAX_CONTROLS", "Posting"]

MAX_CONTROLS: Final = 4
"""Control messages on their way at once; an SGL word with its entry counts as two."""

MAX_ASIDES: Final = 8
"""Direct writes, offers of buffers and keep-alives on their way at once."""

INLINE: Final = 1024
"""Messages of so many octets are copied by the work request itself; longer ones lie in the sending ring."""


class _Aside(NamedTuple):
    """What the completion of anything but a message stands for."""

    controls: int
    asides: int


class Posting:
    """The send queue of `qp` as one end uses it; messages are copied to `memory`, which is that of `source`.

    A small message that finds the send queue empty has no completion: nearly always TCP has it before `post` returns.
    """

    def __init__(
        self, qp: QueuePair, order: Order, options: StreamOptions, source: MemoryRegion, memory: memoryview
    ) -> None:
        self._qp = qp
        self._order = order
        self._source = source
        self.outbox = Outbox(memory)
        """The sending ring."""
        self._max_message = options.max_message
        self._max_messages = options.send_queue
        self._send_room = qp.cap.max_send_wr
        self._signaled = 0  # requests that will have a completion
        self.messages = 0
        """Messages that have not come to TCP yet, of those whose completion will tell when they have."""
        self._controls = 0
        self._asides = 0

    @property
    def room(self) -> int:
        """Octets that the next message may have; 0 if there is no room for one."""
        if self.messages >= self._max_messages:
            return 0
        room, most = self.outbox.room, self._max_message
        return room if room < most else most

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
        """Whether everything is with TCP that was posted, up to the last request that has a completion."""
        return not self._signaled

    def message(self, octets: bytes | memoryview, place: RemoteRegion, *, alone: bool) -> tuple[Write, Send]:
        """One message to be posted: a Write, and the word that tells of it; `alone` if no other is posted with it."""
        nbytes = len(octets)
        word = self._order.word(Op.DATA, nbytes)
        if nbytes > INLINE or nbytes == self.outbox.room:  # else the end of the ring would never be passed
            sge = Sge(self._source, self.outbox.put(octets), nbytes)
            return Write((sge,), place, None, None, False), self._signal(word, nbytes)
        write = Write((), place, None, bytes(octets), False)
        if alone and self._qp.send_room == self._send_room:
            return write, Send((), None, word, None, False, False)
        return write, self._signal(word, 0)

    def message_alone(self, ahead: tuple[int, int, memoryview], word: bytes) -> bool:
        """The fast way of `message` and `post` for many octets, which are not in the sending ring.

        `ahead` is their Write: STag, TO, octets. False, and nothing done, if something else is on its way.
        """
        waits = self._qp.pair_large(ahead, word, 0)
        if waits:
            self._signaled += 1
            self.messages += 1
        return waits is not None

    def tell(self, place: RemoteRegion, octets: bytes, op: Op, value: int, *, controls: int) -> None:
        """Post a Write of a few octets to `place`, and the word that tells of it."""
        word, stands_for = self._order.word(op, value), _Aside(controls, 0)
        waits = self._qp.pair_large((place.stag, place.to, memoryview(octets)), word, stands_for)
        if waits is False:
            return
        self._signaled += 1
        self._controls += controls
        if waits is None:
            self.post(Write((), place, None, octets, False), Send((), stands_for, word))

    def _signal(self, word: bytes, nbytes: int) -> Send:
        self._signaled += 1
        self.messages += 1
        return Send((), nbytes, word)

    def word(self, op: Op, value: int, *, controls: int = 0, asides: int = 0) -> Send:
        """A word to be posted."""
        return Send((), self._stands_for(controls, asides), self._order.word(op, value))

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
        if wr_id is None:
            return  # it was not signaled, and is flushed
        self._signaled -= 1
        if isinstance(wr_id, _Aside):
            self._controls -= wr_id.controls
            self._asides -= wr_id.asides
        else:
            assert isinstance(wr_id, int), "a message is numbered by its octets in the sending ring"
            self.messages -= 1
            self.outbox.release(wr_id)

    def _stands_for(self, controls: int, asides: int) -> _Aside:
        self._signaled += 1
        self._controls += controls
        self._asides += asides
        return _Aside(controls, asides)
