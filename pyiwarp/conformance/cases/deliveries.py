"""What the target program must have been given: receives that completed, and receives that must not have."""

from __future__ import annotations

from pyiwarp.conformance.bench.control import Work
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.testbench import Bench

__all__ = ["expect_delivered", "expect_flushed", "expect_nothing_delivered"]


async def expect_delivered(bench: Bench, *payloads: bytes, first: int = 0) -> list[Work]:
    """Receives number `first` and following complete in order, each with one of `payloads` as its message."""
    works = await bench.target.expect_completions(len(payloads))
    for number, (work, payload) in enumerate(zip(works, payloads, strict=True), first):
        if (work.opcode, work.wr_id, work.nbytes) != ("recv", number, len(payload)):
            raise Failed(f"receive {number} with {len(payload)} octets", str(work))
        await bench.target.expect_received(payload, number)
    return works


async def expect_nothing_delivered(bench: Bench, seconds: float | None = None) -> None:
    """No receive completes with success, for `seconds` (by default the bench's quiet time)."""
    seconds = bench.settings.quiet if seconds is None else seconds
    works = await bench.target.completions(1, seconds)
    if delivered := [work for work in works if work.status == "success"]:
        raise Failed("no message for the program", f"it was given {delivered[0]}")


async def expect_flushed(bench: Bench, n: int) -> list[Work]:
    """The next `n` completions are there, and all of them are errors."""
    works = await bench.target.completions(n)
    if len(works) != n or any(work.status == "success" for work in works):
        came = "; ".join(map(str, works)) or "none"
        raise Failed(f"{n} completions in error", f"completions: {came}")
    return works
