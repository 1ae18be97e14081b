"""The host's side of verbpeer.c: verbs and connections of the guest, as typed coroutines."""

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Flag
from typing import Self, TypeVar

from .control import Job
from .errors import GuestError, GuestTimeout, VerbError
from .guest import ADDRESS, HOST_ADDRESS, Guest
from .verbs import (
    Access,
    AsyncEvent,
    CmEvent,
    CmKind,
    Completion,
    Opcode,
    Region,
    SendFlags,
    Sge,
    Status,
    UnexpectedEvent,
    WcFlags,
)

_PATIENCE = 60.0  # seconds for a reply, beyond what a command may wait itself


class Reply:
    """The key=value pairs of a reply."""

    def __init__(self, line: str) -> None:
        """Parse `= key=value ...`; raise `VerbError` for `! CALL ERRNO`."""
        mark, _, rest = line.partition(" ")
        if mark == "!":
            call, number = rest.split()
            raise VerbError(call, int(number), os.strerror(int(number)))
        self._pairs = [(key, value) for key, _, value in (word.partition("=") for word in rest.split())]

    def all(self, key: str) -> list[str]:
        """The values of `key`, in order."""
        return [value for name, value in self._pairs if name == key]

    def number(self, key: str) -> int:
        """The value of `key`, which is there once, as a number."""
        (value,) = self.all(key)
        return int(value, 0)

    def data(self) -> bytes:
        """The value of `data`."""
        return bytes.fromhex("".join(self.all("data")))

    def event(self) -> CmEvent:
        """The connection event it tells of."""
        kind = CmKind(self.all("event")[0])
        if kind is CmKind.TIMEOUT:
            return CmEvent(kind)
        return CmEvent(kind, self.number("status"), self.number("ird"), self.number("ord"), self.data())

    def completions(self) -> list[Completion]:
        """The completions it tells of."""
        return [_completion(*(int(part) for part in value.split(":"))) for value in self.all("wc")]


def _completion(wr_id: int, status: int, opcode: int, length: int, flags: int) -> Completion:
    succeeded = status == Status.SUCCESS
    return Completion(wr_id, Status(status), Opcode(opcode) if succeeded else None, length, WcFlags(flags))


class VerbPeer:
    """One verbs program in the guest; also an asynchronous context manager that ends it.

    Commands may be issued side by side: they are carried out in the order they are issued, without a wait for the
    replies in between. One that waits for an event holds up those behind it. Each command raises `VerbError` if its
    verb fails, and `GuestTimeout`, `GuestDied` or `GuestError` if there is no reply.
    """

    def __init__(self, guest: Guest, job: Job) -> None:
        """Made by `start`."""
        self._guest, self._job = guest, job
        self._names = itertools.count(1)
        self._pending: deque[asyncio.Future[str]] = deque()
        self._failure: GuestError | None = None
        self._reader = asyncio.create_task(self._read_replies())

    @classmethod
    async def start(cls, guest: Guest) -> Self:
        """Start the program in `guest`."""
        return cls(guest, await guest.spawn("exec verbpeer"))

    async def close(self) -> None:
        """Kill the program; the guest's kernel then ends its connections."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._job.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- memory

    async def register(self, length: int, access: Access = Access.ALL, *, domain: str | None = None) -> Region:
        """Register `length` octets of zeros, in the protection domain of this name (the usual one without)."""
        name = self.new_name()
        reply = await self.command("mr", name=name, len=length, access=_letters(access, _ACCESS), pd=domain)
        return Region(name, reply.number("addr"), length, reply.number("rkey"), reply.number("lkey"))

    async def deregister(self, region: Region) -> None:
        """Deregister the region and free its memory."""
        await self.command("dereg", name=region.name)

    async def fill(self, region: Region, seed: int, offset: int = 0, length: int | None = None) -> None:
        """Write what `pattern` gives for `seed` to a part of the region, by default all behind `offset`."""
        await self.command("fill", name=region.name, off=offset, len=length, seed=seed)

    async def poke(self, region: Region, offset: int, data: bytes) -> None:
        """Write `data`, at most 1 MiB or so, to the region."""
        await self.command("poke", name=region.name, off=offset, data=data.hex())

    async def peek(self, region: Region, offset: int = 0, length: int | None = None) -> bytes:
        """Read a part of the region, by default all behind `offset`."""
        return (await self.command("peek", name=region.name, off=offset, len=length)).data()

    async def crc32(self, region: Region, offset: int = 0, length: int | None = None) -> int:
        """The `zlib.crc32` of a part of the region, by default all behind `offset`."""
        return (await self.command("crc", name=region.name, off=offset, len=length)).number("crc")

    # -- connections

    async def listen(self, port: int, backlog: int = 64) -> "Listener":
        """Listen on a port of the guest's address."""
        name = self.new_name()
        await self.command("listen", name=name, addr=ADDRESS, port=port, backlog=backlog)
        return Listener(self, name)

    async def resolve(
        self, port: int, address: str = HOST_ADDRESS, *, depth: int | None = None, domain: str | None = None
    ) -> "Connection":
        """Resolve address and route to a listener, and make the queue pair; `Connection.connect` comes next."""
        name = self.new_name()
        arguments = {"name": name, "addr": address, "port": port, "depth": depth, "pd": domain}
        event = (await self.command("resolve", wait=15.0, **arguments)).event()
        if event.kind is not CmKind.ROUTE_RESOLVED:
            raise UnexpectedEvent(CmKind.ROUTE_RESOLVED, event)
        return Connection(self, name, event)

    async def async_events(self, timeout: float = 0.0) -> list[AsyncEvent]:
        """The device's events so far; waits up to `timeout` seconds for the first."""
        return [AsyncEvent(int(value)) for value in (await self.command("async", wait=timeout)).all("type")]

    # -- the protocol

    async def command(self, verb: str, *, wait: float = 0.0, **arguments: object) -> Reply:
        """Issue a command of verbpeer.c; arguments that are None are left out.

        `wait` is how many seconds the command itself may wait in the guest.
        """
        if self._failure is not None:
            raise self._failure
        words = [f"{key}={value}" for key, value in arguments.items() if value is not None]
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pending.append(future)
        line = " ".join([verb, f"timeout={round(wait * 1000)}", *words])
        await self._job.write(line.encode() + b"\n")
        try:
            return Reply(await asyncio.wait_for(future, _PATIENCE + wait))
        except TimeoutError:
            raise self._guest.error(GuestTimeout, f"verbpeer did not reply to: {line[:200]}") from None

    def new_name(self) -> str:
        """A name that nothing in the program has yet."""
        return f"n{next(self._names)}"

    async def _read_replies(self) -> None:
        """Give each reply to the command that has waited longest; if there come no more, fail those that wait."""
        try:
            while True:
                line = await self._job.readline(timeout=None)
                future = self._pending.popleft()
                if not future.done():
                    future.set_result(line)
        except GuestError as error:
            self._failure = error
            for future in self._pending:
                if not future.done():
                    future.set_exception(error)


class Listener:
    """A listening identifier in the guest."""

    def __init__(self, peer: VerbPeer, name: str) -> None:
        """Made by `VerbPeer.listen`."""
        self.peer, self.name = peer, name

    async def get_request(
        self, timeout: float = 30.0, *, depth: int | None = None, domain: str | None = None
    ) -> "Connection":
        """Wait for a connection request and make its queue pair; `accept` or `reject` comes next.

        Raises `UnexpectedEvent` if there is no request in `timeout` seconds.
        """
        name = self.peer.new_name()
        arguments = {"name": name, "listener": self.name, "depth": depth, "pd": domain}
        event = (await self.peer.command("getreq", wait=timeout, **arguments)).event()
        if event.kind is not CmKind.CONNECT_REQUEST:
            raise UnexpectedEvent(CmKind.CONNECT_REQUEST, event)
        return Connection(self.peer, name, event)

    async def destroy(self) -> None:
        """Listen no more."""
        await self.peer.command("destroy", conn=self.name)


class Connection:
    """An identifier with its queue pair and completion queue; `request` is the event it came from."""

    def __init__(self, peer: VerbPeer, name: str, request: CmEvent) -> None:
        """Made by `Listener.get_request` and `VerbPeer.resolve`."""
        self.peer, self.name, self.request = peer, name, request

    async def _do(self, verb: str, *, wait: float = 0.0, **arguments: object) -> Reply:
        return await self.peer.command(verb, wait=wait, conn=self.name, **arguments)

    async def accept(self, ird: int = 1, ord: int = 1, private_data: bytes = b"") -> None:
        """Accept the request."""
        await self._do("accept", ird=ird, ord=ord, data=private_data.hex())

    async def reject(self, private_data: bytes = b"") -> None:
        """Reject the request."""
        await self._do("reject", data=private_data.hex())

    async def connect(self, ird: int = 1, ord: int = 1, private_data: bytes = b"") -> None:
        """Send a request; an event tells what became of it."""
        await self._do("connect", ird=ird, ord=ord, data=private_data.hex())

    async def event(self, timeout: float = 30.0) -> CmEvent:
        """The next event; its kind is TIMEOUT if none comes in `timeout` seconds."""
        return (await self._do("event", wait=timeout)).event()

    async def expect_event(self, kind: CmKind, timeout: float = 30.0) -> CmEvent:
        """The next event, which must be of this kind, or `UnexpectedEvent` is raised."""
        event = await self.event(timeout)
        if event.kind is not kind:
            raise UnexpectedEvent(kind, event)
        return event

    async def disconnect(self) -> None:
        """Close the connection."""
        await self._do("disconnect")

    async def destroy(self) -> None:
        """Destroy the queue pair, the completion queue and the identifier."""
        await self._do("destroy")

    async def fail(self) -> None:
        """Put the queue pair into the error state."""
        await self._do("fail")

    async def read_depths(self) -> tuple[int, int]:
        """How many RDMA Reads siw has room for: (of the peer's, of its own).

        These are IRD and ORD after the negotiation, rounded up to powers of two. siw tells nothing else of a queue
        pair, not even its state.
        """
        reply = await self._do("query")
        return reply.number("irq"), reply.number("orq")

    # -- work

    async def receive(self, wr_id: int, *sges: Sge) -> None:
        """Post a receive; siw takes none without an element."""
        await self._do("recv", wr=wr_id, sgl=_sgl(sges))

    async def send(
        self, wr_id: int, *sges: Sge, flags: SendFlags = SendFlags.SIGNALED, invalidate: int | None = None
    ) -> None:
        """Post a Send, which invalidates the peer's STag `invalidate` if given."""
        await self._do("send", wr=wr_id, sgl=_sgl(sges), flags=_letters(flags, _FLAGS), inv=invalidate)

    async def write(
        self, wr_id: int, stag: int, offset: int, *sges: Sge, flags: SendFlags = SendFlags.SIGNALED
    ) -> None:
        """Post an RDMA Write to the peer's `stag` at the tagged offset `offset`."""
        await self._do("write", wr=wr_id, rkey=stag, addr=offset, sgl=_sgl(sges), flags=_letters(flags, _FLAGS))

    async def read(self, wr_id: int, stag: int, offset: int, *sges: Sge, flags: SendFlags = SendFlags.SIGNALED) -> None:
        """Post an RDMA Read from the peer's `stag` at the tagged offset `offset`; siw takes one element."""
        await self._do("read", wr=wr_id, rkey=stag, addr=offset, sgl=_sgl(sges), flags=_letters(flags, _FLAGS))

    async def poll(self, count: int = 1, timeout: float = 15.0) -> list[Completion]:
        """Completions: `count`, or as many as there are after `timeout` seconds."""
        return (await self._do("poll", wait=timeout, n=count)).completions()

    async def arm(self, *, solicited: bool = False) -> None:
        """Ask for an event at the next completion.

        With `solicited` at the next solicited one only; siw forgets to raise it for received Sends.
        """
        await self._do("arm", solicited=int(solicited))

    async def completion_event(self, timeout: float = 1.0) -> bool:
        """Whether the event `arm` asked for comes within `timeout` seconds."""
        return bool((await self._do("cqevent", wait=timeout)).number("n"))


_ACCESS = {Access.LOCAL_WRITE: "l", Access.REMOTE_WRITE: "w", Access.REMOTE_READ: "r"}
_FLAGS = {SendFlags.SIGNALED: "s", SendFlags.SOLICITED: "e", SendFlags.FENCE: "f", SendFlags.INLINE: "i"}

FlagT = TypeVar("FlagT", bound=Flag)


def _letters(flags: FlagT, letters: Mapping[FlagT, str]) -> str:
    return "".join(letter for flag, letter in letters.items() if flag in flags)


def _sgl(sges: Sequence[Sge]) -> str:
    return ",".join(
        f"{sge.region.name}:{sge.offset}:{sge.length}" + ("" if sge.lkey is None else f":{sge.lkey}") for sge in sges
    )
