"""Peers that break a rule which many cases watch over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyiwarp import mpa, wire
from pyiwarp.conformance.framing import Framer
from pyiwarp.conformance.line import build_startup_frame
from pyiwarp.conformance.observed import Frame, Message
from pyiwarp.stream import Stream
from tests.conformance.peers import initiator, responder, target

FOREVER = 3600.0

# --- scripts ---------------------------------------------------------------------------------------------------------


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(FOREVER)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(1 << 16):
        writer.write(octets)


async def _accepts_anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whatever comes is taken for a good Request, and whatever follows is swallowed."""
    await reader.read(1 << 16)
    writer.write(build_startup_frame(wire.REPLY_KEY))
    while await reader.read(1 << 16):
        pass
    await asyncio.sleep(FOREVER)


async def _babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(build_startup_frame(wire.REPLY_KEY))
    await asyncio.sleep(FOREVER)


async def _goes_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A Request, and whatever the answer is, FPDUs."""
    writer.write(build_startup_frame(wire.REQUEST_KEY))
    await reader.read(1 << 16)
    writer.write(Framer().frame(bytes.fromhex("c14000000000" + "00" * 8)))
    await asyncio.sleep(FOREVER)


SILENT = responder("a Responder that says nothing", _silence)
ECHO = responder("a Responder that sends back what it gets", _echo)
ACCEPTS_ANYTHING = responder("a Responder that accepts anything and swallows the rest", _accepts_anything)
BABBLES = responder("a Responder that speaks before it is asked", _babbles)
SILENT_INITIATOR = initiator("an Initiator that says nothing", _silence)
GOES_ON = initiator("an Initiator that goes on whatever the Reply is", _goes_on)

# --- the target, bent or with a liar between -------------------------------------------------------------------------


def _overlooks_crc(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mpa.Deframer, "_verify", lambda self, start, end: None)


def _goes_on_after_errors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Stream, "_fail", lambda self, violation: None)


def _without_terminates() -> Any:
    def change(seen: Frame | Message) -> bytes | None:
        if isinstance(seen, Message):
            return None if seen.terminate is not None else seen.fpdu.octets
        return seen.octets

    return change


OVERLOOKS_CRC = target("a target that does not look at CRCs", _overlooks_crc)
NEVER_TERMINATES = target("a target whose Terminates do not arrive", says=_without_terminates)
GOES_ON_AFTER_ERRORS = target("a target that does not mind errors", _goes_on_after_errors)


def forgets_private_data() -> Any:
    def change(seen: Frame | Message) -> bytes | None:
        if isinstance(seen, Message):
            return seen.fpdu.octets
        return seen.octets[:18] + b"\0\0"

    return change


FORGETS_PRIVATE_DATA = target("a target whose Private Data is lost", says=forgets_private_data)
