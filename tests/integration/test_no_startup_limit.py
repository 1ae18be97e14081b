"""An offer without a time limit, on either driver."""

from __future__ import annotations

import asyncio

import pytest

from pyiwarp import blocking, cm
from pyiwarp.cm.polling_cm import Connecting
from pyiwarp.negotiation import Offer
from pyiwarp.verbs import QpState
from tests.hosts import HOST
from tests.integration.polled import nothing_left, queue_pair
from tests.patience import PATIENCE

NO_LIMIT = Offer(timeout=None)


def test_polled() -> None:
    here, there = queue_pair(), queue_pair()
    with nothing_left():
        with blocking.listen(HOST) as listener:
            connecting = Connecting(blocking.poller(), here, HOST, listener.port, NO_LIMIT)
            listener.get_request(timeout=PATIENCE).accept_qp(there, NO_LIMIT)
            assert blocking.wait_until(lambda: connecting.finished, PATIENCE)
        assert (connecting.error, here.state, there.state) == (None, QpState.RTS, QpState.RTS)
        here.close()
        there.close()
        with pytest.raises(OSError, match="refused"):
            blocking.connect_qp(queue_pair(), HOST, listener.port, NO_LIMIT)


def test_awaited() -> None:
    async def main() -> None:
        here, there = queue_pair(), queue_pair()
        async with await cm.listen(HOST, 0, NO_LIMIT) as listener:
            connecting = asyncio.ensure_future(cm.connect(here, HOST, listener.port, NO_LIMIT))
            (await listener.get_request()).accept(there, NO_LIMIT)
            await connecting
            assert (here.state, there.state) == (QpState.RTS, QpState.RTS)
        here.close()
        there.close()
        with pytest.raises(OSError, match="refused"):
            await cm.connect(queue_pair(), HOST, listener.port, NO_LIMIT)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
