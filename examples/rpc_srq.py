"""A server of remote procedure calls whose many clients share one queue of receives.

    python examples/rpc_srq.py

With a receive queue for each client, each needs memory for its largest burst, which is idle most of the time. Here the
calls of all clients take buffers from one shared receive queue, and one completion queue holds all completions. When
fewer buffers are left than the limit, an asynchronous event reports it, and the server posts more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pyiwarp
from pyiwarp import Context, RegionSlice, cm
from pyiwarp.verbs import AsyncEventType, QpCap, QueuePair, Recv, Send

CLIENTS, CALLS = 16, 25
SIZE, SPARE = 256, 4  # octets of a call; buffers that are added when few are left
PROCEDURES: dict[str, Callable[..., object]] = {"add": lambda a, b: a + b, "upper": str.upper}


class Server:
    """Accepts clients, answers calls, and posts more buffers."""

    def __init__(self) -> None:
        context = Context()
        self.pd = context.alloc_pd()
        self.calls, self.replies = context.create_cq(4096), context.create_cq(4096)
        self.srq = self.pd.create_srq(max_wr=256)
        self.events = context.async_events  # they are kept from now on
        self.clients: dict[int, QueuePair] = {}
        self.buffers = self.served = 0
        self.add_buffers()

    def add_buffers(self) -> None:
        for _ in range(SPARE):
            self.lend(self.pd.register(bytearray(SIZE))[:])
        self.buffers += SPARE
        self.srq.modify(limit=SPARE // 2)  # tell once more when fewer are left

    def lend(self, buffer: RegionSlice) -> None:
        self.srq.post_recv(Recv((buffer,), wr_id=buffer))

    async def watch(self) -> None:
        async for event in self.events:
            if event.type is AsyncEventType.SRQ_LIMIT_REACHED:
                self.add_buffers()

    async def accept(self, listener: cm.Listener) -> None:
        async for request in listener:
            cap = QpCap(max_inline=SIZE)
            qp = self.pd.create_qp(self.replies, self.calls, cap, srq=self.srq, pause_when_starved=True)
            self.clients[qp.qp_num] = qp
            request.accept(qp)

    async def answer(self) -> None:
        async for done in self.calls:
            buffer = done.wr_id
            assert isinstance(buffer, RegionSlice)
            if done.ok:
                self.reply(self.clients[done.qp_num], bytes(buffer.view[: done.nbytes]))
            self.lend(buffer)

    def reply(self, client: QueuePair, call: bytes) -> None:
        try:
            name, *arguments = json.loads(call)
            reply = json.dumps(PROCEDURES[name](*arguments)).encode()
            client.post_send(Send(inline=reply, signaled=False))  # the client is told by it
            self.served += 1
        except (ValueError, TypeError, LookupError, RecursionError, pyiwarp.IwarpError) as error:
            client.abort(error)  # a malformed call ends its own connection and no other


async def client(port: int, number: int) -> None:
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        for call in range(CALLS):
            await conn.send(json.dumps(["add", number, call]).encode())
            assert json.loads(await conn.recv()) == number + call
        await conn.send(json.dumps(["upper", "client"]).encode())
        assert json.loads(await conn.recv()) == "CLIENT"


async def main() -> None:
    server = Server()
    async with await cm.listen("127.0.0.1", 0) as listener:
        duties = [asyncio.ensure_future(duty) for duty in (server.accept(listener), server.answer(), server.watch())]
        await asyncio.gather(*(client(listener.port, number) for number in range(CLIENTS)))
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
    print(f"{CLIENTS} clients made {server.served} calls; {server.buffers} buffers served them all")
    server.pd.context.close()


if __name__ == "__main__":
    asyncio.run(main())
