"""How a connection is set up: what a program may choose, each value judged where it is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from pyiwarp.bounds import check_count, check_kind, check_offered, check_seconds
from pyiwarp.capture import Capture, Tap
from pyiwarp.cm.silence import check_silence
from pyiwarp.codes import MAX_MESSAGE, MAX_MULPDU, MIN_MULPDU, UNNEGOTIATED, Rtr
from pyiwarp.errors import UsageError
from pyiwarp.negotiation import Offer, check_private_data_type
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.queues.qp import QpOptions
from pyiwarp.queues.qp_options import FPDU_TIMEOUT
from pyiwarp.verbs import DEFAULT_DEVICE, Device, ProtectionDomain

__all__ = ["Options", "options_for"]

RECV_DEPTH: Final = 16
SEND_DEPTH: Final = 128
READS: Final = 16
LARGEST_MESSAGE: Final = 16 << 20

_MOST: Final = (1 << 31) - 1  # the device says how many work requests it takes
_FLAGS: Final = "markers", "refuse_markers", "fall_back", "extensions", "half_close", "confirm"


class _Made:
    """What was made of options: a program opens many connections with the same ones."""

    __slots__ = ("device", "offer", "qp_options")

    def __init__(self) -> None:
        self.device: Device | None = None  # for which they were checked
        self.offer: Offer | None = None  # without private data
        self.qp_options: QpOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a connection is set up; every value has a default that suits a peer of any make.

    `Options.of` has the defaults of a device instead. Times are in seconds. Raises `UsageError` for a value that is out
    of its bounds or of another kind.
    """

    recv_depth: int = RECV_DEPTH
    """Receives that are posted; a Send of the peer that finds none waits, and what is behind it."""
    recv_size: int = 4096
    """Octets of each; a longer Send of the peer ends the connection (RFC 5041 §7.2)."""
    max_message: int = LARGEST_MESSAGE
    """The most octets that `recv_large` takes."""
    send_depth: int = SEND_DEPTH
    """Work requests that may be in flight; more wait."""
    crc: bool | None = None
    """Whether to ask for CRC32C (RFC 5044 §4.4); None is what suits the peer, as `profile` has it."""
    markers: bool = False
    """Whether to ask the peer for markers (RFC 5044 §4.3)."""
    refuse_markers: bool = False
    """For emulating an implementation that sends no markers to a peer that asks for them."""
    revision: int = 2
    """MPA's: that of the Request; a Responder answers each in kind, but with 1 refuses 2 (RFC 6581 §10)."""
    fall_back: bool = False
    """Whether a peer that hangs up on a Request of revision 2 is tried once more with revision 1 (RFC 6581 §10)."""
    ird: int = READS
    """Reads and Atomics of the peer at once, at most (RFC 6581 §9.1)."""
    ord: int = READS
    """Reads and Atomics of this side at once, at most; more wait (RFC 6581 §9.1)."""
    rtr: Rtr = field(default_factory=lambda: Rtr.WRITE | Rtr.READ)
    """The messages with which an Initiator may open a connection in peer-to-peer mode (RFC 6581 §9.2)."""
    timeout: float = 10.0
    """How long `connect` and a listener wait for the peer's startup frame; TCP has as long (RFC 5044 §7.1.2)."""
    first_fpdu_timeout: float | None = 60.0
    """How long a Responder waits for the first FPDU; None is no bound (RFC 5044 §7.1.2)."""
    mulpdu: int | None = None
    """The size of FPDUs in octets; None is what TCP's segments hold (RFC 5044 §4.5)."""
    linger: float = 5.0
    """How long the end of the connection waits for the peer; then it is reset."""
    fpdu_timeout: float | None = FPDU_TIMEOUT
    """How long an FPDU that the peer has begun may stay unfinished; None is no bound."""
    keepalive: float | None = None
    """After so much silence TCP probes the peer, and again after as much; None is what the system does."""
    user_timeout: float | None = None
    """TCP ends a connection whose peer acknowledges nothing for so long (RFC 5482); None is what the system does."""
    extensions: bool = True
    """Whether the messages of RFC 7306 (Atomics, Immediate Data) are taken; without, they are refused."""
    half_close: bool = False
    """Whether this side may go on sending, until `close`, when the peer has closed its half; `recv` raises
    `Disconnected` then.
    """
    capture: Capture | None = None
    """Takes down every octet for Wireshark."""
    profile: PeerProfile = PROFILES["rfc"]
    """How to get on with the peer."""
    confirm: bool = False
    """Whether a `send` or `write` returns when the peer has processed it, and raises if the peer refused it; that takes
    Reads, so `ord` is 1 or more (RFC 5040 §5.5).
    """
    _made: _Made = field(default_factory=lambda: _Made(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("recv_depth", "send_depth"):
            check_count(name, getattr(self, name), 1, _MOST)
        for name in ("recv_size", "max_message"):
            check_count(name, getattr(self, name), 1, MAX_MESSAGE, " octets (RFC 5041 §5.2)")
        check_count("revision", self.revision, 1, 2, " (RFC 5044, RFC 6581)")
        for name in ("ird", "ord"):
            check_count(name, getattr(self, name), 0, UNNEGOTIATED, ", 14 bits (RFC 6581 §9)")
        if self.mulpdu is not None:
            check_count("mulpdu", self.mulpdu, MIN_MULPDU, MAX_MULPDU, " octets (RFC 5044 §3)")
        check_seconds("timeout", self.timeout, zero=False)
        check_seconds("linger", self.linger)
        for name in ("first_fpdu_timeout", "fpdu_timeout"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), zero=False)
        check_silence(self.keepalive, self.user_timeout)
        for name in _FLAGS:
            check_kind(name, getattr(self, name), bool, "True or False")
        check_kind("crc", self.crc, bool | None, "True, False, or None for what suits the peer")
        check_kind("rtr", self.rtr, Rtr, "one or several of pyiwarp.codes.Rtr")
        check_kind("capture", self.capture, Capture | None, "a pyiwarp.capture.Capture or None")
        check_kind("profile", self.profile, PeerProfile, "a PeerProfile, as pyiwarp.profile.PROFILES has them by name")
        if self.confirm and not self.ord:
            raise UsageError("ord is 0: completions can be confirmed by Reads alone (RFC 5040 §6.1)")

    def check_device(self, device: Device) -> None:
        """Raises `UsageError` for more than `device` holds."""
        if device is self._made.device:
            return
        for name, value, most in (
            ("recv_depth", self.recv_depth, device.max_qp_wr),
            ("send_depth", self.send_depth, device.max_qp_wr),
            ("ird", self.ird, device.max_ird),
            ("ord", self.ord, device.max_ord),
        ):
            if value != UNNEGOTIATED:
                check_offered(name, value, most, device.name)
        self._made.device = device

    @classmethod
    def of(cls, device: Device) -> Options:
        """The options that suit a device: what it speaks in startup, and no more than it holds."""
        return cls(
            recv_depth=min(RECV_DEPTH, device.max_qp_wr),
            send_depth=min(SEND_DEPTH, device.max_qp_wr),
            crc=device.crc,
            markers=device.markers,
            refuse_markers=device.refuse_markers,
            revision=device.revision,
            ird=min(READS, device.max_ird),
            ord=min(READS, device.max_ord),
            rtr=device.rtr,
        )

    def of_queue_pair(self) -> QpOptions:
        """The part of the options that the queue pair needs."""
        if self._made.qp_options is None:
            self._made.qp_options = self._for_queue_pairs()
        return self._made.qp_options

    def _for_queue_pairs(self) -> QpOptions:
        return QpOptions(
            pause_when_starved=True,
            mulpdu=self.mulpdu,
            linger=self.linger,
            fpdu_timeout=self.fpdu_timeout,
            profile=self.profile,
            extensions=self.extensions,
            half_close=self.half_close,
            confirm=self.confirm,
        )

    def tap(self, *, initiator: bool) -> Tap | None:
        """A tap for one connection, if there is a capture."""
        return None if self.capture is None else self.capture.flow(initiator=initiator)

    def second_try(self) -> Options | None:
        """The options for one more try when the peer hung up on the Request; None if none is made (MPA2-6581-10-07)."""
        return replace(self, revision=1) if self.fall_back and self.revision != 1 else None

    def offer(self, private_data: bytes) -> Offer:
        """The part of the options that MPA startup needs; raises `UsageError` for what the peer would not take."""
        if self._made.offer is None:
            self._made.offer = self._offer(b"")
        return self._offer(private_data) if private_data != b"" else self._made.offer

    def _offer(self, private_data: bytes) -> Offer:
        check_private_data_type(private_data)
        room = self.profile.max_private_data - (4 if self.revision > 1 else 0)
        if len(private_data) > room:
            raise UsageError(
                f"{len(private_data)} octets of private data; profile {self.profile.name} has room for {room}"
            )
        return Offer(
            revision=self.revision,
            crc=self.profile.crc if self.crc is None else self.crc,
            markers=self.markers,
            refuse_markers=self.refuse_markers,
            private_data=private_data,
            ird=self.profile.depth(self.ird),
            ord=self.profile.depth(self.ord),
            rtr=self.rtr if self.revision > 1 else Rtr(0),
            open_at_once=True,
            timeout=self.timeout,
            first_fpdu_timeout=self.first_fpdu_timeout,
            close_last=self.profile.close_last,
        )


_USUAL: Final = Options.of(DEFAULT_DEVICE)


def options_for(pd: ProtectionDomain | None, given: Options | None) -> Options:
    """The options of connections: those given, else those of the device, if the program chose one.

    Raises `UsageError` for more than the device holds.
    """
    device = DEFAULT_DEVICE if pd is None else pd.context.device
    if given is None:
        return _USUAL if device is DEFAULT_DEVICE else Options.of(device)
    check_kind("options", given, Options, "a pyiwarp.Options")
    given.check_device(device)
    return given
