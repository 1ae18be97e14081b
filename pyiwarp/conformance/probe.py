"""Is there an iWARP endpoint at all? One connection finds out, in bounded time, before any case runs."""

from __future__ import annotations

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.observed import Closed, Frame, Octets, Reset, Silence
from pyiwarp.conformance.bench.startup_line import Line, build_word
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.errors import IwarpError

__all__ = ["NoEndpoint", "probe_peer"]

LINE_END = b"\r\n\r\n"  # a program that reads lines answers this, if only to complain


class NoEndpoint(IwarpError):
    """What is there is no iWARP endpoint, or none that can be tested; the text says what it does instead."""


async def probe_peer(bench: Bench) -> set[Need]:
    """Make or take one connection; returns what the peer shows that it can do.

    Raises `NoEndpoint`, `Unreachable` or `NobodyConnects`.
    """
    settings = bench.settings
    needs = {need for need in Need if bench.has_target and bench.target.able(need.value)}
    if bench.has_target:
        return needs | {Need.REGION, Need.READER}
    try:
        if settings.direction is Direction.CONNECT:
            needs |= await _probe_responder(bench)
        else:
            needs |= await _probe_initiator(bench)
    finally:
        await bench.close()
    if settings.level >= Level.RPING:
        needs.add(Need.READER if settings.direction is Direction.CONNECT else Need.REGION)
    return needs


async def _probe_responder(bench: Bench) -> set[Need]:
    """A plain Request, then one with the enhanced word."""
    line = await bench.line()
    sent = await line.request()
    seen = await line.observe()
    match seen:
        case Frame() if seen.is_reply and seen.header.flags.rejected:
            raise NoEndpoint("an MPA endpoint that rejects connections: its program does not want any")
        case Frame() if seen.is_reply:
            pass
        case Frame() if seen.octets == sent:
            raise NoEndpoint("not an iWARP endpoint: it sends back what it gets, as an echo server does")
        case Octets():
            raise NoEndpoint(f"not an iWARP endpoint: it answers an MPA Request with {seen.octets[:40]!r}")
        case Closed() | Reset():
            raise NoEndpoint(
                f"not an iWARP endpoint, or busy: its answer to an MPA Request is {seen}{_shown_octets(seen.rest)}"
            )
        case _:
            raise NoEndpoint(await _describe_silence(line, seen))
    line.tcp.close()
    line = await bench.line()
    await line.request(build_word(), revision=2, enhanced=True)
    answer = await line.observe()
    return {Need.ENHANCED} if isinstance(answer, Frame) and answer.is_reply and answer.enhanced else set()


async def _describe_silence(line: Line, seen: object) -> str:
    """A program that waits for the end of a line speaks when it gets one."""
    if isinstance(seen, Silence) and not seen.rest:
        await line.send(LINE_END)
        seen = await line.observe(min(1.0, line.timeout))
        if isinstance(seen, Octets):
            return f"not an iWARP endpoint: it answers lines of text, with {seen.octets[:40]!r}"
        return f"not an iWARP endpoint: it accepts TCP and does not answer an MPA Request in {line.timeout:g} s"
    return f"not an iWARP endpoint: {seen}"


async def _probe_initiator(bench: Bench) -> set[Need]:
    """The Initiator's Request, which is then left without an answer."""
    line = await bench.line()
    seen = await line.observe()
    if not (isinstance(seen, Frame) and seen.is_request):
        rest = seen.octets if isinstance(seen, Frame | Octets) else b""
        raise NoEndpoint(f"not an iWARP Initiator: it connected, and came with {seen}{_shown_octets(rest)}")
    needs = set()
    if seen.header.flags.markers:
        needs.add(Need.MARKERS)
    if not seen.header.flags.crc:
        needs.add(Need.CRC)
    if seen.word is not None:
        needs.add(Need.ENHANCED)
        if seen.word.peer_to_peer:
            needs.add(Need.P2P)
    return needs


def _shown_octets(octets: bytes) -> str:
    return f": {octets[:40]!r}" if octets else ""
