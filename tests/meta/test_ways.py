"""docs/architecture.md: the ways of a Write, a Read, a Send, a connect and an error lead through the files it names.

Each operation is done and traced at both ends. What a table names exists and is called, and nothing is called that lies
in a file which the table does not name. Compiled code cannot be traced: there the tables are held to the names alone.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import pytest

import pyiwarp
from pyiwarp import Access, Options, RemoteRegion, TerminatedByPeer, blocking
from pyiwarp.engine import stream
from pyiwarp.queues.thread_checks import debugging
from pyiwarp.verbs import QpState

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pyiwarp"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
COMPILED = not str(stream.__file__).endswith(".py")
TIMEOUT: Final = 20

SMALL: Final = 64
LARGE: Final = 1 << 20

Calls = set[tuple[str, str]]
"""What was called: the file below the package, and the function with its class."""


def tables() -> Iterator[tuple[str, Calls]]:
    """The way that each section of the page with a table of calls tells of."""
    for section in re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `([\w/]+\.py)` \| (`[^|]+) \|", section, re.MULTILINE)
        if "| File | Calls |" in section:
            yield section.partition("\n")[0], {(file, name) for file, cell in rows for name in cells(cell)}


def cells(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


WAYS: Final[Mapping[str, Calls]] = dict(tables())
NAMED: Final = sorted({named for way in WAYS.values() for named in way})


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[f"{file}:{name}" for file, name in NAMED])
def test_what_the_page_names_exists(file: str, name: str) -> None:
    found: object = importlib.import_module("pyiwarp." + file.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = inspect.getattr_static(found, part)


def test_whatever_class_the_page_names_has_what_it_names() -> None:
    """Also outside of the tables of calls: `Class.name` is a method or attribute of a class of the package."""
    pairs = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", PAGE))
    assert len(pairs) > 50
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"]
    sources = {path: path.read_text() for path in files}
    for name, member in pairs:
        homes = [path for path, text in sources.items() if re.search(rf"^class {name}\b", text, re.MULTILINE)]
        modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in homes]
        classes = [getattr(importlib.import_module(module), name) for module in modules]
        assert any(hasattr(each, member) or member in each.__annotations__ for each in classes), f"{name}.{member}"


class Trace:
    """The functions of the package that one thread calls while it is noted."""

    def __init__(self) -> None:
        self.calls: Calls = set()
        self.noting = False
        self._names: dict[CodeType, tuple[str, str] | None] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and self.noting:
            code = frame.f_code
            if code not in self._names:
                self._names[code] = self._name_of(code)
            named = self._names[code]
            if named is not None:
                self.calls.add(named)

    @staticmethod
    def _name_of(code: CodeType) -> tuple[str, str] | None:
        path = Path(code.co_filename)
        if not path.is_relative_to(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
            return None  # not of the package, or the body of a module or class
        return str(path.relative_to(PACKAGE)), code.co_qualname.partition(".<locals>")[0]

    def take(self) -> Calls:
        """What was called since; nothing more is noted."""
        self.noting = False
        calls, self.calls = self.calls, set()
        return calls


@dataclass
class Peer:
    """The other end, in a thread and event loop of its own."""

    options: Options
    memory: bytearray
    trace: Trace = field(default_factory=Trace)
    port: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    conn: pyiwarp.Connection | None = None
    messages: int = 0
    error: Exception | None = None

    def run(self) -> None:
        sys.setprofile(self.trace)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        access = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ

        async def serve_one(conn: pyiwarp.Connection) -> None:
            self.conn = conn
            async with conn.register(self.memory, access) as region:
                self.advertised = region.advertise()
                try:
                    async for _ in conn:
                        self.messages += 1
                except Exception as error:
                    self.error = error
                    await self._stop.wait()  # what the program does about it is not told

        async with await pyiwarp.serve(serve_one, "127.0.0.1", options=self.options) as server:
            self.port = server.port
            self.started.set()
            await self._stop.wait()

    def note(self) -> None:
        """Note what this end calls from now on; it is idle."""
        self._call(lambda: setattr(self.trace, "noting", True))

    def called_until(self, done: Callable[[], bool]) -> Calls:
        """What it has called when `done` holds and it is idle again."""
        limit = time.monotonic() + TIMEOUT
        while not self._call(done):
            assert time.monotonic() < limit, "the peer did not finish"
            time.sleep(0.001)
        calls: Calls = self._call(self.trace.take)
        return calls

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def _call(self, function: Callable[[], Any]) -> Any:
        """Call it in the peer's thread, between two steps of its event loop."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(TIMEOUT)


@dataclass
class Way:
    """What both ends called for one operation."""

    here: Calls
    there: Calls


class Ends:
    """Both ends of a connection and what they called, operation by operation."""

    def __init__(self, size: int, options: Options, *, plain: bool = False) -> None:
        self.size = size
        self.options = options
        self.plain = plain  # both ends take the plain ways of framing and of receiving
        self.here = Trace()
        self.peer = Peer(options, bytearray(size))
        self.ways: dict[str, Way] = {}

    def run(self, program: Callable[[Ends], None]) -> Mapping[str, Way]:
        thread = threading.Thread(target=self.peer.run)
        thread.start()
        assert self.peer.started.wait(TIMEOUT)
        before = sys.getprofile()
        sys.setprofile(self.here)
        try:
            program(self)
        finally:
            sys.setprofile(before)
            self.peer.stop()
            thread.join(TIMEOUT)
        return self.ways

    def begin(self) -> None:
        self.peer.note()
        self.here.noting = True

    def end(self, name: str, done: Callable[[], bool]) -> None:
        here = self.here.take()
        self.ways[name] = Way(here, self.peer.called_until(done))

    def connected(self) -> bool:
        conn = self.peer.conn
        return conn is not None and conn.qp.stream.fpdus_received > 0  # the RTR has come

    def over(self) -> bool:
        conn = self.peer.conn
        return conn is not None and conn.qp.state is QpState.ERROR  # TCP has ended


def awaited(ends: Ends) -> None:
    asyncio.run(_await_each(ends))


async def _await_each(ends: Ends) -> None:
    peer, size = ends.peer, ends.size
    ends.begin()
    conn = await pyiwarp.connect("127.0.0.1", peer.port, options=ends.options)
    ends.end("connect", ends.connected)
    remote = RemoteRegion.parse(peer.advertised)
    if ends.plain:
        assert peer.conn is not None
        conn.qp.stream._packer._plain = True
        peer.conn.qp.stream._fast_receive = None
        peer.conn.qp.stream._awaits_alone = False
    async with conn.register(bytearray(b"w" * size), Access.LOCAL_WRITE) as region:
        ends.begin()
        await conn.write(region[:], remote)
        ends.end("write", lambda: peer.memory[-1:] == b"w")
        ends.begin()
        await conn.read(region[:], remote)
        ends.end("read", lambda: True)
        ends.begin()
        await conn.send(b"a message")
        ends.end("send", lambda: peer.messages == 1)
        bad, few = replace(remote, stag=remote.stag ^ 0x100), region[:SMALL]
        ends.begin()
        await conn.write(few, bad)
        with pytest.raises(TerminatedByPeer):
            await conn.recv()
        ends.end("error", ends.over)
    await conn.close()


def polled(ends: Ends) -> None:
    with blocking.connect("127.0.0.1", ends.peer.port, options=ends.options) as conn:
        ends.peer.called_until(ends.connected)
        remote = RemoteRegion.parse(ends.peer.advertised)
        with conn.register(bytearray(b"w" * ends.size)) as region:
            ends.begin()
            conn.write(region[:], remote)
            ends.end("write", lambda: ends.peer.memory[-1:] == b"w")
            ends.begin()
            conn.read(region[:], remote)
            ends.end("read", lambda: True)


Runs = Mapping[str, Mapping[str, Way]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    if COMPILED:
        pytest.skip("compiled functions cannot be traced")
    asyncio.run(_warm_up())
    gc.collect()
    gc.disable()  # a collection on the way would call the `__del__` of what earlier runs and tests have left
    try:
        return {
            "small": Ends(SMALL, Options()).run(awaited),
            "large": Ends(LARGE, Options()).run(awaited),
            "marked": Ends(SMALL, Options(markers=True)).run(awaited),
            "plain": Ends(SMALL, Options(markers=True), plain=True).run(awaited),
            "polled": Ends(SMALL, Options()).run(polled),
        }
    finally:
        gc.enable()


async def _warm_up() -> None:
    """What is imported when it is first used has been; its import is not on the way."""
    debugging()

    async def nothing(conn: pyiwarp.Connection) -> None:
        await conn.recv()

    async with await pyiwarp.serve(nothing, "127.0.0.1") as server, pyiwarp.connect("127.0.0.1", server.port) as conn:
        await conn.send(b"")


HERE, THERE = "here", "there"

MAY_BE_IDLE: Final = {
    # a deframer has a buffer of its own for what is small
    ("buffers.py", "take_buffer"),
    ("buffers.py", "give_buffer"),
    # a thread sleeps only if nothing has come yet
    ("drivers/interrupts.py", "raise_pending"),
    # what follows from options is made once, and used for all connections with the same ones
    ("bounds.py", "check_count"),
    ("bounds.py", "check_offered"),
    ("bounds.py", "check_seconds"),
    ("profile.py", "PeerProfile.depth"),
    ("queues/qp_options.py", "QpOptions.__post_init__"),
}

TOLD: Final = [
    ("A small Write, here: the fast way", "small", "write", HERE, []),
    ("A large Write, here", "large", "write", HERE, []),
    ("A Write with markers, here: the fast way", "marked", "write", HERE, ["A large Write, here"]),
    ("A Write with markers, here: the plain way", "plain", "write", HERE, ["A large Write, here"]),
    ("A Write, at the peer: the fast way", "small", "write", THERE, []),
    ("A Write, at the peer: the fast way", "large", "write", THERE, []),
    (
        "A Write with markers, at the peer: the fast way",
        "marked",
        "write",
        THERE,
        ["A Write, at the peer: the fast way"],
    ),
    (
        "A Write, at the peer: the plain way",
        "plain",
        "write",
        THERE,
        ["A Write, at the peer: the fast way"],
    ),
    ("A Read, here", "small", "read", HERE, []),
    ("A Read, at the peer", "small", "read", THERE, []),
    ("A Send, at the peer", "small", "send", THERE, []),
    ("A connect, here: the Initiator", "small", "connect", HERE, []),
    ("A connect, at the peer: the Responder", "small", "connect", THERE, []),
    ("A small Write that polls, here", "polled", "write", HERE, ["A small Write, here: the fast way"]),
    ("A Read that polls, here", "polled", "read", HERE, ["A Read, here", "A small Write that polls, here"]),
    ("An error, where it is found", "small", "error", THERE, []),
    ("An error, at the peer", "small", "error", HERE, ["A small Write, here: the fast way"]),
]


def test_every_table_of_a_way_is_held_to_a_trace() -> None:
    assert {heading for heading, *_ in TOLD} == set(WAYS)


@pytest.mark.parametrize(("heading", "run", "operation", "end", "with_rows_of"), TOLD)
def test_the_way_leads_where_the_page_says(
    runs: Runs, heading: str, run: str, operation: str, end: str, with_rows_of: list[str]
) -> None:
    """All that the table names is called, and nothing in a file that neither it nor the table it amends names."""
    way = runs[run][operation]
    calls = way.here if end == HERE else way.there
    idle = {named for named in WAYS[heading] if named not in calls and named not in MAY_BE_IDLE}
    assert not idle, f"{heading}: {sorted(idle)} took no part"
    files = {file for told in [heading, *with_rows_of] for file, _ in WAYS[told]}
    unnamed = {named for named in calls if named[0] not in files}
    assert not unnamed, f"{heading}: the page does not name the files of {sorted(unnamed)}"
