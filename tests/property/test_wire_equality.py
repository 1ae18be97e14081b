"""`fastwire` gives the verdicts of the definitions in `wire`, refusals included; whatever is built reads back.

The slow twins say with Construct what the fast functions say with `struct`. Those of startup are in `wire` itself: what
`faststartup` gives is what they give, and it is in no doubt of what the RFCs allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyiwarp import faststartup, fastwire, wire
from pyiwarp.codes import MAX_PRIVATE_DATA, REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE, Opcode
from pyiwarp.errors import (
    DdpCatastrophe,
    IwarpError,
    MalformedMessage,
    MalformedStartup,
    TaggedVersion,
    UntaggedVersion,
    UsageError,
)
from pyiwarp.fastwire import ReadRequest, Tagged, Untagged
from tests import strategies

# --- slow twins ------------------------------------------------------------------------------------------------------


def slow_parse_tagged(octets: bytes) -> Tagged:
    if len(octets) < wire.TaggedHeader.sizeof():
        raise DdpCatastrophe(len(octets), "short")
    header = wire.TaggedHeader.parse(octets)
    if header.ddp.dv != 1:
        raise TaggedVersion(header.ddp.dv)
    return Tagged(header.ddp.last, rdmap_octet(header), header.stag, header.to)


def slow_build_tagged(header: Tagged) -> bytes:
    return wire.TaggedHeader.build(slow_fields(header, tagged=True))


def slow_parse_untagged(octets: bytes) -> Untagged:
    if len(octets) < wire.UntaggedHeader.sizeof():
        raise DdpCatastrophe(len(octets), "short")
    header = wire.UntaggedHeader.parse(octets)
    if header.ddp.dv != 1:
        raise UntaggedVersion(header.ddp.dv)
    return Untagged(header.ddp.last, rdmap_octet(header), header.inval_stag, header.qn, header.msn, header.mo)


def slow_build_untagged(header: Untagged) -> bytes:
    return wire.UntaggedHeader.build(slow_fields(header, tagged=False))


def slow_parse_read_request(octets: bytes) -> ReadRequest:
    if len(octets) != wire.ReadRequestHeader.sizeof():
        raise MalformedMessage(Opcode.READ_REQUEST, len(octets), wire.ReadRequestHeader.sizeof())
    fields = wire.ReadRequestHeader.parse(octets)
    return ReadRequest(**{name: fields[name] for name in ReadRequest._fields})


def slow_build_read_request(header: ReadRequest) -> bytes:
    return wire.ReadRequestHeader.build(header._asdict())


def rdmap_octet(header: Any) -> int:
    return wire.RdmapControl.build(header.rdmap)[0]


def slow_fields(header: Tagged | Untagged, *, tagged: bool) -> dict[str, Any]:
    rdmap = wire.RdmapControl.parse(bytes([header.rdmap]))
    return {**header._asdict(), "ddp": {"tagged": tagged, "last": header.last}, "rdmap": rdmap}


# --- the same verdict on any octets ----------------------------------------------------------------------------------


def outcome(parse: Callable[[bytes], object], octets: bytes) -> object:
    """What `parse` makes of `octets`: a value, or the refusal as its class and its first argument."""
    try:
        return parse(octets)
    except IwarpError as refusal:
        return type(refusal), refusal.args[0]


any_octets = st.binary(max_size=40)
depths = st.integers(0, 0x3FFF) | st.sampled_from([0x3FFF, 0x4000, 1 << 20])


@given(octets=any_octets)
@example(octets=bytes([0x81]) + bytes(13))
@example(octets=bytes([0xBD]) + bytes(13))  # reserved bits set: DDP-5041-4.1-10
@example(octets=bytes([0x82]) + bytes(13))
@example(octets=bytes([0x81]) + bytes(12))
def test_tagged_headers_get_the_same_verdict(octets: bytes) -> None:  # DDP-5041-4.2-01, DDP-5041-4.1-11
    assert outcome(fastwire.parse_tagged, octets) == outcome(slow_parse_tagged, octets)


@given(octets=any_octets)
@example(octets=bytes([0x01]) + bytes(17))
@example(octets=bytes([0x3D]) + bytes(17))
@example(octets=bytes([0x00]) + bytes(17))
@example(octets=bytes([0x01]) + bytes(16))
def test_untagged_headers_get_the_same_verdict(octets: bytes) -> None:  # DDP-5041-4.3-01, DDP-5041-4.1-11
    assert outcome(fastwire.parse_untagged, octets) == outcome(slow_parse_untagged, octets)


@given(octets=any_octets | st.binary(min_size=28, max_size=28))
@example(octets=bytes(27))
@example(octets=bytes(29))
def test_read_requests_get_the_same_verdict(octets: bytes) -> None:  # RDMAP-5040-4.4-01
    assert outcome(fastwire.parse_read_request, octets) == outcome(slow_parse_read_request, octets)


# --- the same octets for any header ----------------------------------------------------------------------------------


@given(header=strategies.tagged_headers())
def test_tagged_headers_give_the_same_octets(header: Tagged) -> None:  # DDP-5041-4.1-09
    assert fastwire.build_tagged(header) == slow_build_tagged(header)
    assert fastwire.parse_tagged(fastwire.build_tagged(header)) == header


@given(header=strategies.untagged_headers())
def test_untagged_headers_give_the_same_octets(header: Untagged) -> None:  # DDP-5041-4.1-09
    assert fastwire.build_untagged(header) == slow_build_untagged(header)
    assert fastwire.parse_untagged(fastwire.build_untagged(header)) == header


@given(header=strategies.read_requests())
def test_read_requests_give_the_same_octets(header: ReadRequest) -> None:  # RDMAP-5040-4.4-01, RDMAP-5040-4.4-05
    assert fastwire.build_read_request(header) == slow_build_read_request(header)
    assert fastwire.parse_read_request(fastwire.build_read_request(header)) == header


def test_the_sizes_are_those_of_the_definitions() -> None:
    assert fastwire.TAGGED_SIZE == wire.TaggedHeader.sizeof() == 14
    assert fastwire.UNTAGGED_SIZE == wire.UntaggedHeader.sizeof() == 18
    assert fastwire.READ_REQUEST_SIZE == wire.ReadRequestHeader.sizeof() == 28


# --- startup frames: the same octets and values, or a doubt ----------------------------------------------------------


def or_refused(function: Callable[[Any], object], value: object) -> object:
    """What `function` makes of `value`; None if it refuses."""
    try:
        return function(value)
    except (MalformedStartup, UsageError):
        return None


@given(frame=strategies.startup_frames())
def test_startup_frames_that_are_allowed_are_built_without_a_doubt(frame: wire.StartupFrame) -> None:
    """MPA-5044-7.1.1-14, MPA-5044-7.1.1-16, MPA-5044-7.1.1-19, MPA-5044-7.1-05, MPA2-6581-6-01, MPA2-6581-6-02.

    MPA2-6581-6-07, MPA2-6581-10-01, MPA2-6581-10-02, MPA2-6581-10-03.
    """
    assert faststartup.build_startup(frame) == wire.build_startup(frame)


any_frames = st.builds(
    wire.StartupFrame,
    *[st.booleans()] * 5,
    st.integers(0, 3),
    st.binary(max_size=8) | st.sampled_from([bytes(MAX_PRIVATE_DATA), bytes(MAX_PRIVATE_DATA + 1)]),
)


@given(frame=any_frames)
def test_no_startup_frame_is_built_that_the_definitions_refuse(frame: wire.StartupFrame) -> None:
    """MPA-5044-7.1.1-11, MPA-5044-7.1.1-23, MPA2-6581-6-04, MPA2-6581-6-08."""
    known = frame.revision in (1, 2)
    assert faststartup.build_startup(frame) == (or_refused(wire.build_startup, frame) if known else None)


any_headers = st.builds(
    lambda key, flags, revision, nbytes, rest: key + bytes([flags, revision]) + nbytes.to_bytes(2, "big") + rest,
    st.sampled_from([REQUEST_KEY, REQUEST_KEY, REPLY_KEY, REPLY_KEY, b"MPA ID Rec Frame", b"mpa id req frame"]),
    st.integers(0, 0xFF),
    st.sampled_from([1, 1, 2, 2, 0, 3, 0xFF]),
    st.integers(0, MAX_PRIVATE_DATA) | st.sampled_from([MAX_PRIVATE_DATA, MAX_PRIVATE_DATA + 1, 0xFFFF]),
    st.binary(max_size=4),
)


@example(octets=REQUEST_KEY + bytes([0, 1]) + MAX_PRIVATE_DATA.to_bytes(2, "big"), reply=False)
@example(octets=REQUEST_KEY + bytes([0, 1]) + (MAX_PRIVATE_DATA + 1).to_bytes(2, "big"), reply=False)
@given(octets=any_headers | st.binary(max_size=24), reply=st.booleans())
def test_startup_headers_are_read_as_the_definitions_say(octets: bytes, reply: bool) -> None:
    """MPA-5044-7.1.1-02, MPA-5044-7.1.1-04, MPA-5044-7.1.1-12, MPA-5044-7.1.1-15, MPA-5044-7.1.1-18, MPA2-6581-6-03.

    MPA-5044-7.1.1-21, MPA-5044-7.1.2-23, MPA2-6581-6-01, MPA2-6581-6-04, MPA2-6581-6-06. In doubt are a wrong key, a
    length that is not allowed and a revision that is not known: a refusal is due.
    """
    read = faststartup.parse_startup_header(octets, reply=reply)
    plain = or_refused(lambda octets: wire.parse_startup_header(octets, reply=reply), octets)
    known = plain is not None and octets[17] in (1, 2)
    assert read == (plain if known else None)


@given(
    word=strategies.enhanced_words()
    | st.builds(wire.Enhanced, *[st.booleans()] * 2, depths, *[st.booleans()] * 2, depths)
)
def test_enhanced_words_are_built_as_the_definitions_say(word: wire.Enhanced) -> None:
    """MPA2-6581-9-01, MPA2-6581-9.2-15: also the refusals."""
    assert faststartup.build_enhanced(word) == or_refused(wire.build_enhanced, word)


@given(octets=st.binary(max_size=8))
def test_enhanced_words_are_read_as_the_definitions_say(octets: bytes) -> None:
    """MPA2-6581-9-01, MPA2-6581-9.2-16, MPA2-6581-6-08: also the refusal."""
    assert faststartup.parse_enhanced(octets) == or_refused(wire.parse_enhanced, octets)


def test_a_header_that_is_cut_is_in_doubt() -> None:
    whole = wire.build_startup(wire.StartupFrame(False, False, True, False, False, 1, b""))
    assert faststartup.parse_startup_header(whole, reply=False) is not None
    assert faststartup.parse_startup_header(whole[: STARTUP_HEADER_SIZE - 1], reply=False) is None


# --- the rare formats: what is built reads back, and nothing but our refusals comes out ------------------------------


@given(frame=strategies.startup_frames())
def test_startup_frames_read_back(frame: wire.StartupFrame) -> None:
    octets = wire.build_startup(frame)
    header, length = wire.parse_startup_header(octets[: wire.STARTUP_HEADER_SIZE], reply=frame.reply)
    assert header._replace(private_data=octets[wire.STARTUP_HEADER_SIZE :]) == frame
    assert length == len(frame.private_data)


@given(frame=strategies.startup_frames(), bits=st.integers(0, 0x0F))
def test_reserved_bits_of_startup_do_not_matter(frame: wire.StartupFrame, bits: int) -> None:
    """MPA-5044-7.1.1-15, MPA2-6581-6-03."""
    octets = bytearray(wire.build_startup(frame))
    clean = wire.parse_startup_header(octets, reply=frame.reply)
    octets[16] |= bits
    assert wire.parse_startup_header(octets, reply=frame.reply) == clean


@given(word=strategies.enhanced_words())
def test_enhanced_words_read_back(word: wire.Enhanced) -> None:
    assert wire.parse_enhanced(wire.build_enhanced(word)) == word


@given(octets=st.binary(min_size=4, max_size=8))
def test_any_enhanced_word_can_be_sent_again(octets: bytes) -> None:
    """What parses obeys the rules for building (MPA2-6581-9.2-16, MPA2-6581-9.2-15)."""
    word = wire.parse_enhanced(octets)
    again = wire.build_enhanced(word)
    assert again == octets[:4] or not word.peer_to_peer


@given(terminate=strategies.terminates())
def test_terminates_read_back(terminate: wire.Terminate) -> None:
    assert wire.parse_terminate(wire.build_terminate(terminate)) == terminate


def starts_are_told(terminate: wire.Terminate) -> bool:
    """Where an RDMA header alone starts is told by its length alone, so it can neither be cut nor followed."""
    return bool(terminate.ddp_header) or not terminate.rdma_header


@given(
    terminate=strategies.terminates().filter(starts_are_told), bits=st.integers(0, 0x1FFF), extra=st.binary(max_size=60)
)
def test_reserved_bits_and_trailing_octets_of_a_terminate_do_not_matter(
    terminate: wire.Terminate, bits: int, extra: bytes
) -> None:
    """RDMAP-5040-4.8-08."""
    octets = bytearray(wire.build_terminate(terminate)) + extra
    octets[2] |= bits >> 8
    octets[3] = bits & 0xFF
    assert wire.parse_terminate(octets) == terminate


@given(terminate=strategies.terminates().filter(starts_are_told), data=st.data())
def test_a_cut_terminate_keeps_its_cause(terminate: wire.Terminate, data: st.DataObject) -> None:
    octets = wire.build_terminate(terminate)
    cut = wire.parse_terminate(octets[: data.draw(st.integers(4, len(octets)))])
    assert cut.term == terminate.term
    assert cut.segment_length in (terminate.segment_length, None)
    assert terminate.ddp_header.startswith(cut.ddp_header)
    assert terminate.rdma_header.startswith(cut.rdma_header)


@given(request=strategies.atomic_requests())
def test_atomic_requests_read_back(request: wire.AtomicRequest) -> None:
    assert wire.parse_atomic_request(wire.build_atomic_request(request)) == request


@given(response=strategies.atomic_responses())
def test_atomic_responses_read_back(response: wire.AtomicResponse) -> None:
    assert wire.parse_atomic_response(wire.build_atomic_response(response)) == response


@given(immediate=strategies.immediate_data())
def test_immediate_data_reads_back(immediate: wire.ImmediateData) -> None:
    assert wire.parse_immediate_data(wire.build_immediate_data(immediate)) == immediate


PARSERS: list[tuple[Callable[[bytes], object], type, type[IwarpError]]] = [
    (lambda octets: wire.parse_startup_header(octets, reply=False), tuple, MalformedStartup),
    (lambda octets: wire.parse_startup_header(wire.REPLY_KEY + octets, reply=True), tuple, MalformedStartup),
    (wire.parse_enhanced, wire.Enhanced, MalformedStartup),
    (wire.parse_terminate, wire.Terminate, MalformedMessage),
    (wire.parse_atomic_request, wire.AtomicRequest, MalformedMessage),
    (wire.parse_atomic_response, wire.AtomicResponse, MalformedMessage),
    (wire.parse_immediate_data, wire.ImmediateData, MalformedMessage),
]


@pytest.mark.parametrize(("parse", "kind", "refusal"), PARSERS)
@given(octets=st.binary(max_size=80))
def test_any_octets_parse_or_are_refused_with_our_own_exception(
    parse: Callable[[bytes], object], kind: type, refusal: type[IwarpError], octets: bytes
) -> None:
    verdict: object
    try:
        verdict = parse(octets)
    except IwarpError as error:
        verdict = error
    assert isinstance(verdict, (kind, refusal))
