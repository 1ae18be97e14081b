"""`pyiwarp explain`: demos, captures of all kinds, and files that are none."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import pyiwarp
from pyiwarp import Connection, Options
from pyiwarp.capture import Capture
from pyiwarp.cli import app
from pyiwarp.cli.perftest.exchange import Control, Record
from pyiwarp.cli.perftest.figures import Bandwidth
from pyiwarp.cli.rping.protocol import Pinger, answer_pings
from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.decode.units import FpduUnit
from pyiwarp.errors import UsageError
from pyiwarp.explain import story
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
    "files": "RDMA Read Response",
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
    told = json.loads(explained("--json", str(SIW)))
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


async def test_a_ping_is_told_as_rping(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"

    async def answer(conn: Connection) -> None:
        await answer_pings(conn, 10, lambda ping: None)

    with Capture(path) as capture:
        async with (
            await pyiwarp.serve(answer, "127.0.0.1") as server,
            pyiwarp.connect("127.0.0.1", server.port, options=Options(capture=capture)) as conn,
        ):
            for number in range(2):
                await Pinger(conn, 64, 10).ping(number, verify=True)
    above = [str(each.above) for each in told(path).messages if each.above]
    assert above[1] == "rping: the server Reads the text that was advertised"
    assert above[2].startswith("rping: the client's text: 'rdma-ping-0: ")
    assert above[5].startswith("rping: the text goes back: 'rdma-ping-0: ")
    assert len(above) == 2 * 7


async def test_the_control_connection_of_perftest_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    figures = Bandwidth(size=64, iterations=1000, peak=1.5, average=1.25, rate=2.0)

    async def speak(conn: Connection, *, client: bool) -> None:
        control = Control(conn, client=client)
        await control.agree()
        await control.exchange_record(Record(rkey=7, vaddr=0x1000))
        await control.report(figures if client else None)

    with Capture(path) as capture:
        async with (
            await pyiwarp.serve(partial(speak, client=False), "127.0.0.1") as server,
            pyiwarp.connect("127.0.0.1", server.port, options=Options(capture=capture)) as conn,
        ):
            await speak(conn, client=True)
    above = [str(each.above) for each in told(path).messages if each.above]
    assert above[0] == "perftest: version 6.06"
    assert "perftest: its memory is at STag 0x00000007, TO 0x1000" in above
    assert "perftest: a figure of the result: 1,000" in above
    assert "perftest: a figure of the result: 1.25" in above
    assert len(above) == 20


async def test_a_demo_leaves_a_capture_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    await play("write", path)
    assert sum(len(each.payload) for each in tcp_segments(path)) > 150


def record_of(name: str) -> Any:
    return json.loads(explained("--json", "--demo", name))


def test_a_write_is_placed_in_memory_that_was_advertised() -> None:
    told = record_of("write")
    (message,) = (each for each in told["messages"] if each["memory"])
    (placed,) = message["memory"]
    (region,) = told["regions"]
    assert (placed["side"], placed["nbytes"], placed["inside"]) == ("B", 53, True)
    assert bytes.fromhex(placed["octets"]).startswith(b"It was written")
    assert (region["known"], region["stag"]) == (True, placed["stag"])
    assert int(region["end"], 16) - int(region["begin"], 16) == 4096


def test_a_write_out_of_bounds_is_not_inside_and_ends_both_ends() -> None:
    told = record_of("terminate")
    (placed,) = (each for message in told["messages"] for each in message["memory"])
    assert placed["inside"] is False
    (after,) = (each["states"] for each in told["messages"] if each["text"].startswith("Terminate"))
    assert {side: state for side, (_, state) in after.items()} == {"A": "ERROR", "B": "TERMINATE"}


def test_a_read_reaches_memory_of_both_sides() -> None:
    told = record_of("read")
    (asked,) = (each for each in told["messages"] if each["text"].startswith("RDMA Read Request"))
    assert [(each["side"], each["nbytes"], each["does"]) for each in asked["memory"]] == [
        ("B", 32, "is to be read"),
        ("A", 32, "waits for what is read"),
    ]
    assert [region["known"] for region in told["regions"]] == [True, False]


def test_both_ends_step_through_startup() -> None:
    steps = [[each["states"][side][0] for side in "AB"] for each in record_of("startup")["messages"]]
    assert steps[:2] == [
        ["waits for the Reply", "has the Request"],
        ["Full Operation", "waits for the first FPDU"],
    ]
    assert ["Full Operation", "Full Operation"] in steps
    assert "sends no more" in steps[-1]


# --- the page --------------------------------------------------------------------------------------------------------


def data_of(page: str) -> Any:
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def test_a_page_has_everything_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert explained(str(SIW), "--html", str(path)) == ""
    page = path.read_text()
    assert not re.search(r"<[^>]+ (?:src|href)=|@import|url\(", page), "links are made by the script alone"
    data = data_of(page)
    assert data["conversations"] == [json.loads(line) for line in explained("--json", str(SIW)).splitlines()]
    assert all(place.startswith("pyiwarp/") for places in data["homes"].values() for place in places)
    assert len(data["homes"]) > 5
    assert data["clauses"]["MPA-5044-7.1.1-01"].startswith("RFC 5044 §7.1.1 (MUST): Request Key is")
    assert "{{" not in page


def test_octets_of_a_peer_cannot_end_the_script(tmp_path: Path) -> None:
    evil = b"</script><script>alert(1)</script>"
    segments_ = [
        each._replace(payload=each.payload.replace(b"MPA ID Req Frame", evil[:16])) if each.payload else each
        for each in segments()
    ]
    path, page = written(tmp_path / "<b>c.pcap", 101, segments_), tmp_path / "page.html"
    explained(str(path), "--html", str(page))
    assert "<script>alert" not in page.read_text()
    assert "<b>c.pcap" not in page.read_text()
    assert data_of(page.read_text())


def test_the_name_of_a_file_may_have_any_octets(tmp_path: Path) -> None:
    name = b"{{data}}\xff<i>\x1b[31m.pcapng"
    path = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    path.write_bytes(SIW.read_bytes()[:-20])
    page = tmp_path / "page.html"
    result = runner.invoke(app, ["explain", str(path), "--html", str(page)])
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "ends inside a packet" in result.output
    text = page.read_text()
    assert "{{data}}\\udcff&lt;i&gt;" in text
    assert len(data_of(text)["conversations"]) == 1


def test_no_page_is_written_of_nothing(tmp_path: Path) -> None:
    path, page = written(tmp_path / "c.pcap", 101, []), tmp_path / "page.html"
    assert runner.invoke(app, ["explain", str(path), "--html", str(page)]).exit_code == 1
    assert not page.exists()


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    result = runner.invoke(app, ["explain", str(SIW), "--html", str(tmp_path / "no" / "page.html")])
    assert result.exit_code == 1
    assert "No such file or directory" in result.output


def test_a_page_replaces_a_page_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for _ in range(2):
        explained(str(SIW), "--html", str(path))
    path.write_bytes(b"something of mine")
    result = runner.invoke(app, ["explain", str(SIW), "--html", str(path)])
    assert result.exit_code == 1
    assert "--force replaces it" in re.sub(r"\s+", " ", result.output)
    assert path.read_bytes() == b"something of mine"
    explained(str(SIW), "--html", str(path), "--force")
    assert data_of(path.read_text())["conversations"]


def test_of_a_long_message_the_ends_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with Capture(path) as capture:
        flow = capture.flow(initiator=True)
        flow.opened(("127.0.0.1", 1), ("127.0.0.1", 2))
        flow.sent([b"MPA ID Req Frame\x40\x01\x00\x00"])
        flow.received(b"MPA ID Rep Frame\x40\x01\x00\x00")
        framer = Framer()
        for number in range(40):
            flow.sent([framer.frame(build_tagged(0, 7, number * 100, bytes(100), last=number == 39))])
    shown = explained("-v", str(path))
    assert "RDMA Write STag=0x00000007 TO=0x0 [4000 octets in 40 segments] L" in re.sub(r"\s+", " ", shown)
    assert "... 32 FPDUs more" in shown
    assert "FPDUs more" not in explained("-vv", str(path))


# --- long captures, and captures that are to do harm -----------------------------------------------------------------

A, B = ("10.0.0.1", 1), ("10.0.0.2", 2)
REQUEST = b"MPA ID Req Frame\x40\x01\x00\x00"
REPLY = b"MPA ID Rep Frame\x40\x01\x00\x00"


class Wire:
    """TCP segments between two addresses, each behind what that side has sent."""

    def __init__(self) -> None:
        self.segments: list[TcpSegment] = []
        self.seqs = {A: 1_000, B: 9_000}

    def put(self, source: tuple[str, int], payload: bytes = b"", **flags: bool) -> None:
        target = B if source == A else A
        each = {"syn": False, "fin": False, "rst": False, **flags}
        seconds = 1.0 + len(self.segments) / 1000
        self.segments.append(TcpSegment(seconds, source, target, self.seqs[source], payload=payload, **each))
        self.seqs[source] += len(payload) + each["syn"]

    def startup(self, request: bytes = REQUEST, reply: bytes = REPLY) -> None:
        self.put(A, syn=True)
        self.put(B, syn=True)
        self.put(A, request)
        self.put(B, reply)

    def read(self, path: Path, keep: int | None = 8) -> list[Conversation]:
        return read_capture(written(path / "c.pcap", 101, self.segments), keep=keep)[0]


def sends(count: int, *, first: int = 1, crc_mask: int = 0) -> list[bytes]:
    framer = Framer()
    return [
        framer.frame(build_untagged(Opcode.SEND, 0, number, bytes(20)), crc_mask=crc_mask)
        for number in range(first, first + count)
    ]


def test_of_a_long_connection_both_ends_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "ENDS", 10)
    wire = Wire()
    wire.startup()
    for octets in [*sends(40), *sends(1, first=41, crc_mask=1), *sends(60, first=42)]:
        wire.put(A, octets)
    wire.put(A, bytes(8_000))  # FPDUs without a ULPDU, their CRCs wrong
    (conversation,) = wire.read(tmp_path)
    assert len(conversation.messages) == 20
    assert (conversation.left_out, conversation.left_out_wrong) == (2 + 101 + 1_000 - 20, 1 + 1_000 - 10)
    told = explained(str(tmp_path / "c.pcap")).splitlines()
    at = next(number for number, line in enumerate(told) if line.startswith("... "))
    assert told[at] == "... 1,083 messages more, something is wrong in 991 of them"
    assert "MSN=8 " in told[at - 1]
    assert json.loads(explained("--json", str(tmp_path / "c.pcap")))["left_out_at"] == 10
    assert len(wire.read(tmp_path, keep=None)[0].messages) == 2 + 101 + 1_000


def test_messages_that_hold_much_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "ENDS_OCTETS", 10_000)
    framer, wire = Framer(), Wire()
    wire.startup()
    for number in range(300):
        wire.put(A, framer.frame(build_tagged(0, 7, number, bytes(1_000))))
    (conversation,) = wire.read(tmp_path)
    assert sum(len(unit.octets) for each in conversation.messages for unit in each.units) < 22_000
    assert len(conversation.messages) + conversation.left_out == 302


def test_what_is_wrong_with_a_message_without_end_is_not_all_kept(tmp_path: Path) -> None:
    framer, wire = Framer(), Wire()
    wire.startup()
    for number in range(100):
        wire.put(A, framer.frame(build_tagged(0, 7, number, b"x", last=False), crc_mask=1))
    message = wire.read(tmp_path)[0].messages[-1]
    assert len(message.wrong) == 9
    assert message.wrong[-1] == "and more in its other FPDUs"
    assert message.left_out == 92


@pytest.mark.parametrize("syn", [False, True])
def test_a_long_stream_of_something_else_is_not_told(tmp_path: Path, syn: bool) -> None:
    wire, dice = Wire(), random.Random(1)
    if syn:
        wire.put(A, syn=True)
        wire.put(B, syn=True)
    wire.put(A, b"\x16\x03\x01\x00\xf0 hello, who are you")
    for _ in range(400):
        wire.put(B, dice.randbytes(1_000))
    assert wire.read(tmp_path) == []


def test_a_fin_that_is_sent_again_is_told_once_and_the_next_syn_is_another_connection(tmp_path: Path) -> None:
    wire = Wire()
    wire.startup()
    for side in (A, A, B, A, B):
        wire.put(side, fin=True)
    wire.seqs = {A: 500_000_000, B: 700_000_000}
    wire.startup()
    first, second = wire.read(tmp_path)
    assert [each.text.partition(":")[0] for each in first.messages[2:]] == ["TCP FIN", "TCP FIN"]
    assert len(second.messages) == 2


@pytest.mark.parametrize("length", [0, 7, 0x4000_0000, 0xFFFF_FFFC])
def test_a_block_that_claims_to_be_huge_takes_no_memory(tmp_path: Path, length: int) -> None:
    path = tmp_path / "c.pcapng"
    whole = SIW.read_bytes()
    path.write_bytes(whole + struct.pack("<II", 6, length) + whole)
    tracemalloc.start()
    try:
        conversations, said = read_capture(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert len(conversations) == 1
    assert said.endswith("ends inside a packet")


def test_of_very_many_connections_the_first_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "CONNECTIONS", 3)
    wire = Wire()
    for _ in range(5):
        wire.startup()
        wire.put(A, rst=True)
    conversations, said = read_capture(written(tmp_path / "c.pcap", 101, wire.segments))
    assert len(conversations) == 3
    assert said == "only the first 3 connections are told"


def test_causes_are_those_of_the_rfcs(tmp_path: Path) -> None:
    word = b"\x80\x10\x40\x10"
    enhanced = [b"MPA ID %s Frame\x50\x02\x00\x04%s" % (name, word) for name in (b"Req", b"Rep")]
    framer, wire = Framer(), Wire()
    wire.startup(*enhanced)
    for number, sink_to in enumerate((0, 64, 128)):
        wire.put(
            A, framer.frame(build_untagged(Opcode.READ_REQUEST, 1, number + 1, build_read_request(5, sink_to, 0, 6, 0)))
        )
    for sink_to in (0, 64, 128):
        wire.put(B, framer.frame(build_tagged(Opcode.READ_RESPONSE, 5, sink_to)))
    wire.put(B, framer.frame(build_tagged(Opcode.READ_RESPONSE, 5, 128)))
    causes = [each.cause for each in wire.read(tmp_path)[0].messages]
    assert causes[2:5] == ["says that this side is ready: the other one may send now (RFC 6581 §9.2)", "", ""]
    assert causes[5:] == [*(f"answers the Read Request with MSN {msn} (RFC 5040 §5.2.2)" for msn in (1, 2, 3)), ""]


def test_without_peer_to_peer_a_message_of_no_octets_opens_nothing(tmp_path: Path) -> None:
    wire = Wire()
    wire.startup(reply=REPLY[:16] + b"\x60" + REPLY[17:])
    wire.put(A, Framer().frame(build_untagged(Opcode.SEND, 0, 1, b"")))
    causes = [each.cause for each in wire.read(tmp_path)[0].messages]
    assert causes[1:] == ["rejects the Request: no FPDUs follow (RFC 5044 §7.1.1)", ""]
