"""How a queue pair behaves: one frozen value, which `ProtectionDomain.create_qp` takes whole or field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict

from pyiwarp.access import REMOTE, Access, check_granted
from pyiwarp.bounds import check_count, check_seconds
from pyiwarp.codes import MAX_MULPDU, MIN_MULPDU
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.queues.srq import SharedReceiveQueue

__all__ = ["FPDU_TIMEOUT", "QpKeywords", "QpOptions"]

FPDU_TIMEOUT: Final = 60.0
"""Seconds that an FPDU may stay unfinished by default; one of 64 KiB at modem speed takes less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QpOptions:
    """The options of one queue pair.

    `pause_when_starved` makes a Send without receive wait instead of ending the stream. `mulpdu` fixes the size of
    FPDUs in octets; by default it follows TCP. `linger` bounds the wait for the peer when a stream ends, in seconds,
    whatever the peer sends: for each work request of this side that is left and each 64 KiB of a large one, then for
    the end. `fpdu_timeout` bounds how long an FPDU may stay unfinished, in seconds: a peer that has begun one owes the
    rest (None is no bound). `profile` says how the peer departs from the RFCs. Without `extensions` the messages of
    RFC 7306 are unexpected opcodes.

    With `half_close` the queue pair goes on sending when the peer has closed its half, until `disconnect`; its
    receives are flushed and `on_half_closed` is called. Without, it ends when what was posted has been sent, as
    hardware does.

    With `srq` receives are taken from there. With `sq_sig_all` every work request has a completion, unsignaled or not.
    With `confirm` a Write or Send completes only when the peer has processed it, so that an error of the peer fails
    the work request that caused it: the one whose header the peer's Terminate quotes, or if it quotes none the oldest
    that is not confirmed. This takes Reads, and ORD must be 1 at least.

    `access` names the REMOTE rights that the peer has by this queue pair at most, whatever its regions and windows
    allow: `qp_access_flags` of libibverbs, where nothing is allowed by default. LOCAL_WRITE may be
    among them and means nothing. `QueuePair.modify` changes it.

    With `judge_receives_late` the memory of a receive is judged, and pinned, when a message takes the receive, not when
    it is posted. If it may not be written then, the receive completes with LOC_PROT_ERR, all else is flushed, and the
    stream ends with a Terminate for a local catastrophic error (RFC 5040 §4.8). Receives of `srq` are judged as that
    was told by `create_srq`.

    With `complete_bad_sends` a work request of the send queue that names memory of this side which it may not use is
    posted: when all before it are complete it completes with LOC_PROT_ERR and ends the queue pair. Hardware judges it
    then, too. Without, `post_send` raises `BadMemory` or `Closed`.

    Immediate Data takes a receive (RFC 7306 §6.3), except that of which a bit of `immediate_apart` is set: a mask over
    its eight octets as a number, most significant first. Such Immediate Data never waits for a receive and completes
    without a `wr_id`, in its order. Both sides must know of it. No receive bounds how much of it a peer may send: give
    such a queue pair a receive completion queue of its own, which the peer may overrun.
    """

    pause_when_starved: bool = False
    mulpdu: int | None = None
    linger: float = 5.0
    fpdu_timeout: float | None = FPDU_TIMEOUT
    profile: PeerProfile = PROFILES["rfc"]
    extensions: bool = True
    half_close: bool = False
    srq: SharedReceiveQueue | None = None
    sq_sig_all: bool = False
    confirm: bool = False
    access: Access = REMOTE
    judge_receives_late: bool = False
    immediate_apart: int = 0
    complete_bad_sends: bool = False

    def __post_init__(self) -> None:
        if self.mulpdu is not None:
            check_count("mulpdu", self.mulpdu, MIN_MULPDU, MAX_MULPDU, " octets (RFC 5044 §3)")
        check_seconds("linger", self.linger)
        if self.fpdu_timeout is not None:
            check_seconds("fpdu_timeout", self.fpdu_timeout, zero=False)
        check_granted(self.access)
        check_count("immediate_apart", self.immediate_apart, 0, ALL_ONES, ", a mask over eight octets (RFC 7306 §6.3)")


class QpKeywords(TypedDict, total=False):
    """The fields of `QpOptions` as keywords, for type checkers; a test holds the two equal."""

    pause_when_starved: bool
    mulpdu: int | None
    linger: float
    fpdu_timeout: float | None
    profile: PeerProfile
    extensions: bool
    half_close: bool
    srq: SharedReceiveQueue | None
    sq_sig_all: bool
    confirm: bool
    access: Access
    judge_receives_late: bool
    immediate_apart: int
    complete_bad_sends: bool
