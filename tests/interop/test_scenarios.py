"""The scenarios against this stack itself, the matrix's own judgement, and what a failure says."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from interop import deviations, guest_pool, peers, scenarios
from interop.deviations import Deviation
from interop.errors import InteropError, PeerUnavailable
from interop.guest_pool import GuestPool
from interop.matrix import Cell, Outcome, Result, cells
from interop.peer import Can, Peer, PeerKind, Role
from interop.peers.pyiwarp import PyiwarpPeer
from interop.peers.siw import SiwPeer
from interop.report import Matrix, write_docs, write_json
from interop.runner import Runner
from interop.scenarios import Scenario
from interop.scenarios.data import exchange
from interop.siw import Guest, GuestDied, GuestError, GuestStartError, GuestTimeout, Image
from interop.stage import Difference, Stage
from pyiwarp.engine import packing

ROOT = Path(__file__).parents[2]
PYIWARP = peers.ALL["pyiwarp"]
CELLS = [cell for cell in cells([PYIWARP], scenarios.ALL.values()) if not cell.scenario.lacking(cell.peer, cell.role)]
BOTH = {role: Can.NOTHING for role in Role}


def play(chosen: list[Cell], declared: list[Deviation] | None = None, **options: Any) -> list[Result]:
    runner = Runner(declared or [], lambda: GuestPool(None), **options)
    return asyncio.run(runner.run(chosen))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_scenario_with_this_stack(cell: Cell) -> None:
    (result,) = play([cell])
    assert result.outcome is Outcome.PASS, result.message


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_is_killed_late_is_still_busy(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = PyiwarpPeer.kill

    async def kill_late(peer: PyiwarpPeer) -> None:
        await asyncio.sleep(1)  # on any machine long enough for what is not held back
        await kill(peer)

    monkeypatch.setattr(PyiwarpPeer, "kill", kill_late)
    (result,) = play(list(cells([PYIWARP], scenarios.ALL.values(), [role], ["kill-the-busy-peer"])))
    assert result.outcome is Outcome.PASS, result.message


# --- the judgement ---------------------------------------------------------------------------------------------------


def fake(run: Callable[[Stage], object], *, timeout: float = 5.0, needs: Can = Can.NOTHING) -> Cell:
    async def act(stage: Stage) -> None:
        result = run(stage)
        if asyncio.iscoroutine(result):
            await result

    scenario = Scenario("fake", "startup", "A fake.", act, {role: needs for role in Role}, timeout, False)
    return Cell(scenario, PYIWARP, Role.PYIWARP_CONNECTS)


def differs(stage: Stage) -> None:
    stage.compare("the colour", "blue", "red")


DECLARED = Deviation("It likes blue", "its manual", ("pyiwarp",), ("fa*",), tuple(Role), "the colour", "blue")


def test_an_undeclared_difference_fails() -> None:
    (result,) = play([fake(differs)])
    assert result.outcome is Outcome.FAIL
    assert "fake with pyiwarp, pyiwarp connects" in result.message
    assert "the colour: blue, should be red" in result.message


def test_a_declared_difference_is_shown_as_such() -> None:
    (result,) = play([fake(differs)], [DECLARED])
    assert result.outcome is Outcome.DIFFERS
    assert result.deviations == (DECLARED,)


def test_a_declared_difference_that_does_not_happen_fails() -> None:
    (result,) = play([fake(lambda stage: None)], [DECLARED])
    assert result.outcome is Outcome.FAIL
    assert "no longer differs as declared: the colour: blue" in result.message


@pytest.mark.parametrize("run", [differs, lambda stage: None], ids=["happens", "does not happen"])
def test_a_difference_declared_to_happen_sometimes_is_always_shown(run: Callable[[Stage], object]) -> None:
    sometimes = dataclasses.replace(DECLARED, sometimes=True)
    (result,) = play([fake(run)], [sometimes])
    assert (result.outcome, result.deviations) == (Outcome.DIFFERS, (sometimes,))


def test_a_difference_is_declared_for_one_cell_only() -> None:
    for elsewhere in (
        dataclasses.replace(DECLARED, peers=("siw",)),
        dataclasses.replace(DECLARED, scenarios=("real",)),
        dataclasses.replace(DECLARED, roles=(Role.PEER_CONNECTS,)),
    ):
        (result,) = play([fake(differs)], [elsewhere])
        assert result.outcome is Outcome.FAIL
    assert not DECLARED.explains(Difference("the colour", "green", "red"))


def test_a_peer_without_an_ability_is_not_played_with() -> None:
    (result,) = play([fake(differs, needs=Can.DIE)])
    assert result.outcome is Outcome.CANNOT
    assert result.message == "pyiwarp cannot crash as a whole machine"


def test_a_scenario_that_hangs_fails_in_its_time_and_the_next_one_runs() -> None:
    start = time.monotonic()
    hung, fine = play([fake(lambda stage: asyncio.sleep(60), timeout=0.2), fake(lambda stage: None)])
    assert hung.outcome is Outcome.FAIL
    assert "did not end within 0.2 s" in hung.message
    assert fine.outcome is Outcome.PASS
    assert time.monotonic() - start < 5


class MortalPeer:
    """As much of a peer as a scenario uses that only dies."""

    kind = PYIWARP

    def crash_report(self) -> str:
        return "the guest is dead; its console:\nKernel panic - not syncing"


class RecordingPool:
    """Tells what becomes of its peers."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        self.log.append("open")
        return MortalPeer()  # type: ignore[return-value]

    async def close(self, peer: Peer, *, damaged: bool) -> None:
        self.log.append("damaged" if damaged else "close")

    async def failed(self, peer: Peer) -> None:
        self.log.append("failed")

    async def stop(self) -> None:
        self.log.append("stop")


def test_the_death_of_a_guest_is_reported_with_its_console_and_the_next_one_runs() -> None:
    def dies(stage: Stage) -> None:
        raise GuestDied("no connection", "Kernel panic")

    pool = RecordingPool()
    runner = Runner([], lambda: pool)
    dead, fine = asyncio.run(runner.run([fake(dies), fake(lambda stage: None)]))
    assert dead.outcome is Outcome.FAIL
    assert "GuestDied: no connection" in dead.message
    assert "Kernel panic - not syncing" in dead.message
    assert fine.outcome is Outcome.PASS
    assert pool.log == ["open", "failed", "damaged", "open", "close", "stop"]


class LimitedPool(RecordingPool):
    """Has no peer after the first so many."""

    def __init__(self, peers: int) -> None:
        super().__init__()
        self.peers = peers

    async def open(self, kind: PeerKind, *, alone: bool) -> Peer:
        self.peers -= 1
        await asyncio.sleep(0.2)
        if self.peers < 0:
            raise PeerUnavailable("no guest comes up")
        return await super().open(kind, alone=alone)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_run_ends_as_soon_as_no_peer_can_be_had(jobs: int) -> None:
    pools = [LimitedPool(3), LimitedPool(10)][:jobs]
    left = iter(pools)
    ended: list[Result] = []
    runner = Runner([], lambda: next(left), jobs=jobs, on_result=ended.append)
    with pytest.raises(PeerUnavailable, match="no guest comes up"):
        asyncio.run(runner.run([fake(lambda stage: None) for _ in range(20)]))
    assert 3 <= len(ended) < 20
    assert [pool.log[-1] for pool in pools] == ["stop"] * jobs


def test_the_time_until_a_peer_is_there_is_not_the_scenarios() -> None:
    runner = Runner([], lambda: LimitedPool(1), timeout=0.1)
    (result,) = asyncio.run(runner.run([fake(lambda stage: None)]))
    assert result.outcome is Outcome.PASS, result.message


class LeftGuest:
    """As much of a guest as a pool asks of one that a scenario has left."""

    variant, alive, stopped = "siw", True, False

    async def stop(self) -> None:
        self.stopped = True


class LeftPeer:
    """A peer in such a guest."""

    def __init__(self, guest: LeftGuest) -> None:
        self.guest = guest


@pytest.mark.parametrize(
    "error", [GuestDied("no connection"), GuestTimeout("not started in 15 s")], ids=["dead", "hung"]
)
async def test_a_guest_that_serves_no_more_is_replaced_before_the_next_scenario(
    error: GuestError, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests: list[LeftGuest] = []
    opened: list[object] = []

    async def start(kind: PeerKind, guest: LeftGuest) -> LeftPeer:
        if guest is guests[0] and opened:
            raise error
        return LeftPeer(guest)

    async def fresh_for(image: Image, variant: str, use: Callable[[LeftGuest], Awaitable[LeftPeer]]) -> LeftPeer:
        guests.append(LeftGuest())
        return await use(guests[-1])

    monkeypatch.setattr(SiwPeer, "start", start)
    monkeypatch.setattr(guest_pool, "fresh_for", fresh_for)
    pool = GuestPool(Image(Path("none")))
    for _ in range(3):
        opened.append((await pool.open(peers.ALL["siw"], alone=False)).guest)  # type: ignore[attr-defined]
    assert opened == [guests[0], guests[1], guests[1]]
    assert [guest.stopped for guest in guests] == [True, False]


async def test_a_guest_that_does_not_come_up_leaves_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fresh_for(*_: object) -> None:
        raise GuestStartError("the guest was not ready after 180 s", "its last words")

    monkeypatch.setattr(guest_pool, "fresh_for", fresh_for)
    with pytest.raises(PeerUnavailable, match=r"(?s)no guest with siw comes up: the guest was not .*its last words"):
        await GuestPool(Image(Path("none"))).open(peers.ALL["siw"], alone=False)


def test_nothing_begins_after_the_first_failure_if_that_is_wished() -> None:
    results = play([fake(differs), fake(lambda stage: None)], stop_at_failure=True)
    assert [result.outcome for result in results] == [Outcome.FAIL]


def test_a_pattern_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(InteropError, match="'no-such'"):
        list(cells([PYIWARP], scenarios.ALL.values(), names=["startup", "no-such"]))


# --- the declarations ------------------------------------------------------------------------------------------------


def test_every_declared_deviation_concerns_some_cell() -> None:
    everything = list(cells(peers.ALL.values(), scenarios.ALL.values()))
    for each in deviations.load():
        assert any(each.concerns(cell.peer.name, cell.scenario.name, cell.role) for cell in everything), each


@pytest.mark.parametrize("change", ["reason = ", "reference = ", "aspect = "])
def test_an_incomplete_declaration_is_refused(tmp_path: Path, change: str) -> None:
    file = tmp_path / "some.toml"
    text = deviations.FILE.read_text()
    file.write_text(text.replace(change, "x" + change, 1))
    with pytest.raises(InteropError, match=change.removesuffix(" = ")):
        deviations.load(file)


# --- what a failure says ---------------------------------------------------------------------------------------------


def _wrong_crc(octets: bytes | memoryview, crc: int = 0) -> int:
    return crc32c(octets, crc) ^ 1


@pytest.mark.parametrize("role", Role)
def test_a_broken_framer_turns_the_matrix_red(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "crc32c", _wrong_crc)
    (result,) = play(list(cells([PYIWARP], scenarios.ALL.values(), [role], ["startup"])), timeout=5.0)
    assert result.outcome is Outcome.FAIL
    assert f"startup with pyiwarp, {role.value}" in result.message
    assert "FPDU 1 " in result.message
    assert re.search(r"CRC: 0x[0-9a-f]{8} is right", result.message), "what is wrong with the frame is said"


def test_a_failure_shows_the_last_frames_and_a_capture_is_kept(tmp_path: Path) -> None:
    async def fails(stage: Stage) -> None:
        async with stage.pair() as pair:
            await pair.here.send(b"nobody waits for this")
            await pair.there.ended()
            stage.check(False, "as it should")

    (result,) = play([fake(fails)], pcapng=tmp_path)
    assert "→ startup  MPA Request, revision 2, crc, IRD 16 ORD 16" in result.message
    assert "→ FPDU 2   Send QN=0 MSN=1 MO=0 [21 octets] L" in result.message
    assert "no buffer available (RFC 5041 §7.2)" in result.message
    (file,) = tmp_path.iterdir()
    assert file.name == "fake-pyiwarp-pyiwarp-connects.pcapng"
    assert file.stat().st_size > 500


# --- the reports -----------------------------------------------------------------------------------------------------


def test_the_reports_tell_everything_and_do_not_change_with_time(tmp_path: Path) -> None:
    chosen = [fake(differs), fake(differs, needs=Can.DIE)]
    texts = []
    for name in "ab":
        matrix = Matrix(play(chosen, [DECLARED]))
        assert matrix.counts == "1 peer cannot, 1 differs as declared"
        write_docs(matrix, tmp_path / name)
        texts.append((tmp_path / name).read_text())
        write_json(matrix, tmp_path / "json")
    assert texts[0] == texts[1]
    assert "1. It likes blue. Seen: the colour: blue. [its manual]" in texts[0]
    outcomes = [each["outcome"] for each in json.loads((tmp_path / "json").read_text())["results"]]
    assert outcomes == ["differs as declared", "peer cannot"]


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interop", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run_command("--peer", "pyiwarp", "--scenario", "startup*", "--role", "peer-connects", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "startup-private-data-1" in done.stdout
    assert {each["role"] for each in json.loads(file.read_text())["results"]} == {"peer connects"}


def test_the_command_line_refuses_what_it_does_not_know() -> None:
    assert run_command("--peer", "nobody").returncode == 2
    assert run_command("--scenario", "no-such").returncode == 2
    assert run_command("--docs", "page.md", "--peer", "siw").returncode == 2


def test_the_list_has_every_scenario_and_peer() -> None:
    listed = run_command("--list").stdout
    for name in (*scenarios.ALL, *peers.ALL):
        assert f"\n{name} " in f"\n{listed}"


def test_the_page_in_docs_has_every_scenario_and_no_failure() -> None:
    page = (ROOT / "docs" / "interop.md").read_text()
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert set(scenarios.ALL) <= rows
    assert "| FAIL |" not in page.split("## Matrix")[1]


# --- with a guest ----------------------------------------------------------------------------------------------------


@pytest.mark.siw
def test_some_scenarios_with_siw(image: Image) -> None:
    names = ["startup", "basic-*", "read-nothing-behind-another", "crash-the-peer", "error-we-read-rights"]
    chosen = list(cells([peers.ALL["siw"], peers.ALL["siw_fix"]], scenarios.ALL.values(), names=names))
    results = asyncio.run(Runner(deviations.load(), lambda: GuestPool(image), jobs=2).run(chosen))
    failed = [result.message for result in results if result.outcome is Outcome.FAIL]
    assert not failed, "\n".join(failed)
    assert {result.outcome for result in results} == {Outcome.PASS, Outcome.DIFFERS, Outcome.CANNOT}


@pytest.mark.siw
def test_a_guest_that_dies_costs_its_scenario_and_no_other(image: Image) -> None:
    def cell(run: Callable[[Stage], Awaitable[None]]) -> Cell:
        scenario = Scenario("fake", "startup", "A fake.", run, {role: Can.NOTHING for role in Role}, 120.0, False)
        return Cell(scenario, peers.ALL["siw"], Role.PYIWARP_CONNECTS)

    def guest_of(stage: Stage) -> Guest:
        assert isinstance(stage.peer, SiwPeer)
        return stage.peer.guest

    async def crashes(stage: Stage) -> None:
        await guest_of(stage).run("echo c > /proc/sysrq-trigger")

    async def crashes_at_its_end(stage: Stage) -> None:
        os.kill(guest_of(stage).machine.pid, signal.SIGKILL)

    async def works(stage: Stage) -> None:
        async with stage.pair() as pair:
            await exchange(stage, pair)

    chosen = [cell(run) for run in (works, crashes, works, crashes_at_its_end, works)]
    results = asyncio.run(Runner([], lambda: GuestPool(image)).run(chosen))
    messages = [result.message for result in results]
    outcomes = [result.outcome for result in results]
    assert outcomes == [Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.PASS, Outcome.PASS], messages
    assert "GuestDied" in messages[1]
    assert "Kernel panic - not syncing" in messages[1]


@pytest.mark.siw
def test_no_process_is_left_behind_even_if_the_run_is_killed() -> None:
    command = [sys.executable, "-m", "interop", "--peer", "siw", "--scenario", "mixed-10000", "--timeout", "60"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        guests: list[Path] = []
        end = time.monotonic() + 120
        while len(guests) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
            guests = [child for child in _children(process.pid) if "qemu" in _command(child)]
        assert len(guests) == 2
    finally:
        process.kill()
        process.wait(60)
    end = time.monotonic() + 60
    while any("qemu" in _command(guest) for guest in guests) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [guest for guest in guests if "qemu" in _command(guest)]


def _children(pid: int) -> list[Path]:
    """The processes that a process has started, in any of its threads."""
    lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [Path("/proc", child) for each in lists for child in each.split()]


def _command(process: Path) -> str:
    """The command line of a process; empty if it runs no more."""
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
