"""The kinds of work requests: what each moves, pins and is called (RFC 5040 §5)."""

from __future__ import annotations

from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.request_kinds import KINDS
from pyiwarp.queues.work import Read, Send, SendRequest, WorkOpcode, Write
from tests.harness import Node

REMOTE = RemoteRegion(0x1000, 0x77, 64)
CAP = QpCap()


def test_memory_of_requests() -> None:
    node = Node()
    region = node.region(b"0123456789")
    sges = (region[2:4], region[5:5], region[8:])
    requests: list[tuple[SendRequest, WorkOpcode]] = [
        (Send(sges), WorkOpcode.SEND),
        (Write(sges, REMOTE), WorkOpcode.WRITE),
    ]
    for request, opcode in requests:
        nbytes, pinned, payload = KINDS[type(request)].admit(request, node.qp._sq)
        assert (nbytes, pinned) == (4, sges)
        assert [bytes(view) for view in payload] == [b"23", b"89"]
        assert KINDS[type(request)].opcode is opcode
    sink = node.region(10, Access.LOCAL_WRITE)
    assert KINDS[Read].admit(Read(sink[:3], REMOTE), node.qp._sq)[:2] == (3, (sink[:3],))
    assert KINDS[Read].admit(Read(None, REMOTE), node.qp._sq) == (0, (), ())
    assert KINDS[Read].opcode is WorkOpcode.READ


def test_inline_octets_are_copied() -> None:
    octets = bytearray(b"now")
    _, _, payload = KINDS[Send].admit(Send(inline=octets), Node().qp._sq)
    octets[:] = b"new"
    assert payload == (b"now",)


def test_every_request_has_its_kind() -> None:
    assert set(KINDS) == set(SendRequest.__args__)
