"""What a queue pair lets its peer do, whatever regions and windows allow: libibverbs' `qp_access_flags`."""

from __future__ import annotations

import pytest

from pyiwarp.access import REMOTE
from pyiwarp.errors import NoWriteRight, ReadAccessRights, Term, TerminatedByPeer, UsageError
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.verbs import AccessLog, CompareSwap, FetchAdd, QpOptions, Read, Send, SendRequest, Write
from tests.harness import Node, Pair, octets_of

EVERYTHING = REMOTE | Access.LOCAL_WRITE
RIGHTS = [Access.REMOTE_WRITE, Access.REMOTE_READ, Access.REMOTE_ATOMIC]


def asking(right: Access, remote: RemoteRegion, node: Node) -> SendRequest:
    if right is Access.REMOTE_WRITE:
        return Write(inline=b"x", remote=remote)
    if right is Access.REMOTE_READ:
        return Read(node.region(8)[:], remote)
    return FetchAdd(remote, 1)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_the_queue_pair_does_not_grant(right: Access, log: bool) -> None:
    # DDP-5041-7.1-11, RDMAP-5040-7.2-14, EXT-7306-8.2-06
    pair = Pair(nodes=(Node(), Node(access=REMOTE & ~right)))
    noted = AccessLog() if log else None
    region = pair.right.pd.register(bytearray(8), EVERYTHING | Access.ZERO_BASED, log=noted)
    pair.left.post(asking(right, region[:].remote(), pair.left))
    pair.run()
    error = NoWriteRight if right is Access.REMOTE_WRITE else ReadAccessRights
    assert isinstance(pair.right.qp.error, error)
    assert isinstance(pair.left.qp.error, TerminatedByPeer)
    assert pair.left.qp.error.term == (Term(1, 1, 0) if right is Access.REMOTE_WRITE else Term(0, 1, 2))
    assert octets_of(region) == bytes(8)
    assert not noted, "what is refused is not noted"


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_the_queue_pair_alone_grants(right: Access) -> None:
    pair = Pair(nodes=(Node(), Node(access=right)))
    region = pair.right.pd.register(bytearray(8), EVERYTHING | Access.ZERO_BASED)
    pair.right.receive(4)
    pair.left.post(asking(right, region[:].remote(), pair.left), Send(inline=b"sent"))
    pair.run()
    assert pair.right.qp.error is None
    assert len(pair.right.received()) == 1


def test_an_invalid_stag_is_named_before_the_right() -> None:  # DDP-5041-7.1-10
    pair = Pair(nodes=(Node(), Node(access=Access(0))))
    pair.left.post(CompareSwap(RemoteRegion(0, 0x500, 8), 0, 1))
    pair.run()
    assert isinstance(pair.left.qp.error, TerminatedByPeer)
    assert pair.left.qp.error.term == Term(0, 1, 0)


def test_nothing_granted_leaves_what_looks_at_no_memory() -> None:  # RDMAP-5040-5.2.1-15
    pair = Pair(nodes=(Node(confirm=True), Node(access=Access(0))))
    pair.right.receive(4)
    pair.left.send(b"sent", "confirmed by a Read of no octets")
    pair.run()
    assert [done.wr_id for done in pair.left.sent()] == ["confirmed by a Read of no octets"]


def test_modify_changes_what_comes_from_then_on() -> None:
    pair = Pair()
    qp = pair.right.qp
    region = pair.right.region(8)
    assert qp.query().access == REMOTE
    pair.left.post(Write(inline=b"x", remote=region[:].remote()))
    pair.run()
    qp.modify(access=Access.REMOTE_READ | Access.LOCAL_WRITE)
    assert qp.query().access == Access.REMOTE_READ | Access.LOCAL_WRITE
    assert pair.left.qp.query().access == REMOTE, "that of the other side"
    pair.left.post(Write(inline=b"y", remote=region[:].remote()))
    pair.run()
    assert isinstance(qp.error, NoWriteRight)
    assert octets_of(region) == b"x" + bytes(7)


@pytest.mark.parametrize("access", [Access.ZERO_BASED, Access.WINDOW_BIND | Access.REMOTE_READ, Access(64)])
def test_what_no_queue_pair_grants(access: Access) -> None:
    with pytest.raises(UsageError, match=r"a queue pair grants its peer .* not .*\(RFC 5040 §7.2\)"):
        QpOptions(access=access)
    node = Pair().left
    with pytest.raises(UsageError, match="grants its peer"):
        node.qp.modify(access=access, linger=1)
    assert (node.qp.query().access, node.qp.linger) == (REMOTE, 5.0)
