"""What is fuzzed. A target takes any octets and returns; whatever it raises is a fault that was found.

Each of them catches what is documented for bad input, and nothing else. A CRC or a length would keep mutations at the
door, so the target makes it right: parts of the input become ULPDUs, which are framed as RFC 5044 says.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pyiwarp.cli.perftest.exchange import Control, Record
from pyiwarp.conformance.bench.abilities import Cannot
from pyiwarp.conformance.bench.control import ControlLost, ControlRefused, Target
from pyiwarp.conformance.profiles import load_profile
from pyiwarp.errors import BadWorkRequest, IwarpError, UsageError
from pyiwarp.files.errors import BadMessage
from pyiwarp.files.messages import decode, encode
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.negotiation import Offer, Role
from pyiwarp.queues.work import Read, Send
from pyiwarp.startup import Startup, StartupState
from pyiwarp.target.commands import Commands
from pyiwarp.target.session import Session
from tests.harness import REMOTE, Node, RawPeer, feed, fpdu

__all__ = ["TARGETS"]

GUARD: Final = b"#" * 64
RECEIVES: Final = 4
READS: Final = 2


# --- the engine ------------------------------------------------------------------------------------------------------


class Engine:
    """A queue pair in full operation: memory between guards, receives, two Reads and a Send under way."""

    def __init__(self, octets: bytes) -> None:
        how = octets[0] if octets else 0
        self.markers, self.chunk = bool(how & 1), how >> 2 or 1 << 16
        self.node = Node(mulpdu=128)
        self.memory = bytearray(GUARD * 5)
        view = memoryview(self.memory)
        self.open = self.node.pd.register(view[64:128], REMOTE | Access.ZERO_BASED)
        self.sink = self.node.pd.register(view[192:256], Access.LOCAL_WRITE | Access.ZERO_BASED)
        self.peer = RawPeer(self.node, receive_markers=self.markers, crc=not how & 2)
        for number in range(RECEIVES):
            self.node.receive(64, number)
        for number in range(READS):
            self.node.post(Read(self.sink[8 * number : 8 * number + 8], RemoteRegion(0, 5, 8), ("read", number)))
        self.node.post(Send((), "send", inline=b"octets"))
        self.peer.hears()

    def named(self, octets: bytes) -> bytes:
        """STags are random: in the input they are called OPEN and SINK."""
        for name, region in ((b"OPEN", self.open), (b"SINK", self.sink)):
            octets = octets.replace(name, region.stag.to_bytes(4, "big"))
        return octets

    def take(self, octets: bytes) -> None:
        """The octets arrive, and after them the end of TCP; then all promises must have been kept."""
        if octets and self.node.qp.wants_input:
            feed(self.node.qp, octets, [self.chunk] * (len(octets) // self.chunk + 1))
        self.peer.hears()
        self.peer.closes()
        self.peer.end.lose()
        done = sorted(str(completion.wr_id) for completion in [*self.node.sent(), *self.node.received()])
        due = sorted([*map(str, range(RECEIVES)), *(str(("read", number)) for number in range(READS)), "send"])
        assert done == due, f"each work request completes once: {done}"
        guards = self.memory[:64] + self.memory[128:192] + self.memory[208:]
        assert guards == b"#" * len(guards), "octets outside the regions have changed"


def stream_of(octets: bytes) -> None:
    """Octets of the peer, as they are."""
    engine = Engine(octets)
    engine.take(engine.named(octets[1:]))


def ulpdus_of(octets: bytes) -> None:
    """ULPDUs of the peer in good FPDUs: a length of one octet before each."""
    engine, offset, stream = Engine(octets), 0, b""
    for ulpdu in _parts(octets[1:]):
        frame = fpdu(engine.named(ulpdu), offset, markers=engine.markers)
        offset += len(frame)
        stream += frame
    engine.take(stream)


def _parts(octets: bytes) -> Iterator[bytes]:
    while octets:
        nbytes = octets[0]
        yield octets[1 : 1 + nbytes]
        octets = octets[1 + nbytes :]


# --- startup ---------------------------------------------------------------------------------------------------------


def startup(octets: bytes) -> None:
    """MPA startup frames for either role; what was agreed on must be what was offered."""
    how, octets = (octets[0], octets[1:]) if octets else (0, b"")
    role, chunk = (Role.INITIATOR, Role.RESPONDER)[how & 1], how >> 1 or 1 << 16
    outcomes: list[StartupState] = []
    offer = Offer(ird=4, ord=4)
    one = Startup(role, offer, lambda startup: outcomes.append(startup.state))
    one.next_iov()
    one.flushed()
    for start in range(0, len(octets), chunk):
        if not one.wants_input:
            break
        rest = octets[start : start + chunk]
        while rest and one.wants_input:
            view = one.receive_view()
            nbytes = min(len(view), len(rest))
            view[:nbytes] = rest[:nbytes]
            one.received(nbytes)
            rest = rest[nbytes:]
    if one.state is StartupState.DECIDING:
        agreement, _ = one.accept(offer)
        assert agreement.ird <= offer.ird
        assert agreement.ord <= offer.ord
    elif one.wants_input:
        one.received_eof()
    assert outcomes.count(StartupState.DECIDING) <= 1, f"a Request is told of once: {outcomes}"
    assert len(outcomes) <= 1 or outcomes == [StartupState.DECIDING, StartupState.FAILED], outcomes


# --- what programs of the package say to one another -----------------------------------------------------------------


def file_service(octets: bytes) -> None:
    """One message of the file service."""
    try:
        message = decode(octets)
    except BadMessage:
        return
    assert decode(encode(message)) == message


def advertisements(octets: bytes) -> None:
    """What rping's peers send: the place of memory."""
    try:
        remote = RemoteRegion.parse(octets)
    except BadWorkRequest:
        return
    assert bytes(remote) == octets


class Link:
    """A connection on which the peer's messages have all come: of 1 octet length and octets each."""

    def __init__(self, octets: bytes) -> None:
        self._messages = deque(_parts(octets))

    async def send(self, octets: bytes) -> None:
        """Nobody listens."""

    async def recv(self) -> bytes:
        """The next message; an empty one when there is none."""
        return self._messages.popleft() if self._messages else b""


def perftest(octets: bytes) -> None:
    """perftest's exchange before and after a measurement."""

    async def converse() -> None:
        control = Control(Link(octets[1:]), client=bool(octets[:1] > b"\x7f"))
        terms = await control.agree()
        assert terms.offset(3, 64) < terms.buffer_size(64)
        await control.exchange_record(Record())
        await control.report(None)

    with contextlib.suppress(BadMessage):
        _run(converse())


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()


# --- conformance -----------------------------------------------------------------------------------------------------


class NoDoor:
    """A target without a network."""

    async def admit(self, session: Session) -> int:
        """Any port will do."""
        return 7000

    def dismiss(self, session: Session) -> None:
        """Nobody comes."""


def target_commands(octets: bytes) -> None:
    """Lines that a conformance run, or anybody else, says to `pyiwarp target`."""
    commands = Commands(NoDoor())

    async def converse() -> None:
        for line in octets.decode("utf-8", "replace").splitlines():
            if line.strip() and not line.startswith(("wait", "completions", "connect", "received", "disconnect")):
                answer = await commands.carry_out(line)
                assert answer[:1] in "=!", answer
                assert "\n" not in answer

    try:
        asyncio.run(converse())
    finally:
        commands.close()


def target_answers(octets: bytes) -> None:
    """Lines that a target under test answers to a conformance run."""

    async def converse() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(octets)
        reader.feed_eof()
        target = Target(reader, NoWriter(), 1.0)  # type: ignore[arg-type]
        for _ in range(8):
            try:
                await target.session()
                await target.state()
                await target.completions()
                await target.received(0)
                await target.memory("a")
            except (ControlLost, ControlRefused, Cannot, IwarpError):
                if reader.at_eof():
                    return

    asyncio.run(converse())


class NoWriter:
    """Takes what is written."""

    def write(self, octets: bytes) -> None:
        """Take it."""

    async def drain(self) -> None:
        """There is room."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""


def profiles(octets: bytes) -> None:
    """Files that describe a peer of a conformance run."""
    with tempfile.NamedTemporaryFile(suffix=".toml", dir=_FAST) as file:
        Path(file.name).write_bytes(octets)
        with contextlib.suppress(UsageError):
            load_profile(file.name)


_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None

TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "stream": stream_of,
    "ulpdus": ulpdus_of,
    "startup": startup,
    "files": file_service,
    "advertisements": advertisements,
    "perftest": perftest,
    "commands": target_commands,
    "answers": target_answers,
    "profiles": profiles,
}
"""Every target by the name of its folder in `corpus/`."""
