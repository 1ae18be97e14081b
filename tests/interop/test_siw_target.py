"""The target program on libibverbs, in a siw guest: the protocol of docs/target.md, against `pyiwarp target`."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from crc32c import crc32c

from interop.siw import HOST_ADDRESS, fresh
from interop.siw.guest import Guest
from interop.siw.image import Image
from interop.siw.target import siw_target
from pyiwarp.target.memory import pattern
from tests.integration.test_target import Control, controlling, place, serving

pytestmark = pytest.mark.siw

SIW = "profile=siw ird=4 ord=4"


@pytest.fixture(scope="module")
def guest(image: Image) -> Iterator[Guest]:
    guest = asyncio.run(fresh(image))
    yield guest
    guest.kill()


async def test_hello_says_what_siw_cannot(guest: Guest) -> None:
    async with siw_target(guest) as siw, controlling(siw) as control:
        hello = await control.do("hello")
        assert (hello["program"], hello["protocol"], hello["enhanced"]) == ("siw", "1", "1")
        for ability in ("crc", "markers", "revision", "p2p", "extensions", "terminates", "solicited"):
            assert hello[ability] == "0"
        for line in (
            "crc=off",
            "markers=1",
            "revision=1",
            "extensions=1",
            "p2p=1",
            "timeout=5",
            "mulpdu=500",
            "ird=256",
        ):
            assert await control.refusal(f"session {line}") == "cannot", line
        assert await control.do("bye") == {}


async def test_memory_and_nonsense(guest: Guest) -> None:
    async with siw_target(guest) as siw, controlling(siw) as control:
        assert await control.refusal("state") == "state"
        session = await control.do("session regionsize=100 guard=8 receives=5,0 crc=auto")
        for salt, name in enumerate(("rw", "ro", "wo", "other"), 1):
            assert session[name].endswith(":100")
            assert await control.do(f"memory region={name}") == {"data": pattern(100, salt).hex(), "guard": "ok"}
            assert (await control.do(f"sum region={name}"))["crc"] == f"{crc32c(pattern(100, salt)):#010x}"
        await control.do("fill region=wo seed=250")
        await control.do("poke region=wo off=98 data=c0de")
        assert (await control.do("memory region=wo off=97"))["data"] == pattern(98, 250)[97:].hex() + "c0de"
        assert await control.do("recv sizes=9") == {"index": "2"}
        assert (await control.do("received index=2")) == {"data": "a5" * 9, "guard": "ok"}
        assert (await control.do("received index=1"))["data"] == ""
        await control.do("invalidate region=scratch")
        for line, name in (
            ("frobnicate", "cannot"),
            ("state x", "cannot"),
            ("memory region=xx", "bad"),
            ("memory region=rw off=101", "bad"),
            ("poke region=rw off=99 data=0000", "bad"),
            ("received index=3", "bad"),
            ("wait state=closed timeout=60001", "bad"),
            ("session receives=1048577", "bad"),
            ("session receives=" + ",".join(["1048576"] * 40), "full"),
            ("post op=immediate data=0102030405060708", "cannot"),
        ):
            assert await control.refusal(line) == name, line
        assert await control.refusal("post op=send data=00") == "state"


async def exchange(one: Control, two: Control, memory: dict[str, str], index: int) -> None:
    """Write, Read and Send from one to the other."""
    rw = place(memory["rw"])
    await one.do(f"post op=write wr=1 {rw} data=cafe")
    await one.do(f"post op=write wr=9 signaled=0 {place(memory['rw'], 2)} len=3 seed=9")
    await one.do(f"post op=read wr=2 {rw} len=6 dest_off=8")
    await one.do("post op=send wr=3 len=20 seed=3 se=1 fence=1")
    assert [each[:4] for each in await one.completions(3)] == [
        ["1", "success", "write", "2"],
        ["2", "success", "read", "6"],
        ["3", "success", "send", "20"],
    ]
    assert [each[:4] for each in await two.completions(1)] == [[str(index), "success", "recv", "20"]]
    found = {"data": (b"\xca\xfe" + pattern(3, 9) + pattern(6, 1)[5:]).hex(), "guard": "ok"}
    assert await two.do("memory region=rw len=6") == found
    assert await one.do("memory region=scratch off=8 len=6") == found
    received = await two.do(f"received index={index}")
    assert received == {"data": (pattern(20, 3) + b"\xa5" * (4096 - 20)).hex(), "guard": "ok"}


@pytest.mark.parametrize("initiator", ["siw", "pyiwarp"])
async def test_both_directions(guest: Guest, initiator: str) -> None:
    async with (
        siw_target(guest) as siw_place,
        controlling(siw_place) as siw,
        serving() as ours,
        controlling(ours) as own,
    ):
        own_memory = await own.do(f"session {SIW} data=0102")
        memory = await siw.do("session ird=4 ord=4 data=0304 delay=20")
        if initiator == "siw":
            await siw.do(f"connect host={HOST_ADDRESS} port={own_memory['port']}")
        else:
            await own.do(f"connect host=127.0.0.1 port={siw_place.port}")
        assert (await own.state("connected"))["private"] == "0304"
        assert (await siw.state("connected"))["private"] == "0102"
        order = [(own, siw, memory), (siw, own, own_memory)]
        for one, two, target in order[:: -1 if initiator == "siw" else 1]:  # the Initiator speaks first
            await exchange(one, two, target, 0)
        await siw.do("advertise region=ro wr=4")
        assert (await own.completions(1))[0][3] == "16"
        stag, to, size = memory["ro"].split(":")
        told = bytes.fromhex((await own.do("received index=1"))["data"])[:16]
        assert told == int(to, 16).to_bytes(8, "big") + int(stag, 16).to_bytes(4, "big") + int(size).to_bytes(4, "big")
        await own.do(f"post op=write {place(memory['ro'])} data=00")
        assert (await own.state("terminated"))["got"][:4] == "1100"
        assert (await siw.state("error"))["cause"] == "QP_ACCESS_ERR"
        assert (await siw.do("sum region=ro"))["guard"] == "ok"


@pytest.mark.parametrize("first", ["siw", "pyiwarp"])
async def test_ends(guest: Guest, first: str) -> None:
    async with (
        siw_target(guest) as siw_place,
        controlling(siw_place) as siw,
        serving() as ours,
        controlling(ours) as own,
    ):
        for command, states in (("disconnect", ("closed", "closed")), ("abort", ("error", "closed"))):
            await own.do(f"session {SIW}")
            await siw.do("session ird=4 ord=4 receives=4")
            await own.do(f"connect host=127.0.0.1 port={siw_place.port}")
            await own.state("connected")
            await siw.state("connected")
            await (siw if first == "siw" else own).do(command)
            both = (siw, own) if first == "siw" else (own, siw)
            for control, state in zip(both, states, strict=True):
                await control.state(state, "closed")
            assert (await siw.completions(1))[0][1:3] == ["wr_flush_err", "recv"]


async def test_a_refusal_and_a_connection_that_nobody_asked_for(guest: Guest) -> None:
    async with (
        siw_target(guest) as siw_place,
        controlling(siw_place) as siw,
        serving() as ours,
        controlling(ours) as own,
    ):
        await siw.do("session reject=1 data=beef")
        await own.do("session data=aa")
        await own.do(f"connect host=127.0.0.1 port={siw_place.port}")
        assert (await own.state("rejected"))["private"] == "beef"
        assert (await siw.state("rejected"))["private"] == "aa"
        session = await own.do("session reject=1 data=beef")
        await siw.do("session")
        await siw.do(f"connect host={HOST_ADDRESS} port={session['port']}")
        assert (await siw.state("rejected"))["cause"].startswith("REJECTED")
        await own.do(f"session {SIW}")
        await own.do(f"connect host=127.0.0.1 port={siw_place.port}")
        await own.state("connected")
        await own.do("disconnect")
        await own.state("closed")


async def test_nobody_listens(guest: Guest) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # a port that nobody else gets meanwhile
        port = deaf.getsockname()[1]
        async with siw_target(guest) as siw_place, controlling(siw_place) as siw:
            await siw.do("session")
            await siw.do(f"connect host={HOST_ADDRESS} port={port}")
            assert (await siw.state("rejected", "error"))["cause"] != "-"
