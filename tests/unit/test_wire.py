"""`wire`: what each definition looks like on the wire, what is refused and how the refusal reads."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from construct import Construct

from pyiwarp import wire
from pyiwarp.codes import AtomicOpcode, Opcode
from pyiwarp.errors import MalformedMessage, MalformedStartup, Term, UsageError
from pyiwarp.wire import AtomicRequest, AtomicResponse, Enhanced, ImmediateData, StartupFrame, Terminate

REQUEST = StartupFrame(
    reply=False, markers=False, crc=True, rejected=False, enhanced=False, revision=1, private_data=b""
)
REPLY = REQUEST._replace(reply=True)
WORD = bytes.fromhex("C004 C004")
CLIENT_SERVER = Enhanced(peer_to_peer=False, rtr_send=False, ird=1, rtr_write=False, rtr_read=False, ord=1)

INVALID_STAG = Term(1, 1, 0)
TAGGED_COPY = bytes.fromhex("C140 12345678 0000000000001000")
UNTAGGED_COPY = bytes.fromhex("4141 00000000 00000001 00000001 00000000")
READ_COPY = bytes.fromhex("DEADBEEF 0000000000000000 00000010 12345678 0000000000001000")

FETCH_ADD = AtomicRequest(AtomicOpcode.FETCH_ADD, request_id=0x11, stag=0x12345678, to=0x1000, data=1, mask=0)


# --- the definitions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "size"),
    [
        (wire.Marker, 4),  # MPA-5044-4.2-01
        (wire.StartupFlags, 1),
        (wire.StartupHeader, 20),
        (wire.EnhancedWord, 4),
        (wire.DdpControl, 1),
        (wire.RdmapControl, 1),
        (wire.TaggedHeader, 14),  # DDP-5041-4.2-01
        (wire.UntaggedHeader, 18),  # DDP-5041-4.3-01
        (wire.ReadRequestHeader, 28),  # RDMAP-5040-4.4-01
        (wire.TerminateControl, 4),  # RDMAP-5040-4.8-01
        (wire.AtomicRequestHeader, 52),  # EXT-7306-5.2.1-01
        (wire.AtomicResponseHeader, 12),  # EXT-7306-5.2.2-01
        (wire.ImmediateDataHeader, 8),  # EXT-7306-6.3-05
    ],
)
def test_sizes_are_those_of_the_figures(definition: Construct[Any, Any], size: int) -> None:
    assert definition.sizeof() == size


@pytest.mark.parametrize(
    ("definition", "field", "octet"),
    [
        (wire.StartupFlags, "markers", 0x80),
        (wire.StartupFlags, "crc", 0x40),
        (wire.StartupFlags, "rejected", 0x20),
        (wire.StartupFlags, "enhanced", 0x10),  # MPA2-6581-6-01
        (wire.DdpControl, "tagged", 0x80),
        (wire.DdpControl, "last", 0x40),
    ],
)
def test_each_flag_has_its_bit(definition: Construct[Any, Any], field: str, octet: int) -> None:
    assert [name for name, value in definition.parse(bytes([octet])).items() if value is True] == [field]


def test_reserved_bits_have_a_name_and_no_meaning() -> None:  # RDMAP-5040-4.1-09, EXT-7306-5.2.1-03
    assert wire.DdpControl.parse(b"\xbd").rsvd == 0xF
    assert wire.RdmapControl.parse(b"\x73") == {"rv": 1, "rsvd": 3, "opcode": Opcode.SEND}
    assert wire.StartupFlags.parse(b"\x0f").rsvd == 0xF
    assert wire.Marker.parse(b"\xff\xff\x00\x14") == {"rsvd": 0xFFFF, "fpduptr": 0x14}  # MPA-5044-4.2-03
    assert wire.TerminateControl.parse(b"\x00\x00\x1f\xff").rsvd == 0x1FFF
    operation = b"\xff\xff\xff\xf2"
    assert wire.parse_atomic_request(operation + bytes(48)).atomic_opcode == AtomicOpcode.COMPARE_SWAP


def test_control_fields_have_the_versions_and_zeros_of_the_rfcs_by_default() -> None:
    assert wire.DdpControl.build({"tagged": True, "last": True}) == b"\xc1"  # DDP-5041-4.1-09, DDP-5041-4.1-11
    assert wire.RdmapControl.build({"opcode": Opcode.SEND}) == b"\x43"  # RDMAP-5040-4.1-07, RDMAP-5040-4.1-08


@pytest.mark.parametrize(("size", "pad"), [(14, 0), (15, 3), (16, 2), (17, 1), (18, 0), (0, 2), (64_768, 2)])
def test_an_fpdu_is_padded_to_a_multiple_of_four(size: int, pad: int) -> None:  # MPA-5044-4.1-05, MPA-5044-4.1-03
    octets = wire.Fpdu.build({"ulpdu": b"\xaa" * size, "crc": 0x83992352})
    assert octets == size.to_bytes(2, "big") + b"\xaa" * size + bytes(pad) + bytes.fromhex("52239983")
    assert len(octets) % 4 == 0


def test_the_pad_of_a_received_fpdu_may_hold_anything() -> None:  # MPA-5044-4.1-04
    fpdu = wire.Fpdu.parse(b"\x00\x01a\x7f" + bytes.fromhex("52239983"))
    assert (fpdu.ulpdu, fpdu.pad, fpdu.crc) == (b"a", b"\x7f", 0x83992352)


@pytest.mark.parametrize(
    ("fields", "octets"),
    [
        ({"has_length": False, "has_ddp_header": False, "has_rdma_header": False}, "1100 0000"),
        ({"has_length": True, "has_ddp_header": False, "has_rdma_header": False}, "1100 8000 0012"),
        ({"has_length": False, "has_ddp_header": True, "has_rdma_header": False}, "1100 4000 0012" + TAGGED_COPY.hex()),
        ({"has_length": False, "has_ddp_header": False, "has_rdma_header": True}, "1100 2000" + READ_COPY.hex()),
    ],
)
def test_the_terminate_header_has_what_its_bits_announce(fields: dict[str, bool], octets: str) -> None:
    """RDMAP-5040-4.8-02, RDMAP-5040-4.8-10, RDMAP-5040-4.8-11, RDMAP-5040-4.8-13."""
    header = {
        "control": {"layer": 1, "etype": 1, "code": 0, **fields},
        "segment_length": 0x12,
        "ddp_header": TAGGED_COPY,
        "rdma_header": READ_COPY,
    }
    assert wire.TerminateHeader.build(header) == bytes.fromhex(octets)
    read = wire.TerminateHeader.parse(bytes.fromhex(octets))
    assert wire.TerminateHeader.build(read) == bytes.fromhex(octets)


# --- startup frames --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "mask"), [("markers", 0x80), ("crc", 0x40), ("rejected", 0x20), ("enhanced", 0x10)])
def test_each_startup_flag_travels_alone(flag: str, mask: int) -> None:  # MPA-5044-7.1.1-13, MPA-5044-7.1.1-14
    quiet = REPLY._replace(crc=False, revision=2, private_data=WORD)
    raised: dict[str, Any] = {flag: True}
    octets = wire.build_startup(quiet._replace(**raised))
    assert (wire.build_startup(quiet)[16], octets[16]) == (0, mask)
    header, _ = wire.parse_startup_header(octets, reply=True)
    assert header == quiet._replace(**raised, private_data=b"")


def test_the_reject_bit_of_a_request_is_not_looked_at() -> None:  # MPA-5044-7.1.1-12
    octets = bytearray(wire.build_startup(REQUEST))
    octets[16] |= 0x20
    assert wire.parse_startup_header(octets, reply=False) == (REQUEST, 0)


def test_the_s_bit_is_reserved_before_revision_2() -> None:  # MPA-5044-7.1.1-15, MPA2-6581-6-06
    octets = bytearray(wire.build_startup(REQUEST))
    octets[16] |= 0x10
    assert wire.parse_startup_header(octets, reply=False) == (REQUEST, 0)
    octets[17] = 2
    assert wire.parse_startup_header(octets, reply=False) == (REQUEST._replace(enhanced=True, revision=2), 0)


@pytest.mark.parametrize("revision", [0, 1, 2, 3, 255])
def test_the_revision_is_reported_not_judged(revision: int) -> None:  # MPA-5044-7.1.1-18
    octets = bytearray(wire.build_startup(REQUEST))
    octets[17] = revision
    assert wire.parse_startup_header(octets, reply=False)[0].revision == revision


@pytest.mark.parametrize(
    ("key", "reply", "text"),
    [
        (wire.REQUEST_KEY, True, "an MPA Request came where a Reply is due: both sides are Initiators"),
        (wire.REPLY_KEY, False, "an MPA Reply came where a Request is due"),
        (b"GET / HTTP/1.1\r\n", False, r"the peer does not speak MPA: b'GET / HTTP/1.1\r\n' came"),
        (b"MPA ID Rep frame", True, "the peer does not speak MPA: b'MPA ID Rep frame' came"),
    ],
)
def test_a_wrong_key_is_refused_by_what_it_looks_like(key: bytes, reply: bool, text: str) -> None:
    """MPA-5044-7.1.1-02, MPA-5044-7.1.1-04, MPA-5044-7.1.2-21."""
    with pytest.raises(MalformedStartup) as refused:
        wire.parse_startup_header(key + b"\x40\x01\x00\x00", reply=reply)
    assert str(refused.value).startswith(text)
    assert "RFC 5044 §7.1" in str(refused.value)
    assert str(refused.value).endswith(key.hex(" "))


@pytest.mark.parametrize("size", range(17))
@pytest.mark.parametrize(("key", "reply"), [(wire.REQUEST_KEY, False), (wire.REPLY_KEY, True)])
def test_the_beginning_of_the_right_key_is_no_fault(key: bytes, reply: bool, size: int) -> None:
    wire.check_startup_key(key[:size], reply=reply)


@pytest.mark.parametrize(
    ("seen", "reply", "text"),
    [
        (b"MPA ID Req", True, "an MPA Request came where a Reply is due"),  # MPA-5044-7.1.2-21
        (b"MPA ID Rep", False, "an MPA Reply came where a Request is due"),
        (b"G", False, "the peer does not speak MPA: b'G' came"),
        (b"MPA ID Rex", True, "the peer does not speak MPA: b'MPA ID Rex' came"),
    ],
)
def test_a_wrong_key_is_refused_at_its_first_wrong_octet(seen: bytes, reply: bool, text: str) -> None:
    with pytest.raises(MalformedStartup) as refused:
        wire.check_startup_key(seen, reply=reply)
    assert str(refused.value).startswith(text)
    assert str(refused.value).endswith(seen.hex(" "))


@pytest.mark.parametrize("octet", range(16))
def test_every_octet_of_the_key_counts(octet: int) -> None:  # MPA-5044-7.1.1-02
    octets = bytearray(wire.build_startup(REQUEST))
    octets[octet] ^= 0x20
    with pytest.raises(MalformedStartup):
        wire.parse_startup_header(octets, reply=False)


def test_private_data_up_to_512_octets_is_announced() -> None:  # MPA-5044-7.1.1-23
    octets = wire.build_startup(REQUEST._replace(private_data=bytes(512)))
    assert len(octets) == 532
    assert wire.parse_startup_header(octets, reply=False) == (REQUEST, 512)


@pytest.mark.parametrize("length", [513, 0xFFFF])
def test_a_longer_announcement_is_refused(length: int) -> None:  # MPA-5044-7.1.1-21, MPA-5044-7.1.2-23
    octets = wire.REQUEST_KEY + b"\x40\x01" + length.to_bytes(2, "big")
    with pytest.raises(MalformedStartup, match=f"PD_Length is {length}, at most 512 .* 40 01 .*RFC 5044 §7.1.1"):
        wire.parse_startup_header(octets, reply=False)


def test_a_frame_that_ends_inside_its_header_is_refused() -> None:
    octets = wire.build_startup(REQUEST)
    for size in range(wire.STARTUP_HEADER_SIZE):
        with pytest.raises(MalformedStartup, match=f"a startup frame of {size} octets ends inside its header"):
            wire.parse_startup_header(octets[:size], reply=False)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (REQUEST._replace(private_data=bytes(513)), "Private Data of 513 octets, 512 are allowed"),  # MPA-5044-7.1.1-23
        (  # MPA2-6581-9-02
            REQUEST._replace(revision=2, enhanced=True, private_data=WORD + bytes(509)),
            "Private Data of 513 octets, 512 are allowed",
        ),
        (REQUEST._replace(rejected=True), "a Request cannot reject"),  # MPA-5044-7.1.1-11
        (REQUEST._replace(enhanced=True, private_data=WORD), "enhanced startup needs revision 2"),  # MPA2-6581-6-04
        (  # MPA2-6581-6-08
            REQUEST._replace(revision=2, enhanced=True, private_data=WORD[:3]),
            "the enhanced word is missing",
        ),
        (REQUEST._replace(revision=256), "does not fit the format of RFC 5044 §7.1.1"),
    ],
)
def test_no_forbidden_startup_frame_is_built(frame: StartupFrame, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        wire.build_startup(frame)


# --- the enhanced word -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "octets"),
    [
        ({}, "80000000"),
        ({"rtr_send": True}, "C0000000"),
        ({"ird": 0x3FFF}, "BFFF0000"),
        ({"rtr_write": True}, "80008000"),
        ({"rtr_read": True}, "80004000"),
        ({"ord": 0x3FFF}, "80003FFF"),
    ],
)
def test_each_field_of_the_enhanced_word_has_its_bits(changes: dict[str, Any], octets: str) -> None:
    """MPA2-6581-9-01."""
    word = CLIENT_SERVER._replace(peer_to_peer=True, ird=0, ord=0)._replace(**changes)
    assert wire.build_enhanced(word) == bytes.fromhex(octets)
    assert wire.parse_enhanced(bytes.fromhex(octets)) == word


def test_rtr_bits_mean_nothing_without_the_peer_to_peer_bit() -> None:  # MPA2-6581-9.2-16
    assert wire.parse_enhanced(bytes.fromhex("4001C001")) == CLIENT_SERVER


@pytest.mark.parametrize("bit", ["rtr_send", "rtr_write", "rtr_read"])
def test_rtr_bits_are_not_sent_without_the_peer_to_peer_bit(bit: str) -> None:  # MPA2-6581-9.2-15
    raised: dict[str, Any] = {bit: True}
    with pytest.raises(UsageError, match="RTR bits without the peer-to-peer bit"):
        wire.build_enhanced(CLIENT_SERVER._replace(**raised))


@pytest.mark.parametrize("depth", ["ird", "ord"])
@pytest.mark.parametrize("value", [-1, 0x4000])
def test_depths_have_fourteen_bits(depth: str, value: int) -> None:  # MPA2-6581-9-01
    changes: dict[str, Any] = {depth: value}
    with pytest.raises(UsageError, match="does not fit the format of RFC 6581 §9"):
        wire.build_enhanced(CLIENT_SERVER._replace(**changes))


@pytest.mark.parametrize(("octets", "seen"), [(b"", "no octets"), (b"\xc0\x04\xc0", "c0 04 c0")])
def test_a_cut_enhanced_word_is_refused(octets: bytes, seen: str) -> None:  # MPA2-6581-6-08
    with pytest.raises(MalformedStartup, match=rf"too short for the enhanced word: {seen} \(RFC 6581 §6\)"):
        wire.parse_enhanced(octets)


def test_the_ulp_s_private_data_follows_the_enhanced_word() -> None:
    assert wire.parse_enhanced(wire.build_enhanced(CLIENT_SERVER) + b"hello") == CLIENT_SERVER


# --- Terminate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminate", "bits"),
    [
        (Terminate(INVALID_STAG, None, b"", b""), 0x00),  # RDMAP-5040-4.8-18
        (Terminate(INVALID_STAG, 0, b"", b""), 0x80),  # RDMAP-5040-4.8-04
        (Terminate(INVALID_STAG, None, TAGGED_COPY, b""), 0x40),  # RDMAP-5040-4.8-05
        (Terminate(INVALID_STAG, 18, UNTAGGED_COPY, b""), 0xC0),
        (Terminate(INVALID_STAG, 46, UNTAGGED_COPY, READ_COPY), 0xE0),  # RDMAP-5040-4.8-06
        (Terminate(INVALID_STAG, 46, b"", READ_COPY), 0xA0),
    ],
)
def test_the_header_bits_follow_from_what_is_there(terminate: Terminate, bits: int) -> None:
    octets = wire.build_terminate(terminate)
    assert octets[:4] == bytes([0x11, 0x00, bits, 0x00])  # RDMAP-5040-4.8-07
    assert wire.parse_terminate(octets) == terminate


@pytest.mark.parametrize(
    "terminate",
    [
        Terminate(Term(16, 0, 0), None, b"", b""),
        Terminate(Term(0, 16, 0), None, b"", b""),
        Terminate(Term(0, 0, 256), None, b"", b""),
        Terminate(INVALID_STAG, 0x1_0000, b"", b""),
        Terminate(INVALID_STAG, 18, TAGGED_COPY[:-1], b""),
        Terminate(INVALID_STAG, 18, TAGGED_COPY + bytes(4), b""),
        Terminate(INVALID_STAG, 18, UNTAGGED_COPY[:14], b""),
        Terminate(INVALID_STAG, 46, UNTAGGED_COPY, READ_COPY[:-1]),
    ],
)
def test_no_terminate_is_built_that_the_peer_could_not_read(terminate: Terminate) -> None:  # RDMAP-5040-4.8-11
    with pytest.raises(UsageError, match="does not fit the format of RFC 5040"):
        wire.build_terminate(terminate)


@pytest.mark.parametrize("padding", [b"", b"\0", bytes(2), bytes(48)])
def test_unused_fields_may_be_absent_or_zero(padding: bytes) -> None:  # RDMAP-5040-7.1-02
    terminate = wire.parse_terminate(bytes.fromhex("20020000") + padding)
    assert terminate == Terminate(Term(2, 0, 2), None, b"", b"")


@pytest.mark.parametrize(
    ("kept", "length", "ddp_header", "rdma_header"),
    [
        (4, None, b"", b""),
        (5, None, b"", b""),  # half a length is none
        (6, 46, b"", b""),
        (20, 46, UNTAGGED_COPY[:14], b""),
        (24, 46, UNTAGGED_COPY, b""),
        (51, 46, UNTAGGED_COPY, READ_COPY[:27]),
        (52, 46, UNTAGGED_COPY, READ_COPY),
    ],
)
def test_what_a_terminate_announces_may_be_cut(
    kept: int, length: int | None, ddp_header: bytes, rdma_header: bytes
) -> None:
    whole = wire.build_terminate(Terminate(INVALID_STAG, 46, UNTAGGED_COPY, READ_COPY))
    assert wire.parse_terminate(whole[:kept]) == Terminate(INVALID_STAG, length, ddp_header, rdma_header)


def test_a_length_that_is_not_valid_is_none() -> None:  # RDMAP-5040-4.8-09
    octets = bytes.fromhex("11004000 1234") + TAGGED_COPY
    assert wire.parse_terminate(octets) == Terminate(INVALID_STAG, None, TAGGED_COPY, b"")


@pytest.mark.parametrize("size", range(4))
def test_a_terminate_without_a_cause_is_refused(size: int) -> None:  # RDMAP-5040-4.8-01
    with pytest.raises(MalformedMessage) as refused:
        wire.parse_terminate(bytes(size))
    assert refused.value.args == (Opcode.TERMINATE, size, 4)


@pytest.mark.parametrize("size", [1, 27, 29, 30, 44, 46])
def test_an_rdma_header_that_could_start_anywhere_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessage) as refused:
        wire.parse_terminate(bytes.fromhex("01002000") + bytes(size))
    assert refused.value.args == (Opcode.TERMINATE, 4 + size, 32)


def test_an_rdma_header_announced_alone_may_be_absent() -> None:
    assert wire.parse_terminate(bytes.fromhex("01002000")) == Terminate(Term(0, 1, 0), None, b"", b"")


# --- atomics and immediate data --------------------------------------------------------------------------------------


def test_a_fetch_add_has_the_compare_fields_of_the_rfc() -> None:  # EXT-7306-5.2.1-08, EXT-7306-5.2.1-02
    octets = wire.build_atomic_request(FETCH_ADD)
    assert octets[:4] == bytes(4)
    assert octets[36:] == bytes(8) + b"\xff" * 8
    assert wire.parse_atomic_request(octets) == FETCH_ADD


def test_each_field_of_a_compare_and_swap_has_its_place() -> None:  # EXT-7306-5.2.1-01, EXT-7306-5.2.1-05
    request = AtomicRequest(AtomicOpcode.COMPARE_SWAP, 1, 2, 3, data=4, mask=5, compare_data=6, compare_mask=7)
    octets = wire.build_atomic_request(request)
    assert octets == bytes.fromhex(
        "00000002 00000001 00000002 00000000000000030000000000000004 0000000000000005 0000000000000006 0000000000000007"
    )
    assert wire.parse_atomic_request(octets) == request


def test_an_unknown_atomic_opcode_is_reported_not_judged() -> None:  # EXT-7306-5.2.1-14
    assert wire.parse_atomic_request(b"\x00\x00\x00\x0f" + bytes(48)).atomic_opcode == 0xF


@pytest.mark.parametrize(
    ("parse", "opcode", "size"),
    [
        (wire.parse_atomic_request, Opcode.ATOMIC_REQUEST, 52),
        (wire.parse_atomic_response, Opcode.ATOMIC_RESPONSE, 12),
        (wire.parse_immediate_data, Opcode.IMMEDIATE, 8),  # EXT-7306-6.3-07
    ],
)
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_message_of_another_length_is_refused(
    parse: Callable[[bytes], object], opcode: Opcode, size: int, difference: int
) -> None:
    with pytest.raises(MalformedMessage) as refused:
        parse(bytes(size + difference))
    assert refused.value.args == (opcode, size + difference, size)


def test_a_refusal_of_immediate_data_names_the_opcode_that_came() -> None:
    with pytest.raises(MalformedMessage, match="opcode 0x9 has 0 octets where 8 are due"):
        wire.parse_immediate_data(b"", Opcode.IMMEDIATE_SE)


@pytest.mark.parametrize(
    "build",
    [
        lambda: wire.build_atomic_request(FETCH_ADD._replace(atomic_opcode=16)),
        lambda: wire.build_atomic_request(FETCH_ADD._replace(stag=1 << 32)),
        lambda: wire.build_atomic_request(FETCH_ADD._replace(mask=-1)),
        lambda: wire.build_atomic_response(AtomicResponse(request_id=1 << 32, original_value=0)),
        lambda: wire.build_atomic_response(AtomicResponse(request_id=0, original_value=1 << 64)),
        lambda: wire.build_immediate_data(ImmediateData(bytes(7))),  # EXT-7306-6.3-05
        lambda: wire.build_immediate_data(ImmediateData(bytes(9))),
    ],
)
def test_what_does_not_fit_is_the_caller_s_mistake(build: Callable[[], bytes]) -> None:
    with pytest.raises(UsageError, match=r"does not fit the format of RFC 7306 §[56]"):
        build()


# --- the module ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_octets_are_read_from_any_buffer(kind: type[bytes | bytearray | memoryview]) -> None:
    terminate = Terminate(INVALID_STAG, 46, UNTAGGED_COPY, READ_COPY)
    assert wire.parse_startup_header(kind(wire.build_startup(REPLY)), reply=True) == (REPLY, 0)
    assert wire.parse_enhanced(kind(wire.build_enhanced(CLIENT_SERVER))) == CLIENT_SERVER
    assert wire.parse_terminate(kind(wire.build_terminate(terminate))) == terminate
    assert wire.parse_atomic_request(kind(wire.build_atomic_request(FETCH_ADD))) == FETCH_ADD
    assert wire.parse_immediate_data(kind(b"12345678")) == ImmediateData(b"12345678")


def test_everything_public_is_listed() -> None:
    tree = ast.parse(inspect.getsource(wire))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    shared = {"REQUEST_KEY", "REPLY_KEY", "StartupFrame", "Enhanced"}  # with the fast twin
    assert set(wire.__all__) - shared == {name for name in defined if not name.startswith("_")} - {"Octets"}
