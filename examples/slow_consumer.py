"""A fast producer and a slow consumer: how far ahead the producer gets is the consumer's choice.

    python examples/slow_consumer.py

A Send goes into a receive that the consumer has posted; when all are full, the consumer's side stops reading and TCP
holds the producer up. But a `send` returns when TCP has the octets, and TCP's buffers take thousands of messages. With
`confirm=True` it returns when the consumer's side has processed the message (RFC 5040 §5.5): then the producer is never
further ahead than the receives that the consumer posts.
"""

from __future__ import annotations

import asyncio

import pyiwarp
from pyiwarp import Options

MESSAGES, AHEAD = 200, 8


class Consumer:
    """Takes a message now and then."""

    def __init__(self) -> None:
        self.taken = 0
        self.has_all = asyncio.Event()

    async def serve(self, conn: pyiwarp.Connection) -> None:
        async for message in conn:
            assert int.from_bytes(message, "big") == self.taken
            self.taken += 1
            await asyncio.sleep(0.001)  # slow
            if self.taken == MESSAGES:
                self.has_all.set()


async def produce(port: int, consumer: Consumer, options: Options) -> int:
    """Send all; returns how far ahead of the consumer this was at most."""
    lead = 0
    async with pyiwarp.connect("127.0.0.1", port, options=options) as conn:
        for number in range(MESSAGES):
            await conn.send(number.to_bytes(8, "big"))
            lead = max(lead, number + 1 - consumer.taken)
    return lead


async def main() -> None:
    for confirm in (False, True):
        consumer = Consumer()
        async with await pyiwarp.serve(consumer.serve, "127.0.0.1", options=Options(recv_depth=AHEAD)) as server:
            lead = await produce(server.port, consumer, Options(confirm=confirm))
            await consumer.has_all.wait()
        assert lead <= AHEAD or not confirm
        limit = f"at most {AHEAD}" if confirm else "as far as TCP's buffers reach"
        print(f"confirm={confirm}: {consumer.taken} messages taken, the producer was ahead by {limit}")


if __name__ == "__main__":
    asyncio.run(main())
