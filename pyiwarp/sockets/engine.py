"""One end of a stream: rsockets above a queue pair, without sockets and without a clock.

It is given octets to send and completions, and posts work requests. Whoever owns it polls the completion queues, looks
at what has changed, and ends the queue pair when `finished` says so.
"""

from __future__ import annotations

from enum import Enum
from mmap import mmap
from typing import TYPE_CHECKING, Final

from pyiwarp import Access, MemoryRegion, RemoteRegion
from pyiwarp.errors import WrongState
from pyiwarp.sockets.credits import Granted, Owed
from pyiwarp.sockets.errors import PeerViolation
from pyiwarp.sockets.iomap import DirectWrites
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.posting import INLINE, MAX_ASIDES, MAX_CONTROLS, Posting
from pyiwarp.sockets.ring import Inbox
from pyiwarp.sockets.target import ENTRIES, TargetSgl
from pyiwarp.sockets.wire import (
    BIG,
    ENTRY_SIZE,
    IOMAP_ENTRY_SIZE,
    NATIVE,
    WORD_SIZE,
    Control,
    Hello,
    Op,
    Order,
    iomap_entries,
)
from pyiwarp.verbs import (
    Completion,
    ProtectionDomain,
    QpCap,
    QueuePair,
    Recv,
    Send,
    SendRequest,
    Sge,
    Status,
    WorkOpcode,
    Write,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["End", "Engine", "cap_for"]

SPARE_RECEIVES: Final = 8
"""Receives beyond those that the peer is told of: for words that credits do not count."""

POST_EACH: Final = 16
"""So many receives are posted again at once. Credits promise no more: they are granted when all are posted."""

_SUCCESS: Final = Status.SUCCESS
_SGL_SIZE: Final = ENTRIES * ENTRY_SIZE
_WORDS: Final = "§4 The message word"


def cap_for(options: StreamOptions) -> QpCap:
    """What the queue pair of a stream has to hold."""
    return QpCap(
        max_send_wr=2 * (options.send_queue + MAX_CONTROLS + MAX_ASIDES),
        max_recv_wr=options.recv_queue + SPARE_RECEIVES,
        max_sge=1,
        max_inline=INLINE,
    )


class End(Enum):
    """What one direction of a stream has come to."""

    OPEN = "open"
    SHUT = "shut down"
    DISCONNECTED = "disconnected"


class Engine:
    """One end of a stream on `qp`, a queue pair that `cap_for` describes and that is not connected yet.

    `hello` goes into this side's startup frame; `begin` takes that of the peer. `reading` and `writing` say which
    directions are open, `direct` writes without words. `order` is this side's byte order, for tests.
    """

    def __init__(self, pd: ProtectionDomain, qp: QueuePair, options: StreamOptions, order: Order = NATIVE) -> None:
        self._pd = pd
        self._qp = qp
        self._order = order
        self.reading = self.writing = End.OPEN
        self.open = True
        """Whether both directions are open."""
        self._ring, ring = self._register(options.ring, Access.REMOTE_WRITE)
        self._inbox = Inbox(ring)
        self.peek = self._inbox.peek
        """Gives the next octets that can be read, as many as lie in one piece; valid until they are consumed."""
        self._posting = Posting(qp, order, options, *self._register(options.send_memory, Access(0)))
        self._largest, self._largest_small = options.max_message, min(INLINE, options.max_message)
        iomaps = iomap_entries(options.iomaps)
        self._tables, self._table = self._register(_SGL_SIZE + iomaps * IOMAP_ENTRY_SIZE, Access.REMOTE_WRITE)
        self.direct = DirectWrites(pd, self._posting, self._table[_SGL_SIZE:], order)
        self._receives, self._words = self._post_receives(options.recv_queue + SPARE_RECEIVES)
        self._used: list[Recv] = []  # receives whose words were read, to be posted again together
        self._owed = Owed(options.recv_queue)
        self._hello = Hello(
            credits=options.recv_queue,
            target_sgl=(self._tables.to, self._tables.stag, ENTRIES),
            data_buffer=self._ring[: options.ring // 2].remote(),
            big_endian=order is BIG,
            iomaps=iomaps,
        )
        self._peer: Hello | None = None
        self._peer_order = order
        self._number = order.number
        self._granted = Granted(0)
        self._target: TargetSgl | None = None
        self._next_entry = 1  # of the peer's array
        self._waiting: Control | None = None  # for room

    def __repr__(self) -> str:
        peer = "" if self._peer is None else f", the peer takes {self._peer.credits} messages"
        return f"<Engine reading {self.reading.value} writing {self.writing.value}{peer}>"

    def register(self, buffer: Buffer) -> MemoryRegion:
        """Memory of the program's, which the peer of this queue pair alone may write."""
        return self._pd.register(buffer, Access.LOCAL_WRITE | Access.REMOTE_WRITE, qp=self._qp)

    def _register(self, nbytes: int, access: Access) -> tuple[MemoryRegion, memoryview]:
        """Zeros that the peer of this queue pair alone reaches, and a view of them that outlives the region."""
        memory = mmap(-1, nbytes)  # pages that nothing was placed in cost nothing
        return self._pd.register(memory, access, qp=self._qp), memoryview(memory)

    def _post_receives(self, count: int) -> tuple[list[Recv], memoryview]:
        region, words = self._register(count * WORD_SIZE, Access.LOCAL_WRITE)
        new = tuple.__new__  # hundreds of them: their own constructors take three times as long
        receives = [new(Recv, ((new(Sge, (region, at * WORD_SIZE, WORD_SIZE)),), at)) for at in range(count)]
        self._qp.post_recv_many(receives)
        return receives, words

    # --- the beginning -----------------------------------------------------------------------------------------------

    @property
    def hello(self) -> bytes:
        """The private data of this side's startup frame."""
        return bytes(self._hello)

    def begin(self, hello: bytes) -> None:
        """The queue pair is connected, and these are the peer's private data; raises `NotSpoken`.

        The peer may write the second half of the ring from now on, and this side has spoken: an MPA Responder waits for
        that (RFC 5044 §7.1.2).
        """
        self._peer = Hello.parse(hello)
        self._peer_order = self._peer.order
        self._number = self._peer_order.number
        self._granted = Granted(self._peer.credits)
        self._target = TargetSgl(self._table[:_SGL_SIZE], self._order, self._peer.data_buffer)
        self.direct.begin(self._peer, self._granted)
        self.look()

    # --- sending -----------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many octets `send` takes as one message now: 0 if it has to wait for the peer or for TCP."""
        if self._target is None or self.writing is not End.OPEN or not self._granted.left:
            return 0
        here, there = self._posting.room, self._target.room
        return here if here < there else there

    @property
    def under_way(self) -> bool:
        """Whether messages have not come to TCP yet: a completion will tell, and more octets may wait for it."""
        return self._posting.messages > 0

    def send(self, octets: bytes | bytearray | memoryview) -> int:
        """Take octets for the peer, as many as there is room for; returns how many. They may change after that.

        Raises `WrongState` once this direction is shut down.
        """
        if self.writing is not End.OPEN:
            raise WrongState(f"octets are sent, but this direction is {self.writing.value}")
        if type(octets) is bytes and 0 < len(octets) <= self.room:
            self._posting.post(*self._message(octets, alone=True))
            return len(octets)
        requests: list[SendRequest] = []
        done = 0
        with memoryview(octets) as view:
            while done < len(view) and (nbytes := min(self.room, len(view) - done)):
                requests += self._message(view[done : done + nbytes], alone=False)
                done += nbytes
        self._posting.post(*requests)
        return done

    def send_small(self, octets: bytes) -> bool:
        """The fast way of `send` for few octets: one message past the batches; False, and nothing done, if it waits.

        So it is where they would not be one message, too.
        """
        target, granted, nbytes = self._target, self._granted, len(octets)
        if target is None or not (granted.left and self.open and 0 < nbytes <= target.room):
            return False
        if nbytes > self._largest_small or nbytes >= self._posting.outbox.room:
            return False
        if not self._qp.pair_small((target.stag, target.to, octets), self._order.data(nbytes)):
            return False
        target.spend(nbytes)
        granted.spend()
        return True

    def send_large(self, octets: memoryview) -> int:
        """The fast way of `send` for many octets: messages past the batches, which are not copied if TCP takes them.

        Returns how many octets were taken; what is left goes the plain way, or has to wait.
        """
        target, granted, posting, done = self._target, self._granted, self._posting, 0
        if target is None or not self.open:
            return 0
        while done < len(octets) and granted.left and not posting.messages:
            message = octets[done : done + min(target.room, self._largest)]
            nbytes = len(message)
            if not nbytes:
                break
            if not posting.message_alone((target.stag, target.to, message), self._order.data(nbytes)):
                break
            target.spend(nbytes)
            granted.spend()
            done += nbytes
        return done

    def _message(self, octets: bytes | memoryview, *, alone: bool) -> tuple[Write, Send]:
        assert self._target is not None, "there is room"
        self._granted.spend()
        return self._posting.message(octets, self._target.advance(len(octets)), alone=alone)

    def on_completion(self, completion: Completion) -> None:
        """A work request of the queue pair is complete.

        Raises `PeerViolation` for a word that may not come here; the stream is then to be ended.
        """
        if completion.opcode is WorkOpcode.RECV:
            if completion.status is _SUCCESS and self.reading is not End.DISCONNECTED:
                self._on_received(completion)
            return  # words behind DISCONNECT mean nothing any more
        self._posting.done(completion.wr_id)
        if self._waiting is not None and self._posting.control_room:
            waiting, self._waiting = self._waiting, None
            self._control(waiting)

    # --- receiving ---------------------------------------------------------------------------------------------------

    @property
    def readable(self) -> int:
        """Octets that can be read; also after the end of the connection."""
        return self._inbox.readable

    def consume(self, nbytes: int) -> None:
        """So many of these octets are read. What is not consumed keeps the peer from sending more."""
        self._owed.read(self._inbox.consume(nbytes))

    def read(self, limit: int) -> bytes:
        """Take up to `limit` octets; empty if there are none, or if `reading` has ended behind them."""
        octets = bytes(self.peek()[:limit])
        self.consume(len(octets))
        return octets

    def take_alone(self, word: memoryview) -> memoryview | None:
        """The fast way of `on_completion`, `peek` and `consume`: the octets that a DATA word tells of, if all are here.

        They count as read, and are good until the peer is given credit again. None, and nothing done, if other octets
        are unread, or if the plain way has to look at the word.
        """
        inbox = self._inbox
        if inbox.readable or len(word) != WORD_SIZE or not self.open:
            return None
        (nbytes,) = self._number(word)
        if not 0 < nbytes <= inbox.left or not self._owed.pass_by():
            return None
        return inbox.pass_by(nbytes)

    def _on_received(self, completion: Completion) -> None:
        """A message word has come."""
        slot = completion.wr_id
        assert isinstance(slot, int), "receives are numbered by their slot"
        if completion.nbytes != WORD_SIZE or completion.immediate is not None or completion.inval_stag is not None:
            raise PeerViolation(
                f"a message of {completion.nbytes} octets", f"a word is a Send of {WORD_SIZE} octets", _WORDS
            )
        op, value = self._peer_order.read_word(self._words, slot * WORD_SIZE)
        self._used.append(self._receives[slot])
        if op == Op.DATA:
            self._owed.came()
            self._inbox.landed(value)  # also behind SHUTDOWN: C programs may send there
            if len(self._used) >= POST_EACH:
                self._post_used()
        else:
            self._post_used()  # credits do not count it: its receive is for another such word
            self._on_word(op, value)

    def _post_used(self) -> None:
        """Post the receives again whose words were read."""
        used, self._used = self._used, []
        self._qp.post_recv_many(used)

    def _on_word(self, op: int, value: int) -> None:
        if op == Op.SGL:
            assert self._target is not None
            self._granted.renew(value & 0xFFFF)
            self._target.look()
        elif op == Op.IOMAP:
            self._owed.came()
            self._owed.read(1)
            self.direct.on_offer(value)
        elif op == Op.CTRL:
            self._on_control(value)
        else:
            raise PeerViolation(f"the word {op << 29 | value:#010x}", "the ops 1, 2, 3 and 5 are reserved", _WORDS)

    def _on_control(self, value: int) -> None:
        if value != Control.KEEPALIVE:
            self.open = False
        if value == Control.DISCONNECT:
            self.reading = self.writing = End.DISCONNECTED
        elif value == Control.SHUTDOWN:
            self.reading = End.SHUT if self.reading is End.OPEN else self.reading
            if self.writing is not End.OPEN:
                self.reading = self.writing = End.DISCONNECTED
        elif value != Control.KEEPALIVE:
            raise PeerViolation(f"CTRL {value}", "the controls are 0, 1 and 2", _WORDS)

    # --- giving credit -----------------------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether `look` would tell the peer something, if there is room for it."""
        return (self._inbox.can_offer or self._owed.due) and self.reading is End.OPEN

    def look(self) -> None:
        """Tell the peer what it may send, if that is worth a message; to be called when something has changed."""
        if self._peer is None or self.reading is not End.OPEN:
            return
        while self._posting.control_room >= 2:
            half = self._inbox.offer()
            if half is None:
                if self._owed.due:
                    self._posting.post(self._posting.word(Op.SGL, self._grant(), controls=1))
                return
            self._offer(self._ring[half].remote(), self._peer)

    def _offer(self, half: RemoteRegion, peer: Hello) -> None:
        to, stag, entries = peer.target_sgl
        entry = RemoteRegion(to + self._next_entry * ENTRY_SIZE, stag, ENTRY_SIZE)
        self._next_entry = (self._next_entry + 1) % entries
        self._posting.tell(entry, peer.order.entry(half), Op.SGL, self._grant(), controls=2)

    def _grant(self) -> int:
        if self._used:
            self._post_used()
        return self._owed.grant()

    # --- the end -----------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """No more octets will be sent: the peer reads what was sent, then the end. Reading goes on."""
        if self.writing is not End.OPEN:
            return
        if self.reading is not End.OPEN:
            self.disconnect()
            return
        self.writing = End.SHUT
        self.open = False
        self._control(Control.SHUTDOWN)

    def disconnect(self) -> None:
        """End both directions: the peer reads what was sent, then the end."""
        if self.writing is not End.DISCONNECTED:
            self.reading = self.writing = End.DISCONNECTED
            self.open = False
            self._control(Control.DISCONNECT)

    def _control(self, control: Control) -> None:
        if not self._posting.control_room:
            self._waiting = control  # DISCONNECT replaces a SHUTDOWN that waits
            return
        self._posting.post(self._posting.word(Op.CTRL, control, controls=1))

    def keep_alive(self) -> None:
        """Send an empty Write: TCP finds out whether the peer is there."""
        if self._peer is not None and not self._posting.asides:  # else TCP has something of ours as it is
            self._posting.post(self._posting.aside((), RemoteRegion(0, 0, 0)))

    @property
    def finished(self) -> bool:
        """Whether both directions have ended and all of this side's messages are with TCP."""
        return self.writing is End.DISCONNECTED and self._posting.idle
