"""`pyiwarp perf`: each side against a scripted perftest, octet by octet, then both as processes."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import sys
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from pyiwarp import Context, Disconnected, Options, connect, listen
from pyiwarp.cli.perftest.endpoint import Endpoint
from pyiwarp.cli.perftest.figures import Bandwidth, Latency
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.cli.perftest.runs import Plan
from pyiwarp.cli.perftest.session import PerfSession, Result
from pyiwarp.cm import listen as listen_verbs
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import ConnectionLost
from pyiwarp.files.errors import BadMessage, PeerSilent
from tests.hosts import HOST, closed_port
from tests.integration import perfscript
from tests.integration.loops import Runner, run, soon
from tests.integration.perfscript import NOTHING, Side, client_side, flagged, listening, server_side
from tests.integration.test_cli import complaint, process
from tests.integration.test_cli import run as command
from tests.patience import PATIENCE

__all__ = ["run"]

SIZE = 64
COUNT = 6
TWO = struct.pack("!d", 2.0)
KEYS = {
    PerfTest.WRITE_BW: 3,
    PerfTest.READ_BW: 3,
    PerfTest.SEND_BW: 4,
    PerfTest.WRITE_LAT: 4,
    PerfTest.READ_LAT: 4,
    PerfTest.SEND_LAT: 4,
}


def plan(test: PerfTest, size: int = SIZE) -> Plan:
    return Plan(test=test, size=size, iterations=COUNT, tx_depth=COUNT, rx_depth=COUNT, cq_mod=COUNT)


def session(test: PerfTest, patience: float = PATIENCE) -> PerfSession:
    return PerfSession(plan(test), Options(linger=1.0), patience)


async def serving(test: PerfTest, patience: float = PATIENCE) -> tuple[int, asyncio.Future[Result]]:
    """Our server: its port, and its result to come."""
    listener = await listen_verbs(HOST, 0)

    async def serve() -> Result:
        async with listener:
            return await session(test, patience).run_server(listener)

    return listener.port, asyncio.ensure_future(serve())


# --- our server, a scripted client -----------------------------------------------------------------------------------


async def report(side: Side) -> None:
    """What a client tells after a test of bandwidth, as seen after ib_write_bw -n 5 -s 64."""
    for line in ("0000000000000040", "0000000000000005", "3fe118f8d89de1b5", "3fbe16244035e428", "3f5f8c47e4d3a1fd"):
        assert await side.ask(bytes.fromhex(line)) == bytes(8)


def test_write_bw_served(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.WRITE_BW)
        async with client_side(port, keys=3, size=SIZE) as (side, remote):
            for offset in (0, 64, 4096 - 64):
                await side.lane().write(bytes(SIZE), remote.at(offset))
            assert len(await side.ask(side.own)) == 56
            await report(side)
            assert len(await side.ask(side.own)) == 56
        assert str(await served).split() == ["64", "5", "0.53", "0.12", "0.001926"]

    run(main)


def test_read_bw_served(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.READ_BW)
        async with client_side(port, keys=3, size=SIZE, reads=128) as (side, remote):
            assert side.lane().agreement.peer_ird == 128
            await asyncio.gather(*(side.lane().read(side.memory[:SIZE], remote) for _ in range(COUNT)))
            assert len(await side.ask(side.own)) == 56
            await report(side)
            assert len(await side.ask(side.own)) == 56
        assert isinstance(await served, Bandwidth)

    run(main)


def test_send_bw_served_with_credit(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.SEND_BW)
        async with client_side(port, keys=4, size=SIZE) as (side, _):
            word = side.memory.view[:4]
            for number in range(1, COUNT + 1):
                await side.lane().send(bytes(SIZE))
                if number % 2 == 0:  # three times per six receives
                    await flagged(word[:1], number)
                    assert word == number.to_bytes(4, sys.byteorder)
            assert len(await side.ask(side.own)) == 56
        result = await served
        assert isinstance(result, Bandwidth)
        assert (result.iterations, result.peak) == (COUNT, 0)

    run(main)


def test_write_lat_served_by_one_that_speaks_first(run: Runner) -> None:
    """The client has not sent an FPDU on the data connection, and will not before the server's Write is there."""

    async def main() -> None:
        port, served = await serving(PerfTest.WRITE_LAT)
        async with client_side(port, keys=4, size=SIZE) as (side, remote):
            for number in range(1, COUNT + 1):
                await flagged(side.memory.view[:SIZE], number)
                await side.lane().write(bytes(SIZE - 1) + bytes([number]), remote)
        result = await served
        assert isinstance(result, Latency)
        assert result.iterations == COUNT

    run(main)


def test_read_lat_served(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.READ_LAT)
        async with client_side(port, keys=4, size=SIZE, reads=128) as (side, remote):
            for _ in range(COUNT):
                await side.lane().read(side.memory[:SIZE], remote)
            assert len(await side.ask(side.own)) == 56
        assert await served is None

    run(main)


def test_send_lat_served(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.SEND_LAT)
        async with client_side(port, keys=4, size=SIZE, receives=COUNT) as (side, _):
            for _ in range(COUNT):
                await side.lane().send(bytes(SIZE))
                assert len(await side.lane().recv()) == SIZE
            assert len(await side.ask(side.own)) == 56
        assert isinstance(await served, Latency)

    run(main)


# --- our client, a scripted server -----------------------------------------------------------------------------------


async def heard_report(side: Side) -> list[bytes]:
    """What our client tells; the server answers with whatever its memory held."""
    return [await side.answer(bytes.fromhex("00007ffeade14914")) for _ in range(5)]


def check_report(lines: list[bytes], result: Result) -> None:
    assert isinstance(result, Bandwidth)
    assert [line.hex() for line in lines[:2]] == ["0000000000000040", "0000000000000006"]
    assert all(len(line) == 8 for line in lines)
    assert result.peak * 1.001 > result.average > result.rate > 0


def test_write_bw_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.WRITE_BW).run_client(HOST, listener.port))
            async with server_side(listener, keys=3, size=SIZE) as (side, _):
                assert len(await side.answer(side.own)) == 56
                lines = await heard_report(side)
                view = side.memory.view  # all Writes are there: the report came after their completion, not before
                await soon(lambda: all(any(view[at : at + SIZE]) for at in range(0, COUNT * SIZE, SIZE)))
                assert not any(view[COUNT * SIZE :])
                assert len(await side.answer(side.own)) == 56
                with pytest.raises(Disconnected):
                    await side.control.recv()
            check_report(lines, await measured)

    run(main)


def test_two_connections_both_ways_measured(run: Runner) -> None:
    """-q 2 -b: a record for each connection, each again, the first again, and once more when both are ready."""

    async def main() -> None:
        async with await listening() as listener:
            both = replace(plan(PerfTest.WRITE_BW), qps=2, both_ways=True)
            measured = asyncio.ensure_future(
                PerfSession(both, Options(linger=1.0), PATIENCE).run_client(HOST, listener.port)
            )
            async with AsyncExitStack() as stack:
                control = await (await anext(listener)).accept(options=perfscript.options())
                await stack.enter_async_context(control)
                memories = [control.register(bytearray(4096), perfscript.EVERYTHING) for _ in range(2)]
                side = Side(control.pd, control, memories[0])
                for step in (*perfscript.STEPS, perfscript.MTU, NOTHING):
                    await side.answer(step)
                options = perfscript.data_options(0, SIZE, 0)
                lanes = [await (await anext(listener)).accept(options=options) for _ in range(2)]
                for lane in lanes:
                    await stack.enter_async_context(lane)
                await side.answer(NOTHING)
                records = [perfscript.record(memory.stag, memory.to) for memory in memories]
                told = [await side.answer(records[number]) for number in (0, 1, 0, 1, 0, 0)]
                assert told == [told[0], told[1], told[0], told[1], told[0], told[0]]
                for lane, record in zip(lanes, told, strict=False):
                    await lane.write(b"\xa5" * SIZE, perfscript.memory_in(record, 4096))
                lines = [await side.answer(line) for line in (bytes(8), bytes(8), *[TWO] * 3)]
                assert [line.hex() for line in lines[:2]] == ["0000000000000040", "000000000000000c"]
                assert all(any(memory.view) for memory in memories)
                assert len(await side.answer(records[0])) == 56
                result = await measured
            assert isinstance(result, Bandwidth)
            mine = [struct.unpack("!d", line)[0] for line in lines[2:]]
            assert [result.peak, result.average, result.rate] == [figure + 2 for figure in mine]

    run(main)


def test_read_bw_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.READ_BW).run_client(HOST, listener.port))
            async with server_side(listener, keys=3, size=SIZE, reads=4) as (side, _):
                assert (side.lane().agreement.peer_ird, side.lane().agreement.peer_ord) == (128, 128)
                assert len(await side.answer(side.own)) == 56
                assert side.lane().qp.stream.fpdus_received >= COUNT
                lines = await heard_report(side)
                assert len(await side.answer(side.own)) == 56
            check_report(lines, await measured)

    run(main)


def test_send_bw_stalls_without_credit(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.SEND_BW).run_client(HOST, listener.port))
            async with server_side(listener, keys=4, size=SIZE, receives=COUNT) as (side, remote):
                for _ in range(COUNT - 1):
                    assert len(await side.lane().recv()) == SIZE
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(side.lane().recv(), 0.1)
                await side.lane().write((2).to_bytes(4, sys.byteorder), remote)
                assert len(await side.lane().recv()) == SIZE
                assert len(await side.answer(side.own)) == 56
            result = await measured
            assert isinstance(result, Bandwidth)
            assert result.iterations == COUNT

    run(main)


def test_write_lat_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.WRITE_LAT).run_client(HOST, listener.port))
            async with server_side(listener, keys=4, size=SIZE) as (side, remote):
                for number in range(1, COUNT + 1):
                    await side.lane().write(bytes(SIZE - 1) + bytes([number]), remote)
                    await flagged(side.memory.view[:SIZE], number)
                with pytest.raises(Disconnected):  # no exchange closes this test
                    await side.control.recv()
            assert isinstance(await measured, Latency)

    run(main)


def test_read_lat_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.READ_LAT).run_client(HOST, listener.port))
            async with server_side(listener, keys=4, size=SIZE, reads=128) as (side, _):
                assert len(await side.answer(side.own)) == 56
                assert side.lane().qp.stream.fpdus_received >= COUNT
            assert isinstance(await measured, Latency)

    run(main)


def test_send_lat_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(PerfTest.SEND_LAT).run_client(HOST, listener.port))
            async with server_side(listener, keys=4, size=SIZE, receives=COUNT) as (side, _):
                for _ in range(COUNT):
                    assert len(await side.lane().recv()) == SIZE
                    await side.lane().send(bytes(SIZE))
                assert len(await side.answer(side.own)) == 56
            assert isinstance(await measured, Latency)

    run(main)


# --- peers that leave, fall silent, or speak otherwise ---------------------------------------------------------------


def test_the_data_connection_is_tried_again(run: Runner) -> None:
    """perftest's server listens for it only after it has answered, which is after the client may come."""

    async def main(port: int) -> None:
        listener = await listening(port)
        measured = asyncio.ensure_future(session(PerfTest.READ_LAT).run_client(HOST, port))
        async with await (await anext(listener)).accept(options=perfscript.options()) as control:
            listener.close()
            side = Side(control.pd, control, control.register(bytearray(4096), perfscript.EVERYTHING))
            for step in (*perfscript.STEPS, perfscript.MTU, NOTHING):
                await side.answer(step)
            await asyncio.sleep(0.25)
            async with await listen(HOST, port, pd=control.pd) as again:
                side.data = await (await anext(again)).accept(options=perfscript.data_options(0, 64, 128))
                await side.answer(NOTHING)
                for _ in range(5):
                    await side.answer(side.own)
                assert isinstance(await measured, Latency)
                await side.data.close()

    with closed_port() as port:
        run(lambda: main(port))


@pytest.mark.parametrize("test", list(PerfTest))
def test_a_client_that_leaves_in_the_middle(run: Runner, test: PerfTest) -> None:
    async def main() -> None:
        port, served = await serving(test)
        reads = 128 if test.reads else 0
        async with client_side(port, keys=KEYS[test], size=SIZE, receives=COUNT, reads=reads):
            pass
        with pytest.raises((Disconnected, ConnectionLost)):
            await served

    run(main)


@pytest.mark.parametrize("test", list(PerfTest))
def test_a_server_that_leaves_in_the_middle(run: Runner, test: PerfTest) -> None:
    async def main() -> None:
        async with await listening() as listener:
            measured = asyncio.ensure_future(session(test).run_client(HOST, listener.port))
            reads = 128 if test.reads else 0
            async with server_side(listener, keys=KEYS[test], size=SIZE, receives=COUNT, reads=reads) as (side, _):
                side.lane().abort()
                side.control.abort()
            with pytest.raises((Disconnected, ConnectionLost)):
                await measured

    run(main)


@pytest.mark.parametrize("test", [PerfTest.WRITE_LAT, PerfTest.SEND_BW, PerfTest.SEND_LAT, PerfTest.WRITE_BW])
def test_a_silent_peer_is_given_up(run: Runner, test: PerfTest) -> None:
    async def main() -> None:
        port, served = await serving(test, patience=1.0)
        async with client_side(port, keys=KEYS[test], size=SIZE, receives=COUNT):
            with pytest.raises(PeerSilent, match=r"did nothing for 1 s"):
                await served

    run(main)


def test_a_data_connection_that_never_comes(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.WRITE_BW, patience=1.0)
        async with connect(HOST, port, options=perfscript.options()) as control:
            side = Side(control.pd, control, control.register(bytearray(8)))
            for step in (*perfscript.STEPS, perfscript.MTU, NOTHING):
                await side.ask(step)
            with pytest.raises(PeerSilent):
                await served

    run(main)


def test_another_version_is_refused(run: Runner) -> None:
    async def main() -> None:
        port, served = await serving(PerfTest.WRITE_BW)
        async with connect(HOST, port, options=perfscript.options()) as control:
            await control.send(b"6.30" + bytes(12))
            with pytest.raises(BadMessage, match=r"perftest 6\.30"):
                await served

    run(main)


# --- processes -------------------------------------------------------------------------------------------------------

WORDS = ("-n", "50", "--json")


@pytest.mark.parametrize("test", [test.value for test in PerfTest])
def test_two_processes_measure(test: str) -> None:
    with process("perf", test, "-p", "0", *WORDS) as server:
        port = server.told()["port"]
        connected, facts = map(json.loads, command("perf", test, f"{HOST}:{port}", *WORDS).stdout.splitlines())
        assert connected == {"event": "connected", "test": test, "role": "client", "peer": f"{HOST}:{port}"}
        assert (facts["event"], facts["test"], facts["role"]) == ("result", test, "client")
        assert facts["iterations"] == 50
        assert facts["size"] == (65536 if test.endswith("bw") else 2)
        assert server.told()["event"] == "connected"
        told = server.told()
        assert told["role"] == "server"
        assert ("iterations" in told) == (test != "read_lat")
        server.ended(0)


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("write_bw", ("-q", "3", "-l", "4", "-b", "-s", "64")),
        ("read_bw", ("-q", "3", "-b")),
        ("write_bw", ("-l", "7", "-t", "10", "-Q", "10", "-s", "64")),
        ("read_bw", ("-q", "2", "-t", "3")),
        ("send_bw", ("-l", "6", "-r", "9", "-s", "64")),
    ],
)
def test_two_processes_measure_many_connections_lists_and_both_ways(test: str, words: tuple[str, ...]) -> None:
    with process("perf", test, "-p", "0", *WORDS, *words) as server:
        place = f"{HOST}:{server.told()['port']}"
        facts = json.loads(command("perf", test, place, *WORDS, *words).stdout.splitlines()[-1])
        assert facts["iterations"] == 50 * (int(words[1]) if words[0] == "-q" else 1)
        assert server.told()["event"] == "connected"
        told = server.told()
        if "-b" in words:  # each told the other: both have the sum
            assert told["average"] == pytest.approx(facts["average"])
            assert told["rate"] == pytest.approx(facts["rate"])
        server.ended(0)


def test_every_connection_carries_its_share_both_ways(run: Runner) -> None:
    both = replace(plan(PerfTest.WRITE_BW), qps=3, both_ways=True, post_list=2, cq_mod=2)
    sessions = [PerfSession(both, Options(linger=1.0), PATIENCE) for _ in range(2)]
    posted: list[list[int]] = []

    async def main() -> None:
        listener = await listen_verbs(HOST, 0)
        async with listener:
            served = asyncio.ensure_future(sessions[0].run_server(listener))
            measured = await sessions[1].run_client(HOST, listener.port)
            result = await served
        assert isinstance(result, Bandwidth)
        assert isinstance(measured, Bandwidth)
        assert measured.iterations == 3 * COUNT
        assert measured.average == pytest.approx(result.average)
        for one in sessions:
            posted.append([end.qp.stream.octets_sent // SIZE for end in one._ends[1:]])

    run(main)
    assert all(len(counts) == 3 and min(counts) >= COUNT for counts in posted)


@pytest.mark.parametrize(
    ("test", "title", "header"),
    [
        ("write_bw", "RDMA_Write BW Test", Bandwidth.HEADER),
        ("read_lat", "RDMA_Read Latency Test, microseconds", Latency.HEADER),
    ],
)
def test_the_page_is_perftests(test: str, title: str, header: str) -> None:
    with process("perf", test, "-p", "0", "-n", "20", "--peer", "siw") as server:
        place = server.line().rpartition(" ")[2]
        words = ("-n", "20", "-s", "3000", "-Q", "7", "-t", "9", "--peer", "siw")
        lines = command("perf", test, place, *words).stdout.splitlines()
        assert lines[0] == lines[3] == lines[6] == "-" * 79
        assert lines[1].strip() == title
        assert lines[4] == header
        assert lines[5].split()[:2] == ["3000", "20"]
        server.ended(0)


def test_interrupts_end_both_sides_with_a_line() -> None:
    with process("perf", "write_lat", "-p", "0", "--json", "-n", "1000000") as server:
        place = f"{HOST}:{server.told()['port']}"
        with process("perf", "write_lat", place, "-n", "1000000", "--json") as client:
            assert client.told()["event"] == server.told()["event"] == "connected"
            assert client.end(signal.SIGINT, 1) == "pyiwarp: interrupted\n"
        assert server.ended(1).count("\n") == 1


def test_closing_waits_for_the_end_of_tcp(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pd = Context().alloc_pd()
        end = Endpoint(pd, Options(linger=1.0), 4)
        async with await listening() as listener:
            connecting = asyncio.ensure_future(end.connect(HOST, listener.port))
            other = await (await anext(listener)).accept(options=perfscript.options())
            await connecting
            llp = end._llp
            assert llp is not None
            aborted, abort = list[bool](), type(llp).abort

            def watched(self: AsyncioDriver) -> None:
                if self is llp:
                    aborted.append(llp.closed.done())
                abort(self)

            with monkeypatch.context() as patch:
                patch.setattr(type(llp), "abort", watched)
                await end.close()
            assert aborted == [True]
            await other.close()
        pd.close(force=True)

    run(main)


def test_nobody_there() -> None:
    with process("perf", "write_bw", "-p", "0", "--json") as server:
        place = f"{HOST}:{server.told()['port']}"
        assert server.end(signal.SIGTERM, 1) == "pyiwarp: interrupted\n"
    assert complaint("perf", "write_bw", place) == f"Connection refused: {place.replace(':', ' port ')}"
