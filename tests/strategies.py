"""Hypothesis strategies for things that are valid on the wire."""

from __future__ import annotations

from hypothesis import strategies as st

from pyiwarp import wire
from pyiwarp.codes import MAX_PRIVATE_DATA, AtomicOpcode
from pyiwarp.errors import TERMS, Term
from pyiwarp.fastwire import READ_REQUEST_SIZE, TAGGED_SIZE, UNTAGGED_SIZE, ReadRequest, Tagged, Untagged

octets8 = st.integers(0, 0xFF)
numbers32 = st.integers(0, 0xFFFF_FFFF)
numbers64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
read_depths = st.integers(0, 0x3FFF)


def tagged_headers() -> st.SearchStrategy[Tagged]:
    return st.builds(Tagged, last=st.booleans(), rdmap=octets8, stag=numbers32, to=numbers64)


def untagged_headers() -> st.SearchStrategy[Untagged]:
    return st.builds(
        Untagged,
        last=st.booleans(),
        rdmap=octets8,
        inval_stag=numbers32,
        qn=numbers32,
        msn=numbers32,
        mo=numbers32,
    )


def read_requests() -> st.SearchStrategy[ReadRequest]:
    return st.builds(
        ReadRequest,
        sink_stag=numbers32,
        sink_to=numbers64,
        read_size=numbers32,
        source_stag=numbers32,
        source_to=numbers64,
    )


def atomic_requests() -> st.SearchStrategy[wire.AtomicRequest]:
    return st.builds(
        wire.AtomicRequest,
        atomic_opcode=st.sampled_from(AtomicOpcode),
        request_id=numbers32,
        stag=numbers32,
        to=numbers64,
        data=numbers64,
        mask=numbers64,
        compare_data=numbers64,
        compare_mask=numbers64,
    )


def atomic_responses() -> st.SearchStrategy[wire.AtomicResponse]:
    return st.builds(wire.AtomicResponse, request_id=numbers32, original_value=numbers64)


def immediate_data() -> st.SearchStrategy[wire.ImmediateData]:
    return st.builds(wire.ImmediateData, st.binary(min_size=8, max_size=8))


def enhanced_words() -> st.SearchStrategy[wire.Enhanced]:
    """Client-server words have no RTR bits (RFC 6581 §9.2)."""
    words = st.builds(
        wire.Enhanced,
        peer_to_peer=st.just(True),
        rtr_send=st.booleans(),
        ird=read_depths,
        rtr_write=st.booleans(),
        rtr_read=st.booleans(),
        ord=read_depths,
    )
    return words | words.map(
        lambda word: word._replace(peer_to_peer=False, rtr_send=False, rtr_write=False, rtr_read=False)
    )


@st.composite
def startup_frames(draw: st.DrawFn) -> wire.StartupFrame:
    """Requests and Replies of revisions 1 and 2, the enhanced word at the head of the Private Data where S is set."""
    reply, revision = draw(st.booleans()), draw(st.sampled_from([1, 2]))
    enhanced = revision == 2 and draw(st.booleans())
    word = wire.build_enhanced(draw(enhanced_words())) if enhanced else b""
    return wire.StartupFrame(
        reply=reply,
        markers=draw(st.booleans()),
        crc=draw(st.booleans()),
        rejected=reply and draw(st.booleans()),
        enhanced=enhanced,
        revision=revision,
        private_data=word + draw(st.binary(max_size=MAX_PRIVATE_DATA - len(word))),
    )


def terms() -> st.SearchStrategy[Term]:
    return st.sampled_from(sorted(TERMS))


def terminated_ddp_headers() -> st.SearchStrategy[bytes]:
    """Copies of DDP headers: T set and 14 octets, or T clear and 18 octets."""
    tagged = st.binary(min_size=TAGGED_SIZE, max_size=TAGGED_SIZE).map(lambda octets: _with_t(octets, 0x80))
    untagged = st.binary(min_size=UNTAGGED_SIZE, max_size=UNTAGGED_SIZE).map(lambda octets: _with_t(octets, 0x00))
    return tagged | untagged


def _with_t(octets: bytes, t: int) -> bytes:
    return bytes([octets[0] & 0x7F | t]) + octets[1:]


def terminates() -> st.SearchStrategy[wire.Terminate]:
    return st.builds(
        wire.Terminate,
        term=terms(),
        segment_length=st.none() | st.integers(0, 0xFFFF),
        ddp_header=st.just(b"") | terminated_ddp_headers(),
        rdma_header=st.just(b"") | st.binary(min_size=READ_REQUEST_SIZE, max_size=READ_REQUEST_SIZE),
    )
