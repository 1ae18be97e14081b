"""What TCP has to do with it: FIN and RST, half-closed connections, segment sizes, time (RFC 5044 §3, §5, §7, §8)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Options, cm, rdmacm
from pyiwarp.codes import Opcode
from pyiwarp.connections.serving import listen
from pyiwarp.errors import ConnectionLost, Disconnected, SetupFailed, StartupTimeout
from pyiwarp.mpa import mulpdu_for
from pyiwarp.mr import Access
from pyiwarp.negotiation import Offer
from tests.harness import Heard, Node, fpdu, send, unframe, write
from tests.hosts import HOST
from tests.integration.loops import Runner, connecting, run, soon
from tests.integration.polled import pair
from tests.patience import PATIENCE
from tests.rfc.test_rfc5044_startup import REPLY, REQUEST, frame

__all__ = ["run"]  # the fixture

RAW = Options(revision=1, timeout=PATIENCE, linger=PATIENCE)


class Raw:
    """A TCP connection of the test's own, which speaks octets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.socket: Any = writer.get_extra_info("socket")

    async def sends(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def hears(self, nbytes: int) -> bytes:
        return await self.reader.readexactly(nbytes)

    async def hears_fpdu(self) -> Heard:
        head = await self.reader.readexactly(2)
        length = int.from_bytes(head, "big")
        rest = await self.reader.readexactly(length + -(length + 2) % 4 + 4)
        return Heard(unframe(head + rest, 0, markers=False)[0])

    async def hears_nothing(self, seconds: float = 0.1) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.read(1), seconds)

    async def hears_fin(self) -> None:
        """The other half was closed in order: a reset would raise."""
        assert await self.reader.read() == b""

    async def hears_the_end(self) -> bytes:
        """Whatever comes before TCP ends, in order or by a reset."""
        octets = b""
        with contextlib.suppress(ConnectionResetError):
            while more := await asyncio.wait_for(self.reader.read(100), PATIENCE):
                octets += more
        return octets

    async def closes(self) -> None:
        self.writer.close()
        await asyncio.sleep(0)

    def resets(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_initiator(options: Options = RAW, maxseg: int | None = None) -> AsyncIterator[tuple[Raw, Any]]:
    """A raw Initiator, joined to a connection of the stack."""
    async with await listen(HOST, options=options) as listener:
        tcp = (
            socket.create_connection((HOST, listener.port), PATIENCE)
            if maxseg is None
            else _small(listener.port, maxseg)
        )
        tcp.setblocking(False)
        raw = Raw(*await asyncio.open_connection(sock=tcp))
        await raw.sends(frame(REQUEST))
        connection = await (await anext(listener)).accept()
        assert (await raw.hears(20))[:16] == REPLY
        await raw.sends(fpdu(write().octets(0)))
        try:
            yield raw, connection
        finally:
            await raw.closes()
            await connection.close()


def _small(port: int, maxseg: int) -> socket.socket:
    tcp = socket.socket()
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, maxseg)
    tcp.connect((HOST, port))
    return tcp


# --- segments --------------------------------------------------------------------------------------------------------


def test_the_mulpdu_follows_tcp_s_segment_size(run: Runner) -> None:  # MPA-5044-3-02, MPA-5044-3-03, MPA-5044-5.1-01
    async def main() -> None:
        async with raw_initiator(maxseg=536) as (raw, connection):
            region = connection.register(bytearray(8000))
            sending = asyncio.ensure_future(connection.send(region[:]))
            sizes = []
            while True:
                heard = await raw.hears_fpdu()
                sizes.append(len(heard.ulpdu))
                if heard.last:
                    break
            await sending
            maxseg = connection._llp._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            assert set(sizes[:-1]) == {maxseg - 6 - maxseg % 4}
            assert max(sizes) <= 530
            region.close()

    run(main)


def test_small_fpdus_leave_at_once(run: Runner) -> None:  # MPA-5044-5.1-03
    async def main() -> None:
        async with await listen(HOST) as listener, connecting(listener, None) as (one, other):
            for connection in (one, other):
                assert connection._llp is not None
                tcp = connection._llp._socket
                assert tcp is not None
                assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


def test_what_a_polled_socket_tells_and_is_told() -> None:
    # MPA-5044-5.1-03, MPA-5044-3-02: small FPDUs leave at once, and FPDUs are as large as TCP's segments let them be
    with pair() as (one, other):
        one.send(b"x", timeout=PATIENCE)
        assert other.recv(timeout=PATIENCE) == b"x"
        for connection in (one, other):
            assert connection._llp is not None
            tcp = connection._llp._socket
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            now = mulpdu_for(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), markers=False)
            assert 1000 < now / 2 <= connection.qp.stream.mulpdu <= now * 2


def test_fpdus_in_single_octets_and_many_in_one_write(run: Runner) -> None:  # MPA-5044-5.1-05, MPA-5044-A.4-01
    async def main() -> None:
        async with raw_initiator() as (raw, connection):
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in fpdu(send(b"slow").octets(1)):
                await raw.sends(bytes([octet]))
                await asyncio.sleep(0)
            assert await connection.recv() == b"slow"
            frames = [fpdu(send(bytes([n])).octets(n)) for n in range(2, 50)]
            await raw.sends(b"".join(frames)[:-5])
            for n in range(2, 49):
                assert await connection.recv() == bytes([n])
            await raw.sends(frames[-1][-5:])
            assert await connection.recv() == bytes([49])

    run(main)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_half_closed_peer_gets_what_was_on_its_way_and_a_fin(run: Runner) -> None:
    # DDP-5041-6.2.1-05, -06, MPA-5044-7.2-01, MPA-5044-7.2-02, MPA-5041-3-11
    async def main() -> None:
        async with raw_initiator() as (raw, connection):
            region = connection.register(bytearray(b"r" * 3_000_000))
            sending = asyncio.ensure_future(connection.send(region[:]))
            await asyncio.sleep(0)
            raw.writer.write_eof()
            with pytest.raises(Disconnected):
                await connection.recv()
            nbytes = 0
            while True:
                heard = await raw.hears_fpdu()
                nbytes += len(heard.payload)
                if heard.last:
                    break
            assert nbytes == 3_000_000
            await sending
            await raw.hears_fin()
            region.close()

    run(main)


def test_whoever_closes_still_receives(run: Runner) -> None:  # DDP-5041-6.2.1-07, DDP-5041-6.2.1-01, MPA-5044-7.2-01
    async def main() -> None:
        async with raw_initiator() as (raw, connection):
            region = connection.register(bytearray(4), Access.LOCAL_WRITE | Access.REMOTE_WRITE)
            await connection.send(b"last")
            closing = asyncio.ensure_future(connection.close())
            assert (await raw.hears_fpdu()).payload == b"last"
            await raw.hears_fin()
            await raw.sends(fpdu(write(region.stag, region.to, b"late").octets(0)))
            await soon(lambda: not region.is_open or bytes(region.view) == b"late")
            assert bytes(region.view) == b"late"
            await raw.closes()
            await closing

    run(main)


@pytest.mark.parametrize("reset", [True, False])
def test_the_end_of_tcp_in_the_middle_of_an_fpdu(run: Runner, reset: bool) -> None:
    # MPA-5044-8-01, DDP-5041-6.2.2-01, MPA-5041-3-03
    async def main() -> None:
        async with raw_initiator() as (raw, connection):
            await raw.sends(fpdu(send(b"hello").octets(1))[:-3])
            await asyncio.sleep(0.02)
            if reset:
                raw.resets()
            else:
                raw.writer.write_eof()
            with pytest.raises(ConnectionLost):
                await connection.recv()
            assert isinstance(connection.close_reason, ConnectionLost)

    run(main)


def test_a_terminate_comes_whole_and_before_the_fin(run: Runner) -> None:
    # RDMAP-5040-6.2.1-04, MPA-5044-8-10, DDP-5041-6.2.2-06: although octets that nobody read are on their way
    async def main() -> None:
        async with raw_initiator() as (raw, connection):
            late = fpdu(write(5, 0, bytes(1000)).octets(0)) * 200
            raw.writer.write(fpdu(write(5, 0, b"x").octets(0)) + late)
            heard = await raw.hears_fpdu()
            assert heard.opcode is Opcode.TERMINATE
            await raw.hears_fin()
            assert connection.qp.error is not None

    run(main)


def test_a_peer_that_has_closed_its_half_gets_the_terminate_and_a_fin(run: Runner) -> None:  # MPA-5044-8-10
    async def main() -> None:
        async with raw_initiator() as (raw, _):
            await raw.sends(fpdu(write().octets(0), crc=0))
            raw.writer.write_eof()
            assert (await raw.hears_fpdu()).payload == bytes.fromhex("20 02 00 00")
            await raw.hears_fin()

    run(main)


# --- startup ---------------------------------------------------------------------------------------------------------


def test_an_rdma_cm_identifier_asks_for_crc(run: Runner) -> None:  # MPA-5044-1.2-02, MPA-5044-4.4-03, -04
    """As Initiator, and as Responder though the Request asks for none; a device can say otherwise."""

    async def main() -> None:
        async with raw_listener() as listener, rdmacm.CmId() as one:
            await one.resolve_addr(HOST, listener.port)
            await one.resolve_route()
            one.create_qp()
            connecting = asyncio.ensure_future(one.connect())
            raw = await listener.accepted
            assert (await raw.hears(24))[16] & 0x40
            await raw.closes()
            with pytest.raises(ConnectionLost):
                await connecting
        async with rdmacm.CmId() as listening:
            listening.bind_addr(HOST)
            await listening.listen()
            assert listening.local_addr is not None
            raw = Raw(*await asyncio.open_connection(*listening.local_addr))
            await raw.sends(frame(REQUEST, flags=0))
            async with await listening.get_request() as other:
                other.create_qp()
                accepting = asyncio.ensure_future(other.accept())
                assert (await raw.hears(20))[16] & 0x40
                assert other.qp.stream.agreement.crc
                await raw.sends(fpdu(write().octets(0)))
                await accepting
                await raw.closes()

    run(main)


@pytest.mark.parametrize("octets", [0, 1, 19, 20, 25])
def test_a_request_that_stays_incomplete(run: Runner, octets: int) -> None:  # MPA-5044-7.1.2-22, -27, MPA-5044-7.1.2-03
    async def main() -> None:
        async with await listen(HOST, options=Options(timeout=0.1)) as listener:
            raw = Raw(*await asyncio.open_connection(HOST, listener.port))
            await raw.sends(frame(REQUEST, private_data=b"0123456789")[:octets])
            assert await raw.hears_the_end() == b""
            await raw.closes()

    run(main)


def test_a_listener_of_revision_1_hangs_up_on_revision_2(run: Runner) -> None:  # MPA2-6581-10-06
    async def main() -> None:
        async with await listen(HOST, options=Options(revision=1)) as listener:
            raw = Raw(*await asyncio.open_connection(HOST, listener.port))
            await raw.sends(frame(REQUEST, 0x50, 2, bytes(4)))
            assert await raw.hears_the_end() == b""
            await raw.closes()

    run(main)


@pytest.mark.parametrize("fall_back", [True, False])
def test_an_initiator_falls_back_to_revision_1(run: Runner, fall_back: bool) -> None:  # MPA2-6581-10-07
    async def main() -> None:
        async with await listen(HOST, options=Options(revision=1)) as listener:
            options = Options(fall_back=fall_back)
            dialing = asyncio.ensure_future(_connected(listener.port, options))
            if not fall_back:
                with pytest.raises(ConnectionLost):
                    await dialing
                return
            other = await (await anext(listener)).accept(b"welcome")
            one = await dialing
            assert (one.agreement.revision, one.private_data) == (1, b"welcome")
            await other.send(b"hello")
            assert await one.recv() == b"hello"
            await asyncio.gather(one.close(), other.close())

    run(main)


async def _connected(port: int, options: Options) -> pyiwarp.Connection:
    return await pyiwarp.connect(HOST, port, options=options)


@contextlib.asynccontextmanager
async def raw_listener() -> AsyncIterator[SimpleNamespace]:
    """A raw Responder's port; `accepted` gives its first connection."""
    accepted: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda r, w: accepted.set_result(Raw(r, w)), HOST, 0)
    try:
        yield SimpleNamespace(port=server.sockets[0].getsockname()[1], accepted=accepted)
    finally:
        server.close()


def test_an_initiator_waits_for_the_reply(run: Runner) -> None:  # MPA-5044-7.1.2-11, -12, -27
    async def main() -> None:
        async with raw_listener() as listener:
            dialing = asyncio.ensure_future(_connected(listener.port, RAW))
            raw = await listener.accepted
            assert await raw.hears(20) == frame(REQUEST)
            await raw.hears_nothing()
            assert not dialing.done()
            await raw.sends(frame(REPLY))
            connection = await dialing
            await connection.send(b"x")
            assert [(await raw.hears_fpdu()).opcode for _ in range(2)] == [Opcode.WRITE, Opcode.SEND]
            await raw.closes()
            await connection.close()

    run(main)


def test_an_initiator_that_gets_no_reply_gives_up(run: Runner) -> None:  # MPA-5044-7.1.2-27
    async def main() -> None:
        async with raw_listener() as listener:
            with pytest.raises(StartupTimeout):
                await _connected(listener.port, Options(timeout=0.1))
            raw = await listener.accepted
            await raw.closes()

    run(main)


def test_a_startup_that_this_side_cannot_finish(run: Runner) -> None:  # MPA2-6581-9.3-02, MPA2-6581-8-01
    """The queue pair was closed while the Reply was on its way: the peer is told, and then TCP ends in order."""

    async def main() -> None:
        async with raw_listener() as listener:
            node = Node(linger=PATIENCE)
            dialing = asyncio.ensure_future(cm.connect(node.qp, HOST, listener.port, Offer()))
            raw = await listener.accepted
            await raw.hears(24)
            node.qp.close()
            await raw.sends(frame(REPLY, 0x50, 2, bytes.fromhex("00100010")))
            with pytest.raises(SetupFailed, match="queue pair is closed"):
                await dialing
            heard = await raw.hears_fpdu()
            assert heard.payload == bytes.fromhex("20 05 00 00")
            await raw.hears_fin()
            await raw.closes()

    run(main)
