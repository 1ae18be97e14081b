"""What both sides say in the private data of their startup frames: the protocol, and the digests of files.

A client names the digests that it can compute beside SHA-256, a server the one of them that it has chosen; a side that
names none means SHA-256. A server of an earlier version knows no names of digests: it rejects the client with
`STRANGER`, and the client connects once more and names none.
"""

from __future__ import annotations

import re
from typing import Final

from pyiwarp.errors import Rejected
from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage

__all__ = ["HELLO", "STRANGER", "agreed", "answer", "knows_no_digests", "offer"]

HELLO: Final = b"pyiwarp files 1"
"""The protocol; the number changes when earlier versions cannot take part any more. Names of digests may follow."""

STRANGER: Final = b"this is a file server; it serves clients of " + HELLO
"""With this a server rejects a client whose private data is not of the file service."""

NAMES_LIMIT: Final = 8
"""The most digests that a client may name."""

_OFFER: Final = re.compile(re.escape(HELLO) + rb"((?: [a-z0-9]{1,16}){0,%d})" % NAMES_LIMIT)


def offer(*, sha256: bool) -> bytes:
    """A client's private data: it names BLAKE3, if that is here and not SHA-256 alone is wanted."""
    return HELLO if sha256 or not Digest.BLAKE3.is_here else _naming(Digest.BLAKE3)


def answer(offered: bytes, *, sha256: bool) -> tuple[Digest, bytes] | None:
    """The digest that a server chooses for a client with the private data `offered`, and its own private data.

    None if that client is not one of the file service. Names that this server does not know are of later versions.
    """
    matched = _OFFER.fullmatch(offered)
    if matched is None:
        return None
    if sha256 or not Digest.BLAKE3.is_here or Digest.BLAKE3.value.encode() not in matched[1].split():
        return Digest.SHA256, HELLO
    return Digest.BLAKE3, _naming(Digest.BLAKE3)


def agreed(offered: bytes, answered: bytes) -> Digest:
    """The digest that the server has chosen; raises `BadMessage` if it is no file server, or chose another digest."""
    if answered == HELLO:
        return Digest.SHA256
    if answered != offered:
        if not answered.startswith(HELLO + b" "):
            raise BadMessage(
                f"the peer speaks iWARP, but its private data is not {HELLO.decode()!r}: it is not a file server"
            )
        raise BadMessage("the server chose a digest that this client has not offered")
    return Digest.BLAKE3


def knows_no_digests(rejected: Rejected) -> bool:
    """Whether the server that rejected a client is of an earlier version, and takes one that names no digests."""
    return rejected.private_data == STRANGER


def _naming(digest: Digest) -> bytes:
    return HELLO + b" " + digest.value.encode()
