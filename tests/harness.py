"""Two ways to test the engine without sockets: `Pair`, two queue pairs, and `RawPeer`, one that may say anything.

Both play the driver's part: octets, time and the network are in the test's hands. `RawPeer` frames with its own
arithmetic after the RFCs' text and shares with the engine only the definitions in `wire`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from crc32c import crc32c

from pyiwarp import wire
from pyiwarp.buffers import give_buffer, take_buffer
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.drivers.asyncio_driver import Pump
from pyiwarp.errors import Term
from pyiwarp.fastwire import ReadRequest
from pyiwarp.mr import Access, MemoryRegion
from pyiwarp.negotiation import Agreement, Offer, Role
from pyiwarp.pump import TURN_FPDUS
from pyiwarp.queues.work import Completion, Recv, SendRequest, Status
from pyiwarp.queues.work import Send as SendWork
from pyiwarp.startup import Startup, StartupState
from pyiwarp.verbs import Context, QueuePair

Octets = bytes | bytearray | memoryview
Chunks = Callable[[], int]

MARKER_SPACING: Final = 512
REMOTE: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
EVERYTHING: Final = 1 << 30


def agreed(role: Role = Role.INITIATOR, **changes: Any) -> Agreement:
    """What startup usually settles."""
    usual = Agreement(
        role=role,
        revision=2,
        crc=True,
        send_markers=False,
        receive_markers=False,
        ird=4,
        ord=4,
        private_data=b"",
    )
    return replace(usual, **changes)


class Node:
    """One side's verbs objects."""

    def __init__(
        self, context: Context | None = None, *, depth: int = 4096, shared: bool = False, **qp_options: Any
    ) -> None:
        for buffer in [take_buffer(), take_buffer()]:
            give_buffer(buffer)  # both nodes of a pair have one to spare, whatever the streams of other tests hold
        self.context = context or Context()
        self.events = self.context.async_events  # they are kept from now on
        self.pd = self.context.alloc_pd()
        self.send_cq = self.context.create_cq(depth)
        self.recv_cq = self.context.create_cq(depth)
        late = qp_options.get("judge_receives_late", False)
        self.srq = self.pd.create_srq(judge_receives_late=late) if shared else None
        if self.srq is not None:
            qp_options["srq"] = self.srq
        self.qp: QueuePair = self.pd.create_qp(self.send_cq, self.recv_cq, **qp_options)

    def region(self, octets: int | Octets, access: Access = REMOTE) -> MemoryRegion:
        """Registered memory of that many zeros, or with these octets in it."""
        return self.pd.register(bytearray(octets), access)

    def receive(self, size: int = 64, wr_id: object = None) -> MemoryRegion:
        """Post a receive with memory of its own."""
        region = self.region(size, Access.LOCAL_WRITE)
        (self.qp if self.srq is None else self.srq).post_recv(Recv((region[:],) if size else (), wr_id))
        return region

    def post(self, *requests: SendRequest) -> None:
        for request in requests:
            self.qp.post_send(request)

    def send(self, octets: bytes, wr_id: object = None, **fields: Any) -> None:
        self.qp.post_send(SendWork(wr_id=wr_id, inline=octets, **fields))

    def sent(self) -> list[Completion]:
        """Completions of the send queue that have come since."""
        return self.send_cq.poll()

    def received(self) -> list[Completion]:
        """Completions of the receive queue that have come since."""
        return self.recv_cq.poll()


def ended(completions: Iterable[Completion]) -> list[tuple[object, Status]]:
    """Which work requests ended how."""
    return [(completion.wr_id, completion.status) for completion in completions]


def octets_of(region: MemoryRegion) -> bytes:
    return bytes(region.view)


class End:
    """A pump and its driver: what is on the way to it, and what it has said."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.incoming = bytearray()  # octets that TCP holds for it
        self.fin_coming = self.reset_coming = False
        self.clogged = False  # set it and the kernel takes nothing: what was written is not flushed
        self.unflushed = False
        self.sent_fin = False
        self.got_fin = False
        self.closed = False
        self.said = bytearray()
        self.tamper: Callable[[bytes], bytes] = bytes

    def write(self, peer: End) -> bool:
        """Ask the pump for octets and give them to TCP; as `AsyncioDriver` does."""
        if self.closed:
            return False
        self.pump.resume()
        if self.unflushed and not self.clogged:
            self.unflushed = False
            self.pump.flushed()
        if self.unflushed:
            return False
        iov = self.pump.next_iov()
        octets = b"".join(iov)
        if iov:
            self.said += octets
            peer.incoming += self.tamper(octets)
            self.unflushed = True
            if not self.clogged:
                self.unflushed = False
                self.pump.flushed()
        return bool(iov)

    def read(self, chunk: int) -> bool:
        """Give the pump at most `chunk` of the octets that TCP holds, or the FIN behind them, or its next turn."""
        if self.pump.behind:
            self.pump.proceed()
            return True
        if self.closed or not self.pump.wants_input:
            return False
        if self.incoming:
            view = self.pump.receive_view()
            assert len(view), "a receive view is never empty"
            nbytes = min(len(view), max(1, chunk), len(self.incoming))
            view[:nbytes] = self.incoming[:nbytes]
            del self.incoming[:nbytes]
            self.pump.received(nbytes)
            return True
        if self.fin_coming and not self.got_fin:
            self.got_fin = True
            self.pump.received_eof()
            return True
        if self.reset_coming:
            self.lose(ConnectionResetError("reset by the other end"))
            return True
        return False

    def settle(self, peer: End) -> bool:
        """Close what the pump is done with."""
        if self.closed:
            return False
        if self.pump.over:
            self.closed = True
            peer.reset_coming = self.pump.broken
            peer.fin_coming = not peer.reset_coming
            self.pump.lost(None)
            return True
        if self.pump.output_ended and not self.sent_fin and not self.unflushed:
            self.sent_fin = peer.fin_coming = True
            return True
        return False

    def expire(self) -> None:
        """The present wait took too long."""
        limit = self.pump.time_limit()
        assert limit is not None, "the pump waits for nothing"
        self.pump.timed_out(limit)

    def lose(self, cause: Exception | None = None) -> None:
        """TCP breaks."""
        self.closed = True
        self.pump.lost(cause or ConnectionResetError("cut by the test"))


class Pair:
    """Two queue pairs joined without sockets; startup has happened, as Initiator and Responder.

    `chunk` is how many octets each delivery carries at most, or a function that says it each time. `prepare` is called
    with the two sides before startup: an opening Send needs a receive. `nodes` are two sides that exist already.
    """

    def __init__(
        self,
        *,
        initiator: Offer | None = None,
        responder: Offer | None = None,
        chunk: int | Chunks = EVERYTHING,
        emss: int = 1448,
        opened: bool = True,
        prepare: Callable[[Node, Node], object] | None = None,
        nodes: tuple[Node, Node] | None = None,
        **qp_options: Any,
    ) -> None:
        self.left, self.right = nodes or (Node(**qp_options), Node(**qp_options))
        if prepare is not None:
            prepare(self.left, self.right)
        self.emss = emss
        self._chunk: Chunks = chunk if callable(chunk) else lambda: chunk
        responder = responder or Offer()
        self.failures: list[object] = []

        def accepted(startup: Startup) -> None:
            if startup.state is StartupState.ACCEPTED:
                assert startup.agreement is not None
                self.left.qp.connect(startup.agreement)
                self.left_end.pump = self.left.qp
            else:
                self.failures.append(startup.error)

        def decide(startup: Startup) -> None:
            assert startup.state is StartupState.DECIDING, startup.error
            agreement, reply = startup.accept(responder)
            self.right.qp.connect(agreement, reply)
            self.right_end.pump = self.right.qp

        self.left_end = End(Startup(Role.INITIATOR, initiator or Offer(), accepted))
        self.right_end = End(Startup(Role.RESPONDER, responder, decide))
        self.run()
        if opened and self.right.qp.stream.muted and not self.failures:
            self.left.qp.stream.write((), stag=1, to=0, token=None)  # the Responder may speak from now on
            self.run()

    @property
    def ends(self) -> tuple[End, End]:
        return self.left_end, self.right_end

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.left, self.right

    def step(self) -> bool:
        """Move some octets in both directions; returns whether anything happened."""
        moved = False
        for end, peer in (self.ends, self.ends[::-1]):
            end.pump.set_emss(self.emss)
            moved |= end.write(peer)
            moved |= end.read(self._chunk())
            moved |= end.settle(peer)
        return moved

    def run(self, steps: int = 1_000_000) -> None:
        """Move octets until nothing moves any more."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("the pair never comes to rest")


# --- a peer that may say anything ------------------------------------------------------------------------------------


def fpdu(ulpdu: Octets, offset: int = 0, *, markers: bool = False, crc: int | None = None, pad: bytes = b"") -> bytes:
    """One FPDU, word by word after the RFC's text (RFC 5044 §4): `offset` is where it starts in the stream."""
    fill = -(2 + len(ulpdu)) % 4
    body = struct.pack(">H", len(ulpdu)) + ulpdu + (pad or bytes(fill))[:fill].ljust(fill, b"\0")
    sent, start = bytearray(), None
    for at in range(0, len(body) + 4, 4):
        position = offset + len(sent)
        if markers and position % MARKER_SPACING == 0:
            sent += struct.pack(">HH", 0, 0 if start is None else position - start)
        start = offset + len(sent) if start is None else start
        sent += body[at : at + 4] or struct.pack("<I", crc32c(bytes(sent)) if crc is None else crc)
    return bytes(sent)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A DDP segment, lawful or not; `msn` None is the next one of its queue."""

    opcode: int
    tagged: bool = False
    last: bool = True
    stag: int = 0
    to: int = 0
    inval_stag: int = 0
    qn: int = 0
    msn: int | None = None
    mo: int = 0
    payload: bytes = b""
    dv: int = 1
    rv: int = 1
    ddp_rsvd: int = 0
    rdmap_rsvd: int = 0

    def octets(self, msn: int) -> bytes:
        """Header by the definitions in `wire`, and payload."""
        control = {"tagged": self.tagged, "last": self.last, "rsvd": self.ddp_rsvd, "dv": self.dv}
        rdmap = {"rv": self.rv, "rsvd": self.rdmap_rsvd, "opcode": self.opcode}
        if self.tagged:
            header = wire.TaggedHeader.build({"ddp": control, "rdmap": rdmap, "stag": self.stag, "to": self.to})
        else:
            fields = {"inval_stag": self.inval_stag, "qn": self.qn, "msn": msn, "mo": self.mo}
            header = wire.UntaggedHeader.build({"ddp": control, "rdmap": rdmap, **fields})
        return header + self.payload


def _segment(fields: dict[str, Any], **usual: Any) -> Segment:
    return Segment(**usual | fields)


def write(stag: int = 0, to: int = 0, payload: bytes = b"", **fields: Any) -> Segment:
    return _segment(fields, opcode=Opcode.WRITE, tagged=True, stag=stag, to=to, payload=payload)


def response(stag: int = 0, to: int = 0, payload: bytes = b"", **fields: Any) -> Segment:
    return _segment(fields, opcode=Opcode.READ_RESPONSE, tagged=True, stag=stag, to=to, payload=payload)


def send(payload: bytes = b"", **fields: Any) -> Segment:
    return _segment(fields, opcode=Opcode.SEND, payload=payload)


def read(source: MemoryRegion | None = None, *, size: int = 0, offset: int = 0, **fields: Any) -> Segment:
    """A Read Request for octets of `source`; `sink_stag` and so on may be given by name."""
    request = ReadRequest(
        sink_stag=fields.pop("sink_stag", 0xDEADBEEF),
        sink_to=fields.pop("sink_to", 0),
        read_size=size,
        source_stag=fields.pop("source_stag", 0 if source is None else source.stag),
        source_to=fields.pop("source_to", 0 if source is None else source.to + offset),
    )
    return _segment(fields, opcode=Opcode.READ_REQUEST, qn=1, payload=wire.ReadRequestHeader.build(request._asdict()))


def terminate(term: Term, length: int | None = None, ddp: bytes = b"", rdma: bytes = b"", **fields: Any) -> Segment:
    payload = wire.build_terminate(wire.Terminate(term, length, ddp, rdma))
    return _segment(fields, opcode=Opcode.TERMINATE, qn=2, msn=1, payload=payload)


def cut(message: Segment, *sizes: int) -> list[Segment]:
    """The segments of a message, with that many octets in the first ones and the rest in the last."""
    pieces: list[Segment] = []
    at = 0
    for size in sizes:
        pieces.append(_piece(message, at, at + size, last=False))
        at += size
    return [*pieces, _piece(message, at, len(message.payload), last=message.last)]


def _piece(message: Segment, start: int, stop: int, *, last: bool) -> Segment:
    payload = message.payload[start:stop]
    return replace(message, to=message.to + start, mo=message.mo + start, payload=payload, last=last)


class RawPeer:
    """A scripted peer of one queue pair: it sends what it likes, and looks closely at what comes back.

    `node` is the side under test; by default it is the Initiator, which may speak at once.
    """

    def __init__(self, node: Node | None = None, *, mulpdu: int = 1442, **agreement: Any) -> None:
        self.node = node or Node(mulpdu=mulpdu)
        self.agreement = agreed(**agreement)
        self.node.qp.connect(self.agreement)
        self.end = End(self.node.qp)
        self._msns = {qn.value: 1 for qn in QueueNumber}
        self._offset = 0  # of what this peer sends, counted from Full Operation
        self._heard = End(_NoPump())
        self._heard_offset = 0

    # --- saying ------------------------------------------------------------------------------------------------------

    def sends(self, *messages: Segment | bytes, chunk: int = EVERYTHING) -> None:
        """Send segments as FPDUs, or octets as they are, `chunk` at a time."""
        for message in messages:
            self.end.incoming += message if isinstance(message, bytes) else self.frames(message)
        while self.end.read(chunk):
            pass
        self._pump()

    def frames(self, message: Segment, **framing: Any) -> bytes:
        """The FPDU of a segment at this point of the stream, which it advances."""
        octets = fpdu(self.ulpdu(message), self._offset, markers=self.agreement.receive_markers, **framing)
        self._offset += len(octets)
        return octets

    def ulpdu(self, message: Segment) -> bytes:
        """The octets of a segment, its MSN filled in."""
        msn = self._msns.get(message.qn, 1) if message.msn is None else message.msn
        if message.last and not message.tagged and message.msn is None and message.qn in self._msns:
            self._msns[message.qn] = (msn + 1) & 0xFFFF_FFFF
        return message.octets(msn)

    def next_msn(self, qn: int, msn: int) -> None:
        """The next message on `qn` will have this MSN."""
        self._msns[qn] = msn

    def closes(self) -> None:
        """Close this half of TCP."""
        self.end.fin_coming = True
        while self.end.read(EVERYTHING):
            pass
        self._pump()

    # --- hearing -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self.end.write(self._heard):
            pass
        self.end.settle(self._heard)

    def hears(self) -> list[Heard]:
        """Every FPDU that has come since."""
        self._pump()
        return list(self._take_frames())

    def _take_frames(self) -> Iterator[Heard]:
        octets = self._heard.incoming
        while octets:
            used = self.agreement
            ulpdu, size = unframe(octets, self._heard_offset, markers=used.send_markers, crc=used.crc)
            del octets[:size]
            self._heard_offset += size
            yield Heard(ulpdu)

    def expects(self, opcode: Opcode, **fields: object) -> Heard:
        """The next FPDU has this opcode and these fields; an omitted field may be anything."""
        self._pump()
        heard = next(self._take_frames(), None)
        assert heard is not None, f"{opcode.name} was expected, nothing came"
        assert heard.opcode is opcode, f"{opcode.name} was expected, {heard} came"
        different = {name: getattr(heard, name) for name, value in fields.items() if getattr(heard, name) != value}
        assert not different, f"{different} instead of {fields} in {heard}"
        return heard

    def expects_terminate(self, term: Term, **fields: object) -> Heard:
        return self.expects(Opcode.TERMINATE, term=term, **fields)

    def expects_nothing(self) -> None:
        heard = self.hears()
        assert not heard, f"nothing was expected, {heard} came"

    def expects_end_of_stream(self) -> None:
        """The engine has closed its half, and nothing came before that."""
        self.expects_nothing()
        assert self.end.sent_fin or self.end.closed, "the engine still has its half open"


class Heard:
    """One FPDU of the engine's, taken apart with the definitions in `wire`."""

    def __init__(self, ulpdu: bytes) -> None:
        self.ulpdu = ulpdu
        self.tagged = bool(ulpdu[0] & 0x80)
        header = (wire.TaggedHeader if self.tagged else wire.UntaggedHeader).parse(ulpdu)
        assert (header.ddp.rsvd, header.ddp.dv) == (0, 1), "reserved bits are zero, DV is 1"
        assert (header.rdmap.rsvd, header.rdmap.rv) == (0, 1), "reserved bits are zero, RV is 1"
        self.last: bool = header.ddp.last
        self.opcode = Opcode(header.rdmap.opcode)
        self.payload = ulpdu[14:] if self.tagged else ulpdu[18:]
        self.stag: int | None = header.get("stag")
        self.to: int | None = header.get("to")
        self.qn: int | None = header.get("qn")
        self.msn: int | None = header.get("msn")
        self.mo: int | None = header.get("mo")
        self.inval_stag: int | None = header.get("inval_stag")

    def __repr__(self) -> str:
        return f"{self.opcode.name} {self.ulpdu.hex(' ')}"

    @property
    def terminate(self) -> wire.Terminate:
        return wire.parse_terminate(self.payload)

    @property
    def term(self) -> Term:
        return self.terminate.term

    @property
    def mdr(self) -> str:
        """The M, D and R bits of a Terminate, as 110."""
        return f"{self.payload[2] >> 5:03b}"

    @property
    def segment_length(self) -> int | None:
        return self.terminate.segment_length

    @property
    def quoted(self) -> bytes:
        """The header copies of a Terminate."""
        return self.terminate.ddp_header + self.terminate.rdma_header

    @property
    def read_request(self) -> ReadRequest:
        fields = wire.ReadRequestHeader.parse(self.payload)
        return ReadRequest(*(fields[name] for name in ReadRequest._fields))


def unframe(octets: Octets, offset: int, *, markers: bool, crc: bool = True) -> tuple[bytes, int]:
    """The ULPDU of the FPDU at the head of `octets`, and the FPDU's size; every field is checked."""
    words: list[bytes] = []
    at, start, needed = 0, None, 2
    while len(words) < needed:
        word = bytes(octets[at : at + 4])
        assert len(word) == 4, "the FPDU is cut"
        if markers and (offset + at) % MARKER_SPACING == 0:
            rsvd, fpduptr = struct.unpack(">HH", word)
            assert (rsvd, fpduptr) == (0, 0 if start is None else at - start), "the marker points elsewhere"
        else:
            if start is None:
                start, length = at, int.from_bytes(word[:2], "big")
                needed = (2 + length + 3) // 4 + 1
            words.append(word)
        at += 4
    if crc:
        assert struct.pack("<I", crc32c(bytes(octets[: at - 4]))) == words[-1], "the CRC is wrong"
    body = b"".join(words[:-1])
    assert not any(body[2 + length :]), "the pad is not zero"
    return body[2 : 2 + length], at


class _NoPump:
    """Stands behind the end that only listens."""

    steady = behind = wants_input = output_ended = over = broken = False

    def receive_view(self) -> memoryview:
        raise AssertionError("a raw peer has no buffer")

    def received(self, nbytes: int) -> bool:
        return False

    def received_eof(self) -> None: ...
    def set_emss(self, emss: int) -> None: ...
    def resume(self) -> None: ...
    def proceed(self, fpdus: int = TURN_FPDUS) -> None: ...
    def flushed(self) -> None: ...
    def next_iov(self) -> list[Octets]:
        return []

    def time_limit(self) -> None:
        return None

    def timed_out(self, limit: object) -> None: ...
    def lost(self, cause: Exception | None) -> None: ...


class Taker(Protocol):
    """Whatever takes octets as a pump does."""

    def receive_view(self) -> memoryview: ...
    def received(self, nbytes: int) -> object: ...
    def proceed(self) -> object: ...

    @property
    def behind(self) -> bool: ...


def feed(pump: Taker, octets: Octets, chunks: Sequence[int] = ()) -> None:
    """Give a pump these octets, cut into `chunks`; what is left then comes in one piece, as far as it fits."""
    sizes, rest = iter(chunks), bytes(octets)
    while rest:
        view = pump.receive_view()
        assert len(view), "a receive view is never empty"
        nbytes = min(next(sizes, EVERYTHING), len(view), len(rest))
        view[:nbytes] = rest[:nbytes]
        rest = rest[nbytes:]
        as_before = pump.received(nbytes)
        if isinstance(pump, QueuePair) and as_before:  # drivers neither ask nor settle then
            assert pump.steady
            assert pump.next_iov() == []
        while pump.behind:
            pump.proceed()
        while pump.behind:
            pump.proceed()
