"""A story as plain values, for JSON."""

from __future__ import annotations

from typing import Any, Final

from pyiwarp.decode.fields import Field
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.explain.story import Conversation, Message

__all__ = ["record"]

_SHOWN: Final = 256  # octets of one field


def record(conversation: Conversation) -> dict[str, Any]:
    """One connection; octets are hexadecimal, and of a field the first 256; places count from the direction's first."""
    return {
        "ends": [{"host": host, "port": port} for host, port in conversation.ends],
        "began": conversation.began,
        "joined": conversation.joined,
        "agreed": conversation.agreed,
        "left_out": conversation.left_out,
        "left_out_wrong": conversation.left_out_wrong,
        "left_out_at": conversation.left_out_at,
        "without": conversation.without,
        "messages": [_message(message) for message in conversation.messages],
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "seconds": message.seconds,
        "from": "AB"[message.direction],
        "text": message.text,
        "cause": message.cause,
        "above": _above(message),
        "wrong": message.wrong,
        "left_out": message.left_out,
        "units": [_unit(unit) for unit in message.units],
    }


def _above(message: Message) -> dict[str, Any] | None:
    read = message.above
    if read is None:
        return None
    return {"protocol": read.protocol.title, "sure": read.protocol.sure, "says": read.says}


def _unit(unit: Unit) -> dict[str, Any]:
    kind = "startup" if isinstance(unit, StartupUnit) else "fpdu" if isinstance(unit, FpduUnit) else "octets"
    return {
        "kind": kind,
        "offset": unit.offset,
        "nbytes": len(unit.octets),
        "fields": [_field(field) for field in unit.fields],
    }


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
