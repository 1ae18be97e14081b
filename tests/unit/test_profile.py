"""Peer profiles: data, and what each value changes (docs/peers.md)."""

from __future__ import annotations

import pytest

from pyiwarp import Options, UsageError
from pyiwarp.negotiation import Offer, Role
from pyiwarp.profile import PROFILES, PeerProfile, TerminateLayout, profile_named
from pyiwarp.startup import REJECTED_LINGER, Startup, StartupState
from tests.harness import feed

RFC, SIW = PROFILES["rfc"], PROFILES["siw"]
REQUEST = b"MPA ID Req Frame\x40\x01\x00\x00"


def test_without_a_profile_nothing_is_changed() -> None:
    assert PeerProfile(name="rfc") == RFC
    assert [RFC.depth(wanted) for wanted in (0, 1, 3, 16)] == [0, 1, 3, 16]
    assert RFC.read_terminate(b"\x10\x01\xe0\x00rest") == b"\x10\x01\xe0\x00rest"
    assert Options().profile is RFC


@pytest.mark.parametrize(("wanted", "offered"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (127, 64), (128, 128)])
def test_depths_are_rounded_down_to_powers_of_two(wanted: int, offered: int) -> None:
    assert SIW.depth(wanted) == offered
    offer = Options(ird=wanted, ord=wanted, profile=SIW).offer(b"")
    assert (offer.ird, offer.ord) == (offered, offered)


@pytest.mark.parametrize(
    ("siw", "rfc"),
    [
        ("21020300", "1202c000"),  # DDP, untagged, no buffer; M and D
        ("10010700", "0101e000"),  # RDMAP, protection, bounds; M, D and R
        ("02020000", "20020000"),  # MPA, CRC; no headers
    ],
)
def test_a_terminate_with_bitfields_is_read_in_the_rfc_s_layout(siw: str, rfc: str) -> None:
    assert SIW.terminate_layout is TerminateLayout.LITTLE_ENDIAN_BITFIELDS
    assert SIW.read_terminate(bytes.fromhex(siw) + b"rest") == bytes.fromhex(rfc) + b"rest"
    assert SIW.read_terminate(b"\x21\x02") == b"\x21\x02", "too short to be read at all"


def test_crc_is_asked_for_as_the_profile_says_unless_the_program_says_so() -> None:
    asked = [Options(crc=crc, profile=profile).offer(b"").crc for profile in (RFC, SIW) for crc in (None, True, False)]
    assert asked == [True, True, False, False, True, False]


@pytest.mark.parametrize(("profile", "room"), [(RFC, 508), (SIW, 252)])
def test_no_more_private_data_is_sent_than_the_peer_takes(profile: PeerProfile, room: int) -> None:
    assert Options(profile=profile).offer(bytes(room)).private_data == bytes(room)
    with pytest.raises(UsageError, match=f"{room + 1} octets of private data"):
        Options(profile=profile).offer(bytes(room + 1))


@pytest.mark.parametrize("close_last", [False, True])
def test_whoever_rejects_may_leave_it_to_the_peer_to_close_first(close_last: bool) -> None:
    startup = Startup(Role.RESPONDER, Offer(close_last=close_last), lambda startup: None)
    feed(startup, REQUEST)
    startup.reject(b"no")
    assert b"".join(startup.next_iov()).endswith(b"no")
    assert startup.state is StartupState.REJECTED
    assert startup.output_ended is not close_last
    assert not startup.over
    startup.received_eof()
    assert startup.output_ended
    assert startup.over


@pytest.mark.parametrize("timeout", [3.0, REJECTED_LINGER / 2])
def test_a_peer_that_does_not_close_after_a_rejection_is_given_up(timeout: float) -> None:
    startup = Startup(Role.RESPONDER, Offer(close_last=True, timeout=timeout), lambda startup: None)
    feed(startup, REQUEST)
    startup.reject()
    startup.next_iov()
    limit = startup.time_limit()
    assert limit is not None
    assert limit.seconds == min(timeout, REJECTED_LINGER)
    startup.timed_out(limit)
    assert startup.over


def test_an_unknown_profile_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="rfc, siw"):
        profile_named("cxgb4")
