"""RFC 5040 §3.2, §5.5 and §7.1: what the program hears, of its own work requests and of the peer's messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import ProtocolViolation, Term, TerminatedByPeer
from pyiwarp.mr import Access, MemoryRegion, RemoteRegion
from pyiwarp.profile import PROFILES
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Send, SendRequest, Status, Write
from pyiwarp.verbs import AsyncEvent, AsyncEventType
from tests.harness import Node, RawPeer, Segment, ended, octets_of, read, response, send, terminate, write
from tests.rfc.scene import Scene, atomic_response, compare_swap, fetch_add, immediate

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
WAYS: Final[dict[str, dict[str, Any]]] = {
    "fast way": {},
    "plain way": {"send_markers": True, "receive_markers": True},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return WAYS[request.param]


def events(node: Node) -> list[AsyncEvent]:
    """The asynchronous events that have come since."""
    found = []
    while (event := node.events.get()) is not None:
        found.append(event)
    return found


# --- completions -----------------------------------------------------------------------------------------------------


def every_kind(region: MemoryRegion, signaled: bool) -> list[SendRequest]:
    """One work request of each kind; those that the peer answers, and one that waits behind them, come last."""
    there = RemoteRegion(0x1000, 0x77, 8)
    return [
        Send(inline=b"a", wr_id="inline Send", signaled=signaled),
        Send((region[:3],), wr_id="Send", signaled=signaled),
        Write((region[:3],), there, wr_id="Write", signaled=signaled),
        Write(inline=b"a", remote=there, wr_id="inline Write", signaled=signaled),
        Send(inline=b"a", inval_stag=5, wr_id="Send Inv", signaled=signaled),
        Immediate(b"12345678", wr_id="Immediate", signaled=signaled),
        Read(region[:8], there, wr_id="Read", signaled=signaled),
        FetchAdd(there, 1, wr_id="Atomic", signaled=signaled),
        Send(inline=b"a", wr_id="last Send", signaled=signaled),
    ]


@pytest.mark.parametrize("signaled", [True, False])
def test_each_work_request_that_succeeds_has_one_completion(way: dict[str, Any], signaled: bool) -> None:
    # RDMAP-5040-3.2-02, RDMAP-5040-5.5-11, -12, -19, RDMAP-5040-5.2.2-04
    """If it is signaled; and none before the kernel has its message, or before its answer was delivered."""
    scene = Scene(ord=2, **way)
    scene.peer.end.clogged = True
    requests = every_kind(scene.region, signaled)
    scene.node.post(*requests)
    scene.peer._pump()
    assert scene.node.sent() == [], "the kernel has taken nothing yet"
    scene.peer.end.clogged = False
    heard = scene.peer.hears()
    names = [request.wr_id for request in requests]
    assert len(heard) == len(requests)
    assert ended(scene.node.sent()) == [(name, OK) for name in names[:6]] * signaled
    scene.peer.sends(response(scene.region.stag, scene.region.to, b"12345678"))
    assert ended(scene.node.sent()) == [("Read", OK)] * signaled
    request_id = int.from_bytes(heard[7].payload[4:8], "big")
    scene.peer.sends(atomic_response(request_id, 0))
    assert ended(scene.node.sent()) == [("Atomic", OK), ("last Send", OK)] * signaled


@pytest.mark.parametrize("signaled", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_each_work_request_that_fails_has_one_completion(way: dict[str, Any], signaled: bool, begun: bool) -> None:
    # RDMAP-5040-3.2-02, RDMAP-5040-5.4-08, RDMAP-5040-6.2.1-02
    """Signaled or not, begun, held back or not begun: what is not complete when the peer terminates has failed."""
    scene = Scene(ord=1, **way)
    scene.node.post(*every_kind(scene.region, signaled))
    if begun:
        scene.peer._pump()
    names = [request.wr_id for request in every_kind(scene.region, signaled)]
    good = 6 if begun else 0
    assert ended(scene.node.sent()) == [(name, OK) for name in names[:good]] * signaled
    scene.peer.sends(terminate(Term(0, 2, 0xFF)))
    assert ended(scene.node.sent()) == [(name, FLUSHED) for name in names[good:]]
    assert ended(scene.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


SINGLE: Final[dict[str, Callable[[MemoryRegion], SendRequest]]] = {
    "Send": lambda region: Send((region[:400],)),
    "Send in pieces": lambda region: Send((region[:100], region[100:400])),
    "Send Inv": lambda region: Send((region[:400],), inval_stag=5),
    "inline Send": lambda region: Send(inline=b"a"),
    "short Send": lambda region: Send((region[:3],)),
    "Write": lambda region: Write((region[:400],), RemoteRegion(0, 5, 400)),
    "Write in pieces": lambda region: Write((region[:100], region[100:400]), RemoteRegion(0, 5, 400)),
    "inline Write": lambda region: Write(inline=b"a", remote=RemoteRegion(0, 5, 1)),
    "short Write": lambda region: Write((region[:3],), RemoteRegion(0, 5, 3)),
    "Immediate": lambda region: Immediate(b"12345678"),
}


@pytest.mark.parametrize("one", [True, False], ids=["one FPDU a write", "all FPDUs in a write"])
@pytest.mark.parametrize("case", SINGLE)
def test_a_message_completes_when_the_kernel_has_all_of_it(way: dict[str, Any], case: str, one: bool) -> None:
    # RDMAP-5040-5.5-11, EXT-7306-6.4-01
    profile = replace(PROFILES["rfc"], one_fpdu_per_write=one)
    scene = Scene(node=Node(mulpdu=128, profile=profile), nbytes=400, **way)
    scene.node.post(SINGLE[case](scene.region))
    writes = 0
    while scene.node.qp.next_iov():
        assert scene.node.sent() == [], "the kernel has not taken all of it yet"
        scene.node.qp.flushed()
        writes += 1
    assert writes == (4 if one and scene.node.qp.stream.octets_sent > 400 else 1)
    assert [done.ok for done in scene.node.sent()] == [True]


@pytest.mark.parametrize("size", [8, 3000])
def test_a_response_completes_its_read_with_its_last_segment(way: dict[str, Any], size: int) -> None:
    # RDMAP-5040-5.2.2-04, RDMAP-5040-5.5-06, -16, -19, RDMAP-5040-5.2.2-06
    """Not when all octets are there, but when the segment with L has come; that alone is enough."""
    scene = Scene(**way)
    sinks = [scene.node.region(size) for _ in range(2)]
    scene.node.post(*(Read(sink[:], RemoteRegion(0, 5, size), number) for number, sink in enumerate(sinks)))
    scene.peer.hears()
    for number, sink in enumerate(sinks):
        data = bytes([number + 1]) * size
        scene.peer.sends(response(sink.stag, sink.to + 3, data[3:], last=False))
        scene.peer.sends(response(sink.stag, sink.to, data[:3], last=False))
        assert scene.node.sent() == []
        scene.peer.sends(response(sink.stag, sink.to, b""))
        assert [(done.wr_id, done.nbytes) for done in scene.node.sent()] == [(number, size)]
        assert octets_of(sink) == data


WRONG: dict[str, tuple[Callable[[MemoryRegion], Segment], type[ProtocolViolation]]] = {
    "another STag": (lambda sink: response(sink.stag ^ 1, sink.to, b"12345678"), errors.InvalidStag),
    "before the sink": (lambda sink: response(sink.stag, sink.to - 1, b"12345678"), errors.BaseOrBounds),
    "behind the sink": (lambda sink: response(sink.stag, sink.to + 1, b"12345678"), errors.BaseOrBounds),
    "too long": (lambda sink: response(sink.stag, sink.to, b"123456789"), errors.BaseOrBounds),
    "too short": (lambda sink: response(sink.stag, sink.to, b"1234567"), errors.MalformedMessage),
    "empty": (lambda sink: response(sink.stag, sink.to), errors.MalformedMessage),
    "the same octets again": (lambda sink: response(sink.stag, sink.to, b"12345678"), errors.MisplacedResponse),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_response_that_is_not_what_was_asked_is_told(way: dict[str, Any], case: str) -> None:
    # RDMAP-5040-5.2.2-05, -08, RDMAP-5040-7.1-01
    make, violation = WRONG[case]
    scene = Scene(**way)
    memory = scene.node.region(b"#" * 24)
    sink = scene.node.pd.register(memory.view[8:16], Access.LOCAL_WRITE)
    scene.node.post(Read(sink[:], RemoteRegion(0, 5, 8), "read"))
    scene.peer.hears()
    if case == "the same octets again":
        scene.peer.sends(response(sink.stag, sink.to, b"1234", last=False))
    scene.peer.sends(make(sink))
    scene.peer.expects_terminate(violation.term, mdr="110")
    assert [type(event.error) for event in events(scene.node)] == [violation]
    assert [(done.wr_id, done.ok) for done in scene.node.sent()] == [("read", False)]
    assert octets_of(memory)[:8] == octets_of(memory)[16:] == b"#" * 8


def test_a_response_that_nobody_asked_for_is_told(way: dict[str, Any]) -> None:  # RDMAP-5040-5.2.2-05
    scene = Scene(**way)
    scene.peer.sends(response(scene.region.stag, scene.region.to, b"12345678"))
    scene.peer.expects_terminate(errors.UnexpectedOpcode.term, mdr="110")
    assert [type(event.error) for event in events(scene.node)] == [errors.UnexpectedOpcode]
    assert octets_of(scene.region) == b"." * 64


# --- asynchronous events ---------------------------------------------------------------------------------------------

ACCESS, REQUEST = AsyncEventType.QP_ACCESS_ERR, AsyncEventType.QP_REQ_ERR
FAILING: dict[str, tuple[Callable[[Scene], Segment], type[ProtocolViolation], AsyncEventType]] = {
    "Send": (lambda scene: send(bytes(41)), errors.MessageTooLong, REQUEST),
    "Send Inv": (lambda scene: send(opcode=Opcode.SEND_INVAL, inval_stag=5), errors.CannotInvalidate, ACCESS),
    "Write": (lambda scene: write(5, 0, b"abc"), errors.InvalidStag, ACCESS),
    "Read": (lambda scene: read(size=16, source_stag=5), errors.ReadInvalidStag, ACCESS),
    "Read of 27 octets": (lambda scene: Segment(opcode=1, qn=1, payload=bytes(27)), errors.MalformedMessage, REQUEST),
    "opcode": (lambda scene: send(b"a", opcode=0xF), errors.UnexpectedOpcode, REQUEST),
    "misaligned FetchAdd": (lambda scene: fetch_add(scene.region, 4), errors.StreamCatastrophe, REQUEST),
    "misaligned CmpSwap": (
        lambda scene: compare_swap(scene.region, 4, compare=0, swap=1),
        errors.StreamCatastrophe,
        REQUEST,
    ),
    "unknown Atomic": (lambda scene: fetch_add(stag=5, to=0), errors.ReadInvalidStag, ACCESS),
    "Immediate Data": (lambda scene: immediate(b"1234567"), errors.MalformedMessage, REQUEST),
    "Terminate": (lambda scene: terminate(Term(1, 1, 0), msn=2), errors.MsnOutOfRange, REQUEST),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_message_that_fails_is_told_to_both_programs(way: dict[str, Any], case: str) -> None:
    # RDMAP-5040-3.2-04, -05, -06, RDMAP-5040-5.2.1-05, RDMAP-5040-5.3-07, RDMAP-5040-6.2.1-01, RDMAP-5040-7.1-01
    # EXT-7306-5.1.1-02, -5.1.2-07, -6.1-02
    """One event here, with the cause; one Terminate there, and then no connection."""
    make, violation, kind = FAILING[case]
    scene = Scene(**way)
    scene.peer.sends(make(scene))
    scene.peer.expects_terminate(violation.term)
    scene.peer.expects_end_of_stream()
    assert [(event.type, event.source, type(event.error)) for event in events(scene.node)] == [
        (kind, scene.node.qp, violation)
    ]


@pytest.mark.parametrize("term", [Term(0, 1, 0), Term(0, 2, 7), Term(1, 2, 5), Term(2, 0, 2), Term(0, 0, 0x5A)])
def test_the_peer_s_terminate_is_told(way: dict[str, Any], term: Term) -> None:
    # RDMAP-5040-3.2-04, -08, RDMAP-5040-5.4-05, -06, RDMAP-5040-4.8-17, EXT-7306-5.1.1-01, -5.1.2-04
    """Layer, type and code, and the headers that it quotes, come with one event and with what is flushed."""
    scene = Scene(**way)
    quoted = write(7, 8).octets(0)
    scene.peer.sends(terminate(term, 14, quoted))
    (event,) = events(scene.node)
    assert (event.type, event.source) == (AsyncEventType.QP_FATAL, scene.node.qp)
    assert isinstance(event.error, TerminatedByPeer)
    assert (event.error.term, event.error.header) == (term, quoted)
    assert [done.error for done in scene.node.received()] == [event.error] * 2
    scene.peer.expects_end_of_stream()


def test_messages_without_fault_are_told_to_nobody(way: dict[str, Any]) -> None:
    # RDMAP-5040-3.2-05, -06, RDMAP-5040-5.1-02, RDMAP-5040-5.2.1-03, -04, EXT-7306-5.2.1-12, -13
    """A hundred Writes, Reads and Atomics: no completion, no event, and the receive is still there."""
    scene = Scene(receives=1, **way)
    for _ in range(100):
        scene.peer.sends(write(scene.region.stag, scene.region.to + 8, b"abc"), read(scene.region, size=4))
        scene.peer.sends(read(scene.region), fetch_add(scene.region))
    assert [heard.opcode for heard in scene.peer.hears()] == 100 * [
        Opcode.READ_RESPONSE,
        Opcode.READ_RESPONSE,
        Opcode.ATOMIC_RESPONSE,
    ]
    assert (scene.node.received(), scene.node.sent(), events(scene.node)) == ([], [], [])
    scene.peer.sends(send(b"now"))
    assert ended(scene.node.received()) == [("recv 1", OK)]


def test_reads_and_atomics_need_no_receive(way: dict[str, Any]) -> None:
    # RDMAP-5040-5.2.1-03, RDMAP-5040-5.4-03, -04, EXT-7306-5.2.1-12, EXT-7306-5.2.2-03
    scene = Scene(receives=0, **way)
    scene.peer.sends(read(scene.region, size=4), fetch_add(scene.region))
    assert [heard.opcode for heard in scene.peer.hears()] == [Opcode.READ_RESPONSE, Opcode.ATOMIC_RESPONSE]
    scene.node.post(FetchAdd(RemoteRegion(0, 1, 8), 1))
    (heard,) = scene.peer.hears()
    scene.peer.sends(atomic_response(int.from_bytes(heard.payload[4:8], "big"), 5))
    assert [done.value for done in scene.node.sent()] == [5]
    scene.peer.sends(terminate(Term(0, 2, 0xFF)))
    assert isinstance(scene.error, TerminatedByPeer)


@pytest.mark.parametrize("fields", [{}, {"last": False}], ids=["whole", "in pieces"])
def test_a_terminate_without_a_cause_ends_the_stream(way: dict[str, Any], fields: dict[str, Any]) -> None:
    # RDMAP-5040-5.4-07
    peer = RawPeer(**way)
    peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, payload=b"\x11\0\0", **fields))
    if "last" in fields:
        peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, mo=3))
    peer.expects_terminate(errors.MalformedMessage.term)
    assert isinstance(peer.node.qp.error, errors.MalformedMessage)
