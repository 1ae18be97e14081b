"""A peer may show memory at the first TO or the last: what lies beside it wraps, and the bench goes on."""

from __future__ import annotations

import asyncio

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.conformance.bench.startup_line import build_startup_frame
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.runner import Runner
from pyiwarp.wire import REQUEST_KEY, ReadRequestHeader, TaggedHeader
from tests.conformance.peers import initiator

LAST = (1 << 64) - 1


@pytest.mark.parametrize(("to", "wrapped"), [(-1, LAST), (0, 0), (LAST, LAST), (LAST + 8, 7)])
def test_tagged_offsets_wrap(to: int, wrapped: int) -> None:
    assert TaggedHeader.parse(build_tagged(Opcode.WRITE, 1, to)).to == wrapped
    request = ReadRequestHeader.parse(build_read_request(1, to, 0, 1, to))
    assert (request.sink_to, request.source_to) == (wrapped, wrapped)


@pytest.mark.parametrize("to", [0, LAST])
async def test_a_region_at_the_edge(to: int) -> None:
    async def show(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(build_startup_frame(REQUEST_KEY))
        await reader.readexactly(20)
        advertised = to.to_bytes(8, "big") + bytes([0, 0, 1, 0]) + (64).to_bytes(4, "big")
        writer.write(Framer().frame(build_untagged(Opcode.SEND, 0, 1, advertised)))
        await reader.read()

    async with initiator("one at the edge", show).make(Direction.LISTEN) as place:
        assert place.visit is not None
        settings = Settings(Direction.LISTEN, Level.RPING, timeout=0.1, patience=2.0, quiet=0.05)
        runner = Runner(settings)
        await runner.open()
        try:
            async with place.visit(runner.port):
                results = [await runner.run_case(case) for case in select(["DDP-5041-7.1-12", "DDP-5041-7.1-13"])]
        finally:
            runner.close()
    assert {result.verdict for result in results} <= {Verdict.FAILED, Verdict.CANNOT}
    assert Verdict.FAILED in {result.verdict for result in results}, "the peer answers nothing"
