"""MPA startup in both revisions (RFC 5044 §7.1, RFC 6581)."""

from __future__ import annotations

import asyncio

import pyiwarp
from interop.peer import HERE, Can, Depths, Part, PeerOptions, PeerRejected, Role
from interop.stage import Stage, both, cause
from pyiwarp import Rejected
from pyiwarp.codes import Opcode, Rtr
from pyiwarp.errors import IwarpError, StartupTimeout

from .data import exchange, pattern
from .registry import scenario

_ACTIVE = (Role.PYIWARP_CONNECTS,)
_PASSIVE = (Role.PEER_CONNECTS,)


@scenario("startup")
async def startup(stage: Stage) -> None:
    """Revision 2 without private data; a Send each way (RFC 6581 §9)."""
    async with stage.pair() as pair:
        stage.compare("the revision", pair.here.agreement.revision, 2)
        stage.compare("our private data", pair.here.private_data, b"")
        stage.compare("the peer's private data", pair.there.private_data, b"")
        await exchange(stage, pair)


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_1)
async def startup_revision_1(stage: Stage) -> None:
    """Revision 1, without the enhanced word (RFC 5044 §7.1)."""
    async with stage.pair(stage.options(revision=1), peer=PeerOptions(revision=1)) as pair:
        stage.compare("the revision", pair.here.agreement.revision, 1)
        await exchange(stage, pair)


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_1)
async def startup_revision_1_private_data(stage: Stage) -> None:
    """Revision 1 with private data in both frames (RFC 5044 §7.1.1)."""
    await _with_private_data(stage, 200, revision=1)


@scenario("startup")
async def startup_private_data(stage: Stage) -> None:
    """Revision 2 with private data in both frames (RFC 6581 §9)."""
    await _with_private_data(stage, 100)


@scenario("startup")
async def startup_private_data_1(stage: Stage) -> None:
    """One octet of private data: the frame's length is no multiple of four (RFC 5044 §7.1.1)."""
    await _with_private_data(stage, 1)


@scenario("startup", alone=True)
async def startup_private_data_longest(stage: Stage) -> None:
    """As much private data as our profile lets us send, and as the peer's program can (RFC 5044 §7.1.1)."""
    longest = stage.peer.kind.profile.max_private_data - 4
    try:
        await _with_private_data(stage, longest, stage.peer.kind.longest_private_data)
    except IwarpError as error:
        stage.compare("startup", cause(error), "gracefully")
    except Exception as error:
        stage.compare("startup", type(error).__name__, "gracefully")


async def _with_private_data(stage: Stage, ours: int, peers: int | None = None, revision: int = 2) -> None:
    here, there = pattern(ours, 3), pattern(ours if peers is None else peers, 4)
    options = stage.options(revision=revision)
    peer = PeerOptions(private_data=there, revision=revision)
    async with stage.pair(options, private_data=here, peer=peer) as pair:
        stage.check(pair.here.private_data == there, f"private data of the peer: {pair.here.private_data!r}")
        stage.check(pair.there.private_data == here, f"our private data: {pair.there.private_data!r}")
        await exchange(stage, pair)


@scenario("startup")
async def startup_rejected(stage: Stage) -> None:
    """The side that is asked refuses, and says why in private data (RFC 5044 §7.1.2 rule 2)."""
    said = b"not today"
    heard = await (_rejected_by_peer if stage.pyiwarp_connects else rejected_by_us)(stage, said)
    stage.compare("the private data that came with the rejection", heard, said)


async def _rejected_by_peer(stage: Stage, said: bytes) -> bytes | str:
    listener = await stage.peer.listen()

    async def answer() -> None:
        await (await listener.request()).reject(said)

    async def ask() -> bytes | str:
        try:
            await pyiwarp.connect(listener.host, listener.port, options=stage.options())
        except Rejected as error:
            return error.private_data
        return "connected"

    return (await both(ask(), answer()))[0]


async def rejected_by_us(stage: Stage, said: bytes) -> bytes | str:
    """Our side rejects the peer with private data: what the peer got of it."""
    async with await pyiwarp.listen(HERE, options=stage.options()) as listener:

        async def answer() -> None:
            await (await anext(listener)).reject(said)

        async def ask() -> bytes | str:
            try:
                await stage.peer.connect(listener.port, PeerOptions())
            except PeerRejected as error:
                return error.private_data
            return "connected"

        return (await both(ask(), answer()))[0]


@scenario("startup", roles=_ACTIVE)
async def startup_rejected_then_accepted(stage: Stage) -> None:
    """After a rejection the same listener accepts another connection."""
    await _rejected_by_peer(stage, b"")
    async with stage.pair() as pair:
        await exchange(stage, pair)


@scenario("startup")
async def startup_late_accept(stage: Stage) -> None:
    """The side that is asked thinks for a second (RFC 5044 §7.1.2 rule 10)."""
    if stage.pyiwarp_connects:
        listener = await stage.peer.listen()

        async def answer() -> None:
            request = await listener.request()
            await asyncio.sleep(1)
            await request.accept(Depths(1, 1), b"late")

        connection, _ = await both(_ask(stage, listener.host, listener.port), answer())
        stage.check(connection.private_data == b"late", "the Reply's private data is lost")
        await connection.close()
        return
    async with await pyiwarp.listen(HERE, options=stage.options()) as door:

        async def accept() -> pyiwarp.Connection:
            request = await anext(door)
            await asyncio.sleep(1)
            return await request.accept(b"late")

        here, there = await both(accept(), stage.peer.connect(door.port, PeerOptions()))
        stage.check(there.private_data == b"late", "the Reply's private data is lost")
        await here.close()


async def _ask(stage: Stage, host: str, port: int) -> pyiwarp.Connection:
    return await pyiwarp.connect(host, port, options=stage.options())


@scenario("startup", roles=_ACTIVE)
async def startup_no_answer(stage: Stage) -> None:
    """The peer's program never decides: our side gives up in its time (RFC 5044 §7.1.2 rule 8)."""
    listener = await stage.peer.listen()
    try:
        await pyiwarp.connect(listener.host, listener.port, options=stage.options(timeout=1.0))
    except StartupTimeout:
        return
    stage.check(False, "connected, though the peer did not accept")


@scenario("startup")
async def startup_crc_asked(stage: Stage) -> None:
    """Our side asks for CRC; it is used in both directions (RFC 5044 §7.1.1)."""
    async with stage.pair(stage.options(crc=True)) as pair:
        stage.compare("CRC is used", pair.here.agreement.crc, True)
        for _ in range(5):
            await exchange(stage, pair)
    _check_crcs(stage)


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_2 | Can.CONNECT_WITHOUT_CRC)
async def startup_crc_not_asked(stage: Stage) -> None:
    """Neither side asks for CRC, so the fields are there but are not looked at (RFC 5044 §4.1)."""
    async with stage.pair(stage.options(crc=False), peer=PeerOptions(crc=False)) as pair:
        stage.compare("CRC is used", pair.here.agreement.crc, False)
        await exchange(stage, pair)


@scenario("startup", roles=_PASSIVE, needs=Can.INSIST_ON_CRC)
async def startup_crc_asked_by_peer(stage: Stage) -> None:
    """The peer's Request asks for CRC, our side does not: it is used all the same (RFC 5044 §7.1.1)."""
    async with stage.pair(stage.options(crc=False), peer=PeerOptions(crc=True)) as pair:
        stage.compare("CRC is used", pair.here.agreement.crc, True)
        await exchange(stage, pair)
    _check_crcs(stage)


def _check_crcs(stage: Stage) -> None:
    wrong = [frame for frame in stage.frames() if frame.complaint]
    stage.check(not wrong, f"{len(wrong)} FPDUs are wrong, the first: {wrong[0] if wrong else ''}")


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_2 | Can.ASK_FOR_PEER_TO_PEER)
async def startup_peer_to_peer(stage: Stage) -> None:
    """The peer-to-peer model: the Initiator opens with an empty Write (RFC 6581 §9.2)."""
    async with stage.pair() as pair:
        stage.compare("peer to peer is agreed", pair.here.agreement.peer_to_peer, True)
        await exchange(stage, pair)
    stage.compare("the opening FPDU", _opening(stage), "empty WRITE")


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_2 | Can.ASK_FOR_PEER_TO_PEER)
async def startup_peer_to_peer_read(stage: Stage) -> None:
    """The peer-to-peer model where our side knows no opening but an empty Read (RFC 6581 §9.2)."""
    async with stage.pair(stage.options(rtr=Rtr.READ)) as pair:
        stage.compare("peer to peer is agreed", pair.here.agreement.peer_to_peer, True)
        await exchange(stage, pair)
    stage.compare("the opening FPDU", _opening(stage), "empty READ_REQUEST")


@scenario("startup", roles=_ACTIVE)
async def startup_client_server(stage: Stage) -> None:
    """Without the peer-to-peer model an empty Write opens all the same (RFC 5044 §7.1.2 rule 4)."""
    async with stage.pair(stage.options(rtr=Rtr(0))) as pair:
        stage.compare("peer to peer is agreed", pair.here.agreement.peer_to_peer, False)
        await exchange(stage, pair)
    stage.compare("the opening FPDU", _opening(stage), "empty WRITE")


def _opening(stage: Stage) -> str:
    """The Initiator's first FPDU."""
    first = next(frame for frame in stage.frames() if frame.number == 1 and frame.sent is stage.pyiwarp_connects)
    if first.opcode == Opcode.READ_REQUEST:
        size = int.from_bytes(first.ulpdu[30:34], "big")
    else:
        size = len(first.ulpdu) - (14 if first.opcode == Opcode.WRITE else 18)
    return f"{f'{size} octets of' if size else 'empty'} {Opcode(first.opcode or 0).name}"


@scenario("startup", connecting_needs=Can.CONNECT_REVISION_2 | Can.ASK_FOR_PEER_TO_PEER)
async def startup_responder_first(stage: Stage) -> None:
    """The side that was asked sends first, as soon as the opening FPDU has come (RFC 6581 §9.2)."""
    region = await stage.peer.register(100, pyiwarp.Access.LOCAL_WRITE)
    await stage.peer.fill(region, 5)
    async with stage.pair() as pair:
        if stage.pyiwarp_connects:
            await pair.there.post_send(1, Part(region, 0, 100))
            stage.check(await pair.here.recv() == pattern(100, 5), "the peer's Send arrived changed")
        else:
            await pair.there.post_receive(1, region)
            await pair.here.send(pattern(100, 6))
            done = await pair.there.completions(1)
            stage.check([each.ok for each in done] == [True], f"our Send completed there as {done}")


@scenario("startup", needs=Can.MARKERS)
async def startup_markers(stage: Stage) -> None:
    """Our side wants markers in what it receives (RFC 5044 §4.3)."""
    async with stage.pair(stage.options(markers=True)) as pair:
        stage.compare("markers come", pair.here.agreement.receive_markers, True)
        for size in (1, 500, 508, 512, 4000):
            await exchange(stage, pair, size)


@scenario("startup")
async def startup_many(stage: Stage) -> None:
    """Sixteen connections at once."""
    count = 16
    if stage.pyiwarp_connects:
        listener = await stage.peer.listen()

        async def answer_all() -> list[object]:
            return [await (await listener.request()).accept(Depths(1, 1), b"") for _ in range(count)]

        async def ask_all() -> list[pyiwarp.Connection]:
            return list(await asyncio.gather(*(_ask(stage, listener.host, listener.port) for _ in range(count))))

        ours, _ = await both(ask_all(), answer_all())
    else:
        async with await pyiwarp.listen(HERE, options=stage.options()) as door:

            async def accept_all() -> list[pyiwarp.Connection]:
                return [await (await anext(door)).accept() for _ in range(count)]

            async def connect_all() -> list[object]:
                return [await stage.peer.connect(door.port, PeerOptions(Depths(1, 1))) for _ in range(count)]

            ours, _ = await both(accept_all(), connect_all())
    stage.check(len(ours) == count, f"{len(ours)} connections came to be")
    await asyncio.gather(*(connection.close() for connection in ours))
