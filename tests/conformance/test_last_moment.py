"""What comes in the turn of the event loop in which the time runs out is seen: the peer was not silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyiwarp.codes import REPLY_KEY, REQUEST_KEY, Opcode
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.observed import Closed, Frame, Message, Silence
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.conformance.bench.startup_line import Line, build_startup_frame
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.tcp import Tcp

REQUEST, REPLY = build_startup_frame(REQUEST_KEY), build_startup_frame(REPLY_KEY)
HELLO = Framer().frame(build_untagged(Opcode.SEND, 0, 1, b"hello"))


class LateTcp(Tcp):
    """Octets, and with `fin` the end, that come when the time for them has run out, before anybody is told."""

    socket: Any = None  # it has none: it says nothing of segments

    def __init__(self, octets: bytes, *, fin: bool = False) -> None:
        super().__init__()
        self.late, self.ends = octets, fin

    @property
    def announced_mss(self) -> int | None:
        return None

    async def more(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.data_received(self.late)
            if self.ends:
                self.eof_received()


def line(octets: bytes, *, fin: bool = False) -> Line:
    return Line(LateTcp(octets, fin=fin), timeout=0.01, quiet=0.01)


def stream(octets: bytes, *, fin: bool = False) -> Stream:
    return Stream(line(octets, fin=fin), Frame(REQUEST), Frame(REPLY), initiator=True, patient=False)


async def test_a_startup_frame_of_the_last_moment_is_seen() -> None:
    seen = await line(REPLY).observe()
    assert isinstance(seen, Frame)
    assert seen.octets == REPLY


async def test_an_fpdu_of_the_last_moment_is_seen() -> None:
    seen = await stream(HELLO).observe()
    assert isinstance(seen, Message)
    assert seen.fpdu.octets == HELLO


@pytest.mark.parametrize("make", [line, stream])
async def test_an_end_of_the_last_moment_is_seen(make: Any) -> None:
    assert isinstance(await make(b"", fin=True).observe(), Closed)


@pytest.mark.parametrize(("make", "octets"), [(line, REPLY[:7]), (stream, HELLO[:-1])])
async def test_what_is_not_whole_is_silence(make: Any, octets: bytes) -> None:
    seen = await make(octets).observe()
    assert isinstance(seen, Silence)
    assert seen.rest == octets
