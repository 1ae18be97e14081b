"""What else carries messages for Python programs: ZeroMQ (`pyzmq`), and UCX by way of `ucxx`."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any

from benchmarks.pairs import HOST, Absent, Job, Sample, filled
from benchmarks.timing import back_and_forth, now

__all__ = ["ucxx_client", "ucxx_server", "zmq_client", "zmq_latency_client", "zmq_latency_server", "zmq_server"]

PHASES = 2


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Absent(f"{module} cannot be imported (pip install {package}): {error}") from error


# --- ZeroMQ ----------------------------------------------------------------------------------------------------------


def _zmq_serving(announce: Callable[[int], None]) -> Any:
    zmq = _imported("zmq", "pyzmq")
    pair = zmq.Context().socket(zmq.PAIR)
    announce(pair.bind_to_random_port(f"tcp://{HOST}"))
    return pair


def _zmq_connected(port: int) -> Any:
    zmq = _imported("zmq", "pyzmq")
    pair = zmq.Context().socket(zmq.PAIR)
    pair.linger = 0
    pair.connect(f"tcp://{HOST}:{port}")
    return pair


def zmq_server(job: Job, announce: Callable[[int], None]) -> None:
    pair = _zmq_serving(announce)
    while True:
        while len(pair.recv(copy=False)):
            pass
        pair.send(b"!")


def zmq_client(job: Job, port: int) -> Sample:
    pair, message = _zmq_connected(port), bytes(filled(job.size))
    for seconds in (job.warmup, job.seconds):
        began, count = now(), 0
        while now() < began + seconds:
            pair.send(message, copy=False)
            count += 1
        pair.send(b"")
        pair.recv()
        rate = count / (now() - began)
    return {"GB/s": rate * job.size / 1e9, "messages/s": rate}


def zmq_latency_server(job: Job, announce: Callable[[int], None]) -> None:
    pair = _zmq_serving(announce)
    while True:
        pair.send(pair.recv())


def zmq_latency_client(job: Job, port: int) -> Sample:
    pair, message = _zmq_connected(port), bytes(job.size)

    def there_and_back() -> None:
        pair.send(message)
        pair.recv()

    return back_and_forth(job, there_and_back)


# --- ucxx ------------------------------------------------------------------------------------------------------------


def _ucxx() -> Any:
    """The module, over TCP on loopback; it takes what it needs to know from the environment."""
    os.environ.update(UCX_TLS="tcp", UCX_NET_DEVICES="lo", UCX_WARN_UNUSED_ENV_VARS="n")
    return _imported("ucxx", "ucxx-cu12")


def ucxx_server(job: Job, announce: Callable[[int], None]) -> None:
    ucxx, numpy = _ucxx(), _imported("numpy", "numpy")

    async def take(endpoint: Any) -> None:
        more, memory = numpy.empty(1, dtype="u1"), numpy.empty(job.size, dtype="u1")
        for _ in range(PHASES):
            while True:
                await endpoint.recv(more)
                if not more[0]:
                    break
                await asyncio.gather(*(endpoint.recv(memory) for _ in range(job.outstanding)))
            await endpoint.send(more)

    async def main() -> None:
        listener = ucxx.create_listener(take, 0)
        announce(listener.port)
        await asyncio.Event().wait()  # until this process is ended

    asyncio.run(main())


def ucxx_client(job: Job, port: int) -> Sample:
    ucxx, numpy = _ucxx(), _imported("numpy", "numpy")

    async def main() -> Sample:
        endpoint = await ucxx.create_endpoint(HOST, port)
        more, memory = numpy.ones(1, dtype="u1"), numpy.zeros(job.size, dtype="u1")
        end = numpy.zeros(1, dtype="u1")
        for seconds in (job.warmup, job.seconds):
            began, count = now(), 0
            while now() < began + seconds:
                await endpoint.send(more)
                await asyncio.gather(*(endpoint.send(memory) for _ in range(job.outstanding)))
                count += job.outstanding
            await endpoint.send(end)
            await endpoint.recv(end)
            rate = count / (now() - began)
        return {"GB/s": rate * job.size / 1e9, "messages/s": rate}

    return asyncio.run(main())
