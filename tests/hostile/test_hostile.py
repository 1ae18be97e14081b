"""The programs for long runs against servers of each driver, for a moment; and that they notice what they look for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import bits, soak
from tests.hostile.server import DRIVERS, Figures, serving
from tests.hostile.sessions import HEADER, sessions_of

GOOD = Figures(connections=0, tasks=3, faults=0, descriptors=9, resident=50.0)


@pytest.mark.parametrize("driver", DRIVERS)
def test_some_cuts_and_flips_of_each_session_are_endured(driver: str, tmp_path: Path) -> None:
    with serving(driver, tmp_path) as server:
        kinds = sessions_of(server, crc=False)
        assert len(kinds) == (5 if driver == "polling" else 8)
        for session in kinds:
            assert bits.attack(server, session, every=211) >= len(session.octets) * 9 // 211


@pytest.mark.tools
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_soak_ends_by_itself_and_is_flat(driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--minutes", "0.05", "--warm-up", "2", "--every", "1", "--driver", driver]) == 0
    assert "flat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        ([GOOD] * 20, None),
        ([GOOD._replace(resident=50 + 0.1 * number) for number in range(20)], None),
        ([GOOD._replace(resident=50 + number) for number in range(20)], "memory grew by 10.0 MB"),
        ([GOOD, GOOD._replace(descriptors=10)], "descriptors: 9 became 10"),
        ([GOOD, GOOD._replace(tasks=4)], "tasks: 3 became 4"),
        ([GOOD, GOOD._replace(faults=2)], "2 errors were logged"),
    ],
)
def test_what_is_not_flat_is_told(seen: list[Figures], fault: str | None) -> None:
    result = soak.Result("asyncio", seen)
    assert result.faults == ([] if fault is None else [fault])
    assert result.line.endswith(fault or "flat")


def test_a_server_that_keeps_a_connection_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("polling", tmp_path) as server:
        monkeypatch.setattr("tests.hostile.server.PATIENCE", 1.0)
        session = next(each for each in sessions_of(server, crc=False) if each.name == "Send")
        held = soak._dial(server.port)
        held.sendall(session.request)
        assert held.recv(HEADER)
        held.sendall(session.rest)  # in full operation there is no time limit for it
        with pytest.raises(TimeoutError, match="does not come to rest"):
            server.at_rest()
        held.close()
        monkeypatch.undo()
        assert server.at_rest().connections == 0
