"""The address of a peer on the command line: HOST, HOST:PORT, [IPv6]:PORT, each with or without /PATH."""

from __future__ import annotations

from typing import NamedTuple

from pyiwarp.files import DEFAULT_PORT

__all__ = ["Address"]


class Address(NamedTuple):
    """Where a file server is, and a path below its directory; an empty path is the directory itself."""

    host: str
    port: int = DEFAULT_PORT
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"/{self.path}" if self.path else "")

    @classmethod
    def parse(cls, text: str, default_port: int = DEFAULT_PORT) -> Address:
        """Parse an argument; raises `ValueError` with a text for the user."""
        place, _, path = text.partition("/")
        host, port = _host_and_port(place)
        if not host:
            raise ValueError(f"{text!r} has no host; write HOST, HOST:PORT or [IPv6]:PORT")
        return cls(host, _port(port) if port else default_port, path)

    def names(self, names: list[str]) -> list[str]:
        """The file names that a command means: the path alone, or each of `names` below the path."""
        if not names:
            return [self.path] if self.path else []
        return [f"{self.path.rstrip('/')}/{name}" if self.path else name for name in names]


def _host_and_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{place!r} is not an address; write [IPv6]:PORT")
        return host, rest[1:]
    if place.count(":") > 1:
        return place, ""  # an IPv6 address without brackets has no port behind it
    host, _, port = place.partition(":")
    return host, port


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536 and len(text) <= 5):
        raise ValueError(f"{text!r} is not a TCP port: 1 to 65535")
    return int(text)
