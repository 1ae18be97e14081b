"""Wireshark's own dissector reads a capture of a revision 1 session: MPA frames, good CRCs, RDMAP opcodes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Access, Options, RemoteRegion
from pyiwarp.capture import Capture
from pyiwarp.cli.perf import PORT as PERFTEST_PORT
from pyiwarp.cli.rping.limits import PORT as RPING_PORT
from pyiwarp.codes import Opcode
from pyiwarp.errors import TerminatedByPeer
from pyiwarp.files import DEFAULT_PORT
from tests.children import finished
from tests.patience import PATIENCE

TSHARK = shutil.which("tshark")

pytestmark = pytest.mark.skipif(
    TSHARK is None and not os.environ.get("CI"), reason="tshark (Debian's package of that name) is not installed"
)


async def session(file: Path) -> None:
    """Send, Write, Read, and at last a Write to an STag that is none."""

    async def lend(conn: pyiwarp.Connection) -> None:
        async with conn.register(
            bytearray(100_000), Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
        ) as r:
            await conn.send(r.advertise())
            async for message in conn:
                await conn.send(message, solicited=True)

    with Capture(file) as capture:
        options = Options(revision=1, capture=capture, mulpdu=8192)
        async with (
            await pyiwarp.serve(lend, "127.0.0.1") as server,
            pyiwarp.connect("127.0.0.1", server.port, private_data=b"hello", options=options) as conn,
        ):
            remote = RemoteRegion.parse(await conn.recv())
            async with conn.register(bytearray(50_001)) as local:
                await conn.write(local[:], remote)
                await conn.read(local[:1000], remote.at(3))
            await conn.send(b"\0" * 40)
            await conn.recv()
            await conn.write(b"x", replace(remote, stag=remote.stag ^ 0xFF00))
            with pytest.raises(TerminatedByPeer):
                await conn.recv()


@pytest.fixture(scope="module")
def capture_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tshark") / "session.pcapng"
    asyncio.run(asyncio.wait_for(session(file), PATIENCE))
    return file


def tshark(file: Path, *options: str) -> str:
    """What tshark prints of a capture; its guess that Sends carry RPC is turned off."""
    assert TSHARK is not None, "in CI tshark is installed before the tests run"
    command = [TSHARK, "-r", str(file), "--disable-protocol", "rpcordma", *options]
    done = finished(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packets(capture_file: Path) -> list[dict[str, Any]]:
    """The capture as tshark understands it, one dict of layers a packet."""
    parsed = json.loads(tshark(capture_file, "-T", "json", "--no-duplicate-keys"))
    return [packet["_source"]["layers"] for packet in parsed]


def everything(packets: list[dict[str, Any]], name: str) -> list[str]:
    """Every value of the field `name`, wherever it stands."""
    found: list[str] = []

    def look(node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == name:
                    found.extend(value if isinstance(value, list) else [value])
                else:
                    look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(packets)
    return found


def test_startup_frames(packets: list[dict[str, Any]]) -> None:
    assert everything(packets, "iwarp_mpa.rev") == ["1", "1"]  # MPA-5044-7.1.1-16
    assert everything(packets, "iwarp_mpa.pdlength") == ["5", "0"]
    assert len(everything(packets, "iwarp_mpa.req")) == len(everything(packets, "iwarp_mpa.rep")) == 1


def test_every_fpdu_is_found_and_its_crc_is_good(packets: list[dict[str, Any]], capture_file: Path) -> None:
    lengths = everything(packets, "iwarp_mpa.ulpdulength")
    assert len(lengths) == len(everything(packets, "iwarp_rdma.opcode")) > 10
    details = tshark(capture_file, "-V")
    assert details.count("(Good CRC32)") == len(lengths)  # MPA-5044-4.4-12
    assert "Bad CRC32" not in details


def test_opcodes(packets: list[dict[str, Any]]) -> None:
    opcodes = {int(value, 0) for value in everything(packets, "iwarp_rdma.opcode")}
    expected = {Opcode.WRITE, Opcode.READ_REQUEST, Opcode.READ_RESPONSE, Opcode.SEND, Opcode.SEND_SE, Opcode.TERMINATE}
    assert opcodes == {int(opcode) for opcode in expected}  # RDMAP-5040-4.1-05


def test_the_terminate_says_why(packets: list[dict[str, Any]]) -> None:
    assert everything(packets, "iwarp_rdma.term_layer") == ["0x01"]
    assert everything(packets, "iwarp_rdma.term_etype_ddp") == ["0x01"]
    assert everything(packets, "iwarp_rdma.term_errcode_ddp_tagged") == ["0x00"]


def test_nothing_is_malformed(packets: list[dict[str, Any]]) -> None:
    assert "Malformed" not in json.dumps(packets)


def test_no_dissector_claims_a_port_of_ours() -> None:
    """Wireshark asks its heuristic dissectors, MPA among them, only where no dissector is registered for the port."""
    assert TSHARK is not None
    done = finished([TSHARK, "-G", "decodes"])
    assert done.returncode == 0, done.stderr
    claimed = {int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("tcp.port\t")}
    assert 4420 in claimed, "NVMe/TCP: the list is what it is taken for"
    assert not claimed & {DEFAULT_PORT, RPING_PORT, PERFTEST_PORT}
