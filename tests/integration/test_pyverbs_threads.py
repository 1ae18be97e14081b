"""The stand-in for pyverbs with threads, processes and forks: who sleeps is served, and nothing is left behind."""

from __future__ import annotations

import gc
import random
import socket
import sys
import threading
import time
from collections import deque
from functools import partial

import pytest

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.core import Core, Timer, core
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.link import Link
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.opened import Opened
from pyiwarp.pyverbs.pd import Domain
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.rendezvous import Door
from tests.children import finished
from tests.integration.verbsrig import ALL, OK, Side, descriptors, living, pair, side, threads, until
from tests.patience import PATIENCE

OP, WC = e.ibv_wr_opcode, e.ibv_wc_opcode


def test_one_posts_another_polls_and_a_third_sleeps_on_a_channel() -> None:
    count = 300
    with pair(channel=True) as (one, other):
        assert other.channel is not None
        for _ in range(60):
            other.recv()
        received, sent, errors = [0], [0], deque[BaseException]()

        def serve() -> None:
            assert other.channel is not None
            other.cq.req_notify()
            while received[0] < count:
                other.channel.get_cq_event(other.cq)
                other.cq.req_notify()
                while (found := other.cq.poll(10))[0]:
                    assert all(wc.status == OK for wc in found[1])
                    received[0] += found[0]
                    for _ in range(found[0]):
                        other.recv()

        def poll() -> None:
            while sent[0] < count:
                number, found = one.cq.poll(5)
                assert all(wc.status == OK for wc in found)
                sent[0] += number
                time.sleep(0)

        def guarded(call: object) -> None:
            assert callable(call)
            try:
                call()
            except BaseException as error:
                errors.append(error)

        running = [threading.Thread(target=guarded, args=(each,), daemon=True) for each in (serve, poll)]
        for thread in running:
            thread.start()
        posted, deadline = 0, time.monotonic() + PATIENCE
        while posted < count:
            assert time.monotonic() < deadline
            assert not errors
            try:
                one.send(posted)
                posted += 1
            except PyverbsRDMAError:  # the queue is full
                time.sleep(0.001)
        for thread in running:
            thread.join(PATIENCE)
        assert not errors
        assert (received, sent) == ([count], [count])


def test_of_two_threads_that_sleep_on_a_channel_each_event_wakes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = side(channel=True)
    channel, wait = one.channel, core().wait
    assert channel is not None
    taken, both = deque[str](), threading.Barrier(2)

    def slow(done: object, timeout: float | None = None) -> bool:
        """The other thread has time to see what this one has seen."""
        assert callable(done)
        both.wait(PATIENCE)
        found = wait(done, timeout)
        time.sleep(0.05)
        return found

    def take() -> None:
        try:
            channel.get_cq_event(one.cq)
            taken.append("an event")
        except BaseException as error:
            taken.append(repr(error))

    def taken_are(count: int) -> bool:
        return len(taken) >= count

    monkeypatch.setattr(core(), "wait", slow)
    running = [threading.Thread(target=take, daemon=True) for _ in range(2)]
    for thread in running:
        thread.start()
    for told in range(2):
        with core().poller:
            channel.events.put(one.cq.queue)
        until(partial(taken_are, told + 1))
    for thread in running:
        thread.join(PATIENCE)
    assert list(taken) == ["an event"] * 2
    assert one.cq.num_events == 2
    one.close()


def test_who_polls_in_vain_sleeps() -> None:
    """Its peer may need the processor: of a wait of some time little is spent; several threads may do so."""
    with pair() as (one, other):
        other.recv()
        one.send()
        assert one.statuses(1) == [(0, OK)]

        def poll_in_vain() -> None:
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                assert one.cq.poll(1) == (0, [])

        start = time.thread_time()
        poll_in_vain()
        assert time.thread_time() - start < 0.25
        running = [threading.Thread(target=poll_in_vain) for _ in range(3)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(PATIENCE)
        assert other.statuses(1) == [(0, OK)]


def test_the_thread_ends_with_the_last_device_and_comes_again() -> None:
    until(lambda: not threads())
    one, other = side(), side()
    assert len(threads()) == 1
    one.close()
    assert len(threads()) == 1
    other.close()
    until(lambda: not threads())
    again = side()
    assert len(threads()) == 1
    again.close()
    until(lambda: not threads())


def use_and_drop(number: int) -> None:
    """Use all that there is, and close nothing."""
    one, other = side(channel=True, srq=bool(number % 2)), side()
    one.connect(other)
    if number % 3:
        other.connect(one)
        one.recv()
        other.send()
        if number % 4:
            assert other.statuses(1) == [(0, OK)]
    assert one.ctx.cmd_fd >= 0
    MR(one.pd, 1 << 20, ALL)


def test_what_is_dropped_leaves_nothing() -> None:
    """No descriptor, no thread, no object."""
    use_and_drop(0)
    gc.collect()
    until(lambda: not core().open_contexts and not threads())
    before = descriptors()
    for number in range(12):
        use_and_drop(number)
    gc.collect()
    until(lambda: not core().open_contexts and not threads())
    assert set(descriptors()) <= set(before), {each: to for each, to in descriptors().items() if each not in before}
    assert not living(Side, Context, MR, Opened, Domain, Link, Door)


def test_a_device_is_dropped_while_an_error_is_told() -> None:
    def fail() -> None:
        one = side()
        one.recv()
        raise RuntimeError("as programs do")

    with pytest.raises(RuntimeError):
        fail()
    gc.collect()
    until(lambda: not core().open_contexts)
    assert not living(Link)


def test_timers_are_made_in_their_order_by_the_thread() -> None:
    one, told = side(), deque[tuple[int, int]]()

    def tell(number: int) -> None:
        told.append((number, threading.get_ident()))

    with core().poller:
        for number, seconds in ((2, 0.05), (1, 0.01), (3, 0.06)):
            core().later(seconds, partial(tell, number))
        core().later(0.0, partial(tell, 4)).cancel()
    until(lambda: len(told) == 3)
    assert [number for number, _ in told] == [1, 2, 3]
    assert {ident for _, ident in told} == {threads()[0].ident}
    one.close()


def test_a_peer_that_is_waited_for_holds_nothing_that_was_dropped() -> None:
    """Neither the time that it has, nor the next try to connect."""

    def wait_in_vain() -> None:
        for one, other in ((side(), side()), (side(), side())):
            one.connect(other, timeout=14, retry_cnt=7)
            one.send()
            other.qp.close()
            time.sleep(0.02)

    wait_in_vain()
    gc.collect()
    until(lambda: not core().open_contexts and not threads())
    assert not living(Link, Opened)


def test_timers_that_were_cancelled_do_not_gather() -> None:
    """A queue pair that is connected again and again has a timer each time, which may be hours long."""
    one, told = side(), deque[int]()
    with core().poller:
        before = len(living(Timer))
        core().later(0.05, lambda: told.append(1))
        for _ in range(1000):
            core().later(3600.0, lambda: told.append(2)).cancel()
        assert len(living(Timer)) - before < 100
    until(lambda: told)
    assert list(told) == [1]
    one.close()


def test_a_timer_that_fails_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    one, told = side(), deque[int]()
    with core().poller:
        core().later(0.0, lambda: 1 // 0)
        core().later(0.01, lambda: told.append(1))
    until(lambda: told)
    assert "a timer has failed" in caplog.text
    one.close()


@pytest.mark.parametrize("seed", range(4))
def test_any_mix_arrives_in_order(seed: int) -> None:
    """Sends, Sends and Writes with immediate data, Reads; receives are posted late. Odd seeds share the receives."""
    chance, count = random.Random(seed), 400
    with pair(srq=bool(seed % 2)) as (one, other):
        sent: list[tuple[str, int, int]] = []
        done: list[int] = []
        got: list[tuple[int, int, int]] = []
        receives, deadline = 0, time.monotonic() + PATIENCE
        while len(done) < count or len(got) < sum(kind != "read" for kind, _, _ in sent):
            assert time.monotonic() < deadline
            for _ in range(chance.randrange(6)):
                if len(sent) < count and len(sent) - len(done) < 60:
                    sent.append(post_any(chance, one, other, len(sent)))
            for _ in range(chance.randrange(5)):
                if receives - len(got) < 60:
                    other.recv(receives, 1000 * (receives % 30), 1000)
                    receives += 1
            for wc in one.cq.poll(20)[1]:
                assert wc.status == OK
                done.append(wc.wr_id)
            for wc in other.cq.poll(20)[1]:
                assert (wc.status, wc.wr_id) == (OK, len(got))
                got.append((wc.opcode, wc.byte_len, socket.ntohl(wc.imm_data) if wc.wc_flags else 0))
        assert done == list(range(count))
        opcodes = {"write": WC.IBV_WC_RECV_RDMA_WITH_IMM}
        expected = [
            (opcodes.get(kind, WC.IBV_WC_RECV), nbytes, 0 if kind == "send" else number)
            for kind, number, nbytes in sent
            if kind != "read"
        ]
        assert got == expected


def post_any(chance: random.Random, one: Side, other: Side, number: int) -> tuple[str, int, int]:
    kinds = {
        "send": OP.IBV_WR_SEND,
        "send with immediate": OP.IBV_WR_SEND_WITH_IMM,
        "write": OP.IBV_WR_RDMA_WRITE_WITH_IMM,
        "read": OP.IBV_WR_RDMA_READ,
    }
    kind, nbytes = chance.choice(list(kinds)), chance.choice([0, 1, 64, 900])
    remote = other.mr.rkey, other.mr.buf + 40_000
    one.send(number, 1000 * (number % 60), nbytes, opcode=kinds[kind], imm=socket.htonl(number), remote=remote)
    return kind, number, nbytes


def test_each_process_has_a_core_of_its_own() -> None:
    assert isinstance(core(), Core)
    assert core() is core()
    assert not core().left_behind


COMMON = """
import json, os, socket, sys, time
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import GID, AHAttr, GlobalRoute
from pyiwarp.pyverbs.qp import QPAttr
from tests.integration.verbsrig import ALL, OK, side

def meet(sock, late=0.0):
    one, file = side(), sock.makefile("rw")
    file.write(json.dumps([one.qp.qp_num, str(one.ctx.query_gid(1, 0)), one.mr.buf, one.mr.rkey]) + "\\n")
    file.flush()
    qpn, gid, address, rkey = json.loads(file.readline())
    attr = QPAttr(port_num=1, dest_qp_num=qpn, qp_access_flags=ALL, max_rd_atomic=4, max_dest_rd_atomic=4)
    attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=GID(gid)))
    time.sleep(late)
    one.qp.to_rts(attr)
    return one, file, (rkey, address)
"""

PROCESSES = (
    COMMON
    + """
left, right = socket.socketpair()
child = os.fork()
if child == 0:
    left.close()
    one, file, remote = meet(right, late=0.2)
    assert file.readline() == "done\\n"   # asleep in the system meanwhile: the thread serves
    assert one.mr.read(5, 100) == b"hello", one.mr.read(5, 100)
    one.recv(1)
    file.write("ready\\n"); file.flush()
    assert one.statuses(1) == [(1, OK)]
    os._exit(0)                           # what it owes has left
right.close()
one, file, (rkey, address) = meet(left)
one.mr.write(b"hello", 5)
one.send(1, nbytes=5, opcode=e.ibv_wr_opcode.IBV_WR_RDMA_WRITE, remote=(rkey, address + 100))
one.send(2, 200, 5, opcode=e.ibv_wr_opcode.IBV_WR_RDMA_READ, remote=(rkey, address + 100))
assert one.statuses(2) == [(1, OK), (2, OK)]
assert one.mr.read(5, 200) == b"hello"
file.write("done\\n"); file.flush()
file.readline()
one.send(3)
assert one.statuses(1) == [(3, OK)], "confirmed"
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
one.close()
print("both fine")
"""
)

FORKED = (
    COMMON
    + """
one, other = side(), side()
one.connect(other); other.connect(one)
other.recv(1); one.send(2)
assert one.statuses(1) == [(2, OK)]
child = os.fork()
if child == 0:
    again, another = side(), side()       # a child begins anew
    again.connect(another); another.connect(again)
    another.recv(1); again.send(2)
    assert again.statuses(1) == [(2, OK)]
    again.close(); another.close()
    one.close(); other.close()            # and ends nothing of its parent's
    del one, other
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert other.statuses(1) == [(1, OK)]
other.recv(3); one.send(4)
assert one.statuses(1) == [(4, OK)]
assert other.statuses(1) == [(3, OK)]
print("both fine")
"""
)

INTERRUPTED = (
    COMMON
    + """
import signal, threading
from pyiwarp.pyverbs.cq import CQ, CompChannel
one, other = side(channel=True), side()
one.connect(other); other.connect(one)
for wait in (lambda: one.channel.get_cq_event(one.cq), lambda: one.ctx.get_async_event()):
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        wait()
    except KeyboardInterrupt:
        timer.join()
    else:
        raise AssertionError("it was not interrupted")
other.recv(1); one.send(2)
assert one.statuses(1) == [(2, OK)]
print("both fine")
"""
)


@pytest.mark.parametrize("program", [PROCESSES, FORKED, INTERRUPTED], ids=["two processes", "forked", "interrupted"])
def test_processes(program: str) -> None:
    result = finished([sys.executable, "-W", "ignore::DeprecationWarning", "-c", program])
    assert result.returncode == 0, result.stderr
    assert result.stdout == "both fine\n"
    assert result.stderr == ""
