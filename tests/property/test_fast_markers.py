"""The fast ways of markers and the plain ones are twins too: at every offset, and whatever a marker says."""

from __future__ import annotations

from typing import Any, cast

import pytest
from crc32c import crc32c

from pyiwarp.engine.stream import Stream
from pyiwarp.errors import MarkerMismatch
from pyiwarp.mpa import MarkedDeframer, MarkedFramer
from tests.harness import Node, Segment, agreed, feed
from tests.property.test_fast_receiving import Side, answered, assert_same_fate, sent, to_open
from tests.property.test_fast_sending import Message, said


@pytest.mark.parametrize("crc", [False, True])
def test_markers_at_every_offset_are_taken_out_the_fast_way(crc: bool) -> None:
    """MPA-5044-4.3-03, -04, -06, -07, -13, -14, MPA-5044-4.4-14, -15."""
    for shift in range(0, 512, 4):
        script = [to_open(0, 100 + shift % 60) for _ in range(shift // 100)]
        script += [to_open(0, shift % 100 + 1), to_open(0, 600), sent(0, 39), to_open(7, 530), answered(0, 90)]
        side = assert_same_fate(script, [], crc=crc, markers=True)
        assert side.node.qp.error is None
    deframer = MarkedDeframer(crc=crc)
    framer = MarkedFramer(crc=crc)
    pieces: list[Any] = []
    for nbytes in range(0, 1200, 3):
        framer.frame(b"", [bytes([nbytes % 251]) * nbytes], nbytes, pieces)
    octets = b"".join(pieces)
    deframer.view, deframer.end = memoryview(bytearray(octets)), len(octets)
    ahead = deframer.unmarked(1000)
    assert [bytes(ahead.next_ulpdu() or b"") for _ in range(400)] == [bytes([n % 251]) * n for n in range(0, 1200, 3)]
    deframer.follow(400)
    assert (deframer.idle, deframer.fpdus, deframer.octets) == (True, 400, framer.octets)


def test_a_damaged_octet_anywhere_between_markers_is_noticed() -> None:
    """MPA-5044-6-01, MPA-5044-4.4-18."""
    script = [to_open(0, 470), sent(0, 39), to_open(0, 600)]
    for at in range(0, 1280, 7):
        side = assert_same_fate(script, [], damage=(at / 1280, 0x40), markers=True)
        assert side.node.qp.stream.fpdus_received < len(script)


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize(("octet", "wrong"), [(0, False), (1, False), (2, True), (3, False)])
def test_markers_that_are_written_in_another_way_are_judged_the_plain_way(octet: int, wrong: bool, crc: bool) -> None:
    """MPA-5044-4.2-03, MPA-5044-4.2-05, MPA-5044-8-03."""
    for which in (0, 512, 1024):  # between FPDUs, and inside of them
        sides = []
        for short in (False, True):
            side = Side(short=short, crc=crc, markers=True)
            octets = bytearray()
            for deed in [to_open(0, 470), sent(0, 39), to_open(0, 600), to_open(0, 100)]:
                octets += side.peer.frames(cast("Segment", deed(side)))
            octets[which + octet] ^= 2
            repair_crcs(octets)
            feed(side.node.qp, octets)
            sides.append(side)
        assert sides[0].outcome() == sides[1].outcome()
        assert isinstance(sides[1].node.qp.error, MarkerMismatch) is wrong
        assert (sides[1].node.qp.error is not None) is wrong


def repair_crcs(octets: bytearray) -> None:
    """Make the CRCs of FPDUs with markers, counted from the first octet, those of what lies before them."""
    at = 0
    while at < len(octets):
        place = at + (4 if at % 512 == 0 else 0)
        body = (int.from_bytes(octets[place : place + 2], "big") + 5) & ~3
        stop = place
        while body:
            if stop % 512 == 0:
                stop += 4
            stop += 4
            body -= 4
        if stop % 512 == 0:
            stop += 4
        octets[stop : stop + 4] = crc32c(bytes(octets[at:stop])).to_bytes(4, "little")
        at = stop + 4


@pytest.mark.parametrize("crc", [False, True])
def test_markers_fall_at_every_offset_the_fast_way(crc: bool) -> None:
    """MPA-5044-4.2-01, -02, -04, MPA-5044-4.3-03, -04, -06, -07, -09, -11, -12, -15, MPA-5044-4.4-14, -15."""
    for mulpdu in (128, 1442, 64_768):
        for shift in range(0, 512, 4):
            script: list[Message] = [("write", [shift]), ("send", [7]), ("write", [1400 + shift % 13])]
            plain = said(script, short=False, mulpdu=mulpdu, crc=crc, markers=True)
            assert said(script, short=True, mulpdu=mulpdu, crc=crc, markers=True) == plain


def test_messages_with_markers_are_one_piece() -> None:
    stream = Stream(agreed(send_markers=True), Node().context.stags, None, lambda: None, mulpdu=1442)
    for number in range(20):
        stream.write([bytes(1000)], stag=1, to=0, token=number)
    assert len(stream.next_iov()) == 1
