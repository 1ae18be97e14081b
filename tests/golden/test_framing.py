"""The framers and deframers of `mpa`, octet for octet against the golden vectors (RFC 5044 §4.4 figures 5 and 6)."""

from __future__ import annotations

import pytest

from pyiwarp.mpa import Deframer, Framer, MarkedDeframer, MarkedFramer
from pyiwarp.pump import TURN_FPDUS
from tests.golden.vectors import FPDUS, Vector, header_octets, ulpdu_of
from tests.harness import feed, fpdu


class Sink:
    """Collects ULPDUs from a deframer, as a pump would."""

    behind = False

    def __init__(self, deframer: Deframer) -> None:
        self.deframer = deframer
        self.ulpdus: list[bytes] = []
        self.receive_view = deframer.receive_view

    def proceed(self, fpdus: int = TURN_FPDUS) -> None: ...

    def received(self, nbytes: int) -> None:
        self.deframer.received(nbytes)
        while (ulpdu := self.deframer.next_ulpdu()) is not None:
            self.ulpdus.append(bytes(ulpdu))


@pytest.mark.parametrize("vector", FPDUS, ids=lambda vector: vector.name)
def test_framing(vector: Vector) -> None:  # MPA-5044-4.3-04, MPA-5044-4.3-07, MPA-5044-4.4-14, MPA-5044-4.4-15
    framer = (MarkedFramer if vector.markers else Framer)(crc=True)
    framer.octets = vector.offset
    header, ulpdu = header_octets(vector.header), ulpdu_of(vector)
    out: list[bytes | bytearray | memoryview] = []
    size = framer.frame(header, [ulpdu[len(header) :]], len(ulpdu) - len(header), out)
    assert b"".join(out) == vector.octets
    assert size == len(vector.octets)


@pytest.mark.parametrize("vector", FPDUS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
def test_deframing(vector: Vector, chunk: int) -> None:  # MPA-5044-4.3-14, MPA-5044-4.4-17, MPA-5044-5.2-01
    deframer = (MarkedDeframer if vector.markers else Deframer)(crc=True)
    deframer.octets = vector.offset
    sink = Sink(deframer)
    feed(sink, vector.octets, [chunk] * len(vector.octets))
    assert sink.ulpdus == [ulpdu_of(vector)]
    assert deframer.idle


@pytest.mark.parametrize("vector", FPDUS, ids=lambda vector: vector.name)
def test_the_raw_peer_frames_like_the_vectors(vector: Vector) -> None:
    assert fpdu(ulpdu_of(vector), vector.offset, markers=vector.markers) == vector.octets
