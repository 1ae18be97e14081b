"""`pyiwarp explain`: demos, captures of all kinds, and files that are none."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dpkt  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pyiwarp.cli import app
from pyiwarp.decode.units import FpduUnit
from pyiwarp.errors import UsageError
from pyiwarp.explain.demos import DEMOS, play
from pyiwarp.explain.packets import TcpSegment, tcp_segments
from pyiwarp.explain.story import Conversation, read_capture

runner = CliRunner(env={"COLUMNS": "80"})
SIW = Path(__file__).parents[2] / "interop" / "captures" / "error-we-read-bounds-siw-pyiwarp-connects.pcapng"
SHOWN = {
    "startup": "answers the Request",
    "send": "Send QN=0 MSN=1 MO=0 [5 octets]",
    "write": "Send QN=0 MSN=1 MO=0 [11 octets]",
    "read": "answers the Read Request with MSN 1",
    "terminate": "refuses a segment of RDMA Write",
    "atomic": "answers Atomic Request 1",
    "markers": "[2048",
}


def explained(*words: str) -> str:
    result = runner.invoke(app, ["explain", *words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_shows_what_it_says(name: str) -> None:
    shown = explained("--demo", name)
    assert SHOWN[name] in shown
    assert "!!" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert ("markers A to B and B to A" in shown) is (name == "markers")


@pytest.mark.parametrize("detail", ["-v", "-vv"])
def test_fields_and_octets_are_shown_on_request(detail: str) -> None:
    shown = explained(detail, "--demo", "write")
    assert max(map(len, shown.splitlines())) <= 80
    assert "Opcode = 0x0: RDMA Write" in shown
    assert "Payload: 53 octets" in shown
    assert (b"It was written b".hex(" ") in shown) is (detail == "-vv")


def test_as_data_each_octet_is_there() -> None:
    (told,) = json.loads(explained("--json", str(SIW)))
    assert [end["port"] for end in told["ends"]][1] > 0
    units = [unit for message in told["messages"] if message["from"] == "A" for unit in message["units"]]
    covered = sorted(at for unit in units for field in unit["fields"] for span in field["spans"] for at in range(*span))
    assert covered == list(range(len(covered)))
    terminate = next(message for message in told["messages"] if message["text"].startswith("Terminate"))
    assert terminate["cause"] == "refuses a segment of RDMA Read Request (RFC 5040 §4.8)"


# --- captures of others ----------------------------------------------------------------------------------------------


def segments() -> list[TcpSegment]:
    return list(tcp_segments(SIW))


def packet(segment: TcpSegment) -> Any:
    flags = segment.syn * dpkt.tcp.TH_SYN | segment.fin * dpkt.tcp.TH_FIN | segment.rst * dpkt.tcp.TH_RST
    tcp = dpkt.tcp.TCP(
        sport=segment.source[1], dport=segment.target[1], seq=segment.seq, flags=flags, data=segment.payload
    )
    source, target = (ip_address(host).packed for host, _ in (segment.source, segment.target))
    ip = dpkt.ip.IP(src=source, dst=target, p=dpkt.ip.IP_PROTO_TCP, data=tcp)
    ip.len = len(ip)
    return ip


WRAPPINGS: dict[int, Callable[[Any], bytes]] = {
    1: lambda ip: bytes(dpkt.ethernet.Ethernet(data=ip)),
    101: bytes,
    0: lambda ip: struct.pack("=I", 2) + bytes(ip),
    113: lambda ip: bytes(12) + b"\0\0" + b"\x08\x00" + bytes(ip),
}


def written(path: Path, link: int, packets: Iterator[TcpSegment] | list[TcpSegment]) -> Path:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=link)
        for segment in packets:
            writer.writepkt(WRAPPINGS[link](packet(segment)), ts=segment.seconds)
    return path


def told(path: Path) -> Conversation:
    (conversation,), _ = read_capture(path)
    return conversation


@pytest.mark.parametrize("link", WRAPPINGS)
def test_a_pcap_of_tcpdump_tells_the_same(tmp_path: Path, link: int) -> None:
    path = written(tmp_path / "c.pcap", link, segments())
    assert [each.text for each in told(path).messages] == [each.text for each in told(SIW).messages]


def test_a_capture_that_began_late_is_told_from_where_it_can_be(tmp_path: Path) -> None:
    late = [each for each in segments() if each.payload][2:]
    conversation = told(written(tmp_path / "c.pcap", 101, late))
    assert conversation.joined
    assert "not captured" in conversation.agreed
    texts = [each.text for each in told(SIW).messages if each.units][2:]
    assert [each.text for each in conversation.messages if each.units and "before the first" not in each.text] == texts


def test_packets_that_are_missing_are_named(tmp_path: Path) -> None:
    whole = segments()
    lost = [each for each in whole if each.payload][2]
    conversation = told(written(tmp_path / "c.pcap", 101, [each for each in whole if each is not lost]))
    assert f"{len(lost.payload)} octets were not captured" in [each.text for each in conversation.messages]
    assert any(isinstance(unit, FpduUnit) for each in conversation.messages[3:] for unit in each.units)


def test_a_file_that_ends_inside_a_packet_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(SIW.read_bytes()[:-20])
    conversations, said = read_capture(path)
    assert len(conversations) == 1
    assert said.endswith("cut.pcapng ends inside a packet")


@pytest.mark.parametrize("octets", [b"", b"no capture", bytes(100)])
def test_a_file_that_is_no_capture_is_said_to_be_none(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(octets)
    result = runner.invoke(app, ["explain", str(path)])
    assert result.exit_code == 1
    assert "is no capture" in result.output


def test_a_link_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.pcap"
    path.write_bytes(struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147))
    result = runner.invoke(app, ["explain", str(path)])
    assert "link type 147" in result.output


def test_connections_without_mpa_are_not_told(tmp_path: Path) -> None:
    http = [each._replace(payload=b"GET / HTTP/1.1\r\n\r\n" if each.payload else b"") for each in segments()]
    result = runner.invoke(app, ["explain", str(written(tmp_path / "c.pcap", 101, http))])
    assert result.exit_code == 1
    assert "no connection in it carries MPA" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name either a capture or a demo"),
        (["--demo", "nothing"], "there are startup, send, write"),
        ([str(SIW), "--demo", "write"], "name either"),
        (["/no/such/file"], "No such file"),
    ],
)
def test_what_cannot_be_told_is_said(words: list[str], said: str) -> None:
    result = runner.invoke(app, ["explain", *words])
    assert result.exit_code == 1
    assert said in re.sub(r"\s+", " ", result.output)


@given(st.data())
def test_damaged_captures_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    octets = bytearray(SIW.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "c.pcapng"
    path.write_bytes(octets[: data.draw(st.integers(0, len(octets)))])
    try:
        conversations, _ = read_capture(path)
    except UsageError:
        return
    for conversation in conversations:
        assert all(message.text for message in conversation.messages)


async def test_a_demo_leaves_a_capture_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    await play("write", path)
    assert sum(len(each.payload) for each in tcp_segments(path)) > 150
