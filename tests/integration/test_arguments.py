"""What programs pass to `send`, `write` and `read`: whole regions, arrays, other buffers, parts of the peer's."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyiwarp import Access, Connection, RemoteRegion
from pyiwarp.connections.endpoint import INLINE_LIMIT
from pyiwarp.errors import BadWorkRequest
from tests.integration.forms import Form, awaited, form
from tests.integration.loops import joined, run_on, soon
from tests.integration.polled import pair

__all__ = ["form"]  # the fixture

REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE
INLINE, REGISTERED = (
    INLINE_LIMIT // 8,
    INLINE_LIMIT,
)  # float64 items of a message that is copied, and of one that is not


async def lent(memory: Any, owner: Any, peer: Any) -> RemoteRegion:
    """Register `memory` with `owner` and tell `peer` of it."""
    region = owner.register(memory, REMOTE)
    await awaited(owner.send, region.advertise())
    return RemoteRegion.parse(await awaited(peer.recv))


def test_a_whole_region_is_sent_written_and_read_into(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(8)
        remote = await lent(memory, other, one)
        region = one.register(bytearray(b"01234567"))
        await awaited(one.write, region, remote)
        await awaited(one.send, region)
        assert await awaited(other.recv) == b"01234567"
        assert memory == b"01234567"
        memory[:] = b"abcdefgh"
        await awaited(one.read, region, remote)
        assert bytes(region.view) == b"abcdefgh"
        await awaited(one.write_with_immediate, region, remote, b"12345678")
        assert await awaited(other.recv) == b"12345678"
        region.close()

    form.connected(body)


def test_a_whole_region_of_fast_registration_is_sent_written_and_read_into(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(8)
        remote = await lent(memory, other, one)
        region, first, second = one.pd.alloc_stag(), bytearray(b"0123"), bytearray(b"4567")
        await awaited(one.register_fast, region, [first, second], Access.LOCAL_WRITE)
        await awaited(one.write, region, remote)
        await awaited(one.send, region)
        assert await awaited(other.recv) == memory == b"01234567"
        memory[:] = b"abcdefgh"
        await awaited(one.read, region, remote)
        assert first + second == b"abcdefgh"
        await awaited(one.invalidate, region)
        region.close()

    form.connected(body)


@pytest.mark.parametrize("items", [3, REGISTERED])
def test_arrays_are_sent_written_and_read_into(form: Form, items: int) -> None:
    async def body(one: Any, other: Any) -> None:
        there = np.arange(float(items))
        remote = await lent(there, other, one)
        for here in (np.zeros(items), array("d", bytes(8 * items))):
            await awaited(one.read, here, remote)
            assert list(here) == list(there)
        sunk = bytearray(8 * items)
        await awaited(one.read, memoryview(sunk), remote)
        assert sunk == there.tobytes()
        sunk.clear()  # nothing holds it any more
        await awaited(one.write, np.full((items, 1), 2.5), remote)
        await awaited(one.send, np.arange(3.0))
        assert await awaited(other.recv) == np.arange(3.0).tobytes()
        assert list(there) == [2.5] * items

    form.connected(body)


def test_memory_that_cannot_be_filled_is_not_read_into(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        remote = await lent(bytearray(4), other, one)
        with pytest.raises(BadWorkRequest, match="read-only"):
            await awaited(one.read, b"0123", remote)

    form.connected(body)


def test_a_part_of_the_peers_memory_is_named_by_a_slice(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        remote = await lent(bytearray(b"0123456789"), other, one)
        part = bytearray(4)
        await awaited(one.read, part, remote[2:6])
        assert part == b"2345"
        await awaited(one.write, b"ab", remote[-2:])
        await awaited(one.read, part, remote.at(6))
        assert part == b"67ab"
        with pytest.raises(BadWorkRequest, match=r"4 octets do not fit the advertised memory: .* \[3 octets\]"):
            await awaited(one.write, part, remote[7:100])

    form.connected(body)


def test_slices_of_the_peers_memory() -> None:
    remote = RemoteRegion(100, 7, 10)
    assert remote[:] == remote
    assert remote[3:5] == RemoteRegion(103, 7, 2)
    assert remote[3:5][1:] == remote.at(4)[:1] == RemoteRegion(104, 7, 1)
    assert remote[20:] == RemoteRegion(110, 7, 0)
    assert remote[5:3] == RemoteRegion(105, 7, 0)
    to, stag, nbytes = remote
    assert (to, stag, nbytes) == (100, 7, 10)
    assert len({remote, remote[:]}) == 1
    with pytest.raises(BadWorkRequest, match="step of 2"):
        remote[::2]
    with pytest.raises(BadWorkRequest, match=r"named by a slice, \[a:b\], not by \[4\]"):
        remote[4]  # type: ignore[index]
    with pytest.raises(BadWorkRequest, match="of type 'str'"):
        RemoteRegion.parse("an advertisement")  # type: ignore[arg-type]


OTHER_LAYOUTS: dict[str, Callable[[int], Any]] = {
    "strided": lambda items: np.zeros(2 * items)[::2],
    "backwards": lambda items: np.zeros(items)[::-1],
    "Fortran": lambda items: np.zeros((items // 2, 2), order="F"),
    "transposed": lambda items: np.zeros((2, items // 2)).T,
}


@pytest.mark.parametrize("items", [4, INLINE, INLINE + 2, REGISTERED])
@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_an_array_of_another_layout_has_the_same_answer_at_every_length(form: Form, layout: str, items: int) -> None:
    async def body(one: Any, other: Any) -> None:
        remote = await lent(bytearray(8 * items), other, one)
        values = OTHER_LAYOUTS[layout](items)
        for operation, *arguments in ((one.send,), (one.write, remote), (one.read, remote)):
            with pytest.raises(BadWorkRequest, match=r"C-contiguous.*strides.*numpy\.ascontiguousarray"):
                await awaited(operation, values, *arguments)
        await awaited(one.write, np.ascontiguousarray(values), remote)

    form.connected(body)


@pytest.mark.parametrize(
    "nothing", ["text", None, 7, [1, 2], RemoteRegion(0, 1, 2)], ids=lambda each: type(each).__name__
)
def test_what_is_no_buffer_is_refused_by_name(form: Form, nothing: Any) -> None:
    async def body(one: Any, other: Any) -> None:
        remote = await lent(bytearray(8), other, one)
        for operation, *arguments in ((one.send,), (one.write, remote), (one.read, remote)):
            with pytest.raises(BadWorkRequest, match=f"C-contiguous buffer .*{type(nothing).__name__}"):
                await awaited(operation, nothing, *arguments)

    form.connected(body)


def test_text_is_refused_with_what_makes_octets_of_it(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with pytest.raises(BadWorkRequest, match="text becomes octets by `encode`"):
            await awaited(one.send, "text")

    form.connected(body)


@pytest.mark.parametrize("wrong", ["octets", "region", "slice"])
def test_memory_of_the_peer_has_a_name_of_its_own(form: Form, wrong: str) -> None:
    async def body(one: Any, other: Any) -> None:
        region = one.register(bytearray(8))
        named = {"octets": region.advertise(), "region": region, "slice": region[:]}[wrong]
        for operation, *arguments in ((one.write, b"a"), (one.read, region)):
            with pytest.raises(BadWorkRequest, match=r"named by a RemoteRegion, not by .*RemoteRegion\.parse"):
                await awaited(operation, *arguments, named)
        for operation, *arguments in ((one.fetch_add, 1), (one.compare_swap, 1, 2)):
            with pytest.raises(BadWorkRequest, match="named by a RemoteRegion"):
                await awaited(operation, named, *arguments)
        region.close()

    form.connected(body)


# --- memory of an operation that was given up -------------------------------------------------------------------------


def test_a_plain_with_lets_go_of_memory_whose_read_was_cancelled() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            memory = bytearray(8)
            remote = await lent(bytearray(b"01234567"), other, one)
            silent = transport_of(other)
            silent.pause_reading()  # it answers no Read meanwhile
            with pytest.raises(TimeoutError), one.register(memory) as region:
                async with asyncio.timeout(0.01):
                    await one.read(region, remote)
            assert not region.is_open
            assert region.pins == 1
            with pytest.raises(BufferError):
                memory.clear()
            silent.resume_reading()
            await region.wait_closed()
            assert memory == b"01234567"
            memory.clear()

    run_on(asyncio.new_event_loop, main)


def test_the_array_of_an_awaited_read_that_was_cancelled_is_held_until_the_octets_are_there() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            memory = bytearray(8)
            remote = await lent(bytearray(b"01234567"), other, one)
            silent = transport_of(other)
            silent.pause_reading()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await one.read(memory, remote)
            with pytest.raises(BufferError):
                memory.clear()
            silent.resume_reading()
            await soon(lambda: memory == b"01234567")
            memory.clear()

    run_on(asyncio.new_event_loop, main)


def transport_of(connection: Connection) -> asyncio.Transport:
    assert connection._llp is not None
    assert connection._llp._transport is not None
    return connection._llp._transport


def test_the_array_of_a_read_that_was_given_up_is_held_until_the_octets_are_there() -> None:
    with pair() as (one, other):
        region = other.register(bytearray(b"01234567"), REMOTE)
        other.send(region.advertise())
        remote, memory = RemoteRegion.parse(one.recv()), bytearray(8)
        one.qp.on_output = lambda: None  # nothing is sent before the time limit
        with pytest.raises(TimeoutError):
            one.read(memory, remote, timeout=0)
        with pytest.raises(BufferError):
            memory.clear()
        one._llp.kick()  # type: ignore[union-attr]
        one.send(b"done")
        assert memory == b"01234567"
        memory.clear()
