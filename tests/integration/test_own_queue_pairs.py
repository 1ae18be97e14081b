"""Identifiers of rdma_cm's model that connect a queue pair which the program has made, in each form of waiting."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp import rdmacm
from pyiwarp.errors import WrongState
from pyiwarp.verbs import Completion, Context, QpState, QueuePair, Recv, Send
from tests.harness import agreed
from tests.hosts import HOST
from tests.integration.forms import Form, awaited, form

__all__ = ["form"]  # the fixture


def made() -> QueuePair:
    """A queue pair whose sends complete when the peer has processed them, as `create_qp` of an identifier has none."""
    pd = Context().alloc_pd()
    cq = pd.context.create_cq(8)
    return pd.create_qp(cq, cq, confirm=True)


async def reached(form: Form, state: rdmacm.CmState, identifier: Any) -> None:
    """Take the events of an identifier until it is in `state`."""
    while identifier.state is not state:
        await awaited(identifier.channel.get_event, **form.limit)


async def connected(form: Form, mine: QueuePair, theirs: QueuePair) -> tuple[Any, Any]:
    """Two identifiers that are connected, with these queue pairs."""
    listener = form.rdma_cm.CmId()
    listener.bind_addr(HOST)
    await awaited(listener.listen)
    one = form.rdma_cm.CmId(form.rdma_cm.EventChannel())
    one.resolve_addr(HOST, listener.local_addr[1])
    await reached(form, rdmacm.CmState.ADDR_RESOLVED, one)
    one.resolve_route()
    one.use_qp(mine)
    assert one.qp is mine
    one.connect()
    other = await awaited(listener.get_request, **form.limit)
    other.use_qp(theirs)
    await awaited(other.accept)
    await reached(form, rdmacm.CmState.CONNECTED, one)
    listener.close()
    return one, other


async def completion(form: Form, qp: QueuePair) -> Completion:
    """The next completion of `qp`."""
    found: list[Completion] = []

    def look() -> bool:
        found.extend(qp.send_cq.poll(1))
        return bool(found)

    await form.until(look)
    return found[0]


def test_identifiers_connect_queue_pairs_of_the_program_s(form: Form) -> None:
    async def body() -> None:
        mine, theirs = made(), made()
        one, other = await connected(form, mine, theirs)
        with theirs.pd.register(bytearray(8)) as sink:
            theirs.post_recv(Recv((sink[:],), "receive"))
            mine.post_send(Send(inline=b"confirmed", wr_id="too long"))
            mine.post_recv(Recv())
            taken = await completion(form, theirs)
            assert (taken.wr_id, taken.status.name) == ("receive", "LOC_LEN_ERR")
            confirmed = await completion(form, mine)
            assert (confirmed.wr_id, confirmed.status.name) == ("too long", "REM_INV_REQ_ERR")
        for qp in (mine, theirs):
            qp.close()
        for identifier in (one, other):
            identifier.close()

    form.run(body)


def test_a_queue_pair_of_the_program_s_outlives_its_identifier(form: Form) -> None:
    async def body() -> None:
        mine, theirs = made(), made()
        one, other = await connected(form, mine, theirs)
        one.close()
        other.close()
        await form.until(lambda: mine.over and theirs.over)
        for qp in (mine, theirs):
            assert qp.state is QpState.ERROR
            assert not qp.alive
            qp.modify(QpState.IDLE)
        again = await connected(form, mine, theirs)
        for identifier in again:
            assert identifier.state is rdmacm.CmState.CONNECTED
            identifier.close()
        for qp in (mine, theirs):
            qp.close()

    form.run(body)


def test_a_queue_pair_that_cannot_be_connected_is_refused(form: Form) -> None:
    async def body() -> None:
        busy, idle = made(), made()
        busy.connect(agreed())
        identifier = form.rdma_cm.CmId()
        with pytest.raises(WrongState, match="IDLE"):
            identifier.use_qp(busy)
        identifier.use_qp(idle)
        with pytest.raises(WrongState, match="already"):
            identifier.use_qp(busy)
        with pytest.raises(WrongState, match="already"):
            identifier.create_qp()
        identifier.close()
        assert idle.state is QpState.IDLE
        idle.close()
        busy.close()

    form.run(body)
