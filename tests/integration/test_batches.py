"""Lists of Writes and Reads, a Send that follows them, and receiving into memory of the program's."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from pyiwarp import Access, Options, RemoteRegion
from pyiwarp.errors import BadWorkRequest, Closed, ConnectionLost, TerminatedByPeer
from tests.integration.forms import Form, awaited, form
from tests.integration.loops import joined, run_on
from tests.integration.polled import pair, soon

__all__ = ["form"]  # the fixture

REMOTE = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE


async def advertised(region: Any, owner: Any, peer: Any) -> RemoteRegion:
    """Tell `peer` of a region of `owner`'s."""
    await awaited(owner.send, region.advertise())
    return RemoteRegion.parse(await awaited(peer.recv))


# --- receiving into memory of the program's --------------------------------------------------------------------------


def test_a_message_is_received_into_any_memory_that_can_be_written(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        plain, numbers = bytearray(b"......"), array("H", [0, 0, 0])
        region = other.register(bytearray(8))
        fast = other.pd.alloc_stag()
        first, second = bytearray(2), bytearray(4)
        await awaited(other.register_fast, fast, [first, second])
        for message in (b"abc", b"", b"\1\0\2\0", b"slice", b"whole", b"spread"):
            await awaited(one.send, message)
        assert await awaited(other.recv_into, plain) == 3
        assert await awaited(other.recv_into, plain) == 0
        assert plain == b"abc..."
        assert await awaited(other.recv_into, memoryview(numbers)) == 4
        assert numbers.tobytes() == b"\1\0\2\0\0\0"
        assert await awaited(other.recv_into, region[3:]) == 5
        assert bytes(region.view) == b"\0\0\0slice"
        assert await awaited(other.recv_into, region) == 5
        assert bytes(region.view) == b"wholeice"
        assert await awaited(other.recv_into, fast) == 6
        assert [bytes(first), bytes(second)] == [b"sp", b"read"]
        await awaited(one.send_immediate, b"8 octets")
        assert await awaited(other.recv_into, region) == 8
        assert bytes(region.view) == b"8 octets"
        plain += b"it can be resized"
        await awaited(other.invalidate, fast)
        for each in (region, fast):
            each.close()

    form.connected(body)


def test_a_message_that_is_larger_than_the_memory_stays(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        await awaited(one.send, b"seven..")
        small = bytearray(6)
        with pytest.raises(BadWorkRequest, match="message has 7 octets, the buffer 6; nothing is lost"):
            await awaited(other.recv_into, small)
        assert small == bytes(6)
        with other.register(small) as region, pytest.raises(BadWorkRequest, match="has 7 octets, the buffer 2"):
            await awaited(other.recv_into, region[4:])
        assert await awaited(other.recv) == b"seven.."

    form.connected(body)


def test_memory_that_may_not_be_written_is_refused_at_once(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        unwritable = other.register(bytearray(8), Access.REMOTE_READ)
        gone = other.register(bytearray(8))
        gone.close()
        with pytest.raises(BadWorkRequest, match="read-only"):
            await awaited(other.recv_into, bytes(8))
        with pytest.raises(BadWorkRequest, match="does not grant"):
            await awaited(other.recv_into, unwritable)
        with pytest.raises(Closed, match="region"):
            await awaited(other.recv_into, gone)
        with pytest.raises(BadWorkRequest, match="C-contiguous"):
            await awaited(other.recv_into, memoryview(bytearray(8))[::2])
        unwritable.close()

    form.connected(body)


def test_every_receive_is_used_again(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(4)
        for number in range(10):
            await awaited(one.send, b"%d" % number)
            assert await awaited(other.recv_into, memory) == 1
            assert memory[:1] == b"%d" % number

    form.connected(body, None, Options(recv_depth=2))


def test_receiving_into_memory_tells_of_the_end(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        one.abort()
        with pytest.raises(ConnectionLost):
            await awaited(other.recv_into, bytearray(8))

    form.connected(body)


def test_receiving_into_memory_has_a_time_limit() -> None:
    with pair() as (_, other), pytest.raises(TimeoutError, match="no message came"):
        other.recv_into(bytearray(8), timeout=0.01)


def test_a_reader_with_room_is_given_what_another_has_no_room_for() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            small = asyncio.ensure_future(other.recv_into(bytearray(1)))
            large = asyncio.ensure_future(other.recv_into(bytearray(100)))
            await asyncio.sleep(0)
            await one.send(b"more than one octet")
            with pytest.raises(BadWorkRequest, match="19 octets, the buffer 1"):
                await small
            assert await large == 19

    run_on(asyncio.new_event_loop, main)


# --- lists -----------------------------------------------------------------------------------------------------------


def test_lists_are_written_and_read(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(300)
        region = other.register(memory, REMOTE)
        remote = await advertised(region, other, one)
        with one.register(bytearray(b"registered")) as mine:
            writes = [(b"plain", remote), (mine, remote[100:]), (mine[4:], remote[200:])]
            await awaited(one.write_many, writes, then_send=b"written")
            assert await awaited(other.recv) == b"written"
        assert [bytes(memory[n : n + 5]) for n in (0, 100, 205)] == [b"plain", b"regis", b"d" + bytes(4)]
        sinks = [bytearray(5), bytearray(10)]
        await awaited(one.read_many, zip(sinks, (remote, remote[100:]), strict=True))
        assert sinks == [b"plain", b"registered"]
        await awaited(one.write, b"single", remote, then_send=b"x" * 4096)
        assert await awaited(other.recv) == b"x" * 4096
        assert memory[:6] == b"single"
        region.close()

    form.connected(body)


def test_a_list_without_items_is_nothing(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        await awaited(one.write_many, [])
        await awaited(one.read_many, [])
        await awaited(one.write_many, (), then_send=b"alone")
        assert await awaited(other.recv) == b"alone"

    form.connected(body)


@pytest.mark.parametrize("confirm", [False, True])
def test_a_list_may_be_longer_than_the_queue(form: Form, confirm: bool) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(101)
        region = other.register(memory, REMOTE)
        remote = await advertised(region, other, one)
        writes = [(bytes([n]), remote[n:]) for n in range(101)]
        await awaited(one.write_many, writes, then_send=b"done")
        assert await awaited(other.recv) == b"done"
        assert memory == bytes(range(101))
        sinks = [bytearray(1) for _ in range(101)]
        await awaited(one.read_many, [(sink, remote[n:]) for n, sink in enumerate(sinks)])
        assert b"".join(sinks) == bytes(range(101))
        region.close()

    form.connected(body, Options(send_depth=4, confirm=confirm))


def test_an_unfit_item_is_named_and_nothing_is_posted(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(8)
        region, foreign = other.register(memory, REMOTE), other.register(bytearray(8))
        remote = await advertised(region, other, one)
        gone = one.register(bytearray(8))
        gone.close()
        unfit: list[tuple[Any, str]] = [
            ((bytearray(9), remote), "9 octets do not fit"),
            ((bytearray(1), None), "named by a RemoteRegion"),
            (("text", remote), "encode"),
            (bytes(8), "a pair of local memory"),
            ((gone, remote), "closed or invalidated"),
            ((foreign, remote), "another protection domain"),
        ]
        for item, word in unfit:
            for many in (one.write_many, one.read_many):
                good = (bytearray(b"X"), remote)
                with pytest.raises((BadWorkRequest, Closed), match=word) as told:
                    await awaited(many, [good, good, item, good])
                assert told.value.__notes__ == ["item 2 of the list (counted from 0); nothing was posted"]
        with pytest.raises(BadWorkRequest, match="encode"):
            await awaited(one.write_many, [(b"X", remote)], then_send="text")
        await awaited(one.send, b"still here")
        assert await awaited(other.recv) == b"still here"
        assert memory == bytes(8)
        for each in (region, foreign):
            each.close()

    form.connected(body)


def test_an_item_that_the_peer_refuses_is_named(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        region = other.register(bytearray(8), REMOTE)
        remote = await advertised(region, other, one)
        nowhere = RemoteRegion(to=0, stag=region.stag ^ 0xFF00, nbytes=8)
        with pytest.raises(TerminatedByPeer) as told:
            await awaited(one.read_many, [(bytearray(8), remote), (bytearray(8), nowhere), (bytearray(8), remote)])
        assert "item 1 of the list (counted from 0) is the one that failed" in told.value.__notes__
        region.close()

    form.connected(body)


def test_the_end_names_the_first_that_was_not_completed(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        region = other.register(bytearray(8), REMOTE)
        remote = await advertised(region, other, one)
        region.close()
        other.abort()
        with pytest.raises(ConnectionLost):
            await awaited(one.read_many, [(bytearray(8), remote), (bytearray(8), remote)])

    form.connected(body)


def test_a_list_that_is_given_up_in_time_goes_on() -> None:
    with pair() as (one, other), other.register(bytearray(b"12345678"), REMOTE) as region:
        sinks = [bytearray(8) for _ in range(40)]
        with pytest.raises(TimeoutError, match="still under way"):
            one.read_many([(sink, region[:].remote()) for sink in sinks], timeout=0.0)
        soon(lambda: sinks[-1] == b"12345678")


class Counted:
    """Awaits a coroutine and counts how often it is suspended."""

    def __init__(self, inside: Coroutine[Any, Any, None]) -> None:
        self._inside = inside
        self.suspended = 0

    def __await__(self) -> Generator[Any, None, None]:
        for future in self._inside.__await__():
            self.suspended += 1
            yield future


def test_a_list_is_waited_for_once() -> None:
    async def main() -> None:
        async with joined() as (one, other), other.register(bytearray(64), REMOTE) as region:
            remote = await advertised(region, other, one)
            reads = Counted(one.read_many([(bytearray(8), remote)] * 16))
            await reads
            assert reads.suspended == 1

    run_on(asyncio.new_event_loop, main)


def test_a_list_that_is_cancelled_is_sent_as_far_as_it_was_posted() -> None:
    async def main() -> None:
        async with joined(Options(send_depth=4)) as (one, other), other.register(bytearray(8), REMOTE) as region:
            remote = await advertised(region, other, one)
            reading = asyncio.ensure_future(one.read_many([(bytearray(8), remote)] * 100))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await one.send(b"usable")
            assert await other.recv() == b"usable"

    run_on(asyncio.new_event_loop, main)
