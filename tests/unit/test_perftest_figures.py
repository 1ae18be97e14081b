"""Figures against sums done by hand."""

from __future__ import annotations

import math

import pytest

from pyiwarp.cli.perftest import figures
from pyiwarp.cli.perftest.figures import Bandwidth, Latency, peak_interval


def test_bandwidth_counts_in_mebibytes_and_millions() -> None:
    figures = Bandwidth.of(1 << 20, 10, 2_000_000_000, best=100_000_000)
    assert figures.average == pytest.approx(5.0)  # 10 MiB in 2 s
    assert figures.peak == pytest.approx(10.0)  # 1 MiB in 0.1 s
    assert figures.rate == pytest.approx(5e-6)


def test_without_a_best_time_there_is_no_peak() -> None:
    assert Bandwidth.of(64, 6, 1000).peak == 0


def test_the_columns_are_perftests() -> None:
    assert Bandwidth.HEADER == " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]"
    figures = Bandwidth(size=64, iterations=5, peak=0.534, average=0.1175, rate=0.001926)
    assert str(figures).split() == ["64", "5", "0.53", "0.12", "0.001926"]
    assert figures.data() == {"size": 64, "iterations": 5, "peak": 0.534, "average": 0.1175, "rate": 0.001926}


def test_both_directions_add_up() -> None:
    mine = Bandwidth(size=64, iterations=5, peak=3.0, average=2.0, rate=0.5)
    theirs = Bandwidth(size=64, iterations=5, peak=0.5, average=1.0, rate=0.25)
    assert mine + theirs == Bandwidth(size=64, iterations=5, peak=3.5, average=3.0, rate=0.75)


def test_the_peak_is_the_best_stretch_between_a_post_and_a_completion() -> None:
    posted = [0, 10, 20, 30]
    assert peak_interval(posted, [(4, 130)]) == pytest.approx(130 / 4)
    assert peak_interval(posted, [(2, 100), (4, 130)]) == pytest.approx(130 / 4)
    assert peak_interval(posted, [(2, 22), (4, 130)]) == pytest.approx(22 / 2)
    assert peak_interval(posted, [(1, 25), (2, 26), (4, 130)]) == pytest.approx(26 / 2)


def test_the_peak_is_given_up_where_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PEAK_EFFORT", 3)
    assert peak_interval([0, 1], [(1, 10), (2, 20)]) == math.inf


def test_latency_leaves_the_two_slowest_rounds_out() -> None:
    posted = [0]
    for microseconds in (40, 10, 1000, 20, 30, 500):
        posted.append(posted[-1] + microseconds * 1000)
    figures = Latency.of(8, posted, ways=1)
    assert (figures.size, figures.iterations) == (8, 7)
    assert figures.t_min == 10
    assert figures.t_typical == 25  # of 10, 20, 30, 40
    assert figures.t_avg == 25
    assert figures.t_stdev == pytest.approx(math.sqrt((225 + 25 + 25 + 225) / 4))
    assert figures.t_max == figures.p99 == figures.p99_9 == 500  # perftest looks one past what is left


def test_latency_of_two_ways_is_half() -> None:
    figures = Latency.of(2, [0, 10_000, 20_000, 30_000, 50_000, 90_000], ways=2)
    assert (figures.t_min, figures.t_typical, figures.t_max) == (5, 5, 10)


def test_the_latency_columns_are_perftests() -> None:
    """In its order, in lines of 80 characters: each figure below its name."""
    names = ["#bytes", "#iterations", "t_min", "t_max", "t_typical", "t_avg", "t_stdev", "99%", "99.9%"]
    assert Latency.HEADER.split() == names
    figures = Latency.of(2, [0, 10_000, 20_000, 30_000, 50_000, 90_000], ways=2)
    assert str(figures).split() == ["2", "6", "5.00", "10.00", "5.00", "5.00", "0.00", "10.00", "10.00"]
    assert figures.data()["p99_9"] == 10
    slow = Latency.of(8_388_608, [n * n * 20_000_000 for n in range(20)], ways=2)
    assert len(Latency.HEADER) == len(str(figures)) == len(str(slow)) < 80
