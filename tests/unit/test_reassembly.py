"""TCP's octets in order, whatever order the capture has them in."""

from __future__ import annotations

import random

import pytest

from pyiwarp.explain import reassembly
from pyiwarp.explain.reassembly import Gap, Half

OCTETS = bytes(range(256)) * 40


def segments(start: int, size: int) -> list[tuple[int, bytes]]:
    return [((start + at) % (1 << 32), OCTETS[at : at + size]) for at in range(0, len(OCTETS), size)]


@pytest.mark.parametrize("start", [0, 1000, (1 << 32) - 777])
@pytest.mark.parametrize("size", [1, 100, 1460])
def test_what_is_sent_again_or_late_is_put_in_order(start: int, size: int) -> None:
    half = Half()
    half.add((start - 1) % (1 << 32), b"", syn=True)
    pieces = segments(start, size)
    pieces += random.Random(size).sample(pieces, 5)
    random.Random(start).shuffle(pieces)
    found = [piece for seq, payload in pieces for piece in half.add(seq, payload, syn=False)]
    assert b"".join(piece for piece in found if isinstance(piece, bytes)) == OCTETS
    assert not any(isinstance(piece, Gap) for piece in found)
    assert half.finish() == []


def test_a_segment_that_overlaps_gives_what_is_new() -> None:
    half = Half()
    assert half.add(5, b"hello", syn=False) == [b"hello"]
    assert half.add(7, b"llo, you", syn=False) == [b", you"]
    assert half.add(5, b"hello", syn=False) == []


def test_what_was_not_captured_is_a_gap_at_the_end() -> None:
    half = Half()
    half.add(0, b"ab", syn=False)
    assert half.add(10, b"kl", syn=False) == []
    assert half.add(20, b"uv", syn=False) == []
    assert half.finish() == [Gap(8), b"kl", Gap(8), b"uv"]


def test_a_gap_that_tcp_cannot_have_waited_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "_HELD", 100)
    half = Half()
    half.add(0, b"ab", syn=False)
    found = [piece for at in range(4, 200, 4) for piece in half.add(at, b"wxyz", syn=False)]
    assert found[0] == Gap(2)
    assert b"".join(piece for piece in found if isinstance(piece, bytes)) == b"wxyz" * 49


def test_many_small_segments_behind_a_gap_are_not_all_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "_HELD_SEGMENTS", 10)
    half = Half()
    half.add(0, b"a", syn=False)
    found = [piece for at in range(2, 42, 2) for piece in half.add(at, b"w", syn=False)]
    assert len([piece for piece in found if isinstance(piece, bytes)]) == 20 - 10
    assert found[0] == Gap(1)
