"""`pyiwarp tunnel`: programs of TCP at both ends of two tunnels, and one of iWARP at the end of one."""

from __future__ import annotations

import asyncio
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyiwarp.sockets import open_connection, start_server
from tests.hostile.streampeers import StreamPeer
from tests.hosts import HOST, closed_port
from tests.integration.loops import Runner, run
from tests.integration.streamrig import QUICK
from tests.integration.test_cli import process
from tests.integration.tunnelrig import Joined, connected, joined, read_all, tunnel, two_tunnels
from tests.patience import PATIENCE

__all__ = ["run"]

LOOPS = ("asyncio", "uvloop")
RESET = struct.pack("ii", 1, 0)
MUCH = 1 << 28


def assert_reset(sock: socket.socket) -> None:
    """Its peer has reset it."""
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def assert_refused(port: int) -> None:
    """A client is reset at once: it may find that out as it connects, or as it reads."""
    with pytest.raises(ConnectionResetError), connected(port) as client:
        client.recv(1)


@pytest.fixture(params=LOOPS, scope="module")
def lasting(request: pytest.FixtureRequest) -> Iterator[Joined]:
    """Two tunnels for many tests, on either event loop."""
    with joined("--loop", request.param) as tunnels:
        yield tunnels


@pytest.fixture
def tunnels(lasting: Joined) -> Iterator[Joined]:
    """These, of whose clients so far everything is told."""
    yield lasting
    lasting.hear_of_all()


def test_octets_go_both_ways_at_once_and_each_way_ends_alone(tunnels: Joined) -> None:
    octets = random.Random(17).randbytes(3_000_000)
    with tunnels.ends() as (client, server):
        with ThreadPoolExecutor(4) as threads:
            sent = threads.submit(client.sendall, octets), threads.submit(server.sendall, octets[::-1])
            came = [threads.submit(receive, sock, len(octets)) for sock in (client, server)]
            assert [each.result() for each in came] == [octets[::-1], octets]
            assert [each.result() for each in sent] == [None, None]
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b""
        server.sendall(b"still here")
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"still here"
    for each in (tunnels.near, tunnels.far):
        told = each.client()
        assert (told["there"], told["back"], "error" in told) == (len(octets), len(octets) + 10, False)


def receive(sock: socket.socket, nbytes: int) -> bytes:
    """So many octets."""
    octets = bytearray()
    while len(octets) < nbytes and (piece := sock.recv(min(1 << 20, nbytes - len(octets)))):
        octets += piece
    return bytes(octets)


def test_the_server_may_end_its_way_first(tunnels: Joined) -> None:
    with tunnels.ends() as (client, server):
        server.sendall(b"220 hello")
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"220 hello"
        client.sendall(b"QUIT")
        client.close()
        assert read_all(server) == b"QUIT"
    assert "error" not in tunnels.near.client()


@pytest.mark.parametrize("resets", ["client", "server"])
def test_a_reset_is_a_reset_at_the_other_end(tunnels: Joined, resets: str) -> None:
    with tunnels.ends() as (client, server):
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        one, other = (client, server) if resets == "client" else (server, client)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.close()
        assert_reset(other)
    assert "error" in tunnels.near.client()
    assert "error" in tunnels.far.client()


def test_a_slow_reader_makes_the_writer_wait(tunnels: Joined) -> None:
    piece = random.Random(5).randbytes(1 << 16)
    with tunnels.ends() as (client, server):
        client.setblocking(False)
        sent = 0
        while sent < MUCH and select.select([], [client], [], 1.0)[1]:
            sent += client.send(piece[sent % len(piece) :])
        assert sent < MUCH, "the tunnels took everything"
        client.shutdown(socket.SHUT_WR)
        came = read_all(server)
        assert len(came) == sent
        assert came == (piece * (sent // len(piece) + 1))[:sent]


def test_the_client_sees_a_reset_if_the_target_is_not_there() -> None:
    with closed_port() as port, two_tunnels(port) as (near, far):
        assert_refused(near.port)
        assert f"tcp:{HOST}:{port} cannot be reached" in far.client()["error"]
        counters = far.stopped()
        assert (counters["unreachable"], counters["broken"], counters["joined"]) == (1, 1, 0)
        assert_refused(near.port)
        assert near.client()["there"] == 0
        assert "cannot be reached" in near.client()["error"]


def test_the_client_sees_a_reset_if_no_host_can_have_the_target_s_name() -> None:
    with tunnel("tcp", "iwarp:no..name:1") as near:
        assert_refused(near.port)
        assert "cannot be reached: the host is not known" in near.client()["error"]


def test_what_a_client_sends_before_the_target_is_there_is_not_lost(tunnels: Joined) -> None:
    for _ in range(20):
        tunnels.visits += 1
        with connected(tunnels.near.port) as client:
            client.sendall(b"fire and forget")
            client.shutdown(socket.SHUT_WR)
            with tunnels.server.accept()[0] as accepted:
                accepted.settimeout(PATIENCE)
                assert read_all(accepted) == b"fire and forget"


@pytest.mark.parametrize("listen", ["tcp", "iwarp"])
def test_one_client_too_many_is_refused(run: Runner, listen: str) -> None:
    """By a reset if it came by TCP, by a Reject if it came by iWARP."""

    async def main() -> None:
        with socket.create_server((HOST, 0)) as server:
            server.settimeout(PATIENCE)
            target = f"tcp:{HOST}:{server.getsockname()[1]}"
            with tunnel("iwarp", target, "--clients", "1") as far:
                _, writer = await open_connection(HOST, far.port, options=QUICK)
                server.accept()[0].close()
                if listen == "iwarp":
                    with pytest.raises(ConnectionRefusedError):
                        await open_connection(HOST, far.port, options=QUICK)
                else:
                    with tunnel("tcp", f"iwarp:{HOST}:{far.port}") as near:
                        assert_refused(near.port)
                writer.close()
                await writer.wait_closed()
                assert far.client()["there"] == 0
                assert far.stopped()["over_limit"] == 1

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_ends_while_the_target_is_dialed_keeps_no_place(loop: str) -> None:
    """As many as leave at once: each is told of, and none is there when the tunnel is stopped."""
    with (
        socket.create_server((HOST, 0), backlog=20) as server,
        tunnel("iwarp", f"tcp:{HOST}:{server.getsockname()[1]}", "--loop", loop, "--clients", "20") as tunneled,
    ):
        for _ in range(20):
            with StreamPeer(tunneled.port) as peer:
                peer.sock.sendall(peer.data(b"without the CRC that was agreed on"))
            assert "CRC mismatch" in tunneled.client()["error"]
        assert tunneled.stopped()["broken"] == 20


def test_tcp_clients_have_a_limit_too() -> None:
    with joined("--clients", "1") as tunnels, tunnels.ends() as (client, server):
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        assert_refused(tunnels.near.port)
        assert "the tunnel has 1 clients" in tunnels.near.client()["error"]
        assert tunnels.near.stopped(interrupted=1) == {"joined": 1, "there": 1, "back": 0, "over_limit": 1, "broken": 2}
        assert_reset(client)


def test_an_iwarp_program_closes_and_a_tcp_program_reads_the_end(run: Runner) -> None:
    """DISCONNECT is a FIN, and a FIN is SHUTDOWN."""

    async def main() -> None:
        with socket.create_server((HOST, 0)) as server, tunnel("iwarp", f"tcp:{HOST}:{server.getsockname()[1]}") as far:
            server.settimeout(PATIENCE)
            reader, writer = await open_connection(HOST, far.port, options=QUICK)
            with server.accept()[0] as accepted:
                accepted.settimeout(PATIENCE)
                accepted.sendall(b"hello")
                accepted.shutdown(socket.SHUT_WR)
                assert await reader.read() == b"hello"
                writer.write(b"bye")
                writer.close()
                await writer.wait_closed()
                assert read_all(accepted) == b"bye"
            assert "error" not in far.client()

    run(main)


def test_a_tcp_program_is_a_client_of_an_iwarp_program(run: Runner) -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.close()
            await writer.wait_closed()

        async with await start_server(answer, HOST, options=QUICK) as server:
            with tunnel("tcp", f"iwarp:{HOST}:{server.port}") as near, connected(near.port) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(read_all, client) == b"HELLO"

    run(main)


def test_a_client_that_is_silent_for_too_long_is_reset() -> None:
    with joined("--idle", "0.5") as tunnels, tunnels.ends() as ends:
        for sock in ends:
            assert_reset(sock)
        assert tunnels.near.client()["error"]


@pytest.mark.parametrize("ended", ["client", "target"])
def test_a_client_with_one_direction_left_has_a_limit_of_its_own(ended: str) -> None:
    """Else a client that ends its direction towards a silent target keeps its place for as long as it likes."""
    with joined("--half-closed", "0.5") as tunnels, tunnels.ends() as (client, server):
        one, other = (client, server) if ended == "client" else (server, client)
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        assert_reset(one)
        told = [each.client().get("error", "") for each in (tunnels.near, tunnels.far)]
        assert any(f"no octet has come for 0.5 s since the {ended} has ended its direction" in each for each in told)


def test_a_client_with_both_directions_or_that_still_gets_octets_stays() -> None:
    with joined("--half-closed", "1") as tunnels:
        with tunnels.ends() as (client, server):
            time.sleep(1.5)
            client.shutdown(socket.SHUT_WR)
            assert server.recv(1) == b""
            for _ in range(15):
                server.sendall(b"x")
                assert client.recv(1) == b"x"
                time.sleep(0.1)
        assert "error" not in tunnels.near.client()


def test_its_words() -> None:
    with closed_port() as port, process("tunnel", f"tcp:{HOST}:0", f"iwarp:{HOST}:{port}") as near:
        words = near.line()
        assert words.startswith(f"a tunnel from tcp:{HOST}:")
        assert words.endswith(f" to iwarp:{HOST}:{port}; Ctrl-C stops")
        assert near.end(signal.SIGINT, 0).startswith("pyiwarp: stopped; 0 clients interrupted; joined=0 ")
