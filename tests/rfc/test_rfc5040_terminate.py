"""RFC 5040 §4.8 and §7.1, RFC 6580: what a Terminate says, in every case in which one is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import InsufficientIrd, LocalCatastrophe, NoMatchingRtr, SetupFailed, Term, TerminatedByPeer
from pyiwarp.fastwire import parse_read_request
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.profile import PROFILES
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Status, Write
from tests.harness import Heard, Node, RawPeer, Segment, ended, feed, fpdu, octets_of, read, response, send, write
from tests.rfc.scene import Scene, fetch_add, immediate

FLUSHED = Status.WR_FLUSH_ERR


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- a Read that was partly answered ---------------------------------------------------------------------------------


@pytest.fixture
def slow() -> Scene:
    """Gives away one FPDU at a time, of 114 octets of a Response."""
    return Scene(node=Node(mulpdu=128, profile=replace(PROFILES["rfc"], one_fpdu_per_write=True)))


def let_out(scene: Scene, writes: int) -> None:
    """Let the transport take what comes in that many writes."""
    for _ in range(writes):
        scene.peer._heard.incoming += b"".join(scene.node.qp.next_iov())
        scene.node.qp.flushed()


@pytest.mark.parametrize("segments", [0, 1, 2, 5])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_read_whose_memory_is_withdrawn_is_told_how_far_it_came(slow: Scene, segments: int, readonly: bool) -> None:
    # RDMAP-5040-4.8-16, RDMAP-5040-4.8-15, RDMAP-5040-7.1-04
    data = bytes(n % 251 for n in range(1000))
    source = slow.node.pd.register(data if readonly else bytearray(data), Access.REMOTE_READ)
    question = read(source, size=900, offset=10, sink_stag=0xDEADBEEF, sink_to=(1 << 64) - 200)
    feed(slow.node.qp, slow.peer.frames(question))
    let_out(slow, segments)
    source.retire()
    *answers, last = slow.peer.hears()
    sent = 114 * segments
    assert b"".join(each.payload for each in answers) == data[10 : 10 + sent]
    assert {each.opcode for each in answers} <= {Opcode.READ_RESPONSE}
    assert (last.term, last.mdr, last.segment_length) == (errors.ReadInvalidStag.term, "111", 46)
    assert last.quoted[:18] == question.octets(1)[:18]
    to = ((1 << 64) - 200 + sent) % (1 << 64)
    assert parse_read_request(last.quoted[18:]) == (0xDEADBEEF, to, 900 - sent, source.stag, source.to + 10 + sent)
    slow.peer.expects_end_of_stream()
    assert slow.node.qp.state is QpState.TERMINATE
    assert isinstance(slow.error, errors.ReadInvalidStag)
    assert ended(slow.node.received()) == [("recv 1", FLUSHED), ("recv 2", FLUSHED)]


def test_withdrawn_memory_is_held_as_long_as_the_transport_reads_it(slow: Scene) -> None:  # RDMAP-5040-4.8-16
    source = slow.node.region(b"d" * 300, Access.REMOTE_READ)
    feed(slow.node.qp, slow.peer.frames(read(source, size=300)) + slow.peer.frames(read(source, size=300)))
    assert slow.node.qp.next_iov()
    source.retire()
    assert (source.pins, slow.node.qp.next_iov()) == (2, [])
    slow.node.qp.flushed()
    terminate = b"".join(slow.node.qp.next_iov())
    assert fpdu(b"\x41\x47")[2:4] == terminate[2:4]
    assert source.pins == 1, "the second Read had not begun"
    slow.node.qp.flushed()
    assert source.pins == 0
    assert slow.node.qp.output_ended


def test_a_peer_that_gives_its_own_memory_up_still_gets_its_answer(scene: Scene) -> None:
    source = scene.node.region(b"d" * 64)
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends(read(source, size=64), send(b"", opcode=Opcode.SEND_INVAL, inval_stag=source.stag))
    source.retire()
    scene.peer.end.clogged = False
    scene.peer.expects(Opcode.SEND)
    scene.peer.expects(Opcode.READ_RESPONSE, payload=b"d" * 64)
    assert scene.error is None


# --- which headers go along ------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Segment, type[errors.ProtocolViolation], str]] = {
    "Write": (write(5, 0, b"abc"), errors.InvalidStag, "110"),
    "Write, longer": (write(5, 0, bytes(100)), errors.InvalidStag, "110"),
    "Send": (send(bytes(41)), errors.MessageTooLong, "110"),
    "Send Inv": (send(b"", opcode=4, inval_stag=5), errors.CannotInvalidate, "110"),
    "Read Response": (response(5, 0, b"abc"), errors.UnexpectedOpcode, "110"),
    "Read Request": (read(size=16, source_stag=5), errors.ReadInvalidStag, "111"),
    "Read Request, DDP": (read(msn=2), errors.MsnOutOfRange, "110"),
    "Read Request, RV": (read(rv=2), errors.RdmapVersion, "110"),  # ambiguity 10
    "Atomic Request": (fetch_add(stag=5, to=0), errors.ReadInvalidStag, "110"),
    "Immediate Data": (immediate(b"1234567"), errors.MalformedMessage, "110"),
    "Terminate": (Segment(opcode=7, qn=2, msn=2, payload=bytes(4)), errors.MsnOutOfRange, "110"),
}


@pytest.mark.parametrize("case", BAD)
def test_which_headers_are_quoted(scene: Scene, case: str) -> None:
    # RDMAP-5040-4.8-04, -05, -06, -09, -10, -11, -13, -14, RDMAP-5040-7.1-03, -04, RDMAP-5040-3.1-05, DDP-5041-7.1-17
    segment, violation, mdr = BAD[case]
    ulpdu = segment.octets(1 if segment.msn is None else segment.msn)
    scene.peer.sends(segment)
    heard = scene.peer.expects_terminate(violation.term, mdr=mdr, segment_length=len(ulpdu))
    header = 14 if segment.tagged else 18
    assert heard.quoted == (ulpdu[:46] if mdr == "111" else ulpdu[:header])
    assert len(heard.payload) == 6 + len(heard.quoted)
    assert heard.payload[3] == heard.payload[2] & 0x1F == 0  # RDMAP-5040-4.8-07


@pytest.mark.parametrize("underway", [0, 1, 3])
def test_a_terminate_is_the_next_fpdu(slow: Scene, underway: int) -> None:  # RDMAP-5040-7.1-03, RDMAP-5040-5.4-09
    """Whatever was begun: a message, and the answer to a Read."""
    memory = slow.node.region(1000)
    slow.node.post(Write((memory[:],), RemoteRegion(0, 1, 1000), "long"))
    feed(slow.node.qp, slow.peer.frames(read(memory, size=1000)))
    let_out(slow, underway)
    feed(slow.node.qp, slow.peer.frames(write(5, 0, b"x")))
    assert [each.opcode for each in slow.peer.hears()][underway:] == [Opcode.TERMINATE]
    assert ended(slow.node.sent()) == [("long", FLUSHED)]


def test_errors_of_mpa_quote_nothing(scene: Scene) -> None:  # RDMAP-5040-4.8-18
    scene.peer.sends(scene.peer.frames(write(), crc=0))
    (heard,) = scene.peer.hears()
    assert heard.payload == bytes.fromhex("20 02 00 00")


def test_an_error_of_this_side_s_own_quotes_nothing() -> None:  # RDMAP-5040-7.1-02, RDMAP-5040-4.8-12
    """The Terminate comes in the place of the message that could not be made."""
    scene = Scene(mulpdu=128)
    scene.peer.end.clogged = True
    scene.node.send(b"in the way")
    scene.peer.sends()
    memory = scene.node.region(1000)
    scene.node.post(Write((memory[:],), wr_id="write"))
    scene.node.qp._take(scene.node.qp.stream.fail(LocalCatastrophe("the memory is gone")))
    scene.peer.end.clogged = False
    first, last = scene.peer.hears()
    assert (first.opcode, last.opcode, last.payload) == (Opcode.SEND, Opcode.TERMINATE, bytes(4))
    assert ended(scene.node.sent())[1:] == [("write", FLUSHED)]
    assert scene.error is not None


# --- the peer's Terminate --------------------------------------------------------------------------------------------

TOLD: dict[str, tuple[bytes, Term]] = {
    "a cause alone": (bytes.fromhex("11 00 0000"), Term(1, 1, 0)),
    "reserved bits": (bytes.fromhex("11 00 1FFF"), Term(1, 1, 0)),  # RDMAP-5040-4.8-08
    "any local catastrophe": (bytes.fromhex("00 5A 0000"), Term(0, 0, 0x5A)),  # RDMAP-5040-4.8-17
    "a code that nobody knows": (bytes.fromhex("3F 77 0000"), Term(3, 0xF, 0x77)),
    "with headers": (bytes.fromhex("11 00 C000 0012") + write(7, 8).octets(0), Term(1, 1, 0)),
    "a header without a valid length": (bytes.fromhex("11 00 4000 0000") + write(7, 8).octets(0), Term(1, 1, 0)),
    "headers of zero": (bytes.fromhex("20 02 0000") + bytes(48), Term(2, 0, 2)),  # ambiguity 11
}


@pytest.mark.parametrize("case", TOLD)
@pytest.mark.parametrize("receives", [0, 2])
def test_the_peer_s_terminate_always_has_a_place(case: str, receives: int) -> None:
    # RDMAP-5040-4.8-10
    # RDMAP-5040-5.4-03, -04, -05, -06, RDMAP-5040-6.2.1-02, RDMAP-5040-3.2-08: whether receives are posted or not
    scene = Scene(receives=receives)
    payload, term = TOLD[case]
    scene.peer.sends(Segment(opcode=Opcode.TERMINATE, qn=2, msn=1, payload=payload))
    assert isinstance(scene.error, TerminatedByPeer)
    assert scene.error.term == term
    assert scene.error.header == (write(7, 8).octets(0) if "a header" in case or "with headers" in case else b"")
    assert scene.node.qp.state is QpState.ERROR
    assert len(scene.node.received()) == receives, "no receive was taken, all are flushed"
    scene.peer.expects_end_of_stream()


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"msn": 2}, errors.MsnOutOfRange),
        ({"msn": 0}, errors.MsnOutOfRange),
        ({"mo": 64}, errors.InvalidMo),
        ({"payload": b"\x11\x00\x00"}, errors.MalformedMessage),
        ({"payload": b""}, errors.MalformedMessage),
        ({"payload": bytes(65)}, errors.MessageTooLong),
        ({"qn": 0}, errors.UnexpectedOpcode),
        ({"rv": 0}, errors.RdmapVersion),
    ],
)
def test_a_terminate_that_breaks_a_rule(
    scene: Scene, fields: dict[str, Any], violation: type[errors.ProtocolViolation]
) -> None:  # RDMAP-5040-5.4-07, RDMAP-5040-7.2-01
    usual: dict[str, Any] = {"opcode": Opcode.TERMINATE, "qn": 2, "msn": 1, "payload": bytes.fromhex("11000000")}
    scene.peer.sends(Segment(**usual | fields))
    scene.peer.expects_terminate(violation.term)
    scene.peer.expects_end_of_stream()
    assert type(scene.error) is violation


def test_nothing_is_sent_behind_a_terminate(scene: Scene) -> None:  # RDMAP-5040-5.4-09
    memory = scene.node.region(100_000)
    scene.node.post(Write((memory[:],), wr_id="long"))
    scene.peer.sends(read(memory, size=50_000), write(5, 0, b"x"), read(memory, size=50_000))
    scene.node.send(b"late")
    scene.peer.sends(read(memory, size=4))
    heard = scene.peer.hears()
    assert [each.opcode for each in heard].index(Opcode.TERMINATE) == len(heard) - 1
    scene.peer.expects_end_of_stream()


# --- which codes exist -----------------------------------------------------------------------------------------------

REGISTERED = (  # RFC 6580 §3.1 to §3.3 and RFC 6581 §8
    {Term(0, 1, code) for code in (0, 1, 2, 3, 4, 9)}
    | {Term(0, 2, code) for code in (5, 6, 7, 8, 9)}
    | {Term(0, each, 0xFF) for each in (1, 2)}
    | {Term(1, 0, 0)}
    | {Term(1, 1, code) for code in range(5)}
    | {Term(1, 2, code) for code in range(1, 7)}
    | {Term(2, 0, code) for code in range(1, 8)}
)


def every_terminate() -> list[Heard]:
    """What comes back for one of each kind of error that can be provoked."""
    heard: list[Heard] = []
    segments = [segment for segment, _, _ in BAD.values()]
    segments += [write(dv=0), send(dv=0), send(qn=9, msn=1), send(b"x", mo=99), read(size=1, source_stag=3)]
    segments += [send(opcode=n) for n in range(16) if n not in (3, 5)]
    segments += [read(size=8, source_to=(1 << 64) - 1), write(1, (1 << 64) - 1, b"ab"), fetch_add(stag=1, to=1)]
    for segment in segments:
        peer = RawPeer()
        peer.node.receive(40)
        peer.sends(segment)
        heard += peer.hears()
    for octets in (fpdu(write().octets(0), crc=1), b"\xff\xff", fpdu(b"\xc1")):
        peer = RawPeer()
        peer.sends(octets)
        heard += peer.hears()
    for error in [cls for cls in vars(errors).values() if isinstance(cls, type) and hasattr(cls, "term")]:
        if issubclass(error, errors.ProtocolViolation):
            peer = RawPeer()
            peer.node.qp._take(peer.node.qp.stream.fail(error(*range(1, error.rule.count("{") + 1))))
            heard += peer.hears()
    return heard


CODES: dict[str, tuple[Callable[[Scene], Segment | bytes], str]] = {
    "Read, unknown STag": (lambda scene: read(size=1, source_stag=5), "01 00"),
    "Read, bounds": (lambda scene: read(scene.region, size=65), "01 01"),
    "Read, no right": (lambda scene: read(scene.write_only, size=1), "01 02"),
    "Read, another's STag": (lambda scene: read(scene.foreign, size=1), "01 03"),
    "Read, wrap": (lambda scene: read(scene.region, size=2, source_to=(1 << 64) - 1), "01 04"),
    "Atomic, unknown STag": (lambda scene: fetch_add(stag=5, to=0), "01 00"),
    "Atomic, bounds": (lambda scene: fetch_add(scene.region, 64), "01 01"),
    "Atomic, no right": (lambda scene: fetch_add(scene.read_only), "01 02"),
    "Atomic, another's STag": (lambda scene: fetch_add(scene.foreign), "01 03"),
    "Atomic, wrap": (lambda scene: fetch_add(stag=scene.region.stag, to=(1 << 64) - 1), "01 04"),
    "Send Inv": (lambda scene: send(opcode=Opcode.SEND_INVAL, inval_stag=scene.foreign.stag), "01 09"),
    "version": (lambda scene: send(b"a", rv=2), "02 05"),
    "opcode": (lambda scene: send(b"a", opcode=0xE), "02 06"),
    "misaligned Atomic": (lambda scene: fetch_add(scene.region, 4), "02 07"),
    "length of a Read Request": (lambda scene: Segment(opcode=1, qn=1, payload=bytes(27)), "02 FF"),
    "Write, unknown STag": (lambda scene: write(5, 0, b"a"), "11 00"),
    "Write, no right": (lambda scene: write(scene.read_only.stag, scene.read_only.to, b"a"), "11 00"),
    "Write, bounds": (lambda scene: write(scene.region.stag, scene.region.to + 64, b"a"), "11 01"),
    "Write, another's STag": (lambda scene: write(scene.foreign.stag, scene.foreign.to, b"a"), "11 02"),
    "Write, wrap": (lambda scene: write(scene.region.stag, (1 << 64) - 1, b"ab"), "11 03"),
    "Write, DDP version": (lambda scene: write(dv=0), "11 04"),
    "queue": (lambda scene: send(b"a", qn=9, msn=1), "12 01"),
    "no buffer": (lambda scene: Segment(opcode=0xB, qn=3, msn=1, payload=bytes(12)), "12 02"),
    "MSN": (lambda scene: send(b"a", msn=2), "12 03"),
    "MO": (lambda scene: send(b"a", mo=40), "12 04"),
    "too long": (lambda scene: send(bytes(41)), "12 05"),
    "Send, DDP version": (lambda scene: send(b"a", dv=0), "12 06"),
    "CRC": (lambda scene: fpdu(write().octets(0), crc=0), "20 02"),
}


@pytest.mark.parametrize("case", CODES)
def test_the_code_of_each_error(scene: Scene, case: str) -> None:
    # RDMAP-5040-4.8-02, -03, RDMAP-6580-3.1-01, RDMAP-5040-5.3-04, -15, RDMAP-5040-7.2-01..-07, RDMAP-5040-7.2-09..-14
    # RDMAP-5040-5.2.1-14, EXT-7306-8.2-05, -06, EXT-7306-5.1.1-04
    """Layer, EType and code, as RFC 5040 figure 9, RFC 5041 §7.2 and RFC 5044 §8 have them."""
    make, octets = CODES[case]
    scene.peer.sends(make(scene))
    (heard,) = scene.peer.hears()
    assert heard.opcode is Opcode.TERMINATE
    assert heard.payload[:2] == bytes.fromhex(octets)


def test_only_registered_codes_are_sent() -> None:
    # RDMAP-6580-3.1-01, DDP-6580-3.2-01, MPA-6580-3.3-01, DDP-5041-7.2-01, RDMAP-5040-4.8-03, MPA2-6581-8-01
    heard = every_terminate()
    terms = {each.term for each in heard}
    assert terms - {term for term in terms if term[:2] == (0, 0)} <= REGISTERED
    assert {term.layer for term in terms} == {0, 1, 2}
    assert len(terms) > 20


def test_only_registered_opcodes_and_queues_are_sent() -> None:  # RDMAP-6580-3.4-01, EXT-7306-10.2-01
    scene = Scene()
    scene.node.send(b"x", solicited=True, inval_stag=1)
    scene.peer.sends(read(scene.region, size=4), fetch_add(scene.region), write(5, 0, b"x"))
    heard = [*scene.peer.hears(), *every_terminate()]
    assert all(each.ulpdu[1] & 0x0F <= 0xB for each in heard)
    assert {each.qn for each in heard if not each.tagged} <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("fault", "octets"),
    [
        (SetupFailed("the queue pair was closed"), "20 05 00 00"),
        (InsufficientIrd(5, 4), "20 06 00 00"),
        (NoMatchingRtr(1, 2), "20 07 00 00"),
    ],
)
def test_faults_of_startup(fault: InsufficientIrd, octets: str) -> None:  # MPA2-6581-8-01, MPA2-6581-9.1-11, -9.2-12
    peer = RawPeer(fault=fault)
    (heard,) = peer.hears()
    assert heard.payload == bytes.fromhex(octets)
    peer.expects_end_of_stream()
    assert type(peer.node.qp.error) is type(fault)


def test_the_first_error_is_the_one_that_is_told(scene: Scene) -> None:  # RDMAP-5040-7.1-05
    scene.peer.sends(
        b"".join(scene.peer.frames(bad) for bad in (write(0x55, 0, b"x"), send(qn=9, msn=1), read(size=1)))
    )
    (heard,) = scene.peer.hears()
    assert heard.term == errors.InvalidStag.term
    assert heard.quoted[2:6] == bytes.fromhex("00000055")
    assert octets_of(scene.region) == b"." * 64
