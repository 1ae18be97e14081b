"""A story as plain values, for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from crc32c import crc32c

from pyiwarp.decode.fields import Field
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.explain.effects import Placed, Region, placements, reached, refused, regions, states
from pyiwarp.explain.story import Conversation, Message

__all__ = ["record"]

_SHOWN: Final = 256  # octets of one field
_PIECE: Final = 64  # octets of one piece of it
_ALL_ONES: Final = 0xFFFF_FFFF


def record(conversation: Conversation) -> dict[str, Any]:
    """One connection; octets are hexadecimal, and of a field the first 256; places count from the direction's first."""
    memory, no = regions(conversation), refused(conversation)
    return {
        "ends": [{"host": host, "port": port} for host, port in conversation.ends],
        "began": conversation.began,
        "joined": conversation.joined,
        "agreed": conversation.agreed,
        "left_out": conversation.left_out,
        "left_out_wrong": conversation.left_out_wrong,
        "left_out_at": conversation.left_out_at,
        "without": conversation.without,
        "regions": [
            {
                **region._asdict(),
                "stag": f"{region.stag:#010x}",
                "begin": f"{region.begin:#x}",
                "end": f"{region.end:#x}",
            }
            for region in memory
        ],
        "messages": [
            _message(message, memory, no) | {"states": {"A": list(a), "B": list(b)}}
            for message, (a, b) in zip(conversation.messages, states(conversation), strict=True)
        ],
    }


def _message(message: Message, memory: list[Region], no: set[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "seconds": message.seconds,
        "from": "AB"[message.direction],
        "text": message.text,
        "cause": message.cause,
        "above": _above(message),
        "wrong": message.wrong,
        "left_out": message.left_out,
        "memory": [_placed(each, memory, no) for each in (*placements(message), *reached(message))],
        "units": [_unit(unit) for unit in message.units],
    }


def _above(message: Message) -> dict[str, Any] | None:
    read = message.above
    if read is None:
        return None
    return {"protocol": read.protocol.title, "sure": read.protocol.sure, "says": read.says}


def _placed(placed: Placed, memory: list[Region], no: set[tuple[str, int, int]]) -> dict[str, Any]:
    turned_down = placed[:3] in no
    return {
        "refused": turned_down,
        "inside": not turned_down and any(each[:2] == placed[:2] and each.has(placed) for each in memory),
        "side": placed.side,
        "stag": f"{placed.stag:#010x}",
        "to": f"{placed.to:#x}",
        "nbytes": placed.nbytes,
        "octets": placed.octets[:_SHOWN].hex(),
        "does": placed.does,
    }


def _unit(unit: Unit) -> dict[str, Any]:
    fields = unit.fields
    kind = "startup" if isinstance(unit, StartupUnit) else "fpdu" if isinstance(unit, FpduUnit) else "octets"
    return {
        "kind": kind,
        "offset": unit.offset,
        "nbytes": len(unit.octets),
        "fields": [_field(field) for field in fields],
        "pieces": list(_pieces(unit, fields)),
    }


def _pieces(unit: Unit, fields: list[Field]) -> Iterator[dict[str, Any]]:
    """The octets in their order, each piece with its field; a field in which a marker stands has several pieces.

    Of an FPDU with the register of the CRC behind each piece that it covers (RFC 5044 §4.4).
    """
    crc = 0
    for at, end, number in sorted((*span, number) for number, field in enumerate(fields) for span in field.spans):
        octets = unit.octets[at - unit.offset : end - unit.offset]
        piece = {"field": number, "at": at, "nbytes": len(octets), "octets": octets[:_PIECE].hex()}
        if isinstance(unit, FpduUnit) and fields[number].name != "CRC":
            crc = crc32c(octets, crc)
            piece["register"] = f"{crc ^ _ALL_ONES:#010x}"
        yield piece


def _field(field: Field) -> dict[str, Any]:
    return {
        "layer": field.format,
        "name": field.name,
        "spans": [list(span) for span in field.spans],
        "octets": field.octets[:_SHOWN].hex(),
        "value": f"{field.value:#x}" if isinstance(field.value, int) else None,
        "words": field.words,
        "clause": field.clause,
        "rules": list(field.rules),
        "bits": [bits._asdict() for bits in field.bits],
        "wrong": field.wrong,
    }
