"""The words of `ping` and `perf`, and what they become, without a process or a connection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pyiwarp import Options
from pyiwarp.cli import app
from pyiwarp.cli.options import endpoint_address, octets, tool_options
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


# --- what the words become -------------------------------------------------------------------------------------------

GIVEN = ["--timeout", "4", "--no-crc", "--markers", "--mulpdu", "1000", "--revision", "1"]


def check_options(plain: Options, told: Options) -> None:
    """Those of a connection without words, and with `GIVEN`."""
    assert (plain.timeout, plain.first_fpdu_timeout, plain.fpdu_timeout, plain.linger) == (10.0, 30.0, 30.0, 5.0)
    assert (plain.crc, plain.markers, plain.revision, plain.mulpdu, plain.capture) == (None, False, 2, None, None)
    assert (told.timeout, told.first_fpdu_timeout, told.fpdu_timeout, told.linger) == (4.0, 4.0, 4.0, 4.0)
    assert (told.crc, told.markers, told.revision, told.mulpdu) == (False, True, 1, 1000)


def called(monkeypatch: pytest.MonkeyPatch, command: str, name: str, *words: str) -> tuple[Any, ...]:
    """With what the command calls the function `name`; its keywords come last."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sys.modules[f"pyiwarp.cli.{command}"], "run", lambda work, loop, **options: None)
    monkeypatch.setattr(f"pyiwarp.cli.{name}", lambda *arguments, **named: found.append((*arguments, named)))
    result = runner.invoke(app, [command, *words])
    assert result.exit_code == 0, result.output
    return found[0]


def test_every_option_of_a_ping_has_its_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    def client(*words: str) -> tuple[Any, ...]:
        return called(monkeypatch, "ping", "rping.client.PingClient.run", "host:9", *words)

    pings, host, port, plain, count, _ = client()
    assert (host, port, count) == ("host", 9, 0)
    assert (pings._size, pings._patience, pings._verify, pings._verbose, pings._json) == (64, 30.0, False, False, False)
    pings, _, _, told, count, _ = client("-C", "3", "-S", "100", "-V", "-v", "--json", *GIVEN)
    assert (pings._size, pings._patience, pings._verify, pings._verbose, pings._json) == (100, 4.0, True, True, True)
    assert count == 3
    check_options(plain, told)
    assert (plain.recv_depth, plain.recv_size, plain.ird, plain.ord) == (2, 16, 1, 1)


def test_every_option_of_a_ping_server_has_its_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    def server(*words: str) -> tuple[Any, ...]:
        return called(monkeypatch, "ping", "rping.server.PingServer.run", "--serve", *words)

    pings, host, port, named = server()
    assert (host, port, named) == ("127.0.0.1", 7174, {"persistent": False})
    assert (pings._patience, pings._verbose, pings._json) == (30.0, False, False)
    plain = pings._options
    pings, host, port, named = server("-P", "-v", "--json", "--host", "::1", "-p", "5", *GIVEN)
    assert (host, port, named) == ("::1", 5, {"persistent": True})
    assert (pings._patience, pings._verbose, pings._json) == (4.0, True, True)
    check_options(plain, pings._options)


@pytest.mark.parametrize(
    ("words", "name"), [(("write_bw", "host:9"), "measure"), (("write_bw", "-p", "9", "--host", "host"), "serve_once")]
)
def test_every_option_of_a_measurement_has_its_effect(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], name: str
) -> None:
    plan, plain, patience, *place, named = called(monkeypatch, "perf", f"perf_screen.{name}", *words)
    assert plan == make_plan(PerfTest.WRITE_BW)
    assert (patience, named) == (30.0, {"json": False})
    assert ([*place[0][:2]] if name == "measure" else place) == ["host", 9]
    counts = ["-s", "100", "-n", "70", "-t", "60", "-r", "50", "-Q", "4", "-l", "8", "-q", "2", "-b", "--json"]
    plan, told, patience, *_, named = called(monkeypatch, "perf", f"perf_screen.{name}", *words, *counts, *GIVEN)
    assert (plan.size, plan.iterations, plan.tx_depth, plan.rx_depth) == (100, 70, 60, 50)
    assert (plan.cq_mod, plan.post_list, plan.qps, plan.both_ways, plan.seconds, plan.sizes) == (
        4,
        8,
        2,
        True,
        None,
        (),
    )
    assert (patience, named) == (4.0, {"json": True})
    check_options(plain, told)
    plan, *_ = called(monkeypatch, "perf", f"perf_screen.{name}", *words, "-D", "2")
    assert plan.seconds == 2.0
    plan, *_ = called(monkeypatch, "perf", f"perf_screen.{name}", *words, "-a", "-n", "70")
    assert [(part.size, part.iterations) for part in plan.sizes] == [(1 << power, 70) for power in range(1, 24)]


def test_every_option_of_a_conformance_run_has_its_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[Any, ...]] = []
    module = sys.modules["pyiwarp.cli.conform"]  # the package has the command under this name
    monkeypatch.setattr(module, "_run", lambda *arguments, **named: found.append((*arguments, named)))
    monkeypatch.setattr(module, "_conclude", lambda report, **named: found.append((named,)))

    def conform(*words: str) -> tuple[Any, ...]:
        found.clear()
        result = runner.invoke(app, ["conform", *words])
        assert result.exit_code == 0, result.output
        return (*found[0], found[1][0])

    chosen, settings, control, profile, capture, how, report = conform("host", "9")
    assert (settings.direction.name, settings.level.name, settings.host, settings.port) == (
        "CONNECT",
        "BARE",
        "host",
        9,
    )
    assert (settings.timeout, settings.patience, settings.reachable_at) == (5.0, 30.0, None)
    assert (control, profile, capture) == (None, None, None)
    assert how == {"strict": False, "fail_fast": False, "quiet": False}
    assert report == {"json": False, "junit": None}
    assert len(chosen) > 300
    words = "--listen 9 --control there:8 --reachable-at here:7 --profile siw --only MPA-*-8-* --skip *-8-01*"
    more = "--strict --fail-fast --timeout 2 --patience 3 --json --junit report.xml"
    chosen, settings, control, profile, _, how, report = conform(*words.split(), *more.split())
    assert (settings.direction.name, settings.level.name) == ("LISTEN", "TARGET")
    assert (settings.host, settings.port, settings.reachable_at) == ("127.0.0.1", 9, ("here", 7))
    assert (settings.timeout, settings.patience) == (2.0, 3.0)
    assert (control, profile) == (("there", 8), "siw")
    assert how == {"strict": True, "fail_fast": True, "quiet": True}
    assert report == {"json": True, "junit": Path("report.xml")}
    parts = [case.id.split("-") for case in chosen]
    assert {(layer, section) for layer, _, section, *_ in parts} == {("MPA", "8")}
    assert not any(number.startswith("01") for *_, number in parts)


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("7B", 7), ("2k", 2000), ("2MB", 2_000_000), ("3GiB", 3 << 30), ("1TIB", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert octets(text) == size
