"""Work requests and completions: values (RFC 5040 §5)."""

from __future__ import annotations

import pytest

from pyiwarp.errors import BadWorkRequest, ConnectionLost
from pyiwarp.fastwire import ReadRequest
from pyiwarp.mr import RemoteRegion
from pyiwarp.queues.work import Completion, Read, Status, WorkOpcode, check_remote, read_request_of
from tests.harness import Node

REMOTE = RemoteRegion(0x1000, 0x77, 64)


def test_a_completion_prints_as_one_line_of_a_transcript() -> None:
    assert str(Completion("a", Status.SUCCESS, WorkOpcode.RECV, 12)) == "recv 'a' success, 12 octets"
    lost = Completion(7, Status.WR_FLUSH_ERR, WorkOpcode.WRITE, error=ConnectionLost("cut"))
    assert str(lost) == "write 7 work request flushed, 0 octets: cut"
    assert not lost.ok
    assert str(lost._replace(wr_id=None)) == str(lost._replace(wr_id=object())) == str(lost).replace(" 7 ", " ")


def test_the_request_of_a_read() -> None:  # RDMAP-5040-5.2.1-09, RDMAP-5040-5.2.1-10
    region = Node().region(10)
    asked = read_request_of(Read(region[3:7], REMOTE))
    assert asked == ReadRequest(region.stag, region.to + 3, 4, 0x77, 0x1000)
    for nothing in (None, region[3:3]):
        assert read_request_of(Read(nothing, REMOTE)).read_size == 0


@pytest.mark.parametrize(("to", "nbytes"), [(0, 0), ((1 << 64) - 1, 1), ((1 << 64) - 1, 0), (5, 1 << 31)])
def test_what_can_be_named(to: int, nbytes: int) -> None:
    check_remote(RemoteRegion(to, 0xFFFF_FFFF, 0), nbytes)


@pytest.mark.parametrize(
    ("to", "stag", "nbytes"),
    [((1 << 64) - 1, 1, 2), (1 << 64, 1, 0), (-1, 1, 1), (0, 1 << 32, 1), (0, -1, 1)],
)
def test_what_cannot_be_named(to: int, stag: int, nbytes: int) -> None:  # DDP-5041-7.1-14
    with pytest.raises(BadWorkRequest, match=f"{nbytes} octets cannot be named by STag"):
        check_remote(RemoteRegion(to, stag, 0), nbytes)
