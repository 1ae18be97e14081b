"""What each side says and reports when the other breaks a rule (RFC 5040 §4.8 and §7, RFC 5041 §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from interop.peer import Can, Part, PeerRegion
from interop.stage import Pair, Stage, end_of, outcome
from pyiwarp import Access, Context, ProtectionDomain, RemoteRegion
from pyiwarp.codes import Layer
from pyiwarp.errors import Term

from .data import ALL_RIGHTS, pattern
from .registry import add, scenario

_SIZE = 256
_UNKNOWN = 0x1234_5600  # an STag that names nothing, whatever its key
_WRITE_ONLY = Access.LOCAL_WRITE | Access.REMOTE_WRITE
_READ_ONLY = Access.LOCAL_WRITE | Access.REMOTE_READ


@dataclass(frozen=True)
class _Fault:
    """A wrong way to name memory: what the Terminate has to say for a Write and for a Read, and the local error."""

    name: str
    about: str
    write: Term
    read: Term
    write_error: str
    read_error: str
    other_domain: bool = False


_DDP, _RDMAP = Layer.DDP, Layer.RDMAP
_FAULTS = (
    _Fault(
        "unknown-stag", "an STag that names nothing", Term(_DDP, 1, 0), Term(_RDMAP, 1, 0), "InvalidStag",
        "ReadInvalidStag",
    ),
    _Fault(
        "bounds", "octets outside the region", Term(_DDP, 1, 1), Term(_RDMAP, 1, 1), "BaseOrBounds", "ReadBounds"
    ),
    _Fault(
        "rights", "a region that does not grant it", Term(_DDP, 1, 0), Term(_RDMAP, 1, 2), "NoWriteRight",
        "ReadAccessRights",
    ),
    _Fault(
        "other-domain", "a region of another protection domain", Term(_DDP, 1, 2), Term(_RDMAP, 1, 3),
        "StagNotAssociated", "ReadStagNotAssociated", other_domain=True,
    ),
)  # fmt: skip


def _wrong(fault: _Fault, good: RemoteRegion) -> RemoteRegion:
    """How the fault names a region that is there."""
    if fault.name == "unknown-stag":
        return RemoteRegion(good.to, _UNKNOWN, good.nbytes)
    if fault.name == "bounds":
        return RemoteRegion(good.to + 1, good.stag, good.nbytes)
    return good


# --- our side breaks the rule ----------------------------------------------------------------------------------------


async def _we_write(stage: Stage, fault: _Fault) -> None:
    async with stage.pair(other_domain=fault.other_domain) as pair:
        rights = _READ_ONLY if fault.name == "rights" else ALL_RIGHTS
        region = await stage.peer.register(_SIZE, rights)
        await pair.there.post_receive(1, await _inbox(stage, fault))
        remote = _wrong(fault, region.remote())
        stage.compare("our Write", await outcome(pair.here.write(pattern(_SIZE, 1), remote)), "done")
        stage.compare("our end", await end_of(pair.here), f"terminated by the peer, {fault.write}")
        await _peer_closed(stage, pair)
        stage.check(await stage.peer.get(region, 0, _SIZE) == bytes(_SIZE), "octets were placed")


async def _we_read(stage: Stage, fault: _Fault) -> None:
    async with stage.pair(other_domain=fault.other_domain) as pair:
        rights = _WRITE_ONLY if fault.name == "rights" else ALL_RIGHTS
        region = await stage.peer.register(_SIZE, rights)
        await stage.peer.fill(region, 1)
        await pair.there.post_receive(1, await _inbox(stage, fault))
        sink = pair.here.register(bytearray(_SIZE))
        read = outcome(pair.here.read(sink[:], _wrong(fault, region.remote())))
        seen = await read
        stage.compare("our Read", seen, f"terminated by the peer, {fault.read}")
        if seen != "done":
            stage.check(sink.view == bytes(_SIZE), "octets came")
            await _peer_closed(stage, pair)


async def _inbox(stage: Stage, fault: _Fault) -> PeerRegion:
    return await stage.peer.register(8, ALL_RIGHTS, other_domain=fault.other_domain)


async def _peer_closed(stage: Stage, pair: Pair) -> None:
    """The peer that sent a Terminate tells its program of the end and has flushed its receive."""
    stage.compare("the peer's program hears", await pair.there.ended(), "disconnected")
    done = await pair.there.completions(1, timeout=5.0)
    stage.compare("the peer's receive", done[0].status if done else "nothing", "flushed")


async def _peer_hears(stage: Stage, pair: Pair, term: Term) -> None:
    """The peer's program hears of our Terminate, or at least of the end."""
    tells = Can.TELL_TERMINATE in stage.peer.kind.can
    wanted = f"terminated {term}" if tells else "disconnected"
    stage.compare("the peer's program hears", await pair.there.ended(), wanted)


# --- the peer breaks the rule ----------------------------------------------------------------------------------------


async def _peer_writes(stage: Stage, fault: _Fault) -> None:
    await _peer_acts(stage, fault, fault.write, fault.write_error, reads=False)


async def _peer_reads(stage: Stage, fault: _Fault) -> None:
    await _peer_acts(stage, fault, fault.read, fault.read_error, reads=True)


async def _peer_acts(stage: Stage, fault: _Fault, term: Term, error: str, *, reads: bool) -> None:
    context = Context()
    domain, other = context.alloc_pd(), context.alloc_pd()
    async with stage.pair(pd=domain) as pair:
        memory = bytearray(_SIZE)
        owner: ProtectionDomain = other if fault.other_domain else domain
        too_few = _WRITE_ONLY if reads else _READ_ONLY
        region = owner.register(memory, too_few if fault.name == "rights" else ALL_RIGHTS)
        local = await stage.peer.register(_SIZE, ALL_RIGHTS)
        await stage.peer.fill(local, 2)
        post = pair.there.post_read if reads else pair.there.post_write
        await post(1, Part(local, 0, _SIZE), _wrong(fault, region[:].remote()))
        stage.compare("our end", await end_of(pair.here), f"{error}, {term}")
        stage.compare("our Terminate", stage.terminate(sent=True), term)
        stage.check(memory == bytes(_SIZE), "octets were placed")
        done = await pair.there.completions(1)
        status = done[0].status if done else "nothing"
        if reads:  # a Write may have been complete before the Terminate came
            stage.compare("the peer's Read", status, "flushed")
        await _peer_hears(stage, pair, term)
        if reads:
            stage.check(await stage.peer.get(local, 0, _SIZE) == pattern(_SIZE, 2), "octets were given away")
    context.close()


def _register(fault: _Fault) -> None:
    for name, words, runner in (
        ("we-write", "Our Write names", _we_write),
        ("we-read", "Our Read names", _we_read),
        ("peer-writes", "The peer's Write names", _peer_writes),
        ("peer-reads", "The peer's Read names", _peer_reads),
    ):
        clause = "RFC 5041 §7.1" if "write" in name else "RFC 5040 §7.2"
        run = partial(_play, act=runner, fault=fault)
        add(f"error-{name}-{fault.name}", "errors", f"{words} {fault.about} ({clause})", run)


async def _play(stage: Stage, act: Callable[[Stage, _Fault], Awaitable[None]], fault: _Fault) -> None:
    await act(stage, fault)


for _fault in _FAULTS:
    _register(_fault)


# --- Sends -----------------------------------------------------------------------------------------------------------


@scenario("errors")
async def error_we_send_unexpectedly(stage: Stage) -> None:
    """Our Send finds no receive posted (RFC 5041 §7.1)."""
    async with stage.pair() as pair:
        await pair.here.send(b"hello?")
        stage.compare("our end", await end_of(pair.here), f"terminated by the peer, {Term(_DDP, 2, 2)}")
        stage.compare("the peer's program hears", await pair.there.ended(), "disconnected")


@scenario("errors")
async def error_we_send_too_much(stage: Stage) -> None:
    """Our Send is longer than the peer's receive (RFC 5041 §7.1)."""
    async with stage.pair() as pair:
        await pair.there.post_receive(1, await stage.peer.register(100, ALL_RIGHTS))
        await pair.here.send(bytes(101))
        stage.compare("our end", await end_of(pair.here), f"terminated by the peer, {Term(_DDP, 2, 5)}")
        done = await pair.there.completions(1)
        stage.compare("the peer's receive", done[0].status if done else "nothing", "flushed")
        stage.compare("the peer's program hears", await pair.there.ended(), "disconnected")


@scenario("errors")
async def error_peer_sends_too_much(stage: Stage) -> None:
    """The peer's Send is longer than our receives (RFC 5041 §7.1)."""
    term = Term(_DDP, 2, 5)
    async with stage.pair(stage.options(recv_size=100)) as pair:
        region = await stage.peer.register(200, ALL_RIGHTS)
        await pair.there.post_send(1, Part(region, 0, 101))
        stage.compare("our end", await end_of(pair.here), f"MessageTooLong, {term}")
        stage.compare("our Terminate", stage.terminate(sent=True), term)
        await _peer_hears(stage, pair, term)


@scenario("errors")
async def error_we_invalidate_unknown(stage: Stage) -> None:
    """Our Send with Invalidate names an STag that stands for nothing (RFC 5040 §7.2)."""
    async with stage.pair() as pair:
        await pair.there.post_receive(1, await stage.peer.register(100, ALL_RIGHTS))
        await pair.here.send(b"yours", invalidate=_UNKNOWN)
        end = await end_of(pair.here, patience=5.0)
        stage.compare("our end", end, f"terminated by the peer, {Term(_RDMAP, 1, 9)}")


@scenario("errors")
async def error_peer_invalidates_unknown(stage: Stage) -> None:
    """The peer's Send with Invalidate names an STag that stands for nothing (RFC 5040 §7.2)."""
    term = Term(_RDMAP, 1, 9)
    async with stage.pair() as pair:
        region = await stage.peer.register(100, ALL_RIGHTS)
        await pair.there.post_send(1, Part(region, 0, 10), invalidate=_UNKNOWN)
        stage.compare("our end", await end_of(pair.here), f"CannotInvalidate, {term}")
        stage.compare("our Terminate", stage.terminate(sent=True), term)


@scenario("errors")
async def error_then_again(stage: Stage) -> None:
    """After a Terminate the same two connect anew and all is well (RFC 5040 §6.2)."""
    async with stage.pair() as pair:
        await pair.here.write(b"x", RemoteRegion(0, _UNKNOWN, 1))
        stage.check((await end_of(pair.here)).startswith("terminated"), "the peer sent no Terminate")
    async with stage.pair() as pair:
        region = await stage.peer.register(100, ALL_RIGHTS)
        await pair.there.post_receive(1, region)
        await pair.here.send(b"again")
        stage.check([each.ok for each in await pair.there.completions(1)] == [True], "the second connection is no good")
