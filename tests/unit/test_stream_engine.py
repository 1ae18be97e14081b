"""One end of a stream: words that may not come, credits, ends, direct writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyiwarp import Access, RemoteRegion, UsageError
from pyiwarp.errors import BadWorkRequest, QueueFull, WrongState
from pyiwarp.sockets.engine import End
from pyiwarp.sockets.errors import NotSpoken, PeerViolation
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.serving import MAX_STREAMS
from pyiwarp.sockets.wire import LITTLE, Control, Hello, Op, iomap_entries
from tests.golden.test_rsockets import S_HELLO, S, Speaker
from tests.harness import Segment, send, write
from tests.streamends import SMALL, Ends

ENTRY = bytes.fromhex("00005100 00000000 00444444 00000100")


def data(nbytes: int) -> bytes:
    return LITTLE.word(Op.DATA, nbytes)


def entry_of(speaker: Speaker, index: int, octets: bytes = ENTRY) -> Segment:
    to, stag, _ = speaker.ours.target_sgl
    return write(stag, to + index * 16, octets)


def words(speaker: Speaker) -> list[tuple[int, int]]:
    """The words that our end has said since."""
    return [LITTLE.read_word(heard.payload) for heard in speaker.peer.hears() if not heard.tagged]


WORDS = {
    "the reserved op 1": (bytes.fromhex("01000020"), "0x20000001: the ops 1, 2, 3 and 5 are reserved"),
    "the reserved op 2": (bytes.fromhex("01000040"), "0x40000001: the ops"),
    "the reserved op 3": (bytes.fromhex("01000060"), "0x60000001: the ops"),
    "the reserved op 5": (bytes.fromhex("010000a0"), "0xa0000001: the ops"),
    "an unknown control": (LITTLE.word(Op.CTRL, 3), "CTRL 3: the controls are 0, 1 and 2"),
    "no data": (data(0), "DATA 0: a message has 1 octet or more"),
    "more than the half": (data(2049), "DATA 2049: .* no more than the 2048 that are left"),
    "a word that is too short": (b"\0\0\0", "a message of 3 octets: a word is a Send of 4 octets"),
    "an iomap entry that is not there": (LITTLE.word(Op.IOMAP, 0), "IOMAP 0: the table has 0 entries"),
    "a grant of too much": (LITTLE.word(Op.SGL, 385), "grants messages up to number 385 after 0"),
    "a grant that goes back": (LITTLE.word(Op.SGL, 65535), "grants messages up to number 65535 after 0"),
}


@pytest.mark.parametrize(("word", "text"), WORDS.values(), ids=WORDS)
def test_a_word_that_may_not_come_is_one_clear_error(word: bytes, text: str) -> None:
    """It names the value, the rule and the section of the page."""
    speaker = Speaker(S_HELLO, SMALL)
    with pytest.raises(PeerViolation, match=text) as raised:
        speaker.hears(word)
    assert "docs/sockets.md, §" in str(raised.value)
    assert isinstance(raised.value, ConnectionResetError)
    assert raised.value.errno is not None


def test_a_send_that_invalidates_memory_of_ours_is_no_word() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.peer.sends(send(data(1), opcode=4, inval_stag=speaker.ours.data_buffer.stag))
    with pytest.raises(PeerViolation, match="a word is a Send of 4 octets"):
        speaker.poll()


def test_more_octets_than_were_offered() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.hears(data(2048))
    speaker.hears(data(2048))
    with pytest.raises(PeerViolation, match="no more than the 0 that are left"):
        speaker.hears(data(1))


def test_a_message_that_crosses_into_the_other_half() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.hears(data(2000))
    with pytest.raises(PeerViolation, match="no more than the 48 that are left"):
        speaker.hears(data(49))


def test_more_messages_than_were_granted() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    for _ in range(16):
        speaker.hears(data(1))
    with pytest.raises(PeerViolation, match="message 17 has come, granted are 16"):
        speaker.hears(data(1))


def test_an_entry_that_changes_while_it_is_in_use() -> None:
    speaker = Speaker(S_HELLO)
    speaker.engine.send(bytes(10))
    speaker.peer.sends(entry_of(speaker, 0))
    with pytest.raises(PeerViolation, match=r"entry 0 of the target SGL became .*in use"):
        speaker.hears(LITTLE.word(Op.SGL, 384))


def test_an_entry_that_changed_before_it_was_used_up() -> None:
    speaker = Speaker(S_HELLO)
    speaker.engine.send(bytes(10))
    speaker.peer.sends(entry_of(speaker, 0))
    assert speaker.engine.send(bytes(100_000)) == 65536 - 10
    with pytest.raises(PeerViolation, match="entry 0 of the target SGL became"):
        speaker.hears(LITTLE.word(Op.SGL, 384))


def test_an_entry_out_of_turn() -> None:
    """Entry 0 was used up twice in a row: it is entry 1 that is due."""
    speaker = Speaker(S_HELLO)
    assert speaker.engine.send(bytes(100_000)) == 65536
    speaker.peer.sends(entry_of(speaker, 0))
    with pytest.raises(PeerViolation, match="entry 0 of the target SGL was written, and entry 1 is empty"):
        speaker.hears(LITTLE.word(Op.SGL, 384))


def test_an_entry_behind_the_last_to() -> None:
    speaker = Speaker(S_HELLO)
    speaker.peer.sends(entry_of(speaker, 1, LITTLE.entry(RemoteRegion((1 << 64) - 8, 1, 9))))
    with pytest.raises(PeerViolation, match="memory ends at the last TO or before"):
        speaker.hears(LITTLE.word(Op.SGL, 384))


@pytest.mark.parametrize(
    ("hello", "text"),
    [
        (b"", "0 octets of private data, not 40"),
        (bytes(39), "39 octets of private data, not 40"),
        (b"\2" + S_HELLO[1:], "version 2 of rsockets, not 1"),
        (bytes(S._replace(target_sgl=(0, 0, 1))), "1 entries, not 2 or more"),
        (bytes(S._replace(data_buffer=RemoteRegion((1 << 64) - 1, 0, 2))), "behind the last TO"),
        (bytes(S._replace(target_sgl=((1 << 64) - 31, 0, 2))), "behind the last TO"),
    ],
)
def test_private_data_of_another_protocol(hello: bytes, text: str) -> None:
    with pytest.raises(NotSpoken, match=text) as raised:
        Hello.parse(hello)
    assert isinstance(raised.value, ConnectionRefusedError)


# --- credits ---------------------------------------------------------------------------------------------------------


def test_receives_of_the_peer_are_left_for_its_control_messages() -> None:
    """On iWARP a message that finds no receive ends the connection, and credits do not count control messages."""
    speaker = Speaker(bytes(S._replace(credits=16)))
    assert [speaker.engine.send(b"x") for _ in range(14)] == [1] * 12 + [0] * 2


@pytest.mark.parametrize("credits", range(1, 17))
def test_even_a_short_queue_of_the_peer_lets_us_go_on(credits: int) -> None:
    """A peer tells of what it has read when that is half of its queue."""
    speaker = Speaker(bytes(S._replace(credits=credits)))
    assert sum(speaker.engine.send(b"x") for _ in range(20)) >= max(1, credits // 2)


def test_a_peer_without_credit_is_sent_nothing() -> None:
    speaker = Speaker(bytes(S._replace(credits=0)))
    assert speaker.engine.send(b"x") == 0


def test_one_short_message_passes_the_end_of_the_sending_ring() -> None:
    """Short messages take no room in the ring; that one does, else all behind it would be as short as it is."""
    speaker = Speaker(S_HELLO, SMALL)
    sizes: list[int] = []
    for size in (4080, 3000):
        left = size
        while left:
            left -= speaker.engine.send(bytes(left))
            sizes += [value for op, value in words(speaker) if op == Op.DATA]
            speaker.poll()
    assert sizes == [4080, 16, 2984]


def test_the_counters_wrap() -> None:
    """70,000 messages: the counters of the words have 16 bits."""
    ends = Ends(replace(SMALL, recv_queue=400, send_queue=400), replace(SMALL, recv_queue=400, send_queue=400))
    for _ in range(350):
        assert sum(ends.left.send(b"x") for _ in range(200)) == 200
        ends.settle()
        ends.right.take()
        ends.settle()
    assert len(ends.right.read) == 70_000


def test_a_grant_is_told_when_half_of_the_queue_was_read() -> None:
    speaker = Speaker(S_HELLO)
    speaker.said()
    for count in range(1, 193):
        speaker.hears(data(1))
        speaker.engine.read(1)
        assert not speaker.said(), f"{count - 1} messages were read"
        if count < 192:
            continue
        speaker.poll()
        assert speaker.said()[20:24] == LITTLE.word(Op.SGL, 192 + 384)


def test_a_grant_is_told_when_the_receives_for_it_are_posted() -> None:
    """Receives are posted again some together, and a message that finds none would end the connection."""
    speaker = Speaker(S_HELLO, SMALL)
    receives = len(speaker.engine._receives)
    words(speaker)
    for _ in range(SMALL.recv_queue // 2):
        speaker.hears(data(1))
    assert len(speaker.node.qp._rq) < receives, "some wait to be posted together"
    speaker.engine.consume(SMALL.recv_queue // 2)
    speaker.engine.look()
    assert [op for op, _ in words(speaker)] == [Op.SGL]
    assert len(speaker.node.qp._rq) == receives


def test_no_more_than_four_control_messages_are_on_their_way() -> None:
    """An SGL word with its entry counts as two. What has to wait is sent when the others are with TCP."""
    speaker = Speaker(S_HELLO, SMALL)
    speaker.said()
    speaker.peer.end.clogged = True
    for _ in range(3):
        speaker.hears(data(2048))
        speaker.engine.read(2048)
        speaker.engine.look()
    speaker.engine.shut_down()
    speaker.peer.end.clogged = False
    assert words(speaker) == [(Op.SGL, 17), (Op.SGL, 18)]
    speaker.poll()
    assert words(speaker) == [(Op.CTRL, Control.SHUTDOWN), (Op.SGL, 19)]


def test_an_entry_with_its_word_waits_where_there_is_room_for_a_word_alone() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.said()
    speaker.peer.end.clogged = True
    for nbytes in (2048, *[1] * 8, 2040):  # a half and its word, a word that grants, a half
        speaker.hears(data(nbytes))
        speaker.engine.read(nbytes)
        speaker.engine.look()
    speaker.peer.end.clogged = False
    assert words(speaker) == [(Op.SGL, 17), (Op.SGL, 25)]
    speaker.poll()
    assert words(speaker) == [(Op.SGL, 26)]


# --- ends ------------------------------------------------------------------------------------------------------------


def test_half_close() -> None:
    ends = Ends()
    ends.left.send(b"last words")
    ends.left.engine.shut_down()
    ends.settle()
    assert ends.right.take() == b"last words"
    assert ends.right.at_the_end
    ends.right.send(b"answer")
    ends.settle()
    assert ends.left.take() == b"answer"
    assert not ends.left.engine.finished
    ends.right.engine.shut_down()
    ends.settle()
    assert ends.left.engine.finished
    assert ends.right.engine.finished


def test_two_shutdowns_that_cross_end_the_stream() -> None:
    ends = Ends()
    for end in (ends.left, ends.right):
        end.send(b"last words")
        end.engine.shut_down()
    ends.settle()
    for end in (ends.left, ends.right):
        assert end.take() == b"last words"
        assert end.engine.writing is End.DISCONNECTED
        assert end.engine.finished


def test_the_stream_is_finished_when_its_last_word_is_with_tcp() -> None:
    """TCP is closed then, and not before: DISCONNECT would be lost."""
    speaker = Speaker(S_HELLO)
    speaker.said()
    speaker.peer.end.clogged = True
    speaker.engine.disconnect()
    speaker.peer.hears()
    speaker.poll()
    assert not speaker.engine.finished
    speaker.peer.end.clogged = False
    speaker.peer.hears()
    speaker.poll()
    assert speaker.engine.finished


def test_disconnect_takes_the_place_of_a_shutdown_that_waits() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.said()
    speaker.peer.end.clogged = True
    for _ in range(3):
        speaker.hears(data(2048))
        speaker.engine.read(2048)
        speaker.engine.look()
    speaker.engine.shut_down()
    speaker.engine.disconnect()
    speaker.peer.end.clogged = False
    assert words(speaker) == [(Op.SGL, 17), (Op.SGL, 18)]
    speaker.poll()
    assert words(speaker) == [(Op.CTRL, Control.DISCONNECT)]
    speaker.poll()
    assert speaker.engine.finished


def test_words_behind_disconnect_mean_nothing() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.hears(data(3))
    speaker.hears(LITTLE.word(Op.CTRL, Control.DISCONNECT))
    speaker.hears(data(1), data(0), bytes.fromhex("01000020"))
    assert speaker.engine.readable == 3
    assert speaker.engine.reading is End.DISCONNECTED


def test_nothing_is_sent_behind_the_end() -> None:
    ends = Ends()
    ends.left.engine.shut_down()
    with pytest.raises(WrongState, match="shut down"):
        ends.left.engine.send(b"x")


def test_data_behind_shutdown_can_be_read() -> None:
    """C programs may send behind their SHUTDOWN, as long as they have credits."""
    speaker = Speaker(S_HELLO, SMALL)
    speaker.hears(data(3), LITTLE.word(Op.CTRL, Control.SHUTDOWN), data(4))
    assert speaker.engine.reading is End.SHUT
    assert speaker.engine.readable == 7


def test_a_keep_alive_word_says_nothing() -> None:
    speaker = Speaker(S_HELLO, SMALL)
    speaker.hears(LITTLE.word(Op.CTRL, Control.KEEPALIVE))
    assert speaker.engine.reading is End.OPEN


# --- direct writes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "told"), [(0, 0), (1, 1), (128, 128), (129, 256), (256, 256), (257, 512)])
def test_how_many_iomap_entries_the_private_data_can_say(asked: int, told: int) -> None:
    assert iomap_entries(asked) == told
    assert Hello.parse(bytes(S._replace(iomaps=told))).iomaps == told


def test_direct_writes_are_there_before_what_is_sent_next() -> None:
    ends = Ends(SMALL, replace(SMALL, iomaps=2))
    memory = ends.left.node.region(64, Access.REMOTE_WRITE)
    ends.left.engine.direct.offer(memory, offset=1000)
    ends.settle()
    ends.right.engine.direct.write(b"directly", 1010)
    ends.right.send(b"look")
    ends.settle()
    assert ends.left.take() == b"look"
    assert bytes(memory.view[10:18]) == b"directly"


def test_direct_writes_go_where_a_buffer_was_offered() -> None:
    ends = Ends(SMALL, replace(SMALL, iomaps=1))
    ends.left.engine.direct.offer(ends.left.node.region(64, Access.REMOTE_WRITE), offset=1000)
    ends.settle()
    for offset in (999, 1057):
        with pytest.raises(BadWorkRequest, match="no buffer of the peer"):
            ends.right.engine.direct.write(b"directly", offset)
    with pytest.raises(WrongState, match="its table has room for 0"):
        ends.left.engine.direct.offer(ends.left.node.region(64, Access.REMOTE_WRITE), offset=2000)


def test_no_more_than_eight_direct_writes_are_on_their_way() -> None:
    """Messages have their room in the send queue all the same, and so do they when these are with TCP."""
    ends = Ends(SMALL, replace(SMALL, iomaps=1))
    ends.left.engine.direct.offer(ends.left.node.region(64, Access.REMOTE_WRITE), offset=0)
    ends.settle()
    ends.pair.right_end.clogged = True
    for _ in range(8):
        ends.right.engine.direct.write(b"x", 0)
    ends.right.engine.keep_alive()
    with pytest.raises(QueueFull, match="8 direct writes"):
        ends.right.engine.direct.write(b"x", 0)
    assert sum(ends.right.send(b"y") for _ in range(20)) == 12, "credits of 16, four of which are left alone"
    ends.pair.right_end.clogged = False
    ends.settle()
    ends.right.engine.direct.write(b"x", 0)
    assert ends.left.take() == b"y" * 12


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"ring": 511},
        {"ring": 1001},
        {"recv_queue": 15},
        {"send_queue": 0},
        {"max_message": 0},
        {"iomaps": -1},
        {"keepalive": 0},
        {"send_memory": "much"},
    ],
    ids=str,
)
def test_options_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is"):
        StreamOptions(**wrong)


def test_the_page_has_the_defaults_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sockets.md").read_text()
    stated = re.findall(r"^\| [^|]+ \| (\d+)( KiB| MiB|) \| `StreamOptions\.(\w+)`", page, re.MULTILINE)
    units = {"": 1, " KiB": 1 << 10, " MiB": 1 << 20}
    found = {name: int(number) * units[unit] for number, unit, name in stated}
    assert set(found) == {"ring", "recv_queue", "send_memory", "send_queue", "max_message"}
    assert found == {name: getattr(StreamOptions(), name) for name in found}
    assert f"| {MAX_STREAMS} | `create_server(max_connections=…)`" in page
