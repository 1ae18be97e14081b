"""A run at the level rping finds peers that break one rule somewhere, in both directions, and names what they break."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.results import Report
from pyiwarp.conformance.runner import Runner
from tests.conformance.peers import Breaker
from tests.conformance.rping_peers import Edit, octet_of, reframed, rping, with_crc
from tests.hosts import HOST

TIMEOUT, QUIET = 1.0, 0.1  # seconds
EMPTY_WRITE = build_tagged(Opcode.WRITE, 0, 0)
WHERE_IT_CAN = {Direction.CONNECT: "as a server", Direction.LISTEN: "as a client"}
SERVER = frozenset([Direction.CONNECT])
CLIENT = frozenset([Direction.LISTEN])

When = Callable[[Message], bool]


def always(seen: Message) -> bool:
    return True


def of(*opcodes: Opcode) -> When:
    return lambda seen: seen.segment is not None and seen.segment.opcode in opcodes


def flips(at: int, mask: int, when: When = always) -> Callable[[], Edit]:
    """Turn bits of octet `at` of the ULPDU round; from the end, if `at` is negative."""

    def edit(seen: Message) -> bytes:
        size = len(seen.fpdu.ulpdu)
        if not when(seen) or not -size <= at < size:
            return seen.fpdu.octets
        octets = bytearray(seen.fpdu.octets)
        octets[octet_of(seen.fpdu, at % size)] ^= mask
        return with_crc(octets)

    return lambda: edit


def after(count: int, make: Callable[[], Edit]) -> Callable[[], Edit]:
    """The first `count` FPDUs of a connection stay as they are."""

    def made() -> Edit:
        numbers, edit = itertools.count(), make()
        return lambda seen: seen.fpdu.octets if next(numbers) < count else edit(seen)

    return made


def pad_of_ones() -> Edit:
    def edit(seen: Message) -> bytes:
        octets = bytearray(seen.fpdu.octets)
        for index in range(len(seen.fpdu.pad)):
            octets[octet_of(seen.fpdu, len(seen.fpdu.ulpdu) + index)] = 0xFF
        return with_crc(octets)

    return edit


def markers_changed(change: Callable[[int], int]) -> Callable[[], Edit]:
    """What markers inside FPDUs hold is changed."""

    def edit(seen: Message) -> bytes:
        octets = bytearray(seen.fpdu.octets)
        for marker in seen.fpdu.markers:
            if marker.due:
                here = slice(marker.position, marker.position + 4)
                octets[here] = change(int.from_bytes(octets[here], "big")).to_bytes(4, "big")
        return with_crc(octets)

    return lambda: edit


def lacks_last_octet(*opcodes: Opcode) -> Callable[[], Edit]:
    def edit(seen: Message) -> bytes:
        lost = of(*opcodes)(seen) and seen.segment is not None and seen.segment.payload
        return reframed(seen, seen.fpdu.ulpdu[:-1]) if lost else seen.fpdu.octets

    return lambda: edit


def wrong_crc_sometimes() -> Edit:
    numbers = itertools.count(1)

    def edit(seen: Message) -> bytes:
        octets = bytearray(seen.fpdu.octets)
        octets[-1] ^= next(numbers) % 3 == 0
        return bytes(octets)

    return edit


def sends_besides(ulpdu: bytes) -> Callable[[], Edit]:
    """One more FPDU before the second that the peer sends; none among markers, whose places it would move."""

    def make() -> Edit:
        earlier: list[Message] = []

        def edit(seen: Message) -> bytes:
            besides = len(earlier) == 1 and not earlier[0].fpdu.markers
            earlier.append(seen)
            return (reframed(seen, ulpdu) if besides else b"") + seen.fpdu.octets

        return edit

    return make


def goes_on_after_its_terminate() -> Edit:
    return lambda seen: seen.fpdu.octets + (reframed(seen, EMPTY_WRITE) if seen.terminate else b"")


def overlooks(when: When) -> Callable[[], Edit]:
    """What the peer should refuse never reaches it; an empty Write does, so that it goes on."""

    def edit(seen: Message) -> bytes:
        return reframed(seen, EMPTY_WRITE) if when(seen) else seen.fpdu.octets

    return lambda: edit


def too_long(seen: Message) -> bool:
    segment = seen.segment
    return segment is not None and not segment.tagged and segment.qn == 0 and segment.mo + len(segment.payload) > 4096


def of_unknown_opcode(tagged: bool, qn: int = 0) -> When:
    def when(seen: Message) -> bool:
        segment = seen.segment
        return segment is not None and segment.opcode > 0xB and (segment.tagged, segment.qn) == (tagged, qn)

    return when


class TakesAnyResponse:
    """Makes a server that takes a Response whatever place it names: what it hears is put where it asked for it."""

    def __init__(self, *, stag: bool) -> None:
        self._stag = stag
        self._asked = b""

    def says(self, seen: Message) -> bytes:
        if seen.segment is not None and seen.segment.opcode == Opcode.READ_REQUEST:
            self._asked = seen.segment.payload[:12]
        return seen.fpdu.octets

    def hears(self, seen: Message) -> bytes:
        segment = seen.segment
        if segment is None or segment.opcode != Opcode.READ_RESPONSE:
            return seen.fpdu.octets
        ulpdu = bytearray(seen.fpdu.ulpdu)
        if self._stag:
            ulpdu[2:6] = self._asked[:4]
        else:
            ulpdu[6:14] = self._asked[4:12]
        return reframed(seen, bytes(ulpdu))


def takes_any_response(name: str, *, stag: bool) -> Breaker:
    made: list[TakesAnyResponse] = []

    def says() -> Edit:
        made.append(TakesAnyResponse(stag=stag))
        return made[-1].says

    return rping(name, says, lambda: made[-1].hears, SERVER)


RESPONSE, SEND, WRITE = Opcode.READ_RESPONSE, Opcode.SEND, Opcode.WRITE
REQUEST, TERMINATE = Opcode.READ_REQUEST, Opcode.TERMINATE
FULL = sends_besides(build_untagged(SEND, 0, 1, bytes(16)))

PEERS = [  # a peer, and the requirements one of which the report of its failure must name: id of a case or of a rule
    (rping("pad octets of ones", pad_of_ones), "MPA-5044-4.1-03"),
    (rping("FPDUPTR four too large", markers_changed(lambda marker: marker + 4)), "MPA-5044-4.3-04"),
    (rping("RESERVED of a marker set", markers_changed(lambda marker: marker | 1 << 31)), "MPA-5044-4.2-02"),
    (rping("FPDUPTR's low bits set", markers_changed(lambda marker: marker | 1)), "MPA-5044-4.2-04"),
    (rping("a CRC that is wrong sometimes", wrong_crc_sometimes), "MPA-5044-4.4-12"),
    (rping("DV 2", flips(0, 3)), "DDP-5041-4.1-11"),
    (rping("DV 2 in the third FPDU", after(2, flips(0, 3))), "DDP-5041-4.1-11"),
    (rping("reserved bits of DDP set", flips(0, 4)), "DDP-5041-4.1-09"),
    (rping("RV 0", flips(1, 0x40)), "RDMAP-5040-4.1-07"),
    (rping("reserved bits of RDMAP set", flips(1, 0x10)), "RDMAP-5040-4.1-08"),
    (rping("reserved bits of RDMAP set in Terminates", flips(1, 0x10, of(TERMINATE))), "RDMAP-5040-4.1-08"),
    (rping("L is not set in Read Responses", flips(0, 0x40, of(RESPONSE))), "Read response"),
    (rping("L is not set in Terminates", flips(0, 0x40, of(TERMINATE))), "DDP-5041-4.1-03"),
    (rping("T turned round in Terminates", flips(0, 0x80, of(TERMINATE))), "RDMAP-5040-4.1-04"),
    (rping("a Read Response to another STag", flips(5, 1, of(RESPONSE))), "RDMAP-5040-4.4-02"),
    (rping("a Read Response at another TO", flips(13, 1, of(RESPONSE))), "RDMAP-5040-4.4-03"),
    (rping("a Read Response with another first octet", flips(14, 0xFF, of(RESPONSE)), None, CLIENT), "octets"),
    (rping("a Read Response without its last octet", lacks_last_octet(RESPONSE), None, CLIENT), "RDMAP-5040-4.4-05"),
    (rping("Sends without their last octet", lacks_last_octet(SEND)), "16 octets"),
    (rping("Sends without L", flips(0, 0x40, of(SEND))), "DDP-5041"),
    (rping("Sends with an STag", flips(5, 1, of(SEND))), "RDMAP-5040-4.1-10"),
    (rping("Sends on queue 4", flips(9, 4, of(SEND))), "RDMAP-5040-4.1-06"),
    (rping("Sends that begin with MSN 3", flips(13, 2, of(SEND))), "DDP-5041-4.3-08"),
    (rping("Sends at MO 1", flips(17, 1, of(SEND))), "DDP-5041-4.3-11"),
    (rping("opcode 0xC instead of Send", flips(1, 0xF, of(SEND))), "RDMAP-5040-4.1-05"),
    (rping("Terminates on queue 3", flips(9, 1, of(TERMINATE))), "RDMAP-5040-4.1-06"),
    (rping("Terminates with MSN 2", flips(13, 3, of(TERMINATE))), "DDP-5041-4.3-08"),
    (rping("Terminates with reserved bits", flips(21, 1, of(TERMINATE))), "RDMAP-5040-4.8-07"),
    (rping("Terminates with another header copy", flips(27, 1, of(TERMINATE))), "RDMAP-5040-4.8-11"),
    (rping("Terminates with another length", flips(23, 1, of(TERMINATE))), "RDMAP-5040-4.8-09"),
    (rping("goes on after its Terminate", goes_on_after_its_terminate), "RDMAP-5040-5.4-09"),
    (rping("a Send that is there twice", FULL), "DDP-5041-4.3-07"),
    (rping("a Read Response that nobody asked for", sends_besides(build_tagged(RESPONSE, 1, 0, b"x"))), "RDMAP-5040"),
    (rping("a Write to memory that was not shown", sends_besides(build_tagged(WRITE, 1, 0, b"x"))), "DDP-5041-4.2-05"),
    (rping("an Atomic Response", sends_besides(build_untagged(11, 3, 1, bytes(12)))), "EXT-7306-5-06"),
    (rping("Immediate Data of 9 octets", sends_besides(build_untagged(8, 0, 2, bytes(9)))), "EXT-7306-6.3-05"),
    (rping("a ULPDU without a header", sends_besides(b"\x41\x43")), "DDP-5041-4.4-01"),
    (rping("Read Requests of 27 octets", lacks_last_octet(REQUEST), None, SERVER), "RDMAP-5040-4.4-01"),
    (rping("Read Requests with a larger size", flips(33, 0x80, of(REQUEST)), None, SERVER), "DDP-5041-4.2-05"),
    (rping("Read Requests with a smaller size", flips(33, 0x60, of(REQUEST)), None, SERVER), "RDMAP-5040-5.2.1-10"),
    (rping("Read Requests of another source", flips(37, 1, of(REQUEST)), None, SERVER), "DDP-5041-4.2-05"),
    (rping("Read Requests on queue 0", flips(9, 1, of(REQUEST)), None, SERVER), "RDMAP-5040-4.1-06"),
    (rping("Read Requests with MSN 2", flips(13, 3, of(REQUEST)), None, SERVER), "DDP-5041-4.3-08"),
    (rping("a Write with another last octet", flips(-2, 1, of(WRITE)), None, SERVER), "DDP-5041-5.2-04/4"),
    (rping("a Write with another first octet", flips(14, 1, of(WRITE)), None, SERVER), "DDP-5041-5.2-04/4"),
    (rping("a Write without its last octet", lacks_last_octet(WRITE), None, SERVER), "DDP-5041-5.2-04/4"),
    (rping("a Write four octets further", flips(13, 4, of(WRITE)), None, SERVER), "DDP-5041-4.2-05"),
    (rping("a Write to another STag", flips(5, 1, of(WRITE)), None, SERVER), "DDP-5041-4.2-05"),
    (takes_any_response("takes a Response to any STag", stag=True), "RDMAP-5040-5.2.2-05/7"),
    (takes_any_response("takes a Response at any TO", stag=False), "RDMAP-5040-5.2.2-05/8"),
    (rping("takes a Send of any size", None, overlooks(too_long)), "RDMAP-5040-5.3-04/2"),
    (rping("overlooks unknown opcodes, tagged", None, overlooks(of_unknown_opcode(True))), "RDMAP-5040-4.1-04"),
    (rping("overlooks unknown opcodes, queue 0", None, overlooks(of_unknown_opcode(False))), "RDMAP-6580-3.4-02"),
    (rping("overlooks unknown opcodes, queue 1", None, overlooks(of_unknown_opcode(False, 1))), "RDMAP-6580-3.4-02"),
]
MEETINGS = [(peer, direction, named) for peer, named in PEERS for direction in sorted(peer.directions)]


CASES = [
    case
    for case in cases()
    if case.level is Level.RPING
    or case.id.startswith(
        ("MPA-5044-4.3-12/", "MPA-5044-4.1-05", "RDMAP-6580-3.4-02", "RDMAP-5040-4.1-04", "RDMAP-5040-4.8-11")
    )
]
"""Those that find the peers below; the others of a run at that level take their time and find many of them too."""


async def run_against(peer: Breaker, direction: Direction) -> Report:
    """A run at the level rping, up to the first failure."""
    async with peer.make(direction) as place:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        settings = Settings(direction, Level.RPING, HOST, place.port, TIMEOUT, QUIET)
        runner = Runner(settings, fail_fast=True, strict=True, listening=port.set_result)
        if place.visit is None:
            return await runner.run(CASES)
        running = asyncio.get_running_loop().create_task(runner.run(CASES))
        async with place.visit(await port):
            return await running


@pytest.mark.parametrize(
    ("peer", "direction", "named"), MEETINGS, ids=[f"{peer.name}, {WHERE_IT_CAN[d]}" for peer, d, _ in MEETINGS]
)
async def test_it_is_found(peer: Breaker, direction: Direction, named: str) -> None:
    report = await run_against(peer, direction)
    assert not report.abandoned
    failed = [result for result in report.results if result.verdict is Verdict.FAILED]
    assert failed, f"{peer.name} is not found: {report.counts}"
    assert named in "\n".join(failed[0].details()), "\n".join(failed[0].details())
