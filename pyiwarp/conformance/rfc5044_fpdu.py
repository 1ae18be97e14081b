"""FPDUs: layout, pad, CRC, markers, and where one ends (RFC 5044 §4 and §6)."""

from __future__ import annotations

from pyiwarp.conformance.case import Level, Need, case
from pyiwarp.conformance.segments import build_tagged
from pyiwarp.conformance.terms import MPA_CRC
from pyiwarp.conformance.testbench import Bench

__all__: list[str] = []


@case("MPA-5044-8-02", "a wrong CRC is answered with Terminate 2/0/02", also=("MPA-5044-4.4-18",))
async def wrong_crc(bench: Bench) -> None:
    """An FPDU in order, then one whose CRC has its last octet changed.

    Accepts: Terminate 2/0/02, and then the end of the stream.
    """
    stream = await bench.open()
    await stream.fpdu(build_tagged(0, 0, 0), crc_mask=0x01000000)
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-4.4-17", "an FPDU with a wrong CRC has no effect", level=Level.RPING, needs=[Need.REGION])
async def wrong_crc_places_nothing(bench: Bench) -> None:
    """A Write to the peer's region with one payload bit changed behind the CRC's back.

    Accepts: Terminate 2/0/02; where the memory can be looked at it is as it was.
    """
    stream = await bench.open()
    await stream.fpdu(build_tagged(0, bench.rw.stag, bench.rw.to, b"\1\2\3\4"), crc_mask=0xFFFF)
    await stream.expect_terminated(MPA_CRC)
    if bench.has_target:
        await bench.target.expect_memory_unchanged("rw")
