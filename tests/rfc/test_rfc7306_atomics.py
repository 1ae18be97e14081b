"""RFC 7306, Atomics, the side that answers: what it does to memory, what it sends back, what it refuses."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable

import pytest

from pyiwarp import errors, wire
from pyiwarp.codes import AtomicOpcode, Opcode
from pyiwarp.memory.atomics import ALL_ONES, perform
from pyiwarp.mr import Access
from tests.harness import Heard, Node, RawPeer, Segment, octets_of, read, send, write
from tests.patience import PATIENCE
from tests.rfc.scene import (
    ALL_RIGHTS,
    Scene,
    answer,
    atomic,
    atomic_response,
    compare_swap,
    fetch_add,
    page,
    word,
)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def answers(scene: Scene) -> list[tuple[int, int]]:
    return [answer(heard) for heard in scene.peer.hears()]


# --- the answer ------------------------------------------------------------------------------------------------------


def test_the_response_octet_by_octet(scene: Scene) -> None:
    # EXT-7306-5.2.1-18, EXT-7306-5.2.2-01, -02, -03, -04, EXT-7306-5-05, EXT-7306-5.2-02, EXT-7306-4.1-02, -03, -05
    # EXT-7306-4.2-01, EXT-7306-4.1-01: a header of 12 octets behind the DDP header, and nothing else
    scene.holds(0x0102030405060708)
    scene.peer.sends(fetch_add(scene.region, request_id=0x11))
    (heard,) = scene.peer.hears()
    assert heard.ulpdu == bytes.fromhex("41 4B 00000000 00000003 00000001 00000000  00000011 0102030405060708")
    assert scene.value() == 0x0102030405060709


def test_memory_is_in_the_byte_order_of_the_host(scene: Scene) -> None:  # EXT-7306-5.1.1-07, EXT-7306-5.2.2-02
    scene.peer.sends(write(scene.region.stag, scene.region.to, word(1)), fetch_add(scene.region))
    assert answers(scene) == [(0, 1)]
    assert bytes(scene.region.view[:8]) == (b"\2" + bytes(7) if sys.byteorder == "little" else bytes(7) + b"\2")


def test_responses_count_their_own_messages() -> None:  # EXT-7306-5-06: Reads in between do not count on queue 3
    scene = Scene()
    scene.peer.sends(fetch_add(scene.region), read(scene.region, size=8), fetch_add(scene.region))
    heard = scene.peer.hears()
    assert [(each.opcode, each.qn, each.msn) for each in heard] == [
        (Opcode.ATOMIC_RESPONSE, 3, 1),
        (Opcode.READ_RESPONSE, None, None),
        (Opcode.ATOMIC_RESPONSE, 3, 2),
    ]


@pytest.mark.parametrize("request_id", [0, 0xFFFF_FFFF, 7])
def test_the_request_identifier_comes_back(scene: Scene, request_id: int) -> None:  # EXT-7306-5.2.1-05
    scene.peer.sends(fetch_add(scene.region, request_id=request_id), fetch_add(scene.region, request_id=request_id))
    assert [identifier for identifier, _ in answers(scene)] == [request_id] * 2


def test_both_operations_are_there(scene: Scene) -> None:  # EXT-7306-5-03, EXT-7306-5.2.1-04
    scene.holds(5)
    scene.peer.sends(fetch_add(scene.region), compare_swap(scene.region, compare=6, swap=9))
    assert answers(scene) == [(0, 5), (0, 6)]
    assert scene.value() == 9


# --- FetchAdd --------------------------------------------------------------------------------------------------------


def by_the_letter(original: int, add: int, mask: int) -> int:
    """RFC 7306 §5.1.1, its pseudocode, bit by bit."""
    carry = total = 0
    for position in range(64):
        bit = 1 << position
        here = carry + bool(original & bit) + bool(add & bit)
        carry = here >> 1
        total |= bit if here & 1 else 0
        if mask & bit:
            carry = 0
    return total


def cases() -> list[tuple[int, int, int]]:
    chance = random.Random(7306)
    masks = [0, ALL_ONES, 0x8080808080808080, 0x8000_0000_8000_0000, 1, 1 << 63]
    masks += [chance.getrandbits(64) & chance.getrandbits(64) for _ in range(40)]
    return [(chance.getrandbits(64), chance.getrandbits(64), mask) for mask in masks] + [
        (0x00FF00FF00FF00FF, 0x0001000100010001, 0x0080008000800080),
        (ALL_ONES, ALL_ONES, 0x8080808080808080),
    ]


def test_each_field_is_added_by_itself(scene: Scene) -> None:  # EXT-7306-5.1.1-05
    for original, add, mask in cases():
        scene.holds(original)
        scene.peer.sends(fetch_add(scene.region, add=add, mask=mask))
        assert answers(scene) == [(0, original)]
        assert scene.value() == by_the_letter(original, add, mask), (original, add, mask)


@pytest.mark.parametrize(("original", "add", "total"), [(ALL_ONES, 1, 0), (41, 1, 42), (5, ALL_ONES, 4)])
def test_without_mask_it_is_plain_addition(scene: Scene, original: int, add: int, total: int) -> None:
    # EXT-7306-5.1.1-06
    scene.holds(original)
    scene.peer.sends(fetch_add(scene.region, add=add))
    assert answers(scene) == [(0, original)]
    assert scene.value() == total


def test_a_fetch_add_looks_at_nothing_that_is_not_its_own(scene: Scene) -> None:
    # EXT-7306-5.2.1-03, EXT-7306-5.2.1-09: reserved bits, Compare Data and Compare Mask
    for noise in ({"rsvd": 0xFFFFFFF}, {"compare": 12345}, {"compare_mask": 0}, {"compare": ALL_ONES}):
        scene.holds(40)
        scene.peer.sends(fetch_add(scene.region, add=2, **noise))
        assert answers(scene) == [(0, 40)]
        assert scene.value() == 42


# --- CmpSwap ---------------------------------------------------------------------------------------------------------

SWAPS = {  # original, compare, compare mask, swap, swap mask, result: EXT-7306-5.1.2-01, -02, -03
    "equal": (5, 5, ALL_ONES, 9, ALL_ONES, 9),
    "unequal": (5, 6, ALL_ONES, 9, ALL_ONES, 5),
    "unequal in the top bit": (1 << 63, 0, ALL_ONES, 9, ALL_ONES, 1 << 63),
    "nothing is compared": (5, 6, 0, 9, ALL_ONES, 9),
    "equal as far as compared": (0xAB05, 0xCD05, 0xFF, 9, ALL_ONES, 9),
    "unequal where compared": (0xAB05, 0xCD05, 0xFF00, 9, ALL_ONES, 0xAB05),
    "some bits are swapped": (0xAAAA, 0xAAAA, ALL_ONES, 0x5555, 0x0FF0, 0xA55A),
    "no bit is swapped": (0xAAAA, 0xAAAA, ALL_ONES, 0x5555, 0, 0xAAAA),
}


@pytest.mark.parametrize("case", SWAPS)
def test_compare_and_swap(scene: Scene, case: str) -> None:
    original, compare, compare_mask, swap, swap_mask, result = SWAPS[case]
    scene.holds(original)
    request = compare_swap(
        scene.region, compare=compare, compare_mask=compare_mask, swap=swap, swap_mask=swap_mask, rsvd=0xFFFFFFF
    )
    scene.peer.sends(request, read(scene.region, size=8))
    swapped, now = scene.peer.hears()
    assert answer(swapped) == (0, original), "what was there comes back in both cases"
    assert now.payload == word(result)
    assert scene.guarded


# --- alignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("operation", AtomicOpcode)
def test_a_misaligned_atomic_is_refused_and_changes_nothing(operation: AtomicOpcode, offset: int) -> None:
    # EXT-7306-5.1.1-02, -03, -04, EXT-7306-5.1.2-05, -06, -07, -08, EXT-7306-8.2-04, -05, ambiguity 33
    scene = Scene()
    before = scene.memory()
    bad = atomic(operation, scene.region, offset, data=1, mask=ALL_ONES, compare_mask=0)  # it would change something
    scene.peer.sends(bad)
    heard = scene.peer.expects_terminate(errors.StreamCatastrophe.term, mdr="110", segment_length=70)
    assert heard.payload[:2] == b"\x02\x07"
    assert heard.quoted == bad.octets(1)[:18]
    scene.peer.expects_end_of_stream()
    assert scene.memory() == before
    assert type(scene.error) is errors.StreamCatastrophe


def test_the_next_multiple_of_eight_is_good(scene: Scene) -> None:  # EXT-7306-8.2-04
    # EXT-7306-5.2.1-06
    scene.holds(1, offset=8)
    scene.peer.sends(fetch_add(scene.region, 8))
    assert answers(scene) == [(0, 1)]


@pytest.mark.parametrize(("to", "good"), [(4, True), (12, True), (0, False), (8, False), (3, False)])
def test_the_address_is_aligned_not_the_offset(to: int, good: bool) -> None:  # EXT-7306-5.2.1-07
    scene = Scene()
    region = scene.node.pd.register(page(64, shift=4), ALL_RIGHTS | Access.ZERO_BASED)
    scene.peer.sends(fetch_add(stag=region.stag, to=to))
    if good:
        assert answers(scene) == [(0, 0)]
    else:
        scene.peer.expects_terminate(errors.StreamCatastrophe.term)
        assert octets_of(region) == bytes(64)


# --- what is refused -------------------------------------------------------------------------------------------------

Refused = tuple[Callable[[Scene], Segment], type[errors.ProtocolViolation]]

# EXT-7306-8.2-06, EXT-7306-8.1-02: like a Read's source, with the DDP header and without the RDMA header
REFUSED: dict[str, Refused] = {
    "unknown STag": (lambda s: fetch_add(stag=5, to=0), errors.ReadInvalidStag),
    "another PD's STag": (lambda s: fetch_add(s.foreign), errors.ReadStagNotAssociated),
    "read right only": (lambda s: fetch_add(s.read_only), errors.ReadAccessRights),
    "write right only": (lambda s: fetch_add(s.write_only), errors.ReadAccessRights),
    "before the region": (lambda s: fetch_add(s.region, -8), errors.ReadBounds),
    "across its end": (lambda s: fetch_add(s.region, 60), errors.ReadBounds),
    "behind it": (lambda s: fetch_add(s.region, 64), errors.ReadBounds),
    "past 2^64": (lambda s: fetch_add(s.region, to=(1 << 64) - 4), errors.ReadWrap),
    "AOpCode 1": (lambda s: atomic(1, s.region, data=1), errors.UnexpectedOpcode),
    "AOpCode 3": (lambda s: atomic(3, s.region, data=1), errors.UnexpectedOpcode),
    "AOpCode 15": (lambda s: atomic(15, s.region, data=1), errors.UnexpectedOpcode),
    "RV 0": (lambda s: fetch_add(s.region, rv=0), errors.RdmapVersion),
    "RV 2": (lambda s: fetch_add(s.region, rv=2), errors.RdmapVersion),
    "RV 3": (lambda s: fetch_add(s.region, rv=3), errors.RdmapVersion),
    "DV 0": (lambda s: fetch_add(s.region, dv=0), errors.UntaggedVersion),
    "MSN ahead": (lambda s: fetch_add(s.region, msn=2), errors.MsnOutOfRange),
    "MO outside": (lambda s: fetch_add(s.region, mo=52), errors.InvalidMo),
    "on queue 0": (lambda s: fetch_add(s.region, qn=0), errors.UnexpectedOpcode),
    "on queue 3": (lambda s: fetch_add(s.region, qn=3, msn=1), errors.UnexpectedOpcode),
    "51 octets": (lambda s: Segment(opcode=0xA, qn=1, payload=bytes(51)), errors.MalformedMessage),
    "53 octets": (lambda s: Segment(opcode=0xA, qn=1, payload=bytes(53)), errors.MessageTooLong),
    "Response unasked for": (lambda s: atomic_response(0, 0), errors.NoBufferForMsn),
    "Response on queue 0": (lambda s: atomic_response(0, 0, qn=0), errors.UnexpectedOpcode),
    "Response on queue 1": (lambda s: atomic_response(0, 0, qn=1), errors.UnexpectedOpcode),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(scene: Scene, case: str) -> None:
    # EXT-7306-5.2.1-14, EXT-7306-5.2.1-15, EXT-7306-5.2.2-04, EXT-7306-10.1-01, EXT-7306-4.1-01, EXT-7306-8.2-01, -03
    # DDP-5041-7.1-02
    make, violation = REFUSED[case]
    before = scene.memory()
    bad = make(scene)
    ulpdu = bad.octets(1 if bad.msn is None else bad.msn)
    scene.peer.sends(bad)
    scene.peer.expects_terminate(violation.term, mdr="110", segment_length=len(ulpdu), quoted=ulpdu[:18])
    scene.peer.expects_end_of_stream()
    assert scene.memory() == before
    assert scene.guarded
    assert type(scene.error) is violation


@pytest.mark.parametrize("opcode", [0xC, 0xD, 0xE, 0xF])
@pytest.mark.parametrize("extensions", [False, True])
def test_opcodes_that_nobody_registered(opcode: int, extensions: bool) -> None:  # EXT-7306-8.2-02
    scene = Scene(node=Node(extensions=extensions))
    scene.peer.sends(send(b"12345678", opcode=opcode))
    scene.peer.expects_terminate(errors.UnexpectedOpcode.term, mdr="110")


def test_queues_that_nobody_registered(scene: Scene) -> None:  # EXT-7306-10.2-01
    scene.peer.sends(send(b"x", qn=4, msn=1))
    scene.peer.expects_terminate(errors.InvalidQn.term)


@pytest.mark.parametrize(("opcode", "qn"), [(0x8, 0), (0x9, 0), (0xA, 1), (0xB, 0)])
def test_without_the_extension_its_opcodes_are_unexpected(opcode: int, qn: int) -> None:  # EXT-7306-1.1-02
    scene = Scene(node=Node(extensions=False))
    scene.peer.sends(send(bytes(8), opcode=opcode, qn=qn))
    scene.peer.expects_terminate(errors.UnexpectedOpcode.term, mdr="110")
    assert scene.memory()[0] == b"." * 64


def test_without_the_extension_there_is_no_queue_3() -> None:
    # EXT-7306-1.1-02, EXT-7306-10.2-01, RDMAP-5040-3.1-02
    scene = Scene(node=Node(extensions=False))
    scene.peer.sends(atomic_response(0, 0))
    scene.peer.expects_terminate(errors.InvalidQn.term, mdr="110")


def test_the_invalidate_field_is_not_looked_at(scene: Scene) -> None:  # EXT-7306-4.1-04
    scene.holds(1)
    scene.peer.sends(fetch_add(scene.region, inval_stag=scene.region.stag), fetch_add(scene.region))
    assert answers(scene) == [(0, 1), (0, 2)]
    assert scene.region.is_open


# --- order -----------------------------------------------------------------------------------------------------------


def test_atomics_are_done_in_the_order_of_asking() -> None:
    # EXT-7306-5.2.1-17, EXT-7306-5.2.2-09: many in one delivery
    scene = Scene(ird=16)
    scene.holds(0)
    scene.peer.sends(b"".join(scene.peer.frames(fetch_add(scene.region, request_id=99 - n)) for n in range(16)))
    assert answers(scene) == [(99 - n, n) for n in range(16)]


def test_a_chain_of_swaps(scene: Scene) -> None:  # EXT-7306-5.4-09
    scene.holds(0)
    scene.peer.sends(*[compare_swap(scene.region, compare=n, swap=n + 1) for n in range(3)])
    assert [value for _, value in answers(scene)] == [0, 1, 2]
    assert scene.value() == 3


def test_reads_and_atomics_are_answered_in_one_order() -> None:  # EXT-7306-7-01, EXT-7306-5.4-10
    scene = Scene(nbytes=5000)
    scene.holds(0)
    scene.peer.sends(
        fetch_add(scene.region), read(scene.region, size=5000), fetch_add(scene.region), read(scene.region, size=8)
    )
    heard = scene.peer.hears()
    assert [each.opcode for each in heard if each.last] == [Opcode.ATOMIC_RESPONSE, Opcode.READ_RESPONSE] * 2
    assert len(heard) == 7
    assert [answer(each)[1] for each in heard if each.opcode is Opcode.ATOMIC_RESPONSE] == [0, 1]


def test_an_atomic_sees_what_was_written_before_it(scene: Scene) -> None:  # EXT-7306-5.4-04, EXT-7306-5.4-06
    """In one delivery, of which the last octet is held back."""
    burst = scene.peer.frames(write(scene.region.stag, scene.region.to, word(5)))
    burst += scene.peer.frames(fetch_add(scene.region))
    scene.peer.sends(burst[:-1])
    scene.peer.expects_nothing()
    assert scene.value() == 5, "the Atomic has not begun"
    scene.peer.sends(burst[-1:])
    assert answers(scene) == [(0, 5)]
    assert scene.value() == 6


def test_a_send_is_complete_before_the_atomic_behind_it_is_answered(scene: Scene) -> None:  # EXT-7306-7-03
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends(send(b"first"), fetch_add(scene.region))
    assert [done.nbytes for done in scene.node.received()] == [5], "before any octet of the answer has left"


# --- how many --------------------------------------------------------------------------------------------------------


def clogged(ird: int) -> Scene:
    scene = Scene(ird=ird)
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends()
    return scene


def test_reads_and_atomics_share_ird() -> None:  # EXT-7306-5.2.1-11, EXT-7306-5.2.2-05
    scene = clogged(4)
    kinds = [read(scene.region, size=8), fetch_add(scene.region)] * 2
    scene.peer.sends(*kinds)
    assert scene.error is None
    scene.peer.end.clogged = False
    assert len(scene.peer.hears()) == 5


@pytest.mark.parametrize("kind", ["read", "atomic"])
def test_one_question_too_many(kind: str) -> None:  # EXT-7306-5.2-01, EXT-7306-5.2.1-11
    scene = clogged(2)
    scene.holds(0)
    questions = {"read": read(scene.region, size=8), "atomic": fetch_add(scene.region)}
    scene.peer.sends(questions["read"], questions["atomic"])
    assert scene.node.qp.alive
    scene.peer.sends(questions[kind])
    assert type(scene.error) is errors.NoBufferForMsn
    assert scene.value() == 1, "the one too many is not done"


def test_answers_that_have_left_make_room(scene: Scene) -> None:  # EXT-7306-5.2.2-05
    scene.holds(0)
    for _ in range(3):
        scene.peer.sends(*[fetch_add(scene.region)] * 4)
    assert [value for _, value in answers(scene)] == list(range(12))


def test_the_program_is_not_told(scene: Scene) -> None:  # EXT-7306-5.2.1-12, EXT-7306-5.2.1-13
    scene.holds(0)
    for _ in range(100):
        scene.peer.sends(fetch_add(scene.region))
    assert scene.node.received() == scene.node.sent() == []
    scene.peer.sends(send(b"x"), send(b"y"))
    assert [done.wr_id for done in scene.node.received()] == ["recv 1", "recv 2"], "no receive was used"


def test_atomics_need_no_receive() -> None:  # EXT-7306-5.2.1-12
    scene = Scene(receives=0)
    scene.holds(3)
    scene.peer.sends(fetch_add(scene.region))
    assert answers(scene) == [(0, 3)]


# --- one at a time ---------------------------------------------------------------------------------------------------

STREAMS, ROUNDS, BURST = 4, 50, 8


def test_several_streams_count_in_one_word() -> None:
    # EXT-7306-5-01, EXT-7306-5.3-01, EXT-7306-5.4-02: of one protection domain, each with requests in pieces
    first = Scene(receives=0, ird=BURST)
    first.holds(0)
    peers = [first.peer] + [
        RawPeer(
            type("Sibling", (), {"qp": first.node.pd.create_qp(first.node.send_cq, first.node.recv_cq)})(), ird=BURST
        )
        for _ in range(STREAMS - 1)
    ]
    chance = random.Random(1)
    seen: list[int] = []
    for _ in range(ROUNDS):
        bursts = {peer: b"".join(peer.frames(fetch_add(first.region)) for _ in range(BURST)) for peer in peers}
        while bursts:
            peer = chance.choice(list(bursts))
            nbytes = chance.randrange(1, 200)
            peer.sends(bursts[peer][:nbytes])
            bursts[peer] = bursts[peer][nbytes:]
            if not bursts[peer]:
                del bursts[peer]
            seen += [answer(heard)[1] for heard in peer.hears()]
    assert sorted(seen) == list(range(STREAMS * ROUNDS * BURST)), "each number was seen by exactly one request"
    assert first.value() == STREAMS * ROUNDS * BURST


def test_several_threads_count_in_one_word() -> None:  # EXT-7306-5-01, EXT-7306-5.4-02: contexts in loops of their own
    # EXT-7306-5.3-01
    memory = page(8)
    request = wire.AtomicRequest(AtomicOpcode.FETCH_ADD, 0, 0, 0, 1, 0)
    seen: list[list[int]] = [[] for _ in range(STREAMS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda mine=mine: mine.extend(perform(request, memory) for _ in range(5000)))
            for mine in seen
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(number for mine in seen for number in mine) == list(range(STREAMS * 5000))


def test_the_first_error_counts_among_atomics_too(scene: Scene) -> None:  # EXT-7306-8.1-02, ambiguity 33
    scene.peer.sends(fetch_add(scene.region, 4), fetch_add(stag=9, to=0), read(scene.region, size=8))
    heard: list[Heard] = scene.peer.hears()
    assert [each.term for each in heard] == [errors.StreamCatastrophe.term]
