"""`pyiwarp perf`: bandwidth and latency of Writes, Reads and Sends, against perftest's programs or against itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import (
    EitherCrcOption,
    HostOption,
    JsonOption,
    LoopOption,
    MarkersOption,
    MulpduOption,
    PcapngOption,
    PeerOption,
    RevisionOption,
    TimeoutOption,
    endpoint_address,
    tool_options,
)
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.cli.running import LoopName, run

if TYPE_CHECKING:
    from pyiwarp.cli.perftest.runs import Plan

__all__ = ["make_plan", "perf"]

PORT: Final = 18515
PATIENCE: Final = 30.0
LARGEST: Final = 1 << 23
SIZES: Final = tuple(1 << power for power in range(1, LARGEST.bit_length()))
ENDLESS: Final = 1 << 62
LARGEST_QPS: Final = 1024
TX_DEPTH: Final = 128
RX_DEPTH: Final = 512
NO_MODERATION: Final = 8192
"""Messages above this size each ask for a completion, unless the user says otherwise."""

_Size = Annotated[
    int | None, typer.Option("--size", "-s", min=1, max=LARGEST, help="Octets of a message: 65536, or 2 for _lat.")
]
_AllSizes = Annotated[bool, typer.Option("--all", "-a", help="All sizes from 2 to 8388608 octets; both sides.")]
_Duration = Annotated[
    float | None,
    typer.Option("--duration", "-D", min=1, help="Run for so many seconds: write_bw, read_bw, read_lat."),
]
_Iterations = Annotated[
    int | None, typer.Option("--iters", "-n", min=5, help="Number of messages: 1000, or 5000 for write_bw.")
]
_TxDepth = Annotated[int, typer.Option("--tx-depth", "-t", min=1, max=16384, help="The most messages in flight.")]
_CqMod = Annotated[
    int | None, typer.Option("--cq-mod", "-Q", min=1, help="Messages to a completion: 100, or 1 above 8192 octets.")
]


def perf(
    test: Annotated[PerfTest, typer.Argument(help="The test; the same on both sides.")],
    server: Annotated[
        str | None,
        typer.Argument(
            metavar="HOST[:PORT]", help="The server: ib_TEST -R or pyiwarp perf TEST. Without it this is the server."
        ),
    ] = None,
    size: _Size = None,
    all_sizes: _AllSizes = False,
    duration: _Duration = None,
    iterations: _Iterations = None,
    tx_depth: _TxDepth = TX_DEPTH,
    rx_depth: Annotated[int, typer.Option("--rx-depth", "-r", min=3, max=16384, help="Receives posted.")] = RX_DEPTH,
    cq_mod: _CqMod = None,
    post_list: Annotated[int, typer.Option("--post_list", "-l", min=1, help="Work requests posted in one list.")] = 1,
    qps: Annotated[int, typer.Option("--qp", "-q", min=1, max=LARGEST_QPS, help="Connections at once.")] = 1,
    both_ways: Annotated[
        bool, typer.Option("--bidirectional", "-b", help="Both sides send at once; the figures are sums.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="TCP port.")] = PORT,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    peer: PeerOption = "rfc",
    loop: LoopOption = LoopName.AUTO,
    crc: EitherCrcOption = None,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Measure bandwidth or latency.

    Speaks perftest's protocol (-R), so that the other side may be ib_write_bw and the like.
    """
    from pyiwarp.cli.perf_screen import measure, serve_once

    plan = make_plan(
        test,
        size,
        iterations,
        tx_depth,
        rx_depth,
        cq_mod,
        post_list=post_list,
        qps=qps,
        both_ways=both_ways,
        all_sizes=all_sizes,
        seconds=duration,
    )
    options = tool_options(peer, timeout, crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng)
    if server is None:
        run(serve_once(plan, options, timeout, host, port, json=json), loop)
    else:
        run(measure(plan, options, timeout, endpoint_address(server, port), json=json), loop)


def make_plan(
    test: PerfTest,
    size: int | None = None,
    iterations: int | None = None,
    tx_depth: int = TX_DEPTH,
    rx_depth: int = RX_DEPTH,
    cq_mod: int | None = None,
    *,
    post_list: int = 1,
    qps: int = 1,
    both_ways: bool = False,
    all_sizes: bool = False,
    seconds: float | None = None,
) -> Plan:
    """A plan with perftest's defaults, checked against its limits; raises a usage error."""
    from dataclasses import replace

    from pyiwarp.cli.perftest.runs import Plan

    if (qps > 1 or both_ways) and test not in (PerfTest.WRITE_BW, PerfTest.READ_BW):
        raise typer.BadParameter(
            f"{test.value} goes one way at a time on one connection; -q and -b are for write_bw and read_bw"
        )
    if post_list > 1 and test.is_latency:
        raise typer.BadParameter(f"{test.value} sends one message at a time; -l is for bandwidth")
    if post_list > tx_depth or (test.sends and post_list > _longest_list(rx_depth)):
        raise typer.BadParameter(f"a list of {post_list} sends; -t allows {tx_depth} underway, -r receives {rx_depth}")
    if all_sizes and size is not None:
        raise typer.BadParameter("-a is all sizes, -s is one; give one of them")
    if seconds is not None:
        _check_duration(test, iterations, both_ways=both_ways, all_sizes=all_sizes)
    if all_sizes:
        sizes = tuple(
            make_plan(
                test, each, iterations, tx_depth, rx_depth, cq_mod, post_list=post_list, qps=qps, both_ways=both_ways
            )
            for each in SIZES
        )
        return replace(sizes[-1], sizes=sizes)
    size = size or (2 if test.is_latency else 65536)
    iterations = ENDLESS if seconds is not None else iterations or (5000 if test is PerfTest.WRITE_BW else 1000)
    tx_depth = min(tx_depth, iterations)
    rx_depth = min(rx_depth, iterations)
    post_list = min(post_list, tx_depth, _longest_list(rx_depth) if test.sends else tx_depth)
    usual = post_list if post_list > 1 else 1 if size > NO_MODERATION else 100
    return Plan(
        test=test,
        size=size,
        iterations=iterations,
        tx_depth=tx_depth,
        rx_depth=rx_depth,
        cq_mod=min(cq_mod or usual, tx_depth - post_list + 1),  # a list waits for room that a completion tells of
        post_list=post_list,
        qps=qps,
        both_ways=both_ways,
        seconds=seconds,
    )


def _check_duration(test: PerfTest, iterations: int | None, *, both_ways: bool, all_sizes: bool) -> None:
    """What a time can be given for: tests of which the client alone decides how long they last."""
    if test not in (PerfTest.WRITE_BW, PerfTest.READ_BW, PerfTest.READ_LAT) or both_ways:
        what = f"{test.value} both ways" if both_ways else test.value
        raise typer.BadParameter(f"{what} ends after a number of messages, as both sides count them; -D is for others")
    if iterations is not None or all_sizes:
        raise typer.BadParameter(
            f"-D ends the test after a time, {'-a' if all_sizes else '-n'} does not; give one of them"
        )


def _longest_list(rx_depth: int) -> int:
    """Sends that find their receives posted, though the peer tells of them only three times per `rx_depth`."""
    return rx_depth - rx_depth // 3
