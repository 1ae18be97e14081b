"""What one FPDU and one work request cost in processor time, in memory, without sockets.

    python -m benchmarks.hotpath [--only TEXT] [--rounds N] [--amount N] [--json FILE] [--base FILE]

Two queue pairs live in this process and this program is their driver: it asks one for octets and shows them to the
other, as a socket would. What counts is the processor time of this thread, in which no system call lies: the least of
several rounds, which others who use the machine disturb but little. Copies between the two are left out where they
would show (messages of 1 MiB sent and received). Beside it stands how many functions are called, Python's and C's,
which nobody disturbs at all. Compare a change by `--json before.json`, then `--base before.json`.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import thread_time_ns as cpu_ns
from typing import Final, Protocol

from rich.table import Table

from benchmarks.machine import describe
from benchmarks.posting import post_all
from benchmarks.table import wide_console
from pyiwarp.codes import Rtr
from pyiwarp.negotiation import Agreement, Offer, Role
from pyiwarp.pump import TAKEN, Pump
from pyiwarp.startup import Startup
from pyiwarp.verbs import Access, Context, QpCap, QueuePair, Read, Recv, RegionSlice, RemoteRegion, Send, Write

MESSAGE: Final = 1 << 20
BATCH: Final = 64
SMALL: Final = 64
ETHERNET, LOOPBACK = 1442, 64_768
REMOTE: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
READS: Final = 16
RECEIVES: Final = 16
DEPTH: Final = 2048


@dataclass(frozen=True, slots=True)
class Wire:
    """What two queue pairs agreed on."""

    mulpdu: int
    crc: bool = True
    markers: bool = False

    def agreement(self, role: Role) -> Agreement:
        return Agreement(
            role=role,
            revision=2,
            crc=self.crc,
            send_markers=self.markers,
            receive_markers=self.markers,
            ird=READS,
            ord=READS,
            private_data=b"",
        )


class Memory:
    """Registered memory of one side, a message long, and the protection domain that it is in."""

    def __init__(self) -> None:
        self.pd = Context().alloc_pd()
        self.region = self.pd.register(bytearray(MESSAGE), REMOTE)

    def local(self, nbytes: int = MESSAGE) -> RegionSlice:
        return self.region[:nbytes]

    def remote(self, nbytes: int = MESSAGE) -> RemoteRegion:
        return self.region[:nbytes].remote()


class Side:
    """A queue pair in Full Operation and its queues; each round has new ones, on the same memory."""

    def __init__(self, memory: Memory, wire: Wire, role: Role) -> None:
        pd = memory.pd
        self.memory = memory
        self.send_cq, self.recv_cq = pd.context.create_cq(DEPTH), pd.context.create_cq(DEPTH)
        cap = QpCap(max_send_wr=DEPTH, max_recv_wr=DEPTH)
        self.qp: QueuePair = pd.create_qp(self.send_cq, self.recv_cq, cap, mulpdu=wire.mulpdu)
        self._small: list[bytes] = []
        self.qp.write_small = self._write_small
        self.qp.connect(wire.agreement(role))
        if role is Role.RESPONDER:
            self.qp.speak_first()

    def octets(self) -> Iterator[bytes]:
        """All there is to send, as a socket would take it."""
        while self._small:
            yield self._small.pop()
        while iov := self.qp.next_iov():
            yield b"".join(iov)
            self.qp.flushed()

    def _write_small(self, octets: bytes) -> int:
        self._small.append(octets)
        return TAKEN

    def take(self, octets: bytes) -> None:
        """Show `octets` to the queue pair as a socket would, in one piece or as many as it takes."""
        taken = 0
        while taken < len(octets):
            view = self.qp.receive_view()
            nbytes = min(len(view), len(octets) - taken)
            view[:nbytes] = octets[taken : taken + nbytes]
            taken += nbytes
            self.qp.received(nbytes)
            while self.qp.behind:
                self.qp.proceed()


def pair(near: Memory, far: Memory, wire: Wire) -> tuple[Side, Side]:
    return Side(near, wire, Role.INITIATOR), Side(far, wire, Role.RESPONDER)


class Stopwatch:
    """Processor time of this thread between `start` and `stop`, summed up, less what the clock itself takes."""

    def __init__(self) -> None:
        self.spent = self._began = self._own = 0
        self._own = min(self._empty() for _ in range(100))
        self.spent = 0

    def start(self) -> None:
        self._began = cpu_ns()

    def stop(self) -> None:
        self.spent += cpu_ns() - self._began - self._own

    def _empty(self) -> int:
        self.spent = 0
        self.start()
        self.stop()
        return self.spent


class CallCounter:
    """Counts function calls between `start` and `stop`, Python's and C's: the same number on any machine."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()
        self.start = self._profile.enable
        self.stop = self._profile.disable

    @property
    def calls(self) -> int:
        # the last call of each stretch is that of `stop`
        entries = self._profile.getstats()
        return sum(entry.callcount for entry in entries if "disable" not in str(entry.code))


class Watch(Protocol):
    """What a round is measured by: each stretch from `start` to `stop`."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


# --- the cases: a round does `amount` of it on the stopwatch, and says how many things were done ---------------------

Round = Callable[[int, Watch], int]


def sending(wire: Wire) -> Round:
    """FPDUs of Writes of 1 MiB are made: `next_iov` and `flushed`."""
    near, far = Memory(), Memory()

    def one_round(amount: int, watch: Watch) -> int:
        qp = Side(near, wire, Role.INITIATOR).qp
        for _ in range(amount):
            qp.post_send(Write((near.local(),), far.remote()))
        watch.start()
        while qp.next_iov():
            qp.flushed()
        watch.stop()
        return qp.stream.fpdus_sent

    return one_round


def receiving(wire: Wire) -> Round:
    """FPDUs of Writes of 1 MiB are verified and placed: `receive_view` and `received`.

    The copy into the queue pair's buffer is the kernel's work and not counted; what it does to the cache is.
    """
    near, far = Memory(), Memory()

    def one_round(amount: int, watch: Watch) -> int:
        source, sink = pair(near, far, wire)
        qp = sink.qp
        for _ in range(amount):
            source.qp.post_send(Write((near.local(),), far.remote()))
            octets = b"".join(source.octets())
            taken = 0
            while taken < len(octets):
                watch.start()
                view = qp.receive_view()
                watch.stop()
                nbytes = min(len(view), len(octets) - taken)
                view[:nbytes] = octets[taken : taken + nbytes]
                taken += nbytes
                watch.start()
                qp.received(nbytes)
                while qp.behind:
                    qp.proceed()
                watch.stop()
        return qp.stream.fpdus_received

    return one_round


def small_writes(wire: Wire, *, signaled: bool) -> Round:
    """Writes of 64 octets in batches of 64: posted, sent and polled; `signaled` is each or only the last."""
    near, far = Memory(), Memory()
    places = [(near.region[at : at + SMALL], far.remote().at(at)) for at in range(0, BATCH * SMALL, SMALL)]

    def one_round(amount: int, watch: Watch) -> int:
        side = Side(near, wire, Role.INITIATOR)
        count, last = 40 * amount, BATCH - 1
        batch = [Write((local,), to, n, None, signaled or n == last) for n, (local, to) in enumerate(places)]
        watch.start()
        for _ in range(count):
            post_all(side.qp, batch)
            while side.qp.next_iov():
                side.qp.flushed()
            if len(side.send_cq.poll()) != (BATCH if signaled else 1):
                raise RuntimeError("a batch of Writes was not complete")
        watch.stop()
        return count * BATCH

    return one_round


def small_writes_placed(wire: Wire) -> Round:
    """The other side of these Writes: FPDUs of 64 octets are verified and placed."""
    near, far = Memory(), Memory()

    def one_round(amount: int, watch: Watch) -> int:
        source, sink = pair(near, far, wire)
        post_all(source.qp, [Write((near.local(SMALL),), far.remote(SMALL), signaled=False)] * (16 * BATCH))
        said = list(source.octets())
        watch.start()
        for _ in range(3 * amount):
            for octets in said:
                sink.take(octets)
        watch.stop()
        return sink.qp.stream.fpdus_received

    return one_round


def small_sends(wire: Wire) -> Round:
    """Sends of 64 octets come in: receives posted, FPDUs verified and placed, completions polled."""
    near, far = Memory(), Memory()
    receive = Recv((far.local(SMALL),))

    def one_round(amount: int, watch: Watch) -> int:
        source, sink = pair(near, far, wire)
        for _ in range(40 * amount):
            post_all(source.qp, [Send((near.local(SMALL),), signaled=False)] * BATCH)
            octets = b"".join(source.octets())
            watch.start()
            for _ in range(BATCH):
                sink.qp.post_recv(receive)
            sink.take(octets)
            done = len(sink.recv_cq.poll())
            watch.stop()
            if done != BATCH:
                raise RuntimeError("a Send did not come")
        return 40 * amount * BATCH

    return one_round


def ping_pong(wire: Wire) -> Round:
    """A Send of 64 octets, one way: posted and sent here, received and polled there, its receive posted anew."""
    near, far = Memory(), Memory()

    def one_round(amount: int, watch: Watch) -> int:
        sides = pair(near, far, wire)
        sends = [Send((side.memory.local(SMALL),)) for side in sides]
        receives = [Recv((side.memory.local(SMALL),)) for side in sides]
        for side, receive in zip(sides, receives, strict=True):
            side.qp.post_recv(receive)
        count = 500 * amount
        watch.start()
        for number in range(count):
            here, there = number % 2, 1 - number % 2
            sides[here].qp.post_send(sends[here])
            for octets in sides[here].octets():
                sides[there].take(octets)
            if len(sides[here].send_cq.poll()) + len(sides[there].recv_cq.poll()) != 2:
                raise RuntimeError("a Send did not come")
            sides[there].qp.post_recv(receives[there])
        watch.stop()
        return count

    return one_round


def reads(wire: Wire, nbytes: int) -> Round:
    """Reads of `nbytes`, 16 at a time, both sides together: asked for, answered, placed and polled."""
    near, far = Memory(), Memory()

    def one_round(amount: int, watch: Watch) -> int:
        here, there = pair(near, far, wire)
        count = amount if nbytes > SMALL else 50 * amount
        requests = [Read(near.local(nbytes), far.remote(nbytes))] * READS
        watch.start()
        for _ in range(count):
            post_all(here.qp, requests)
            for side, other in ((here, there), (there, here)):
                for octets in side.octets():
                    other.take(octets)
            if len(here.send_cq.poll()) != READS:
                raise RuntimeError("a Read was not answered")
        watch.stop()
        return count * READS

    return one_round


def set_up(wire: Wire) -> Round:
    """A connection of both sides: queue pairs with 16 receives each, MPA's Request and Reply, and the end."""
    offer = Offer(crc=wire.crc, markers=wire.markers, rtr=Rtr.WRITE, open_at_once=True)

    def one_round(amount: int, watch: Watch) -> int:
        near, far = Memory(), Memory()
        watch.start()
        for _ in range(50 * amount):
            there = Startup(Role.RESPONDER, offer, lambda startup: None)
            here = Startup(Role.INITIATOR, offer, lambda startup: None)
            _hand_over(here, there)
            qp = _with_receives(far)
            qp.connect(*there.accept(offer))
            _hand_over(qp, here)
            if here.agreement is None:
                raise RuntimeError("startup did not end")
            initiator = _with_receives(near)
            initiator.connect(here.agreement)
            _hand_over(initiator, qp)
            for end in (initiator, qp):
                end.close()
        watch.stop()
        return 50 * amount

    return one_round


def _with_receives(memory: Memory) -> QueuePair:
    pd = memory.pd
    qp = pd.create_qp(pd.context.create_cq(DEPTH), pd.context.create_cq(DEPTH), QpCap(DEPTH, DEPTH))
    qp.post_recv_many([Recv((memory.local(SMALL),))] * RECEIVES)
    return qp


def _hand_over(source: Pump, sink: Pump) -> None:
    """All that one pump has to say, as far as the other has room for it."""
    octets = b"".join(source.next_iov())
    source.flushed()
    while octets:
        view = sink.receive_view()
        nbytes = min(len(view), len(octets))
        view[:nbytes] = octets[:nbytes]
        octets = octets[nbytes:]
        sink.received(nbytes)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: `unit` is what the nanoseconds are of."""

    name: str
    unit: str
    make: Callable[[], Round]


CASES: Final = (
    Case("send, MULPDU 1442", "FPDU", lambda: sending(Wire(ETHERNET))),
    Case("send, MULPDU 1442, no CRC", "FPDU", lambda: sending(Wire(ETHERNET, crc=False))),
    Case("send, MULPDU 1442, markers", "FPDU", lambda: sending(Wire(ETHERNET, markers=True))),
    Case("send, MULPDU 64768, markers", "FPDU", lambda: sending(Wire(LOOPBACK, markers=True))),
    Case("send, MULPDU 64768", "FPDU", lambda: sending(Wire(LOOPBACK))),
    Case("send, MULPDU 64768, no CRC", "FPDU", lambda: sending(Wire(LOOPBACK, crc=False))),
    Case("receive, MULPDU 1442", "FPDU", lambda: receiving(Wire(ETHERNET))),
    Case("receive, MULPDU 1442, no CRC", "FPDU", lambda: receiving(Wire(ETHERNET, crc=False))),
    Case("receive, MULPDU 1442, markers", "FPDU", lambda: receiving(Wire(ETHERNET, markers=True))),
    Case("receive, MULPDU 64768, markers", "FPDU", lambda: receiving(Wire(LOOPBACK, markers=True))),
    Case("receive, MULPDU 64768", "FPDU", lambda: receiving(Wire(LOOPBACK))),
    Case("receive, MULPDU 64768, no CRC", "FPDU", lambda: receiving(Wire(LOOPBACK, crc=False))),
    Case("Write 64, each signalled", "request", lambda: small_writes(Wire(LOOPBACK), signaled=True)),
    Case("Write 64, batches of 64", "request", lambda: small_writes(Wire(LOOPBACK), signaled=False)),
    Case("Write 64, placed", "FPDU", lambda: small_writes_placed(Wire(LOOPBACK))),
    Case("Send 64, received", "message", lambda: small_sends(Wire(LOOPBACK))),
    Case("Send 64, one way of a ping-pong", "message", lambda: ping_pong(Wire(LOOPBACK))),
    Case("Read 64, both sides", "request", lambda: reads(Wire(LOOPBACK), SMALL)),
    Case("Read 1 MiB, both sides", "request", lambda: reads(Wire(LOOPBACK), MESSAGE)),
    Case("set-up, both sides", "connection", lambda: set_up(Wire(LOOPBACK))),
)


# --- running ---------------------------------------------------------------------------------------------------------


def measure(cases: list[Case], rounds: int, amount: int) -> dict[str, list[float]]:
    """Nanoseconds per thing of every round; the cases take turns."""
    prepared = {case.name: case.make() for case in cases}
    times: dict[str, list[float]] = {name: [] for name in prepared}
    for one_round in prepared.values():
        one_round(1, Stopwatch())
    for _ in range(rounds):
        for name, one_round in prepared.items():
            gc.collect()
            times[name].append(_per_thing(one_round, amount))
    return times


def count_calls(case: Case) -> float:
    """Function calls per thing."""
    one_round, counter = case.make(), CallCounter()
    count = one_round(1, counter)
    return counter.calls / count


def _per_thing(one_round: Round, amount: int) -> float:
    watch = Stopwatch()
    count = one_round(amount, watch)
    return watch.spent / count


def show(
    cases: list[Case], times: dict[str, list[float]], calls: dict[str, float], base: dict[str, list[float]]
) -> None:
    table = Table(title=f"nanoseconds of processor time, least of {len(next(iter(times.values())))} rounds")
    for heading in ("case", "per", "least", "median", "per second", "calls", "÷ base"):
        table.add_column(heading, justify="left" if heading in ("case", "per") else "right", no_wrap=True)
    for case in cases:
        values = times[case.name]
        least = min(values)
        ratio = f"{least / min(base[case.name]):.3f}" if case.name in base else ""
        figures = (f"{least:,.0f}", f"{statistics.median(values):,.0f}", f"{1e9 / least:,.0f}")
        table.add_row(case.name, case.unit, *figures, f"{calls[case.name]:.1f}", ratio)
    console = wide_console()
    console.print(table)
    console.print(describe().line)


def nanoseconds_in(path: Path, parser: argparse.ArgumentParser) -> dict[str, list[float]]:
    """What `--json` wrote of an earlier run; the parser ends the program for any other file."""
    try:
        return dict(json.loads(path.read_text())["nanoseconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"--base names a file that --json wrote: {path}: {error}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases whose name has this text")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case (default 7)")
    parser.add_argument("--amount", type=int, default=8, help="how much each round does (default 8)")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--base", type=Path, help="a file that --json wrote: show the ratio to it")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if options.only.lower() in case.name.lower()]
    if not cases:
        parser.error(f"no case has {options.only!r} in its name; there are: {'; '.join(case.name for case in CASES)}")
    base = nanoseconds_in(options.base, parser) if options.base else {}
    times = measure(cases, options.rounds, options.amount)
    calls = {case.name: count_calls(case) for case in cases}
    show(cases, times, calls, base)
    if options.json:
        facts = {"machine": describe().data(), "rounds": options.rounds, "nanoseconds": times, "calls": calls}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
