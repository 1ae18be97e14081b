"""How often siw overlooks a first FPDU that follows its Reply at once, which no single case can show."""

from __future__ import annotations

from typing import Final, NamedTuple

from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.observed import Silence
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.testbench import Bench, Settings

from ..siw import Guest, Image, fresh
from ..siw.target import siw_target

CONNECTIONS: Final = 60
PATIENCE: Final = 0.3  # seconds; an answer takes a hundredth of that on a machine that does nothing else


class Race(NamedTuple):
    """How many of `connections` hung, and the name of the kernel that was asked."""

    connections: int
    hung: int
    kernel: str

    @property
    def sentence(self) -> str:
        """For the page."""
        return (
            f"In this run {self.hung} of {self.connections} connections hung whose first FPDU followed the Reply at "
            "once (RFC 5044 §7.1.2: who has sent a Reply must be ready for FPDUs)."
        )


async def _silent(stream: Stream, guest: Guest) -> bool:
    """Whether no answer comes, though the guest has done other work since it was due."""
    if not isinstance(await stream.observe(PATIENCE), Silence):
        return False
    await guest.run("true")
    return isinstance(await stream.observe(PATIENCE), Silence)


async def measure_race(image: Image) -> Race:
    """Open connections one after the other, each with a Read Request of no octets right behind the Reply."""
    hung = 0
    async with await fresh(image) as guest, siw_target(guest) as place:
        kernel = (await guest.run("uname -srv")).text.strip()
        for _ in range(CONNECTIONS):
            bench = Bench(Settings(Direction.CONNECT, Level.BARE, place.host, place.port))
            try:
                stream = await bench.open(revision=2, word={"ird": 4, "ord": 4}, speak_first=False)
                await stream.read(0, 0, 0)
                hung += await _silent(stream, guest)
            finally:
                await bench.close()
    return Race(CONNECTIONS, hung, kernel)
