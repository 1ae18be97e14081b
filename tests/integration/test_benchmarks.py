"""The benchmarks run, and what they write is whole; how fast anything is, no test asks."""

from __future__ import annotations

import asyncio
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

import pyiwarp
from benchmarks import compare, hotpath, pairs, quoted, siege, stackless
from benchmarks.hotpath import CASES
from benchmarks.open_files import allow_files
from benchmarks.pairs import Absent, Job, Sample
from benchmarks.plot import draw_rows, draw_sweep
from benchmarks.rows import ROWS, Candidate, Row
from benchmarks.targets import TARGETS, Ahead, AtLeast, AtMost
from tests.children import finished

ROOT = Path(__file__).parents[2]
COMPARISON = 800.0  # seconds: each candidate has processes of its own, and a busy machine starts them slowly


def run(program: str, to: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that `program` writes."""
    command = [sys.executable, "-W", "error", "-m", f"benchmarks.{program}", "--json", str(to), *arguments]
    done = finished(command, cwd=ROOT, timeout=COMPARISON)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(to.read_text())
    assert facts["machine"]["cpus"] >= 1
    return facts


def is_measured(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value) and value >= 0


@pytest.mark.tools
@pytest.mark.timeout(900)
def test_the_comparison_has_every_row_and_candidate(tmp_path: Path) -> None:
    rows = run("compare", tmp_path / "compare.json", "--quick")["rows"]
    assert list(rows) == [row.name for row in ROWS]
    for row in ROWS:
        found = rows[row.name]
        assert list(found["candidates"]) == [candidate.name for candidate in row.candidates]
        for name, result in found["candidates"].items():
            if "absent" in result:
                assert result["absent"], "the reason is told"
                assert "pyiwarp" not in name
                continue
            assert "broken" not in result
            assert len(result["samples"]) == 1
            busy = result["samples"][0].get("busy", 1)  # other programs and files have no such figure
            assert busy > 0, "both processes were there when their processor time was read"
            assert is_measured(result["samples"][0][row.figure])
            assert result["medians"] == result["samples"][0]
        assert len(found["targets"]) == len(row.targets)
        assert all(target["met"] in (True, False, None) for target in found["targets"])


def test_every_target_is_of_a_row_and_its_candidates() -> None:
    rows = {row.name: {candidate.name for candidate in row.candidates} for row in ROWS}
    assert TARGETS.keys() <= rows.keys()
    for name, targets in TARGETS.items():
        named = {each for target in targets for each in names_in(target)}
        assert named <= rows[name], f"{name}: {named - rows[name]}"


def names_in(target: object) -> set[str]:
    """The candidates that a target names."""
    names = {getattr(target, field, "") for field in ("candidate", "of", "beyond")}
    return {*names, *getattr(target, "others", ())} - {""}


@pytest.mark.parametrize("row", [row for row in ROWS if row.figure == "GB/s"], ids=lambda row: row.name)
def test_where_bare_sockets_take_part_the_unpaced_one_is_the_first(row: Row) -> None:
    names = [candidate.name for candidate in row.candidates]
    if "bare socket" in names:
        assert names[:2] == ["bare socket, unpaced", "bare socket"]


def replies(*answers: Sample | Exception) -> Callable[[Job], Sample]:
    """A candidate that gives these, one a round."""
    coming = iter(answers)

    def measure(job: Job) -> Sample:
        answer = next(coming)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return measure


def test_a_candidate_that_breaks_is_a_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"GB/s": 2.0, "busy": 0.5}
    candidates = (
        Candidate("sound", replies(whole, whole)),
        Candidate("breaks later", replies(whole, RuntimeError("Traceback …\nValueError: too short"))),
        Candidate("breaks at once", replies(KeyError("octets"))),
        Candidate("is not there", replies(Absent("not installed"))),
    )
    rows = [
        Row("one", "the first row", "GB/s", Job(), candidates),
        Row("two", "the next row", "GB/s", Job(), (Candidate("sound", replies(whole, whole)),)),
    ]
    monkeypatch.setattr(compare, "ROWS", rows)
    monkeypatch.setitem(cast("dict[str, Any]", TARGETS), "one", (AtLeast("breaks later", 1.0, of="sound"),))
    to, drawn = tmp_path / "facts.json", tmp_path / "drawn.svg"
    assert compare.main(["--rounds", "2", "--json", str(to), "--plot", str(drawn)]) == 1
    facts = json.loads(to.read_text())["rows"]
    assert facts["one"]["candidates"]["breaks later"] == {"broken": "ValueError: too short"}
    assert facts["one"]["candidates"]["breaks at once"] == {"broken": "KeyError: 'octets'"}
    assert facts["one"]["candidates"]["is not there"] == {"absent": "not installed"}
    assert len(facts["one"]["candidates"]["sound"]["samples"]) == 2
    assert [target["met"] for target in facts["one"]["targets"]] == [None]
    assert len(facts["two"]["candidates"]["sound"]["samples"]) == 2, "the rows after it are measured"
    assert "broke" in capsys.readouterr().out
    assert drawn.exists()


def test_several_runs_tell_how_far_their_proportions_lie_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = [{"GB/s": rate} for rate in (4.0, 2.0, 5.0)]
    ours = [{"GB/s": rate} for rate in (2.0, 1.5, 1.25)]
    candidates = (
        Candidate("bare", replies(*rates)),
        Candidate("pyiwarp", replies(*ours)),
        Candidate("is not there", replies(*[Absent("not installed")] * 3)),
        Candidate("breaks in the second run", replies(ours[0], RuntimeError("too short"), ours[0])),
    )
    monkeypatch.setattr(compare, "ROWS", [Row("one", "a row", "GB/s", Job(), candidates)])
    to = tmp_path / "facts.json"
    assert compare.main(["--rounds", "1", "--runs", "3", "--json", str(to)]) == 1, "a run in which one broke"
    facts = json.loads(to.read_text())
    assert facts["spreads"] == {"one": {"bare": [1, 1, 1], "pyiwarp": [0.5, 0.75, 0.25]}}
    assert len(facts["loads"]) == 3
    shown = capsys.readouterr().out
    line = next(line for line in reversed(shown.splitlines()) if "pyiwarp" in line and "0.75" in line)
    assert [word for word in line.split() if word[0].isdigit()] == ["0.5", "0.25", "0.75", "0.5", "0.75", "0.25"]


def test_no_spread_where_the_first_candidate_has_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    candidates = (
        Candidate("bare", replies(*[Absent("not here")] * 2)),
        Candidate("pyiwarp", replies(*[{"GB/s": 1.0}] * 2)),
    )
    monkeypatch.setattr(compare, "ROWS", [Row("one", "a row", "GB/s", Job(), candidates)])
    to = tmp_path / "facts.json"
    assert compare.main(["--rounds", "1", "--runs", "2", "--json", str(to)]) == 0
    assert json.loads(to.read_text())["spreads"] == {"one": {}}


def test_a_round_without_processor_time_does_not_stop_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The share of a round can be zero where processes are short; then this round has no rate if busy."""
    candidate = Candidate("short", replies({"GB/s": 2.0, "busy": 0.5}, {"GB/s": 2.0, "busy": 0.0}))
    monkeypatch.setattr(compare, "ROWS", [Row("one", "a row", "GB/s", Job(), (candidate,))])
    to = tmp_path / "facts.json"
    assert compare.main(["--rounds", "2", "--json", str(to)]) == 0
    assert json.loads(to.read_text())["rows"]["one"]["candidates"]["short"]["medians"] == {"GB/s": 2.0, "busy": 0.25}


def ends_at_once(job: Job, announce: Callable[[int], None]) -> None:
    announce(1)


def works_and_ends(job: Job, port: int) -> Sample:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return {"figure": 1.0}


def test_processes_that_have_done_their_work_stay_until_their_processor_time_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(pairs._BusyMeter):
        @property
        def busy(self) -> float:
            time.sleep(1)  # as if the system did not let this process run
            assert all(any(tasks.glob("*/schedstat")) for tasks in self._tasks)
            return super().busy

    monkeypatch.setattr(pairs, "_BusyMeter", Late)
    assert pairs.run_pair(ends_at_once, works_and_ends, Job())["busy"] > 0


@pytest.mark.parametrize("across", ["size", "latency", "qps"])
def test_a_sweep_measures_every_point(across: str, tmp_path: Path) -> None:
    facts = run("sweep", tmp_path / "sweep.json", "--quick", "--across", across)
    points = [set(by_point) for by_point in facts["samples"].values()]
    assert all(each == points[0] and each for each in points)
    for by_point in facts["samples"].values():
        assert all(is_measured(sample[facts["figure"]]) for each in by_point.values() for sample in each)


def test_hotpath_measures_every_case(tmp_path: Path) -> None:
    base = tmp_path / "hotpath.json"
    facts = run("hotpath", base, "--rounds", "1", "--amount", "1")
    assert list(facts["nanoseconds"]) == [case.name for case in CASES]
    assert all(is_measured(value) and value > 0 for values in facts["nanoseconds"].values() for value in values)
    assert all(calls > 0 for calls in facts["calls"].values())
    once_more = ("--only", "Write 64, placed", "--rounds", "1", "--amount", "1", "--base", str(base))
    again = run("hotpath", tmp_path / "again.json", *once_more)
    assert list(again["nanoseconds"]) == ["Write 64, placed"]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"nanoseconds": 1}'])
def test_hotpath_refuses_a_base_that_it_did_not_write(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.json"
    if text is not None:
        base.write_text(text)
    with pytest.raises(SystemExit) as ended:
        hotpath.main(["--base", str(base)])
    assert ended.value.code == 2
    assert str(base) in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_results_are_drawn(suffix: str, tmp_path: Path) -> None:
    sample = {"GB/s": 1.5}
    candidates = {
        "bare socket": {"medians": sample, "samples": [sample, {"GB/s": 1.4}]},
        "pyiwarp": {"medians": {"GB/s": 1.0}, "samples": [{"GB/s": 1.0}]},
        "UCX put": {"absent": "ucx_perftest is not installed"},
    }
    rows = {name: {"title": name, "figure": "GB/s", "candidates": candidates} for name in ("one", "two", "three")}
    drawn, swept = tmp_path / f"rows.{suffix}", tmp_path / f"sweep.{suffix}"
    draw_rows(rows, "a machine", drawn)
    draw_sweep({"pyiwarp": [(8, 0.1), (64, 0.5)], "none": []}, "a machine", swept, across="octets", figure_name="GB/s")
    start = b"\x89PNG" if suffix == "png" else b"<?xml"
    assert drawn.read_bytes().startswith(start)
    assert swept.read_bytes().startswith(start)


MEDIANS: Mapping[str, Mapping[str, float]] = {
    "ours": {"GB/s": 0.9, "µs": 12.0, "KiB": 45.0, "slowest / fastest": 0.4},
    "theirs": {"GB/s": 1.0, "µs": 5.0, "KiB": 6.0},
}


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (AtLeast("ours", 0.85, of="theirs"), "GB/s", True),
        (AtLeast("ours", 0.95, of="theirs"), "GB/s", False),
        (AtLeast("ours", 0.95, of="theirs", or_value=0.8), "GB/s", True),
        (AtLeast("ours", 0.95, of="theirs", or_value=0.92), "GB/s", False),
        (AtLeast("ours", 0.9), "GB/s", True),
        (AtLeast("ours", 0.5, key="slowest / fastest"), "GB/s", False),
        (AtLeast("ours", 0.5, of="nobody"), "GB/s", None),
        (AtMost("ours", 2.5, of="theirs"), "µs", True),
        (AtMost("ours", 2.3, of="theirs"), "µs", False),
        (AtMost("ours", 40, beyond="theirs"), "KiB", True),
        (AtMost("ours", 38, beyond="theirs"), "KiB", False),
        (AtMost("nobody", 38, beyond="theirs"), "KiB", None),
        (Ahead("ours", "theirs"), "GB/s", False),
        (Ahead("theirs", "ours", "nobody"), "GB/s", True),
        (Ahead("theirs", "ours"), "µs", True),
        (Ahead("ours", "nobody"), "µs", None),
    ],
    ids=str,
)
def test_a_target_is_judged_by_its_medians(target: AtLeast | AtMost | Ahead, figure: str, met: bool | None) -> None:
    assert target.judge(MEDIANS, figure, more_is_better=figure.endswith("/s")).met is met


@pytest.mark.tools
@pytest.mark.parametrize(("server", "addresses"), [("pyiwarp serve", 1), ("pyiwarp.serve", 3)])
def test_siege_asks_a_server_that_bad_clients_surround(tmp_path: Path, server: str, addresses: int) -> None:
    attack = ("--silent", "3", "--trickling", "3", "--flooding", "1", "--addresses", str(addresses))
    facts = run("siege", tmp_path / "siege.json", "--seconds", "0.4", "--server", server, "--loop", "uvloop", *attack)
    (ordeal,) = facts["servers"]
    assert (ordeal["server"], ordeal["loop"]) == (server, "uvloop")
    assert ordeal["quiet"] > 0
    assert ordeal["answered"] > 0
    assert (ordeal["failed"], ordeal["why"]) == (0, {})
    assert facts["attack"] == {"silent": 3, "trickling": 3, "flooding": 1, "addresses": addresses}
    assert facts["sources"] == siege.sources(addresses)
    assert ("127.0.0.1" in facts["sources"]) is (addresses == 1 or len(facts["sources"]) == 1)


@pytest.mark.parametrize(("server", "private_data"), siege.PRIVATE_DATA.items())
def test_a_flooding_connection_of_the_siege_isin_full_operation(
    tmp_path: Path, server: str, private_data: bytes
) -> None:
    process, port = siege.start(server, "asyncio", tmp_path, ["--clients", "1"] if server == "pyiwarp serve" else [])
    try:
        one = siege.in_full_operation(port, siege.HOST, siege.request_of(private_data))
        assert one is not None
        with one:
            if server == "pyiwarp serve":
                refused = siege.in_full_operation(port, siege.HOST, siege.request_of(b"another application"))
                assert refused is None, "without the private data it would be rejected"
    finally:
        process.kill()
        process.communicate(timeout=siege.PATIENCE)


def test_a_benchmark_takes_no_open_files_away() -> None:
    """Also where it runs in the process of somebody else, as in the next test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_files(1) > 1
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


async def test_beside_a_crowd_there_is_the_flood_that_its_row_names() -> None:
    served: list[pyiwarp.Connection] = []

    async def echo(connection: pyiwarp.Connection) -> None:
        served.append(connection)
        async for message in connection:
            await connection.send(message)

    job = Job(size=64, connections=1, flooding=1, warmup=0.01, seconds=0.01)
    async with pyiwarp.serve(echo, siege.HOST) as server:
        sample = await asyncio.to_thread(stackless.stackless_client, job, server.port)
    assert sample["messages/s"] > 0
    assert sum(each.qp.counters().sends_received == 0 for each in served) == 1, "it sends empty Writes alone"


def test_the_table_of_the_readme_has_the_median_and_the_spread() -> None:
    runs = [
        {
            "write-1m": {"bare socket, unpaced": 4.0, "pyiwarp": ours, "asyncio streams": 1.0},
            "setup-cost": {"asyncio streams": 0.1, "pyiwarp": ours},
        }
        for ours in (2.0, 2.4, 1.6)
    ]
    lines = quoted.markdown(runs).splitlines()
    assert lines[2:] == [
        "| Write of 1 MiB, 16 outstanding | 0.50 (0.40 to 0.60) of a bare socket's rate | asyncio streams 0.25 |",
        "| a connection made, agreed on and closed | 2.000 (1.600 to 2.400) ms of both ends | asyncio streams 0.1 |",
    ]
    runs[1]["write-1m"]["pyiwarp"] = 0.0  # it broke in one run
    assert "no figure" in quoted.markdown(runs).splitlines()[2]
    runs[1]["setup-cost"]["asyncio streams"] = 0.0  # which others are not measured by here
    assert quoted.markdown(runs).splitlines()[3].endswith("| 2.000 (1.600 to 2.400) ms of both ends |  |")


def test_the_readme_quotes_rows_and_candidates_that_there_are() -> None:
    rows = {row.name: {candidate.name for candidate in row.candidates} for row in ROWS}
    for line in quoted.QUOTED:
        assert set(line.ours) <= rows[line.row], line
