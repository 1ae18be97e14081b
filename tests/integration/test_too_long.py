"""A Send that is larger than the receive that it meets: both sides are told the sizes, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp import Options
from pyiwarp.errors import InvalidMo, MessageTooLong, TerminatedByPeer
from tests.integration.forms import Form, awaited, form

__all__ = ["form"]  # the fixture

REMEDY = r"receiver post larger ones \(Options\.recv_size of a connection\), or send fewer octets"


@pytest.mark.parametrize("nbytes", [4097, 20_000])
@pytest.mark.parametrize("mulpdu", [None, 1042, 1460])
def test_both_sides_name_the_sizes_and_the_remedy(form: Form, nbytes: int, mulpdu: int | None) -> None:
    # DDP-5041-7.1-07, DDP-5041-7.1-08
    async def body(one: Any, other: Any) -> None:
        await awaited(one.send, bytes(4096))
        assert await awaited(other.recv) == bytes(4096)
        await awaited(one.send, bytes(nbytes))
        with pytest.raises((MessageTooLong, InvalidMo), match=rf"4096 octets.*{REMEDY}|has 4096.*{REMEDY}") as here:
            await awaited(other.recv)
        with pytest.raises(
            TerminatedByPeer, match=rf"fewer octets than the \d+ or more of the Send.*{REMEDY}"
        ) as there:
            await awaited(one.recv)
        assert 4096 <= there.value.end <= nbytes
        if isinstance(here.value, MessageTooLong):
            assert there.value.end == here.value.args[2]

    form.connected(body, Options(mulpdu=mulpdu))


def test_larger_receives_are_the_remedy(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        await awaited(one.send, bytes(20_000))
        assert await awaited(other.recv) == bytes(20_000)

    form.connected(body, None, Options(recv_size=20_000))
