"""A target program that answers nonsense loses its case, never the run."""

from __future__ import annotations

import pytest

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.runner import Runner
from tests.conformance.peers import target


def _case(id: str) -> Case:
    return next(case for case in select() if case.id == id)


@pytest.mark.parametrize(
    ("command", "key", "value", "reason"),
    [
        ("session", "rw", "zz:0:1", "rw=zz, which is no number"),
        ("session", "rw", "0x100:0x0", "rw=0x100:0x0, which is no STAG:TO:LEN"),
        ("session", "rw", "0x100000000:0:1", "rw=0x100000000, which lies outside 0..0xffffffff"),
        ("session", "rw", "1:0x10000000000000000:1", "rw=0x10000000000000000, which lies outside"),
        ("session", "rw", "1:0:0x7fffffffffff", "rw=0x7fffffffffff, which lies outside 0..0x200000"),
        ("session", "rw", "-1:0:1", "rw=-1, which lies outside"),
        ("session", "port", "65536", "port=65536, which lies outside 0..0xffff"),
        ("session", "port", "1e3", "port=1e3, which is no number"),
        ("memory", "data", "zz", "data=zz, which is no hexadecimal data"),
    ],
)
async def test_an_impossible_value(command: str, key: str, value: str, reason: str) -> None:
    def tells(line: str, answer: str) -> str:
        if line.split()[0] != command:
            return answer
        words = [word for word in answer.split() if not word.startswith(f"{key}=")]
        return " ".join([*words, f"{key}={value}"])

    async with target("a nonsensical one", tells=tells).make(Direction.CONNECT) as place:
        settings = Settings(port=place.port, level=place.level, timeout=2.0)
        report = await Runner(settings, place.control).run([_case("DDP-5041-5.2-05/2")])
    assert [result.verdict for result in report.results] == [Verdict.ERROR]
    assert report.results[0].reason.startswith("the target says ")
    assert reason in report.results[0].reason
