"""Options are judged where they are given: the message names the option, its value and its bounds."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

import pyiwarp
from pyiwarp import blocking
from pyiwarp.codes import UNNEGOTIATED, Rtr
from pyiwarp.connections.options import Options
from pyiwarp.errors import UsageError
from pyiwarp.negotiation import Offer
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.queues.qp_options import QpOptions
from pyiwarp.verbs import Context, Device, QpCap
from tests.hosts import HOST

OUT_OF_BOUNDS = [
    ("recv_depth", 0, "recv_depth is 0; it may be 1 to"),
    ("recv_depth", -1, "recv_depth is -1; it may be 1 to"),
    ("send_depth", 0, "send_depth is 0; it may be 1 to"),
    ("send_depth", -5, "send_depth is -5; it may be 1 to"),
    ("recv_size", 0, r"recv_size is 0; it may be 1 to 4294967295 octets \(RFC 5041 §5\.2\)"),
    ("recv_size", 1 << 32, "recv_size is 4294967296; it may be 1 to 4294967295"),
    ("mulpdu", 127, r"mulpdu is 127; it may be 128 to 64768 octets \(RFC 5044 §3\)"),
    ("mulpdu", 64_769, "mulpdu is 64769; it may be 128 to 64768"),
    ("ird", -1, r"ird is -1; it may be 0 to 16383, 14 bits \(RFC 6581 §9\)"),
    ("ord", 16_384, "ord is 16384; it may be 0 to 16383"),
    ("revision", 3, "revision is 3; it may be 1 to 2"),
    ("timeout", 0, "timeout is 0 seconds; it is more than 0"),
    ("timeout", math.nan, "timeout is nan seconds"),
    ("first_fpdu_timeout", 0, "first_fpdu_timeout is 0 seconds; it is more than 0"),
    ("fpdu_timeout", 0, "fpdu_timeout is 0 seconds; it is more than 0"),
    ("linger", -1, "linger is -1 seconds; it is 0 or more"),
]
OF_ANOTHER_KIND = [
    *(
        (name, wrong, f"{name} is a whole number from 1 to .* not {wrong!r}")
        for name in ("recv_depth", "send_depth", "recv_size")
        for wrong in ("5", 1.5, None, True)
    ),
    ("mulpdu", "1460", "mulpdu is a whole number from 128 to 64768 octets .* not '1460'"),
    ("ird", 16.0, r"ird is a whole number from 0 to 16383.* not 16\.0"),
    ("timeout", "5", "timeout is a number of seconds, not '5'"),
    ("timeout", None, "timeout is a number of seconds, not None"),
    ("linger", "1", "linger is a number of seconds, not '1'"),
    ("first_fpdu_timeout", "1", "first_fpdu_timeout is a number of seconds, not '1'"),
    ("markers", 1, "markers is True or False, not 1"),
    ("confirm", "no", "confirm is True or False, not 'no'"),
    ("crc", 0, "crc is True, False, or None .* not 0"),
    ("rtr", 1, r"rtr is one or several of pyiwarp\.codes\.Rtr, not 1"),
    ("capture", "file.pcapng", "capture is a pyiwarp.capture.Capture or None, not 'file.pcapng'"),
    ("profile", "siw", r"profile is a PeerProfile, as pyiwarp\.profile\.PROFILES has them by name, not 'siw'"),
]


@pytest.mark.parametrize(("name", "value", "said"), [*OUT_OF_BOUNDS, *OF_ANOTHER_KIND])
def test_the_message_names_option_value_and_bounds(name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**{name: value})


def test_values_at_the_bounds_are_taken() -> None:
    Options(recv_depth=1, send_depth=1, recv_size=1, ird=0, ord=0, mulpdu=128, linger=0, first_fpdu_timeout=None)
    Options(recv_size=(1 << 32) - 1, ird=UNNEGOTIATED, ord=UNNEGOTIATED, mulpdu=64_768, linger=math.inf, revision=1)
    Options(fpdu_timeout=None)
    Options(recv_size=np.int32(5), timeout=np.float32(2.5))  # type: ignore[arg-type]


def test_completions_cannot_be_confirmed_without_reads() -> None:
    with pytest.raises(UsageError, match="ord is 0: completions can be confirmed by Reads alone"):
        Options(confirm=True, ord=0)


SMALL = Device("small", max_qp_wr=8, max_ird=2, max_ord=3)
TOO_MUCH = [
    (Options(recv_depth=9, send_depth=8, ird=2, ord=3), "recv_depth is 9; small offers 8"),
    (Options(recv_depth=8, send_depth=9, ird=2, ord=3), "send_depth is 9; small offers 8"),
    (Options(recv_depth=8, send_depth=8, ird=3, ord=3), "ird is 3; small offers 2"),
    (Options(recv_depth=8, send_depth=8, ird=2, ord=4), "ord is 4; small offers 3"),
]


@pytest.mark.parametrize(("options", "said"), TOO_MUCH)
def test_a_device_that_offers_less_is_named_before_anybody_is_asked(options: Options, said: str) -> None:
    pd = SMALL.open().alloc_pd()

    async def handler(conn: pyiwarp.Connection) -> None:
        raise AssertionError("nobody connects")

    async def main() -> None:
        with pytest.raises(UsageError, match=said):
            await pyiwarp.listen(HOST, options=options, pd=pd)
        with pytest.raises(UsageError, match=said):
            await pyiwarp.serve(handler, HOST, options=options, pd=pd)
        with pytest.raises(UsageError, match=said):
            await pyiwarp.connect(HOST, 1, options=options, pd=pd)

    asyncio.run(main())
    with pytest.raises(UsageError, match=said):
        blocking.listen(HOST, options=options, pd=pd)
    with pytest.raises(UsageError, match=said):
        blocking.connect(HOST, 1, options=options, pd=pd)


def test_the_default_device_is_asked_too() -> None:
    with pytest.raises(UsageError, match="ird is 1000; pyiwarp0 offers 128"):
        blocking.listen(HOST, options=Options(ird=1000))
    with pytest.raises(UsageError, match=r"options is a pyiwarp\.Options, not \{'recv_size': 5\}"):
        blocking.listen(HOST, options={"recv_size": 5})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Offer(ird=16_384), "IRD is 16384; it may be 0 to 16383"),
        (lambda: Offer(ord="1"), "ORD is a whole number"),  # type: ignore[arg-type]
        (lambda: Offer(timeout=0), "timeout is 0 seconds"),
        (lambda: Offer(first_fpdu_timeout=-1), "first_fpdu_timeout is -1 seconds"),
        (lambda: QpOptions(mulpdu=127), "mulpdu is 127; it may be 128 to 64768"),
        (lambda: QpOptions(linger=-1), "linger is -1 seconds"),
    ],
)
def test_the_options_of_verbs_and_startup_are_judged_alike(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_a_queue_pair_of_a_negative_size_is_refused() -> None:
    pd = Context().alloc_pd()
    cq = pd.context.create_cq()
    with pytest.raises(UsageError, match="-1 send work requests; a queue pair holds 0 to 32768 on pyiwarp0"):
        pd.create_qp(cq, cq, QpCap(max_send_wr=-1))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("revision", [1, 2])
def test_private_data_fills_what_the_profile_has_beside_the_enhanced_word(profile: PeerProfile, revision: int) -> None:
    options = Options(profile=profile, revision=revision)
    room = profile.max_private_data - 4 * (revision - 1)
    assert len(options.offer(bytes(room)).private_data) == room
    with pytest.raises(
        UsageError, match=f"{room + 1} octets of private data; profile {profile.name} has room for {room}"
    ):
        options.offer(bytes(room + 1))


def test_options_of_a_device_that_holds_little() -> None:
    device = Device("small", max_qp_wr=3, max_ird=2, max_ord=1, crc=False, markers=True, revision=1, rtr=Rtr.READ)
    options = Options.of(device)
    assert (options.recv_depth, options.send_depth, options.ird, options.ord) == (3, 3, 2, 1)
    assert (options.crc, options.markers, options.refuse_markers, options.revision) == (False, True, False, 1)
    assert options.rtr == Rtr.READ
    assert Options.of(Device(refuse_markers=True)).refuse_markers
