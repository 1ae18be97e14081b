"""Programs that others wrote: `ucx_perftest`, `fi_pingpong`, both over TCP on loopback, and `rstream` over siw there.

Their own figures are read from what they print. Debian has them in `ucx-utils`, `libfabric-bin` and `rdmacm-utils`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.pairs import HOST, Absent, Job, Sample, cpu_of

__all__ = ["fabric_ping_pong", "rstream", "rstream_latency", "ucx"]

MIB: Final = 1 << 20
PATIENCE: Final = 120.0
STARTING: Final = 0.4
GUESS: Final = 0.4e9
"""Octets per second that UCX is expected to move, to choose how many messages make up the time of a job."""

UCX_ROUND_TRIPS: Final = 30_000
FABRIC_ROUND_TRIPS: Final = 10_000
RSTREAM_ROUND_TRIPS: Final = 10_000
DEVICES: Final = Path("/sys/class/infiniband")


def ucx(test: str, job: Job) -> Sample:
    """One of ucx_perftest's tests, such as `ucp_put_bw`: GB/s and messages/s, or µs for those of latency."""
    program = _found("ucx_perftest", "ucx-utils")
    latency = test.endswith("_lat")
    per_second = UCX_ROUND_TRIPS if latency else min(GUESS / job.size, 500_000)
    count = max(20, int(per_second * job.seconds))
    port = _free_port()
    what = ["-t", test, "-s", str(job.size), "-n", str(count), "-w", str(max(10, count // 10)), "-f"]
    if not latency:
        what += ["-O", str(job.outstanding)]
    environment = {**os.environ, "UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo", "UCX_WARN_UNUSED_ENV_VARS": "n"}
    said = _both([program, "-p", str(port)], [program, HOST, "-p", str(port), *what], environment)
    figures = _last_numbers(said, 8)
    if latency:
        return {"µs": figures[1]}
    return {"GB/s": figures[5] * MIB / 1e9, "messages/s": figures[7]}


def fabric_ping_pong(job: Job) -> Sample:
    """Messages back and forth through libfabric's tcp provider: µs of one way."""
    program = _found("fi_pingpong", "libfabric-bin")
    count = max(100, int(FABRIC_ROUND_TRIPS * job.seconds))
    port = _free_port()
    how = ["-p", "tcp", "-e", "msg", "-S", str(job.size), "-I", str(count)]
    said = _both([program, *how, "-B", str(port)], [program, *how, "-P", str(port), HOST], dict(os.environ))
    return {"µs": _last_numbers(said, 3)[1]}


def rstream(job: Job) -> Sample:
    """rstream's messages there, then as many back: GB/s."""
    count = max(2, int(GUESS * job.seconds / job.size / 2))
    return {"GB/s": _rstream(job, count, 1)[0] / 8}


def rstream_latency(job: Job) -> Sample:
    """One message of rstream's there and one back, again and again: µs of one way."""
    return {"µs": _rstream(job, 1, max(100, int(RSTREAM_ROUND_TRIPS * job.seconds)))[1]}


def _rstream(job: Job, count: int, iterations: int) -> list[float]:
    """Gb/s, and µs of a message."""
    program = _found("rstream", "rdmacm-utils")
    if not any(DEVICES.glob("siw*")):
        raise Absent("this system has no siw device (rdma link add siw0 type siw netdev lo)")
    port = str(_free_port())
    what = ["-T", "b", "-S", str(job.size), "-C", str(count), "-I", str(iterations), "-p", port]
    said = _both([program, *what], [program, "-s", HOST, *what], dict(os.environ))
    return _last_numbers(said, 2)


def _found(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Absent(f"{program} is not installed (Debian: {package})")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _both(serve: Sequence[str], measure: Sequence[str], environment: dict[str, str]) -> str:
    """Run a server and its client, each on a processor of its own; what the client printed."""
    server = subprocess.Popen(
        [*_pinned(1), *serve], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(STARTING)
        client = subprocess.run(
            [*_pinned(0), *measure], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{measure[0]} took more than {PATIENCE:g} s") from error
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait(10)
    if client.returncode:
        raise RuntimeError(f"{' '.join(measure)} ended with {client.returncode}: {client.stderr or client.stdout}")
    return client.stdout


def _pinned(role: int) -> list[str]:
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(cpu_of(role))] if taskset else []


def _last_numbers(said: str, count: int) -> list[float]:
    """The numbers that end the last line with so many of them."""
    for line in reversed(said.splitlines()):
        numbers: list[float] = []
        for word in line.split()[-count:]:
            try:
                numbers.append(float(word))
            except ValueError:
                break
        if len(numbers) == count:
            return numbers
    raise RuntimeError(f"no line of {count} numbers was printed: {said[-300:]}")
