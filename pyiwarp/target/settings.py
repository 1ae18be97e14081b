"""What a session shall be: the values of a `session` command, and what they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyiwarp.codes import MAX_MULPDU, MIN_MULPDU, UNNEGOTIATED, Rtr
from pyiwarp.negotiation import Offer
from pyiwarp.profile import PROFILES, PeerProfile, profile_named
from pyiwarp.target.words import Words, bad

__all__ = ["MAX_RECEIVES", "MAX_REGION", "Settings"]

MAX_REGION: Final = 1 << 20
MAX_RECEIVES: Final = 256
MAX_GUARD: Final = 4096
LONGEST: Final = 60_000
_NO_RTR: Final = Rtr(0)
_RTRS: Final = {"send": Rtr.SEND, "write": Rtr.WRITE, "read": Rtr.READ}
_EVERY_RTR: Final = "send,write,read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A session as it is wanted; times are in seconds, sizes in octets.

    `own_port` gives it a port that takes its connection and no other. `reject` refuses the Request, `delay` is how
    long the Responder takes to decide. `rtr` other than 0 is peer-to-peer mode. `speak_first` lets a Responder send
    before the Initiator has.
    """

    crc: bool | None = None
    markers: bool = False
    revision: int = 2
    ird: int = 16
    ord: int = 16
    private_data: bytes = b""
    rtr: Rtr = _NO_RTR
    receives: tuple[int, ...] = (4096,) * 8
    region_size: int = 4096
    guard: int = 64
    scratch_size: int = 65536
    profile: PeerProfile = PROFILES["rfc"]
    extensions: bool = True
    mulpdu: int | None = None
    reject: bool = False
    delay: float = 0.0
    speak_first: bool = False
    timeout: float = 10.0
    first_fpdu_timeout: float = 60.0
    linger: float = 5.0
    own_port: bool = False

    @classmethod
    def of(cls, words: Words) -> Settings:
        """Those of a `session` command; raises `Refused`, or `UsageError` for values that the stack refuses."""
        plain = cls()
        crc = {"auto": None, "on": True, "off": False}[words.choice("crc", ("auto", "on", "off"))]
        revision = words.number("revision", 2, 2, 1)
        alone = words.flag("own_port") or revision == 1 or words.has("timeout")
        settings = cls(
            crc=crc,
            markers=words.flag("markers"),
            revision=revision,
            ird=words.number("ird", plain.ird, UNNEGOTIATED),
            ord=words.number("ord", plain.ord, UNNEGOTIATED),
            private_data=words.octets("data", b""),
            rtr=_rtr(words),
            receives=words.numbers("receives", plain.receives, MAX_REGION),
            region_size=words.number("regionsize", plain.region_size, MAX_REGION),
            guard=words.number("guard", plain.guard, MAX_GUARD),
            scratch_size=words.number("scratch", plain.scratch_size, MAX_REGION),
            profile=profile_named(words.text("profile", "rfc")),
            extensions=words.flag("extensions", True),
            mulpdu=words.number("mulpdu", None, MAX_MULPDU, MIN_MULPDU) if words.has("mulpdu") else None,
            reject=words.flag("reject"),
            delay=_seconds(words, "delay", plain.delay),
            speak_first=words.flag("speak"),
            timeout=_seconds(words, "timeout", plain.timeout),
            first_fpdu_timeout=_seconds(words, "opening", plain.first_fpdu_timeout),
            linger=_seconds(words, "linger", plain.linger),
            own_port=alone,
        )
        words.end()
        if len(settings.receives) > MAX_RECEIVES:
            raise bad(f"{len(settings.receives)} receives; a session has {MAX_RECEIVES} at most")
        return settings

    @property
    def offer(self) -> Offer:
        """What this side brings to startup; raises `UsageError` for what no startup frame can say."""
        profile = self.profile
        return Offer(
            revision=self.revision,
            crc=profile.crc if self.crc is None else self.crc,
            markers=self.markers,
            private_data=self.private_data,
            ird=profile.depth(self.ird),
            ord=profile.depth(self.ord),
            rtr=self.rtr,
            timeout=self.timeout,
            first_fpdu_timeout=self.first_fpdu_timeout,
            close_last=profile.close_last,
        )


def _seconds(words: Words, key: str, otherwise: float) -> float:
    """A time that is told in milliseconds."""
    return words.number(key, round(otherwise * 1000), LONGEST) / 1000


def _rtr(words: Words) -> Rtr:
    rtr = _NO_RTR
    for name in words.text("rtr", _EVERY_RTR if words.flag("p2p") else "").split(","):
        if name:
            if name not in _RTRS:
                raise bad(f"rtr={name[:40]} is none of {_EVERY_RTR}")
            rtr |= _RTRS[name]
    return rtr
