"""What the words of the control protocol do, for one control connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from pyiwarp import Access, __version__
from pyiwarp.codes import MAX_PRIVATE_DATA
from pyiwarp.errors import IwarpError
from pyiwarp.queues.work import WorkOpcode
from pyiwarp.target.memory import GuardedMemory, pattern
from pyiwarp.target.posting import post
from pyiwarp.target.session import STATES, Session
from pyiwarp.target.settings import LONGEST, MAX_RECEIVES, MAX_REGION, Settings
from pyiwarp.target.words import Refused, Words, bad, cannot, reply
from pyiwarp.verbs import Completion, Send

__all__ = ["Commands", "Door"]

PROTOCOL: Final = 1
TICK: Final = 0.002
"""How often, in seconds, a command that waits looks again."""

WAIT: Final = 1000
_OPCODES: Final = {
    WorkOpcode.SEND: "send",
    WorkOpcode.WRITE: "write",
    WorkOpcode.READ: "read",
    WorkOpcode.FETCH_ADD: "fetchadd",
    WorkOpcode.COMPARE_SWAP: "cmpswap",
    WorkOpcode.IMMEDIATE: "immediate",
    WorkOpcode.RECV: "recv",
}
_VALUE_SIZE: Final = 8


class Door(Protocol):
    """Where MPA connections come in."""

    async def admit(self, session: Session) -> int:
        """Let the next connection be that of `session`; returns the port to connect to."""

    def dismiss(self, session: Session) -> None:
        """`session` takes no connection from now on."""


class Commands:
    """One control connection's commands and its session, which ends with `close`."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._session: Session | None = None

    async def carry_out(self, line: str) -> str:
        """Do what `line` says; returns the answer."""
        try:
            words = Words(line)
            if words.name not in _COMMANDS:
                raise cannot(f"there is no command {words.name[:40]} here")
            return await _COMMANDS[words.name](self, words)
        except Refused as refused:
            return refused.line
        except (IwarpError, OSError) as error:
            return Refused(type(error).__name__, str(error)).line

    def close(self) -> None:
        """Drop the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            self._door.dismiss(session)
            session.close()

    @property
    def session(self) -> Session:
        """The session; raises `Refused` if there is none."""
        if self._session is None:
            raise Refused("state", "there is no session")
        return self._session

    # --- the commands ------------------------------------------------------------------------------------------------

    async def _hello(self, words: Words) -> str:
        words.end()
        abilities = dict.fromkeys(_ABILITIES, True)
        limits = {"maxrecv": MAX_REGION, "receives": MAX_RECEIVES, "maxregion": MAX_REGION, "maxdata": MAX_PRIVATE_DATA}
        return reply(program="pyiwarp", version=__version__, protocol=PROTOCOL, **abilities, **limits)

    async def _prepare(self, words: Words) -> str:
        session = Session(Settings.of(words))
        self.close()
        try:
            port = await self._door.admit(session)
        except BaseException:
            session.close()
            raise
        self._session = session
        return reply(**session.advertised, port=port)

    async def _connect(self, words: Words) -> str:
        host, port = words.text("host"), words.number("port", most=65535, least=1)
        words.end()
        session = self.session
        session.connect(host, port)
        self._door.dismiss(session)
        return reply()

    async def _state(self, words: Words) -> str:
        words.end()
        return self.session.report()

    async def _wait(self, words: Words) -> str:
        wanted = words.text("state").split("|")
        timeout = words.number("timeout", WAIT, LONGEST)
        words.end()
        if unknown := [state[:40] for state in wanted if state not in STATES]:
            raise bad(f"there is no state {unknown[0]!r}: {'|'.join(STATES)}")
        session = self.session
        await _until(lambda: session.state in wanted, timeout)
        return session.report()

    async def _completions(self, words: Words) -> str:
        wanted, timeout = words.number("n", 1), words.number("timeout", WAIT, LONGEST)
        words.end()
        session = self.session
        await _until(lambda: session.waiting_completions >= wanted, timeout)
        taken = session.take_completions(wanted or None)
        return reply(n=len(taken), c=",".join(map(_told, taken)))

    async def _received(self, words: Words) -> str:
        index = words.number("index")
        words.end()
        receives = self.session.receives
        if index >= len(receives):
            raise bad(f"index={index}: {len(receives)} receives were posted")
        memory = receives[index]
        return reply(data=memory.octets, guard=memory.guarded)

    async def _memory(self, words: Words) -> str:
        memory = self._region(words)
        offset = words.number("off", 0)
        nbytes = words.number("len") if words.has("len") else None
        words.end()
        return reply(data=memory.part(offset, nbytes), guard=memory.guarded)

    async def _sum(self, words: Words) -> str:
        memory = self._region(words)
        words.end()
        return reply(crc=f"{memory.crc:#010x}", guard=memory.guarded)

    async def _fill(self, words: Words) -> str:
        memory, seed = self._region(words), words.number("seed", 0)
        words.end()
        memory.octets[:] = pattern(memory.nbytes, seed)
        return reply()

    async def _poke(self, words: Words) -> str:
        memory, offset, data = self._region(words), words.number("off", 0), words.octets("data")
        words.end()
        memory.part(offset, len(data))[:] = data
        return reply()

    async def _post(self, words: Words) -> str:
        post(self.session, words)
        return reply()

    async def _recv(self, words: Words) -> str:
        sizes = words.numbers("sizes", None, MAX_REGION)
        words.end()
        session = self.session
        first = len(session.receives)
        session.post_receives(sizes)
        return reply(index=first)

    async def _invalidate(self, words: Words) -> str:
        memory = self._region(words)
        words.end()
        memory.region.retire()
        return reply()

    async def _advertise(self, words: Words) -> str:
        memory, number = self._region(words, "rw"), words.number("wr", 0)
        words.end()
        octets = self.session.new_memory(16, Access.LOCAL_WRITE)
        octets.octets[:] = memory.region.advertise()
        self.session.post(Send((octets.region[:],), number))
        return reply()

    async def _disconnect(self, words: Words) -> str:
        words.end()
        self.session.disconnect()
        return reply()

    async def _abort(self, words: Words) -> str:
        words.end()
        session = self.session
        self._door.dismiss(session)
        session.abort()
        return reply()

    async def _reset(self, words: Words) -> str:
        words.end()
        self.close()
        return reply()

    def _region(self, words: Words, otherwise: str | None = None) -> GuardedMemory:
        regions = self.session.regions
        name = words.text("region", otherwise)
        if name not in regions:
            raise bad(f"there is no region {name[:40]!r}: {' '.join(regions)}")
        return regions[name]


_ABILITIES: Final = (
    *("crc", "markers", "revision", "enhanced", "depths", "p2p", "extensions", "reject"),
    *("invalidate", "invalidated", "terminates", "initiator", "solicited", "abort", "profile"),
)

_COMMANDS: Final[Mapping[str, Callable[[Commands, Words], Awaitable[str]]]] = {
    "hello": Commands._hello,
    "session": Commands._prepare,
    "connect": Commands._connect,
    "state": Commands._state,
    "wait": Commands._wait,
    "completions": Commands._completions,
    "received": Commands._received,
    "memory": Commands._memory,
    "sum": Commands._sum,
    "fill": Commands._fill,
    "poke": Commands._poke,
    "post": Commands._post,
    "recv": Commands._recv,
    "invalidate": Commands._invalidate,
    "advertise": Commands._advertise,
    "disconnect": Commands._disconnect,
    "abort": Commands._abort,
    "reset": Commands._reset,
}


async def _until(condition: Callable[[], bool], milliseconds: int) -> None:
    """Until it holds, or the time has passed.

    A queue pair changes its state without telling, so this looks again and again.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + milliseconds / 1000
    while not condition() and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(TICK)


def _told(completion: Completion) -> str:
    """WRID:STATUS:OPCODE:NBYTES:INVSTAG:SOLICITED:VALUE, with a hyphen for what there is not."""
    value = completion.immediate
    if completion.value is not None:
        value = completion.value.to_bytes(_VALUE_SIZE, "big")
    fields = (
        completion.wr_id,
        completion.status.name.lower(),
        _OPCODES[completion.opcode],
        completion.nbytes,
        "-" if completion.inval_stag is None else f"{completion.inval_stag:#010x}",
        int(completion.solicited),
        "-" if value is None else value.hex(),
    )
    return ":".join(map(str, fields))
