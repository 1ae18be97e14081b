"""A story in the terminal: a line for each message, and on request its fields and its octets."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from pyiwarp.decode.fields import Field
from pyiwarp.explain.story import Conversation, Message

__all__ = ["FIELDS", "OCTETS", "heading", "lines", "message_lines"]

FIELDS: Final = 1
"""The detail from which each field is shown."""

OCTETS: Final = 2
"""The detail from which each octet is shown."""

_ARROWS: Final = ("A ──▶ B", "A ◀── B")
_INDENT: Final = " " * 24
_ROW: Final = 16  # octets in a line
_SHOWN: Final = 32  # octets of a field that are shown without `OCTETS`


def lines(conversation: Conversation, *, width: int, detail: int = 0) -> Iterator[str]:
    """The lines of one connection, `width` columns wide; `detail` is 0, `FIELDS` or `OCTETS`."""
    yield heading(conversation)
    if conversation.joined:
        yield "  (its beginning was not captured; who opened it is a guess)"
    if conversation.agreed:
        yield from textwrap.wrap(conversation.agreed, width, initial_indent="  ", subsequent_indent="  ")
    yield ""
    for place, message in enumerate(conversation.messages):
        if conversation.without and place == conversation.left_out_at:
            yield f"... {conversation.without}"
        yield from message_lines(message, width=width, detail=detail)


def heading(conversation: Conversation) -> str:
    """Who connected to whom."""
    (host, port), (other, other_port) = conversation.ends
    return f"A {_address(host, port)} opened a connection to B {_address(other, other_port)}"


def message_lines(message: Message, *, width: int, detail: int = 0) -> Iterator[str]:
    """The lines of one message, as `lines` has them."""
    yield from _message(message, width)
    if detail >= FIELDS:
        for number, unit in enumerate(message.units):
            if message.left_out and number == len(message.units) // 2:
                yield f"    ... {message.left_out} FPDUs more"
            for field in unit.fields:
                yield from _field(field, width, detail)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _message(message: Message, width: int) -> Iterator[str]:
    lead = f"{message.seconds * 1000:10.3f} ms  {_ARROWS[message.direction]}  "
    indent = " " * len(lead)
    yield from textwrap.wrap(message.text, width, initial_indent=lead, subsequent_indent=indent + "  ")
    if message.above is not None:
        yield from textwrap.wrap(f"» {message.above}", width, initial_indent=indent, subsequent_indent=indent + "  ")
    if message.cause:
        yield from textwrap.wrap(f"· {message.cause}", width, initial_indent=indent, subsequent_indent=indent + "  ")
    for wrong in message.wrong:
        yield from textwrap.wrap(f"!! {wrong}", width, initial_indent=indent, subsequent_indent=indent + "   ")


def _field(field: Field, width: int, detail: int) -> Iterator[str]:
    where = ", ".join(f"{span.start}-{span.end - 1}" for span in field.spans)
    value = f" = {field.value:#x}" if isinstance(field.value, int) else ""
    told = field.words and field.words != ", ".join(bits.words for bits in field.bits if bits.words)
    words = f": {field.words}" if told else ""
    clause = f" ({field.clause})" if field.clause else ""
    text = f"{field.format:<8} {where:>9}  {field.name}{value}{words}{clause}"
    yield from textwrap.wrap(text, width, initial_indent="    ", subsequent_indent=_INDENT)
    for bits in field.bits:
        if bits.words:
            yield from textwrap.wrap(
                f"{bits.name} = {bits.value:#x}: {bits.words}",
                width,
                initial_indent=_INDENT + "  ",
                subsequent_indent=_INDENT + "    ",
            )
    if field.wrong:
        yield from textwrap.wrap(f"!! {field.wrong}", width, initial_indent=_INDENT, subsequent_indent=_INDENT + "   ")
    octets = field.octets if detail >= OCTETS else field.octets[:_SHOWN]
    if detail >= OCTETS or field.format != "ULP":
        for at in range(0, len(octets), _ROW):
            yield _INDENT + octets[at : at + _ROW].hex(" ")
        if len(octets) < len(field.octets):
            yield _INDENT + f"... and {len(field.octets) - len(octets)} octets more"
