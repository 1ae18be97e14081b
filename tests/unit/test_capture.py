"""Captures octet by octet: the IP and TCP headers, sequence numbers that wrap, stamps of 64 bits, and early ends."""

from __future__ import annotations

import errno
import io
import ipaddress
import os
import resource
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceDescription

from pyiwarp.capture import SEGMENT, Capture, Flow

Ends = tuple[tuple[str, int], tuple[str, int]]
V4 = (("192.0.2.1", 40_000), ("198.51.100.7", 4420))
V6 = (("2001:db8::1", 40_000), ("2001:db8::2%eth0", 4420))
SYN, SYN_ACK, PUSH_ACK, FIN_ACK = 0x02, 0x12, 0x18, 0x11
RAW_IP = 101


class Packet(NamedTuple):
    """One packet as it stands in the file."""

    source: tuple[str, int]
    target: tuple[str, int]
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes


def blocks(path: Path) -> list[EnhancedPacket]:
    with path.open("rb") as file:
        return [block for block in FileScanner(file) if isinstance(block, EnhancedPacket)]


def packet(octets: bytes) -> Packet:
    """Taken apart after RFC 791, RFC 8200 and RFC 9293."""
    if octets[0] >> 4 == 4:
        assert octets[0] == 0x45
        (length,) = struct.unpack_from(">H", octets, 2)
        assert length == len(octets)
        assert (octets[8], octets[9]) == (64, 6)
        source, target, tcp = octets[12:16], octets[16:20], octets[20:]
    else:
        assert octets[:4] == b"\x60\0\0\0"
        (length,) = struct.unpack_from(">H", octets, 4)
        assert length == len(octets) - 40
        assert (octets[6], octets[7]) == (6, 64)
        source, target, tcp = octets[8:24], octets[24:40], octets[40:]
    source_port, target_port, sequence, acknowledged, offset, flags, window = struct.unpack_from(">HHIIBBH", tcp)
    assert (offset, window) == (5 << 4, 0xFFFF)
    assert tcp[16:20] == bytes(4)  # no checksum, no urgent pointer
    here = (str(ipaddress.ip_address(source)), source_port)
    there = (str(ipaddress.ip_address(target)), target_port)
    return Packet(here, there, sequence, acknowledged, flags, tcp[20:])


def packets(path: Path) -> list[Packet]:
    return [packet(block.packet_data) for block in blocks(path)]


@pytest.mark.parametrize("ends", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("initiator", [True, False])
def test_a_connection_from_its_handshake_to_its_end(tmp_path: Path, ends: Ends, initiator: bool) -> None:
    here, there = ((host.partition("%")[0], port) for host, port in ends)
    with Capture(tmp_path / "c.pcapng") as capture:
        flow = capture.flow(initiator=initiator)
        flow.opened(*ends)
        flow.sent([b"one", memoryview(b"two")])
        flow.received(bytearray(b"answer"))
        flow.sent([b"!"])
        flow.closed()
        assert capture.packets == 6
    opener, other = (here, there) if initiator else (there, here)
    assert packets(tmp_path / "c.pcapng") == [
        Packet(opener, other, 0, 0, SYN, b""),
        Packet(other, opener, 0, 1, SYN_ACK, b""),
        Packet(here, there, 1, 1, PUSH_ACK, b"onetwo"),
        Packet(there, here, 1, 7, PUSH_ACK, b"answer"),
        Packet(here, there, 7, 7, PUSH_ACK, b"!"),
        Packet(here, there, 8, 7, FIN_ACK, b""),
    ]


def test_a_comment_is_that_of_the_next_packet_alone(tmp_path: Path) -> None:
    with Capture(tmp_path / "c.pcapng") as capture:
        capture.write(b"E")
        capture.comment("here")
        capture.write(b"E")
        capture.write(b"E")
    comments = [block.options.get("opt_comment") for block in blocks(tmp_path / "c.pcapng")]
    assert comments == [None, "here", None]


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    with Capture(tmp_path / "c.pcapng"):
        pass
    with (tmp_path / "c.pcapng").open("rb") as file:
        (interface,) = (block for block in FileScanner(file) if isinstance(block, InterfaceDescription))
    assert interface.link_type == RAW_IP
    assert interface.section.options["shb_userappl"] == "pyiwarp"


def test_each_packet_is_stamped_with_the_present_time(tmp_path: Path) -> None:
    before = time.time()
    with Capture(tmp_path / "c.pcapng") as capture:
        flow = capture.flow(initiator=True)
        flow.opened(*V4)
    after = time.time()
    for block in blocks(tmp_path / "c.pcapng"):
        assert before - 0.001 <= block.timestamp <= after + 0.001
        assert block.timestamp_high > 0, "microseconds since 1970 take more than 32 bits"


def test_stamps_have_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    microseconds = (0x0006_5432 << 32) | 0xFFFF_FFFE
    moments = iter(range(microseconds, microseconds + 4))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments) * 1000)
    with Capture(tmp_path / "c.pcapng") as capture:
        flow = capture.flow(initiator=True)
        flow.opened(*V4)
        flow.sent([b"over the edge"])
    halves = [(block.timestamp_high, block.timestamp_low) for block in blocks(tmp_path / "c.pcapng")]
    assert halves == [(0x6_5432, 0xFFFF_FFFE), (0x6_5432, 0xFFFF_FFFF), (0x6_5433, 0)]


def test_large_writes_are_several_packets(tmp_path: Path) -> None:
    octets = bytes(range(256)) * (SEGMENT // 128)
    with Capture(tmp_path / "c.pcapng") as capture:
        flow = capture.flow(initiator=True)
        flow.opened(*V4)
        flow.sent([octets])
        flow.received(b"ok")
    found = packets(tmp_path / "c.pcapng")[2:]
    assert b"".join(each.payload for each in found[:-1]) == octets
    assert [each.sequence for each in found[:-1]] == list(range(1, len(octets) + 1, SEGMENT))
    assert max(len(each.payload) for each in found) == SEGMENT
    assert found[-1].acknowledged == len(octets) + 1


class Counted(Capture):
    """Keeps the headers of packets and not their payload: gigabytes are not written."""

    def __init__(self) -> None:
        self.seen: list[Packet] = []
        self.last = b""

    def write(self, packet_data: bytes) -> None:
        self.last = packet_data


def test_sequence_numbers_wrap_behind_four_gibibytes() -> None:  # RFC 9293 §3.4
    capture = Counted()
    flow = Flow(capture, initiator=True)
    flow.opened(*V4)
    piece = bytes(64 << 20)  # sent as itself, again and again
    ours = 0
    while ours < 1 << 32:
        flow.sent([piece])
        ours += len(piece)
    flow.sent([b"mine"])
    assert packet(capture.last)[2:] == ((1 + ours) & 0xFFFF_FFFF, 1, PUSH_ACK, b"mine")
    flow.received(b"yours")
    assert packet(capture.last)[2:] == (1, (5 + ours) & 0xFFFF_FFFF, PUSH_ACK, b"yours")
    flow.closed()
    assert packet(capture.last)[2:] == ((5 + ours) & 0xFFFF_FFFF, 6, FIN_ACK, b"")


def test_a_capture_that_is_closed_early_is_whole(tmp_path: Path) -> None:
    """A connection may outlive its capture: what comes later is not written, and does no harm."""
    path = tmp_path / "c.pcapng"
    capture = Capture(path)
    flow, other = capture.flow(initiator=True), capture.flow(initiator=False)
    flow.opened(*V4)
    flow.sent([b"taken down"])
    capture.close()
    size = path.stat().st_size
    flow.sent([b"not taken down"])
    flow.received(b"neither")
    flow.closed()
    other.opened(*V4)
    capture.close()
    assert path.stat().st_size == size
    assert capture.packets == 3
    assert [each.payload for each in packets(path)] == [b"", b"", b"taken down"]


def test_an_error_closes_the_capture(tmp_path: Path) -> None:
    def broken() -> None:
        with Capture(tmp_path / "c.pcapng") as capture:
            capture.flow(initiator=True).opened(*V4)
            raise ValueError("the program's")

    with pytest.raises(ValueError, match="program's"):
        broken()
    assert len(packets(tmp_path / "c.pcapng")) == 2


def test_a_flow_that_was_never_opened_writes_nothing(tmp_path: Path) -> None:
    with Capture(tmp_path / "c.pcapng") as capture:
        flow = capture.flow(initiator=True)
        flow.sent([b"early"])
        flow.received(b"early")
        flow.closed()
        assert capture.packets == 0
    assert packets(tmp_path / "c.pcapng") == []


# --- a bystander -----------------------------------------------------------------------------------------------------


def test_a_pipe_that_does_not_wait_does_so_from_now_on() -> None:
    """Else a slow reader would end the capture."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with Capture(writing):
            assert os.get_blocking(writing)
    finally:
        os.close(reading)


def test_it_can_be_read_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with Capture(path) as capture:
        assert blocks(path) == []
        flow = capture.flow(initiator=True)
        flow.opened(*V4)
        for number in range(3):
            flow.sent([bytes([number])])
            assert [each.payload for each in packets(path)][2:] == [bytes([n]) for n in range(number + 1)]


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """The system takes no more into a file than this (setrlimit(2)), as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_capture_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.pcapng"
    capture = Capture(path)
    flow = capture.flow(initiator=True)
    flow.opened(*V4)
    with file_size_limit(8000):
        for _ in range(50):
            flow.sent([bytes(1000)])
            flow.received(bytes(1000))
        flow.closed()
    assert isinstance(capture.error, OSError)
    capture.close()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pyiwarp.capture", "WARNING")
    assert f"after {capture.packets} packets" in record.message
    found = packets(path)  # every block is whole
    assert len(found) == capture.packets
    assert 6 <= len(found) <= 9
    assert len(caplog.records) == 1, "one warning"


def test_a_disk_that_says_so_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(io.FileIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EDQUOT, "quota")

    capture = Capture(tmp_path / "c.pcapng")
    capture._file.close()
    capture._file = Full(tmp_path / "c.pcapng", "wb")
    capture.close()
    assert capture.error is not None
    assert "quota" in caplog.text


def test_a_file_that_cannot_be_written_from_the_beginning(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No space left"):
        Capture("/dev/full")
    with pytest.raises(FileNotFoundError):
        Capture(tmp_path / "no" / "place")
    assert os.listdir("/proc/self/fd") == before


def test_a_pipe_is_read_while_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as a shell may leave it
    os.set_blocking(reading, False)
    capture = Capture(writing)
    flow = capture.flow(initiator=True)
    flow.opened(*V4)
    octets = os.read(reading, 1 << 16)
    assert len([one for one in FileScanner(io.BytesIO(octets)) if isinstance(one, EnhancedPacket)]) == 2
    os.close(reading)
    flow.sent([b"nobody reads"])
    flow.sent([b"any more"])
    capture.close()
    assert isinstance(capture.error, BrokenPipeError)
    assert len(caplog.records) == 1


def test_a_write_may_be_taken_in_parts(tmp_path: Path) -> None:
    class Sparing(io.FileIO):
        def write(self, octets: Any) -> int:
            return super().write(octets[:7])

    path = tmp_path / "c.pcapng"
    with Capture(path) as capture:
        capture._file.close()
        capture._file = Sparing(path, "ab")
        flow = capture.flow(initiator=True)
        flow.opened(*V4)
        flow.sent([b"in parts"])
    assert packets(path)[-1].payload == b"in parts"
