"""TCP segments out of a capture: pcap or pcapng, of Wireshark, tcpdump or `pyiwarp.capture`.

dpkt reads the files and the headers of IP and TCP. Packets of other protocols, and fragments of IP, are passed over.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import dpkt

from pyiwarp.errors import UsageError

__all__ = ["CutShort", "TcpSegment", "tcp_segments"]

_LOOPBACK: Final = (0, 108)
_ETHERNET: Final = 1
_RAW: Final = (12, 14, 101, 228, 229)
_SLL: Final = 113
_SLL2: Final = 276
_BROKEN: Final = (dpkt.Error, struct.error, ValueError, IndexError)
"""What dpkt raises for octets that are no packet."""


_LARGEST: Final = 16 << 20
"""Octets of the largest block of a capture that is read: longer ones are not what capturing programs write."""


class _Blocks(io.BufferedReader):
    """A capture whose blocks have lengths that the file itself says: no memory is asked for that it only claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST:
            raise ValueError(f"a block of {size} octets")
        return super().read(size)


class CutShort(Exception):
    """The file ends inside a packet, as that of a program that was killed does, or says that a packet is too long."""


class TcpSegment(NamedTuple):
    """One TCP segment: `seconds` since the epoch, addresses as (host, port)."""

    seconds: float
    source: tuple[str, int]
    target: tuple[str, int]
    seq: int
    syn: bool
    fin: bool
    rst: bool
    payload: bytes


def tcp_segments(path: Path) -> Iterator[TcpSegment]:
    """The TCP segments of a capture, in its order.

    Raises `UsageError` for a file that is no capture or has a link type that is not read, `OSError` if it cannot be
    read, and `CutShort` behind the last whole packet of a file that ends inside one.
    """
    with _Blocks(path.open("rb", buffering=0)) as file:
        try:
            reader = dpkt.pcap.UniversalReader(file)
            unwrap = _unwrapping(reader.datalink())
        except _BROKEN as error:
            raise UsageError(f"{path} is no capture (pcap or pcapng): {error}") from error
        packets = iter(reader)
        while True:
            try:
                seconds, octets = next(packets)
            except StopIteration:
                return
            except _BROKEN as error:
                raise CutShort(f"{path} ends inside a packet") from error
            if (segment := _segment(float(seconds), octets, unwrap)) is not None:
                yield segment


def _unwrapping(link: int) -> Callable[[bytes], Any]:
    """What takes the IP packet out of a packet of this link type."""
    if link == _ETHERNET:
        return lambda octets: dpkt.ethernet.Ethernet(octets).data
    if link in _RAW:
        return lambda octets: dpkt.ip6.IP6(octets) if octets[0] >> 4 == 6 else dpkt.ip.IP(octets)
    if link in _LOOPBACK:
        return lambda octets: dpkt.loopback.Loopback(octets).data
    if link == _SLL:
        return lambda octets: dpkt.sll.SLL(octets).data
    if link == _SLL2:
        return lambda octets: dpkt.sll2.SLL2(octets).data
    raise UsageError(f"packets of link type {link} are not read: Ethernet, raw IP, loopback and Linux cooked are")


def _segment(seconds: float, octets: bytes, unwrap: Callable[[bytes], Any]) -> TcpSegment | None:
    try:
        packet = unwrap(octets)
        if isinstance(packet, bytes | str) or not isinstance(tcp := packet.data, dpkt.tcp.TCP):
            return None
        source, target = (dpkt.utils.inet_to_str(each) for each in (packet.src, packet.dst))
    except (*_BROKEN, AttributeError):
        return None
    return TcpSegment(
        seconds,
        (source, tcp.sport),
        (target, tcp.dport),
        tcp.seq,
        bool(tcp.flags & dpkt.tcp.TH_SYN),
        bool(tcp.flags & dpkt.tcp.TH_FIN),
        bool(tcp.flags & dpkt.tcp.TH_RST),
        bytes(tcp.data),
    )
