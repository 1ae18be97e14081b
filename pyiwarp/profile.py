"""Peer profiles: what to do differently for a peer that is known to need it. Without one the stack is plain RFC.

A profile is data. Each value is there because a peer of that kind was seen to need it; `docs/peers.md` says which to
use when, and what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pyiwarp.codes import MAX_PRIVATE_DATA
from pyiwarp.errors import UsageError

__all__ = ["PROFILES", "PeerProfile", "TerminateLayout", "profile_named"]


class TerminateLayout(Enum):
    """How a peer lays out the control field of its Terminate messages."""

    RFC = "RFC 5040 figure 8"
    LITTLE_ENDIAN_BITFIELDS = "C bitfields on a little-endian machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerProfile:
    """How to get on with one kind of peer.

    `settle` is how long an Initiator waits, in seconds, between the peer's Reply and its own first FPDU.
    `one_fpdu_per_write` gives each FPDU to TCP alone, so that segments begin with FPDUs as far as TCP lets them.
    `crc` is whether to ask for CRC32C where the program does not say. `power_of_two_depths` rounds IRD and ORD down
    to powers of two. `max_private_data` is what the peer takes, in octets, the enhanced word included.
    `terminate_layout` is how its Terminates are read; this side's own are always the RFC's. With `close_last` a
    Responder that has rejected leaves it to the peer to close first.
    """

    name: str
    """What the profile is called: `--peer NAME`, `PROFILES[name]`."""
    settle: float = 0.0
    one_fpdu_per_write: bool = False
    crc: bool = True
    power_of_two_depths: bool = False
    max_private_data: int = MAX_PRIVATE_DATA
    terminate_layout: TerminateLayout = TerminateLayout.RFC
    close_last: bool = False

    def depth(self, wanted: int) -> int:
        """The IRD or ORD to offer when `wanted` is wanted."""
        if not self.power_of_two_depths or wanted == 0:
            return wanted
        return 1 << (wanted.bit_length() - 1)

    def read_terminate(self, payload: bytes) -> bytes:
        """A Terminate message of the peer's, in the RFC's layout."""
        if self.terminate_layout is TerminateLayout.RFC or len(payload) < 4:
            return payload
        layer, etype = payload[0] & 0x0F, payload[0] >> 4
        flags = payload[2]
        control = bytes((layer << 4 | etype, payload[1], (flags & 1) << 7 | (flags & 2) << 5 | (flags & 4) << 3, 0))
        return control + payload[4:]


PROFILES: Final[Mapping[str, PeerProfile]] = {
    profile.name: profile
    for profile in (
        PeerProfile(name="rfc"),
        PeerProfile(
            name="siw",
            settle=0.02,  # a first FPDU right behind the Reply can stay unread until more octets come
            one_fpdu_per_write=True,
            crc=False,  # a TCP segment that ends inside pad and CRC makes it compute a wrong CRC
            power_of_two_depths=True,  # it rounds ORD up to one, and would exceed any other IRD
            max_private_data=256,
            terminate_layout=TerminateLayout.LITTLE_ENDIAN_BITFIELDS,
            close_last=True,  # a rejecting Reply that a FIN follows at once can be taken for the FIN alone
        ),
    )
}
"""The profiles by name: `rfc` for any conforming peer, `siw` for the Linux kernel's soft-iWARP driver as it ships."""


def profile_named(name: str) -> PeerProfile:
    """The profile called `name`; raises `UsageError` that lists the names there are."""
    if name not in PROFILES:
        raise UsageError(f"no peer profile is called {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
