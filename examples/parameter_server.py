"""A parameter server with NumPy: workers Read the parameters and Write their gradients, without a copy in Python.

    python examples/parameter_server.py

The parameters lie in one array that every worker may Read. Each worker has an array of its own at the server, and
Writes gradients into it. A Send behind the Write tells the server that the gradient is there (RFC 5040 §5.5); the
server takes a step and answers. A Read may meet the array in the middle of a step, which stochastic descent forgives.
"""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

import pyiwarp
from pyiwarp import Access, RemoteRegion

FEATURES, WORKERS, STEPS, RATE = 50, 4, 60, 0.1
Array = NDArray[np.float64]
TRUTH: Array = np.random.default_rng(7).normal(size=FEATURES)


class ParameterServer:
    """Holds the parameters; all connections share one protection domain, so one region serves all workers."""

    def __init__(self) -> None:
        self.pd = pyiwarp.Context().alloc_pd()
        self.parameters: Array = np.zeros(FEATURES)
        self.shared = self.pd.register(self.parameters, Access.REMOTE_READ)
        self.steps = 0

    async def serve(self, conn: pyiwarp.Connection) -> None:
        gradient: Array = np.zeros(FEATURES)
        async with conn.register(gradient, Access.REMOTE_WRITE) as mine:
            await conn.send(self.shared.advertise() + mine.advertise())
            async for _ in conn:  # the gradient is placed
                self.parameters -= RATE * gradient
                self.steps += 1
                await conn.send(b"taken")


async def work(port: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        told = await conn.recv()
        shared, mine = RemoteRegion.parse(told[:16]), RemoteRegion.parse(told[16:])
        parameters: Array = np.empty(FEATURES)
        gradient: Array = np.empty(FEATURES)
        async with conn.register(parameters) as here, conn.register(gradient) as there:
            for _ in range(STEPS):
                await conn.read(here, shared)
                samples: Array = random.normal(size=(200, FEATURES))
                answers = samples @ TRUTH
                gradient[:] = samples.T @ (samples @ parameters - answers) / len(samples)
                await conn.write(there, mine)
                await conn.send(b"step")
                assert await conn.recv() == b"taken"


async def main() -> None:
    model = ParameterServer()
    before = float(np.linalg.norm(TRUTH))
    async with await pyiwarp.serve(model.serve, "127.0.0.1", pd=model.pd) as server:
        await asyncio.gather(*(work(server.port, seed) for seed in range(WORKERS)))
    after = float(np.linalg.norm(model.parameters - TRUTH))
    assert after < before / 10
    print(f"{WORKERS} workers made {model.steps} steps; the error fell to less than a tenth")
    model.pd.context.close()


if __name__ == "__main__":
    asyncio.run(main())
