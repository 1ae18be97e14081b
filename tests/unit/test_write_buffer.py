"""What a stream's program has written and the engine has not taken: when the program is asked to pause and to go on."""

from __future__ import annotations

import pytest

from pyiwarp.sockets.flow import HIGH_WATER, WriteBuffer


def buffer() -> tuple[WriteBuffer, list[str]]:
    asked: list[str] = []
    return WriteBuffer(lambda: asked.append("pause"), lambda: asked.append("resume")), asked


def test_a_program_pauses_above_the_high_limit_and_goes_on_at_the_low_one() -> None:
    waiting, asked = buffer()
    waiting.set_limits(10, 4)
    waiting.add(b"0123456789")
    assert asked == [], "ten octets are no more than the limit"
    waiting.add(b"!")
    waiting.add(b"more")
    assert asked == ["pause"]
    waiting.send(lambda octets: 10)
    assert asked == ["pause"]
    assert bytes(waiting.octets) == b"!more"
    waiting.send(lambda octets: 1)
    assert asked == ["pause", "resume"]
    assert (bytes(waiting.octets), len(waiting)) == (b"more", 4)


@pytest.mark.parametrize(
    ("high", "low", "limits"),
    [
        (None, None, (HIGH_WATER, HIGH_WATER // 4)),
        (400, None, (400, 100)),
        (None, 100, (400, 100)),
        (0, 0, (0, 0)),
        (7, 7, (7, 7)),
    ],
)
def test_one_limit_follows_from_the_other_as_in_asyncio(
    high: int | None, low: int | None, limits: tuple[int, int]
) -> None:
    waiting, _ = buffer()
    waiting.set_limits(high, low)
    assert (waiting.high, waiting.low) == limits


@pytest.mark.parametrize(("high", "low"), [(1, 2), (3, -1)])
def test_limits_that_cannot_be(high: int, low: int) -> None:
    waiting, _ = buffer()
    with pytest.raises(ValueError, match="must be >= "):
        waiting.set_limits(high, low)
    assert (waiting.high, waiting.low) == (HIGH_WATER, HIGH_WATER // 4)


def test_a_lower_limit_asks_at_once() -> None:
    waiting, asked = buffer()
    waiting.add(b"0123456789")
    waiting.set_limits(9, 0)
    assert asked == ["pause"]


def test_what_is_cleared_is_not_sent() -> None:
    waiting, _ = buffer()
    waiting.add(b"0123456789")
    waiting.clear()
    waiting.send(lambda octets: pytest.fail("there is nothing to take"))
