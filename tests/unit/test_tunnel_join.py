"""The two ends of a tunnel's client, with the loop's time in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from pyiwarp.cli.tunnels.join import Join, Patience
from pyiwarp.cli.tunnels.place import Place
from tests.sim.loop import SimulatedLoop


class FakeTransport:
    """What a loop's transport does for one end."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 4420)

    def is_closing(self) -> bool:
        return "abort" in self.calls or "close" in self.calls

    def write(self, octets: bytes) -> None:
        self.written += octets

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


def in_virtual_time(scene: Callable[[Callable[[float], Awaitable[None]]], Awaitable[None]]) -> None:
    """Play a scene, which is given what lets time pass until a moment."""
    loop = SimulatedLoop()

    async def until(moment: float) -> None:
        await asyncio.sleep(moment - loop.time())

    async def play() -> None:
        await scene(until)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()


def joined(patience: Patience) -> tuple[Join, FakeTransport, FakeTransport]:
    near, far = FakeTransport(), FakeTransport()
    join = Join(("iwarp", "iwarp"), lambda join: None, lambda join: None, patience)
    join.near.connection_made(cast("Any", near))
    join.far.connection_made(cast("Any", far))
    return join, near, far


def test_silence_is_counted_from_the_last_octet() -> None:
    async def scene(until: Callable[[float], Awaitable[None]]) -> None:
        join, near, far = joined(Patience(idle=10.0, half_closed=None, keepalive=None))
        for moment in (6.0, 12.0, 21.0):
            await until(moment)
            join.near.data_received(b"x")
            assert "abort" not in near.calls + far.calls
        await until(30.5)
        assert "abort" not in near.calls + far.calls
        await until(31.5)
        assert near.calls[-1] == far.calls[-1] == "abort"
        assert "no octet has come for 10 s" in str(join.error)
        assert far.written == b"xxx"

    in_virtual_time(scene)


def test_when_one_direction_has_ended_silence_is_counted_from_there() -> None:
    async def scene(until: Callable[[float], Awaitable[None]]) -> None:
        join, near, far = joined(Patience(idle=None, half_closed=10.0, keepalive=None))
        await until(50.0)
        join.near.eof_received()
        await until(55.0)
        join.far.data_received(b"an answer")
        await until(64.5)
        assert "abort" not in near.calls + far.calls
        await until(65.5)
        assert near.calls[-1] == far.calls[-1] == "abort"
        assert near.written == b"an answer"

    in_virtual_time(scene)


@pytest.mark.parametrize(
    ("listen", "target", "why"),
    [
        ("tcp:h:1", "tcp:h:2", "are both tcp"),
        ("iwarp:h:1", "iwarp:h:2", "are both iwarp"),
        ("tcp:h:1", "iwarp:h:0", "port 0"),
    ],
)
def test_what_a_tunnel_does_not_join(listen: str, target: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Place.parse(listen).check_joins(Place.parse(target))


def test_what_a_tunnel_joins() -> None:
    Place.parse("tcp:h:0").check_joins(Place.parse("iwarp:h:2"))
    Place.parse("iwarp:[::1]:7").check_joins(Place.parse("tcp:h:2"))
