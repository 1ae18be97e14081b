"""Cases that all go the same way: one wrong thing is sent, and the peer answers with a Terminate and an end.

What was wrong must leave no trace: where a target program tells of its memory, no region has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Value
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.errors import Term

__all__ = ["Build", "expect_regions_unchanged", "refusal", "unknown_stag"]

Build = Callable[[Bench, Stream], bytes | Sequence[bytes]]


def unknown_stag(bench: Bench) -> int:
    """An STag that the peer has told nobody of."""
    known = {region.stag for region in bench.target.regions.values()} if bench.has_target else set()
    return next(stag for stag in (0x0BADC0DE, 0x1BADC0DE, 0x2BADC0DE, 0x3BADC0DE, 0x4BADC0DE) if stag not in known)


async def expect_regions_unchanged(bench: Bench) -> None:
    """Every region of the target holds what a fresh one holds; without a target nothing can be said."""
    if bench.has_target:
        for name in bench.target.regions:
            await bench.target.expect_memory_unchanged(name)


def refusal(
    id: str,
    title: str,
    sends: str,
    build: Build,
    *terms: Term,
    level: Level = Level.BARE,
    needs: Iterable[Need] = (),
    also: tuple[str, ...] = (),
    session: Mapping[str, Value] | None = None,
    **options: Any,
) -> None:
    """Register a case: what `build` makes is sent in one piece, and a Terminate with one of `terms` must follow."""

    async def run(bench: Bench) -> None:
        stream = await bench.open(session=session)
        built = build(bench, stream)
        await stream.fpdus([built] if isinstance(built, bytes) else built)
        await stream.expect_terminated(*terms)
        await expect_regions_unchanged(bench)

    named = " or ".join(str(term) for term in terms) or "of any kind"
    run.__doc__ = f"{sends}\n\nAccepts: Terminate {named}, and then the end of the stream; no memory has changed."
    case(id, title, level=level, needs=needs, also=also, **options)(run)
