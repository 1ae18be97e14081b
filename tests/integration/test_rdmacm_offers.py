"""What rdma_cm's form offers and asks for when the program says nothing, read from the octets of its startup frames."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import NamedTuple

import pytest

from pyiwarp import blocking, blockingcm, rdmacm
from pyiwarp.blockingcm import CmEventType
from pyiwarp.devices import device_named
from pyiwarp.verbs import Context, QpCap
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

PLAIN_REQUEST = b"MPA ID Req Frame" + bytes((0, 1, 0, 0))  # neither markers nor CRC asked for, revision 1
HEADER = 20
CAP = QpCap(max_send_wr=8, max_recv_wr=8, max_sge=1, max_inline=0)


class Frame(NamedTuple):
    """A startup frame, taken apart by the figure of RFC 5044 §7.1.1 and not by the engine's definitions."""

    key: bytes
    markers: bool
    crc: bool
    rejected: bool
    revision: int
    private_data: bytes

    @classmethod
    def of(cls, octets: bytes) -> Frame:
        key, flags, revision, length = struct.unpack_from(">16sBBH", octets)
        return cls(key, bool(flags & 0x80), bool(flags & 0x40), bool(flags & 0x20), revision, octets[HEADER:][:length])

    @property
    def depths(self) -> tuple[int, int]:
        """IRD and ORD of RFC 6581's word."""
        ird, order = struct.unpack_from(">HH", self.private_data)
        return ird & 0x3FFF, order & 0x3FFF


async def frame_from(sock: socket.socket) -> Frame:
    octets = b""
    while len(octets) < HEADER or len(octets) < HEADER + struct.unpack_from(">H", octets, 18)[0]:
        octets += await asyncio.get_running_loop().sock_recv(sock, 4096)
    return Frame.of(octets)


def polled_frame_from(sock: socket.socket) -> Frame:
    """The same, while the sockets of this thread make progress."""
    octets = bytearray()
    sock.setblocking(False)

    def whole() -> bool:
        try:
            octets.extend(sock.recv(4096))
        except BlockingIOError:
            return False
        return len(octets) >= HEADER and len(octets) == HEADER + int.from_bytes(octets[18:20], "big")

    assert blocking.wait_until(whole, PATIENCE)
    return Frame.of(bytes(octets))


def check_request(frame: Frame, context: Context) -> None:
    device = context.device
    assert frame.key == b"MPA ID Req Frame"
    assert frame.crc is (device.crc is not False)  # MPA-5044-7.1.1-07: CRC unless the device never uses it
    assert frame.markers is device.markers
    assert not frame.rejected
    assert frame.revision == device.revision
    if device.revision > 1:
        assert frame.depths == (device.max_ird, device.max_ord)


DEVICES = [Context(), *(Context(device_named(name)) for name in ("siw", "rnic-v1", "minimal"))]


@pytest.mark.parametrize("context", DEVICES, ids=lambda context: context.device.name)
def test_the_request_asks_for_crc(run: Runner, context: Context) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as server:
            server.setblocking(False)
            async with rdmacm.CmId(context=context) as one:
                await one.resolve_addr(HOST, server.getsockname()[1])
                await one.resolve_route()
                one.create_qp(cap=CAP)
                one.connect()
                peer, _ = await asyncio.get_running_loop().sock_accept(server)
                with peer:
                    peer.setblocking(False)
                    check_request(await frame_from(peer), context)

    run(main)


@pytest.mark.parametrize("context", DEVICES, ids=lambda context: context.device.name)
def test_the_request_of_a_script_asks_for_crc(context: Context) -> None:
    with (
        nothing_left(),
        socket.create_server((HOST, 0)) as server,
        blockingcm.CmId(blockingcm.EventChannel(), context=context) as one,
    ):
        one.resolve_addr(HOST, server.getsockname()[1])
        one.resolve_route()
        one.create_qp(cap=CAP)
        one.connect()
        server.settimeout(PATIENCE)
        peer, _ = server.accept()
        with peer:
            check_request(polled_frame_from(peer), context)


def test_the_reply_asks_for_crc_of_a_peer_that_does_not(run: Runner) -> None:  # MPA-5044-7.1.1-08
    async def main() -> None:
        async with rdmacm.CmId() as listener:
            listener.bind_addr(HOST)
            await listener.listen()
            assert listener.local_addr is not None
            with socket.create_connection((HOST, listener.local_addr[1]), PATIENCE) as peer:
                peer.sendall(PLAIN_REQUEST)
                peer.setblocking(False)
                async with await listener.get_request() as other:
                    other.create_qp()
                    assert (await other.accept()).type is CmEventType.ESTABLISHED
                    frame = await frame_from(peer)
                    assert (frame.key, frame.revision) == (b"MPA ID Rep Frame", 1)
                    assert frame.crc
                    assert not frame.markers
                    assert not frame.rejected
                    assert other.agreement.crc

    run(main)


def test_the_reply_of_a_script_asks_for_crc_of_a_peer_that_does_not() -> None:  # MPA-5044-7.1.1-08
    with nothing_left(), blockingcm.CmId() as listener:
        listener.bind_addr(HOST)
        listener.listen()
        assert listener.local_addr is not None
        with socket.create_connection((HOST, listener.local_addr[1]), PATIENCE) as peer:
            peer.sendall(PLAIN_REQUEST)
            with listener.get_request(timeout=PATIENCE) as other:
                other.create_qp()
                event = other.accept()
                assert event is not None
                assert event.type is CmEventType.ESTABLISHED
                frame = polled_frame_from(peer)
                assert (frame.key, frame.revision) == (b"MPA ID Rep Frame", 1)
                assert frame.crc
                assert not frame.markers
                assert not frame.rejected
                assert other.agreement.crc
