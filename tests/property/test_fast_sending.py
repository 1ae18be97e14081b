"""The fast way and the plain one of framing are twins: the same octets out of the same messages."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pyiwarp.buffers import Octets
from pyiwarp.engine.packing import LARGEST_COPY
from pyiwarp.engine.sending import BATCH_FPDUS
from pyiwarp.engine.stream import Stream
from pyiwarp.fastwire import ReadRequest
from pyiwarp.mr import Access
from pyiwarp.pump import NOT_NOW, TAKEN
from tests.harness import Node, RawPeer, agreed, feed, read
from tests.property.test_fast_receiving import MANY

sizes = st.integers(0, 700) | st.sampled_from([LARGEST_COPY - 1, LARGEST_COPY, LARGEST_COPY + 1, 20_000])
Message = tuple[str, list[int]]
kinds = st.sampled_from(["write", "write", "send", "send_se", "send_inval", "answer", "answer", "answer read-only"])
messages: st.SearchStrategy[Message] = st.tuples(kinds, st.lists(sizes, min_size=1, max_size=3) | st.just([]))


def said(
    script: list[Message], *, short: bool, mulpdu: int, crc: bool, markers: bool = False
) -> tuple[list[bytes], list[Any], int, int]:
    """The batches that a stream gives for these messages, the tokens that come back, and its counts."""
    node = Node(mulpdu=mulpdu)
    source = memoryview(bytearray(bytes(range(251)) * 300))
    table = node.context.stags
    for readonly, stag in ((False, 0x500), (True, 0x600)):
        region = node.pd.register(source.toreadonly() if readonly else source, Access.REMOTE_READ | Access.ZERO_BASED)
        table._regions[stag] = table._regions.pop(region.stag)
    stream = Stream(agreed(crc=crc, ird=100, send_markers=markers), table, node.pd, lambda: None, mulpdu=mulpdu)
    peer = RawPeer(Node())
    stream._packer._plain = not short
    for number, (kind, parts) in enumerate(script):
        at, payload = number, []
        for size in parts:
            payload.append(source[at : at + size])
            at += size
        if kind == "write":
            stream.write(payload, stag=7, to=1 << 63, token=number)
        elif kind.startswith("send"):
            inval = 9 if kind == "send_inval" else None
            stream.send(payload, token=number, solicited=kind == "send_se", inval_stag=inval)
        else:
            stag = 0x600 if kind == "answer read-only" else 0x500
            request = ReadRequest(3, (1 << 64) - 5, sum(parts), stag, number)
            asked = read(size=request.read_size, sink_stag=3, sink_to=request.sink_to, source_stag=stag)
            feed(stream, peer.frames(asked))
    batches, tokens = [], []
    while iov := stream.next_iov():
        batches.append(b"".join(iov))
        tokens += [stream.flushed()]
    return batches, tokens, stream.fpdus_sent, stream.octets_sent


@MANY
@example(script=[("write", [20_000])], mulpdu=5000, crc=True, markers=False)
@example(script=[("answer", [20_000])], mulpdu=5000, crc=True, markers=False)
@given(
    script=st.lists(messages, max_size=8),
    mulpdu=st.sampled_from([128, 129, 500, 5000, 64_768]),
    crc=st.booleans(),
    markers=st.booleans(),
)
def test_any_messages_become_the_same_octets(script: list[Message], mulpdu: int, crc: bool, markers: bool) -> None:
    # MPA-5044-4.1-01, -02, -03, -05, -06, MPA-5044-4.4-13, MPA-5044-3-03, DDP-5041-5.2-02, -07, -09, DDP-5041-4.1-03
    # MPA-5044-4.3-03, -04, -06, -09, -12
    plain = said(script, short=False, mulpdu=mulpdu, crc=crc, markers=markers)
    assert said(script, short=True, mulpdu=mulpdu, crc=crc, markers=markers) == plain


@MANY
@example(nbytes=10_000, to=(1 << 64) - 5000, mulpdu=1442, crc=True)
@given(
    nbytes=sizes.filter(bool),
    to=st.sampled_from([0, 0x1000, (1 << 64) - 300]),
    mulpdu=st.sampled_from([256, 500, 5000, 64_768]),
    crc=st.booleans(),
)
def test_a_write_past_the_batches_and_the_send_behind_it_are_the_same_octets(
    nbytes: int, to: int, mulpdu: int, crc: bool
) -> None:
    """MPA-5044-4.1-03, MPA-5044-4.1-06, MPA-5044-4.4-13, DDP-5041-5.2-02."""
    octets, word = memoryview(bytes(range(251)) * 300)[:nbytes], b"word"
    plain, past = (Stream(agreed(crc=crc), Node().context.stags, None, lambda: None, mulpdu=mulpdu) for _ in range(2))
    for stream in (plain, past):
        stream.send([b"before"], token=None)
        stream.next_iov()
        stream.flushed()
    plain.write([octets], stag=7, to=to, token=None)
    plain.send([word], token=None)
    batches = []
    while iov := plain.next_iov():
        batches.append(b"".join(iov))
        plain.flushed()
    pieces: list[bytes] = []

    def write(iov: list[Octets]) -> int:
        pieces.extend(bytes(piece) for piece in iov)
        return TAKEN

    if past.pair_large((7, to, octets), word, write) == NOT_NOW:
        assert plain.fpdus_sent > BATCH_FPDUS
        return
    assert b"".join(pieces) == b"".join(batches)
    assert (past.fpdus_sent, past.octets_sent, past.send_msn) == (
        plain.fpdus_sent,
        plain.octets_sent,
        plain.send_msn,
    )


def test_small_messages_are_one_piece_and_large_payloads_are_not_copied() -> None:
    source = memoryview(bytearray(200_000))
    stream = Stream(agreed(), Node().context.stags, None, lambda: None, mulpdu=64_768)
    for number in range(20):
        stream.write([source[:100]], stag=1, to=0, token=number)
    assert [len(piece) for piece in stream.next_iov()] == [20 * (16 + 100 + 4)]
    stream.flushed()
    stream.send([source[:70_000]], token="large")
    pieces = stream.next_iov()
    assert [len(piece) for piece in pieces] == [20, 64_750, 2 + 4 + 20, 5250, 2 + 4]
    source[0] = 7
    assert pieces[1][0] == 7, "the user's memory itself"
