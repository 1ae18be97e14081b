"""The target program's side of a case: a control connection with one command and one reply per line.

`docs/target.md` describes the protocol. Commands are `word key=value ...`, replies `= key=value ...` or
`! name text...`; numbers are written as in C, octets in hex.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from crc32c import crc32c

from pyiwarp.conformance.bench.abilities import Cannot
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.errors import IwarpError

__all__ = [
    "PATTERN_SALTS",
    "ControlLost",
    "ControlRefused",
    "Region",
    "State",
    "Target",
    "Work",
    "pattern_octets",
    "region_pattern",
]

LONGEST_LINE: Final = 1 << 22  # octets; a reply holds a region in hex at most
LONGEST_REGION: Final = LONGEST_LINE // 2
STAG_LIMIT: Final = 1 << 32
TO_LIMIT: Final = 1 << 64
PORT_LIMIT: Final = 1 << 16
PATTERN_SALTS: Final[Mapping[str, int]] = {"rw": 1, "ro": 2, "wo": 3, "other": 4}
MARGIN: Final = 2.0  # seconds beyond what a reaction may take, for the target to tell of it

Value = int | str | bytes | bool


class ControlLost(IwarpError):
    """The control connection ended or does not answer: nothing can be said about the peer."""


class ControlRefused(IwarpError):
    """The target program did not do what it was told: `name` is its word for why."""

    def __init__(self, command: str, name: str, text: str) -> None:
        self.name = name
        super().__init__(f"{command!r} was refused: {name} {text}")


@dataclass(frozen=True, slots=True)
class Region:
    """Memory of the peer's, as it was advertised: STag, base TO, octets."""

    stag: int
    to: int
    length: int


@dataclass(frozen=True, slots=True)
class State:
    """What the target program knows of its connection: `state` as its word, Terminate payloads sent and got."""

    state: str
    fields: Mapping[str, str]

    @property
    def private_data(self) -> bytes:
        """The Private Data that its program was given."""
        return self.octets("private")

    def octets(self, name: str) -> bytes:
        """A field of octets, empty if it is not there; raises `ControlLost` if it is no hex."""
        return _octets(self.fields, name)

    def number(self, name: str) -> int:
        """A field that is a number; raises `ControlLost` if it is none, or not there."""
        return _number(name, self.fields.get(name, ""), TO_LIMIT)


@dataclass(frozen=True, slots=True)
class Work:
    """One completion as the target saw it."""

    wr_id: int
    status: str
    opcode: str
    nbytes: int
    inval_stag: int | None
    solicited: bool
    immediate: bytes | None

    def __str__(self) -> str:
        return f"{self.opcode} {self.wr_id} {self.status} {self.nbytes} octets"


def pattern_octets(seed: int, length: int) -> bytes:
    """What the target posts for `len=` and `seed=`: octet i is i * 7 plus the seed."""
    return bytes((i * 7 + seed) & 0xFF for i in range(length))


def region_pattern(name: str, length: int) -> bytes:
    """What a fresh region holds: octet i is i * 7 plus its salt."""
    return pattern_octets(PATTERN_SALTS[name], length)


def _number(name: str, text: str, limit: int) -> int:
    """A number of a reply, as C writes it; raises `ControlLost` for anything else, and from `limit` on."""
    try:
        number = int(text, 0)
    except ValueError:
        raise ControlLost(f"the target says {name}={text[:40]}, which is no number") from None
    if not 0 <= number < limit:
        raise ControlLost(f"the target says {name}={text[:40]}, which lies outside 0..{limit - 1:#x}")
    return number


def _octets(reply: Mapping[str, str], name: str) -> bytes:
    """Octets of a reply, none if they are not there; raises `ControlLost` for what is no hex."""
    return _unhexed(name, reply.get(name, ""))


def _unhexed(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ControlLost(f"the target says {name}={text[:40]}, which is no hexadecimal data") from None


def _region(name: str, text: str) -> Region:
    """STAG:TO:LEN; raises `ControlLost` for what no memory can be."""
    parts = text.split(":")
    if len(parts) != 3:
        raise ControlLost(f"the target says {name}={text[:40]}, which is no STAG:TO:LEN")
    limits = (STAG_LIMIT, TO_LIMIT, LONGEST_REGION + 1)
    return Region(*(_number(name, part, limit) for part, limit in zip(parts, limits, strict=True)))


def _written(value: Value) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(int(value)) if isinstance(value, bool) else str(value)


class Target:
    """The target program at the other end of a control connection; `timeout` is how long it waits when told to.

    Expectations raise `Failed`; a target that does not know a word or key raises `Cannot`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader = reader
        self._writer = writer
        self.timeout = timeout
        self.capabilities: Mapping[str, str] = {}
        self.regions: dict[str, Region] = {}
        self.port: int | None = None  # where to connect, if the session said so

    @classmethod
    async def connect(cls, host: str, port: int, timeout: float) -> Self:
        """Open a control connection and say hello; raises `ControlLost`."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, port, limit=LONGEST_LINE)
        except OSError as error:  # TimeoutError too
            why = (
                "nothing listens there" if isinstance(error, ConnectionRefusedError) else str(error) or "it takes long"
            )
            raise ControlLost(f"no control connection to {host} port {port}: {why}") from error
        target = cls(reader, writer, timeout)
        try:
            target.capabilities = await target.command("hello")
        except BaseException:
            target.close()
            raise
        return target

    @property
    def local_host(self) -> str:
        """This side's address on the control connection, at which the target finds the bench."""
        host: str = self._writer.get_extra_info("sockname")[0]
        return host

    def close(self) -> None:
        """End the control connection; the target forgets the session."""
        self._writer.transport.abort()

    def able(self, name: str) -> bool:
        """Whether `hello` said `name=1`."""
        return self.capabilities.get(name, "0") not in ("0", "")

    async def command(
        self, word: str, keys: Mapping[str, Value] | None = None, *, allowance: float = 0.0
    ) -> Mapping[str, str]:
        """One command and its reply; `allowance` is how long it may take because it waits for something, in seconds."""
        line = " ".join([word, *(f"{key}={_written(value)}" for key, value in (keys or {}).items())])
        limit = self.timeout + MARGIN + allowance  # a target that is slow to tell says nothing about its stack
        try:
            async with asyncio.timeout(limit):
                self._writer.write(line.encode() + b"\n")
                await self._writer.drain()
                answer = (await self._reader.readline()).decode("utf-8", "replace").strip()
        except TimeoutError as error:
            raise ControlLost(f"no reply to {line[:80]!r} came within {limit:g} s") from error
        except (OSError, ValueError) as error:
            raise ControlLost(f"the control connection failed at {line[:80]!r}: {error}") from error
        return self._understood(line[:80], answer)

    def _understood(self, line: str, answer: str) -> Mapping[str, str]:
        mark, _, rest = answer.partition(" ")
        if mark == "!":
            name, _, text = rest.partition(" ")
            if name == "cannot":
                raise Cannot(f"the target cannot {line!r}: {text}")
            raise ControlRefused(line, name, text)
        if mark != "=":
            raise ControlLost(f"{answer[:80]!r} is no reply to {line!r}")
        pairs = (word.partition("=") for word in rest.split())
        return {key: value for key, _, value in pairs}

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def session(self, **options: Value) -> None:
        """Prepare the next connection; its regions are in `regions` then."""
        reply = await self.command("session", options)
        self.regions = {name: _region(name, reply[name]) for name in PATTERN_SALTS if name in reply}
        self.port = _number("port", reply["port"], PORT_LIMIT) if "port" in reply else None

    async def reset(self) -> None:
        """Forget the session and its connection."""
        self.regions = {}
        await self.command("reset")

    async def state(self) -> State:
        """What the target knows of its connection now."""
        return self._state(await self.command("state"))

    async def wait(self, *states: str) -> State:
        """Wait until its connection is in one of `states`; the state in which it is after the time limit."""
        limit = int(self.timeout * 1000)
        reply = await self.command("wait", {"state": "|".join(states), "timeout": limit})
        return self._state(reply)

    @staticmethod
    def _state(reply: Mapping[str, str]) -> State:
        return State(reply.get("state", ""), reply)

    async def expect_state(self, *states: str) -> State:
        """Its connection must come into one of `states`."""
        seen = await self.wait(*states)
        if seen.state not in states:
            raise Failed(f"the target's connection {' or '.join(states)}", f"the target says {seen.state}")
        return seen

    # --- work --------------------------------------------------------------------------------------------------------

    async def post(self, op: str, **keys: Value) -> None:
        """Post one work request: `op` is send, write, read, immediate, fetchadd or cmpswap."""
        await self.command("post", {"op": op, **keys})

    async def completions(self, n: int = 0, seconds: float | None = None) -> list[Work]:
        """What completed since the last time: at least `n`, unless `seconds` (by default `timeout`) pass before."""
        seconds = self.timeout if seconds is None else seconds
        reply = await self.command("completions", {"n": n, "timeout": int(seconds * 1000)}, allowance=seconds)
        return [self._work(text) for text in reply.get("c", "").split(",") if text]

    @staticmethod
    def _work(text: str) -> Work:
        fields = text.split(":")
        if len(fields) != 7:
            raise ControlLost(f"the target tells of a completion {text[:80]!r}, which has {len(fields)} fields, not 7")
        wr_id, status, opcode, nbytes, inval, solicited, immediate = fields
        return Work(
            _number("c", wr_id, TO_LIMIT),
            status,
            opcode,
            _number("c", nbytes, TO_LIMIT),
            None if inval == "-" else _number("c", inval, STAG_LIMIT),
            solicited == "1",
            None if immediate == "-" else _unhexed("c", immediate),
        )

    async def expect_completions(self, n: int) -> list[Work]:
        """Exactly `n` completions, all of them successful."""
        works = await self.completions(n)
        if len(works) != n or any(work.status != "success" for work in works):
            came = "; ".join(map(str, works)) or "none"
            raise Failed(f"{n} successful completions at the target", f"completions: {came}")
        return works

    async def received(self, index: int) -> bytes:
        """The whole buffer of the `index`-th receive that was posted; its guard octets must be whole."""
        reply = await self.command("received", {"index": index})
        self._check_guard(reply, f"receive {index}")
        return _octets(reply, "data")

    async def expect_received(self, payload: bytes, index: int = 0) -> None:
        """The `index`-th receive holds `payload`."""
        await self._compare(f"receive {index}", (await self.received(index))[: len(payload)], payload)

    # --- memory ------------------------------------------------------------------------------------------------------

    async def memory(self, region: str, off: int = 0, length: int | None = None) -> bytes:
        """Octets of a region as they are now; its guard octets must be whole."""
        keys: dict[str, Value] = {"region": region, "off": off}
        if length is not None:
            keys["len"] = length
        reply = await self.command("memory", keys)
        self._check_guard(reply, f"region {region}")
        return _octets(reply, "data")

    async def expect_memory(self, region: str, off: int, octets: bytes) -> None:
        """A region holds `octets` from `off` on."""
        await self._compare(f"region {region} from {off}", await self.memory(region, off, len(octets)), octets)

    async def expect_memory_unchanged(self, region: str) -> None:
        """A region holds what a fresh one holds, and its guard octets are whole."""
        if region not in self.regions:
            raise ControlLost(f"the target told of no region {region}")
        due = region_pattern(region, self.regions[region].length)
        reply = await self.command("sum", {"region": region})
        self._check_guard(reply, f"region {region}")
        if _number("crc", reply.get("crc", ""), STAG_LIMIT) != crc32c(due):
            await self._compare(f"region {region}", await self.memory(region), due)

    async def _compare(self, what: str, have: bytes, due: bytes) -> None:
        if have == due:
            return
        wrong = next((i for i, (one, other) in enumerate(zip(have, due, strict=False)) if one != other), len(have))
        raise Failed(
            f"{what} with {due[wrong : wrong + 8].hex(' ')} at {wrong}",
            f"{what} is changed: {have[wrong : wrong + 8].hex(' ') or 'nothing'} at {wrong}",
        )

    @staticmethod
    def _check_guard(reply: Mapping[str, str], what: str) -> None:
        if reply.get("guard", "ok") != "ok":
            raise Failed(f"whole guard octets around {what}", f"guard octets of {what} are overwritten")
