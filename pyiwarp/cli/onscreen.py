"""Text for people: names from elsewhere made harmless, errors as one line, figures with their units."""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["explain", "rate", "shown", "shown_whole"]

TEXT_LIMIT: Final = 1024


def shown(text: str) -> str:
    """`text` on one line, with every character that could steer a terminal escaped, and of bounded length."""
    return shown_whole(text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…")


def shown_whole(text: str | bytes) -> str:
    """All of `text`, on one line and harmless to a terminal; octets are taken for ASCII."""
    if not isinstance(text, str):
        text = text.decode("ascii", "backslashreplace")
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    """As Python writes it: \\n, \\x1b, \\u202e, \\udc80."""
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def explain(error: BaseException) -> str:
    """The one line that says what went wrong."""
    if isinstance(error, socket.gaierror):
        return f"the host is not known: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return shown(where + error.strerror)
    return shown(str(error)) or type(error).__name__


def rate(nbytes: int, seconds: float) -> str:
    """GB/s, or MB/s when that says more."""
    per_second = nbytes / max(seconds, 1e-9)
    return f"{per_second / 1e9:.2f} GB/s" if per_second >= 1e7 else f"{per_second / 1e6:.3f} MB/s"
