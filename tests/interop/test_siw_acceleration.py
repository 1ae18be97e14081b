"""Which accelerator a guest gets, on machines whose KVM works, is absent, is forbidden, or runs nothing but a probe."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop.siw import (
    Guest,
    GuestStartError,
    GuestTimeout,
    Image,
    PreparationError,
    acceleration,
    choose,
    control,
    fresh,
    fresh_for,
    qemu,
    snapshots,
)
from interop.siw.acceleration import Answer, Memory

from .machines import Kvm, Machine, linked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image nobody can boot, on a machine with a device of KVM's."""
    directory = tmp_path / "image"
    directory.mkdir()
    device = tmp_path / "device"
    device.touch()
    monkeypatch.delenv(acceleration.VARIABLE, raising=False)
    monkeypatch.setattr(acceleration, "DEVICE", device)
    monkeypatch.setattr(acceleration, "_told", set())
    monkeypatch.setattr(acceleration, "_machine", lambda: "this")
    return Image(directory)


def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tried(image: Image) -> Answer:
        raise AssertionError("nothing is to be tried")

    monkeypatch.setattr(snapshots, "_try_kvm", tried)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines about the accelerator."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("accel ")]


# -- without a guest


async def test_without_the_device_there_is_no_trial(
    bare: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acceleration, "DEVICE", tmp_path / "none")
    no_trial(monkeypatch)
    assert [await choose(bare), await choose(bare)] == ["tcg", "tcg"]
    (line,) = said(capsys)
    assert f"tcg: {tmp_path / 'none'}: No such file or directory" in line


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to open everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_device_that_must_not_be_opened_is_an_obstacle(bare: Image, tmp_path: Path) -> None:
    acceleration.DEVICE.chmod(0)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    with as_nobody():
        obstacle = acceleration.obstacle()
    assert obstacle == f"{acceleration.DEVICE}: Permission denied"


async def test_a_forbidden_device_means_no_trial(
    bare: Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acceleration, "obstacle", lambda: "/dev/kvm: Permission denied")
    no_trial(monkeypatch)
    assert await choose(bare) == "tcg"
    (line,) = said(capsys)
    assert "/dev/kvm: Permission denied" in line


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
async def test_the_environment_decides_without_a_trial(
    bare: Image, accelerator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_trial(monkeypatch)
    monkeypatch.setenv(acceleration.VARIABLE, accelerator)
    Memory(bare).keep(Answer(accelerator == "tcg"))
    assert await choose(bare) == accelerator


async def test_an_accelerator_that_there_is_not_is_refused(bare: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(acceleration.VARIABLE, "xen")
    with pytest.raises(PreparationError, match="PYIWARP_ACCEL is 'xen': it can be kvm or tcg"):
        await choose(bare)


async def test_a_guest_is_tried_once_by_all_that_ask(bare: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def works(image: Image) -> Answer:
        tried.append(image)
        await asyncio.sleep(0.05)
        return Answer(True)

    monkeypatch.setattr(snapshots, "_try_kvm", works)
    assert await asyncio.gather(*(choose(bare) for _ in range(4))) == ["kvm"] * 4
    assert tried == [bare]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"works": true, "why": ""}'])
async def test_an_answer_that_cannot_be_read_is_asked_for_again(bare: Image, content: str) -> None:
    memory = Memory(bare)
    memory.keep(Answer(True))
    assert memory.recall() == Answer(True)
    memory.file.write_text(content)
    assert memory.recall() is None


def test_another_machine_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def name() -> Path:
        acceleration._machine.cache_clear()
        return Memory(Image(tmp_path)).file

    monkeypatch.setattr(qemu, "version", lambda: "QEMU 1")
    names = [name(), name()]
    assert names[0] == names[1]
    monkeypatch.setattr(qemu, "version", lambda: "QEMU 2")
    names.append(name())
    monkeypatch.setattr(acceleration, "_cpu", lambda: ["model name\t: another"])
    names.append(name())
    here = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*here[:3], "#2 another kernel", *here[4:])))
    names.append(name())
    (tmp_path / "machine-id").write_text("another machine")
    monkeypatch.setattr(acceleration, "_IDENTITY", (str(tmp_path / "machine-id"),))
    names.append(name())
    acceleration._machine.cache_clear()
    assert len(set(names)) == 5


class Started:
    """As much of a guest as its first use needs."""

    console = "what the guest said"

    def __init__(self, accelerator: str) -> None:
        self.accelerator = accelerator
        self.alive = True

    def kill(self) -> None:
        self.alive = False


def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """Have guests of this kind come up; the list has them all."""
    guests: list[Started] = []

    async def restored(image: Image, variant: str, ports: tuple[int, ...], accelerator: str) -> Started:
        guests.append(Started(accelerator))
        return guests[-1]

    monkeypatch.setattr(snapshots, "_restored", restored)
    return guests


async def first_use(guest: Guest | Started) -> str:
    """Fails under KVM."""
    assert isinstance(guest, Started)
    if guest.accelerator == "kvm":
        raise GuestTimeout("'verbpeer' not started in 15 s", guest.console)
    return guest.accelerator


async def test_a_guest_that_stops_at_its_first_use_is_replaced_by_one_without_kvm(
    bare: Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guests = started(monkeypatch)
    Memory(bare).keep(Answer(True))
    assert await asyncio.gather(*(fresh_for(bare, "siw", first_use) for _ in range(3))) == ["tcg"] * 3
    assert [guest.alive for guest in guests] == [guest.accelerator == "tcg" for guest in guests]
    (line,) = said(capsys)
    assert "a guest under KVM failed: its first use: 'verbpeer' not started in 15 s, as " in line
    assert await choose(bare) == "tcg"


async def test_where_the_environment_decided_a_guest_is_not_replaced(
    bare: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = started(monkeypatch)
    monkeypatch.setenv(acceleration.VARIABLE, "kvm")
    with pytest.raises(GuestStartError, match="what the guest said"):
        await fresh_for(bare, "siw", first_use)
    assert [guest.accelerator for guest in guests] == ["kvm"]


# -- with guests, on machines of each kind


async def accelerator_that_works(image: Image) -> str:
    """A fresh guest's, after a command in it."""
    async with await fresh(image) as guest:
        assert (await guest.run("echo works")).text == "works\n"
        return guest.accelerator


@pytest.mark.siw
async def test_kvm_that_works_is_taken_and_not_asked_again(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(snapshots, "TRIAL", 300.0)  # this KVM is as slow as TCG
    monkeypatch.setitem(snapshots._BOOT, "kvm", 300.0)
    machine = Machine(tmp_path / "machine", Kvm.WORKS)
    machine.enter(monkeypatch)
    own = linked(image, tmp_path / "image")
    assert await accelerator_that_works(own) == "kvm"
    assert machine.guests_under_kvm == 3  # booted; restored for the trial; restored for use
    assert await accelerator_that_works(own) == "kvm"
    assert machine.guests_under_kvm == 4
    assert said(capsys) == []


@pytest.mark.siw
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kvm.RUNS_A_PROBE_ONLY, "did not work within 2 s"),
        (Kvm.STOPS_AFTER_THE_BOOT, "failed: ('true' not started in|no answer from QEMU's monitor)"),
        (Kvm.REFUSES, "failed: QEMU ended before the guest was ready"),
    ],
    ids=["runs a probe only", "stops after the boot", "refuses"],
)
async def test_kvm_that_runs_no_guest_is_left_alone_after_one_trial(
    image: Image,
    tmp_path: Path,
    kind: Kvm,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(snapshots, "TRIAL", 2.0 if kind is Kvm.RUNS_A_PROBE_ONLY else 300.0)
    monkeypatch.setitem(snapshots._BOOT, "kvm", 300.0)
    machine = Machine(tmp_path / "machine", kind)
    machine.enter(monkeypatch)
    own = linked(image, tmp_path / "image")
    monkeypatch.setattr(control, "_START_PATIENCE", 2.0)
    assert [await choose(own), await choose(own)] == ["tcg", "tcg"]
    assert machine.guests_under_kvm == 1
    (line,) = said(capsys)
    assert re.search(f"tcg: a guest under KVM {reason}.*, as {Memory(own).file} keeps", line), line


@pytest.mark.siw
async def test_kvm_that_has_ceased_to_run_guests_is_given_up(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(snapshots._BOOT, "kvm", 2.0)
    Machine(tmp_path / "machine", Kvm.RUNS_A_PROBE_ONLY).enter(monkeypatch)
    own = linked(image, tmp_path / "image")
    Memory(own).keep(Answer(True))
    assert await accelerator_that_works(own) == "tcg"
    (line,) = said(capsys)
    assert "a guest under KVM failed: the guest was not ready after 2 s" in line
    assert Memory(own).recall() == Answer(False, "a guest under KVM failed: the guest was not ready after 2 s")


# -- the commands


@pytest.fixture(scope="module")
def cache(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the image and no saved state."""
    directory = tmp_path_factory.mktemp("cache")
    linked(image, directory / "siw" / image.key)
    return directory


def run(machine: Machine, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m` with these words on this machine."""
    prelude = (
        "import runpy, sys; from pathlib import Path; from interop.siw import acceleration, snapshots\n"
        f"acceleration.DEVICE = Path({str(machine.device)!r}); snapshots.TRIAL = 2.0\n"
        f"sys.argv = {[*words]!r}; runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)\n"
    )
    environment = {**os.environ, "PATH": machine.path, "PYIWARP_CACHE": str(cache)}
    environment.pop(acceleration.VARIABLE, None)
    command = [sys.executable, "-c", prelude]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )


@pytest.mark.siw
def test_scenarios_pass_where_kvm_runs_nothing_but_a_probe(cache: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", Kvm.RUNS_A_PROBE_ONLY)
    words = ["--peer", "siw", "--scenario", "basic-*", "--json", str(tmp_path / "results.json")]
    done = run(machine, cache, "interop", *words)
    assert done.returncode == 0, done.stderr
    # a busy machine may not even start QEMU within the two seconds; the line says what was seen, in either case
    assert done.stderr.count("accel     tcg: ") == 1, done.stderr
    assert machine.guests_under_kvm <= 1  # a busy machine takes longer to start it than it is given


@pytest.mark.siw
@pytest.mark.parametrize(
    "words",
    [
        ["interop", "--peer", "siw", "--json", "{tmp}/results.json"],
        ["interop.conform", "--json", "{tmp}/results.json", "--docs", "{tmp}/page.md"],
        ["pytest", "-m", "siw", "-p", "no:cacheprovider", "tests/interop/test_siw_target.py"],
    ],
    ids=lambda words: str(words[0]),
)
def test_where_no_guest_comes_up_one_error_tells_so(cache: Path, tmp_path: Path, words: list[str]) -> None:
    machine = Machine(tmp_path / "machine", Kvm.BROKEN)
    done = run(machine, cache, *(word.format(tmp=tmp_path) for word in words))
    told = done.stdout + done.stderr
    assert done.returncode not in (0, 1), told  # 1 says that something was run and failed
    assert told.count("this machine runs no guest at all") == 1, told
    assert "comes up" in told
    assert not [name for name in os.listdir(tmp_path) if name.startswith(("results", "page"))]
    assert "FAIL" not in told
