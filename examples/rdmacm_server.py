"""A server in rdma_cm's way, awaited: one channel of events for the listener and all that it accepts.

    python examples/rdmacm_server.py

Steps begin when they are called. The server takes their events from its channel; the clients have no channel, and await
each step. `CONNECT_REQUEST` brings an identifier of its own, with the peer's private data.
"""

from __future__ import annotations

import asyncio

from pyiwarp import Access
from pyiwarp.rdmacm import CmEventType, CmId, ConnParam, EventChannel
from pyiwarp.verbs import QueuePair, Recv, Send

CLIENTS, SIZE = 3, 64


async def take(qp: QueuePair) -> int:
    """The octets of the next message; the receive was posted before."""
    async for done in qp.recv_cq:
        if not done.ok and done.error is not None:
            raise done.error
        return done.nbytes
    raise AssertionError("a queue that is open goes on")


async def answer(cm_id: CmId, memory: bytearray) -> None:
    nbytes = await take(cm_id.qp)
    cm_id.qp.post_send(Send(inline=bytes(memory[:nbytes]).upper(), signaled=False))


async def serve(listener: CmId, channel: EventChannel) -> int:
    ended = 0
    answers: dict[CmId, asyncio.Task[None]] = {}
    async for event in channel:
        match event.type:
            case CmEventType.CONNECT_REQUEST:
                assert event.param is not None
                qp = event.id.create_qp()
                memory = bytearray(SIZE)
                qp.post_recv(Recv((event.id.pd.register(memory, Access.LOCAL_WRITE)[:],)))
                answers[event.id] = asyncio.create_task(answer(event.id, memory))
                event.id.accept(ConnParam(private_data=b"welcome, " + event.param.private_data))
            case CmEventType.DISCONNECTED:
                await answers.pop(event.id)
                event.id.close()
                ended += 1
                if ended == CLIENTS:
                    return ended
    return ended


async def client(port: int, name: bytes) -> None:
    async with CmId() as cm_id:
        await cm_id.resolve_addr("127.0.0.1", port)
        await cm_id.resolve_route()
        qp = cm_id.create_qp()
        memory = bytearray(SIZE)
        qp.post_recv(Recv((cm_id.pd.register(memory, Access.LOCAL_WRITE)[:],)))
        established = await cm_id.connect(ConnParam(private_data=name))
        assert established.param is not None
        assert established.param.private_data == b"welcome, " + name
        qp.post_send(Send(inline=b"hello from " + name, signaled=False))
        nbytes = await take(qp)
        print(bytes(memory[:nbytes]).decode())
        await cm_id.disconnect()


async def main() -> None:
    channel = EventChannel()
    async with CmId(channel) as listener:
        listener.bind_addr("127.0.0.1")
        await listener.listen()
        assert listener.local_addr is not None
        serving = asyncio.create_task(serve(listener, channel))
        for number in range(CLIENTS):
            await client(listener.local_addr[1], f"client {number}".encode())
        print(f"{await serving} clients were served")
    channel.close()


if __name__ == "__main__":
    asyncio.run(main())
