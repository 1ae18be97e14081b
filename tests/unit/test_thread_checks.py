"""Debug mode: an object that is used in a foreign thread or event loop says so; otherwise nothing is looked at."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

import pytest

from pyiwarp.errors import WrongThread
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.qp import QueuePair
from pyiwarp.queues.srq import SharedReceiveQueue
from pyiwarp.queues.work import Recv, Send
from pyiwarp.verbs import Device
from tests.children import ENVIRONMENT, finished
from tests.harness import Node, Pair, RawPeer


def elsewhere(call: Callable[[], object]) -> BaseException | None:
    """Make a call in another thread; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except WrongThread as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="the other")
    thread.start()
    thread.join(10)
    return raised[0] if raised else None


def calls(node: Node) -> dict[str, Callable[[], object]]:
    srq = node.pd.create_srq(4)
    return {
        "post_send": lambda: node.qp.post_send(Send()),
        "post_send_many": lambda: node.qp.post_send_many([Send()]),
        "post_recv": lambda: node.qp.post_recv(Recv()),
        "modify": lambda: node.qp.modify(linger=1),
        "query": node.qp.query,
        "disconnect": node.qp.disconnect,
        "poll": node.send_cq.poll,
        "arm": lambda: node.send_cq.arm(print),
        "resize": lambda: node.recv_cq.resize(10),
        "shared": lambda: srq.post_recv(Recv()),
    }


def test_in_debug_mode_another_thread_is_refused() -> None:
    node = Node(Device(debug=True).open())
    RawPeer(node)
    for name, call in calls(node).items():
        error = elsewhere(call)
        assert error is not None, name
        assert str(error).startswith("thread 'the other' uses what belongs to thread 'MainThread': <"), name
        call()
    assert isinstance(node.qp, QueuePair)
    assert isinstance(node.send_cq, CompletionQueue)
    assert isinstance(node.pd.create_srq(1), SharedReceiveQueue)
    assert repr(node.qp).startswith("<QueuePair")


def test_otherwise_nothing_is_looked_at() -> None:
    node = Node(Device().open())
    if not node.context.debug:  # else this runs with -X dev
        RawPeer(node)
        assert [elsewhere(call) for call in calls(node).values()] == [None] * 10
        assert type(node.qp) is QueuePair
        assert type(node.send_cq) is CompletionQueue


def test_another_loop_is_refused_and_no_loop_is_not() -> None:
    node = Node(Device(debug=True).open())
    RawPeer(node)

    async def use() -> None:
        node.send(b"x")

    node.send(b"before any loop")
    asyncio.run(use())
    with pytest.raises(WrongThread, match=r"the event loop <.*> uses what belongs to another one, <.*>: <QueuePair"):
        asyncio.run(use())
    node.send(b"after all loops")
    assert len(node.qp._sq) == 3


async def test_iterating_in_debug_mode() -> None:
    node = Node(Device(debug=True).open())
    peer = RawPeer(node)
    waiting = asyncio.ensure_future(anext(node.send_cq))
    await asyncio.sleep(0)
    node.send(b"x", 1)
    peer.hears()
    assert (await waiting).wr_id == 1
    assert elsewhere(lambda: node.send_cq.__anext__()) is not None


def test_a_conversation_in_debug_mode() -> None:
    pair = Pair(context=Device(debug=True).open())
    pair.right.receive(8, "r")
    pair.left.send(b"hello", "s")
    pair.run()
    assert [done.wr_id for done in [*pair.left.sent(), *pair.right.received()]] == ["s", "r"]


@pytest.mark.parametrize(
    ("options", "environment", "debug"),
    [
        ([], {}, False),
        (["-X", "dev"], {}, True),
        ([], {"PYIWARP_DEBUG": "1"}, True),
        ([], {"PYIWARP_DEBUG": "0"}, False),
        ([], {"PYIWARP_DEBUG": ""}, False),
    ],
)
def test_how_debug_mode_is_asked_for(options: list[str], environment: dict[str, str], debug: bool) -> None:
    program = "from pyiwarp import Context; print(Context().debug)"
    without = {name: value for name, value in ENVIRONMENT.items() if name not in ("PYTHONDEVMODE", "PYIWARP_DEBUG")}
    done = finished([sys.executable, *options, "-c", program], env=without | environment)
    assert (done.stdout.strip(), done.stderr) == (str(debug), "")
