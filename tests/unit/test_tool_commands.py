"""The words of `ping` and `perf`, and what they become, without a process or a connection."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pyiwarp.cli import app
from pyiwarp.cli.options import endpoint_address, tool_options
from pyiwarp.cli.perf import make_plan
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.cli.perftest.runs import Plan

runner = CliRunner()


@pytest.mark.parametrize(
    "words",
    [
        ("ping",),
        ("ping", "localhost", "--serve"),
        ("ping", "localhost", "-P"),
        ("ping", "localhost", "-S", "22"),
        ("ping", "localhost", "-S", "65536"),
        ("ping", "localhost", "-C", "-1"),
        ("ping", "localhost/path"),
        ("ping", "localhost:0"),
        ("ping", "localhost", "-p", "0"),
        ("ping", "localhost", "--peer", "nobody"),
        ("perf",),
        ("perf", "atomic_bw", "localhost"),
        ("perf", "write_bw", "localhost", "-n", "4"),
        ("perf", "write_bw", "localhost", "-s", "0"),
        ("perf", "write_bw", "localhost", "-s", "8388609"),
        ("perf", "write_bw", "localhost", "-r", "2"),
        ("perf", "write_bw", "localhost/path"),
        ("perf", "send_bw", "localhost", "-q", "2"),
        ("perf", "send_bw", "localhost", "-b"),
        ("perf", "write_lat", "localhost", "-q", "2"),
        ("perf", "read_lat", "localhost", "-l", "2"),
        ("perf", "write_bw", "localhost", "-l", "129"),
        ("perf", "send_bw", "localhost", "-l", "7", "-r", "9"),
        ("perf", "write_bw", "localhost", "-q", "1025"),
        ("perf", "write_bw", "localhost", "--peer", "nobody"),
    ],
)
def test_usage_errors_end_with_2(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, words)
    assert result.exit_code == 2
    assert "Usage" in result.output


@pytest.mark.parametrize("command", ["ping", "perf"])
def test_both_have_help(command: str) -> None:
    assert command in runner.invoke(app, ["--help"]).output
    result = runner.invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "--peer" in result.output


def test_a_port_may_be_in_either_place() -> None:
    assert endpoint_address("host", 7174) == ("host", 7174, "")
    assert endpoint_address("host:4420", 7174) == ("host", 4420, "")
    assert endpoint_address("[::1]:9", 7174) == ("::1", 9, "")


def test_a_profile_has_the_say_where_the_user_has_none() -> None:
    assert tool_options("siw", 30.0, None).offer(b"").crc is False
    assert tool_options("siw", 30.0, True).offer(b"").crc is True
    assert tool_options("rfc", 30.0, None).offer(b"").crc is True
    options = tool_options("rfc", 3.0, None, markers=True, revision=1, mulpdu=1000)
    assert (options.timeout, options.linger, options.markers, options.revision, options.mulpdu) == (3, 3, True, 1, 1000)


def test_what_the_user_does_not_say_is_as_perftest_has_it() -> None:
    assert make_plan(PerfTest.WRITE_BW) == Plan(
        test=PerfTest.WRITE_BW, size=65536, iterations=5000, tx_depth=128, rx_depth=512, cq_mod=1
    )
    assert make_plan(PerfTest.SEND_BW, size=64) == Plan(
        test=PerfTest.SEND_BW, size=64, iterations=1000, tx_depth=128, rx_depth=512, cq_mod=100
    )
    assert make_plan(PerfTest.READ_LAT).size == 2


def test_no_depth_is_greater_than_the_count() -> None:
    plan = make_plan(PerfTest.SEND_BW, size=64, iterations=20, cq_mod=50)
    assert (plan.tx_depth, plan.rx_depth, plan.cq_mod) == (20, 20, 20)


def test_a_list_has_one_completion_and_always_finds_room() -> None:
    plan = make_plan(PerfTest.WRITE_BW, size=64, post_list=64, qps=4, both_ways=True)
    assert (plan.post_list, plan.cq_mod, plan.qps, plan.both_ways) == (64, 64, 4, True)
    # 7 of 10 are posted, 7 more find no room: among those 7 one must ask for its completion
    assert make_plan(PerfTest.WRITE_BW, size=64, tx_depth=10, post_list=7, cq_mod=10).cq_mod == 4
    assert make_plan(PerfTest.WRITE_BW, iterations=20, post_list=64).post_list == 20
    assert make_plan(PerfTest.SEND_BW, iterations=20, post_list=64).post_list == 14
