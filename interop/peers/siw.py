"""Linux siw in a guest as a peer: the verbs program for its memory and work, the guest's shell for other programs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from interop.peer import (
    HERE,
    Can,
    Depths,
    Done,
    Part,
    PeerConnection,
    PeerKind,
    PeerListener,
    PeerNotConnected,
    PeerOptions,
    PeerRegion,
    PeerRejected,
    PeerRequest,
    Programs,
    Running,
)
from interop.siw import ADDRESS, HOST_ADDRESS, Guest, VerbError, VerbPeer
from interop.siw import verbs as v
from interop.siw.control import Job
from interop.siw.errors import console_tail
from interop.siw.verbpeer import Connection, Listener
from pyiwarp import Access, RemoteRegion
from pyiwarp.profile import PROFILES

LONGEST_PRIVATE_DATA: Final = 251
"""librdmacm takes 255 octets, but siw keeps the length of these and four of its own in one octet."""

_COMMON = Can.DIE | Can.RUN_PROGRAMS
_USUAL = Can.CONNECT_REVISION_2 | Can.CONNECT_WITHOUT_CRC
_STARTUP = frozenset({"startup", "basic"})


def _kind(name: str, about: str, can: Can, profile: str = "siw", groups: frozenset[str] | None = None) -> PeerKind:
    return PeerKind(name, about, PROFILES[profile], _COMMON | can, groups, LONGEST_PRIVATE_DATA)


KINDS: Final = (
    _kind("siw", "Linux soft-iWARP as Debian ships it; our side uses the profile `siw`", _USUAL),
    _kind("siw_fix", "the same with two defects repaired; our side uses no profile", _USUAL, "rfc"),
    _kind(
        "siw_p2p",
        "built to ask for the peer-to-peer model",
        _USUAL | Can.ASK_FOR_PEER_TO_PEER,
        groups=_STARTUP | {"ucmatose"},
    ),
    _kind(
        "siw_crc",
        "built to ask for CRC and to insist on it",
        Can.CONNECT_REVISION_2 | Can.INSIST_ON_CRC,
        groups=_STARTUP,
    ),
    _kind(
        "siw_v1",
        "built to speak MPA revision 1 as Initiator",
        Can.CONNECT_REVISION_1 | Can.CONNECT_WITHOUT_CRC,
        groups=_STARTUP,
    ),
)

_ACCESS = {
    Access.LOCAL_WRITE: v.Access.LOCAL_WRITE,
    Access.REMOTE_WRITE: v.Access.REMOTE_WRITE,
    Access.REMOTE_READ: v.Access.REMOTE_READ,
}
_OPCODES = {v.Opcode.SEND: "send", v.Opcode.WRITE: "write", v.Opcode.READ: "read", v.Opcode.RECEIVE: "receive"}


class SiwPeer:
    """One verbs program in a guest; `close` ends the program, the guest stays."""

    _ports = itertools.count()

    def __init__(self, kind: PeerKind, guest: Guest, verbs: VerbPeer) -> None:
        self.kind = kind
        self.guest = guest
        self.verbs = verbs
        self._nothing: PeerRegion | None = None
        self._jobs: list[Job] = []

    @classmethod
    async def start(cls, kind: PeerKind, guest: Guest) -> SiwPeer:
        """Start a program in the guest."""
        return cls(kind, guest, await VerbPeer.start(guest))

    async def close(self) -> None:
        """End all programs that were started."""
        await self.verbs.close()
        for job in self._jobs:
            await job.close()

    # --- connections -------------------------------------------------------------------------------------------------

    async def listen(self, *, other_domain: bool = False) -> PeerListener:
        """Listen on a port that no scenario before used lately."""
        port = 7200 + next(self._ports) % 400
        listener = await self.verbs.listen(port)
        return _Listener(self, listener, await self.guest.forward(port), _domain(other_domain))

    async def connect(self, port: int, options: PeerOptions, *, other_domain: bool = False) -> PeerConnection:
        """Connect to our side; revision and CRC are what the variant was built for."""
        try:
            conn = await self.verbs.resolve(port, domain=_domain(other_domain))
            await conn.connect(options.depths.ird, options.depths.ord, options.private_data)
        except (VerbError, v.UnexpectedEvent) as error:
            raise PeerNotConnected(str(error)) from error
        event = await conn.event(30.0)
        if event.kind is v.CmKind.REJECTED:
            raise PeerRejected(event.private_data)
        if event.kind is not v.CmKind.ESTABLISHED:
            raise PeerNotConnected(str(event))
        return await self.established(conn, event.private_data)

    async def established(self, conn: Connection, private_data: bytes) -> _Connection:
        """The connection as a scenario uses it."""
        return _Connection(self, conn, private_data, Depths(*await conn.read_depths()))

    # --- memory ------------------------------------------------------------------------------------------------------

    async def register(self, length: int, access: Access, *, other_domain: bool = False) -> PeerRegion:
        """Memory of zeros."""
        rights = v.Access.NONE
        for ours, theirs in _ACCESS.items():
            if access & ours:
                rights |= theirs
        region = await self.verbs.register(length, rights, domain=_domain(other_domain))
        return PeerRegion(region.address, region.rkey, length, region)

    async def nowhere(self) -> PeerRegion:
        """A region for work without octets that siw wants an element for all the same."""
        if self._nothing is None:
            self._nothing = await self.register(8, Access.LOCAL_WRITE)
        return self._nothing

    async def put(self, region: PeerRegion, data: bytes, offset: int = 0) -> None:
        """Change the memory."""
        await self.verbs.poke(_region(region), offset, data)

    async def fill(self, region: PeerRegion, seed: int) -> None:
        """Make it a pattern."""
        await self.verbs.fill(_region(region), seed)

    async def get(self, region: PeerRegion, offset: int, length: int) -> bytes:
        """Look at the memory."""
        return await self.verbs.peek(_region(region), offset, length)

    async def digest(self, region: PeerRegion, offset: int = 0, length: int | None = None) -> int:
        """The CRC of a part."""
        return await self.verbs.crc32(_region(region), offset, length)

    # --- the end and the rest ----------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """Kill the verbs program; the guest's kernel closes its connections."""
        await self.verbs.close()

    async def crash(self) -> None:
        """End the whole guest."""
        self.guest.kill()

    def programs(self) -> Programs:
        """The guest's shell."""
        return _Programs(self.guest, self._jobs)

    def crash_report(self) -> str:
        """The guest's console."""
        state = "runs" if self.guest.alive else "is dead"
        return f"the guest {state}; its console:\n{console_tail(self.guest.console) or '(empty)'}"


def _domain(other: bool) -> str | None:
    return "other" if other else None


def _region(region: PeerRegion) -> v.Region:
    assert isinstance(region.handle, v.Region)
    return region.handle


def _sges(part: Part | None) -> Sequence[v.Sge]:
    return () if part is None else (v.Sge(_region(part.region), part.offset, part.length),)


class _Connection:
    """A queue pair of siw's."""

    def __init__(self, peer: SiwPeer, conn: Connection, private_data: bytes, depths: Depths) -> None:
        self._peer, self._conn = peer, conn
        self.private_data, self.depths = private_data, depths

    async def post_receive(self, wr_id: int, region: PeerRegion, offset: int = 0, length: int | None = None) -> None:
        """Post a receive."""
        size = region.length - offset if length is None else length
        await self._conn.receive(wr_id, v.Sge(_region(region), offset, size))

    async def post_send(
        self, wr_id: int, part: Part | None, *, solicited: bool = False, invalidate: int | None = None
    ) -> None:
        """Post a Send."""
        flags = v.SendFlags.SIGNALED | (v.SendFlags.SOLICITED if solicited else v.SendFlags.NONE)
        await self._conn.send(wr_id, *_sges(part), flags=flags, invalidate=invalidate)

    async def post_write(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Post a Write."""
        await self._conn.write(wr_id, remote.stag, remote.to, *_sges(part))

    async def post_read(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Post a Read; siw wants one element, so a Read without octets names none of some region."""
        part = part or Part(await self._peer.nowhere(), 0, 0)
        await self._conn.read(wr_id, remote.stag, remote.to, *_sges(part))

    async def completions(self, count: int, timeout: float = 30.0) -> list[Done]:
        """Take completions; siw's program hands out so many at once."""
        found: list[Done] = []
        while len(found) < count:
            some = await self._conn.poll(min(_POLLED, count - len(found)), timeout)
            found += [_done(each) for each in some]
            if len(some) < _POLLED:
                break
        return found

    async def arm_solicited(self) -> None:
        """Ask for an event."""
        await self._conn.arm(solicited=True)

    async def solicited_event(self, timeout: float) -> bool:
        """Whether it came."""
        return await self._conn.completion_event(timeout)

    async def disconnect(self) -> None:
        """Close gracefully."""
        await self._conn.disconnect()

    async def ended(self, timeout: float = 30.0) -> str:
        """siw tells its program that it is over, and no more."""
        event = await self._conn.event(timeout)
        return {v.CmKind.DISCONNECTED: "disconnected", v.CmKind.TIMEOUT: "not"}.get(event.kind, str(event))


_POLLED = 64  # completions in one reply


def _done(completion: v.Completion) -> Done:
    kind = "" if completion.opcode is None else _OPCODES.get(completion.opcode, completion.opcode.name)
    return Done(completion.wr_id, completion.status.name.lower().replace("_", " "), kind, completion.length)


class _Request:
    """A Request of ours that a listener of siw's got."""

    def __init__(self, peer: SiwPeer, conn: Connection) -> None:
        self._peer, self._conn = peer, conn
        self.private_data = conn.request.private_data

    async def accept(self, depths: Depths, private_data: bytes) -> PeerConnection:
        """Accept."""
        await self._conn.accept(depths.ird, depths.ord, private_data)
        event = await self._conn.event()
        if event.kind is not v.CmKind.ESTABLISHED:
            raise PeerNotConnected(f"accepted, then {event}")
        return await self._peer.established(self._conn, self.private_data)

    async def reject(self, private_data: bytes) -> None:
        """Refuse."""
        await self._conn.reject(private_data)


class _Listener:
    """Where siw listens; `port` is the host's way to it."""

    host = HERE

    def __init__(self, peer: SiwPeer, listener: Listener, port: int, domain: str | None) -> None:
        self._peer, self._listener, self.port, self._domain = peer, listener, port, domain

    async def request(self, timeout: float = 30.0) -> PeerRequest:
        """The next Request."""
        return _Request(self._peer, await self._listener.get_request(timeout, domain=self._domain))


class _Program:
    """A command of the guest's."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def text(self) -> str:
        """What it said."""
        return self._job.text

    async def wait(self, timeout: float) -> int:
        """Its status."""
        return (await self._job.wait(timeout)).status


class _Programs:
    """The guest's shell."""

    address = ADDRESS
    host_address = HOST_ADDRESS

    def __init__(self, guest: Guest, jobs: list[Job]) -> None:
        self._guest, self._jobs = guest, jobs

    async def start(self, command: str, listens_on: int | None = None) -> Running:
        """Start a command."""
        job = await self._guest.spawn(command)
        self._jobs.append(job)
        await job.end_input()
        if listens_on is not None:
            await self._guest.wait_listen(listens_on)
        return _Program(job)

    async def reach(self, port: int) -> int:
        """Forward a port."""
        return await self._guest.forward(port)
