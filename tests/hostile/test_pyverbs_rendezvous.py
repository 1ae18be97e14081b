"""Strangers at the listener by which queue pairs of pyverbs find each other: they get nothing, and keep nobody out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.hostile.pyverbspeers import Program, Side, Stranger, hello, request_of, running
from tests.hostile.server import Figures

OK = 0
NOBODY = 0x123456
ELSEWHERE = "0000:0000:0000:0000:0000:ffff:0a09:0807"
GROWTH = 8.0  # MB


@pytest.fixture
def program() -> Iterator[Program]:
    with running() as found:
        yield found


@pytest.fixture
def side() -> Iterator[Side]:
    found = Side()
    yield found
    found.close()


def honest(program: Program, side: Side, number: int | None = None) -> None:
    """The peer that is meant is connected to a queue pair of the program, and its Send is taken."""
    theirs = program.order("make") if number is None else number
    mine = side.make()
    program.order("meet", theirs, side.gid, mine)
    side.meet(mine, program.gid, theirs)
    assert side.send(mine) == OK
    assert program.order("received", theirs) == OK
    side.drop(mine)
    program.order("drop", theirs)


def assert_flat(program: Program, before: Figures) -> None:
    after = program.at_rest(before)
    assert after.faults == 0, "no error is logged"
    assert after.tasks <= before.tasks
    assert after.descriptors <= before.descriptors
    assert after.resident - before.resident < GROWTH


def test_private_data_that_names_nobody_is_rejected(program: Program, side: Side) -> None:
    number = program.order("make")
    there, here = (program.gid, number), (program.gid, NOBODY)
    others = {
        "nothing": b"",
        "noise": bytes(range(44)),
        "too short": hello(here, there)[:-1],
        "another magic": b"pyv2" + hello(here, there)[4:],
        "a queue pair that is not there": hello(here, (program.gid, number ^ 1)),
        "another listener's": hello(here, (program.gid, number ^ 0x100)),
        "another host's": hello(here, (ELSEWHERE, number)),
        "a caller that is elsewhere": hello((ELSEWHERE, NOBODY), there),
        "all that fits": bytes(500),
    }
    for what, data in others.items():
        with Stranger(number, request_of(data)) as stranger:
            assert stranger.answer() == "rejected", what
    honest(program, side, number)


def test_the_peer_of_another_queue_pair_is_rejected(program: Program, side: Side) -> None:
    number, mine = program.order("make"), side.make()
    program.order("meet", number, side.gid, mine)
    for caller in (mine ^ 1, number, NOBODY):
        with Stranger(number, request_of(hello((program.gid, caller), (program.gid, number)))) as stranger:
            assert stranger.answer() == "rejected"
    side.meet(mine, program.gid, number)
    assert side.send(mine) == OK
    with Stranger(number, request_of(hello((side.gid, mine), (program.gid, number)))) as late:
        assert late.answer() == "rejected", "its peer is there already"


def test_a_flood_of_requests_makes_room_for_the_peer(program: Program, side: Side) -> None:
    numbers = [program.order("make") for _ in range(2)]
    request = request_of(hello((program.gid, NOBODY), (program.gid, numbers[0])))
    honest(program, side)
    before = program.figures()
    with ExitStack() as stack:
        strangers = [stack.enter_context(Stranger(numbers[0], request)) for _ in range(64)]
        for stranger in strangers[:48]:
            assert stranger.answer() == "rejected", "those that came later took its place"
        for number in reversed(numbers):
            honest(program, side, number)
        for stranger in strangers[48:]:
            assert stranger.answer() == "rejected", "it was not the peer"
    honest(program, side)
    assert_flat(program, before)


def test_half_a_request_keeps_nobody_out(program: Program, side: Side) -> None:
    number = program.order("make")
    honest(program, side)
    before = program.figures()
    request = request_of(hello((program.gid, NOBODY), (program.gid, number)))
    for length in range(0, len(request) + 1, 5):
        with Stranger(number, request[:length]):
            pass
    with ExitStack() as stack:
        for length in range(0, len(request), 2):
            stack.enter_context(Stranger(number, request[:length]))
        honest(program, side)
        honest(program, side, number)
    program.order("make")
    honest(program, side)
    assert_flat(program, before)


@pytest.mark.parametrize("octets", [b"\xff" * 512, bytes(512)], ids=["no FPDU", "FPDUs of nothing"])
def test_a_peer_that_is_accepted_and_speaks_no_ddp_ends_its_own_queue_pair(
    program: Program, side: Side, octets: bytes
) -> None:
    number = program.order("make")
    program.order("meet", number, program.gid, NOBODY)  # which is the smaller of the two, so that it is waited for
    with Stranger(number, request_of(hello((program.gid, NOBODY), (program.gid, number)))) as stranger:
        assert stranger.answer() == "accepted"
        stranger.sock.sendall(octets)
        assert program.order("received", number) != OK
    honest(program, side)
    assert program.figures().faults == 0
