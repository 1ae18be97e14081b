"""Peers that break a rule of DDP, RDMAP or RFC 7306: what they send is changed on its way, or their engine is bent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pyiwarp import ddp, fastwire, rdmap
from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.ddp import UntaggedQueue
from pyiwarp.decode.segments import Segment
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.engine import stream
from pyiwarp.engine.stream import Stream
from pyiwarp.memory import atomics
from pyiwarp.mr import StagTable
from pyiwarp.queues import qp
from tests.conformance.breakers.generic import bent, fpdu_changed
from tests.conformance.peers import Breaker, Tells, target

When = Callable[[Segment], bool]

ALL_ONES = (1 << 64) - 1


def assign(*table: tuple[Breaker, str]) -> dict[str, Breaker]:
    """A breaker for each id of a text: that of the row where it stands."""
    found: dict[str, Breaker] = {}
    for breaker, ids in table:
        for each in ids.split():
            assert each not in found, f"{each} has two breakers"
            found[each] = breaker
    return found


# --- segments, changed on their way ----------------------------------------------------------------------------------


def anything(segment: Segment) -> bool:
    """Every segment."""
    return True


def of(*opcodes: int) -> When:
    """Segments of these messages."""
    return lambda segment: segment.opcode in opcodes


def last_of_several(segment: Segment) -> bool:
    """The last segment of a message, or its only one."""
    return segment.last


def later(segment: Segment) -> bool:
    """An untagged segment that is not the first of its message."""
    return segment.mo > 0


def changed(name: str, when: When, change: Callable[[bytes], bytes | None]) -> Breaker:
    """The target, the ULPDUs of some of its segments changed; None loses one."""

    def edit(seen: Message) -> bytes | None:
        if seen.segment is None or not when(seen.segment):
            return seen.fpdu.octets
        ulpdu = change(seen.fpdu.ulpdu)
        return None if ulpdu is None else Framer().frame(ulpdu)

    return fpdu_changed(name, edit)


def flipped(name: str, at: int, mask: int, when: When = anything) -> Breaker:
    """The target, the bits `mask` of octet `at` of some ULPDUs turned round."""

    def change(ulpdu: bytes) -> bytes:
        return ulpdu[:at] + bytes([ulpdu[at] ^ mask]) + ulpdu[at + 1 :] if at < len(ulpdu) else ulpdu

    return changed(name, when, change)


def _untagged(segment: Segment) -> bool:
    return not segment.tagged


def _tagged(segment: Segment) -> bool:
    return segment.tagged


def _late_message(segment: Segment) -> bool:
    return not segment.tagged and segment.qn == 0 and segment.msn >= 10


SETS_DDP_RESERVED = flipped("a target that sets a reserved bit of DDP's", 0, 0x04)
OTHER_DDP_VERSION = flipped("a target of DDP version 2", 0, 0x03)
OTHER_T = flipped("a target that turns T round", 0, 0x80)
OTHER_RDMAP_VERSION = flipped("a target of RDMAP version 3", 1, 0x80)
SETS_RDMAP_RESERVED = flipped("a target that sets a reserved bit of RDMAP's", 1, 0x10)
SETS_RDMAP_RESERVED_LAST = flipped("a target whose last segments differ", 1, 0x10, last_of_several)
OTHER_SENDS = flipped("a target that takes one Send for another", 1, 0x01, of(3, 4, 5, 6))
OTHER_WRITES = flipped("a target whose Writes look like Read Responses", 1, 0x02, of(0))
OTHER_STAG = flipped("a target that names another STag", 5, 0x01)
OTHER_STAG_LAST = flipped("a target that names another STag in last segments", 5, 0x01, last_of_several)
OTHER_TO = flipped("a target that Writes elsewhere", 13, 0x04, _tagged)
OTHER_QN = flipped("a target that takes another queue", 9, 0x04, _untagged)
OTHER_MSN = flipped("a target that counts otherwise", 13, 0x02, _untagged)
OTHER_MSN_LATER = flipped("a target that counts segments", 13, 0x02, later)
OTHER_MO = flipped("a target whose messages begin at MO 1", 17, 0x01, _untagged)
OTHER_MO_LATER = flipped("a target whose MOs are wrong", 17, 0x01, later)
OTHER_READ_SIZE = flipped("a target that asks for more", 33, 0x40, of(Opcode.READ_REQUEST))
OTHER_DATA = flipped("a target that answers with other octets", 14, 0xFF, of(Opcode.READ_RESPONSE))
OTHER_PAYLOAD = flipped("a target that sends other octets", 22, 0xFF)
OTHER_VALUE = flipped("a target whose Atomics give other values", 29, 0x01, of(Opcode.ATOMIC_RESPONSE))
OTHER_IDENTIFIER = flipped("a target that answers another Atomic", 21, 0x01, of(Opcode.ATOMIC_RESPONSE))
OTHER_OPERAND = flipped("a target that adds something else", 45, 0x01, of(Opcode.ATOMIC_REQUEST))
OTHER_COMPARE = flipped("a target that sets Compare Data", 61, 0x01, of(Opcode.ATOMIC_REQUEST))
SETS_ATOMIC_RESERVED = flipped("a target that sets a reserved bit of Atomics", 18, 0x10, of(Opcode.ATOMIC_REQUEST))
MO_OF_LAST_IS_ZERO = changed(
    "a target whose last segments have MO 0",
    lambda segment: segment.last and later(segment),
    lambda ulpdu: ulpdu[:14] + bytes(4) + ulpdu[18:],
)
EXTRA_OCTET = changed("a target that sends an octet too many", last_of_several, lambda ulpdu: ulpdu + b"x")
LACKING_OCTET = changed(
    "a target that forgets an octet", lambda segment: segment.last and bool(segment.payload), lambda ulpdu: ulpdu[:-1]
)
LOSES_MESSAGES = changed("a target that loses late messages", _late_message, lambda ulpdu: None)


def _swapping() -> Any:
    """Of two FPDUs the second goes first."""
    held: list[bytes] = []

    def change(seen: Frame | Message) -> bytes | None:
        if isinstance(seen, Frame):
            return seen.octets
        if held:
            return seen.fpdu.octets + held.pop()
        held.append(seen.fpdu.octets)
        return None

    return change


SWAPS = target("a target whose FPDUs overtake each other", says=_swapping)

# --- Terminates, changed on their way --------------------------------------------------------------------------------

TERMINATE = of(Opcode.TERMINATE)
T_RESERVED = flipped("a target that sets a reserved bit of Terminate's", 21, 0x01, TERMINATE)
T_LENGTH = flipped("a target that counts otherwise in Terminates", 23, 0x02, TERMINATE)
T_COPY = flipped("a target that copies headers badly", 27, 0x01, TERMINATE)
T_READ_COPY = flipped("a target that copies Read Requests badly", 47, 0x01, TERMINATE)
T_EXTRA = changed("a target that says more in Terminates", TERMINATE, lambda ulpdu: ulpdu + b"more")
T_SAYS_R = changed(
    "a target that always quotes an RDMA header",
    TERMINATE,
    lambda ulpdu: ulpdu[:20] + bytes([ulpdu[20] | 0x20]) + ulpdu[21:] + bytes(28),
)
T_QUOTES_NOTHING = changed(
    "a target that quotes nothing", TERMINATE, lambda ulpdu: ulpdu[:20] + bytes([ulpdu[20] & 0x1F, 0])
)
T_MSN = flipped("a target whose Terminates have another MSN", 13, 0x02, TERMINATE)
T_UNREGISTERED = flipped("a target whose Terminates have codes that nobody registered", 19, 0x40, TERMINATE)

# --- the engine, bent ------------------------------------------------------------------------------------------------

PLACES_NOTHING = bent(
    "a target that places no Write", StagTable, "sink", lambda self, stag, to, nbytes, *more, **named: _nowhere(nbytes)
)
CHECKS_DDP_RESERVED = bent("a target that checks DDP's reserved bits", fastwire, "VERSION_MASK", 0x3F)
TO_ENDS_AT_32_BITS = bent("a target whose TO has 32 bits", ddp, "TO_MASK", 0xFFFF_FFFF)
ONE_INBOUND_READ = bent(
    "a target that takes one Read at a time",
    rdmap.InboundReads,
    "__init__",
    lambda self, limit: self.__dict__.update(limit=1, count=0),
)
BEYOND_ORD = bent(
    "a target that exceeds ORD",
    rdmap.OutstandingReads,
    "full",
    property(lambda self: len(self._reads) > self.limit),
)
CARRIES_RUN_ON = bent(
    "a target that ignores Add Mask",
    stream,
    "perform",
    lambda request, memory: atomics.perform(_plain(request), memory),
)
CHANGES_NOTHING = bent(
    "a target whose Atomics change nothing", stream, "perform", lambda request, memory: int.from_bytes(memory, "little")
)
COMPARES_ALL = bent(
    "a target that ignores Compare Mask",
    stream,
    "perform",
    lambda request, memory: atomics.perform(request._replace(compare_mask=ALL_ONES), memory),
)
COMPARES_NOTHING = bent(
    "a target that swaps in any case",
    stream,
    "perform",
    lambda request, memory: atomics.perform(request._replace(compare_mask=0), memory),
)
SWAPS_ALL = bent(
    "a target that ignores Swap Mask",
    stream,
    "perform",
    lambda request, memory: atomics.perform(request._replace(mask=ALL_ONES if request.atomic_opcode else 0), memory),
)


def _plain(request: Any) -> Any:
    return request if request.atomic_opcode else request._replace(mask=0)


def _nowhere(nbytes: int) -> memoryview:
    return memoryview(bytearray(nbytes))


def _ends_by_reset(patch: pytest.MonkeyPatch) -> None:
    for name in ("_end_half", "_close"):
        patch.setattr(AsyncioDriver, name, lambda self, transport: self.abort())


ENDS_BY_RESET = target("a target that ends by a reset", _ends_by_reset)


def _delivers_early(patch: pytest.MonkeyPatch) -> None:
    original = UntaggedQueue.place
    patch.setattr(
        UntaggedQueue, "place", lambda self, header, payload: original(self, header._replace(last=True), payload)
    )


DELIVERS_EARLY = target("a target that delivers first segments", _delivers_early)


def _checks_empty_writes(patch: pytest.MonkeyPatch) -> None:
    original = Stream._on_tagged

    def on_tagged(self: Any, ulpdu: memoryview) -> None:
        header = fastwire.parse_tagged(ulpdu)
        if self._deframer.fpdus > 1 and len(ulpdu) == fastwire.TAGGED_SIZE:
            self._table.sink(header.stag, header.to, 1, self._pd, stream=self._scope)
        original(self, ulpdu)

    patch.setattr(Stream, "_on_tagged", on_tagged)


CHECKS_EMPTY_WRITES = target("a target that checks empty Writes", _checks_empty_writes)


def _checks_empty_reads(patch: pytest.MonkeyPatch) -> None:
    original = Stream._on_read_request

    def on_read_request(self: Any, msn: int, nbytes: int) -> None:
        request = fastwire.parse_read_request(self._request_octets[:nbytes])
        self._table.source(request.source_stag, request.source_to, max(1, request.read_size), self._pd, self._scope)
        original(self, msn, nbytes)

    patch.setattr(Stream, "_on_read_request", on_read_request)


CHECKS_EMPTY_READS = target("a target that checks empty Reads", _checks_empty_reads)


def _picky(admission: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if octet & 0x30 else opcode for octet, opcode in enumerate(admission))


def _checks_rdmap_reserved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rdmap, "TAGGED_ADMISSION", _picky(rdmap.TAGGED_ADMISSION))
    queues: Mapping[int, Any] = rdmap._EXTENDED_ADMISSION
    patch.setattr(rdmap, "_EXTENDED_ADMISSION", {qn: _picky(admission) for qn, admission in queues.items()})


CHECKS_RDMAP_RESERVED = target("a target that checks RDMAP's reserved bits", _checks_rdmap_reserved)


def _invalidates_always(patch: pytest.MonkeyPatch) -> None:
    original = Stream._on_untagged

    def on_untagged(self: Any, ulpdu: memoryview) -> None:
        original(self, ulpdu)
        self._table.forget(fastwire.parse_untagged(ulpdu).inval_stag)

    patch.setattr(Stream, "_on_untagged", on_untagged)


INVALIDATES_ALWAYS = target("a target that invalidates whatever stands in the STag field", _invalidates_always)
INVALIDATES_EVERYTHING = bent(
    "a target that invalidates all STags", StagTable, "invalidate", lambda self, *which, **how: self._regions.clear()
)


def _terminates_at_fin(patch: pytest.MonkeyPatch) -> None:
    from pyiwarp.errors import StreamCatastrophe

    def received_eof(self: Any) -> None:
        self._take(self.stream.fail(StreamCatastrophe("a FIN came")))

    patch.setattr(qp.QueuePair, "received_eof", received_eof)


TERMINATES_AT_FIN = target("a target that takes a FIN for an error", _terminates_at_fin)


# --- the target's voice ----------------------------------------------------------------------------------------------


def _completions(pattern: str, replacement: str) -> Tells:
    return lambda said, answer: re.sub(pattern, replacement, answer) if said.startswith("completions") else answer


def _backwards(said: str, answer: str) -> str:
    if not said.startswith("completions"):
        return answer
    return re.sub(r"c=(\S*)", lambda found: "c=" + ",".join(reversed(found[1].split(","))), answer)


INVENTS_COMPLETIONS = target(
    "a target that completes by itself", tells=_completions(r"n=.*", "n=1 c=0:success:recv:3:-:0:-")
)
COMPLETES_BACKWARDS = target("a target that completes the last first", tells=_backwards)
NEVER_SOLICITED = target(
    "a target that overlooks Solicited Event", tells=_completions(r":1:(-|[0-9a-f]{16})", r":0:\1")
)
OTHER_INVALIDATED = target("a target that names another STag", tells=_completions(r":0x[0-9a-f]{8}:", ":0x00000001:"))
FORGETS_IMMEDIATE = target("a target that forgets Immediate Data", tells=_completions(r":[0-9a-f]{16}", ":-"))
OTHER_GIVEN_VALUE = target(
    "a target whose program is given another value",
    tells=_completions(r":[0-9a-f]{15}(?=[0-9a-f])", ":123456789abcdef"),
)
COMPLETES_AT_ONCE = target(
    "a target that completes Sends at once",
    tells=_completions(r"n=.*", "n=8 c=" + ",".join(f"{n}:success:send:1000000:-:0:-" for n in range(8))),
)
FORGETS_TERMINATES = target(
    "a target whose program is not told of a Terminate",
    tells=lambda said, answer: re.sub(r"got=\S*", "got=", answer),
)
