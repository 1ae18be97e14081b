"""The rows of the comparison: who takes part in each and what is measured; `targets` has what pyiwarp should reach.

The first candidate of a row is what the others are put in proportion to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from benchmarks import (
    crowd,
    file_transfer,
    iwarp,
    iwarp_blocking,
    iwarp_polling,
    loops,
    messaging,
    programs,
    pyverbs,
    scale,
    sockets,
    stackless,
    streams,
)
from benchmarks.pairs import Client, Job, Sample, Server, run_pair
from benchmarks.targets import TARGETS, Target

__all__ = ["ROWS", "Candidate", "Row", "row_named"]

Measure = Callable[[Job], Sample]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who takes part in a row, and how one measurement of it is made; `note` is what is peculiar to it."""

    name: str
    measure: Measure
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: `figure` is what counts of a sample, `job` what each candidate is told."""

    name: str
    title: str
    figure: str
    job: Job
    candidates: tuple[Candidate, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """What pyiwarp should reach in it."""
        return TARGETS.get(self.name, ())

    @property
    def more_is_better(self) -> bool:
        """Whether the figure is a rate, not a cost."""
        return self.figure.endswith("/s")


def _pair(name: str, server: Server, client: Client, note: str = "", **changes: Any) -> Candidate:
    """A candidate in two processes; `changes` are made to the row's job."""

    def measure(job: Job) -> Sample:
        return run_pair(server, client, replace(job, **changes))

    return Candidate(name, measure, note)


def _ucx(name: str, test: str, note: str = "") -> Candidate:
    return Candidate(name, partial(programs.ucx, test), note)


def _bare(name: str = "bare socket", **changes: Any) -> Candidate:
    return _pair(name, sockets.bandwidth_server, sockets.bandwidth_client, **changes)


def _iwarp(name: str, **changes: Any) -> Candidate:
    return _pair(name, iwarp.stream_server, iwarp.stream_client, **changes)


def _polling(name: str, **changes: Any) -> Candidate:
    return _pair(name, iwarp_polling.stream_server, iwarp_polling.stream_client, **changes)


def _streams(name: str, family: str, **changes: Any) -> Candidate:
    return _pair(name, partial(streams.bulk_server, family), partial(streams.bulk_client, family), **changes)


def _echo(name: str, family: str, **changes: Any) -> Candidate:
    return _pair(name, partial(streams.echo_server, family), partial(streams.echo_client, family), **changes)


STREAMS: Final = _streams("asyncio streams", "tcp")
UCXX: Final = _pair("ucxx", messaging.ucxx_server, messaging.ucxx_client)
ZMQ: Final = _pair(
    "pyzmq", messaging.zmq_server, messaging.zmq_client, "its input and output have threads of their own"
)
ZMQ_LATENCY: Final = _pair("pyzmq", messaging.zmq_latency_server, messaging.zmq_latency_client)
UCX_PUT, UCX_GET = _ucx("UCX put", "ucp_put_bw"), _ucx("UCX get", "ucp_get")
UNPACED: Final = _bare("bare socket, unpaced", unpaced=True)
POLLED: Final = _pair("bare socket, busy-polled", sockets.polled_server, sockets.polled_client)
PROTOCOL: Final = _pair("bare uvloop protocol", loops.protocol_server, loops.protocol_client)
TASK: Final = _pair("bare uvloop protocol, a task answers", loops.task_server, loops.protocol_client)
AWAITED: Final = _pair("pyiwarp, awaited", iwarp.awaited_server, iwarp.awaited_client)
POLLING: Final = _pair("pyiwarp, polling", iwarp_polling.latency_server, iwarp_polling.latency_client)
BLOCKING: Final = _pair("pyiwarp.blocking", iwarp_blocking.latency_server, iwarp_blocking.latency_client)
UCX_LATENCY: Final = _ucx("UCX put", "ucp_put_lat")
OVER_IWARP: Final = (
    _streams("pyiwarp.sockets", "iwarp"),
    _streams("pyiwarp.sockets, no CRC", "iwarp", crc=False),
)
ON_ASYNCIO: Final = (
    _streams("asyncio streams, asyncio", "tcp", loop="asyncio"),
    _streams("pyiwarp.sockets, asyncio", "iwarp", loop="asyncio"),
    _streams("pyiwarp.sockets, no CRC, asyncio", "iwarp", loop="asyncio", crc=False),
)
RSTREAM: Final = Candidate("C rstream over siw", programs.rstream)
RSTREAM_LATENCY: Final = Candidate("C rstream over siw", programs.rstream_latency)
FABRIC: Final = Candidate("libfabric tcp", programs.fabric_ping_pong)

MIB: Final = Job()
SMALL: Final = Job(size=64)
FILE: Final = Job(kind="file", size=1 << 30)

ROWS: Final[tuple[Row, ...]] = (
    Row(
        "write-1m",
        "Write, 1 MiB, 16 outstanding, uvloop",
        "GB/s",
        MIB,
        (UNPACED, _bare(), _iwarp("pyiwarp"), STREAMS, UCXX, UCX_PUT),
    ),
    Row(
        "read-1m",
        "Read, 1 MiB, 16 outstanding, uvloop",
        "GB/s",
        replace(MIB, kind="read"),
        (UNPACED, _bare(), _iwarp("pyiwarp"), STREAMS, UCXX, UCX_GET),
    ),
    Row(
        "nocrc-1m",
        "Write and Read, 1 MiB, CRC negotiated off",
        "GB/s",
        replace(MIB, crc=False),
        (UNPACED, _bare(), _iwarp("pyiwarp Write"), _iwarp("pyiwarp Read", kind="read")),
    ),
    Row(
        "write-64k",
        "Write, 64 KiB, 16 outstanding",
        "GB/s",
        replace(MIB, size=65536),
        (UNPACED, _bare(), _iwarp("pyiwarp")),
    ),
    Row(
        "write-1442",
        "Write, 1 MiB, MULPDU 1,442 (Ethernet)",
        "GB/s",
        replace(MIB, mulpdu=1442),
        (UNPACED, _bare(), _iwarp("pyiwarp")),
    ),
    Row(
        "latency-polling",
        "Send and Recv back and forth, 64 octets, polling: one way",
        "µs",
        SMALL,
        (POLLED, POLLING, BLOCKING, UCX_LATENCY, FABRIC, ZMQ_LATENCY),
    ),
    Row(
        "latency-uvloop",
        "Send and Recv back and forth, 64 octets, awaited on uvloop: one way",
        "µs",
        SMALL,
        (
            PROTOCOL,
            TASK,
            AWAITED,
            _pair("pyiwarp, awaited, asyncio", iwarp.awaited_server, iwarp.awaited_client, loop="asyncio"),
        ),
    ),
    Row(
        "rate-64",
        "Writes of 64 octets, batches of 64, only the last signalled",
        "messages/s",
        Job(size=64, batch=64, outstanding=256),
        (
            _ucx("UCX put", "ucp_put_bw"),
            _iwarp("pyiwarp"),
            _iwarp("pyiwarp, each signalled", batch=1),
            _polling("pyiwarp, polling"),
        ),
    ),
    Row(
        "setup",
        "Connections made and closed one after the other",
        "connections/s",
        Job(),
        (
            _pair("asyncio streams", scale.bare_setup_server, scale.bare_setup_client),
            _pair("pyiwarp", scale.setup_server, scale.setup_client),
        ),
    ),
    Row(
        "setup-cost",
        "A connection made, agreed on and closed: processor time of both ends, which are in one process",
        "ms",
        Job(),
        (
            _pair("asyncio streams", scale.no_server, scale.bare_setup_cost_client),
            _pair("pyiwarp", scale.no_server, scale.setup_cost_client),
        ),
    ),
    Row(
        "markers-1m",
        "Write, 1 MiB, with markers",
        "GB/s",
        MIB,
        (_iwarp("without"), _iwarp("with markers", markers=True)),
    ),
    Row(
        "markers-1442",
        "Write, 1 MiB, MULPDU 1,442, with markers",
        "GB/s",
        replace(MIB, mulpdu=1442),
        (_iwarp("without"), _iwarp("with markers", markers=True)),
    ),
    Row(
        "get",
        "A file from the server's disk to the client's, verified by the same digest",
        "GB/s",
        FILE,
        tuple(Candidate(name, partial(file_transfer.measured, each)) for name, each in file_transfer.GETS.items()),
    ),
    Row(
        "put",
        "A file from the client's disk to the server's, verified by the same digest",
        "GB/s",
        FILE,
        tuple(Candidate(name, partial(file_transfer.measured, each)) for name, each in file_transfer.PUTS.items()),
    ),
    Row(
        "flood-64",
        "64 octets back and forth on 63 connections at once, while one more floods the server",
        "messages/s",
        replace(SMALL, connections=63),
        (
            _pair("nobody floods", iwarp.awaited_server, stackless.stackless_client),
            _pair("one floods", iwarp.awaited_server, stackless.stackless_client, flooding=1),
        ),
    ),
    Row(
        "idle-memory",
        "Memory of an idle connection, 1,000 of them in one process",
        "KiB",
        Job(),
        (
            _pair("bare sockets", scale.bare_setup_server, scale.bare_idle_client),
            _pair("pyiwarp", scale.setup_server, scale.idle_client),
        ),
    ),
    Row(
        "busy-memory",
        "Memory of a connection on which 4 KiB go back and forth, 1,000 of them at once in one process",
        "KiB",
        Job(size=4096),
        (
            _pair("asyncio streams", crowd.bare_crowd_server, crowd.bare_crowd_client),
            _pair("pyiwarp", iwarp.awaited_server, crowd.crowd_client),
        ),
    ),
    Row(
        "qps-64",
        "Writes of 1 MiB on 64 queue pairs at once, together",
        "GB/s",
        MIB,
        (_iwarp("1 queue pair"), _iwarp("64 queue pairs", qps=64, outstanding=4)),
    ),
    Row(
        "streams-64k",
        "Streams: 64 KiB written and drained, read as it comes, uvloop",
        "GB/s",
        replace(MIB, size=65536),
        (UNPACED, _bare(), STREAMS, *OVER_IWARP, *ON_ASYNCIO, RSTREAM),
    ),
    Row(
        "streams-1m",
        "Streams: 1 MiB written and drained, read as it comes, uvloop",
        "GB/s",
        MIB,
        (UNPACED, _bare(), STREAMS, *OVER_IWARP, *ON_ASYNCIO, RSTREAM),
    ),
    Row(
        "streams-64",
        "Streams: 64 octets back and forth, uvloop: one way",
        "µs",
        SMALL,
        (
            _echo("asyncio streams", "tcp"),
            _pair("bare socket", sockets.echo_server, sockets.echo_client),
            _echo("pyiwarp.sockets", "iwarp"),
            _echo("pyiwarp.sockets, no CRC", "iwarp", crc=False),
            _echo("asyncio streams, asyncio", "tcp", loop="asyncio"),
            _echo("pyiwarp.sockets, asyncio", "iwarp", loop="asyncio"),
            RSTREAM_LATENCY,
        ),
    ),
    Row(
        "pyverbs-send",
        "Send of 64 octets, confirmed by the peer, polling",
        "µs",
        SMALL,
        (
            _pair("pyiwarp.blocking, confirmed", pyverbs.send_server_blocking, pyverbs.send_client_blocking),
            _pair("stand-in for pyverbs", pyverbs.send_server, pyverbs.send_client),
        ),
    ),
    Row(
        "pyverbs-read",
        "Read of 64 octets by a program of pyverbs, polling; the peer's program polls or sleeps",
        "µs",
        SMALL,
        (
            _pair("the peer polls", pyverbs.polling_server, pyverbs.read_client),
            _pair("the peer sleeps", pyverbs.sleeping_server, pyverbs.read_client),
        ),
    ),
    Row(
        "streams-setup",
        "Streams: one made, an octet there and back, closed: processor time of both ends, which are in one process",
        "ms",
        Job(),
        (
            _pair("asyncio streams", scale.no_server, partial(streams.setup_client, "tcp")),
            _pair("pyiwarp.sockets", scale.no_server, partial(streams.setup_client, "iwarp")),
        ),
    ),
    # --- without a target: what else one would like to know ---
    Row(
        "send-1m",
        "Send, 1 MiB, 16 outstanding, uvloop",
        "GB/s",
        replace(MIB, kind="send"),
        (UNPACED, _bare(), _iwarp("pyiwarp"), ZMQ, _ucx("UCX tag", "tag_bw")),
    ),
    Row(
        "both-ways-1m",
        "1 MiB both ways at once, both directions together",
        "GB/s",
        replace(MIB, both_ways=True),
        (
            UNPACED,
            _bare(),
            _iwarp("pyiwarp Write"),
            _iwarp("pyiwarp Read", kind="read"),
            _iwarp("pyiwarp Send", kind="send"),
        ),
    ),
    Row(
        "drivers-1m",
        "Write, 1 MiB, by driver",
        "GB/s",
        MIB,
        (_iwarp("uvloop"), _iwarp("asyncio", loop="asyncio"), _polling("polling")),
    ),
    Row(
        "latency-8",
        "Back and forth, 8 octets, one way",
        "µs",
        Job(size=8),
        (POLLED, POLLING, PROTOCOL, AWAITED),
    ),
    Row(
        "latency-4k",
        "Back and forth, 4 KiB, one way",
        "µs",
        Job(size=4096),
        (POLLED, POLLING, PROTOCOL, AWAITED),
    ),
)


def row_named(name: str) -> Row:
    """The row of that name; `KeyError` if there is none."""
    return {row.name: row for row in ROWS}[name]
