"""The siw guest itself: boot, commands, tools, verbs, saved states, crashes. Builds the image if there is none."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from interop.siw import choose, control, fresh, smoke, snapshot
from interop.siw.errors import CommandFailed, GuestDied, GuestStartError, GuestTimeout, VerbError
from interop.siw.guest import ADDRESS, Guest
from interop.siw.image import Image
from interop.siw.variants import NAMES
from interop.siw.verbpeer import Connection, VerbPeer
from interop.siw.verbs import (
    Access,
    CmKind,
    Opcode,
    SendFlags,
    Sge,
    Status,
    UnexpectedEvent,
    pattern,
)
from tests.patience import PATIENCE

pytestmark = pytest.mark.siw

ROOT = Path(__file__).parents[2]
PORT = 7174


@pytest.fixture(scope="module")
def guest(image: Image) -> Iterator[Guest]:
    """One guest for all tests that leave it as they found it."""
    guest = asyncio.run(fresh(image))
    yield guest
    guest.kill()


# -- life


async def test_a_guest_boots_and_siw_is_there(image: Image) -> None:
    async with await Guest.boot(image, accelerator=await choose(image)) as guest:
        assert "siw0" in (await guest.run("rdma link show")).text
        assert "PEER-READY siw" in guest.console
    assert not guest.alive
    assert "PEER-READY siw" in guest.console


@pytest.mark.parametrize("variant", NAMES)
async def test_every_variant_passes_the_smoke_test(image: Image, variant: str) -> None:
    async with await fresh(image, variant) as guest:
        await smoke.smoke(guest)


async def test_an_unknown_variant_is_refused(image: Image) -> None:
    with pytest.raises(ValueError, match="siw_fix"):
        await Guest.boot(image, "siw_none", accelerator="tcg")


async def test_guests_restored_from_one_state_have_nothing_in_common(image: Image) -> None:
    kept = await snapshot(image)
    async with await Guest.restore(kept, ports=[PORT]) as one, await Guest.restore(kept, ports=[PORT]) as other:
        await one.put("/tmp/mine", b"1")
        assert (await other.run("cat /tmp/mine", check=False)).status == 1
        assert await one.forward(PORT) != await other.forward(PORT)


async def test_a_saved_guest_goes_on_and_its_state_comes_back(image: Image, tmp_path: Path) -> None:
    async with await fresh(image) as guest:
        await guest.put("/tmp/file", b"kept")
        kept = await guest.save(tmp_path / "state")
        await guest.put("/tmp/file", b"later")
    async with await Guest.restore(kept) as again:
        assert await again.get("/tmp/file") == b"kept"
    assert os.listdir(tmp_path) == ["state"]


async def test_a_busy_guest_is_not_saved(guest: Guest, tmp_path: Path) -> None:
    async with await guest.spawn("sleep 60"):
        with pytest.raises(ValueError, match="sleep 60"):
            await guest.save(tmp_path / "state")


async def test_a_damaged_state_does_not_start(image: Image, tmp_path: Path) -> None:
    kept = await snapshot(image)
    damaged = tmp_path / "state"
    damaged.write_bytes(kept.file.read_bytes()[:100_000])
    with pytest.raises(GuestStartError):
        await Guest.restore(type(kept)(damaged, kept.variant, kept.arguments))


async def test_a_panic_ends_the_guest_and_is_quoted(image: Image) -> None:
    async with await fresh(image) as guest:
        with pytest.raises(GuestDied, match="Kernel panic - not syncing: sysrq triggered crash"):
            await guest.run("echo c > /proc/sysrq-trigger")
        assert not guest.alive
        with pytest.raises(GuestDied, match="Kernel panic"):
            await guest.run("true")


async def test_a_hung_guest_is_noticed(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await fresh(image) as guest:
        os.kill(guest.machine.pid, signal.SIGSTOP)
        monkeypatch.setattr(control, "_START_PATIENCE", 1.0)
        with pytest.raises(GuestTimeout):
            await guest.run("true", timeout=0.5)
    assert not guest.alive


def test_a_guest_ends_with_its_maker(image: Image, tmp_path: Path) -> None:
    script = (
        "import asyncio; from pathlib import Path; from interop.siw import control, fresh, Image\n"
        "async def main():\n"
        f"    guest = await fresh(Image(Path({str(image.directory)!r})))\n"
        "    print(guest.machine.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with (tmp_path / "pid").open("w+") as told:
        maker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=told)
        try:
            end = time.monotonic() + 120
            while not (line := (tmp_path / "pid").read_text()).endswith("\n"):
                assert time.monotonic() < end, "no guest was made"
                time.sleep(0.05)
            pid = int(line)
            assert running(pid)
        finally:
            maker.kill()
            maker.wait(60)
    end = time.monotonic() + 60
    while running(pid):
        assert time.monotonic() < end, "QEMU outlived the process that started it"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- commands


async def test_commands_give_status_and_output(guest: Guest) -> None:
    result = await guest.run("echo out; echo err >&2; exit 5", check=False)
    assert (result.status, result.stdout, result.stderr) == (5, b"out\n", b"err\n")
    with pytest.raises(CommandFailed, match="status 5"):
        await guest.run("exit 5")
    assert (await guest.run("kill -9 $$", check=False)).status == 128 + 9


async def test_commands_run_side_by_side(guest: Guest) -> None:
    results = await asyncio.gather(*(guest.run(f"sleep 0.2; echo {n}") for n in range(10)))
    assert [int(result.stdout) for result in results] == list(range(10))


async def test_a_quick_command_never_loses_its_status(guest: Guest) -> None:
    for _ in range(50):
        assert (await guest.run("exit 7", check=False)).status == 7


async def test_large_input_and_output_pass(guest: Guest) -> None:
    data = pattern(3_000_000, 1)
    await guest.put("/tmp/large", data, mode=0o600)
    assert await guest.get("/tmp/large") == data
    assert (await guest.run("wc -c", stdin=data)).stdout.strip() == b"3000000"
    await guest.run("exec 0<&-; sleep 0.1; rm /tmp/large", stdin=data)


async def processes(guest: Guest, argument: str) -> list[str]:
    """The processes in the guest with this argument."""
    found = await guest.run(f"grep -l {argument[:-1]}[{argument[-1]}] /proc/[0-9]*/cmdline", check=False)
    return found.text.split()


async def none_is_left(guest: Guest, argument: str) -> None:
    """The processes with this argument end: the agent kills them after the end of their connection."""
    async with asyncio.timeout(60):
        while await processes(guest, argument):
            pass


async def test_a_command_that_takes_too_long_is_killed(guest: Guest) -> None:
    with pytest.raises(GuestTimeout, match="sleep 6543"):
        await guest.run("sleep 6543 & sleep 6543", timeout=0.3)
    await none_is_left(guest, "6543")


async def test_what_a_command_leaves_behind_is_killed(guest: Guest) -> None:
    await guest.run("sleep 5432 &")
    await none_is_left(guest, "5432")


async def test_a_job_is_talked_to(guest: Guest) -> None:
    async with await guest.spawn("trap 'echo bye; exit 4' TERM; while read x; do echo got $x; done") as job:
        await job.write(b"one\n")
        assert await job.readline() == "got one"
        await job.write(b"two\n")
        await job.expect("got two")
        await job.signal(signal.SIGTERM)
        await job.write(b"wake\n")
        assert (await job.wait(10)).status == 4


async def test_a_missing_listener_is_noticed(guest: Guest) -> None:
    with pytest.raises(GuestTimeout, match="nothing listens on port 4242"):
        await guest.wait_listen(4242, timeout=0.3)


# -- tools


def perftest(tool: str, port: int) -> tuple[str, str, int]:
    """A tool of perftest on a port of its own: siw lets go of a listener some time after its program has ended."""
    return f"{tool} -R -d siw0 -n 20 -s 4096 -p {port}", ADDRESS, port


@pytest.mark.parametrize(
    ("server", "client", "port"),
    [
        ("ucmatose -p 7471 -S 100 -C 5 -c 2", f"-s {ADDRESS}", 7471),
        ("rdma_server -p 7471", f"-s {ADDRESS}", 7471),
        ("rstream -p 7472 -S 1000 -C 10 -I 1", f"-s {ADDRESS}", 7472),
        perftest("ib_write_bw", 18515),
        perftest("ib_read_bw", 18516),
        perftest("ib_send_bw", 18517),
        perftest("ib_write_lat", 18518),
        perftest("ib_read_lat", 18519),
        perftest("ib_send_lat", 18520),
    ],
)
async def test_the_tools_work_in_the_guest(guest: Guest, server: str, client: str, port: int) -> None:
    async with await guest.spawn(server) as job:
        await guest.wait_listen(port)
        await guest.run(f"{server.replace('_server', '_client')} {client}")
        assert (await job.wait(10)).status == 0


async def test_rping_checks_its_data_in_the_guest(guest: Guest) -> None:
    assert "rdma-ping-2" in await smoke.rping(guest)


async def test_output_comes_line_by_line(guest: Guest) -> None:
    async with await guest.spawn(f"rping -s -a {ADDRESS} -p {PORT} -v") as server:
        await guest.wait_listen(PORT)
        async with await guest.spawn(f"rping -c -a {ADDRESS} -p {PORT}"):
            await server.expect("rdma-ping-1:")
            assert server.running


# -- the verbs program


async def pair(one: VerbPeer, other: VerbPeer, port: int = PORT) -> tuple[Connection, Connection]:
    """A connection within the guest: (the side that connected, the side that accepted)."""
    listener = await one.listen(port)
    here = await other.resolve(port, ADDRESS)
    await here.connect()
    there = await listener.get_request()
    await there.accept()
    await here.expect_event(CmKind.ESTABLISHED)
    await there.expect_event(CmKind.ESTABLISHED)
    await listener.destroy()
    return here, there


async def test_verbs_both_ways(guest: Guest) -> None:
    done = await smoke.verbs(guest)
    assert [completion.status for completion in done] == [Status.SUCCESS] * 4
    assert [completion.opcode for completion in done] == [Opcode.RECEIVE, Opcode.SEND, Opcode.WRITE, Opcode.READ]


async def test_private_data_numbers_and_rejection(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        listener = await peer.listen(PORT)
        here = await peer.resolve(PORT, ADDRESS)
        await here.connect(ird=4, ord=2, private_data=b"hello")
        there = await listener.get_request()
        assert there.request.private_data.startswith(b"hello")
        assert (there.request.ird, there.request.ord) == (2, 4)
        await there.reject(b"no")
        refused = await here.event()
        assert refused.kind is CmKind.REJECTED
        assert refused.private_data == b"no"


async def test_several_connections_of_one_program(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        pairs = [await pair(peer, peer, PORT + n) for n in range(4)]
        region = await peer.register(4096)
        for n, (here, there) in enumerate(pairs):
            await there.receive(n, Sge(region, 512 * n, 512))
            await here.send(n, Sge(region, 2048, n + 1))
        for n, (_, there) in enumerate(pairs):
            assert [(done.wr_id, done.length) for done in await there.poll()] == [(n, n + 1)]


async def test_memory_is_written_and_read_back(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        region = await peer.register(1 << 20)
        await peer.fill(region, seed=3, offset=5)
        await peer.poke(region, 100, b"\x00\xff!")
        wanted = bytearray(bytes(5) + pattern((1 << 20) - 5, 3))
        wanted[100:103] = b"\x00\xff!"
        assert await peer.crc32(region) == zlib.crc32(wanted)
        assert await peer.peek(region, 90, 20) == wanted[90:110]
        assert await peer.peek(region) == wanted
        await peer.poke(region, 0, bytes(wanted[::-1]))
        assert await peer.crc32(region) == zlib.crc32(wanted[::-1])
        with pytest.raises(VerbError, match="bounds"):
            await peer.peek(region, 1 << 20, 1)
        await peer.deregister(region)
        with pytest.raises(VerbError, match="region"):
            await peer.peek(region)


async def test_many_commands_at_once_keep_their_order(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        region = await peer.register(4096)
        await asyncio.gather(*(peer.poke(region, n, bytes([n])) for n in range(200)))
        assert await peer.peek(region, 0, 200) == bytes(range(200))


async def test_completion_events_and_inline_sends(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        here, there = await pair(peer, peer)
        region = await peer.register(4096)
        for n in range(2):
            await there.receive(n, Sge(region, 1024 * n, 1024))
        await there.arm()
        assert not await there.completion_event(0.1)
        await here.send(1, Sge(region, 3000, 8), flags=SendFlags.SIGNALED | SendFlags.INLINE)
        assert await there.completion_event(5)
        await there.arm(solicited=True)
        await here.send(2, Sge(region, 3000, 8), flags=SendFlags.SIGNALED | SendFlags.SOLICITED)
        assert len(await there.poll(2)) == 2
        assert not await there.completion_event(0.3)  # siw forgets it


async def test_read_depths_are_powers_of_two(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        listener = await peer.listen(PORT)
        here = await peer.resolve(PORT, ADDRESS)
        await here.connect(ird=5, ord=3)
        there = await listener.get_request()
        await there.accept(ird=3, ord=5)
        await here.expect_event(CmKind.ESTABLISHED)
        assert await here.read_depths() == (8, 4)
        assert await there.read_depths() == (4, 8)


async def test_a_send_invalidates_a_region(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        here, there = await pair(peer, peer)
        region, victim = await peer.register(4096), await peer.register(4096)
        await there.receive(1, Sge(region, 0, 100))
        await here.send(2, Sge(region, 200, 4), invalidate=victim.rkey)
        assert (await there.poll())[0].status is Status.SUCCESS
        await here.write(3, victim.rkey, victim.address, Sge(region, 0, 8))
        await there.expect_event(CmKind.DISCONNECTED)


async def test_rights_domains_and_flushing(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        here, there = await pair(peer, peer)
        own = await peer.register(4096)
        foreign = await peer.register(4096, domain="other")
        shut = await peer.register(4096, Access.LOCAL_WRITE)
        await there.receive(9, Sge(own, 0, 10))
        await here.write(1, foreign.rkey, foreign.address, Sge(own, 0, 8))
        await here.expect_event(CmKind.DISCONNECTED)
        assert [done.status for done in await there.poll()] == [Status.FLUSHED]
        again, _ = await pair(peer, peer, PORT + 1)
        await again.write(1, shut.rkey, shut.address, Sge(own, 0, 8))
        await again.expect_event(CmKind.DISCONNECTED)
        assert await peer.peek(shut, 0, 8) == bytes(8)


async def test_a_queue_pair_is_failed_by_hand(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        here, there = await pair(peer, peer)
        await here.fail()
        await there.expect_event(CmKind.DISCONNECTED)
        await here.expect_event(CmKind.DISCONNECTED)


async def test_a_wrong_local_key_fails_the_work_request(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        here, _ = await pair(peer, peer)
        region = await peer.register(4096)
        await here.send(1, Sge(region, 0, 100, lkey=region.lkey ^ 0x100))
        assert [done.status for done in await here.poll()] != [Status.SUCCESS]


async def test_an_event_that_does_not_come(guest: Guest) -> None:
    async with await VerbPeer.start(guest) as peer:
        listener = await peer.listen(PORT)
        with pytest.raises(UnexpectedEvent, match="TIMEOUT"):
            await listener.get_request(timeout=0.1)
        assert await peer.async_events() == []


async def test_a_program_that_ended_is_noticed(guest: Guest) -> None:
    peer = await VerbPeer.start(guest)
    await guest.run("killall verbpeer")
    with pytest.raises(CommandFailed):
        await peer.listen(PORT)
    await peer.close()


# -- what the variants are for


MPA_REQUEST = b"MPA ID Req Frame" + struct.pack("!BBH", 0x40, 1, 0)  # CRC, revision 1


def fpdu(ulpdu: bytes) -> bytes:
    framed = struct.pack("!H", len(ulpdu)) + ulpdu
    framed += bytes(-len(framed) % 4)
    return framed + struct.pack("<I", crc32c(framed))


def send_message(msn: int, payload: bytes) -> bytes:
    return fpdu(struct.pack("!BBIIII", 0x41, 0x43, 0, 0, msn, 0) + payload)


async def connect_by_hand(
    guest: Guest, peer: VerbPeer, receives: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Connection]:
    """A connection of the host to the verbs program, up to siw's reply, which comes from a plain MPA revision 1."""
    listener = await peer.listen(PORT)
    region = await peer.register(4096)
    reader, writer = await asyncio.open_connection("127.0.0.1", await guest.forward(PORT))
    writer.write(MPA_REQUEST)
    there = await listener.get_request()
    for n in range(receives):
        await there.receive(n, Sge(region, 0, 4096))
    accepted = asyncio.create_task(there.accept())
    assert (await asyncio.wait_for(reader.readexactly(20), PATIENCE)).startswith(b"MPA ID Rep Frame")
    writer.write(send_message(1, b"first"))  # at once: this is what stock siw may overlook
    await accepted
    await listener.destroy()
    return reader, writer, there


@pytest.mark.parametrize("round_", range(10))
async def test_siw_fix_takes_the_first_fpdu_behind_its_reply(fixed: Guest, round_: int) -> None:
    async with await VerbPeer.start(fixed) as peer:
        _, writer, there = await connect_by_hand(fixed, peer, 1)
        assert [done.length for done in await there.poll()] == [5]
        writer.close()


@pytest.fixture(scope="module")
def fixed(image: Image) -> Iterator[Guest]:
    guest = asyncio.run(fresh(image, "siw_fix"))
    yield guest
    guest.kill()


async def split_trailers(guest: Guest) -> list[Status]:
    """Send FPDUs in two segments, parted at every place inside pad and CRC; how the receives completed."""
    payload = b"seven.."  # 1 octet of padding
    whole = send_message(2, payload)
    cuts = range(len(whole) - 4, len(whole))
    async with await VerbPeer.start(guest) as peer:
        _, writer, there = await connect_by_hand(guest, peer, 1 + len(cuts))
        await there.poll()
        for msn, cut in enumerate(cuts, 2):
            message = send_message(msn, payload)
            for part in (message[:cut], message[cut:]):
                writer.write(part)
                await guest.run("true")  # went the same way behind it: the part has come to siw, as a segment
        done = await there.poll(len(cuts))
        writer.close()
        return [completion.status for completion in done]


async def test_siw_fix_takes_a_trailer_in_two_segments(fixed: Guest) -> None:
    assert await split_trailers(fixed) == [Status.SUCCESS] * 4


async def test_stock_siw_does_not(guest: Guest) -> None:
    assert Status.FLUSHED in await split_trailers(guest)
