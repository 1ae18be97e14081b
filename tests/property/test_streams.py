"""Any interleaving of sends, reads, credits and ends delivers the octets in order and loses none."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pyiwarp.sockets.engine import End
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.wire import BIG, LITTLE
from tests.streamends import Ends, OneEnd

OPTIONS = st.builds(
    StreamOptions,
    ring=st.sampled_from([512, 1024, 4096]),
    send_memory=st.sampled_from([512, 700, 4096]),
    recv_queue=st.integers(16, 40),
    send_queue=st.integers(16, 40),
    max_message=st.sampled_from([1, 7, 300, 4096]),
)
CHUNKS = st.sampled_from([29, 500, 1 << 20])
ORDERS = st.tuples(*[st.sampled_from([LITTLE, BIG])] * 2)
ENDS = st.builds(Ends, left=OPTIONS, right=OPTIONS, orders=ORDERS, chunk=CHUNKS)
SIDES = st.sampled_from(["left", "right"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, st.integers(0, 1500)),
        st.tuples(st.just("read"), SIDES, st.integers(1, 3000)),
        st.tuples(st.just("move"), SIDES, st.integers(1, 4)),
        st.tuples(st.just("alive"), SIDES, st.just(0)),
        st.tuples(st.just("shut"), SIDES, st.just(0)),
    ),
    max_size=40,
)
OCTETS = bytes(range(251)) * 13  # 251 is prime: no two pieces of it are alike at the places where pieces end


def next_octets(end: OneEnd, nbytes: int) -> bytes:
    """What the program of this end sends next: it can be told from what comes before and after."""
    at = len(end.sent) % 251
    return (OCTETS[at:] + OCTETS)[:nbytes]


def expected(nbytes: int) -> bytes:
    return (OCTETS * (nbytes // len(OCTETS) + 1))[:nbytes]


def play(ends: Ends, steps: list[tuple[str, str, int]]) -> None:
    for what, side, amount in steps:
        end: OneEnd = getattr(ends, side)
        if what == "send":
            end.send(next_octets(end, amount))
        elif what == "read":
            end.take(amount)
            end.engine.look()
        elif what == "alive":
            end.engine.keep_alive()
        elif what == "shut":
            end.engine.shut_down()
        else:
            for _ in range(amount):
                ends.move()


def read_all(ends: Ends) -> None:
    """Both programs read until nothing comes any more."""
    while True:
        ends.settle()
        if not (ends.left.take() + ends.right.take()):
            return


@settings(max_examples=60)
@given(ends=ENDS, steps=STEPS)
def test_every_octet_arrives_once_and_in_order(ends: Ends, steps: list[tuple[str, str, int]]) -> None:
    play(ends, steps)
    read_all(ends)
    for sender, reader in ((ends.left, ends.right), (ends.right, ends.left)):
        assert bytes(reader.read) == bytes(sender.sent) == expected(len(sender.sent))
        assert reader.at_the_end == (sender.engine.writing is not End.OPEN)


@settings(max_examples=60)
@given(ends=ENDS, steps=STEPS)
def test_nothing_deadlocks(ends: Ends, steps: list[tuple[str, str, int]]) -> None:
    """Once everything was read, both sides can send as much as they like again, whatever was before."""
    play(ends, [step for step in steps if step[0] != "shut"])
    read_all(ends)
    for sender, reader in ((ends.left, ends.right), (ends.right, ends.left)):
        goal = len(sender.sent) + min(3 * reader.options.ring, 100 * sender.options.max_message)
        for _ in range(100_000):
            if len(sender.sent) >= goal:
                break
            assert sender.send(next_octets(sender, min(3000, goal - len(sender.sent)))), (
                "everything was read: there is room"
            )
            ends.settle()
            reader.take()
            ends.settle()
        read_all(ends)
        assert bytes(reader.read) == expected(goal)


@settings(max_examples=60)
@given(ends=ENDS, steps=STEPS)
def test_what_was_sent_before_the_end_can_be_read(ends: Ends, steps: list[tuple[str, str, int]]) -> None:
    """The left side disconnects at any moment: the right one reads everything that it sent, then the end."""
    play(ends, [step for step in steps if step[:2] != ("shut", "right")])
    ends.left.engine.disconnect()
    for _ in range(100_000):
        moved = ends.move()
        if not moved and not ends.right.take():
            break
    assert ends.left.engine.finished
    assert bytes(ends.right.read) == bytes(ends.left.sent)
    assert ends.right.at_the_end
    assert ends.right.engine.finished
