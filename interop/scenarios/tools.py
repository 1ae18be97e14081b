"""The ecosystem's own programs, unchanged: rping, perftest, rdma_client and rdma_server, ucmatose; one for pyverbs."""

from __future__ import annotations

import socket

import pyiwarp
from interop.peer import HERE, Can
from interop.stage import ScenarioFailed, Stage, end_of

from .commands import PATIENCE, ours, port_of, program, pyverbs, server
from .registry import LIMIT, add, scenario

_NO_CLOCK = "Correlation coefficient r^2"
"""What perftest prints when its two clocks disagree. It then ends with status 1, after a transfer that went well."""

_CLOCK_TRIES = 5
_TESTS = ("write_bw", "read_bw", "send_bw", "write_lat", "read_lat", "send_lat")
_PRINTED = 4096  # octets of a ping that are worth printing
_RPING_PORT, _PERFTEST_PORT, _PORT = 7174, 18515, 7471


# --- rping -----------------------------------------------------------------------------------------------------------


async def _rping(stage: Stage, count: int, size: int) -> None:
    programs_say = f"{'-v ' if size <= _PRINTED else ''}-V -C {count} -S {size}"
    if stage.pyiwarp_connects:
        command = f"rping -s {programs_say} -a {stage.peer.programs().address}"
        async with (
            server(stage, command, _RPING_PORT) as place,
            ours(stage, "ping", place, "-C", str(count), "-S", str(size), "-V") as here,
        ):
            told = await here.tells()
            stage.check((told["pings"], told["verified"]) == (count, True), f"our client tells {told}")
        return
    async with ours(stage, "ping", "--serve", "--port", "0") as here:
        port = (await here.tells())["port"]
        said = await program(stage, f"rping -c {programs_say} -a {stage.peer.programs().host_address} -p {port}")
        seen = said.count("ping data: rdma-ping-")
        stage.check(seen == count or size > _PRINTED, f"rping said: {said[-500:]}")
        stage.check("mismatch" not in said, "rping found other data than it sent")
        told = await here.tells()
        stage.check(told["pings"] == count, f"our server tells {told}")


@scenario("tools", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def rping_4096(stage: Stage) -> None:
    """rping and `pyiwarp ping`: 100 pings of 4096 octets, data verified."""
    await _rping(stage, 100, 4096)


@scenario("tools", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def rping_65000(stage: Stage) -> None:
    """rping and `pyiwarp ping`: 100 pings of 65,000 octets, data verified."""
    await _rping(stage, 100, 65_000)


# --- perftest --------------------------------------------------------------------------------------------------------


async def _perftest(stage: Stage, test: str, count: int, size: int) -> None:
    """perftest measures the processor's clock before it reports; in an emulated guest it cannot always."""
    for _ in range(_CLOCK_TRIES - 1):
        try:
            await _perftest_once(stage, test, count, size)
        except ScenarioFailed as error:
            if _NO_CLOCK not in str(error):
                raise
        else:
            return
    await _perftest_once(stage, test, count, size)


async def _perftest_once(stage: Stage, test: str, count: int, size: int) -> None:
    words = ("-n", str(count), "-s", str(size))
    command = f"ib_{test} -R -d siw0 {' '.join(words)}"
    if stage.pyiwarp_connects:
        async with (
            server(stage, command, _PERFTEST_PORT) as place,
            ours(stage, "perf", test, place, *words) as here,
        ):
            stage.check((await here.tells()).get("event") == "connected", "our client did not connect")
            told = await here.tells()
            stage.check((told["iterations"], told["size"]) == (count, size), f"our client tells {told}")
        return
    async with ours(stage, "perf", test, "--port", "0", *words) as here:
        port = (await here.tells())["port"]
        said = await program(stage, f"{command} -p {port} {stage.peer.programs().host_address}")
        rows = [line.split() for line in said.splitlines() if line.split()[:2] == [str(size), str(count)]]
        stage.check(len(rows) == 1, f"ib_{test} printed no figures: {said}")
        stage.check((await here.tells()).get("event") == "connected", "our server was not connected to")


def _register(test: str) -> None:
    async def run(stage: Stage) -> None:
        await _perftest(stage, test, *((50, 64) if test.endswith("lat") else (100, 20_000)))

    about = f"perftest's ib_{test} and `pyiwarp perf {test}`"
    add(f"perftest-{test.replace('_', '-')}", "tools", about, run, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)


for _test in _TESTS:
    _register(_test)


# --- a program for pyverbs, on the stand-in --------------------------------------------------------------------------


async def _pyverbs(stage: Stage, count: int, size: int) -> None:
    words, options = (str(count), str(size)), f"-C {count} -S {size} -V"
    programs = stage.peer.programs()
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"rping -s {options} -a {programs.address}", _RPING_PORT) as place,
            pyverbs("rping.py", "-c", HERE, str(port_of(place)), *words) as here,
        ):
            stage.check("came back whole" in await here.ended(), "a ping came back otherwise")
        return
    with socket.socket() as held:  # its port is this scenario's; the listener takes it over
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HERE, 0))
        port = str(held.getsockname()[1])
        async with pyverbs("rping.py", "-s", HERE, port, *words) as here:
            stage.check(await here.line() == "listening", "our program does not listen")
            said = await program(stage, f"rping -c {options} -a {programs.host_address} -p {port}")
            stage.check("mismatch" not in said, "rping found other data than it sent")
            stage.check(f"served {count} pings" in await here.ended(), "our program was not served")


@scenario("tools", needs=Can.RUN_PROGRAMS)
async def rping_and_pyverbs(stage: Stage) -> None:
    """rping and a program for pyverbs on `pyiwarp.pyverbs`: 50 pings of 4096 octets by rdma_cm, data verified."""
    await _pyverbs(stage, 50, 4096)


@scenario("tools", needs=Can.RUN_PROGRAMS)
async def rping_and_pyverbs_65000(stage: Stage) -> None:
    """The same with 20 pings of 65,000 octets."""
    await _pyverbs(stage, 20, 65_000)


# --- librdmacm's examples --------------------------------------------------------------------------------------------


@scenario("tools", needs=Can.RUN_PROGRAMS)
async def rdma_client_and_server(stage: Stage) -> None:
    """librdmacm's rdma_server and rdma_client: one Send of 16 octets each way."""
    programs = stage.peer.programs()
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"rdma_server -s {programs.address} -p {_PORT}", _PORT) as place,
            pyiwarp.connect(HERE, port_of(place), options=stage.options()) as connection,
        ):
            await connection.send(bytes(16))
            stage.check(len(await connection.recv()) == 16, "rdma_server sent something else")
        return
    async with await pyiwarp.listen(HERE, options=stage.options()) as listener:
        client = await programs.start(f"rdma_client -s {programs.host_address} -p {listener.port}")
        async with await (await anext(listener)).accept() as connection:
            stage.check(len(await connection.recv()) == 16, "rdma_client sent something else")
            await connection.send(bytes(16))
            await end_of(connection)
        stage.check(await client.wait(PATIENCE) == 0, f"rdma_client failed: {client.text}")


@scenario(
    "ucmatose",
    needs=Can.RUN_PROGRAMS,
    connecting_needs=Can.CONNECT_REVISION_2 | Can.ASK_FOR_PEER_TO_PEER,
)
async def ucmatose(stage: Stage) -> None:
    """librdmacm's ucmatose, whose server speaks first: that takes the peer-to-peer model (RFC 6581 §9.2)."""
    programs, count, size = stage.peer.programs(), 10, 100
    words = f"-c 1 -C {count} -S {size}"
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"ucmatose -b {programs.address} {words}", _PORT) as place,
            pyiwarp.connect(HERE, port_of(place), options=stage.options()) as connection,
        ):
            for _ in range(count):
                stage.check(len(await connection.recv()) == size, "ucmatose sent something else")
            for _ in range(count):
                await connection.send(bytes(size))
            stage.compare("our end", await end_of(connection), "gracefully")
        return
    async with await pyiwarp.listen(HERE, options=stage.options()) as listener:
        client = await programs.start(f"ucmatose -s {programs.host_address} -p {listener.port} {words}")
        async with await (await anext(listener)).accept() as connection:
            for _ in range(count):
                await connection.send(bytes(size))
            for _ in range(count):
                stage.check(len(await connection.recv()) == size, "ucmatose sent something else")
        stage.check(await client.wait(PATIENCE) == 0, f"ucmatose failed: {client.text}")
