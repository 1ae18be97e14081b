"""What a scenario asks of the other side: connect, memory, work, completions, an end.

Each kind of peer implements these protocols in `interop/peers`. What not every peer is able to do is a flag of
`Can`; a scenario that needs one is not run against a peer without it, and the matrix says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import NamedTuple, Protocol

from pyiwarp import Access, RemoteRegion
from pyiwarp.profile import PeerProfile

from .errors import InteropError

HERE = "127.0.0.1"
"""The address on which our side listens and where every peer can be reached."""

MAX_DEPTH = 128
"""Work requests that a peer's connection holds in each of its queues."""


class Role(Enum):
    """Who opens the TCP connection and sends the MPA Request."""

    PYIWARP_CONNECTS = "pyiwarp connects"
    PEER_CONNECTS = "peer connects"


class Can(Flag):
    """What not every peer is able to do; `words` has the text for the matrix."""

    NOTHING = 0
    CONNECT_REVISION_1 = auto()
    CONNECT_REVISION_2 = auto()
    ASK_FOR_PEER_TO_PEER = auto()
    INSIST_ON_CRC = auto()
    CONNECT_WITHOUT_CRC = auto()
    MARKERS = auto()
    RECEIVE_WITHOUT_MEMORY = auto()
    TELL_INVALIDATED = auto()
    TELL_TERMINATE = auto()
    DIE = auto()
    RUN_PROGRAMS = auto()

    @property
    def words(self) -> str:
        """What a peer without these abilities cannot do."""
        return ", ".join(_WORDS[flag] for flag in self)


_WORDS = {
    Can.CONNECT_REVISION_1: "connect with MPA revision 1",
    Can.CONNECT_REVISION_2: "connect with MPA revision 2",
    Can.ASK_FOR_PEER_TO_PEER: "ask for the peer-to-peer model",
    Can.INSIST_ON_CRC: "ask for CRC in its Request",
    Can.CONNECT_WITHOUT_CRC: "leave CRC out of its Request",
    Can.MARKERS: "use markers",
    Can.RECEIVE_WITHOUT_MEMORY: "post a receive without memory",
    Can.TELL_INVALIDATED: "tell which STag was invalidated",
    Can.TELL_TERMINATE: "tell its program of a Terminate",
    Can.DIE: "crash as a whole machine",
    Can.RUN_PROGRAMS: "run other programs",
}


@dataclass(frozen=True)
class PeerKind:
    """One column of the matrix: who it is, how our side treats it, what it can do.

    `profile` goes into our options. `groups` are the groups of scenarios it takes part in; None is all of them.
    `longest_private_data` is what its program can send along in an enhanced Request or Reply.
    """

    name: str
    about: str
    profile: PeerProfile
    can: Can
    groups: frozenset[str] | None = None
    longest_private_data: int = 508


@dataclass(frozen=True)
class PeerRegion:
    """Registered memory of the peer's; `handle` is the peer's own name for it."""

    to: int
    stag: int
    length: int
    handle: object

    def remote(self, offset: int = 0, length: int | None = None) -> RemoteRegion:
        """A part of it as our side names it; nothing is checked, errors are made with this too."""
        return RemoteRegion(self.to + offset, self.stag, self.length - offset if length is None else length)


class Done(NamedTuple):
    """A completion at the peer: `kind` is "send", "write", "read" or "receive", "" if it does not say."""

    wr_id: int
    status: str
    kind: str = ""
    nbytes: int = 0
    invalidated: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the work was done."""
        return self.status == "success"


class Depths(NamedTuple):
    """How many Reads at once: those of the other side that this one takes, and its own."""

    ird: int
    ord: int


class PeerConnection(Protocol):
    """The peer's end of a connection. Work is identified by numbers of the scenario's choice.

    `depths` are those that the peer settled for.
    """

    private_data: bytes
    depths: Depths

    async def post_receive(self, wr_id: int, region: PeerRegion, offset: int = 0, length: int | None = None) -> None:
        """Let one Send be placed in a part of `region`."""

    async def post_send(
        self, wr_id: int, part: Part | None, *, solicited: bool = False, invalidate: int | None = None
    ) -> None:
        """Send the octets of `part`, or none."""

    async def post_write(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Write the octets of `part`, or none, to our memory."""

    async def post_read(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Read from our memory until `part` is full; without one a Read of no octets."""

    async def completions(self, count: int, timeout: float = 30.0) -> list[Done]:
        """The next `count` completions in their order, or as many as there are after `timeout` seconds."""

    async def arm_solicited(self) -> None:
        """Ask for an event at the next solicited completion."""

    async def solicited_event(self, timeout: float) -> bool:
        """Whether that event comes within `timeout` seconds."""

    async def disconnect(self) -> None:
        """Close the connection gracefully."""

    async def ended(self, timeout: float = 30.0) -> str:
        """Wait for the end of the connection and say how the peer's program learns of it.

        "disconnected", "terminated LAYER/TYPE/CODE" if the peer tells a Terminate, "not" after `timeout` seconds.
        """


class Part(NamedTuple):
    """Some octets of the peer's memory."""

    region: PeerRegion
    offset: int
    length: int


class PeerRequest(Protocol):
    """A connection that our side asked for, as the peer's program sees it."""

    private_data: bytes

    async def accept(self, depths: Depths, private_data: bytes) -> PeerConnection:
        """Accept, and wait until the connection is established."""

    async def reject(self, private_data: bytes) -> None:
        """Refuse."""


class PeerListener(Protocol):
    """The peer listens; `host` and `port` are where our side reaches it."""

    host: str
    port: int

    async def request(self, timeout: float = 30.0) -> PeerRequest:
        """The next Request of ours."""


class PeerRejected(InteropError):
    """Our side rejected the peer, which got `private_data`."""

    def __init__(self, private_data: bytes) -> None:
        self.private_data = private_data
        super().__init__(f"rejected with {private_data!r}")


class PeerNotConnected(InteropError):
    """The peer's attempt to connect failed otherwise; the text says what its program was told."""


USUAL_DEPTHS = Depths(16, 16)


@dataclass(frozen=True)
class PeerOptions:
    """What the peer asks for as it connects; beyond the depths only for those that can."""

    depths: Depths = USUAL_DEPTHS
    private_data: bytes = b""
    revision: int = 2
    crc: bool = True


class Peer(Protocol):
    """One peer, for one scenario: a program that holds memory and connections."""

    kind: PeerKind

    async def listen(self, *, other_domain: bool = False) -> PeerListener:
        """Listen; connections get a protection domain that is not the usual one if `other_domain`."""

    async def connect(self, port: int, options: PeerOptions, *, other_domain: bool = False) -> PeerConnection:
        """Connect to `port` of ours; raises `PeerRejected` or `PeerNotConnected`."""

    async def register(self, length: int, access: Access, *, other_domain: bool = False) -> PeerRegion:
        """Memory of zeros, in the usual protection domain or in that other one."""

    async def put(self, region: PeerRegion, data: bytes, offset: int = 0) -> None:
        """Change the memory."""

    async def fill(self, region: PeerRegion, seed: int) -> None:
        """Make the whole memory what `pattern` gives for `seed`."""

    async def get(self, region: PeerRegion, offset: int, length: int) -> bytes:
        """Look at the memory."""

    async def digest(self, region: PeerRegion, offset: int = 0, length: int | None = None) -> int:
        """The `zlib.crc32` of a part of the memory."""

    async def kill(self) -> None:
        """End the peer's program without a word; its operating system does what it does then."""

    async def crash(self) -> None:
        """End the peer's whole machine; only for those that can."""

    def programs(self) -> Programs:
        """Where to run other programs; only for those that can."""

    def crash_report(self) -> str:
        """What is worth saying of it when a scenario failed; "" if nothing is."""


class Running(Protocol):
    """A program that runs at the peer's place."""

    @property
    def text(self) -> str:
        """What it has said so far."""

    async def wait(self, timeout: float) -> int:
        """Its exit status."""


class Programs(Protocol):
    """Runs the C programs of others beside the peer."""

    address: str
    host_address: str

    async def start(self, command: str, listens_on: int | None = None) -> Running:
        """Start `command`; return when it listens on a port, if one is given."""

    async def reach(self, port: int) -> int:
        """The port of ours that leads to `port` there."""


ALL_RIGHTS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
"""What a region grants unless the scenario is about rights."""


def numbers(done: Sequence[Done]) -> list[int]:
    """The numbers of completed work."""
    return [each.wr_id for each in done]
