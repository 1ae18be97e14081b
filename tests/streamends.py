"""Two ends of a stream without sockets: an engine on each queue pair of a `Pair`, whose network the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyiwarp.sockets.engine import End, Engine, cap_for
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.wire import NATIVE, Order
from tests.harness import EVERYTHING, Chunks, Node, Pair

SMALL = StreamOptions(ring=4096, send_memory=4096, recv_queue=16, send_queue=16)


@dataclass
class OneEnd:
    """One end, and what its program has sent and read so far."""

    node: Node
    engine: Engine
    options: StreamOptions
    sent: bytearray = field(default_factory=bytearray)
    read: bytearray = field(default_factory=bytearray)

    def send(self, octets: bytes) -> int:
        """Send as much as there is room for."""
        if self.engine.writing is not End.OPEN:
            return 0
        taken = self.engine.send(octets)
        self.sent += octets[:taken]
        return taken

    def take(self, limit: int = EVERYTHING) -> bytes:
        """Read up to `limit` octets."""
        octets = self.engine.read(limit)
        self.read += octets
        return octets

    def poll(self) -> None:
        """Give the engine its completions, and let it look."""
        for completion in self.node.sent():
            self.engine.on_completion(completion)
        for completion in self.node.received():
            self.engine.on_completion(completion)
        self.engine.look()

    @property
    def at_the_end(self) -> bool:
        """Whether the program has read everything, and nothing more comes."""
        return self.engine.reading is not End.OPEN and not self.engine.readable


class Ends:
    """Two ends that have met; the left one is the Initiator."""

    def __init__(
        self,
        left: StreamOptions = SMALL,
        right: StreamOptions = SMALL,
        orders: tuple[Order, Order] = (NATIVE, NATIVE),
        chunk: int | Chunks = EVERYTHING,
    ) -> None:
        nodes = Node(cap=cap_for(left)), Node(cap=cap_for(right))
        ends = [
            OneEnd(node, Engine(node.pd, node.qp, options, order), options)
            for node, options, order in zip(nodes, (left, right), orders, strict=True)
        ]
        self.left, self.right = ends
        self.pair = Pair(nodes=nodes, chunk=chunk, opened=False)
        self.left.engine.begin(self.right.engine.hello)
        self.right.engine.begin(self.left.engine.hello)

    def move(self) -> bool:
        """Move some octets both ways, and let the engines look; returns whether anything moved."""
        self._poll()
        moved = self.pair.step()
        self._poll()
        return moved

    def _poll(self) -> None:
        self.left.poll()
        self.right.poll()

    def settle(self) -> None:
        """Move octets until nothing moves any more."""
        for _ in range(100_000):
            if not self.move():
                return
        raise AssertionError("the ends never come to rest")
