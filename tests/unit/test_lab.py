"""The laboratory: octets to a real endpoint, what it does, the flaws of the exercises, and the command."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pyiwarp.cli import app
from pyiwarp.codes import Rtr
from pyiwarp.conformance.clauses import clauses
from pyiwarp.errors import CrcMismatch, UsageError
from pyiwarp.lab.exercises import EXERCISES, rules
from pyiwarp.lab.laboratory import Lab
from pyiwarp.lab.prompt import Prompt
from pyiwarp.verbs import Access, Read, RemoteRegion, Send
from tests.children import python_path
from tests.patience import PATIENCE

runner = CliRunner(env={"COLUMNS": "80"})


def test_a_write_is_placed_and_told() -> None:
    lab = Lab()
    happened = lab.write(0x100, 0x1000, b"abc")
    assert bytes(lab.endpoint.region.view[:4]) == b"abc."
    assert repr(happened) == (
        "──▶ RDMA Write STag=0x00000100 TO=0x1000 [3 octets] L\nmemory: STag 0x00000100, octets 0 to 2: 61 62 63  'abc'"
    )
    assert not happened.answers


def test_octets_come_in_any_pieces() -> None:
    lab = Lab()
    octets = lab.peer.fpdu(lab.peer.send(b"hello"))
    assert not lab.say(octets[:7]).units
    happened = lab.say(octets[7:].hex())
    assert [unit.octets for unit in happened.sent] == [octets]
    assert happened.completions == ("recv 'recv 1' success, 5 octets: 68 65 6c 6c 6f  'hello'",)
    with pytest.raises(UsageError, match="not hexadecimal"):
        lab.say("hello")


@pytest.mark.parametrize("initiator", [False, True])
@pytest.mark.parametrize("offer", [{}, {"markers": True}, {"revision": 1}, {"ird": 1, "ord": 0}])
def test_either_side_may_begin(initiator: bool, offer: dict[str, Any]) -> None:
    lab = Lab(initiator=initiator, **offer)
    assert lab.endpoint.state == "queue pair: RTS"
    assert [by_peer for by_peer, _ in lab.history] == [not initiator, initiator]
    lab.send(bytes(64))
    assert [unit.text for unit in lab.post(Send(inline=b"x")).answers] == ["Send QN=0 MSN=1 MO=0 [1 octets] L"]
    assert not any(unit.wrong for _, unit in lab.history)


def test_a_responder_says_that_it_waits() -> None:
    lab = Lab()
    assert "waits for the first FPDU" in repr(lab.post(Send(inline=b"x")))
    assert len(lab.send().answers) == 1


def test_an_opening_message_is_seen() -> None:
    lab = Lab(initiator=True, startup=False, rtr=Rtr.SEND)
    lab.say(lab.peer.reply(peer_to_peer=True, rtr_send=True))
    assert lab.answers[-1].text == "Send QN=0 MSN=1 MO=0 [0 octets] L"


def test_time_passes_when_it_is_told_to() -> None:
    lab = Lab(startup=False)
    happened = lab.expire()
    assert "endpoint: waited too long for " in repr(happened)
    assert lab.endpoint.error is not None
    with pytest.raises(UsageError, match="waits for nothing"):
        lab.expire()


def test_an_error_is_told_once() -> None:
    lab = Lab()
    lab.send()
    happened = lab.frame(lab.peer.send(b"x"), crc_mask=1)
    assert isinstance(lab.endpoint.error, CrcMismatch)
    assert [unit.text.partition(":")[0] for unit in happened.answers] == ["Terminate QN=2 MSN=1 MO=0 [4 octets]"]
    assert "CrcMismatch" in repr(happened)
    assert "CrcMismatch" not in repr(lab.close())


def test_a_read_of_the_endpoints_can_be_answered() -> None:
    lab = Lab(initiator=True)
    happened = lab.post(Read(lab.endpoint.region[:4], RemoteRegion(0, 0x77, 4), "read"))
    assert "of 4 from STag=0x00000077" in repr(happened)
    happened = lab.frame(lab.peer.read_response(0x100, 0x1000, b"1234"))
    assert happened.completions == ("read 'read' success, 4 octets",)
    assert [str(change) for change in happened.changes] == ["STag 0x00000100, octets 0 to 3: 31 32 33 34  '1234'"]


def test_stags_can_be_foreseen() -> None:
    for _ in range(2):
        lab = Lab()
        more = lab.endpoint.register(bytearray(100), Access.REMOTE_READ)
        assert [(each.stag, each.to) for each in lab.endpoint.regions] == [(0x100, 0x1000), (0x200, 0x2000)]
        assert more is lab.endpoint.regions[1]


def test_a_region_may_be_closed() -> None:
    lab = Lab()
    lab.endpoint.region.close()
    assert "InvalidStag" in repr(lab.write(0x100, 0x1000, b"x"))


@given(st.lists(st.binary(max_size=80), max_size=5), st.booleans(), st.booleans())
def test_any_octets_have_a_fate_that_is_told(pieces: list[bytes], startup: bool, initiator: bool) -> None:
    lab = Lab(startup=startup, initiator=initiator)
    for piece in pieces:
        happened = lab.say(piece)
        assert repr(happened)
        assert repr(happened.fields)
        assert max(len(line) for line in f"{happened}\n{happened.fields}".splitlines()) < 80
    lab.close()


def _reads_elsewhere(lab: Lab) -> object:
    return lab.read(4, 0x100, 0x1000, sink_to=0x10)


def _adds(lab: Lab) -> object:
    return lab.frame(lab.peer.atomic_request(0x100, 0x1000))


def _sends(lab: Lab) -> object:
    return lab.send(), lab.post(Send(inline=b"hello")), lab.post(Send(inline=b"hello"))


def _reads_much(lab: Lab) -> object:
    region = lab.endpoint.register(bytearray(4000))
    return lab.read(4000, region.stag, region.to)


def _asks(**fields: Any) -> Callable[[Lab], object]:
    return lambda lab: (lab.say(lab.peer.request(**fields)), _sends(lab))


def _writes_nowhere(lab: Lab) -> object:
    return lab.write(0x900, 0, b"x")


SOLUTIONS: dict[int, Callable[[Lab], object]] = {
    **{1: _sends, 2: _asks(), 3: _sends, 4: _sends, 5: _reads_elsewhere, 6: _reads_elsewhere, 7: _reads_much},
    **{8: lambda lab: lab.read(0, 0, 0), 9: _writes_nowhere, 10: _writes_nowhere, 11: _adds, 12: _asks(ird=1)},
}


@pytest.mark.parametrize("number", EXERCISES)
def test_an_exercise_can_be_solved(number: int) -> None:
    """What the task says shows octets that an endpoint without the flaw does not send."""
    exercise = EXERCISES[number]
    right, wrong = Lab(startup=exercise.startup), Lab(startup=exercise.startup, flaw=exercise.flaw())
    for lab in (right, wrong):
        SOLUTIONS[number](lab)
    assert [unit.octets for unit in right.answers] != [unit.octets for unit in wrong.answers]
    for id in exercise.broken:
        verdict = exercise.judge(id)
        assert verdict.right
        assert clauses()[id].text[:20] in verdict.text
    assert not exercise.judge("MPA-5044-9.3-01").right


def test_an_answer_is_judged() -> None:
    prompt = Prompt(3)
    assert prompt.answer("DDP-5041-4.3-08").right
    assert repr(prompt.answer("DDP-5041-4.3-07")).startswith("Not this one, but it is in the same section.")
    with pytest.raises(UsageError, match="is no requirement"):
        prompt.answer("MSN")
    with pytest.raises(UsageError, match="no exercise"):
        Prompt().answer("DDP-5041-4.3-08")
    with pytest.raises(UsageError, match="there is no exercise 99; they are 1 to 12"):
        Prompt(99)


def test_every_start_of_an_exercise_has_its_flaw() -> None:
    prompt = Prompt(3)
    for _ in range(2):
        prompt.run("lab.send()\nlab.post(Send(inline=b'x'))")
        assert prompt.names["lab"].answers[-1].segment.msn == 0
        prompt.start()


def test_requirements_are_found() -> None:
    assert len(rules("RFC 5041 §4.3")) == 11
    assert rules("5041 § 4.3") == rules("RFC 5041 §4.3")
    assert "The first MSN of each queue is 1." in repr(rules("first msn"))
    assert max(map(len, repr(rules("RFC 5044 §7.1.1")).splitlines())) < 80
    assert repr(rules("no such words")) == "no requirement has this"


def test_the_command_runs_lines_that_are_given() -> None:
    result = runner.invoke(app, ["lab", "-c", "x = b'hello'\nlab.send(x)"])
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "──▶ Send QN=0 MSN=1 MO=0 [5 octets] L")
    for words in (["lab"], ["lab", "-c", "-"]):
        piped = runner.invoke(app, words, input="lab.send()\n")
        assert piped.output.startswith("──▶ Send QN=0 MSN=1 MO=0 [0 octets] L\ncompleted: recv 'recv 1'")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("lab.say('zz')", "pyiwarp: 'zz' is not hexadecimal"),
        ("x = 1\n1 / 0", 'File "<lab>", line 2, in <module>\nZeroDivisionError: division by zero'),
        ("1 +", "SyntaxError"),
    ],
)
def test_an_error_in_a_line_ends_the_command(code: str, says: str) -> None:
    result = runner.invoke(app, ["lab", "-c", code])
    assert result.exit_code == 1
    assert says in result.output
    assert "pyiwarp/lab" not in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_prompt_asks_for_lines_in_a_terminal(tmp_path: Path) -> None:
    """Python's own prompt, as if IPython were not installed."""
    import pty

    (tmp_path / "IPython.py").write_text("raise ImportError('not here')\n")
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": python_path(tmp_path), "TERM": "dumb"}
    command = [sys.executable, "-m", "pyiwarp", "lab", "--exercise", "3"]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""

    def until(words: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + PATIENCE
        while words not in said:
            assert select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0], said
            said += os.read(ours, 4096)

    try:
        until(b">>> ")
        os.write(ours, b"answer('DDP-5041-4.3-08')\n")
        until(b"Right. RFC 5041")
        os.write(ours, b"exit()\n")
        assert child.wait(PATIENCE) == 0
    finally:
        child.kill()
        child.wait(PATIENCE)
        os.close(ours)
    assert b"Exercise 3: this endpoint breaks one rule." in said
