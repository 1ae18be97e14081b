"""The shortest proof that a guest works: rping and the verbs program, each with itself through siw."""

from .guest import ADDRESS, Guest
from .verbpeer import Connection, VerbPeer
from .verbs import CmKind, Completion, Region, Sge, Status, pattern

_PORT = 7174
_LENGTH = 5000


async def rping(guest: Guest, count: int = 3, size: int = 1000) -> str:
    """Run rping's server and client in the guest, with data checked; returns what both said."""
    common = f"-a {ADDRESS} -p {_PORT} -C {count} -S {size} -v -V"
    async with await guest.spawn(f"rping -s {common}") as server:
        await guest.wait_listen(_PORT)
        client = await guest.run(f"rping -c {common}")
        await server.wait()
        return client.text + server.text


async def verbs(guest: Guest) -> list[Completion]:
    """Let two verbs programs in the guest connect, then Send, Write and Read; returns all completions.

    Raises `AssertionError` if data did not arrive as it was sent.
    """
    async with await VerbPeer.start(guest) as passive, await VerbPeer.start(guest) as active:
        there, here = await _connected(passive, active)
        source, sink = await active.register(_LENGTH), await passive.register(_LENGTH)
        await active.fill(source, seed=1)
        await there.receive(1, Sge(sink, 0, _LENGTH))
        await here.send(2, Sge(source, 0, 100))
        done = [*await there.poll(), *await here.poll()]
        await here.write(3, sink.rkey, sink.address + 7, Sge(source, 0, _LENGTH - 7))
        await here.read(4, sink.rkey, sink.address + 7, Sge(source, 0, 1000))
        done += await here.poll(2)
        await _check(passive, sink, pattern(100, 1)[:7] + pattern(_LENGTH - 7, 1))
        await here.disconnect()
        await there.expect_event(CmKind.DISCONNECTED)
        return done


async def _connected(passive: VerbPeer, active: VerbPeer) -> tuple[Connection, Connection]:
    listener = await passive.listen(_PORT + 1)
    here = await active.resolve(_PORT + 1, ADDRESS)
    await here.connect()
    there = await listener.get_request()
    await there.accept()
    await here.expect_event(CmKind.ESTABLISHED)
    await there.expect_event(CmKind.ESTABLISHED)
    return there, here


async def _check(peer: VerbPeer, region: Region, wanted: bytes) -> None:
    if await peer.peek(region) != wanted:
        raise AssertionError("the memory in the guest is not what was written to it")


async def smoke(guest: Guest) -> None:
    """Run both; raises if anything is not as it should be."""
    await rping(guest)
    done = await verbs(guest)
    if failed := [completion for completion in done if completion.status is not Status.SUCCESS]:
        raise AssertionError(f"completed in error: {failed}")
