"""What a scenario is given: the peer, its role, ways to connect, and a place for what it sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyiwarp
from pyiwarp import Connection, Options, ProtectionDomain, RemoteRegion
from pyiwarp.codes import Opcode
from pyiwarp.errors import IwarpError, ProtocolViolation, Term, TerminatedByPeer
from pyiwarp.wire import parse_terminate

from . import decode
from .decode import Frame
from .errors import InteropError
from .gate import Gate
from .peer import HERE, Can, Peer, PeerConnection, PeerOptions, Role
from .transcript import Recording

T = TypeVar("T")
S = TypeVar("S")

LINGER = 3.0
"""Seconds that our side waits for a peer that does not close."""

PATIENCE = 30.0
"""Seconds for whatever should happen at once, on a machine however busy."""


_OPENING = 7777  # the number of the peer's first work


class ScenarioFailed(InteropError):
    """The two sides do not work together as the scenario demands."""


class Difference(NamedTuple):
    """Something a peer may lawfully or unlawfully do otherwise; compared with the declared deviations."""

    aspect: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.aspect}: {self.seen}, should be {self.wanted}"


@dataclass(frozen=True)
class Pair:
    """A connection: our end and the peer's."""

    here: Connection
    there: PeerConnection


class Stage:
    """One run of one scenario."""

    def __init__(self, role: Role, peer: Peer, recording: Recording) -> None:
        self.role = role
        self.peer = peer
        self.recording = recording
        self.differences: list[Difference] = []

    @property
    def pyiwarp_connects(self) -> bool:
        """Whether our side is the Initiator."""
        return self.role is Role.PYIWARP_CONNECTS

    # --- connecting --------------------------------------------------------------------------------------------------

    def options(self, **changes: Any) -> Options:
        """Options that suit the peer."""
        usual: dict[str, Any] = {
            "profile": self.peer.kind.profile,
            "capture": self.recording,
            "linger": LINGER,
            "timeout": PATIENCE,
        }
        return Options(**{**usual, **changes})

    def gate(self) -> Gate:
        """A relay for a connection of `pair`, which can hold back what the peer sends."""
        return Gate(peer_listens=self.pyiwarp_connects)

    @asynccontextmanager
    async def pair(
        self,
        options: Options | None = None,
        *,
        private_data: bytes = b"",
        peer: PeerOptions = PeerOptions(),  # noqa: B008  # frozen
        pd: ProtectionDomain | None = None,
        other_domain: bool = False,
        opened: bool = True,
        gate: Gate | None = None,
    ) -> AsyncIterator[Pair]:
        """Connect the two as the role says; at the end our side closes.

        `private_data` is ours, in Request or Reply. `other_domain` gives the peer's end a protection domain in which
        it has no memory. The connection goes through `gate` if there is one. An Initiator has to speak first (RFC 5044
        §7.1.2 rule 4); with `opened` a peer whose stack does not do so by itself has its program send an empty Write.
        """
        options = options or self.options()
        connect = self._connect if self.pyiwarp_connects else self._be_connected
        pair = await connect(options, private_data, peer, pd, other_domain, gate)
        if opened and not self.pyiwarp_connects and Can.ASK_FOR_PEER_TO_PEER not in self.peer.kind.can:
            await self._open(pair)
        try:
            yield pair
        except BaseException:
            pair.here.abort()
            raise
        await pair.here.close()

    async def _connect(
        self,
        options: Options,
        private_data: bytes,
        peer: PeerOptions,
        pd: ProtectionDomain | None,
        other_domain: bool,
        gate: Gate | None,
    ) -> Pair:
        listener = await self.peer.listen(other_domain=other_domain)
        port = listener.port if gate is None else await gate.before(listener.host, listener.port)

        async def answer() -> PeerConnection:
            request = await listener.request()
            return await request.accept(peer.depths, peer.private_data)

        async def ask() -> Connection:
            return await pyiwarp.connect(listener.host, port, private_data=private_data, options=options, pd=pd)

        return Pair(*await both(ask(), answer()))

    async def _be_connected(
        self,
        options: Options,
        private_data: bytes,
        peer: PeerOptions,
        pd: ProtectionDomain | None,
        other_domain: bool,
        gate: Gate | None,
    ) -> Pair:
        async with await pyiwarp.listen(HERE, options=options, pd=pd) as listener:
            port = listener.port if gate is None else await gate.before(HERE, listener.port)

            async def answer() -> Connection:
                return await (await anext(listener)).accept(private_data)

            return Pair(*await both(answer(), self.peer.connect(port, peer, other_domain=other_domain)))

    async def _open(self, pair: Pair) -> None:
        await pair.there.post_write(_OPENING, None, RemoteRegion(0, 1, 0))
        done = await pair.there.completions(1)
        self.check([each.wr_id for each in done if each.ok] == [_OPENING], f"the peer's opening completed as {done}")

    # --- what was seen -----------------------------------------------------------------------------------------------

    def compare(self, aspect: str, seen: object, wanted: object) -> None:
        """Note a difference, which the peer's declared deviations may allow."""
        if str(seen) != str(wanted):
            self.differences.append(Difference(aspect, str(seen), str(wanted)))

    def check(self, holds: bool, message: str) -> None:
        """Fail the scenario unless something holds that no deviation can excuse."""
        if not holds:
            raise ScenarioFailed(message)

    def frames(self, connection: int = -1) -> list[Frame]:
        """The frames of a connection so far, by default of the last one."""
        return decode.frames(self.recording.transcripts[connection])

    def terminate(self, *, sent: bool) -> Term | None:
        """The cause in the Terminate that our side sent, or received as octets: always in the RFC's layout."""
        for frame in self.frames():
            if frame.opcode == Opcode.TERMINATE and frame.sent is sent:
                payload = frame.ulpdu[18:]
                return parse_terminate(payload if sent else self.peer.kind.profile.read_terminate(payload)).term
        return None


def cause(error: BaseException | None) -> str:
    """Why our connection ended, in words that do not change with STags and offsets."""
    if isinstance(error, TerminatedByPeer):
        return f"terminated by the peer, {error.term}"
    if isinstance(error, ProtocolViolation):
        return f"{type(error).__name__}, {error.term}"
    return "gracefully" if error is None else type(error).__name__


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """The results of two that need each other; the first error of either cancels the other and is raised."""
    one, other = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        await asyncio.wait((one, other), return_when=asyncio.FIRST_EXCEPTION)
        for task in (one, other):
            if task.done():
                task.result()
        return one.result(), other.result()
    finally:
        for task in (one, other):
            task.cancel()
        await asyncio.gather(one, other, return_exceptions=True)


async def outcome(operation: Awaitable[object]) -> str:
    """How an operation of ours ends: "done", or the name of its error."""
    try:
        async with asyncio.timeout(PATIENCE):
            await operation
    except TimeoutError:
        return "nothing happens"
    except IwarpError as error:
        return cause(error)
    return "done"


async def end_of(connection: Connection, patience: float = PATIENCE) -> str:
    """Wait for the end of our connection and say why it ended."""
    try:
        async with asyncio.timeout(patience):
            while True:
                await connection.recv()
    except TimeoutError:
        return "it does not end"
    except pyiwarp.Disconnected:
        return "gracefully"
    except IwarpError as error:
        return cause(error)
