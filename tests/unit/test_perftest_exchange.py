"""What goes over perftest's control connection, against octets seen between two of its own programs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pyiwarp.cli.perftest.exchange import Control, Record, Terms
from pyiwarp.cli.perftest.figures import Bandwidth
from pyiwarp.files.errors import BadMessage

VERSION = bytes.fromhex("362e3036 00000000 00000000 00000000")
PAGE = bytes.fromhex("00001000")
LINE = bytes.fromhex("00000040")
MTU_1024 = b"3\0"
SEEN = bytes.fromhex(
    "00000000 00000080 00000003 003d411a 9855c500 f27f0000 000055c58bede000 52540012345600000000000000000000"
    "00000000 00000000"
)


class Script:
    """A peer that says `lines`, one for each message."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.heard: list[bytes] = []
        self.order = ""
        self._lines = list(lines)

    async def send(self, octets: bytes) -> None:
        self.heard.append(octets)
        self.order += "s"

    async def recv(self) -> bytes:
        self.order += "r"
        return self._lines.pop(0)


def agree(lines: Sequence[bytes], *, client: bool = True) -> tuple[Terms, Script]:
    script = Script(lines)
    return asyncio.run(Control(script, client=client).agree()), script


def test_the_first_four_steps() -> None:
    terms, script = agree([VERSION, PAGE, LINE, MTU_1024])
    assert script.heard == [VERSION, PAGE, LINE, b"5\0"]
    assert script.order == "srsrsrsr"
    assert terms == Terms("6.06", 4096, 64)


def test_the_server_waits_for_the_client() -> None:
    assert agree([VERSION, PAGE, LINE, MTU_1024], client=False)[1].order == "rsrsrsrs"


def test_the_greater_page_and_cache_line_count() -> None:
    assert agree([VERSION, bytes.fromhex("00010000"), bytes.fromhex("00000080"), MTU_1024])[0][1:] == (65536, 128)
    assert agree([VERSION, bytes.fromhex("00000400"), bytes.fromhex("00000020"), MTU_1024])[0][1:] == (4096, 64)


@pytest.mark.parametrize("version", [b"5.70", b"6.06", b"6.27"])
def test_versions_that_speak_alike(version: bytes) -> None:
    agree([version.ljust(16, b"\0"), PAGE, LINE, MTU_1024])


@pytest.mark.parametrize("version", [b"5.69", b"6.28", b"7.0", b"5", b"", b"six.six", b"\xff.1"])
def test_versions_that_do_not(version: bytes) -> None:
    with pytest.raises(BadMessage, match=r"version"):
        agree([version.ljust(16, b"\0"), PAGE, LINE, MTU_1024])


@pytest.mark.parametrize(
    ("page", "line"), [("00000000", "00000000"), ("7fffffff", "00000040"), ("00001000", "00002000")]
)
def test_pages_that_cannot_be(page: str, line: str) -> None:
    lines = [VERSION, bytes.fromhex(page), bytes.fromhex(line), MTU_1024]
    if page == "00000000":
        assert agree(lines)[0] == Terms("6.06", 4096, 64)  # ours are greater
        return
    with pytest.raises(BadMessage, match="cannot be"):
        agree(lines)


def test_a_message_of_another_length_is_another_test() -> None:
    with pytest.raises(BadMessage, match="56 octets where a figure of 8 is due"):
        asyncio.run(Control(Script([SEEN]), client=True).report(None))


def test_a_record_as_a_program_sent_it() -> None:
    record = Record.parse(SEEN)
    assert (record.lid, record.out_reads, record.qpn, record.psn) == (0, 128, 3, 0x3D411A)
    assert (record.rkey, record.vaddr) == (0x9855C500, 0x55C58BEDE000)
    assert record.gid == bytes.fromhex("525400123456") + bytes(10)
    assert bytes(record) == SEEN[:20] + bytes(4) + SEEN[24:]  # the gap was never cleared there
    assert bytes(Record()) == bytes(56)


def test_results_as_a_program_sent_them() -> None:
    """Those of ib_write_bw -n 5 -s 64, and what its server, which had none, answered from its stack."""
    told = ["0000000000000040", "0000000000000005", "3fe118f8d89de1b5", "3fbe16244035e428", "3f5f8c47e4d3a1fd"]
    client = Script([bytes.fromhex(line) for line in told])
    result = asyncio.run(Control(client, client=False).report(None))
    assert str(result).split() == ["64", "5", "0.53", "0.12", "0.001926"]
    assert client.heard == [bytes(8)] * 5
    junk = ["00007ffeade14914", "00007ffeadfd8300", "00007f887a6ac8b0", "00007f887a2290e1", "00007ffeade149d8"]
    server = Script([bytes.fromhex(line) for line in junk])
    peak, average, rate = 0.5342983465953269, 0.1175253540767619, 0.001925535401193667
    mine = Bandwidth(size=64, iterations=5, peak=peak, average=average, rate=rate)
    asyncio.run(Control(server, client=True).report(mine))
    assert [line.hex() for line in server.heard] == told


@pytest.mark.parametrize(
    ("size", "offsets"),
    [
        (1, [0, 64, 128]),
        (64, [0, 64, 128]),
        (65, [0, 128, 256]),
        (2048, [0, 2048, 0]),
        (2049, [0, 0, 0]),
        (65536, [0, 0, 0]),
    ],
)
def test_messages_walk_through_a_page_in_cache_lines(size: int, offsets: list[int]) -> None:
    terms = Terms("6.06", 4096, 64)
    assert [terms.offset(number, size) for number in range(3)] == offsets
    assert all(terms.offset(number, size) + size <= terms.buffer_size(size) for number in range(200))


def test_the_walk_begins_anew_at_the_end_of_the_page() -> None:
    terms = Terms("6.06", 4096, 64)
    assert terms.offset(63, 64) == 4032
    assert terms.offset(64, 64) == 0
    assert terms.buffer_size(64) == 4096
    assert terms.buffer_size(5000) == 5000
