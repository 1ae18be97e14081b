"""The target program: every command of its protocol, as Responder and as Initiator, and what it does with nonsense."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Protocol

import pytest
from crc32c import crc32c

from pyiwarp import Rejected, TerminatedByPeer, connect
from pyiwarp.mr import RemoteRegion
from pyiwarp.target import Target
from pyiwarp.target.memory import pattern
from pyiwarp.target.server import MAX_CONTROLS, MAX_UNASKED
from tests.children import first_line, started
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.patience import PATIENCE

__all__ = ["run"]


class Control:
    """A control connection: `do` returns the values of an answer, `refusal` the word behind the exclamation mark."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, line: str) -> str:
        self.writer.write(line.encode() + b"\n")
        return (await self.reader.readline()).decode().rstrip("\n")

    async def do(self, line: str) -> dict[str, str]:
        answer = await self.say(line)
        sign, *pairs = answer.split(" ")
        assert sign == "=", f"{line} -> {answer}"
        return dict(pair.split("=", 1) for pair in pairs)

    async def refusal(self, line: str) -> str:
        answer = await self.say(line)
        sign, name, text = answer.split(" ", 2)
        assert (sign, bool(text)) == ("!", True), f"{line} -> {answer}"
        return name

    async def state(self, *states: str) -> dict[str, str]:
        told = await self.do(f"wait state={'|'.join(states)} timeout=30000")
        assert told["state"] in states, told
        return told

    async def completions(self, count: int) -> list[list[str]]:
        told = await self.do(f"completions n={count} timeout=30000")
        assert told["n"] == str(count), told
        return [each.split(":") for each in told["c"].split(",")]


class Controlled(Protocol):
    """What takes commands."""

    @property
    def control_port(self) -> int: ...


@asynccontextmanager
async def controlling(target: Controlled) -> AsyncIterator[Control]:
    reader, writer = await asyncio.open_connection(HOST, target.control_port, limit=4 << 20)
    try:
        yield Control(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[Target]:
    async with Target(HOST) as target:
        await target.start()
        yield target


Made = tuple[Control, Control, dict[str, str], dict[str, str]]


@asynccontextmanager
async def pair(responder: str = "", initiator: str = "") -> AsyncIterator[Made]:
    """A Responder and an Initiator, connected, with what each said of its session."""
    async with (
        serving() as target,
        serving() as other,
        controlling(target) as one,
        controlling(other) as two,
    ):
        session = await one.do(f"session {responder}")
        sessions = (session, await two.do(f"session {initiator}"))
        assert await two.do(f"connect host={HOST} port={session['port']}") == {}
        await two.state("connected")
        yield one, two, *sessions


def place(advertised: str, offset: int = 0) -> str:
    """The keys of a post that name this memory."""
    stag, to, _ = advertised.split(":")
    return f"stag={stag} to={int(to, 16) + offset:#x}"


def test_hello_and_a_session(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as control:
            hello = await control.do("hello")
            assert (hello["program"], hello["protocol"]) == ("pyiwarp", "1")
            assert all(hello[ability] == "1" for ability in ("crc", "markers", "extensions", "terminates"))
            session = await control.do("session regionsize=100 guard=8 receives=5,0,7")
            assert int(session["port"]) == target.port
            for salt, name in enumerate(("rw", "ro", "wo", "other"), 1):
                assert session[name].endswith(":100")
                told = await control.do(f"memory region={name}")
                assert told == {"data": pattern(100, salt).hex(), "guard": "ok"}
                assert told["data"][:6] == bytes((salt, salt + 7, salt + 14)).hex()
                told = await control.do(f"sum region={name}")
                assert told == {"crc": f"{crc32c(pattern(100, salt)):#010x}", "guard": "ok"}
            assert (await control.do("received index=0"))["data"] == "a5" * 5
            assert (await control.do("received index=1"))["data"] == ""
            assert await control.do("recv sizes=9") == {"index": "3"}
            assert (await control.do("received index=3"))["data"] == "a5" * 9
            assert (await control.do("state")) == {
                "state": "waiting",
                "cause": "-",
                "sent": "",
                "got": "",
                "private": "",
            }
            assert await control.do("bye") == {}
            assert await control.reader.read() == b""

    run(main)


def test_memory_is_filled_and_poked(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as control:
            await control.do("session regionsize=16")
            await control.do("fill region=wo seed=250")
            assert (await control.do("memory region=wo"))["data"] == pattern(16, 250).hex()
            await control.do("poke region=wo off=14 data=c0de")
            assert (await control.do("memory region=wo off=13 len=3"))["data"] == pattern(16, 250)[13:14].hex() + "c0de"
            assert (await control.do("memory region=wo off=16"))["data"] == ""
            for line in ("poke region=wo off=15 data=c0de", "memory region=wo off=17", "memory region=wo off=1 len=16"):
                assert await control.refusal(line) == "bad"

    run(main)


def test_work_of_every_kind_in_both_directions(run: Runner) -> None:
    async def main() -> None:
        async with pair() as (one, two, session_one, session_two):
            assert (await one.state("connected"))["role"] == "responder"
            await exercise(two, one, session_one)
            await exercise(one, two, session_two)

    run(main)


async def exercise(sender: Control, receiver: Control, memory: dict[str, str]) -> None:
    """Every operation from one to the other."""
    rw = place(memory["rw"])
    await sender.do(f"post op=write wr=1 {rw} data={(41).to_bytes(8, sys.byteorder).hex()}")
    await sender.do(f"post op=write wr=7 signaled=0 {place(memory['rw'], 8)} len=3 seed=9")
    await sender.do(f"post op=fetchadd wr=2 {rw} add=1 dest_off=8")
    await sender.do(f"post op=cmpswap wr=3 {rw} compare=42 swap=0x{'11' * 8}")
    await sender.do(f"post op=read wr=4 {rw} len=11 dest_off=16 fence=1")
    await sender.do("post op=immediate wr=5 data=0102030405060708 se=1")
    stag = memory["rw"].split(":")[0]
    await sender.do(f"post op=send wr=6 len=20 seed=3 se=1 inv={stag} fence=1")
    assert await sender.completions(6) == [
        ["1", "success", "write", "8", "-", "0", "-"],
        ["2", "success", "fetchadd", "8", "-", "0", f"{41:016x}"],
        ["3", "success", "cmpswap", "8", "-", "0", f"{42:016x}"],
        ["4", "success", "read", "11", "-", "0", "-"],
        ["5", "success", "immediate", "8", "-", "0", "-"],
        ["6", "success", "send", "20", "-", "0", "-"],
    ]
    assert await receiver.completions(2) == [
        ["0", "success", "recv", "0", "-", "1", "0102030405060708"],
        ["1", "success", "recv", "20", stag, "1", "-"],
    ]
    found = (41).to_bytes(8, sys.byteorder) + b"\x11" * 8 + pattern(3, 9)
    assert bytes.fromhex((await sender.do("memory region=scratch off=8 len=19"))["data"]) == found
    received = await receiver.do("received index=1")
    assert received == {"data": (pattern(20, 3) + b"\xa5" * (4096 - 20)).hex(), "guard": "ok"}
    assert (await receiver.do("memory region=rw len=11"))["data"] == (b"\x11" * 8 + pattern(3, 9)).hex()
    assert await receiver.do("completions n=0") == {"n": "0", "c": ""}


def test_an_advertisement_is_that_of_rping(run: Runner) -> None:
    async def main() -> None:
        async with pair(initiator="receives=16") as (_, two, session_one, _two):
            await two.do("advertise wr=8 region=ro")
            assert (await two.completions(1))[0][:3] == ["8", "success", "send"]
            assert session_one["port"]

    run(main)


def test_terms_of_startup(run: Runner) -> None:
    async def main() -> None:
        keys = "crc=off ird=3 ord=5 data="
        async with pair(keys + "aa", keys + "bb markers=1 p2p=1 rtr=read") as (one, two, _, _two):
            told = await one.state("connected")
            assert told["private"] == "bb"
            assert [told[key] for key in ("crc", "markers", "sends_markers", "ird", "ord", "p2p")] == list("001331")
            told = await two.do("state")
            assert [told[key] for key in ("private", "role", "revision")] == ["aa", "initiator", "2"]
            assert [told[key] for key in ("crc", "markers", "sends_markers", "ird", "ord", "p2p")] == list("010331")
            assert [told[key] for key in ("peer_ird", "peer_ord")] == ["3", "3"]

    run(main)


def test_revision_1_has_a_port_of_its_own(run: Runner) -> None:
    async def main() -> None:
        async with pair("revision=1 data=aa", "revision=1") as (one, two, _, _two):
            told = await one.state("connected")
            assert [told[key] for key in ("revision", "peer_ird", "private")] == ["1", "-", ""]
            assert (await two.do("state"))["private"] == "aa"

    run(main)


def test_a_responder_of_revision_1_refuses_2(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as one, controlling(target) as two:
            session = await one.do("session revision=1")
            assert int(session["port"]) != target.port
            await two.do("session")
            await two.do(f"connect host={HOST} port={session['port']}")
            assert (await two.state("error"))["cause"] == "ConnectionLost"
            assert (await one.do("state"))["state"] == "waiting"

    run(main)


def test_a_refusal(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as one, controlling(target) as two:
            session = await one.do("session own_port=1 reject=1 data=beef")
            await two.do("session data=aa")
            await two.do(f"connect host={HOST} port={session['port']}")
            told = await two.state("rejected")
            assert (told["private"], told["cause"]) == ("beef", "Rejected")
            assert (await one.state("rejected"))["private"] == "aa"

    run(main)


def test_nobody_listens(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as control:
            async with serving() as gone:
                port = gone.port
            await control.do("session")
            await control.do(f"connect host={HOST} port={port}")
            told = await control.state("error")
            assert told["cause"] == "ConnectionRefusedError"
            assert await control.refusal(f"connect host={HOST} port={port}") == "state"

    run(main)


@pytest.mark.parametrize(
    ("post", "cause", "term"),
    [
        ("op=write {ro} data=00", "NoWriteRight", "1100"),
        ("op=write {other} data=00", "StagNotAssociated", "1102"),
        ("op=read {wo} len=1", "ReadAccessRights", "0102"),
        ("op=send len=17", "MessageTooLong", "1205"),
        ("op=immediate data=0102030405060708", "UnexpectedOpcode", "0206"),
    ],
)
def test_terminates_are_told_by_both_sides(run: Runner, post: str, cause: str, term: str) -> None:
    async def main() -> None:
        async with pair("receives=16 markers=1 extensions=0", "markers=1") as (one, two, session, _):
            await two.do("post " + post.format(**{name: place(session[name]) for name in ("ro", "wo", "other")}))
            found = await one.state("terminated")
            assert (found["cause"], found["sent"][:4], found["got"]) == (cause, term, "")
            told = await two.state("terminated")
            assert (told["cause"], told["got"], told["sent"]) == ("TerminatedByPeer", found["sent"], "")
            status = "loc_len_err" if cause == "MessageTooLong" else "wr_flush_err"
            assert (await one.completions(1))[0][1] == status
            assert (await one.do("received index=0")) == {"data": "a5" * 16, "guard": "ok"}

    run(main)


def test_a_send_without_receive_terminates(run: Runner) -> None:
    async def main() -> None:
        async with pair("receives=4") as (one, two, _, _two):
            await two.do("post op=send data=aa wr=1")
            await two.do("post op=send data=bb wr=2")
            assert (await one.state("terminated"))["cause"] == "NoBufferForMsn"
            assert (await one.do("received index=0"))["data"] == "aaa5a5a5"

    run(main)


def test_an_invalidated_region_can_be_looked_at(run: Runner) -> None:
    async def main() -> None:
        async with pair() as (one, two, session, _):
            await one.do("invalidate region=rw")
            await two.do(f"post op=write {place(session['rw'])} data=ffff")
            assert (await one.state("terminated"))["cause"] == "InvalidStag"
            assert (await one.do("memory region=rw"))["data"] == pattern(4096, 1).hex()

    run(main)


@pytest.mark.parametrize("first", [0, 1])
def test_a_graceful_end(run: Runner, first: int) -> None:
    async def main() -> None:
        async with pair("receives=4,4", "receives=4") as (*controls, _, _two):
            await controls[first].do("disconnect")
            for control, count in zip(controls, (2, 1), strict=True):
                told = await control.state("closed")
                assert (told["cause"], told["sent"], told["got"]) == ("-", "", "")
                assert {each[1] for each in await control.completions(count)} == {"wr_flush_err"}

    run(main)


@pytest.mark.parametrize("first", [0, 1])
def test_an_abort(run: Runner, first: int) -> None:
    async def main() -> None:
        async with pair() as (*controls, _, _two):
            await controls[first].do("abort")
            assert (await controls[first].state("error"))["cause"] == "Closed"
            assert (await controls[1 - first].state("error"))["cause"] == "ConnectionLost"

    run(main)


def test_the_end_of_a_control_connection_ends_its_session(run: Runner) -> None:
    async def main() -> None:
        async with pair() as (one, two, _, _two):
            one.writer.write(b"wait state=closed timeout=60000\n")
            await asyncio.sleep(0.01)
            one.writer.close()
            await two.state("error")

    run(main)


def test_sessions_are_taken_in_their_order(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as one, controlling(target) as two:
            await one.do("session data=01")
            await one.do("session data=02")  # takes the place of the one before
            await two.do("session data=03")
            for data in (b"\x02", b"\x03", b""):
                async with await connect(HOST, target.port) as connection:
                    assert connection.private_data == data
            await one.state("closed")
            await two.do("reset")
            assert await two.refusal("state") == "state"

    run(main)


def test_a_responder_may_take_its_time_and_speak_first(run: Runner) -> None:
    async def main() -> None:
        async with pair("delay=50 speak=1 timeout=30000") as (one, two, _, _two):
            await one.do("post op=send data=0a")
            assert (await two.completions(1))[0][1:4] == ["success", "recv", "1"]

    run(main)


def test_a_session_that_ends_during_its_delay_refuses(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        delayed, over = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            assert seconds == 0.1
            delayed.set()
            await over.wait()

        monkeypatch.setattr("pyiwarp.target.session.asyncio", SimpleNamespace(sleep=sleep))
        async with serving() as target, controlling(target) as control:
            session = await control.do("session delay=100")
            connecting = asyncio.ensure_future(connect(HOST, int(session["port"])))
            await delayed.wait()
            await control.do("reset")
            over.set()
            with pytest.raises(Rejected):
                await connecting

    run(main)


def test_connections_that_nobody_asked_for_are_bounded(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target:
            connections = [await connect(HOST, target.port) for _ in range(MAX_UNASKED)]
            with pytest.raises(Rejected):
                await connect(HOST, target.port)
            await connections[0].write(b"1", RemoteRegion(0, 1 << 8, 1))
            with pytest.raises(TerminatedByPeer):
                await connections[0].recv()
            await asyncio.gather(*(connection.close() for connection in connections))
            async with await connect(HOST, target.port):
                pass

    run(main)


def test_control_connections_are_bounded(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target:
            made = [await asyncio.open_connection(HOST, target.control_port) for _ in range(MAX_CONTROLS)]
            one_more, writer = await asyncio.open_connection(HOST, target.control_port)
            assert (await one_more.read()).startswith(b"! full")
            for each in (writer, *(writer for _, writer in made)):
                each.close()
                await each.wait_closed()

    run(main)


NONSENSE = [
    ("frobnicate", "cannot"),
    ("=", "bad"),
    ("state x", "bad"),
    ("state x=1", "cannot"),
    ("session ird=1 ird=1", "bad"),
    ("session ird=-1", "bad"),
    ("session ird=16384", "bad"),
    ("session ird=" + "9" * 4301, "bad"),
    ("session ird=1_0", "bad"),
    ("session crc=maybe", "bad"),
    ("session data=0", "bad"),
    ("session revision=3", "bad"),
    ("session mulpdu=127", "bad"),
    ("session p2p=1 revision=1", "UsageError"),
    ("session profile=nobody", "UsageError"),
    ("session rtr=shout", "bad"),
    ("session receives=1,,2", "bad"),
    ("session receives=1048577", "bad"),
    ("session receives=" + ",".join("1" * 257), "bad"),
    ("session receives=" + ",".join(["1048576"] * 40), "full"),
    ("session data=" + "00" * 509, "UsageError"),
    ("session color=red", "cannot"),
    ("state", "state"),
    ("connect host=127.0.0.1 port=1", "state"),
    ("connect host=127.0.0.1 port=0", "bad"),
    ("connect host=127.0.0.1", "bad"),
    ("é", "bad"),
]


def test_nonsense_is_refused_and_changes_nothing(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as control:
            for line, name in NONSENSE:
                assert await control.refusal(line) == name, line
            await control.do("session")
            for line, name in (
                ("wait state=happy", "bad"),
                ("wait state=closed timeout=60001", "bad"),
                ("received index=8", "bad"),
                ("memory region=xx", "bad"),
                ("post op=dance", "bad"),
                ("post op=send data=aa", "WrongState"),
                ("post op=write data=aa", "bad"),
                ("post op=read stag=1 to=0 len=65537", "bad"),
                ("recv sizes=" + ",".join("1" * 249), "QueueFull"),
                ("poke region=rw off=4096 data=00", "bad"),
                ("session receives=" + ",".join(["1048576"] * 40), "full"),
            ):
                assert await control.refusal(line) == name, line
            assert (await control.do("state"))["state"] == "waiting"

    run(main)


def test_a_line_without_end_ends_the_connection(run: Runner) -> None:
    async def main() -> None:
        async with serving() as target, controlling(target) as control:
            control.writer.write(b"\n\n" + b"x" * (5 << 20))
            answer = await control.reader.readline()
            assert answer.startswith(b"! bad")

    run(main)


def test_the_command_says_where_it_listens_and_stops_when_told() -> None:
    command = [sys.executable, "-m", "pyiwarp", "target", "--port", "0", "--json"]
    with started(command, stdout=subprocess.PIPE) as process:
        told = json.loads(first_line(process))
        assert (told["event"], told["host"]) == ("listening", HOST)
        assert told["port"] != told["control"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
