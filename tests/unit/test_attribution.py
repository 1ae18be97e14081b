"""Whose fault it was: the status of each work request when a stream ends, and the one that the error is laid on."""

from __future__ import annotations

import struct

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import TERMS, InvalidStag, ReadAccessRights, Term, TerminatedByPeer
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.attribution import STATUSES, refused_request, status_of
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Send, SendRequest, Status, Write
from tests.harness import Node, Pair, RawPeer, ended, response, send, terminate

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


def test_every_registered_code_has_a_status_and_no_other() -> None:
    assert set(STATUSES) == set(TERMS)
    assert status_of(Term(1, 2, 0x77)) is Status.REM_OP_ERR
    for family, status in (
        (errors.TaggedBufferError, Status.REM_ACCESS_ERR),
        (errors.RemoteProtection, Status.REM_ACCESS_ERR),
        (errors.UntaggedBufferError, Status.REM_INV_REQ_ERR),
        (errors.MpaError, Status.FATAL_ERR),
    ):
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, family)]
        own = {kind.term for kind in kinds if hasattr(kind, "term")}
        assert {STATUSES[term] for term in own - {errors.TaggedVersion.term}} == {status}


# --- a peer that refuses, for real -----------------------------------------------------------------------------------


def test_of_several_reads_the_one_that_was_refused_fails() -> None:
    pair = Pair()
    good, bad = pair.right.region(8), pair.right.region(8, Access.LOCAL_WRITE)
    sink = pair.left.region(8)
    pair.left.post(
        Read(sink[:], good[:].remote(), 1),
        Read(sink[:], bad[:].remote(), 2),
        Read(sink[:], good[:].remote(), 3),
        Send(wr_id=4),
    )
    pair.run()
    done = pair.left.sent()
    assert [wr_id for wr_id, _ in ended(done)] == [1, 2, 3, 4]
    assert [each.status for each in done[1:]] == [Status.REM_ACCESS_ERR, FLUSHED, FLUSHED]
    assert {type(each.error) for each in done[1:]} == {TerminatedByPeer}
    assert "access rights violation" in str(done[1])


def test_a_send_that_does_not_fit_fails_on_both_sides() -> None:  # RDMAP-5040-5.3-04
    pair = Pair(confirm=True)
    pair.right.receive(8, "fits")
    pair.right.receive(8, "too small")
    pair.right.receive(8, "not reached")
    for number in range(3):
        pair.left.send(bytes(9 if number == 1 else 8), number)
    pair.run()
    assert ended(pair.right.received()) == [("fits", OK), ("too small", Status.LOC_LEN_ERR), ("not reached", FLUSHED)]
    done = ended(pair.left.sent())
    assert done[1:] == [(1, Status.REM_INV_REQ_ERR), (2, FLUSHED)]


# --- a peer that quotes what it likes --------------------------------------------------------------------------------


def held(*requests: SendRequest, ord: int = 4) -> RawPeer:
    """A peer that has heard these requests, none of which is complete: TCP holds their octets."""
    peer = RawPeer(ord=ord)
    peer.end.clogged = True
    peer.node.post(*requests)
    peer._pump()
    return peer


def refused(peer: RawPeer, term: Term, quoted: bytes) -> list[tuple[object, Status]]:
    size = 14 if quoted and quoted[0] & 0x80 else 18
    peer.sends(terminate(term, len(quoted) or None, quoted[:size], quoted[size:]))
    peer.end.clogged = False
    peer._pump()
    return ended(peer.node.sent())


def tagged(stag: int, to: int, opcode: int = Opcode.WRITE) -> bytes:
    return struct.pack(">BBIQ", 0xC1, 0x40 | opcode, stag, to)


def untagged(qn: int, msn: int, opcode: int = Opcode.SEND) -> bytes:
    return struct.pack(">BBIIII", 0x41, 0x40 | opcode, 0, qn, msn, 0)


def read_request(source_stag: int) -> bytes:
    return struct.pack(">IQIIQ", 1, 0, 4, source_stag, 0)


def writes() -> RawPeer:
    there = [RemoteRegion(0x1000, 0x10, 8), RemoteRegion(0x2000, 0x10, 8), RemoteRegion(0, 0x20, 0)]
    return held(
        Write((), there[0], "a", b"12345678"),
        Write((), there[1], "b", b"12345678"),
        Send(wr_id="c"),
        Write((), there[2], "d"),
    )


@pytest.mark.parametrize(
    ("quoted", "who"),
    [
        (tagged(0x10, 0x1000), "a"),
        (tagged(0x10, 0x1007), "a"),
        (tagged(0x10, 0x1008), None),
        (tagged(0x10, 0x2004), "b"),
        (tagged(0x20, 0), "d"),
        (tagged(0x30, 0x1000), None),
        (tagged(0x10, 0x1000, Opcode.READ_RESPONSE), None),
        (untagged(0, 1), "c"),
        (untagged(0, 2), None),
        (untagged(0, 0), None),
        (untagged(1, 1), None),
        (untagged(2, 1), None),
        (untagged(9, 1), None),
        (b"", None),
    ],
)
def test_which_write_or_send_is_to_blame(quoted: bytes, who: str | None) -> None:
    done = refused(writes(), InvalidStag.term, quoted)
    if who is None:  # TCP has taken them, and nothing is known against them
        assert done == [(name, OK) for name in "abcd"]
    else:
        assert done == [(name, Status.REM_ACCESS_ERR if name == who else FLUSHED) for name in "abcd"]


@pytest.mark.parametrize(
    ("quoted", "who"),
    [
        (untagged(1, 1, Opcode.READ_REQUEST), 1),
        (untagged(1, 2, Opcode.READ_REQUEST), 2),
        (untagged(1, 2, Opcode.READ_REQUEST) + read_request(0x77), 2),
        (untagged(1, 2, Opcode.READ_REQUEST) + read_request(0x78), None),
        (untagged(1, 3, 8), 3),
        (untagged(1, 4, Opcode.READ_REQUEST), None),
        (untagged(0, 1), "s"),
        (untagged(0, 2), "i"),
    ],
)
def test_which_question_is_to_blame(quoted: bytes, who: object) -> None:
    node = Node()
    sink = node.region(4)
    peer = RawPeer(node, ord=3)
    node.post(
        Read(sink[:], SOMEWHERE, 1),
        Send(wr_id="s"),
        Read(sink[:], SOMEWHERE, 2),
        Immediate(b"12345678", "i"),
        FetchAdd(SOMEWHERE, 1, wr_id=3),
        Read(sink[:], SOMEWHERE, "waits"),
    )
    peer.hears()
    done = refused(peer, ReadAccessRights.term, quoted)
    names = [1, "s", 2, "i", 3, "waits"]
    assert done == [(name, Status.REM_ACCESS_ERR if name == who else FLUSHED) for name in names]


def test_an_empty_write_is_not_to_blame_for_the_one_behind_it() -> None:
    pair = Pair(confirm=True)
    pair.left.post(Write((), SOMEWHERE, "empty"), Write((), SOMEWHERE, "bad", b"1234"))
    pair.run()
    assert ended(pair.left.sent()) == [("empty", FLUSHED), ("bad", Status.REM_ACCESS_ERR)]


@pytest.mark.parametrize("header", [tagged(0x10, 0x1000)[:13], untagged(0, 1)[:17], b"\xc1", b"\x41"])
def test_a_header_that_is_cut_names_nobody(header: bytes) -> None:
    posted = writes().node.qp._sq.begun()
    assert refused_request(TerminatedByPeer(InvalidStag.term, header), posted, (), 2, 1) is None


def test_numbers_are_counted_from_where_the_stream_is() -> None:
    """Of what is complete nobody is to blame, and numbers that are behind name no one."""
    peer = RawPeer()
    for number in range(5):
        peer.node.send(b"", number)
        peer.hears()
    assert len(peer.node.sent()) == 5
    peer.end.clogged = True
    peer.node.send(b"", "last")
    peer._pump()
    assert refused(peer, errors.MessageTooLong.term, untagged(0, 6)) == [("last", Status.REM_INV_REQ_ERR)]


def test_a_response_that_is_too_short_is_the_reads_failure() -> None:
    node = Node()
    sink = node.region(4)
    peer = RawPeer(node)
    node.post(Send(wr_id=0), Read(sink[:], SOMEWHERE, 1), Read(sink[:], SOMEWHERE, 2))
    peer.hears()
    peer.sends(response(sink.stag, sink.to, b"12"))
    peer.hears()
    assert ended(node.sent()) == [(0, OK), (1, Status.BAD_RESP_ERR), (2, FLUSHED)]


def test_a_message_that_breaks_off_is_nobodys_fault() -> None:
    node = Node()
    peer = RawPeer(node)
    for number in range(2):
        node.receive(8, number)
    peer.sends(send(b"half", last=False))
    peer.sends(send(b"x", msn=7))
    peer.hears()
    assert ended(node.received()) == [(0, FLUSHED), (1, FLUSHED)]
