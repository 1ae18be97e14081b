"""RDMAP alone: which opcode may come where, Reads on their way, and what a Terminate says (RFC 5040)."""

from __future__ import annotations

import pytest

from pyiwarp import errors, rdmap, wire
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.errors import (
    BaseOrBounds,
    InvalidQn,
    InvalidStag,
    MalformedMessage,
    MisplacedResponse,
    NoBufferForMsn,
    ProtocolViolation,
    RdmapVersion,
    UnexpectedOpcode,
)
from pyiwarp.fastwire import ReadRequest, Tagged, Untagged, build_read_request, build_tagged, build_untagged

LAWFUL = {  # RFC 5040 §4.1, figure 4, by hand
    "tagged": {Opcode.WRITE, Opcode.READ_RESPONSE},
    0: {Opcode.SEND, Opcode.SEND_INVAL, Opcode.SEND_SE, Opcode.SEND_SE_INVAL},
    1: {Opcode.READ_REQUEST},
    2: {Opcode.TERMINATE},
}


def admitted(where: str | int, octet: int) -> Opcode:
    return rdmap.admit_tagged(octet) if isinstance(where, str) else rdmap.admit_untagged(octet, where)


@pytest.mark.parametrize("where", list(LAWFUL))
def test_every_control_octet_everywhere(where: str | int) -> None:
    # RDMAP-5040-4.1-02, -05, -06, -07, -09, RDMAP-5040-7.2-02, -03, -07, -08, RDMAP-6580-3.4-02, RDMAP-5040-3.1-02
    for octet in range(256):
        version, opcode = octet >> 6, octet & 0x0F
        if version != 1:
            with pytest.raises(RdmapVersion, match=f"version {version}"):
                admitted(where, octet)
        elif opcode not in LAWFUL[where]:
            with pytest.raises(UnexpectedOpcode, match=f"opcode {opcode:#x} is"):
                admitted(where, octet)
        else:
            assert admitted(where, octet) is Opcode(opcode)


@pytest.mark.parametrize("qn", [4, 5, 0xFFFF_FFFF])
def test_other_queues_do_not_exist(qn: int) -> None:  # DDP-5041-7.1-01
    with pytest.raises(InvalidQn, match=str(qn)):
        rdmap.admit_untagged(0x43, qn)


def test_the_control_octet_that_is_sent() -> None:  # RDMAP-5040-4.1-01, RDMAP-5040-4.1-07, RDMAP-5040-4.1-08
    # RDMAP-6580-3.4-01
    assert [rdmap.control_octet(opcode) for opcode in Opcode] == [0x40 + number for number in range(12)]


# --- Reads -----------------------------------------------------------------------------------------------------------


def reads(*sizes: int, limit: int = 4) -> tuple[rdmap.OutstandingReads, list[bytearray]]:
    """Reads into sinks with STags 1, 2, ... at TO 100."""
    outstanding, sinks = rdmap.OutstandingReads(limit), [bytearray(size) for size in sizes]
    for number, sink in enumerate(sinks, 1):
        outstanding.add(rdmap.OutstandingRead(number, 100, memoryview(sink), f"read {number}"))
    return outstanding, sinks


def test_responses_complete_reads_in_order() -> None:  # RDMAP-5040-5.5-06, RDMAP-5040-5.5-17
    outstanding, sinks = reads(4, 0, 3)
    outstanding.place_segment(1, 100, memoryview(b"ab"))
    outstanding.place_segment(1, 102, memoryview(b"cd"))
    assert outstanding.delivered().token == "read 1"
    outstanding.place_segment(0, 0, memoryview(b""))  # DDP-5041-5.2-12
    assert outstanding.delivered().token == "read 2"
    outstanding.place_segment(3, 100, memoryview(b"xyz"))
    assert outstanding.delivered().token == "read 3"
    assert sinks == [b"abcd", b"", b"xyz"]
    assert len(outstanding) == 0


def test_ord_is_a_limit() -> None:  # RDMAP-5040-6.1-03, RDMAP-5040-6.1-05
    outstanding, _ = reads(1, 1, limit=2)
    assert outstanding.full
    outstanding.place_segment(1, 100, memoryview(b"a"))
    outstanding.delivered()
    assert not outstanding.full
    assert reads(limit=0)[0].full


@pytest.mark.parametrize(
    ("stag", "to", "payload", "error"),
    [
        (2, 100, b"ab", InvalidStag),
        (1, 99, b"ab", BaseOrBounds),
        (1, 103, b"ab", BaseOrBounds),
        (1, 100, b"abcde", BaseOrBounds),
        (1, 0, b"ab", BaseOrBounds),
        (1, (1 << 64) - 1, b"ab", BaseOrBounds),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_response_must_be_what_was_asked(
    after: bool, stag: int, to: int, payload: bytes, error: type[ProtocolViolation]
) -> None:  # RDMAP-5040-5.2.2-05, RDMAP-5040-5.2.2-08, on the first segment and on later ones
    outstanding, sinks = reads(4, 4)
    if after:
        outstanding.place_segment(1, 100, memoryview(b"x"))
    before = [bytes(sink) for sink in sinks]
    with pytest.raises(error):
        outstanding.place_segment(stag, to, memoryview(payload))
    assert [bytes(sink) for sink in sinks] == before


def test_a_response_may_not_give_more_octets_than_were_asked() -> None:
    outstanding, _ = reads(4)
    outstanding.place_segment(1, 100, memoryview(b"abc"))
    with pytest.raises(BaseOrBounds):
        outstanding.place_segment(1, 100, memoryview(b"ab"))


@pytest.mark.parametrize("again", [(0, 1), (2, 2), (3, 1), (0, 4)])
def test_a_response_may_not_give_an_octet_twice(again: tuple[int, int]) -> None:  # RDMAP-5040-5.2.2-08
    outstanding, sinks = reads(6)
    for to in (3, 0):
        outstanding.place_segment(1, 100 + to, memoryview(b"a"))
    before = bytes(sinks[0])
    at, nbytes = again
    with pytest.raises(MisplacedResponse, match="came before"):
        outstanding.place_segment(1, 100 + at, memoryview(b"b" * nbytes))
    assert bytes(sinks[0]) == before


def test_a_response_in_any_order_is_one() -> None:  # RDMAP-5040-5.2.2-06
    outstanding, sinks = reads(6)
    for to, octets in [(4, b"ef"), (0, b"ab"), (2, b"cd")]:
        outstanding.place_segment(1, 100 + to, memoryview(octets))
    assert outstanding.delivered().nbytes == 6
    assert bytes(sinks[0]) == b"abcdef"


def test_a_response_may_not_give_fewer_octets_than_were_asked() -> None:
    outstanding, _ = reads(4)
    outstanding.place_segment(1, 100, memoryview(b"abc"))
    with pytest.raises(MalformedMessage, match="3 octets where 4"):
        outstanding.delivered()


def test_a_response_that_answers_nothing() -> None:
    with pytest.raises(UnexpectedOpcode, match="no Read is outstanding"):
        reads()[0].place_segment(1, 100, memoryview(b""))


def test_dropped_reads_let_go_of_their_sinks() -> None:
    outstanding, sinks = reads(4)
    with pytest.raises(BufferError):
        sinks[0].append(0)
    outstanding.drop()
    sinks[0].append(0)
    assert len(outstanding) == 0


def test_ird_is_a_limit() -> None:  # RDMAP-5040-6.1-02, RDMAP-5040-6.1-06, RDMAP-5040-5.2.2-03
    inbound = rdmap.InboundReads(2)
    inbound.begin(1)
    inbound.begin(2)
    with pytest.raises(NoBufferForMsn, match=f"queue {QueueNumber.READ_REQUEST.value} for MSN 3"):
        inbound.begin(3)
    inbound.end()
    inbound.begin(3)


# --- Terminate -------------------------------------------------------------------------------------------------------

TAGGED = build_tagged(Tagged(True, 0x40, 7, 8)) + b"payload"
SEND = build_untagged(Untagged(True, 0x43, 0, 0, 1, 0)) + b"payload"
REQUEST = build_read_request(ReadRequest(1, 2, 3, 4, 5))
READ = build_untagged(Untagged(True, 0x41, 0, 1, 1, 0)) + REQUEST


def instance(cls: type[ProtocolViolation]) -> ProtocolViolation:
    return cls(*range(1, cls.rule.count("{") + 1))


@pytest.mark.parametrize(
    ("cls", "segment", "mdr"),
    [
        (errors.InvalidStag, TAGGED, "110"),  # RDMAP-5040-4.8-04, -05, -11, RDMAP-5040-7.1-03
        (errors.TaggedVersion, TAGGED, "110"),
        (errors.MessageTooLong, SEND, "110"),
        (errors.NoBufferForMsn, READ, "110"),  # RDMAP-5040-4.8-14: an error of DDP, Read Request or not
        (errors.CannotInvalidate, SEND, "110"),  # ambiguity 9
        (errors.UnexpectedOpcode, SEND, "110"),
        (errors.RdmapVersion, READ, "110"),  # ambiguity 10
        (errors.ReadBounds, READ, "111"),  # RDMAP-5040-4.8-06, RDMAP-5040-4.8-13, RDMAP-5040-7.1-04
        (errors.CrcMismatch, TAGGED, "000"),  # RDMAP-5040-4.8-18
        (errors.InsufficientIrd, b"", "000"),
        (errors.LocalCatastrophe, TAGGED, "000"),  # RDMAP-5040-4.8-12
        (errors.DdpCatastrophe, TAGGED[:5], "000"),  # there is no whole header to quote
        (errors.InvalidStag, b"", "000"),  # RDMAP-5040-7.1-02
    ],
)
def test_what_a_terminate_quotes(cls: type[ProtocolViolation], segment: bytes, mdr: str) -> None:
    """RFC 5040 §4.8, figure 10: the M, D and R bits and what belongs to them."""
    payload = rdmap.terminate_payload(instance(cls), segment, REQUEST if segment is READ else b"")
    assert f"{payload[2] >> 5:03b}" == mdr
    assert payload[2] & 0x1F == payload[3] == 0  # RDMAP-5040-4.8-07
    terminate = wire.parse_terminate(payload)
    assert terminate.term == cls.term  # RDMAP-5040-4.8-01, RDMAP-5040-4.8-02
    quotes = mdr != "000"
    assert terminate.segment_length == (len(segment) if quotes else None)  # RDMAP-5040-4.8-09: the ULPDU_Length
    header = segment[: 14 if segment is TAGGED else 18] if quotes else b""
    assert terminate.ddp_header == header  # RDMAP-5040-4.8-10
    assert terminate.rdma_header == (REQUEST if mdr == "111" else b"")  # RDMAP-5040-4.8-15


@pytest.mark.parametrize("cls", [cls for cls in vars(errors).values() if hasattr(cls, "term") and hasattr(cls, "rule")])
def test_every_violation_can_be_told(cls: type[ProtocolViolation]) -> None:  # RDMAP-5040-7.1-01
    for segment in (b"", TAGGED, SEND, READ):
        error = rdmap.parse_terminate(rdmap.terminate_payload(instance(cls), segment))
        assert error.term == cls.term
        assert error.header in (b"", segment[:14], segment[:18])


def test_a_terminate_without_a_cause_is_none() -> None:  # RDMAP-5040-5.4-07
    with pytest.raises(MalformedMessage):
        rdmap.parse_terminate(b"abc")


def test_a_terminate_that_quotes_a_send_tells_where_its_segment_ended() -> None:  # RDMAP-5040-4.8-09
    segment = build_untagged(Untagged(False, rdmap.control_octet(Opcode.SEND), 0, 0, 1, 100)) + bytes(50)
    error = rdmap.parse_terminate(rdmap.terminate_payload(errors.MessageTooLong(0, 1, 150, 120), segment))
    assert error.end == 150
    assert "fewer octets than the 150 or more of the Send" in str(error)
    other = build_untagged(Untagged(True, rdmap.control_octet(Opcode.READ_REQUEST), 0, 1, 1, 100)) + bytes(28)
    assert rdmap.parse_terminate(rdmap.terminate_payload(errors.InvalidMo(1, 1, 100, 28), other)).end == 0
