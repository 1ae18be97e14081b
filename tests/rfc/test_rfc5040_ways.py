"""RFC 5040: its rules hold on each way that a message can take through this stack.

FPDUs without markers take the fast ways: small messages are framed where they are posted, segments are placed from
where they came. With markers every message takes the plain way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import Term, TerminatedByPeer
from pyiwarp.mr import MemoryRegion, RemoteRegion
from pyiwarp.profile import PROFILES
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Send, SendRequest, Write
from tests.harness import Heard, Node, Segment, cut, octets_of, read, response, send, terminate, write
from tests.rfc.scene import BYTE_ORDER, Scene, answer, atomic_response, fetch_add, immediate

THERE: Final = RemoteRegion(0x0123456789ABCDEF, 0xA5C3F00D, 100)
WAYS: Final[dict[str, dict[str, Any]]] = {
    "fast way": {},
    "plain way": {"send_markers": True, "receive_markers": True},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return WAYS[request.param]


@pytest.fixture
def scene(way: dict[str, Any]) -> Scene:
    return Scene(**way)


# --- what is sent ----------------------------------------------------------------------------------------------------

FROM_MEMORY: dict[str, tuple[Callable[[MemoryRegion], SendRequest], str]] = {
    "Write": (lambda region: Write((region[:3],), THERE), "C1 40 A5C3F00D 0123456789ABCDEF 2E2E2E"),
    "Send": (lambda region: Send((region[:3],)), "41 43 00000000 00000000 00000001 00000000 2E2E2E"),
    "Send SE": (
        lambda region: Send((region[:3],), solicited=True),
        "41 45 00000000 00000000 00000001 00000000 2E2E2E",
    ),
    "Send Inv": (
        lambda region: Send((region[:3],), inval_stag=0x11223344),
        "41 44 11223344 00000000 00000001 00000000 2E2E2E",
    ),
    "Send SE Inv": (
        lambda region: Send((region[:3],), inval_stag=0x11223344, solicited=True),
        "41 46 11223344 00000000 00000001 00000000 2E2E2E",
    ),
}


@pytest.mark.parametrize("case", FROM_MEMORY)
def test_memory_octet_by_octet(scene: Scene, case: str) -> None:
    # RDMAP-5040-3.2-01, RDMAP-5040-3.1-02, -04, RDMAP-5040-4.1-01, -02, -03, -04, -05, -06, -07, -08, -10
    # RDMAP-5040-4.2-03, RDMAP-5040-5.1-01, RDMAP-5040-5.3-01, -08, -12
    make, octets = FROM_MEMORY[case]
    scene.node.post(make(scene.region))
    assert [heard.ulpdu for heard in scene.peer.hears()] == [bytes.fromhex(octets)]


LONG: dict[str, Callable[[MemoryRegion, tuple[int, ...]], SendRequest | Segment]] = {
    "Send": lambda region, cuts: Send(pieces(region, cuts)),
    "Send Inv": lambda region, cuts: Send(pieces(region, cuts), inval_stag=0x11223344),
    "Write": lambda region, cuts: Write(pieces(region, cuts), RemoteRegion(5000, 0xA5C3F00D, 400)),
    "Response": lambda region, cuts: read(region, size=400, sink_stag=0xA5C3F00D, sink_to=5000),
}


def pieces(region: MemoryRegion, cuts: tuple[int, ...]) -> Any:
    """The region as scatter/gather elements that end there."""
    edges = [0, *cuts, 400]
    return tuple(region[start:stop] for start, stop in pairwise(edges))


@pytest.mark.parametrize("cuts", [(), (7, 300)], ids=["one piece", "three pieces"])
@pytest.mark.parametrize("case", LONG)
def test_an_operation_is_one_message(way: dict[str, Any], case: str, cuts: tuple[int, ...]) -> None:
    # RDMAP-5040-3.1-03, RDMAP-5040-5.2-01, RDMAP-5040-5.1-08, RDMAP-5040-5.2.2-02, -09, RDMAP-5040-4.1-03, -04
    scene = Scene(mulpdu=128, **way)
    data = bytes(number % 251 for number in range(400))
    region = scene.node.region(data)
    asked = LONG[case](region, cuts)
    if isinstance(asked, Segment):
        scene.peer.sends(asked)
    else:
        scene.node.post(asked)
    heard = scene.peer.hears()
    assert [each.last for each in heard] == [False, False, False, True]
    assert b"".join(each.payload for each in heard) == data
    tagged = case in ("Write", "Response")
    assert {each.tagged for each in heard} == {tagged}
    sizes = [sum(len(each.payload) for each in heard[:index]) for index in range(4)]
    if tagged:
        assert [(each.stag, each.to) for each in heard] == [(0xA5C3F00D, 5000 + size) for size in sizes]
    else:
        inval_stag = 0x11223344 if case == "Send Inv" else 0
        assert [(each.inval_stag, each.msn, each.mo) for each in heard] == [(inval_stag, 1, size) for size in sizes]


ORDERED: dict[str, Callable[[Scene, int], SendRequest]] = {
    "Writes": lambda scene, number: Write(inline=bytes([number]), remote=RemoteRegion(number, 1, 1)),
    "Writes of memory": lambda scene, number: Write((scene.region[number : number + 1],), RemoteRegion(number, 1, 1)),
    "Sends": lambda scene, number: Send(inline=bytes([number])),
    "Sends of memory": lambda scene, number: Send((scene.region[number : number + 1],)),
    "Sends with Invalidate": lambda scene, number: Send(inline=bytes([number]), inval_stag=number),
    "Reads": lambda scene, number: Read(scene.region[number : number + 1], RemoteRegion(number, 1, 1)),
    "Atomics": lambda scene, number: FetchAdd(RemoteRegion(number, 1, 8), number),
    "Immediate Data": lambda scene, number: Immediate(number.to_bytes(8, "big")),
    "a mixture": lambda scene, number: list(ORDERED.values())[number % 8](scene, number),
}
KINDS_IN_MIXTURE: Final = (
    *(Opcode.WRITE, Opcode.WRITE, Opcode.SEND, Opcode.SEND, Opcode.SEND_INVAL),
    *(Opcode.READ_REQUEST, Opcode.ATOMIC_REQUEST, Opcode.IMMEDIATE),
)


def number_in(heard: Heard) -> int:
    """The number that a message of `ORDERED` carries."""
    if heard.to is not None:
        return heard.to
    if heard.opcode is Opcode.READ_REQUEST:
        return heard.read_request.source_to
    if heard.opcode is Opcode.ATOMIC_REQUEST:
        return int.from_bytes(heard.payload[12:20], "big")
    return heard.payload[-1]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("clogged", [False, True], ids=["idle", "clogged"])
@pytest.mark.parametrize("case", ORDERED)
def test_messages_leave_in_the_order_of_posting(way: dict[str, Any], case: str, clogged: bool, together: bool) -> None:
    # RDMAP-5040-5.1-06, RDMAP-5040-5.3-09, RDMAP-5040-5.2.1-07, RDMAP-5040-5.5-10, EXT-7306-5.2.1-16, EXT-7306-6.3-06
    scene = Scene(nbytes=100, ord=100, **way)
    scene.region.view[:] = bytes(range(100))
    if clogged:
        scene.peer.end.clogged = True
        scene.node.post(Write(remote=RemoteRegion(0, 9, 0)))
        assert scene.peer.hears()
    requests = [ORDERED[case](scene, number) for number in range(100)]
    if together:
        scene.node.qp.post_send_many(requests)
    else:
        scene.node.post(*requests)
    scene.peer.end.clogged = False
    heard = scene.peer.hears()
    assert [number_in(each) for each in heard] == list(range(100))
    if case == "a mixture":
        assert [each.opcode for each in heard] == [KINDS_IN_MIXTURE[number % 8] for number in range(100)]
    queues: dict[int, list[int]] = {}
    for each in heard:
        if each.qn is not None and each.msn is not None:
            queues.setdefault(each.qn, []).append(each.msn)
    assert all(msns == list(range(1, len(msns) + 1)) for msns in queues.values())


@pytest.mark.parametrize("behind", ["Reads", "Atomics", "Writes of memory", "Sends", "a mixture"])
def test_what_ord_holds_back_keeps_its_order(scene: Scene, behind: str) -> None:
    # RDMAP-5040-5.2.1-07, RDMAP-5040-5.5-10, EXT-7306-5.2.1-16, RDMAP-5040-6.1-03
    """The peer answers one Read after the other; each answer lets out what waited for it, and nothing else."""
    scene.region.view[:20] = bytes(range(20))
    scene.node.post(*(ORDERED["Reads"](scene, number) for number in range(8)))
    scene.node.post(*(ORDERED[behind](scene, number) for number in range(8, 16)))
    heard: list[Heard] = []
    most = 0
    while more := scene.peer.hears():
        heard += more
        asked = [each for each in heard if each.opcode in (Opcode.READ_REQUEST, Opcode.ATOMIC_REQUEST)]
        answered = most
        most = max(most, len(asked))
        for each in asked[answered:]:
            if each.opcode is Opcode.READ_REQUEST:
                to = scene.region.to + each.read_request.source_to
                scene.peer.sends(response(scene.region.stag, to, b"!"))
            else:
                scene.peer.sends(atomic_response(int.from_bytes(each.payload[4:8], "big"), 0))
    assert [number_in(each) for each in heard] == list(range(16))
    assert scene.error is None


def test_as_many_reads_as_ord_are_outstanding(way: dict[str, Any]) -> None:  # RDMAP-5040-6.1-03
    scene = Scene(ord=3, **way)
    scene.node.post(*(ORDERED["Reads"](scene, number) for number in range(5)))
    assert [number_in(each) for each in scene.peer.hears()] == [0, 1, 2]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_write_is_placed_and_the_program_is_not_told(scene: Scene) -> None:
    # RDMAP-5040-5.1-02, RDMAP-5040-3.2-05, -5.1-04
    to = scene.region.to
    scene.peer.sends(write(scene.region.stag, to + 16, b"eight!!!"), *cut(write(scene.region.stag, to, b"abcd"), 2))
    assert octets_of(scene.region)[:24] == b"abcd" + b"." * 12 + b"eight!!!"
    assert (scene.node.received(), scene.node.sent(), scene.error) == ([], [], None)
    scene.peer.sends(send(b"1"), send(b"2"))
    assert [done.wr_id for done in scene.node.received()] == ["recv 1", "recv 2"], "no Write has taken a receive"


@pytest.mark.parametrize("sizes", [(), (6,), (0, 6)], ids=["one segment", "two segments", "an empty one first"])
@pytest.mark.parametrize("opcode", [Opcode.SEND, Opcode.SEND_INVAL, Opcode.SEND_SE, Opcode.SEND_SE_INVAL])
def test_what_a_send_tells(scene: Scene, opcode: Opcode, sizes: tuple[int, ...]) -> None:
    # RDMAP-5040-3.2-03, RDMAP-5040-5.3-02, -03, -06, -13, -14, RDMAP-5040-5.5-05, -13, RDMAP-5040-4.1-11
    """Length, Solicited Event and STag come in the completion; only two of the four look at the STag."""
    solicited = opcode in (Opcode.SEND_SE, Opcode.SEND_SE_INVAL)
    invalidates = opcode in (Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL)
    told: list[str] = []
    scene.node.recv_cq.arm(lambda: told.append("event"), solicited_only=True)
    *first, last = cut(send(b"hello world", opcode=opcode, inval_stag=scene.region.stag), *sizes)
    scene.peer.sends(*first)
    assert scene.node.received() == []
    assert scene.region.is_open
    scene.peer.sends(write(scene.region.stag, scene.region.to, b"before"))
    scene.peer.sends(last)
    (done,) = scene.node.received()
    assert (done.wr_id, done.nbytes, done.solicited) == ("recv 1", 11, solicited)
    assert done.inval_stag == (scene.region.stag if invalidates else None)
    assert told == ["event"] * solicited
    assert octets_of(scene.receives[0])[:12] == b"hello world\0"
    scene.peer.sends(send(b"next"))
    assert [done.wr_id for done in scene.node.received()] == ["recv 2"]
    assert octets_of(scene.receives[1])[:5] == b"next\0"
    scene.peer.sends(write(scene.region.stag, scene.region.to, b"behind") if not invalidates else read(scene.region))
    if invalidates:
        scene.peer.expects(Opcode.READ_RESPONSE, payload=b"")
        scene.peer.sends(read(scene.region, size=1))
        scene.peer.expects_terminate(errors.ReadInvalidStag.term)
    else:
        assert octets_of(scene.region)[:6] == b"behind"


NAMING: dict[str, Callable[[Scene], Segment]] = {
    "Read Request": lambda scene: read(scene.region, size=4, inval_stag=scene.region.stag),
    "Atomic Request": lambda scene: fetch_add(scene.region, 8, add=0, inval_stag=scene.region.stag),
    "Immediate Data": lambda scene: immediate(inval_stag=scene.region.stag),
    "Immediate Data SE": lambda scene: immediate(inval_stag=scene.region.stag, opcode=Opcode.IMMEDIATE_SE),
}


@pytest.mark.parametrize("case", NAMING)
def test_only_sends_with_invalidate_look_at_the_stag(scene: Scene, case: str) -> None:
    # RDMAP-5040-4.1-11, EXT-7306-4.1-04
    scene.peer.sends(NAMING[case](scene), write(scene.region.stag, scene.region.to, b"good"))
    assert octets_of(scene.region)[:4] == b"good"
    answers = {"Read Request": [Opcode.READ_RESPONSE], "Atomic Request": [Opcode.ATOMIC_RESPONSE]}
    assert [heard.opcode for heard in scene.peer.hears()] == answers.get(case, [])
    assert [done.inval_stag for done in scene.node.received()] == ([None] if "Immediate" in case else [])
    assert scene.error is None


def test_an_atomic_response_may_name_an_stag(scene: Scene) -> None:  # EXT-7306-4.1-04
    scene.node.post(FetchAdd(RemoteRegion(0, 1, 8), 1, wr_id="add"))
    (heard,) = scene.peer.hears()
    request_id = int.from_bytes(heard.payload[4:8], "big")
    scene.peer.sends(atomic_response(request_id, 7, inval_stag=scene.region.stag))
    assert [(done.wr_id, done.value) for done in scene.node.sent()] == [("add", 7)]
    assert scene.node.pd.stags.get(scene.region.stag) is scene.region


def test_a_terminate_may_name_an_stag(scene: Scene) -> None:  # RDMAP-5040-4.1-11
    scene.peer.sends(terminate(Term(0, 2, 0xFF), inval_stag=scene.region.stag))
    assert isinstance(scene.error, TerminatedByPeer)
    assert scene.node.pd.stags.get(scene.region.stag) is scene.region


VERSIONED: dict[str, Callable[[Scene, int], Segment]] = {
    "Write": lambda scene, rv: write(scene.region.stag, scene.region.to, b"abc", rv=rv),
    "Send": lambda scene, rv: send(b"abc", rv=rv),
    "Send SE": lambda scene, rv: send(b"abc", opcode=Opcode.SEND_SE, rv=rv),
    "Send Inv": lambda scene, rv: send(b"abc", opcode=Opcode.SEND_INVAL, inval_stag=scene.region.stag, rv=rv),
    "Read Request": lambda scene, rv: read(scene.region, size=4, rv=rv),
    "Terminate": lambda scene, rv: terminate(Term(0, 2, 0xFF), rv=rv),
    "Immediate Data": lambda scene, rv: immediate(rv=rv),
    "Atomic Request": lambda scene, rv: fetch_add(scene.region, rv=rv),
}


@pytest.mark.parametrize("rv", [0, 2, 3])
@pytest.mark.parametrize("case", VERSIONED)
def test_a_message_of_another_version_is_told(scene: Scene, case: str, rv: int) -> None:
    # RDMAP-5040-4.1-07, RDMAP-5040-5.3-07, RDMAP-5040-7.2-03, -08, EXT-7306-8.2-03, EXT-7306-4.1-01
    bad = VERSIONED[case](scene, rv)
    ulpdu = bad.octets(1)
    scene.peer.sends(bad)
    header = 14 if bad.tagged else 18
    scene.peer.expects_terminate(errors.RdmapVersion.term, mdr="110", segment_length=len(ulpdu), quoted=ulpdu[:header])
    assert isinstance(scene.error, errors.RdmapVersion)
    assert octets_of(scene.region) == b"." * 64
    assert not any(done.ok for done in scene.node.received())


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("to", [1, 0x123, 0x100000001, 0x0123456789ABCDEF, (1 << 64) - 1])
def test_the_sink_of_a_read_comes_back_as_it_was_named(scene: Scene, to: int, size: int) -> None:
    # RDMAP-5040-4.4-02, -03, -04, -05, -06, RDMAP-5040-5.2.2-06, RDMAP-5040-5.2.1-12, -13, -16
    """The octets come from the offset that was asked for, as many as were asked for."""
    scene.region.view[:] = bytes(range(64))
    scene.peer.sends(read(scene.region, size=size, offset=3, sink_stag=0xDEADBEEF, sink_to=to))
    (heard,) = scene.peer.hears()
    assert (heard.opcode, heard.last, heard.stag, heard.to) == (Opcode.READ_RESPONSE, True, 0xDEADBEEF, to)
    assert heard.payload == bytes(range(3, 3 + size))


@pytest.mark.parametrize("size", [0, 1, 64])
def test_a_message_behind_another_in_one_delivery_is_quoted_by_itself(scene: Scene, size: int) -> None:
    # RDMAP-5040-3.1-05, RDMAP-5040-4.8-09, -11, RDMAP-5040-7.1-03
    """What is at fault is the third message of a delivery, and the second segment of its own."""
    good, bad = cut(write(scene.region.stag, scene.region.to + 1, bytes(64)), 63)
    bad = bad if size == 1 else write(7, 8, bytes(size or 3), last=False)
    messages = [read(scene.region), send(b"first"), write(scene.region.stag, scene.region.to, b"x"), good, bad]
    scene.peer.sends(b"".join(scene.peer.frames(each) for each in messages))
    heard = scene.peer.hears()[-1]
    ulpdu = bad.octets(0)
    assert (heard.opcode, heard.quoted, heard.segment_length) == (Opcode.TERMINATE, ulpdu[:14], len(ulpdu))


def test_an_empty_send_takes_a_receive(scene: Scene) -> None:  # RDMAP-5040-5.3-10, -11
    scene.peer.sends(send(), send(opcode=Opcode.SEND_SE))
    assert [(done.wr_id, done.nbytes, done.ok) for done in scene.node.received()] == [
        ("recv 1", 0, True),
        ("recv 2", 0, True),
    ]
    scene.peer.sends(send())
    scene.peer.expects_terminate(Term(1, 2, 0x02))


@pytest.mark.parametrize("case", ["Writes of memory", "Sends of memory", "a mixture"])
def test_a_terminate_comes_before_what_was_posted(scene: Scene, case: str) -> None:
    # RDMAP-5040-7.1-03, RDMAP-5040-5.4-08, -09
    """What has not been given to TCP is never sent: neither messages nor answers."""
    scene.node.post(*(ORDERED[case](scene, number) for number in range(8)))
    scene.peer.sends(read(scene.region, size=4), write(5, 0, b"x"))
    assert [heard.opcode for heard in scene.peer.hears()] == [Opcode.TERMINATE]
    assert [done.ok for done in scene.node.sent()] == [False] * 8
    scene.peer.expects_end_of_stream()


@pytest.mark.parametrize("first", ["violation", "terminate"])
def test_nothing_that_follows_an_error_is_placed(scene: Scene, first: str) -> None:
    # RDMAP-5040-7-02, RDMAP-5040-5.4-05, RDMAP-5040-7.1-05
    """Whether it comes in the same delivery or later."""
    ends = {"violation": write(5, 0, b"x"), "terminate": terminate(Term(0, 2, 0xFF))}
    late = [write(scene.region.stag, scene.region.to, b"late"), send(b"late"), read(scene.region, size=4)]
    scene.peer.sends(b"".join(scene.peer.frames(each) for each in (ends[first], *late)))
    scene.peer.sends(*late)
    assert octets_of(scene.region) == b"." * 64
    assert octets_of(scene.receives[0]) == bytes(40)
    assert [done.ok for done in scene.node.received()] == [False, False]
    assert [heard.opcode for heard in scene.peer.hears()] == [Opcode.TERMINATE] * (first == "violation")
    scene.peer.expects_end_of_stream()


def test_responses_do_not_mix(way: dict[str, Any]) -> None:
    # RDMAP-5040-5.2.1-08, RDMAP-5040-5.2.2-07, RDMAP-5040-5.5-17, EXT-7306-7-01, EXT-7306-5.4-10
    """Also where each write carries one FPDU, so that all of them wait while the first is under way."""
    profile = replace(PROFILES["rfc"], one_fpdu_per_write=True)
    scene = Scene(node=Node(mulpdu=128, profile=profile), nbytes=400, ird=8, **way)
    sizes = [300, 0, 1, 200]
    asked = [read(scene.region, size=size, sink_stag=number) for number, size in enumerate(sizes)]
    scene.peer.sends(b"".join(scene.peer.frames(each) for each in [*asked, fetch_add(scene.region), asked[2]]))
    heard = scene.peer.hears()
    assert [each.stag for each in heard] == [0, 0, 0, 1, 2, 3, 3, None, 2]
    assert [each.last for each in heard] == [False, False, True, True, True, False, True, True, True]


@pytest.mark.parametrize("first", [0, 10, 28, 52])
@pytest.mark.parametrize("case", ["Read", "Atomic"])
def test_a_request_is_served_with_its_last_segment(scene: Scene, case: str, first: int) -> None:
    # RDMAP-5040-5.5-07, -14, EXT-7306-5.4-04, -06
    """Even if that one is empty: what was written before it is there, and nothing was read before."""
    request = read(scene.region, size=8, offset=8) if case == "Read" else fetch_add(scene.region, 8, add=0)
    beginning, end = cut(request, min(first, len(request.payload)))
    place = scene.region.to + 8
    scene.peer.sends(write(scene.region.stag, place, b"old data"), beginning)
    scene.peer.expects_nothing()
    scene.peer.sends(write(scene.region.stag, place, b"new data"), end)
    (heard,) = scene.peer.hears()
    if case == "Read":
        assert heard.payload == b"new data"
    else:
        assert answer(heard)[1] == int.from_bytes(b"new data", BYTE_ORDER)


def test_reads_see_what_was_written_before_them(scene: Scene) -> None:
    # RDMAP-5040-5.5-08, RDMAP-5040-5.1-07, EXT-7306-5.4-04
    """Pairs of a Write and a Read of the same octets, in one delivery."""
    frames = b""
    for number in range(4):
        place = scene.region.to + 8 * number
        frames += scene.peer.frames(write(scene.region.stag, place, bytes([number, number]) * 4))
        frames += scene.peer.frames(read(scene.region, size=8, offset=8 * number))
    scene.peer.sends(frames)
    assert [heard.payload for heard in scene.peer.hears()] == [bytes([number]) * 8 for number in range(4)]
    for number in range(100):
        scene.peer.sends(write(scene.region.stag, scene.region.to, bytes([number]) * 4), read(scene.region, size=4))
        scene.peer.expects(Opcode.READ_RESPONSE, payload=bytes([number]) * 4)
