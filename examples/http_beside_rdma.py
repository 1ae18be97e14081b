"""FastAPI beside RDMA in one process: HTTP tells where the memory is, RDMA moves the octets.

    pip install fastapi uvicorn
    python examples/http_beside_rdma.py

Both run on one event loop. FastAPI's lifespan begins and ends the RDMA server with the application: requests come only
between. A client asks over HTTP for a dataset, connects to the port that it is told, and Reads the array into its own.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException

import pyiwarp
from pyiwarp import Access, RemoteRegion

DATASETS = {"squares": np.arange(1000.0) ** 2, "ones": np.ones(50)}


async def lend(conn: pyiwarp.Connection) -> None:
    """The client names datasets; each is lent for as long as the connection lasts."""
    async for name in conn:
        await conn.send(conn.register(DATASETS[name.decode()], Access.REMOTE_READ).advertise())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with await pyiwarp.serve(lend, "127.0.0.1") as server:
        app.state.rdma_port = server.port
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/datasets/{name}")
async def describe(name: str) -> dict[str, object]:
    if name not in DATASETS:
        raise HTTPException(404, "no such dataset")
    array = DATASETS[name]
    return {"port": app.state.rdma_port, "items": array.size, "type": str(array.dtype)}


async def client(url: str, name: str) -> float:
    def ask() -> bytes:
        with urllib.request.urlopen(f"{url}/datasets/{name}", timeout=10) as answer:
            return bytes(answer.read())

    told = json.loads(await asyncio.to_thread(ask))
    array = np.empty(told["items"], told["type"])
    async with pyiwarp.connect("127.0.0.1", told["port"]) as conn:
        await conn.send(name.encode())
        await conn.read(array, RemoteRegion.parse(await conn.recv()))
    return float(array.sum())


async def main() -> None:
    web = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    serving = asyncio.create_task(web.serve())
    while not web.started:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    port = web.servers[0].sockets[0].getsockname()[1]
    for name in DATASETS:
        print(f"{name}: the sum is {await client(f'http://127.0.0.1:{port}', name):,.0f}")
    web.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
