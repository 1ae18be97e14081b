"""pyiwarp from 8 octets to 64 MiB, or from 1 to 64 queue pairs: how rates and latencies grow.

    python -m benchmarks.sweep [--across size|latency|qps] [--both-ways] [--no-crc] [--markers] [--mulpdu N]
                               [--loop uvloop|asyncio|polling] [--quick] [--rounds N] [--json FILE] [--plot FILE]

`size` measures the bandwidth of Writes, Reads and Sends beside a bare socket that sends messages of that size;
`latency` a message back and forth, `qps` Writes of 1 MiB on so many queue pairs at once. Candidates take turns at each
point.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks import iwarp, iwarp_polling, loops, sockets
from benchmarks.machine import describe
from benchmarks.pairs import Client, Job, Sample, Server, run_pair
from benchmarks.plot import draw_sweep
from benchmarks.table import figure, wide_console

__all__ = ["main"]

MIB: Final = 1 << 20
SIZES: Final = (8, 64, 512, 4096, 16384, 65536, 1 << 18, MIB, 1 << 22, 1 << 24, 1 << 26)
LATENCY_SIZES: Final = (8, 64, 512, 4096, 16384, 65536)
QPS: Final = (1, 2, 4, 8, 16, 32, 64)
QUICK: Final = {"size": (8, MIB), "latency": (64,), "qps": (1, 4)}
SMALL: Final = 4096
PER_QP: Final = 4
KINDS: Final = ("write", "read", "send")

Line = tuple[Server, Client, dict[str, Any]]
BARE: Final = (sockets.bandwidth_server, sockets.bandwidth_client)
ON_LOOP: Final = (iwarp.stream_server, iwarp.stream_client)
POLLED: Final = (iwarp_polling.stream_server, iwarp_polling.stream_client)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What varies, what is told of it, and who takes part: a name, its processes, and changes to the job."""

    points: tuple[int, ...]
    heading: str
    figure: str
    job: Callable[[Job, int], Job]
    lines: Mapping[str, Line]


def _sized(job: Job, size: int) -> Job:
    """Small messages come in batches, as a program would post them."""
    return replace(job, size=size, batch=16, outstanding=128) if size <= SMALL else replace(job, size=size)


def sweep_across(across: str, driver: str) -> Sweep:
    """The sweep of that name, with pyiwarp on that driver."""
    streaming = POLLED if driver == "polling" else ON_LOOP
    if across == "size":
        lines: dict[str, Line] = {f"pyiwarp {kind.title()}": (*streaming, {"kind": kind}) for kind in KINDS}
        return Sweep(SIZES, "octets of a message", "GB/s", _sized, {"bare socket": (*BARE, {}), **lines})
    if across == "latency":
        return Sweep(
            LATENCY_SIZES,
            "octets of a message",
            "µs",
            lambda job, size: replace(job, size=size),
            {
                "bare socket, busy-polled": (sockets.polled_server, sockets.polled_client, {}),
                "pyiwarp, polling": (iwarp_polling.latency_server, iwarp_polling.latency_client, {}),
                "bare uvloop protocol": (loops.protocol_server, loops.protocol_client, {}),
                "pyiwarp, awaited": (iwarp.awaited_server, iwarp.awaited_client, {}),
            },
        )
    return Sweep(
        QPS,
        "queue pairs",
        "GB/s",
        lambda job, qps: replace(job, qps=qps, outstanding=16 if qps == 1 else PER_QP),
        {f"pyiwarp {kind.title()}": (*ON_LOOP, {"kind": kind}) for kind in KINDS},
    )


Samples = dict[str, dict[int, list[Sample]]]


def measure(sweep: Sweep, points: tuple[int, ...], job: Job, rounds: int) -> Samples:
    """All candidates at all points, `rounds` times."""
    samples: Samples = {name: {point: [] for point in points} for name in sweep.lines}
    for point in points:
        for _ in range(rounds):
            for name, (server, client, changes) in sweep.lines.items():
                one = replace(sweep.job(job, point), **changes)
                samples[name][point].append(run_pair(server, client, one))
    return samples


def medians(samples: Samples, figure_name: str) -> dict[str, list[tuple[float, float]]]:
    """For each candidate its points."""
    return {
        name: [(point, statistics.median(sample[figure_name] for sample in each)) for point, each in by_point.items()]
        for name, by_point in samples.items()
    }


def show(sweep: Sweep, samples: Samples, points: tuple[int, ...]) -> None:
    table = Table(title=f"{sweep.figure} by {sweep.heading}", title_justify="left")
    table.add_column(sweep.heading, justify="right")
    for name in sweep.lines:
        table.add_column(name, justify="right")
    lines = {name: dict(values) for name, values in medians(samples, sweep.figure).items()}
    for point in points:
        table.add_row(f"{point:,}", *(figure(values[point]) for values in lines.values()))
    console = wide_console()
    console.print(table)
    console.print(describe().line, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--across", choices=("size", "latency", "qps"), default="size", help="what varies")
    parser.add_argument("--both-ways", action="store_true", help="both sides send at once; rates are of both together")
    parser.add_argument("--no-crc", action="store_true", help="negotiate CRC off")
    parser.add_argument("--markers", action="store_true", help="with MPA markers")
    parser.add_argument("--mulpdu", type=int, metavar="N", help="fix the size of FPDUs: 1442 is Ethernet's")
    parser.add_argument("--loop", choices=("uvloop", "asyncio", "polling"), default="uvloop", help="pyiwarp's driver")
    parser.add_argument("--quick", action="store_true", help="few points, one short round")
    parser.add_argument("--rounds", type=int, help="measurements of each point (default 3)")
    parser.add_argument("--seconds", type=float, help="how long one measurement takes (default 0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the medians to this PNG or SVG")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    sweep = sweep_across(options.across, options.loop)
    points = QUICK[options.across] if options.quick else sweep.points
    seconds = options.seconds or (0.02 if options.quick else 0.5)
    job = Job(
        seconds=seconds,
        warmup=min(0.1, seconds / 2),
        both_ways=options.both_ways,
        crc=not options.no_crc,
        markers=options.markers,
        mulpdu=options.mulpdu,
        loop="asyncio" if options.loop == "asyncio" else "uvloop",
    )
    samples = measure(sweep, points, job, options.rounds or (1 if options.quick else 3))
    show(sweep, samples, points)
    if options.json:
        facts = {
            "machine": describe().data(),
            "across": sweep.heading,
            "figure": sweep.figure,
            "samples": {
                name: {str(p): [dict(s) for s in each] for p, each in by.items()} for name, by in samples.items()
            },
        }
        options.json.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if options.plot:
        series = medians(samples, sweep.figure)
        draw_sweep(series, describe().line, options.plot, across=sweep.heading, figure_name=sweep.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
