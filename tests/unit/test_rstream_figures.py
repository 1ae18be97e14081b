"""What rstream prints and plays: its sizes, its series, its table, and the octets that it verifies."""

from __future__ import annotations

import pytest

from pyiwarp.cli.rsockets.figures import (
    HEADING,
    Trial,
    both_series,
    count_text,
    size_text,
)
from pyiwarp.cli.rsockets.rolling import OtherOctets, Rolling


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (1, "1"),
        (1000, "1000"),
        (1024, "1k"),
        (1536, "1.5k"),
        (10_752, "10k"),
        (1 << 20, "1m"),
        (1 << 30, "1g"),
        (13_107_200, "12m"),
        (4_096_000, "3.9m"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert size_text(octets) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1"), (999, "999"), (1999, "1k"), (100_000, "100k"), (2 * 10**9, "2b")]
)
def test_counts(count: int, text: str) -> None:
    assert count_text(count) == text


def test_the_table_is_that_of_rstream() -> None:
    assert HEADING == "name      bytes   xfers   iters   total       time     Gb/sec    usec/xfer"
    row = Trial(4096, 100, 5).row(0.41)
    assert row == "custom    4k      100     5       3.9m        0.41s      0.08     410.00"


def test_the_series() -> None:
    short, _ = both_series(every_size=False)
    assert [(each.size, each.messages, each.iterations, each.name) for each in short] == [
        (64, 1, 100_000, "64_lat"),
        (4096, 1, 10_000, "4k_lat"),
        (65_536, 1, 1000, "64k_lat"),
        (1 << 20, 1, 100, "1m_lat"),
    ]
    _, long = both_series(every_size=True)
    assert [each.size for each in long[:4]] == [64, 128, 192, 256]
    assert [each.size for each in long[-3:]] == [3 << 20, 4 << 20, 6 << 20]
    assert (len(long), long[2].name, long[-1].name) == (33, "192_bw", "6m_bw")
    assert (long[0].messages, long[0].iterations) == (100_000, 1)


def test_octets_count_over_all_messages() -> None:
    sent, came = Rolling(), Rolling()
    assert sent.next(3) + sent.next(300) == bytes(at % 256 for at in range(303))
    came.verify(bytes(range(200)))
    came.verify(bytes(at % 256 for at in range(200, 900)))
    came.verify(b"")
    with pytest.raises(OtherOctets, match=r"data verification failed byte 901: 0x00 came, 0x85 is due"):
        came.verify(bytes([900 % 256, 0]))
