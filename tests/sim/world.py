"""What happens on a simulated network: queue pairs work, cables break, and each work request must have its completion.

A world is made from a seed. It has a server, whose queue pairs share one context, and clients. Each side of a
connection posts Sends, Writes, Reads and Atomics at times of its own, and takes its completions when it likes. Some
cables are stalled, damaged or cut, some queue pairs are aborted. `run` lets it all happen, and then judges:

* each work request has completed once, and the loop has seen no exception;
* messages came whole and in order: all of them where nothing disturbed the cable, the first ones elsewhere;
* a Read that succeeded has the peer's octets, a Write on an undisturbed cable is in the peer's memory, and Atomics have
  added up;
* no octet outside what was granted has changed, and no memory is held any more.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from pyiwarp.cm.handshake import ConnectRequest, initiate
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Closed, IwarpError, QueueFull, WrongState
from pyiwarp.mr import Access, MemoryRegion
from pyiwarp.negotiation import Offer, Role
from pyiwarp.queues.work import FetchAdd, Read, Recv, Send, SendRequest, Status, Write
from pyiwarp.startup import Startup, StartupState
from pyiwarp.verbs import Context
from tests.harness import REMOTE, Node
from tests.sim.loop import SimulatedLoop, Stuck
from tests.sim.network import Cable

__all__ = ["World"]

RECEIVE_SIZE: Final = 256
SLOT: Final = 600  # octets of one Write or Read
SLOTS: Final = 12
GUARD: Final = b"#" * 32
BUSY: Final = 3.0  # seconds in which work is posted and cables are disturbed
PATIENCE: Final = 300.0  # seconds after which a connection is closed whose work is not done


class Side:
    """One end of a connection: a program and its queue pair."""

    def __init__(self, world: World, name: str, node: Node) -> None:
        self.world, self.name, self.node, self.rng = world, name, node, world.rng
        self.peer: Side = self
        self.shelf_octets = world.rng.randbytes(SLOT)
        self.shelf = node.pd.register(bytearray(self.shelf_octets), Access.REMOTE_READ)
        self.counter = node.pd.register(bytearray(8), Access.REMOTE_ATOMIC)
        self.inbox_memory, self.inbox = self._guarded(REMOTE)
        self.sink_memory, self.sink = self._guarded(Access.LOCAL_WRITE)
        self.sent: list[bytes] = []  # messages
        self.wrote: dict[int, bytes] = {}  # by slot
        self.read_into: set[int] = set()
        self.received: list[bytes] = []
        self.posted: Counter[str] = Counter()
        self.completed: Counter[str] = Counter()
        self.failed: Counter[Status] = Counter()
        self.added = 0
        self.buffers: dict[str, MemoryRegion] = {}
        self._numbers = itertools.count()
        self._planned = self.rng.randint(0, 20)

    def _guarded(self, access: Access) -> tuple[bytearray, MemoryRegion]:
        memory = bytearray(GUARD + bytes(SLOT * SLOTS) + GUARD)
        view = memoryview(memory)[len(GUARD) : -len(GUARD)]
        return memory, self.node.pd.register(view, access)

    # --- working -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Post receives, and work in its time; a client speaks first (RFC 5044 §7.1.2)."""
        for _ in range(self.rng.randint(1, 4)):
            self.give_receive()
        if self.name == "client":
            self.post_send()
        for _ in range(self._planned):
            self.world.loop.call_later(self.rng.uniform(0, BUSY), self.post_something)
        self.collect()

    def give_receive(self) -> None:
        """A receive with memory of its own, unless the queue pair has ended."""
        wr_id = f"receive {next(self._numbers)}"
        region = self.node.pd.register(bytearray(RECEIVE_SIZE), Access.LOCAL_WRITE)
        try:
            self.node.qp.post_recv(Recv((region[:],), wr_id))
        except WrongState:
            region.close()
            return
        self.posted[wr_id] += 1
        self.buffers[wr_id] = region

    def post_something(self) -> None:
        """One work request, whichever."""
        self._planned -= 1
        self.rng.choice((self.post_send, self.post_send, self.post_write, self.post_read, self.post_atomic))()

    def post_send(self) -> None:
        """A message that tells its number."""
        octets = f"{self.name} {len(self.sent)} ".encode() + self.rng.randbytes(self.rng.randint(0, 200))
        if self._post(lambda wr_id: Send((), wr_id, inline=octets), "send"):
            self.sent.append(octets)

    def post_write(self) -> None:
        """Octets for a slot of the peer's that no other Write uses."""
        if len(self.wrote) == SLOTS:
            return
        slot, octets = len(self.wrote), self.rng.randbytes(self.rng.randint(0, SLOT))
        there = self.peer.inbox[slot * SLOT : slot * SLOT + len(octets)].remote()
        source = self.node.pd.register(bytearray(octets))
        if self._post(lambda wr_id: Write((source[:],), there, wr_id), "write"):
            self.wrote[slot] = octets

    def post_read(self) -> None:
        """Some of the peer's shelf, into a slot of its own."""
        slot = len(self.read_into)
        if slot == SLOTS:
            return
        nbytes = self.rng.randint(1, SLOT)
        here = self.sink[slot * SLOT : slot * SLOT + nbytes]
        there = self.peer.shelf[:nbytes].remote()
        if self._post(lambda wr_id: Read(here, there, f"{wr_id} {slot} {nbytes}"), "read"):
            self.read_into.add(slot)

    def post_atomic(self) -> None:
        """One more on the peer's counter."""
        there = self.peer.counter[:].remote()
        self._post(lambda wr_id: FetchAdd(there, 1, wr_id=wr_id), "atomic")

    def _post(self, make: Callable[[str], SendRequest], kind: str) -> bool:
        request = make(f"{kind} {next(self._numbers)}")
        try:
            self.node.qp.post_send(request)
        except (WrongState, QueueFull):
            return False
        self.posted[str(request.wr_id)] += 1
        return True

    # --- looking -----------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take completions, again and again: a slow program now and then."""
        for completion in self.node.sent():
            self._note(str(completion.wr_id), completion.status)
            self._look_at(str(completion.wr_id).split(), completion.status)
        for completion in self.node.received():
            wr_id = str(completion.wr_id)
            self._note(wr_id, completion.status)
            if completion.status is Status.SUCCESS:
                self.received.append(bytes(self.buffers[wr_id].view[: completion.nbytes]))
                self.give_receive()
        self.world.loop.call_later(self.rng.choice((0.005, 0.05, 0.3)), self.collect)

    def _note(self, wr_id: str, status: Status) -> None:
        self.completed[wr_id] += 1
        assert self.completed[wr_id] <= self.posted[wr_id], f"{self}: {wr_id} completes twice"
        if status is not Status.SUCCESS:
            self.failed[status] += 1

    def _look_at(self, words: list[str], status: Status) -> None:
        if status is not Status.SUCCESS:
            return
        if words[0] == "read":
            slot, nbytes = int(words[2]), int(words[3])
            came = bytes(self.sink.view[slot * SLOT : slot * SLOT + nbytes])
            assert came == self.peer.shelf_octets[:nbytes], "a Read has other octets than the peer's"
        elif words[0] == "atomic":
            self.added += 1

    @property
    def idle(self) -> bool:
        """Whether its work is done: all requests to send have completed, and the peer's messages are here."""
        completed = all(self.completed[wr_id] for wr_id in self.posted if not wr_id.startswith("receive"))
        return completed and not self._planned and len(self.received) == len(self.peer.sent)

    # --- judging -----------------------------------------------------------------------------------------------------

    def judge(self, *, disturbed: bool) -> None:
        """What must hold when all is over."""
        assert self.completed == self.posted, f"{self}: each work request completes once"
        due = self.peer.sent if not disturbed else self.peer.sent[: len(self.received)]
        assert self.received == due, f"{self}: messages come whole and in order"
        for memory in (self.inbox_memory, self.sink_memory):
            assert memory[: len(GUARD)] == memory[-len(GUARD) :] == GUARD, f"{self}: a guard has changed"
        assert self.shelf.view == self.shelf_octets, f"{self}: memory that is for reading has changed"
        if not disturbed:
            assert not [status for status in self.failed if status is not Status.WR_FLUSH_ERR], f"{self}: {self.failed}"
            self._judge_memory()

    def _judge_memory(self) -> None:
        for slot, octets in self.peer.wrote.items():
            came = bytes(self.inbox.view[slot * SLOT : slot * SLOT + len(octets)])
            assert came == octets, f"{self}: a Write is not in the memory"
        assert int.from_bytes(self.counter.view, "little") == self.peer.added, f"{self}: Atomics add up"

    def __repr__(self) -> str:
        return f"the {self.name} {self.node.qp!r} of seed {self.world.seed}"


class Connection:
    """Two sides, their cable, and what disturbs it."""

    def __init__(self, world: World, server: Context) -> None:
        self.world, self.rng = world, world.rng
        self.client = Side(world, "client", Node(pause_when_starved=True))
        self.server = Side(world, "server", Node(server, pause_when_starved=True))
        self.client.peer, self.server.peer = self.server, self.client
        self.cable = Cable(world.loop, world.rng)
        self.drivers: list[AsyncioDriver] = []
        self.crc = self.rng.random() < 0.8
        self.disturbed = self.rng.random() < 0.5
        self.failed: IwarpError | None = None
        self._closing = False

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.server

    def begin(self) -> None:
        """Establish TCP, and disturb it at some time."""
        self.cable.connect(self._client, self._server)
        if self.disturbed:
            self.world.loop.call_later(self.rng.uniform(0, BUSY), self._disturb)
        self._end_when_idle()

    def _offer(self) -> Offer:
        return Offer(
            crc=self.crc, markers=self.rng.random() < 0.3, ird=self.rng.randint(1, 4), ord=self.rng.randint(1, 4)
        )

    def _client(self) -> AsyncioDriver:
        def done(error: IwarpError | None) -> None:
            self.failed = error
            if error is None:
                self.client.begin()

        return initiate(self.client.node.qp, self._offer(), self._driver, done)

    def _server(self) -> AsyncioDriver:
        offer = self._offer()

        def decide(startup: Startup) -> None:
            if startup.state is StartupState.DECIDING:
                self.world.loop.call_later(self.rng.uniform(0, 0.5), accept, startup)

        def accept(startup: Startup) -> None:
            try:
                ConnectRequest(startup, driver).accept(self.server.node.qp, offer)
            except IwarpError as error:
                self.failed = error
            else:
                self.server.begin()

        driver = self._driver(Startup(Role.RESPONDER, offer, decide))
        return driver

    def _driver(self, startup: Startup) -> AsyncioDriver:
        self.drivers.append(AsyncioDriver(startup, self.world.loop))
        return self.drivers[-1]

    def _disturb(self) -> None:
        kind = self.rng.choice(("cut", "stall", "damage", "abort"))
        if kind == "cut":
            self.cable.cut()
        elif kind == "stall":
            self.cable.stall(self.rng.uniform(0.1, 30))
        elif kind == "damage" and self.crc:
            self.cable.damage()
        else:
            self.rng.choice(self.sides).node.qp.abort(Closed("the program gives up"))

    def _end_when_idle(self) -> None:
        """A side whose work is done disconnects, when the other's is done too or time is over."""
        loop = self.world.loop
        if (self.client.idle and self.server.idle) or loop.time() > PATIENCE:
            self.rng.choice(self.sides).node.qp.disconnect()
            self._closing = True
            return
        loop.call_later(0.5, self._end_when_idle)

    @property
    def over(self) -> bool:
        """Whether both ends of TCP have ended, and all completions were taken."""
        if len(self.drivers) < 2 or not all(driver.closed.done() for driver in self.drivers):
            return False
        return all(side.completed == side.posted for side in self.sides)


class World:
    """All connections of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = SimulatedLoop()
        server = Context()
        self.connections = [Connection(self, server) for _ in range(self.rng.randint(1, 4))]

    def run(self) -> None:
        """Let all happen, then judge; whatever is wrong is an AssertionError that names the seed."""
        try:
            for connection in self.connections:
                connection.begin()
            self._finish()
        finally:
            self.loop.close()
        if self.loop.errors:
            raise AssertionError(f"seed {self.seed}: a callback raised") from self.loop.errors[0].get("exception")
        for connection in self.connections:
            disturbed = connection.disturbed or connection.failed is not None
            assert connection.failed is None or connection.disturbed, f"seed {self.seed}: {connection.failed}"
            for side in connection.sides:
                side.judge(disturbed=disturbed)
        self._judge_memory()

    def _finish(self) -> None:
        try:
            self.loop.run_until(lambda: bool(self.loop.errors) or all(one.over for one in self.connections))
        except Stuck as error:
            states = [(side, side.posted - side.completed) for one in self.connections for side in one.sides]
            raise Stuck(f"seed {self.seed}: {error}: {states}") from None

    def _judge_memory(self) -> None:
        """Closed regions give their buffers back: nothing of the stack holds them."""
        for connection in self.connections:
            for side in connection.sides:
                memories = [side.inbox_memory, side.sink_memory]
                side.node.pd.close(force=True)
                for memory in memories:
                    memory.append(0)  # which a buffer that anything holds would refuse
