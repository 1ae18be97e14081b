"""Queue pairs that are connected a second time, or closed, while startup goes on: what they have goes on."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from pyiwarp import blocking, cm
from pyiwarp.connections.serving import listen
from pyiwarp.errors import Closed, Rejected, SetupFailed
from pyiwarp.verbs import Completion, QpState, QueuePair, Send
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.polled import queue_pair
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture


def _is_finished(attempt: blocking.Connecting) -> bool:
    return attempt.finished


def polled_send_completes(qp: QueuePair, wr_id: int) -> None:
    qp.post_send(Send(inline=b"on the first one", wr_id=wr_id))
    done: list[Completion] = []

    def look() -> bool:
        done.extend(qp.send_cq.poll())
        return bool(done)

    assert blocking.wait_until(look, PATIENCE)
    assert done[0].ok


def test_a_second_polled_attempt_leaves_the_first_connection_alone() -> None:
    qp = queue_pair()
    with blocking.listen(HOST) as listener:
        first, second = (blocking.start_connect_qp(qp, HOST, listener.port) for _ in range(2))
        requests = [listener.get_request(timeout=PATIENCE) for _ in range(2)]
        conns = []
        for request, attempt in zip(requests, (first, second), strict=True):
            conns.append(request.accept())
            assert blocking.wait_until(partial(_is_finished, attempt), PATIENCE)
        assert first.error is None
        assert isinstance(second.error, SetupFailed)
        assert qp.state is QpState.RTS
        assert first.driver is not None
        assert qp.on_output == first.driver.kick
        for wr_id in range(4):
            polled_send_completes(qp, wr_id)
            assert conns[0].recv(timeout=PATIENCE) == b"on the first one"
        qp.close()
        for conn in conns:
            conn.abort()


def test_a_second_awaited_attempt_leaves_the_first_connection_alone(run: Runner) -> None:
    async def body() -> None:
        qp = queue_pair()
        async with await listen(HOST) as listener:
            attempts = [asyncio.create_task(cm.connect(qp, HOST, listener.port)) for _ in range(2)]
            requests = [await listener.get_request() for _ in range(2)]
            conns, ends = [], []
            for request in requests:
                conns.append(await request.accept())
                done, _ = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                attempts = [each for each in attempts if each not in done]
                ends += [each.exception() for each in done]
            assert ends[0] is None
            assert isinstance(ends[1], SetupFailed)
            for wr_id in range(4):
                qp.post_send(Send(inline=b"on the first one", wr_id=wr_id))
                assert await conns[0].recv() == b"on the first one"
            await qp.drain_sq()
            qp.close()
            for conn in conns:
                conn.abort()

    run(body)


def test_a_request_that_a_closed_queue_pair_cannot_take_can_be_rejected() -> None:
    with blocking.listen(HOST) as listener:
        attempt = blocking.start_connect_qp(queue_pair(), HOST, listener.port)
        request = listener.get_request(timeout=PATIENCE)
        closed = queue_pair()
        closed.close()
        with pytest.raises(Closed):
            request.accept_qp(closed)
        request.reject()
        assert blocking.wait_until(lambda: attempt.finished, PATIENCE)
        assert isinstance(attempt.error, Rejected)
