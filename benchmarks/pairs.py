"""One measurement: two new processes, each on a processor of its own, one that serves and one that measures."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

__all__ = ["BUSY", "Absent", "Client", "Job", "Sample", "Server", "cpu_of", "filled", "run_pair"]

HOST: Final = "127.0.0.1"
PRELOADED: Final = [
    "__main__",
    "uvloop",
    "pyiwarp",
    "pyiwarp.wire",
    "pyiwarp.cm.polling_cm",
    "pyiwarp.cli.perftest.endpoint",
]

STAY: Final = 60.0  # seconds that a process stays behind its answer at most

BUSY: Final = "busy"
"""The figure that every measurement in two processes has: the share of the time that the busier one ran."""

Sample = Mapping[str, float]
"""The figures of one measurement by name: GB/s, messages/s, µs, …"""


def filled(nbytes: int) -> bytearray:
    """So many octets, each page of them really there: pages that nobody has written are one page of zeros."""
    return bytearray(b"\x5a") * nbytes


class Absent(Exception):
    """A candidate cannot run here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be measured; each candidate uses the fields that mean something to it.

    Messages of `size` octets, `outstanding` at once in batches of `batch` of which only the last asks for a
    completion, on `qps` connections, for `seconds` after `warmup` seconds. `kind` is write, read or send. With
    `unpaced` a bare socket sends as pyiwarp's do on loopback, where the system's congestion control paces. Of the
    clients that a row of many has `connections` behave and `flooding` send what costs the server most.
    """

    seconds: float = 1.0
    warmup: float = 0.1
    kind: str = "write"
    size: int = 1 << 20
    outstanding: int = 16
    batch: int = 1
    qps: int = 1
    both_ways: bool = False
    loop: str = "uvloop"
    crc: bool = True
    markers: bool = False
    mulpdu: int | None = None
    connections: int = 1000
    flooding: int = 0
    unpaced: bool = False


Server = Callable[[Job, Callable[[int], None]], None]
"""Serves one client, and calls its second argument with the port as soon as it listens."""

Client = Callable[[Job, int], Sample]
"""Measures against the server on that port of this host."""


def cpu_of(role: int) -> int:
    """The processor of the measuring (0) or the serving (1) process; the same one if there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[role % len(cpus)]


def run_pair(server: Server, client: Client, job: Job) -> Sample:
    """One measurement. Raises `Absent` if the candidate cannot run here, `RuntimeError` if it failed."""
    context = multiprocessing.get_context("forkserver")  # new processes, without the time that imports take
    context.set_forkserver_preload(PRELOADED)
    here, there = context.Pipe(duplex=True)
    got, send = context.Pipe(duplex=True)
    cpus = cpu_of(1), cpu_of(0)
    serving = context.Process(target=_serve, args=(server, job, cpus[0], there), daemon=True)
    serving.start()
    try:
        port: int = _answer(here, serving, 60.0)
        measuring = context.Process(target=_measure, args=(client, job, port, cpus[1], send), daemon=True)
        measuring.start()
        meter = _BusyMeter(serving, measuring)
        try:
            sample: Sample = _answer(got, measuring, 60.0 + 10 * (job.seconds + job.warmup))
            busy = meter.busy
        finally:
            _let_end(got)
            _end(measuring, grace=1.0)
        return {**sample, BUSY: busy}
    finally:
        _let_end(here)
        _end(serving)


def _let_end(pipe: Pipe) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        pipe.send(None)


class _BusyMeter:
    """How much of the time the busier of two processes has had a processor."""

    def __init__(self, *processes: multiprocessing.process.BaseProcess) -> None:
        self._began = time.perf_counter()
        self._tasks = [Path(f"/proc/{process.pid}/task") for process in processes]
        self._before = [_processor_time(tasks) for tasks in self._tasks]

    @property
    def busy(self) -> float:
        """Between 0 and 1; above where a process has several threads on several processors."""
        spent = [_processor_time(tasks) - before for tasks, before in zip(self._tasks, self._before, strict=True)]
        return max(spent) / (time.perf_counter() - self._began)


def _processor_time(tasks: Path) -> float:
    """Seconds that all threads of a process have run, as the scheduler counts them."""
    nanoseconds = 0
    for task in tasks.glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            nanoseconds += int(task.read_text().split()[0])
    return nanoseconds / 1e9


def _end(process: multiprocessing.process.BaseProcess, grace: float = 0.0) -> None:
    process.join(grace)
    if process.is_alive():
        process.terminate()
        process.join(5)
    if process.is_alive():
        process.kill()
        process.join(5)


def _answer(pipe: Pipe, process: multiprocessing.process.BaseProcess, limit: float) -> Any:
    """What the process has to say; raises what it failed with."""
    for _ in range(math.ceil(limit / 0.05)):
        if pipe.poll(0.05):
            answer = pipe.recv()
            if isinstance(answer, Absent | RuntimeError):
                raise answer
            return answer
        if not process.is_alive() and not pipe.poll(0):
            raise RuntimeError(f"a process of the benchmark ended without an answer, exit code {process.exitcode}")
    raise RuntimeError(f"a process of the benchmark gave no answer within {limit:g} s")


def _serve(server: Server, job: Job, cpu: int, announce: Pipe) -> None:
    _guarded(cpu, announce, lambda: server(job, announce.send))


def _measure(client: Client, job: Job, port: int, cpu: int, report: Pipe) -> None:
    _guarded(cpu, report, lambda: report.send(client(job, port)))


def _guarded(cpu: int, tell: Pipe, work: Callable[[], None]) -> None:
    """Do the work on the processor, and tell what went wrong; then stay until the processor time has been read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, {cpu})
    try:
        work()
    except Absent as absent:
        tell.send(absent)
    except Exception:
        tell.send(RuntimeError(traceback.format_exc()))
    tell.poll(STAY)
