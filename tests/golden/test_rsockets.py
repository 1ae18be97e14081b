"""The octets of rsockets, as Debian's librdmacm sends and takes them: private data, words, entries, whole FPDUs.

The two sides C and S, their STags and TOs are made up. Both are little-endian, with CRC and without markers.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from interop.decode import frames
from pyiwarp import RemoteRegion
from pyiwarp.codes import Opcode
from pyiwarp.sockets.engine import End, Engine, cap_for
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.wire import BIG, LITTLE, Control, Hello, Op
from tests.golden.test_captures import DIRECTORY, session, startup_size
from tests.harness import Heard, Node, RawPeer, send, write

C_HELLO = bytes.fromhex(
    "01020180 00000000 00000000 00001000 11111100 00000002 00000000 00200000 22222200 00010000".replace(" ", "")
)
S_HELLO = bytes.fromhex(
    "01020180 00000000 00000000 00009000 33333300 00000002 00000000 00500000 44444400 00010000".replace(" ", "")
)
C = Hello(384, (0x1000, 0x11111100, 2), RemoteRegion(0x200000, 0x22222200, 65536), big_endian=False)
S = Hello(384, (0x9000, 0x33333300, 2), RemoteRegion(0x500000, 0x44444400, 65536), big_endian=False)

SECOND_HALF_OF_C = bytes.fromhex("00002100 00000000 00222222 00000100")
SECOND_HALF_OF_S = bytes.fromhex("00005100 00000000 00444444 00000100")

GRANT = bytes.fromhex("00164143 00000000 00000000 00000001 00000000 80010080 be45f53d")
DATA_100 = bytes.fromhex("00164143 00000000 00000000 00000002 00000000 64000000 3153ec56")
KEEP_ALIVE = bytes.fromhex("000ec140 00000000 00000000 00000000 a30572ab")


class Speaker:
    """Our end with a peer that may say anything; the peer is S or C as its `hello` says."""

    def __init__(self, hello: bytes, options: StreamOptions | None = None) -> None:
        options = options or StreamOptions()
        self.node = Node(cap=cap_for(options))
        self.engine = Engine(self.node.pd, self.node.qp, options, LITTLE)
        self.peer = RawPeer(self.node)
        self.engine.begin(hello)

    def hears(self, *words: bytes) -> None:
        """The peer sends these words."""
        self.peer.sends(*(send(word) for word in words))
        self.poll()

    def poll(self) -> None:
        for completion in self.node.sent():
            self.engine.on_completion(completion)
        for completion in self.node.received():
            self.engine.on_completion(completion)
        self.engine.look()

    def said(self) -> bytes:
        """The octets that went out since."""
        self.peer.hears()
        octets = bytes(self.peer.end.said)
        self.peer.end.said.clear()
        return octets

    @property
    def ours(self) -> Hello:
        return Hello.parse(self.engine.hello)


@pytest.mark.parametrize(("octets", "hello"), [(C_HELLO, C), (S_HELLO, S)], ids=["client", "server"])
def test_the_private_data(octets: bytes, hello: Hello) -> None:
    assert bytes(hello) == octets
    assert Hello.parse(octets) == hello
    assert Hello.parse(octets + bytes(16)) == hello, "what is behind octet 39 is padding"


@pytest.mark.parametrize(
    ("op", "value", "word"),
    [
        (Op.DATA, 100, "64000000"),
        (Op.SGL, 384, "80010080"),
        (Op.CTRL, Control.DISCONNECT, "000000e0"),
        (Op.CTRL, Control.SHUTDOWN, "020000e0"),
    ],
)
def test_the_words(op: Op, value: int, word: str) -> None:
    octets = bytes.fromhex(word)
    assert LITTLE.word(op, value) == octets
    assert LITTLE.read_word(octets) == (op, value)
    assert BIG.word(op, value) == octets[::-1]
    assert BIG.read_word(octets[::-1]) == (op, value)


def test_the_entries() -> None:
    second = RemoteRegion(0x210000, 0x22222200, 65536)
    assert LITTLE.entry(second) == SECOND_HALF_OF_C
    assert LITTLE.read_entry(SECOND_HALF_OF_C) == second
    assert BIG.entry(second) == bytes.fromhex("0000000000210000 22222200 00010000")
    assert LITTLE.iomap(7, second) == bytes.fromhex("0700000000000000") + SECOND_HALF_OF_C
    assert LITTLE.read_iomap(LITTLE.iomap(7, second)) == (7, second)


def test_the_second_half_is_offered_at_once() -> None:
    """A Write of 16 octets into entry 1 of the peer's array, then the word 0x80000180."""
    speaker = Speaker(S_HELLO)
    said = speaker.said()
    ours = speaker.ours
    half = ours.data_buffer.nbytes
    entry = LITTLE.entry(RemoteRegion(ours.data_buffer.to + half, ours.data_buffer.stag, half))
    assert said[:16] == bytes.fromhex("001ec140 33333300 00000000 00009010")
    assert said[16:32] == entry
    assert said[36:] == GRANT


def test_a_hundred_octets() -> None:
    """They go where the peer's data buffer begins; the word DATA 100 comes right behind them."""
    speaker = Speaker(S_HELLO)
    speaker.said()
    octets = bytes(range(100))
    assert speaker.engine.send(octets) == 100
    said = speaker.said()
    assert said == bytes.fromhex("0072c140 44444400 00000000 00500000") + octets + bytes.fromhex("f6fc4907") + DATA_100


def test_keep_alive_is_an_empty_write_to_nowhere() -> None:
    speaker = Speaker(S_HELLO)
    speaker.said()
    speaker.engine.keep_alive()
    assert speaker.said() == KEEP_ALIVE


def test_shutdown_and_disconnect() -> None:
    speaker = Speaker(S_HELLO)
    speaker.said()
    speaker.engine.shut_down()
    heard = speaker.said()
    assert heard[:24] == bytes.fromhex("00164143 00000000 00000000 00000002 00000000 020000e0")
    speaker.poll()
    speaker.engine.disconnect()
    assert speaker.said()[:24] == bytes.fromhex("00164143 00000000 00000000 00000003 00000000 000000e0")
    speaker.poll()
    assert speaker.engine.finished


def test_a_mebioctet_fills_both_halves_and_waits() -> None:
    """C's sender grows from 2048 to 65536 octets in a message; what comes first fills entry 0, the rest entry 1."""
    options = StreamOptions(ring=131072)
    speaker = Speaker(C_HELLO, options)
    ours = speaker.ours
    speaker.said()
    octets = bytes(range(256)) * 512
    at = 0
    for piece in (100, 2048, 4096, 8192, 16384, 32768, 1948, 65536):
        place = ours.data_buffer.to + at
        for part in range(0, piece, 1024):
            payload = octets[at + part : at + min(part + 1024, piece)]
            last = part + 1024 >= piece
            speaker.peer.sends(write(ours.data_buffer.stag, place + part, payload, last=last))
        speaker.hears(LITTLE.word(Op.DATA, piece))
        at += piece
    assert speaker.said() == b"", "no credit is given before something was read"
    assert speaker.engine.read(at) == octets
    speaker.poll()
    heard = speaker.said()
    first = LITTLE.entry(ours.data_buffer)
    assert heard[16:32] == first, "the first half again, into entry 0"
    assert heard[12:16] == bytes.fromhex("00001000")
    assert LITTLE.read_word(heard[36 + 20 : 36 + 24]) == (Op.SGL, 384 + 8)


def test_an_update_of_the_peer_lets_us_go_on() -> None:
    speaker = Speaker(S_HELLO)
    speaker.said()
    assert speaker.engine.send(bytes(200_000)) == 65536, "entry 1 was not offered yet"
    array = speaker.ours.target_sgl
    speaker.peer.sends(write(array[1], array[0] + 16, SECOND_HALF_OF_S))
    speaker.hears(LITTLE.word(Op.SGL, 384))
    assert speaker.engine.send(bytes(200_000)) == 65536


def test_the_end_of_the_peer() -> None:
    speaker = Speaker(S_HELLO)
    speaker.hears(LITTLE.word(Op.CTRL, Control.DISCONNECT), LITTLE.word(Op.SGL, 391))  # C sends words behind its end
    assert speaker.engine.reading is End.DISCONNECTED
    assert speaker.engine.finished


def test_the_word_is_a_plain_send() -> None:
    """No solicited event, no invalidation, no Immediate Data."""
    speaker = Speaker(S_HELLO)
    heard = speaker.peer.hears()
    assert [each.opcode for each in heard] == [Opcode.WRITE, Opcode.SEND]


# --- librdmacm itself, as it was captured ----------------------------------------------------------------------------

SESSIONS = sorted(DIRECTORY.glob("rstream-*.pcapng"))
MESSAGES = [16, *[64] * 5]  # rstream's greeting, and what it was told to send


def hello_of(octets: bytes) -> Hello:
    """The private data of a startup frame in revision 2."""
    end = startup_size(octets)
    return Hello.parse(octets[end - 40 : end])


@pytest.mark.parametrize("file", SESSIONS, ids=lambda file: file.stem)
@pytest.mark.parametrize("sent", [True, False], ids=["ours", "rstream's"])
def test_a_session_with_rstream(file: Path, sent: bool) -> None:
    """Each side offers the second half of its ring, and writes its messages one behind the other."""
    transcript = session(file)
    speaker, other = (hello_of(transcript.stream(sent=each)) for each in (sent, not sent))
    assert speaker.credits == other.credits == 384
    assert not speaker.iomaps
    heard = [Heard(frame.ulpdu) for frame in frames(transcript) if frame.number and frame.sent is sent]
    words, at = [], other.data_buffer.to
    for written, word in pairwise(heard):
        if word.tagged:
            continue
        op, value = speaker.order.read_word(word.payload)
        words.append((op, value))
        if op == Op.SGL:
            second = speaker.data_buffer
            entry = RemoteRegion(second.to + second.nbytes, second.stag, second.nbytes)
            assert (written.stag, written.to) == (other.target_sgl[1], other.target_sgl[0] + 16)
            assert other.order.read_entry(written.payload) == entry
        elif op == Op.DATA:
            assert (written.stag, written.to, len(written.payload)) == (other.data_buffer.stag, at, value)
            at += value
    data = [(Op.DATA, nbytes) for nbytes in MESSAGES]
    assert [word for word in words if word[0] == Op.DATA] == data
    assert [word for word in words if word[0] == Op.SGL] == [(Op.SGL, 384)]
    assert words[len(data) + 1 :] in ([], [(Op.CTRL, Control.DISCONNECT)])


def test_both_roles_were_captured() -> None:
    assert [file.stem for file in SESSIONS] == [f"rstream-short-siw-{who}-connects" for who in ("peer", "pyiwarp")]
