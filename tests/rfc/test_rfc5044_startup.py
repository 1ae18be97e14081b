"""RFC 5044 §7.1: from a TCP connection to Full Operation, both ends as the other sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyiwarp import Options
from pyiwarp.codes import Opcode
from pyiwarp.errors import MalformedStartup, WrongState
from pyiwarp.negotiation import Offer, Role
from pyiwarp.queues.qp import QpState
from pyiwarp.startup import Startup, StartupState
from tests.harness import End, Heard, Node, Pair, RawPeer, fpdu, octets_of, read, send, unframe, write

REQUEST = b"MPA ID Req Frame"
REPLY = b"MPA ID Rep Frame"


class Wire:
    """One end under test, and the octets that are sent to it by hand."""

    def __init__(self, role: Role, offer: Offer | None = None, *, decide: bool = True) -> None:
        self.node = Node(mulpdu=1442)
        self.offer = offer or Offer(revision=1)
        self.startup = Startup(role, self.offer, self._outcome)
        self.end = End(self.startup)
        self._decide = decide
        self._other = RawPeer()  # takes what the end says
        self.settle()

    def _outcome(self, startup: Startup) -> None:
        if not self._decide:
            return
        if startup.state is StartupState.DECIDING:
            self.node.qp.connect(*startup.accept(self.offer))
            self.end.pump = self.node.qp
        elif startup.state is StartupState.ACCEPTED:
            assert startup.agreement is not None
            self.node.qp.connect(startup.agreement)
            self.end.pump = self.node.qp

    def hears(self, octets: bytes, chunk: int = 1 << 20) -> None:
        self.end.incoming += octets
        while self.end.read(chunk):
            pass
        self.settle()

    def settle(self) -> None:
        while self.end.write(self._other.end):
            pass
        self.end.settle(self._other.end)

    @property
    def said(self) -> bytes:
        return bytes(self.end.said)


def frame(key: bytes, flags: int = 0x40, revision: int = 1, private_data: bytes = b"", length: int = -1) -> bytes:
    return (
        key + bytes([flags, revision]) + (len(private_data) if length < 0 else length).to_bytes(2, "big") + private_data
    )


# --- CRCs and markers are agreed -------------------------------------------------------------------------------------


def test_crc_is_on_unless_somebody_turns_it_off() -> None:  # MPA-5044-1.2-02, MPA-5044-4.4-03, -04
    initiator = Wire(Role.INITIATOR, Options().offer(b""))
    responder = Wire(Role.RESPONDER, Options().offer(b""))
    responder.hears(frame(REQUEST, flags=0))
    assert initiator.said[16] & responder.said[16] & 0x40
    assert responder.node.qp.stream.agreement.crc
    assert not Options(crc=False).offer(b"").crc, "there is a way to turn it off, and it must be asked for"


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("role", Role)
def test_the_four_agreements_on_crc(asked: bool, answered: bool, role: Role) -> None:
    # MPA-5044-4.4-05, -08, -09, MPA-5044-7.1.1-08, -09: only if neither wants it a wrong one is let through
    side = Wire(role, Offer(revision=1, crc=asked))
    region = side.node.region(4)
    side.hears(frame(REPLY if role is Role.INITIATOR else REQUEST, flags=0x40 if answered else 0))
    side.hears(fpdu(write(region.stag, region.to, b"abcd").octets(0), crc=0xDEADBEEF))
    assert octets_of(region) == (bytes(4) if asked or answered else b"abcd")
    assert (side.node.qp.state is QpState.TERMINATE) is (asked or answered)


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
@pytest.mark.parametrize("role", Role)
def test_the_four_agreements_on_markers(
    mine: bool, theirs: bool, role: Role
) -> None:  # MPA-5044-7.1.1-05, -06, -07, MPA-5044-4.3-01, -02
    side = Wire(role, Offer(revision=1, markers=mine))
    region = side.node.region(4)
    side.node.receive(8)
    side.hears(frame(REPLY if role is Role.INITIATOR else REQUEST, flags=0xC0 if theirs else 0x40))
    side.hears(fpdu(write(region.stag, region.to, b"abcd").octets(0), markers=mine))
    assert octets_of(region) == b"abcd"
    before = len(side.said)
    side.node.send(b"x")
    side.settle()
    assert Heard(unframe(side.said[before:], 0, markers=theirs)[0]).payload == b"x"


# --- who says what when ----------------------------------------------------------------------------------------------


def test_the_initiator_speaks_first_and_then_waits() -> None:  # MPA-5044-7.1.2-01, -11, -12, -15, MPA-5044-7.1.1-11
    side = Wire(Role.INITIATOR)
    assert side.said == frame(REQUEST)
    with pytest.raises(WrongState):
        side.node.send(b"too early")
    reply = frame(REPLY)
    for n in range(len(reply) - 1):
        side.hears(reply[n : n + 1])
        assert side.startup.state is StartupState.AWAIT_REPLY
    assert side.said == frame(REQUEST), "nothing more"
    side.hears(reply[-1:])
    assert side.node.qp.state is QpState.RTS
    side.node.send(b"now")
    side.settle()
    assert len(side.said) > 20


def test_a_full_operation_needs_a_queue_pair() -> None:  # MPA-5044-7.1-06
    """Startup takes no octet of an FPDU: they wait in TCP for the queue pair that takes over."""
    for bound in (True, False):
        side = Wire(Role.INITIATOR, decide=bound)
        region = side.node.region(4)
        burst = fpdu(write(region.stag, region.to, b"abcd").octets(0))
        side.hears(frame(REPLY))
        side.hears(burst)
        assert octets_of(region) == (b"abcd" if bound else bytes(4))
    with pytest.raises(WrongState):
        Node().qp.receive_view()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("chunk", [1, 2, 3, 19, 20, 21, 1 << 20])
def test_frames_and_fpdus_in_pieces_of_any_size(role: Role, chunk: int) -> None:
    # MPA-5044-7.1.5-03, MPA-5044-7.1-01, MPA-5044-7.1.2-10: in one piece the Reply and the first FPDU come together
    side = Wire(role)
    region = side.node.region(4)
    first = fpdu(write(region.stag, region.to, b"abcd").octets(0))
    data = bytes(range(37))
    if role is Role.INITIATOR:
        side.hears(frame(REPLY, private_data=data) + first, chunk)
    else:
        side.hears(frame(REQUEST, private_data=data), chunk)
        side.hears(first, chunk)
    assert octets_of(region) == b"abcd"
    assert side.node.qp.stream.agreement.private_data == data


@pytest.mark.parametrize("chunk", [1, 20])
def test_both_directions_are_enabled_at_once(chunk: int) -> None:  # MPA-5044-7.1-02
    pair = Pair(chunk=chunk)
    for node in pair.nodes:
        node.receive(8)
        node.send(b"at once")
    pair.run()
    assert [[done.nbytes for done in node.received()] for node in pair.nodes] == [[7], [7]]


@pytest.mark.parametrize("markers", [True, False])
def test_a_responder_is_silent_until_it_has_seen_a_good_fpdu(markers: bool) -> None:
    # MPA-5044-7.1.2-16, MPA-5044-7.1.2-03, MPA2-6581-9.2-19
    side = Wire(Role.RESPONDER)
    assert side.said == b""
    side.hears(frame(REQUEST, flags=0xC0 if markers else 0x40))
    reply = side.said
    assert reply[:16] == REPLY
    side.node.send(b"first")
    side.settle()
    assert side.said == reply, "no FPDU, no Marker"
    first = fpdu(write().octets(0))
    side.hears(first[:-1])
    assert side.said == reply, "nor before the FPDU is whole"
    side.hears(first[-1:])
    ulpdu, _ = unframe(side.said[len(reply) :], 0, markers=markers)
    assert Heard(ulpdu).opcode is Opcode.SEND


@pytest.mark.parametrize("first", [fpdu(write().octets(0), crc=0), fpdu(send(b"x").octets(1), crc=0), b"\xff" * 64])
def test_a_bad_first_fpdu_does_not_let_the_responder_speak(first: bytes) -> None:
    # MPA-5044-7.1.2-16, MPA2-6581-9.2-19, ambiguity 1: it closes without a Terminate
    side = Wire(Role.RESPONDER)
    side.hears(frame(REQUEST))
    reply = side.said
    side.node.send(b"first")
    side.hears(first)
    assert side.node.qp.state is QpState.TERMINATE
    assert (side.said, side.end.sent_fin) == (reply, True)


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "octet 0 of the key": lambda key: b"X" + frame(key)[1:],
    "octet 15 of the key": lambda key: frame(key)[:15] + b"X" + frame(key)[16:],
    "the other key": lambda key: frame(REPLY if key == REQUEST else REQUEST),
    "HTTP": lambda key: b"GET / HTTP/1.0\r\n\r\n\r\n\r\n",
    "revision 0": lambda key: frame(key, revision=0),
    "revision 3": lambda key: frame(key, revision=3),
    "revision 255": lambda key: frame(key, revision=255),
    "PD_Length 513": lambda key: frame(key, private_data=bytes(513)),
    "PD_Length 65,535": lambda key: frame(key, length=0xFFFF),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frames_end_the_connection_without_a_word(role: Role, case: str) -> None:
    # MPA-5044-7.1.1-02, -04, -17, -20, -21, MPA-5044-7.1.2-04, -13, -17, -21, -23, -26, MPA-5044-8-07
    # ambiguities 3 and 6
    side = Wire(role)
    before = side.said
    side.hears(BAD_FRAMES[case](REPLY if role is Role.INITIATOR else REQUEST))
    assert side.startup.state is StartupState.FAILED
    assert side.startup.error is not None
    assert side.end.closed
    assert side.said == before
    assert side.node.qp.state is QpState.IDLE


def test_octets_behind_a_request_are_refused() -> None:  # MPA-5044-7.1.1-20, MPA-5044-7.1.2-25, -26, ambiguity 4
    """As long as the program has not decided: no FPDU can be there yet."""
    side = Wire(Role.RESPONDER, decide=False)
    side.hears(frame(REQUEST) + b"more")
    assert isinstance(side.startup.error, MalformedStartup)
    assert (side.end.closed, side.said) == (True, b"")


@pytest.mark.parametrize("flags", [1 << bit for bit in range(6)])
@pytest.mark.parametrize("role", Role)
def test_reserved_bits_are_not_looked_at(role: Role, flags: int) -> None:
    # MPA-5044-7.1.1-12, -14, -15: R in a Request, and the five reserved ones in either frame
    reply = role is Role.INITIATOR
    if reply and flags == 0x20:
        return
    side = Wire(role)
    side.hears(frame(REPLY if reply else REQUEST, flags=0x40 | flags))
    assert side.node.qp.state is QpState.RTS
    assert side.said[16] & 0x1F == 0


@pytest.mark.parametrize("size", [0, 1, 255, 256, 512])
def test_private_data_of_every_length(size: int) -> None:
    # MPA-5044-7.1.1-01, -03, -16, -19, -21, -22, -23, MPA-5044-7.1.2-02, -09, -23, -24
    data = bytes(n % 251 for n in range(size))
    side = Wire(Role.RESPONDER, Offer(revision=1, private_data=data[::-1]))
    side.hears(frame(REQUEST, private_data=data))
    assert side.node.qp.stream.agreement.private_data == data
    assert side.said == frame(REPLY, private_data=data[::-1])
    side = Wire(Role.INITIATOR, Offer(revision=1, private_data=data))
    assert side.said == frame(REQUEST, private_data=data)


def test_the_first_messages_after_startup() -> None:
    """The queues count from 1 in a stream that has just begun, whoever began it (DDP-5041-4.3-08)."""
    for role in Role:
        peer = RawPeer(role=role)
        region = peer.node.region(4)
        peer.node.receive(4)
        peer.sends(send(b"x", msn=1), read(region, size=4, msn=1))
        peer.node.send(b"y")
        assert {each.msn for each in peer.hears() if not each.tagged} == {1}
